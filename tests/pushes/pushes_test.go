// Package pushes tests what deliveries of Git providers do, over HTTP and with a worker. The provider's API is a double of GitHub's documented
// shapes in front of real Git repositories; gitea_test.go has a real Gitea.
package pushes

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/gitfetch/gittest"
	"kijko/worker/seal"
)

// lab is a server, a Git host with hooks, and Anna's project with one repository of it.
type lab struct {
	*stack.Stack
	t       *testing.T
	psql    *pgxpool.Pool
	git     *gittest.Server
	host    *httptest.Server
	anna    *client.Person
	project string
	repo    string

	mu sync.Mutex
	// hooks are the installed ones, by id. refuse is the status of every request about hooks; 0: they are served.
	hooks  map[int]map[string]any
	made   int
	refuse int
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	t.Helper()
	l := &lab{t: t, git: gittest.New(t), hooks: map[int]map[string]any{}}
	behind, err := url.Parse(l.git.URL)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(behind)
	l.host = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v3/") {
			l.serveHooks(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(l.host.Close)
	l.git.Create(t, "ada/app", gittest.On("main", gittest.Texts(map[string]string{"a.go": "package a\n"})))
	l.Stack = stack.New(t, append(options, func(c *config.Config) {
		c.GitHub, c.GitHubID, c.GitHubSecret, c.GitAllowPrivate = l.host.URL, "id", "secret", true
		c.APIURL = "http://api.kijko.test"
	})...)
	l.psql = l.DB.Pool("postgres")
	l.anna = l.SignUp("Anna")
	l.project = l.anna.Do("POST", "/projects", map[string]any{"name": "Pushed"}).Want(201).String("project.id")
	l.repo = l.anna.Do("POST", "/projects/"+l.project+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "https://github.com/ada/app"}).Want(201).String("id")
	l.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", l.anna.OrgID)
	return l
}

// serveHooks is GitHub's API of webhooks.
func (l *lab) serveHooks(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	id := 0
	_, _ = fmt.Sscanf(r.URL.Path, "/api/v3/repos/ada/app/hooks/%d", &id)
	switch {
	case l.refuse > 0:
		w.WriteHeader(l.refuse)
	case r.Header.Get("Authorization") != "Bearer anna's token":
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodGet:
		list := []map[string]any{}
		for id, hook := range l.hooks {
			list = append(list, map[string]any{"id": id, "config": hook["config"]})
		}
		_ = json.NewEncoder(w).Encode(list)
	case r.Method == http.MethodDelete:
		delete(l.hooks, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		hook := map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&hook)
		l.made++
		l.hooks[l.made] = hook
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("{}"))
	}
}

// installed are the addresses and secrets of the hooks.
func (l *lab) installed() (hooks [][2]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, hook := range l.hooks {
		c := hook["config"].(map[string]any)
		hooks = append(hooks, [2]string{c["url"].(string), c["secret"].(string)})
	}
	return hooks
}

func (l *lab) refuses(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = status
}

func (l *lab) box() *seal.Box {
	l.t.Helper()
	key, err := base64.StdEncoding.DecodeString(l.Config.EncryptionKey)
	require.NoError(l.t, err)
	box, err := seal.New(key)
	require.NoError(l.t, err)
	return box
}

// connect gives Anna a connection, as a consent would.
func (l *lab) connect() {
	l.t.Helper()
	id := uuid.New()
	sealed, err := l.box().Seal(seal.ProviderToken(id.String()), []byte(`{"access": "anna's token"}`))
	require.NoError(l.t, err)
	l.DB.Exec("insert into private.provider_tokens (id, provider, sealed_token) values ($1, 'github', $2)", id, sealed)
	l.DB.Exec("insert into private.git_connections (user_id, provider, token_id, account_id, username) values ($1, 'github', $2, '1', 'anna')", l.anna.ID, id)
}

func (l *lab) watch(on bool) {
	l.t.Helper()
	l.anna.Do("PATCH", "/projects/"+l.project+"/settings", map[string]any{"processingOptions": map[string]any{"realTimeIncremental": on}}).Want(200)
}

// plant installs a hook without a worker, and gives its secret.
func (l *lab) plant() string {
	l.t.Helper()
	l.watch(true)
	secret, sealed, err := l.box().NewSecret(seal.PushHook(l.repo), 32)
	require.NoError(l.t, err)
	l.DB.Exec("update private.push_hooks set state = 'installed', sealed_secret = $1 where repository_id = $2", sealed, l.repo)
	return secret
}

func (l *lab) ingest() {
	l.anna.Do("POST", "/projects/"+l.project+"/ingest", map[string]any{"forceReprocess": true}).Want(202)
}

func (l *lab) runs(where string) int {
	l.t.Helper()
	return stack.Count(l.t, l.psql, "select count(*) from public.ingestion_runs r where project_id = $1 and "+where, l.project)
}

func (l *lab) state() string {
	l.t.Helper()
	return testdb.Value[string](l.DB, "select coalesce((select state from private.push_hooks where repository_id = $1), 'none')", l.repo)
}

func body(branch, commit string) string {
	return fmt.Sprintf(`{"ref": "refs/heads/%s", "after": "%s", "repository": {"full_name": "ada/app"}}`, branch, commit)
}

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// deliver sends a push as GitHub does.
func (l *lab) deliver(repo, secret, delivery, body string) (client.Response, error) {
	return l.With("X-GitHub-Event", "push").With("X-GitHub-Delivery", delivery).With("X-Hub-Signature-256", sign(secret, body)).
		Try("POST", "/webhooks/git/github/"+repo, body)
}

func (l *lab) push(secret, delivery, body string) client.Response {
	l.t.Helper()
	r, err := l.deliver(l.repo, secret, delivery, body)
	require.NoError(l.t, err)
	return r
}

func TestFortyPushesDuringARunAreFollowedByOne(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	secret := l.plant()
	l.ingest()
	for _, r := range client.AtOnce(t, 40, func(i int) (client.Response, error) {
		return l.deliver(l.repo, secret, fmt.Sprint("delivery ", i), body("main", fmt.Sprintf("%040x", i+1)))
	}) {
		r.Want(202)
		require.Empty(t, r.Body)
	}
	require.Equal(t, 1, l.runs("true"), "the run is open")
	worker.Start(t, l.Stack)
	stack.Eventually(t, "both runs are done", func() bool { return l.runs("outcome = 'completed'") == 2 })
	require.Equal(t, 2, l.runs("true"))
	require.Equal(t, 1, l.runs("private.run_scope(r) ? 'repositoryIds'"))
	require.Equal(t, 2, stack.Count(t, l.psql, "select coalesce(sum(used), 0) from public.usage_counters where organization_id = $1 and metric = 'ingestions'", l.anna.OrgID))

	// A push after the run starts one at once; the same delivery again, the commit that is there, and another branch start none.
	head := l.git.Head(t, "ada/app", "main")
	l.push(secret, "delivery 1", body("main", strings.Repeat("a", 40))).Want(202)
	l.push(secret, "other", body("main", head)).Want(202)
	l.push(secret, "branch", body("topic", strings.Repeat("a", 40))).Want(202)
	l.push(secret, "gone", body("main", strings.Repeat("0", 40))).Want(202)
	l.push(secret, "broken", `{"ref": 1`).Want(202)
	require.Equal(t, 2, l.runs("true"))
	l.git.Push(t, "ada/app", gittest.On("main", gittest.Texts(map[string]string{"b.go": "package a\n"})))
	pushed := l.git.Head(t, "ada/app", "main")
	for _, r := range client.AtOnce(t, 8, func(int) (client.Response, error) { return l.deliver(l.repo, secret, "once", body("main", pushed)) }) {
		r.Want(202)
	}
	stack.Eventually(t, "the push is in the index", func() bool {
		return stack.Count(t, l.psql, "select count(*) from public.project_repositories where id = $1 and last_commit_hash = $2", l.repo, pushed) == 1
	})
	require.Equal(t, 3, l.runs("true"))
}

func TestOnlyTheSecretOfTheRepositoryIsTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	secret := l.plant()
	other := l.anna.Do("POST", "/projects/"+l.project+"/repositories", map[string]any{"provider": "github", "repositoryUrl": "https://github.com/ada/other"}).Want(201).String("id")
	good := body("main", strings.Repeat("a", 40))
	refused := func(t *testing.T, r client.Response, err error) string {
		t.Helper()
		require.NoError(t, err)
		r.Problem(401, "INVALID_SIGNATURE")
		var p map[string]any
		r.Into(&p)
		delete(p, "requestId")
		return fmt.Sprint(p)
	}
	answers := map[string]bool{}
	for name, c := range map[string]struct{ repo, secret, provider string }{
		"TheSecretOfAnother":      {l.repo, "whsec_" + strings.Repeat("0", 64), "github"},
		"NoSecret":                {l.repo, "", "github"},
		"ARepositoryWithoutAHook": {other, secret, "github"},
		"AnUnknownRepository":     {uuid.NewString(), secret, "github"},
		"NoID":                    {"not-a-uuid", secret, "github"},
		"AnotherProvider":         {l.repo, secret, "bitbucket"},
		"AnUnknownProvider":       {l.repo, secret, "sourceforge"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := l.In(t).With("X-GitHub-Event", "push").With("X-Hub-Signature-256", sign(c.secret, good)).With("X-Hub-Signature", sign(c.secret, good)).
				Try("POST", "/webhooks/git/"+c.provider+"/"+c.repo, good)
			answers[refused(t, r, err)] = true
		})
	}
	require.Len(t, answers, 1, "the answers are the same")
	l.With("X-GitHub-Event", "push").Do("POST", "/webhooks/git/github/"+l.repo, good).Problem(401, "INVALID_SIGNATURE")
	l.anna.Do("POST", "/webhooks/git/github/"+l.repo, good).Problem(401, "INVALID_SIGNATURE")
	r, err := l.deliver(l.repo, secret, "", good+strings.Repeat(" ", 6<<20))
	require.NoError(t, err)
	r.Problem(413, "PAYLOAD_TOO_LARGE")
	// The raw bytes are signed, whatever they are.
	l.push(secret, "", "\xff\x00 no text").Want(202)
	// A sender with many failures keeps no genuine delivery out.
	for range 100 {
		r, err := l.deliver(l.repo, "wrong", "", good)
		require.NoError(t, err)
		r.Problem(401, "INVALID_SIGNATURE")
	}
	l.git.Create(t, "ada/other", gittest.On("main", gittest.Texts(map[string]string{"a.go": "package a\n"})))
	l.ingest()
	l.push(secret, "d", good).Want(202)
	require.Equal(t, 1, stack.Count(t, l.psql, "select count(*) from private.push_hooks where wanted_at is not null"))
	// The secret is stored nowhere in plain text.
	for _, table := range []string{"private.push_hooks", "jobs.stored_jobs", "public.audit_log", "private.event_inbox", "public.events", "public.project_settings"} {
		require.Zero(t, testdb.Value[int](l.DB, "select count(*) from "+table+" x where x::text like '%' || $1 || '%'", secret[6:]), table)
	}
}

func TestTheHookFollowsTheSetting(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.connect()
	l.ingest()
	stack.Eventually(t, "the first run is done", func() bool { return l.runs("outcome = 'completed'") == 1 })
	l.watch(true)
	stack.Eventually(t, "the hook is installed", func() bool { return l.state() == "installed" })
	hooks := l.installed()
	require.Len(t, hooks, 1)
	require.Equal(t, "http://api.kijko.test/api/v1/webhooks/git/github/"+l.repo, hooks[0][0])
	// What the provider signs with the secret that it got is genuine.
	l.git.Push(t, "ada/app", gittest.On("main", gittest.Texts(map[string]string{"b.go": "package a\n"})))
	l.push(hooks[0][1], "d", body("main", l.git.Head(t, "ada/app", "main"))).Want(202)
	stack.Eventually(t, "the push is ingested", func() bool { return l.runs("outcome = 'completed'") == 2 })

	l.watch(false)
	stack.Eventually(t, "the hook is removed", func() bool { return len(l.installed()) == 0 })
	l.push(hooks[0][1], "e", body("main", strings.Repeat("a", 40))).Problem(401, "INVALID_SIGNATURE")
	// Again on: another secret. The end of the connection removes the hook, and the branch is polled.
	l.watch(true)
	stack.Eventually(t, "the hook is installed again", func() bool { return l.state() == "installed" })
	again := l.installed()
	require.NotEqual(t, hooks[0][1], again[0][1])
	l.anna.Do("DELETE", "/oauth/disconnect/github", nil).Want(200)
	stack.Eventually(t, "the hook is removed with the connection", func() bool { return len(l.installed()) == 0 })
	require.Equal(t, "polling", l.state())
	l.connect()
	stack.Eventually(t, "a new connection installs it", func() bool { return l.state() == "installed" })
	l.anna.Do("DELETE", "/projects/"+l.project+"/repositories/"+l.repo, nil).Want(200)
	stack.Eventually(t, "the hook goes with its repository", func() bool { return len(l.installed()) == 0 })
}

func TestWhereNoHookCanBeInstalledTheBranchIsPolled(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(l *lab){
		"WithoutAConnection":       func(*lab) {},
		"WhereTheAccountMayNot":    func(l *lab) { l.connect(); l.refuses(403) },
		"WhereTheAddressIsRefused": func(l *lab) { l.connect(); l.refuses(422) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			worker.Start(t, l.Stack)
			l.ingest()
			stack.Eventually(t, "the first run is done", func() bool { return l.runs("outcome = 'completed'") == 1 })
			prepare(l)
			l.watch(true)
			stack.Eventually(t, "the branch is polled", func() bool { return l.state() == "polling" })
			look := func() {
				l.DB.Exec("update private.push_hooks set poll_at = now() where repository_id = $1", l.repo)
				l.DB.Exec("update private.schedules set run_at = now() where name = 'pushes.due'")
			}
			look()
			stack.Eventually(t, "the head is known", func() bool {
				return stack.Count(t, l.psql, "select count(*) from private.push_hooks where last_head = $1", l.git.Head(t, "ada/app", "main")) == 1
			})
			require.Equal(t, 1, l.runs("true"), "it has not moved")
			l.git.Push(t, "ada/app", gittest.On("main", gittest.Texts(map[string]string{"b.go": "package a\n"})))
			look()
			stack.Eventually(t, "the new head is ingested", func() bool { return l.runs("outcome = 'completed'") == 2 })
		})
	}
}

// TestARememberedPushSurvivesAKilledWorker: kill -9 of the real program during the run that the pushes wait for. Another worker finishes it,
// and one run follows.
func TestARememberedPushSurvivesAKilledWorker(t *testing.T) {
	l := newLab(t)
	files := gittest.Files{}
	for i := range 400 {
		files[fmt.Sprintf("f%03d.go", i)] = gittest.Text(fmt.Sprintf("package a\n\nfunc F%d() int { return %d }\n", i, i))
	}
	l.git.Push(t, "ada/app", gittest.On("main", files))
	secret := l.plant()
	l.ingest()
	path := worker.Program(t)
	start := func() *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), path)
		cmd.Env = append(os.Environ(), "KIJKO_DEBUG=true", "DEBUG=true", "DATABASE_WORKER_URL="+l.DB.DSN("kijko_worker"), "KIJKO_DATA_DIR="+l.Config.DataDir,
			"KIJKO_GIT_GITHUB_URL="+l.host.URL, "KIJKO_GIT_ALLOW_PRIVATE=true", "ENCRYPTION_KEY="+l.Config.EncryptionKey, "KIJKO_LOG_LEVEL=warn")
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
		return cmd
	}
	cmd := start()
	stack.Eventually(t, "the run is taken", func() bool { return l.runs("lease_owner is not null") == 1 })
	for i := range 5 {
		l.push(secret, fmt.Sprint(i), body("main", fmt.Sprintf("%040x", i+1))).Want(202)
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Equal(t, 1, l.runs("outcome = 'open'"))
	start()
	stack.Eventually(t, "both runs are done", func() bool { return l.runs("outcome = 'completed'") == 2 })
	require.Equal(t, 1, l.runs("private.run_scope(r) ? 'repositoryIds'"))
	// Nothing more is waiting.
	require.Zero(t, stack.Count(t, l.psql, "select count(*) from private.push_hooks where wanted_at is not null"))
	require.Equal(t, 2, l.runs("true"))
}
