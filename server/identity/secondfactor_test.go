package identity

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/api"
	"kijko/tests/testdb"
)

func TestAPasswordIsHeldAgainstThePolicyOfItsOrganization(t *testing.T) {
	i, db := setup(t)
	var user, org string
	require.NoError(t, db.Connect("postgres").QueryRow(t.Context(), `with u as (insert into public.users (email) values ('anna@example.nl') returning id)
		select id::text, private.create_organization('Anna''s', id)::text from u`).Scan(&user, &org))
	hash := func(password string) string {
		text, err := i.hasher.Hash(t.Context(), password)
		require.NoError(t, err)
		return text
	}
	db.Exec("insert into private.credentials (user_id, password_hash, meets_policy) values ($1, $2, true)", user, hash("Present-1"))
	for _, former := range []string{"Former-1", "Former-2", "Present-1"} {
		db.Exec("update private.credentials set password_hash = $2, changed_at = changed_at + interval '1 s' where user_id = $1", user, hash(former))
	}
	policy := func(sql string) {
		db.Exec("update public.security_policies set "+sql+" where organization_id = $1", org)
	}
	refused := func(password, missing string) {
		t.Helper()
		_, err := i.CheckNewPassword(t.Context(), user, password)
		var p *api.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, "WEAK_PASSWORD", p.Code)
		require.JSONEq(t, missing, string(p.Details))
	}
	accepted := func(password string, meets bool) {
		t.Helper()
		got, err := i.CheckNewPassword(t.Context(), user, password)
		require.NoError(t, err)
		require.Equal(t, meets, got)
	}

	// A change under the default policy.
	refused("short", `{"missing": ["length", "uppercase", "number"]}`)
	refused("Present-1", `{"missing": ["reused"]}`)
	accepted("Former-1", true)
	policy("min_length = 12, require_symbol = true, require_uppercase = false, prevent_reuse = 3")
	accepted("Former-1", true)

	// A policy in force replaces it, stricter and laxer.
	db.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", org)
	refused("Elevenchar1", `{"missing": ["length", "symbol"]}`)
	accepted("twelve-chars-1", false)
	policy("min_length = 8")
	refused("Former-1", `{"missing": ["reused"]}`)
	refused("Former-2", `{"missing": ["reused"]}`)
	refused("Present-1", `{"missing": ["reused"]}`)
	policy("prevent_reuse = 2")
	accepted("Former-1", true)
	require.Equal(t, 3, testdb.Value[int](db, "select count(*) from private.password_history where user_id = $1", user))
}
