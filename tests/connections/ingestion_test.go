package connections

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/gitfetch/gittest"
)

func notThere(w http.ResponseWriter, _ *http.Request) { answer(w, 503, map[string]any{}) }

// project makes a project with a repository.
func project(t testing.TB, p *client.Person, name, url string) string {
	t.Helper()
	id := p.Do("POST", "/projects", map[string]any{"name": name, "privacy": "shared"}).Want(201).String("project.id")
	p.Do("POST", "/projects/"+id+"/repositories", map[string]any{"provider": "github", "repositoryUrl": url}).Want(201)
	return id
}

// ended waits for the end of the newest run and gives its code, or "completed".
func ended(t testing.TB, p *client.Person, id string) client.Response {
	t.Helper()
	var r client.Response
	require.Eventually(t, func() bool {
		r = p.Get("/projects/" + id + "/progress").Want(200)
		return r.Value("errorCode") != nil || r.Value("completedAt") != nil
	}, time.Minute, 50*time.Millisecond)
	return r
}

func TestAPrivateRepositoryIsIngestedByItsConnection(t *testing.T) {
	t.Parallel()
	h, s, anna, ben, _ := start(t)
	worker.Start(t, s)
	h.Git.Create(t, "ada/secret", gittest.On("main", gittest.Texts(map[string]string{"a.go": "package a\n\nfunc A() {}\n"})))
	h.Git.Set("ada/secret", gittest.Mood{User: "x-access-token", Password: "not yet"})
	h.do(func() { h.private["ada/secret"], h.life = true, 2*time.Hour })
	id := project(t, anna, "Secret", "https://github.com/ada/secret")
	start := func(t testing.TB, p *client.Person, skip bool) client.Response {
		t.Helper()
		return p.Do("POST", "/projects/"+id+"/ingest", map[string]any{"forceReprocess": true, "skipValidation": skip})
	}
	// Without a connection the start is refused, and a run fails.
	refusal := start(t, anna, false).Problem(400, "VALIDATION_ERROR").Field("repositories[0].repositoryUrl")
	require.Contains(t, refusal.String("message"), "private")
	start(t, anna, true).Want(202)
	require.Equal(t, "REPO_NOT_FOUND", ended(t, anna, id).Value("errorCode"))

	h.connect(t, anna, "anna-hub")
	// The connection is Anna's: her colleague's run does not use it.
	start(t, ben, false).Problem(400, "VALIDATION_ERROR")
	start(t, ben, true).Want(202)
	require.Equal(t, "REPO_NOT_FOUND", ended(t, ben, id).Value("errorCode"))
	start(t, anna, false).Want(202)
	require.Nil(t, ended(t, anna, id).Value("errorCode"))
	anna.Get("/users/me/recent-repos").Want(200).Equal([]any{map[string]any{"repoUrl": "https://github.com/ada/secret", "repoName": "secret", "provider": "github",
		"usageCount": 1, "lastAnalyzed": ended(t, anna, id).String("completedAt")}})
	require.Len(t, client.JSON[[]any](anna.Get("/users/"+anna.ID+"/recent-repos").Want(200)), 1)
	require.Len(t, client.JSON[[]any](anna.Get("/users/current-user/recent-repos").Want(200)), 1)
	anna.Get("/users/"+ben.ID+"/recent-repos").Problem(403, "FORBIDDEN")
	anna.Get("/users/not-a-uuid/recent-repos").Problem(400, "VALIDATION_ERROR").Field("userId")
	ben.Get("/users/me/recent-repos").Want(200).Equal([]any{})

	// The worker renews an expired token.
	s.DB.Exec("update private.provider_tokens set expires_at = now()")
	start(t, anna, true).Want(202)
	require.Nil(t, ended(t, anna, id).Value("errorCode"))
	require.Equal(t, 2, testdb.Value[int](s.DB, "select version from private.provider_tokens"))

	// The provider ended the connection: the run fails with the code for that, without another attempt, and the connection shows it.
	h.do(func() { clear(h.access); clear(h.refresh) })
	h.Git.Set("ada/secret", gittest.Mood{User: "x-access-token", Password: "another account's"})
	start(t, anna, true).Want(202)
	failed := ended(t, anna, id)
	require.Equal(t, "AUTH_FAILED", failed.Value("errorCode"))
	require.Contains(t, failed.String("errorMessage"), "Connect the account again")
	require.Equal(t, false, client.JSON[[]map[string]any](anna.Get("/oauth/connections"))[0]["connected"])
	require.Equal(t, false, anna.Get("/projects/"+id+"/recovery").Want(200).Value("canRetry"))
	require.Contains(t, start(t, anna, false).Problem(400, "VALIDATION_ERROR").String("message"), "Connect the account again")
	// Public repositories stay accessible.
	h.Git.Create(t, "ada/open", gittest.On("main", gittest.Texts(map[string]string{"a.go": "package a\n"})))
	public := project(t, anna, "Open", "https://github.com/ada/open")
	anna.Do("POST", "/projects/"+public+"/ingest", map[string]any{}).Want(202)
	require.Nil(t, ended(t, anna, public).Value("errorCode"))

	for _, r := range h.Git.Requests() {
		require.False(t, strings.Contains(r.Path, "secret-access"))
	}
}

// A host that the operator added beside the provider's own never receives the token of a connection.
func TestATokenStaysWithItsHost(t *testing.T) {
	t.Parallel()
	other := gittest.New(t)
	other.Create(t, "ada/elsewhere", gittest.On("main", gittest.Texts(map[string]string{"a.go": "package a\n"})))
	h, _, anna, _, _ := start(t, func(c *cfg) { c.GitHosts = []string{"git.elsewhere.example=github@" + other.URL} })
	h.connect(t, anna, "anna-hub")
	anna.Get("/repositories/branches?url=https://git.elsewhere.example/ada/elsewhere").Want(200)
	anna.Do("POST", "/repositories/validate-full", map[string]any{"url": "https://git.elsewhere.example/ada/elsewhere"}).Want(200)
	require.NotEmpty(t, other.Requests())
	for _, r := range other.Requests() {
		require.Empty(t, r.Authorization, r.Path)
	}
}
