//go:build peers

package pushes

import (
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/seal"
)

type giteaHook struct {
	Active bool     `json:"active"`
	Type   string   `json:"type"`
	Events []string `json:"events"`
	Config struct {
		URL string `json:"url"`
	} `json:"config"`
}

// TestGiteaDeliversPushes: a real Gitea gets the hook, signs its deliveries with the secret, and loses the hook again.
func TestGiteaDeliversPushes(t *testing.T) {
	g := peers.NewGitea(t)
	g.Call(t, http.MethodPost, "/user/repos", map[string]any{"name": "app", "private": true, "auto_init": true, "default_branch": "main"}, nil)
	write := func(name string) {
		t.Helper()
		g.Call(t, http.MethodPost, "/repos/ada/app/contents/"+name, map[string]any{"message": name, "branch": "main",
			"content": base64.StdEncoding.EncodeToString([]byte("package a\n\n// " + name + "\n"))}, nil)
	}
	write("a.go")
	l := &lab{t: t}
	l.Stack = stack.New(t, func(c *config.Config) {
		c.GitHub, c.GitHubAPI, c.GitHubID, c.GitHubSecret = g.URL, g.URL+"/api/v1", "id", "secret"
	})
	l.psql = l.DB.Pool("postgres")
	stack.Eventually(t, "the server declares its address", func() bool {
		return stack.Count(t, l.psql, "select count(*) from private.installation where key = 'api_url'") == 1
	})
	l.DB.Exec("select private.declare_installation('api_url', to_jsonb($1::text))", l.BaseURL)
	worker.Start(t, l.Stack)
	l.anna = l.SignUp("Anna")
	connect := func(token string) {
		t.Helper()
		id := uuid.New()
		sealed, err := l.box().Seal(seal.ProviderToken(id.String()), []byte(`{"access": "`+token+`"}`))
		require.NoError(t, err)
		l.DB.Exec("insert into private.provider_tokens (id, provider, sealed_token) values ($1, 'github', $2)", id, sealed)
		l.DB.Exec(`insert into private.git_connections (user_id, provider, token_id, account_id, username) values ($1, 'github', $2, '1', 'ada')
			on conflict (user_id, provider) do update set token_id = excluded.token_id`, l.anna.ID, id)
	}
	connect(g.Token(t, "reads", "read:repository", "read:user"))
	l.project = l.anna.Do("POST", "/projects", map[string]any{"name": "Gitea"}).Want(201).String("project.id")
	l.repo = l.anna.Do("POST", "/projects/"+l.project+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "https://github.com/ada/app"}).Want(201).String("id")
	l.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", l.anna.OrgID)
	l.ingest()
	stack.Eventually(t, "the first run is done", func() bool { return l.runs("outcome = 'completed'") == 1 })
	hooks := func() (list []giteaHook) {
		g.Call(t, http.MethodGet, "/repos/ada/app/hooks", nil, &list)
		return list
	}

	l.watch(true)
	stack.Eventually(t, "a token that only reads installs no hook", func() bool { return l.state() == "polling" })
	require.Empty(t, hooks())
	connect(g.Token(t, "writes", "write:repository", "read:user"))
	stack.Eventually(t, "the hook is installed", func() bool { return l.state() == "installed" })
	require.Equal(t, []giteaHook{{Active: true, Type: "gitea", Events: []string{"push"}, Config: hooks()[0].Config}}, hooks())
	require.Equal(t, l.BaseURL+"/api/v1/webhooks/git/github/"+l.repo, hooks()[0].Config.URL)
	write("b.go")
	stack.Eventually(t, "the push is ingested", func() bool { return l.runs("outcome = 'completed' and private.run_scope(r) ? 'repositoryIds'") == 1 })
	require.Equal(t, 2, l.runs("true"))

	l.watch(false)
	stack.Eventually(t, "the hook is removed", func() bool { return len(hooks()) == 0 })
}
