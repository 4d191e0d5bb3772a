package keys

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// Programs of Anna's organization are held to its allow-list as its people are; Ben is a member, Anna an admin of it by being its owner.
func TestAKeyIsHeldToTheAllowList(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	s.Join(anna, ben, "member")
	annas, bens := create(t, anna, "admin"), create(t, ben, "admin")
	from := func(key *client.Client, address string) client.Response {
		return key.With("X-Forwarded-For", address).With("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0").Get("/projects")
	}
	mode := func(body map[string]any) { anna.Do("PATCH", "/security/ip-whitelist", body).Want(200) }
	anna.Do("POST", "/security/ip-whitelist/entries", map[string]any{"name": "Office", "ipRange": "203.0.113.0/24"}).Want(201)
	noted := func() []string {
		var lines []string
		require.NoError(t, json.Unmarshal([]byte(testdb.Value[string](s.DB, `select coalesce(jsonb_agg(concat_ws(' ', e ->> 'authMethod', e ->> 'status', e ->> 'failureReason', 'with',
				e #>> '{deviceInfo,browser}', e #>> '{deviceInfo,os}', 'from', e ->> 'ipAddress') order by h.created_at), '[]')::text
			from private.login_history h, lateral (select private.login_entry_json(h) as e) j where h.reason is not null`)), &lines))
		return lines
	}

	from(bens, "198.51.100.1").Want(200)
	mode(map[string]any{"mode": "warn"})
	from(bens, "203.0.113.5").Want(200)
	from(annas, "198.51.100.1").Want(200)
	for range 3 {
		from(bens, "198.51.100.1").Want(200)
	}
	require.Eventually(t, func() bool { return len(noted()) == 1 }, waiting, tick, "the address is noted")
	from(bens, "198.51.100.1").Want(200)
	require.Equal(t, []string{"api_key success IP address not on the allow-list with Firefox Linux from 198.51.100.1"}, noted())
	require.Equal(t, "Firefox Linux 198.51.100.1 t", testdb.Value[string](s.DB, `select concat_ws(' ', a.metadata ->> 'browser', a.metadata ->> 'os', host(a.ip_address::inet),
			a.session_id = k.id) from public.audit_log a join public.api_keys k on k.user_id = a.user_id
		where a.user_id = $1 and a.organization_id = $2 and a.metadata ->> 'mode' = 'warn'`, ben.ID, anna.OrgID), "in the trail it stands under the key's id")

	mode(map[string]any{"mode": "enforce"})
	for _, address := range []string{"198.51.100.1", "198.51.100.2", "2001:db8::1"} {
		from(bens, address).Problem(403, "IP_NOT_ALLOWED")
	}
	from(bens, "203.0.113.5").Want(200)
	bens.With("X-Forwarded-For", "198.51.100.1").Do("POST", "/projects", map[string]any{"name": "Not made"}).Problem(403, "IP_NOT_ALLOWED")
	bens.With("X-Forwarded-For", "198.51.100.1").Get("/realtime/events").Problem(403, "IP_NOT_ALLOWED")
	from(annas, "198.51.100.1").Want(200)
	s.DB.Exec("update public.security_policies set ip_admin_bypass = false where organization_id = $1", anna.OrgID)
	from(annas, "198.51.100.1").Problem(403, "IP_NOT_ALLOWED")

	// What is dead is told to be dead, from wherever it is used.
	s.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
	for _, address := range []string{"198.51.100.1", "203.0.113.5"} {
		from(bens, address).Problem(403, "MEMBERSHIP_INACTIVE")
	}
	from(s.As("kijko_live_"+strings.Repeat("0", 48)), "198.51.100.1").Problem(401, "API_KEY_INVALID")

	// Without the plan the list is only kept.
	s.DB.Exec("update public.memberships set status = 'active' where user_id = $1", ben.ID)
	s.DB.Exec("update public.subscriptions set plan_id = 'teams' where organization_id = $1", anna.OrgID)
	from(bens, "198.51.100.1").Want(200)
}
