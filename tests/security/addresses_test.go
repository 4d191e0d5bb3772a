package security

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func TestTheAllowListIsKeptByAdmins(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben, stan := s.SignUp("Anna"), s.SignUp("Ben"), s.SignUp("Stan")
	anna.Get("/security/ip-whitelist").Want(200).Equal(object{"teamId": anna.OrgID, "mode": "disabled", "adminBypassEnabled": true, "entries": []any{}, "groups": []any{}})
	const entries = "/security/ip-whitelist/entries"
	for _, call := range []struct{ method, path string }{{"PATCH", "/security/ip-whitelist"}, {"POST", entries}, {"PATCH", entries + "/" + uuid.NewString()}, {"DELETE", entries + "/" + uuid.NewString()}} {
		anna.Do(call.method, call.path, map[bool]any{true: object{"name": "x"}, false: object{}}[call.method == "POST"]).Problem(403, "PLAN_UPGRADE_REQUIRED")
	}
	enterprise(s, anna)
	enterprise(s, stan)
	join(s, ben, anna, "member")
	ben.Get("/security/ip-whitelist").Problem(403, "FORBIDDEN")
	ben.Do("POST", entries, object{"name": "Mine", "ipAddress": "192.0.2.1"}).Problem(403, "FORBIDDEN")
	ben.Do("PATCH", "/security/ip-whitelist", object{"mode": "warn"}).Problem(403, "FORBIDDEN")

	one := anna.Do("POST", entries, object{"name": " Office ", "ipAddress": "192.0.2.1"}).Want(201)
	require.Equal(t, "Office", one.String("name"))
	require.Equal(t, "192.0.2.1", one.String("ipAddress"))
	require.Equal(t, anna.Email, one.String("createdBy"))
	require.Equal(t, true, one.Value("isActive"))
	require.Nil(t, one.Value("ipRange"))
	for given, shown := range map[string]string{"2001:DB8::1": "2001:db8::1", "::ffff:192.0.2.9": "192.0.2.9"} {
		require.Equal(t, shown, anna.Do("POST", entries, object{"name": "x", "ipAddress": given}).Want(201).String("ipAddress"))
	}
	for _, given := range []string{"10.0.0.0/8", "2001:db8:1::/48", "0.0.0.0/0", "198.51.100.1/32"} {
		require.Equal(t, given, anna.Do("POST", entries, object{"name": "x", "ipRange": given, "isActive": false}).Want(201).String("ipRange"))
	}
	require.Len(t, anna.Get("/security/ip-whitelist").Value("entries"), 7)
	for _, again := range []object{{"ipAddress": "192.0.2.1"}, {"ipRange": "192.0.2.1/32"}, {"ipAddress": "2001:0db8:0::1"}, {"ipRange": "10.0.0.0/8"}} {
		again["name"] = "Again"
		anna.Do("POST", entries, again).Problem(409, "IP_ENTRY_EXISTS")
	}
	for field, bad := range map[string][]object{
		"ipAddress": {{}, {"ipAddress": ""}, {"ipAddress": "192.0.2"}, {"ipAddress": "192.0.2.256"}, {"ipAddress": "192.0.2.0/24"}, {"ipAddress": "fe80::1%eth0"},
			{"ipAddress": "example.nl"}, {"ipAddress": "192.0.2.1", "ipRange": "10.0.0.0/8"}, {"ipAddress": 1}},
		"ipRange": {{"ipRange": "192.0.2.1"}, {"ipRange": "192.0.2.1/24"}, {"ipRange": "192.0.2.0/33"}, {"ipRange": "2001:db8::1/64"}, {"ipRange": "x/8"}},
		"name":    {{"name": "", "ipAddress": "192.0.2.77"}, {"name": "  ", "ipAddress": "192.0.2.77"}, {"name": fmt.Sprintf("%0101d", 1), "ipAddress": "192.0.2.77"}},
	} {
		for _, body := range bad {
			if body["name"] == nil {
				body["name"] = "Bad"
			}
			anna.Do("POST", entries, body).Problem(400, "VALIDATION_ERROR").Field(field)
		}
	}
	anna.Do("PATCH", "/security/ip-whitelist", object{"mode": "off"}).Problem(400, "VALIDATION_ERROR").Field("mode")

	path := entries + "/" + one.String("id")
	moved := anna.Do("PUT", path, object{"ipRange": "192.0.2.0/24"}).Want(200)
	require.Nil(t, moved.Value("ipAddress"), "the other kind clears the first")
	require.Equal(t, "192.0.2.0/24", moved.String("ipRange"))
	require.Equal(t, "Office", moved.String("name"))
	anna.Do("PATCH", path, object{"ipAddress": "2001:db8::1"}).Problem(409, "IP_ENTRY_EXISTS")
	anna.Do("PATCH", path, object{"name": "Office 2", "isActive": false}).Want(200)
	for _, id := range []string{uuid.NewString(), "x"} {
		anna.Do("PATCH", entries+"/"+id, object{"name": "x"}).Problem(404, "NOT_FOUND")
		anna.Do("DELETE", entries+"/"+id, nil).Problem(404, "NOT_FOUND")
	}
	stan.Do("PATCH", path, object{"name": "Stan's"}).Problem(404, "NOT_FOUND")
	stan.Do("DELETE", path, nil).Problem(404, "NOT_FOUND")
	anna.Do("DELETE", path, nil).Want(204)
	require.Equal(t, 10, audited(s, anna, "security.ip_whitelist_updated"))

	s.DB.Exec(`insert into public.ip_allow_list_entries (organization_id, name, network, is_range) select $1, 'x', ('172.16.' || n / 256 || '.' || n % 256)::inet, false
		from generate_series(1, 494) n`, anna.OrgID)
	anna.Do("POST", entries, object{"name": "One more", "ipAddress": "192.0.2.77"}).Problem(409, "TOO_MANY_IP_ENTRIES")
}

func TestAListThatWarnsLetsInAndTellsOnce(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	enterprise(s, anna)
	join(s, ben, anna, "member")
	anna.Do("POST", "/security/ip-whitelist/entries", object{"name": "Office", "ipRange": "203.0.113.0/24"}).Want(201)
	anna.Do("PATCH", "/security/ip-whitelist", object{"mode": "warn"}).Want(200)
	before := len(history(s, ben))
	noted := func() int { return testdb.Value[int](s.DB, "select count(*) from private.ip_warnings") }
	from := func(p *client.Person, address string) {
		p.With("X-Forwarded-For", address).Get("/projects").Want(200)
	}
	from(ben, "203.0.113.5")
	from(anna, "198.51.100.1") // the bypass is on
	for range 3 {
		from(ben, "198.51.100.1")
	}
	from(ben, "::ffff:198.51.100.1")
	require.Eventually(t, func() bool { return noted() == 1 }, waited, tick)
	from(ben, "198.51.100.2")
	require.Eventually(t, func() bool { return noted() == 2 }, waited, tick)
	s.Close()
	require.Equal(t, 2, noted())
	require.Equal(t, []string{"password success IP address not on the allow-list", "password success IP address not on the allow-list"}, history(s, ben)[before:])
	require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from public.audit_log where user_id = $1 and metadata ->> 'mode' = 'warn'", ben.ID))
	require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from public.notifications where user_id = $1 and title = 'Access from an unlisted address'", ben.ID))
}
