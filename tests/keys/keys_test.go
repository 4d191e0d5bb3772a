package keys

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// create makes a key of p and gives a client that uses it.
func create(t testing.TB, p *client.Person, scopes ...string) *client.Client {
	t.Helper()
	made := p.Do("POST", "/security/api-keys", map[string]any{"name": "Key of " + strings.Join(scopes, ", "), "expiration": "never", "scopes": scopes}).Want(201)
	return p.As(made.String("key")).In(t)
}

// counted waits until a key's uses have been written.
func counted(t testing.TB, s *stack.Stack, key *client.Client, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select usage_count::int from public.api_keys where key_hash = sha256($1::text::bytea)", key.Token) == want
	}, waiting, tick)
}

func TestAKeyActsAsItsOwner(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	made := anna.Do("POST", "/security/api-keys", map[string]any{"name": "  Deploy  ", "expiration": "never", "scopes": []string{"write", "read", "write"}}).Want(201)
	require.Equal(t, "Deploy", made.String("name"))
	require.Equal(t, []any{"read", "write"}, made.Value("scopes"))
	key := made.String("key")
	require.Regexp(t, `^kijko_live_[0-9a-f]{48}$`, key)
	require.Equal(t, key[:20], made.String("keyPrefix"))
	program := s.As(key).In(t)

	require.Equal(t, anna.ID, program.Get("/auth/me").Want(200).String("id"))
	require.Equal(t, anna.OrgID, program.Get("/auth/me").Want(200).String("org_id"))
	project := program.Do("POST", "/projects", map[string]any{"name": "By a program"}).Want(201).String("project.id")
	require.Equal(t, anna.ID, program.Get("/projects/"+project).Want(200).String("userId"))
	program.Do("DELETE", "/projects/"+project, nil).Problem(403, "INSUFFICIENT_SCOPE")
	counted(t, s, program, 5)
}
