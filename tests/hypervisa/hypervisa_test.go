package hypervisa

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// The tab sends the cookie and no token. What upstream gets of it are a body and six headers.
func TestATabWorksWithItsCookie(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.Origins = []string{"https://app.example.nl"} })
	cookie := l.Do("POST", "/auth/login", map[string]any{"email": l.anna.Email, "password": l.anna.Password}).Want(200).Cookie("kijko_session")
	require.Equal(t, "/api", cookie.Path)
	tab := l.With("Cookie", "theme=dark; kijko_session="+cookie.Value).With("Origin", "https://app.example.nl").With("X-Forwarded-User", "stan").With("X-Kijko-User", "stan").With("X-Request-ID", "tab-1")

	made := tab.Do("POST", "/hypervisa/sessions/ingest-repo", map[string]any{"repo_url": "https://github.com/acme/shop.git", "name": " Shop ", "branch": "main", "else": 1}).Want(200)
	session := map[string]any{"id": "session 1?x", "name": "Shop", "source_type": "repo", "source_path": "https://github.com/acme/shop", "mode": "swarm", "model": "gemini", "total_tokens": 1200,
		"status": "active", "created_at": "2026-11-30T12:00:00", "segments": []any{map[string]any{"id": 1, "name": "All", "description": "Everything", "token_count": 1200}}}
	made.Equal(session)
	requests := l.up.got()
	require.Len(t, requests, 1)
	require.Equal(t, "POST /api/hypervisa/sessions/ingest-repo", requests[0].method+" "+requests[0].path)
	require.JSONEq(t, `{"repo_url": "https://github.com/acme/shop", "name": "Shop", "branch": "main"}`, requests[0].body)
	header := requests[0].header
	require.Equal(t, "tab-1", header.Get("X-Request-Id"))
	require.Equal(t, []string{l.anna.ID}, header.Values("X-Kijko-User"))
	require.Equal(t, []string{l.anna.OrgID}, header.Values("X-Kijko-Org"))
	for name := range header {
		require.Contains(t, []string{"Accept", "Content-Length", "Content-Type", "User-Agent", "X-Kijko-Org", "X-Kijko-User", "X-Request-Id"}, name)
	}

	list := tab.Get("/hypervisa/sessions").Want(200)
	list.Equal([]any{session})
	asked := tab.Do("POST", "/hypervisa/sessions/session%201%3Fx/query", map[string]any{"prompt": "  What is it about?  "}).Want(200)
	asked.Equal(map[string]any{"session_id": "session 1?x", "prompt": "What is it about?", "response": "It is about a shop."})
	l.up.got()
	// Its DELETE has neither a body nor a content type.
	request, err := http.NewRequest("DELETE", l.BaseURL+"/api/hypervisa/sessions/session%201%3Fx", nil)
	require.NoError(t, err)
	request.Header.Set("Cookie", "kijko_session="+cookie.Value)
	request.Header.Set("Origin", "https://app.example.nl")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, 204, answer.StatusCode)
	requests = l.up.got()
	require.Equal(t, "DELETE /api/hypervisa/sessions/session%201%3Fx", requests[0].method+" "+requests[0].path)
	require.Empty(t, requests[0].header.Get("Content-Type"))
	tab.Get("/hypervisa/sessions").Want(200).Equal([]any{})
	require.Equal(t, 0, testdb.Value[int](l.DB, "select count(*)::int from public.hypervisa_sessions"))
	require.Equal(t, []int{1, 1}, []int{l.used("ingestions"), l.used("oracle_queries")})

	l.up.got()
	for _, c := range []*client.Client{tab.With("Origin", "https://evil.example"), tab.With("Origin", "null"), tab.With("Origin", l.BaseURL), tab.With("Origin", "https://app.example.nl.evil.example")} {
		failed(t, c.Do("POST", "/hypervisa/sessions/ingest-repo", repository), 403, "ORIGIN_NOT_ALLOWED", "origin")
		failed(t, c.Do("DELETE", "/hypervisa/sessions/x", nil), 403, "ORIGIN_NOT_ALLOWED", "origin")
	}
	failed(t, l.With("Cookie", "kijko_session="+cookie.Value).Do("POST", "/hypervisa/sessions/x/query", map[string]any{"prompt": "x"}), 403, "ORIGIN_NOT_ALLOWED", "origin")
	failed(t, l.Do("POST", "/hypervisa/sessions/ingest-repo", repository), 401, "UNAUTHENTICATED", "sign in")
	failed(t, tab.With("Authorization", "Bearer nonsense").Get("/hypervisa/sessions"), 401, "UNAUTHENTICATED", "")
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json-patch+json", "application/jsonp"} {
		failed(t, tab.With("Content-Type", kind).Do("POST", "/hypervisa/sessions/ingest-repo", repository), 415, "UNSUPPORTED_MEDIA_TYPE", "application/json")
	}
	failed(t, tab.Do("POST", "/hypervisa/sessions/watch", `{"urls": [`), 400, "VALIDATION_ERROR", "")
	failed(t, tab.Do("POST", "/hypervisa/sessions/watch", map[string]any{"urls": []string{"https://youtu.be/" + strings.Repeat("x", 1<<20)}}), 413, "PAYLOAD_TOO_LARGE", "")
	tab.Do("POST", "/auth/logout", nil)
	l.As(l.anna.Token).Do("POST", "/auth/logout", nil).Want(204)
	l.DB.Exec("update private.sessions set revoked_at = now(), revoked_reason = 'revoked' where user_id = $1", l.anna.ID)
	failed(t, tab.Get("/hypervisa/sessions"), 401, "SESSION_REVOKED", "")
	require.Empty(t, l.up.got())
}

func TestASessionIsItsOwners(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	annas, path := l.create(l.anna.Client)
	bens, _ := l.create(l.ben.Client)
	l.up.mu.Lock()
	l.up.sessions = append(l.up.sessions, map[string]any{"id": "of another installation", "segments": nil}, map[string]any{"id": 7}, map[string]any{})
	l.up.mu.Unlock()
	ids := func(c *client.Client) (ids []string) {
		for _, s := range client.JSON[[]struct{ ID string }](c.Get("/hypervisa/sessions").Want(200)) {
			ids = append(ids, s.ID)
		}
		return ids
	}
	require.Equal(t, []string{annas}, ids(l.anna.Client))
	require.Equal(t, []string{bens}, ids(l.ben.Client))
	require.Empty(t, ids(l.stan.Client))

	// Of the other's sessions, and of those without an owner, not even their existence can be learned. Upstream is not asked.
	l.up.got()
	for _, id := range []string{path, "/hypervisa/sessions/of%20another%20installation", "/hypervisa/sessions/unknown"} {
		for _, c := range []*client.Client{l.ben.Client, l.stan.Client} {
			failed(t, c.Do("POST", id+"/query", map[string]any{"prompt": "What?"}), 404, "SESSION_NOT_FOUND", "There is no such session.")
			failed(t, c.Do("DELETE", id, nil), 404, "SESSION_NOT_FOUND", "There is no such session.")
		}
	}
	require.Empty(t, l.up.got())

	// The person's other organization has sessions of its own.
	elsewhere := l.ben.As(l.ben.Do("POST", "/auth/switch-org", map[string]any{"org_id": l.ben.OrgID}).Want(200).Tokens().AccessToken)
	require.Empty(t, ids(elsewhere))

	// Upstream has restarted and numbers its sessions again. The owner of the old number sees no other caller's content.
	l.up.mu.Lock()
	l.up.sessions = nil
	l.up.mu.Unlock()
	failed(t, l.stan.Do("POST", "/hypervisa/sessions/ingest-repo", repository), 502, "API_ERROR", "an id that is in use")
	require.Empty(t, ids(l.anna.Client))
	require.Empty(t, ids(l.stan.Client))
	failed(t, l.anna.Do("POST", path+"/query", map[string]any{"prompt": "What?"}), 404, "SESSION_NOT_FOUND", "")
	require.Equal(t, 0, testdb.Value[int](l.DB, "select coalesce(sum(used), 0)::int from public.usage_counters where organization_id = $1 and metric = 'ingestions'", l.stan.OrgID))
}

func TestItIsNoOpenProxy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, path := l.create(l.anna.Client)
	l.up.got()
	in := l.anna.Client
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "//api/hypervisa/", 404}, {"GET", "//api/hypervisa", 404}, {"GET", "//api/hypervisa/admin", 404}, {"GET", "//api/v1/hypervisa/sessions/a/b/c", 404},
		{"GET", "//api/hypervisa/../../etc/passwd", 404}, {"GET", "//api/hypervisa/%2e%2e/admin", 404}, {"GET", "//api/hypervisa/sessions%2f..%2fadmin", 404},
		{"GET", "//hypervisa/sessions", 404}, {"POST", "//api/hypervisa/sessions/upload", 405}, {"PUT", "//api/hypervisa/sessions", 405}, {"PATCH", "//api/hypervisa/sessions/x", 405},
		{"GET", "//api/hypervisa/sessions/x", 405}, {"GET", "//api/hypervisa/sessions/x/query", 405}, {"POST", "//api/hypervisa/sessions", 405}, {"TRACE", "//api/hypervisa/sessions", 405},
		{"DELETE", "//api/hypervisa/sessions/..", 404}, {"DELETE", "//api/hypervisa/sessions/%2e%2e", 404}, {"DELETE", "//api/hypervisa/sessions/%2e%2e%2fadmin", 404}, {"DELETE", "//api/hypervisa/sessions/a%2fb", 404},
		{"DELETE", "//api/hypervisa/sessions/%00", 404}, {"DELETE", "//api/hypervisa/sessions/x%0d%0aHost:%20evil", 404}, {"POST", "//api/hypervisa/sessions/%2e%2e/query", 404}, {"POST", "//api/hypervisa/sessions/x/delete", 404},
	} {
		r := in.Do(c.method, c.path, map[string]any{"prompt": "x"})
		require.Contains(t, []int{c.status, 404}, r.Status, "%s %s: %s", c.method, c.path, r.Body)
	}
	failed(t, in.Do("PATCH", "//api"+path, nil), 405, "METHOD_NOT_ALLOWED", "")
	require.Empty(t, l.up.got())
	// A query of the caller's is not passed on, and a redirect not followed.
	in.Do("POST", path+"/query?debug=1", map[string]any{"prompt": "x"}).Want(200)
	require.Equal(t, "/api/hypervisa/sessions/session%201%3Fx/query", l.up.got()[0].path)
	var hit atomic.Int32
	elsewhere := newUpstream(t)
	elsewhere.say(func(http.ResponseWriter, *http.Request) { hit.Add(1) })
	l.up.say(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	failed(t, in.Do("POST", path+"/query", map[string]any{"prompt": "x"}), 502, "API_ERROR", "307")
	require.Zero(t, hit.Load())
}

func TestWhatIsRefusedIsNotPassedOnAndCostsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.HypervisaRoot = "/data/videos/" })
	_, path := l.create(l.anna.Client)
	_, bens := l.create(l.ben.Client)
	l.up.got()
	for _, c := range []struct {
		who   *client.Person
		path  string
		body  any
		code  string
		field string
	}{
		{l.anna, "/ingest-repo", map[string]any{"repo_url": "https://169.254.169.254/latest/meta-data"}, "VALIDATION_ERROR", "repo_url"},
		{l.anna, "/ingest-repo", map[string]any{"repo_url": 7}, "VALIDATION_ERROR", "repo_url"},
		{l.anna, "/ingest-repo", map[string]any{}, "VALIDATION_ERROR", "repo_url"},
		{l.anna, "/ingest-repo", map[string]any{"repo_url": "https://github.com/acme/shop", "branch": "-x"}, "VALIDATION_ERROR", "branch"},
		{l.anna, "/watch", map[string]any{"urls": []string{"https://vimeo.com/1"}}, "VALIDATION_ERROR", "urls"},
		{l.anna, "/watch", map[string]any{"urls": "https://youtu.be/x"}, "VALIDATION_ERROR", "urls"},
		{l.anna, "/query", map[string]any{"prompt": "   "}, "VALIDATION_ERROR", "prompt"},
		{l.anna, "/query", map[string]any{"prompt": strings.Repeat("x", 32001)}, "VALIDATION_ERROR", "prompt"},
		{l.anna, "/ingest", map[string]any{"directory": "/data/videos"}, "DIRECTORY_INGEST_DISABLED", ""},
		{l.anna, "/ingest", map[string]any{"directory": "/data/videos/../secrets"}, "DIRECTORY_INGEST_DISABLED", ""},
		{l.anna, "/ingest", map[string]any{"directory": "/data/videos-private/x"}, "DIRECTORY_INGEST_DISABLED", ""},
		{l.anna, "/ingest", map[string]any{"directory": "data/videos/x"}, "DIRECTORY_INGEST_DISABLED", ""},
		{l.anna, "/ingest", map[string]any{"directory": "/data/videos/x\ny"}, "DIRECTORY_INGEST_DISABLED", ""},
		{l.ben, "/ingest", map[string]any{"directory": "/data/videos/x"}, "DIRECTORY_INGEST_DISABLED", ""},
	} {
		to := "/hypervisa/sessions" + c.path
		if c.path == "/query" {
			to = path + c.path
		}
		r := c.who.Do("POST", to, c.body)
		require.Equal(t, map[string]int{"VALIDATION_ERROR": 400, "DIRECTORY_INGEST_DISABLED": 403}[c.code], r.Status, "%v: %s", c.body, r.Body)
		require.Equal(t, c.code, r.String("code"))
		require.Equal(t, r.String("detail"), r.String("error"))
		r.Field(c.field)
	}
	require.Empty(t, l.up.got())
	require.Equal(t, []int{2, 0}, []int{l.used("ingestions"), l.used("oracle_queries")})

	l.anna.Do("POST", "/hypervisa/sessions/ingest", map[string]any{"directory": "/data/videos//talks/./2026/", "name": "Talks"}).Want(200)
	require.JSONEq(t, `{"directory": "/data/videos/talks/2026", "name": "Talks"}`, l.up.got()[0].body)
	l.anna.Do("POST", "/hypervisa/sessions/watch", map[string]any{"urls": []string{"", "https://youtu.be/x"}}).Want(200)
	require.JSONEq(t, `{"urls": ["https://youtu.be/x"]}`, l.up.got()[0].body)

	// The limits of the plan and of a minute.
	l.DB.Exec(`update public.subscriptions set overrides = '{"ingestions": 4}' where organization_id = $1`, l.anna.OrgID)
	r := l.anna.Do("POST", "/hypervisa/sessions/ingest-repo", repository)
	failed(t, r, 429, "QUOTA_EXCEEDED", "4 ingestions")
	require.NotEmpty(t, r.Header.Get("Retry-After"))
	require.Empty(t, l.up.got())
	for range 20 {
		l.ben.Do("POST", bens+"/query", map[string]any{"prompt": "x"}).Want(200)
	}
	r = l.ben.Do("POST", bens+"/query", map[string]any{"prompt": "x"})
	failed(t, r, 429, "RATE_LIMITED", "20 times a minute")
	require.Equal(t, "20", r.Header.Get("X-RateLimit-Limit"))
	require.NotEmpty(t, r.Header.Get("Retry-After"))
	l.anna.Do("POST", path+"/query", map[string]any{"prompt": "x"}).Want(200)
	require.Equal(t, 21, l.used("oracle_queries"))
}

func TestAFailureOfUpstreamIsToldAndCostsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, path := l.create(l.anna.Client)
	for _, c := range []struct {
		name   string
		say    http.HandlerFunc
		status int
		code   string
		text   string
	}{
		{"ItsTextAndStatusAreKept", always(400, `{"error": "The repository is too large"}`), 400, "HYPERVISA_REFUSED", "The repository is too large"},
		{"AlsoA422", always(422, `{"error": "No transcript"}`), 422, "HYPERVISA_REFUSED", "No transcript"},
		{"OrA429", always(429, `{"error": "Slow down"}`), 429, "HYPERVISA_REFUSED", "Slow down"},
		{"A500IsABadGateway", always(500, `{"error": "Out of memory"}`), 502, "API_ERROR", "Out of memory"},
		{"A503Too", always(503, `<html>sorry</html>`), 502, "API_ERROR", "HyperVisa answered 503 Service Unavailable."},
		{"A401IsNotTheCallers", always(401, `{"error": "Token missing"}`), 502, "API_ERROR", "does not let this installation in"},
		{"NorIsA403", always(403, `{"error": "No"}`), 502, "API_ERROR", "does not let this installation in"},
		{"NoJSON", always(200, `<html>hello</html>`), 502, "API_ERROR", "understands"},
		{"TheWrongTypes", always(200, `{"id": 7, "response": 7}`), 502, "API_ERROR", "understands"},
		{"NothingAtAll", always(200, ``), 502, "API_ERROR", "understands"},
		{"ControlCharacters", always(400, `{"error": "a\u0000b\r\nSet-Cookie: x=y\u001b[31m"}`), 400, "HYPERVISA_REFUSED", "a b Set-Cookie: x=y [31m"},
		{"ALongText", always(400, `{"error": "`+strings.Repeat("é", 2000)+`"}`), 400, "HYPERVISA_REFUSED", strings.Repeat("é", 500)},
		{"ErrorThatIsNoText", always(400, `{"error": {"code": 1}}`), 400, "HYPERVISA_REFUSED", "HyperVisa answered 400 Bad Request."},
		{"BrokenOff", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"id"`)
		}, 502, "API_ERROR", "broke off"},
		{"Endless", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		}, 502, "API_ERROR", "too large"},
		{"HungUp", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 503, "HYPERVISA_UNAVAILABLE", "HyperVisa is not reachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.up.say(c.say)
			in := l.anna.In(t)
			failed(t, in.Do("POST", path+"/query", map[string]any{"prompt": "x"}), c.status, c.code, c.text)
			failed(t, in.Do("POST", "/hypervisa/sessions/ingest-repo", repository), c.status, c.code, c.text)
			failed(t, in.Get("/hypervisa/sessions"), c.status, c.code, c.text)
			require.Equal(t, []int{1, 0}, []int{l.used("ingestions"), l.used("oracle_queries")})
		})
		// Twenty questions a minute are counted whatever comes of them.
		l.DB.Exec("delete from private.rate_counters")
	}
	for _, id := range []string{`""`, `".."`, `"."`, `"a/b"`, `"a\\b"`, `"a\nb"`, `"` + strings.Repeat("x", 201) + `"`} {
		l.up.say(always(200, `{"id": `+id+`}`))
		failed(t, l.anna.Do("POST", "/hypervisa/sessions/ingest-repo", repository), 502, "API_ERROR", "no id that can be used")
	}
	require.Equal(t, 1, l.used("ingestions"))
	l.up.say(always(200, `{"id": "bare"}`))
	require.Equal(t, []any{}, l.anna.Do("POST", "/hypervisa/sessions/ingest-repo", repository).Want(200).Value("segments"))

	// What upstream does not know any more goes from the list of owners.
	l.up.say(always(404, `{"error": "Session not found"}`))
	failed(t, l.anna.Do("POST", path+"/query", map[string]any{"prompt": "x"}), 404, "SESSION_NOT_FOUND", "Session not found")
	failed(t, l.anna.Do("DELETE", "/hypervisa/sessions/bare", nil), 404, "SESSION_NOT_FOUND", "Session not found")
	failed(t, l.anna.Do("POST", "/hypervisa/sessions/ingest-repo", repository), 404, "HYPERVISA_REFUSED", "Session not found")
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from public.hypervisa_sessions"))
	require.Zero(t, l.used("oracle_queries"))
	l.up.say(nil)
	_, path = l.create(l.anna.Client)
	l.up.say(always(500, ``))
	failed(t, l.anna.Do("DELETE", path, nil), 502, "API_ERROR", "500")
	l.up.say(nil)
	l.anna.Do("DELETE", path, nil).Want(204)
}

func TestAnInstallationWithoutHyperVisaSaysSo(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	s.DB.Exec("insert into public.hypervisa_sessions (session_id, organization_id, user_id) values ('s', $1, $2)", anna.OrgID, anna.ID)
	for _, r := range []client.Response{anna.Get("/hypervisa/sessions"), anna.Do("POST", "/hypervisa/sessions/ingest-repo", repository), anna.Do("DELETE", "/hypervisa/sessions/s", nil),
		anna.Do("POST", "/hypervisa/sessions/s/query", map[string]any{"prompt": "x"})} {
		failed(t, r, 503, "PROVIDER_NOT_CONFIGURED", "not configured")
		require.Equal(t, "hypervisa", r.String("details.provider"))
	}
	failed(t, anna.Do("POST", "/hypervisa/sessions/unknown/query", map[string]any{"prompt": "x"}), 404, "SESSION_NOT_FOUND", "")
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from public.usage_counters where metric in ('ingestions', 'oracle_queries') and used > 0"))
}

// Upstream takes its time, or never answers. No connection to the database waits with it, and one person does not take all places.
func TestAWaitForUpstreamHoldsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.DatabasePool = 2 })
	_, path := l.create(l.anna.Client)
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	l.up.say(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
			answer(w, 200, map[string]any{"response": "Late."})
		case <-r.Context().Done():
		}
	})
	answers := make(chan client.Response, 8)
	for range 8 {
		go func() {
			r, err := l.anna.Try("POST", path+"/query", map[string]any{"prompt": "x"})
			if err != nil {
				t.Error(err)
			}
			answers <- r
		}()
	}
	for range 8 {
		<-arrived
	}
	failed(t, l.anna.Do("POST", path+"/query", map[string]any{"prompt": "x"}), 429, "RATE_LIMITED", "")
	require.Equal(t, 8, l.used("oracle_queries"), "the ninth is given back")
	l.anna.Get("/auth/me").Want(200)
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from pg_stat_activity where usename = 'kijko_server' and state like 'idle in transaction%' and datname = current_database()"))
	go func() { _, _ = l.stan.Try("GET", "/hypervisa/sessions", nil) }()
	<-arrived
	close(release)
	for range 8 {
		require.Equal(t, "Late.", (<-answers).Want(200).String("response"))
	}
	require.Equal(t, 8, l.used("oracle_queries"))
}

func TestALateUpstreamAndAClientThatLeaves(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.HypervisaTimeout = 300 * time.Millisecond })
	_, path := l.create(l.anna.Client)
	l.up.say(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	failed(t, l.anna.Do("POST", path+"/query", map[string]any{"prompt": "x"}), 504, "UPSTREAM_TIMEOUT", "in time")
	failed(t, l.anna.Do("POST", "/hypervisa/sessions/ingest-repo", repository), 504, "UPSTREAM_TIMEOUT", "in time")
	failed(t, l.anna.Get("/hypervisa/sessions"), 504, "UPSTREAM_TIMEOUT", "in time")
	l.up.say(func(w http.ResponseWriter, r *http.Request) {
		// The head comes at once, the rest never.
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	failed(t, l.anna.Do("POST", path+"/query", map[string]any{"prompt": "x"}), 504, "UPSTREAM_TIMEOUT", "in time")
	require.Equal(t, []int{1, 0}, []int{l.used("ingestions"), l.used("oracle_queries")})
	l.up.Close()
	failed(t, l.anna.Get("/hypervisa/sessions"), 503, "HYPERVISA_UNAVAILABLE", "HyperVisa is not reachable")
	failed(t, l.anna.Do("POST", path+"/query", map[string]any{"prompt": "x"}), 503, "HYPERVISA_UNAVAILABLE", "HyperVisa is not reachable")
	require.Equal(t, 0, l.used("oracle_queries"))
}

func TestAQuestionEndsWithItsClientAndACreationDoesNot(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, path := l.create(l.anna.Client)
	arrived, gone, release := make(chan struct{}, 2), make(chan struct{}), make(chan struct{})
	l.up.say(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if strings.HasSuffix(r.URL.Path, "/query") {
			<-r.Context().Done()
			close(gone)
			return
		}
		<-release
		answer(w, 200, map[string]any{"id": "made"})
	})
	leave := func(path string, body any) {
		raw, err := json.Marshal(body)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, "POST", l.BaseURL+"/api"+path, strings.NewReader(string(raw)))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+l.anna.Token)
		go func() {
			<-arrived
			cancel()
		}()
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = answer.Body.Close()
		}
		require.ErrorIs(t, err, context.Canceled)
	}
	leave(path+"/query", map[string]any{"prompt": "x"})
	select {
	case <-gone:
	case <-time.After(stack.Patience):
		t.Fatal("upstream still works for a client that has left")
	}
	leave("/hypervisa/sessions/ingest-repo", repository)
	close(release)
	stack.Eventually(t, "the owner of a session whose client has left", func() bool {
		return testdb.Value[int](l.DB, "select count(*)::int from public.hypervisa_sessions where session_id = 'made' and user_id = $1", l.anna.ID) == 1
	})
	require.Equal(t, []int{2, 1}, []int{l.used("ingestions"), l.used("oracle_queries")})
}

// A session whose owner cannot be recorded would be visible to no caller, so it is deleted again.
func TestASessionWithoutAnOwnerIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.up.say(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			l.DB.Exec("alter table public.hypervisa_sessions rename to away")
			answer(w, 200, map[string]any{"id": "orphan"})
		}
	})
	l.anna.Do("POST", "/hypervisa/sessions/ingest-repo", repository).Want(500)
	requests := l.up.got()
	require.Equal(t, "DELETE /api/hypervisa/sessions/orphan", requests[len(requests)-1].method+" "+requests[len(requests)-1].path)
	require.Zero(t, l.used("ingestions"))
}

func TestAKeyMakesOneSession(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	keyed := l.anna.With("Idempotency-Key", "once")
	answers := client.AtOnce(t, 4, func(int) (client.Response, error) {
		return keyed.Try("POST", "/hypervisa/sessions/ingest-repo", repository)
	})
	replayed := 0
	for _, r := range answers {
		require.JSONEq(t, string(answers[0].Want(200).Body), string(r.Want(200).Body))
		if r.Header.Get("Idempotency-Replayed") == "true" {
			replayed++
		}
	}
	require.Equal(t, 3, replayed)
	require.Len(t, l.up.got(), 1)
	require.Equal(t, 1, l.used("ingestions"))
	failed(t, keyed.Do("POST", "/hypervisa/sessions/ingest-repo", map[string]any{"repo_url": "https://github.com/acme/other"}), 409, "IDEMPOTENCY_CONFLICT", "")
	// After a failure the same key works.
	again := l.anna.With("Idempotency-Key", "again")
	l.up.say(always(500, ``))
	failed(t, again.Do("POST", "/hypervisa/sessions/ingest-repo", repository), 502, "API_ERROR", "")
	l.up.say(nil)
	require.Empty(t, again.Do("POST", "/hypervisa/sessions/ingest-repo", repository).Want(200).Header.Get("Idempotency-Replayed"))
	require.Equal(t, 2, l.used("ingestions"))
	// A deletion under a key is deleted once.
	path := "/hypervisa/sessions/" + url.PathEscape(answers[0].String("id"))
	gone := l.anna.With("Idempotency-Key", "gone")
	gone.Do("DELETE", path, nil).Want(204)
	require.Equal(t, "true", gone.Do("DELETE", path, nil).Want(204).Header.Get("Idempotency-Replayed"))
	l.anna.Do("DELETE", path, nil).Problem(404, "SESSION_NOT_FOUND")
}

// No prompt and no answer is kept.
func TestNothingOfAQuestionIsStored(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, path := l.create(l.anna.Client)
	const secret = "a-question-that-is-nobodys-business"
	l.up.say(always(200, `{"response": "`+secret+`"}`))
	l.anna.With("Idempotency-Key", "k").Do("POST", path+"/query", map[string]any{"prompt": secret}).Want(200)
	conn := l.DB.Connect("postgres")
	rows, err := conn.Query(t.Context(), "select c.oid::regclass::text from pg_class c where c.relkind = 'r' and c.relnamespace in ('public'::regnamespace, 'private'::regnamespace, 'jobs'::regnamespace)")
	require.NoError(t, err)
	var tables []string
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(t, rows.Err())
	require.Greater(t, len(tables), 50)
	slices.Sort(tables)
	for _, table := range tables {
		require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from "+table+" t where t::text like '%"+secret+"%'"), table)
	}
}
