package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/tests/testdb"
)

const document = `
openapi: 3.1.0
info: {title: test, version: '1'}
components:
  responses: {Problem: {description: problem}}
paths:
  /health: {get: {operationId: health, x-access: public, responses: {'200': {description: ok}}}}
  /health/live: {get: {operationId: healthLive, x-access: public, responses: {'200': {description: ok}}}}
  /health/ready: {get: {operationId: healthReady, x-access: public, responses: {'200': {description: ok}}}}
  /echo/{id}:
    get:
      operationId: echo
      x-function: test_echo
      parameters:
        - {name: id, in: path, required: true, schema: {type: string}}
        - {name: page, in: query, schema: {type: integer, minimum: 1}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
        - {name: live, in: query, schema: {type: boolean}}
      responses: {'200': {description: ok}}
    post:
      operationId: echoPost
      x-function: test_echo
      x-aliases: [put]
      x-max-body: 4096
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      requestBody:
        content:
          application/json:
            schema:
              type: object
              additionalProperties: false
              properties:
                name: {type: string, minLength: 3, maxLength: 10}
                id: {type: string}
                kind: {enum: [a, b]}
                mood: {enum: [good, null]}
                members: {type: array, items: {type: object, required: [email], properties: {email: {type: string, format: email}}}}
      responses: {'201': {description: made}}
  /count:
    post: {operationId: count, x-function: test_count, responses: {'200': {description: ok}}}
    get: {operationId: countByGet, x-function: test_count, responses: {'200': {description: ok}}}
  /refuse:
    get: {operationId: refuse, x-function: test_refuse, responses: {'200': {description: ok}}}
  /broken:
    post: {operationId: broken, x-function: test_broken, responses: {'200': {description: ok}}}
  /slow:
    get: {operationId: slow, x-function: test_slow, responses: {'200': {description: ok}}}
  /race:
    post: {operationId: race, x-function: test_race, responses: {'204': {description: ok}}}
  /public:
    get: {operationId: public, x-access: public, x-function: test_who, responses: {'200': {description: ok}}}
  /who:
    get: {operationId: who, x-function: test_who, responses: {'200': {description: ok}}}
  /service:
    get: {operationId: service, x-access: service, x-function: test_who, responses: {'200': {description: ok}}}
  /limited:
    get: {operationId: limited, x-function: test_who, x-rate: {limit: 2, per: 60, key: [user]}, responses: {'200': {description: ok}}}
  /shared:
    get: {operationId: shared, x-function: test_who, x-shared-rate: {limit: 2, per: 60, key: [user]}, responses: {'200': {description: ok}}}
  /handler:
    get: {operationId: handler, responses: {'200': {description: ok}}}
`

const functions = `
create table public.test_rows (n serial, name text unique);
grant select, insert on public.test_rows to authenticated; grant usage on sequence public.test_rows_n_seq to authenticated;
create function api.test_echo(p jsonb) returns jsonb language sql volatile as $$ select p $$;
create function api.test_count(p jsonb) returns jsonb language plpgsql volatile as $$
begin
  insert into public.test_rows default values;
  return jsonb_build_object('count', (select count(*) from public.test_rows));
end $$;
create function api.test_refuse(p jsonb) returns jsonb language plpgsql as $$
begin
  perform private.refuse(409, 'NAME_TAKEN', 'That name is taken.', 'name', '{"suggestion": "x 2"}');
  return null;
end $$;
create function api.test_broken(p jsonb) returns jsonb language plpgsql as $$
begin
  insert into public.test_rows default values;
  return to_jsonb(1 / (select 0));
end $$;
create function api.test_slow(p jsonb) returns jsonb language sql as $$ select pg_sleep(30); select 'null'::jsonb $$;
create function api.test_race(p jsonb) returns jsonb language plpgsql as $$
begin
  if exists (select from public.test_rows where name = 'one') then
    perform private.refuse(409, 'NAME_TAKEN', 'That name is taken.', 'name');
  end if;
  perform pg_sleep(0.3);
  insert into public.test_rows (name) values ('one');
  return null;
end $$;
create function api.test_who(p jsonb) returns jsonb language sql stable as $$
  select jsonb_build_object('role', current_user, 'user', private.user_id(), 'org', private.org_id(), 'orgRole', private.org_role(),
    'session', current_setting('app.session_id', true), 'request', current_setting('app.request_id', true))
$$;
grant execute on all functions in schema api to authenticated;
grant execute on function api.test_who to anon, service_role;
`

type bundle struct {
	app      *api.App
	url      string
	db       *testdb.DB
	pool     *pgxpool.Pool
	caller   *api.Caller
	wakes    atomic.Int32
	log      bytes.Buffer
	registry *prometheus.Registry
}

func (b *bundle) Wake(bool, bool) { b.wakes.Add(1) }

// Authenticate accepts "ann" as Ann's token and refuses all others.
func (b *bundle) Authenticate(_ context.Context, token string) (*api.Caller, error) {
	if token != "ann" {
		return nil, api.NewProblem(401, "UNAUTHENTICATED", "Please sign in.", "")
	}
	return b.caller, nil
}

func setup(t testing.TB, edit func(*api.Deps, *db.PoolOptions)) *bundle {
	t.Helper()
	return setupAround(t, func(_ *bundle, d *api.Deps, o *db.PoolOptions) {
		if edit != nil {
			edit(d, o)
		}
	})
}

// setupAround is setup for tests that need the database before the pool is opened.
func setupAround(t testing.TB, edit func(*bundle, *api.Deps, *db.PoolOptions)) *bundle {
	t.Helper()
	b := &bundle{db: testdb.New(t), registry: prometheus.NewRegistry()}
	b.db.Exec(functions)
	conn := b.db.Connect("postgres")
	var user, org, session string
	require.NoError(t, conn.QueryRow(t.Context(), `insert into public.users (email) values ('ann@example.nl') returning id::text`).Scan(&user))
	require.NoError(t, conn.QueryRow(t.Context(), `select private.create_organization('Ann', $1)::text`, user).Scan(&org))
	require.NoError(t, conn.QueryRow(t.Context(), `insert into private.sessions (user_id, organization_id, expires_at, idle_expires_at)
		values ($1, $2, now() + interval '1 day', now() + interval '1 day') returning id::text`, user, org).Scan(&session))
	b.caller = &api.Caller{UserID: user, SessionID: session, OrgHint: org, Claims: `{"sub":"` + user + `"}`}

	doc, err := openapi.LoadFrom(fstest.MapFS{"test.yaml": {Data: []byte(document)}})
	require.NoError(t, err)
	options := db.PoolOptions{DSN: b.db.DSN("kijko_server"), Size: 4, Timeout: 5 * time.Second}
	deps := api.Deps{Document: doc, Auth: b, Version: "test", Registry: b.registry, Origins: []string{"https://app.example.nl"},
		ServiceToken: strings.Repeat("s", 32), Log: slog.New(slog.NewJSONHandler(&lockedWriter{w: &b.log}, nil)),
		Handlers: map[string]api.Handler{"handler": func(c *api.Call) error { panic("a bug") }}}
	edit(b, &deps, &options)
	b.pool, err = db.OpenPool(t.Context(), options)
	require.NoError(t, err)
	deps.Exec = api.NewExecutor(b.pool, b)
	b.app, err = api.New(deps)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.url = "http://" + listener.Addr().String()
	done := make(chan error, 1)
	go func() { done <- b.app.Listener(listener) }()
	t.Cleanup(func() {
		require.NoError(t, b.app.ShutdownWithTimeout(time.Second))
		<-done
		b.pool.Close()
	})
	return b
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &v), a.body)
	return v
}

func (b *bundle) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer ann")
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return answer{res.StatusCode, res.Header, string(raw)}
}

func TestRequest(t *testing.T) {
	b := setup(t, nil)

	t.Run("PathQueryAndBodyArriveTyped", func(t *testing.T) {
		got := b.do(t, "GET", "/api/v1/echo/a%2Fb?page=2&tag=x&tag=y&live=true", "")
		require.Equal(t, 200, got.status)
		require.JSONEq(t, `{"id": "a/b", "page": 2, "tag": ["x", "y"], "live": true}`, got.body)
		got = b.do(t, "POST", "/api/echo/one", `{"name": "Kijko", "id": "two"}`)
		require.Equal(t, 201, got.status)
		require.JSONEq(t, `{"id": "one", "body": {"name": "Kijko", "id": "two"}}`, got.body)
		require.Equal(t, 201, b.do(t, "PUT", "/api/v1/echo/one", `{}`).status, "an alias is the same operation")
		require.Equal(t, 201, b.do(t, "POST", "/api/v1/echo/one", ``).status, "an empty body is an empty object")
		got = b.do(t, "POST", "/api/v1/echo/one", `{"name": 7, "name": "Kijko", "members": [{}], "members": []}`)
		require.JSONEq(t, `{"id": "one", "body": {"name": "Kijko", "members": []}}`, got.body, "of members with one name the last counts")
	})
	t.Run("APathThatIsNoTextNamesNothing", func(t *testing.T) {
		// The function is called all the same: an invalid id is unknown, not malformed.
		for path, id := range map[string]string{"%00": "\ufffd", "a%ffb": "a\ufffdb"} {
			got := b.do(t, "GET", "/api/v1/echo/"+path, "")
			require.Equal(t, 200, got.status)
			require.JSONEq(t, `{"id": "`+id+`"}`, got.body)
		}
	})
	t.Run("BadInputIsNamed", func(t *testing.T) {
		for _, c := range []struct{ path, body, field, message string }{
			{"/echo/x?page=0", "", "page", "page must be at least 1."},
			{"/echo/x?page=one", "", "page", "page must be a number."},
			{"/echo/x?page=1.5", "", "page", "page must be a whole number."},
			{"/echo/x?page=1&page=2", "", "page", "page is given more than once."},
			{"/echo/x?live=maybe", "", "live", "live must be true or false."},
			{"/echo/x?tag=%00", "", "tag", "tag is not valid text."},
			{"/echo/x?tag=%ff", "", "tag", "tag is not valid text."},
			{"/echo/x", `{"name": "abc", "n": 1e401}`, "n", "The request body holds too large numbers: exponents go to 400."},
			{"/echo/x", `{"name": "abc", "n": -1.5E-99999999999999999999}`, "", "The request body holds too large numbers: exponents go to 400."},
			{"/echo/x", `{"name": "abc", "n": 0.` + strings.Repeat("1", 400) + `}`, "", "The request body holds too long numbers: they go to 400 digits."},
			{"/echo/x?page=%zz", "", "", "The query of the address is malformed."},
			{"/echo/x", `{"name": "ab"}`, "name", "name must have at least 3 characters."},
			{"/echo/x", `{"name": 7}`, "name", "name must be text."},
			{"/echo/x", `{"kind": "c"}`, "kind", "kind must be one of a, b."},
			{"/echo/x", `{"mood": "bad"}`, "mood", "mood must be one of good, null."},
			{"/echo/x", `{"other": 1}`, "other", "other is not a known field."},
			{"/echo/x", `{"members": [{"email": "a@b.nl"}, {}]}`, "members[1].email", "members[1].email is required."},
			{"/echo/x", `{"members": [{"email": "nobody"}]}`, "members[0].email", "members[0].email must be a valid e-mail address."},
			{"/echo/x", `[]`, "", "The request body must be an object."},
			{"/echo/x", `{"name": `, "", "The request body is not valid JSON."},
			{"/echo/x", `{"kind": "a", "members": [{"email": "a@b.nl"}, {"email": ["x", "a\u0000b"]}]}`, "members[1].email[1]", "Text must not contain NUL characters."},
			{"/echo/x", `{"members": [{"na\u0000me": 1}]}`, "members[0]", "Text must not contain NUL characters."},
			{"/echo/x", `{"name": "a\u0000b"}`, "name", "Text must not contain NUL characters."},
			{"/echo/x", `{"name": "a\ud800b"}`, "name", "Text must not contain half a surrogate pair."},
			{"/echo/x", `{"name": "a\udc00b"}`, "name", "Text must not contain half a surrogate pair."},
			{"/echo/x", "{\"name\": \"a\xffb\"}", "", "The request body is not valid UTF-8."},
			{"/echo/x", strings.Repeat("[", 65) + strings.Repeat("]", 65), "", "The request body is nested deeper than 64 levels."},
		} {
			method := "POST"
			if c.body == "" {
				method = "GET"
			}
			got := b.do(t, method, "/api/v1"+c.path, c.body)
			require.Equal(t, 400, got.status, c.path+c.body)
			require.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
			p := got.json(t)
			require.Equal(t, c.message, p["detail"], c.path+c.body)
			require.Equal(t, c.message, p["message"])
			require.Equal(t, "VALIDATION_ERROR", p["code"])
			if c.field != "" {
				require.Equal(t, c.field, p["field"])
			}
		}
		require.Equal(t, 201, b.do(t, "POST", "/api/v1/echo/x", `{"name": "a\ud83d\ude00b"}`).status, "a whole pair is text")
	})
	t.Run("TooMuchIsRefused", func(t *testing.T) {
		require.Equal(t, 413, b.do(t, "POST", "/api/v1/echo/x", `{"name": "`+strings.Repeat("x", 5000)+`"}`).status)
		require.Equal(t, 413, b.do(t, "POST", "/api/v1/count", strings.Repeat("x", 10<<20)).status)
		require.Equal(t, 431, b.do(t, "GET", "/api/v1/who", "", "X-Large", strings.Repeat("x", 100<<10)).status)
		require.Equal(t, 414, b.do(t, "GET", "/api/v1/echo/x?tag="+strings.Repeat("x", 9<<10), "").status)
	})
	t.Run("UnknownPathsAndMethodsAreProblems", func(t *testing.T) {
		got := b.do(t, "GET", "/api/v1/nothing", "")
		require.Equal(t, 404, got.status)
		require.Equal(t, "NOT_FOUND", got.json(t)["code"])
		got = b.do(t, "DELETE", "/api/v1/echo/x", "")
		require.Equal(t, 405, got.status)
		require.Equal(t, "GET, POST, PUT", got.header.Get("Allow"))
		require.Equal(t, 404, b.do(t, "GET", "/nothing", "").status)
	})
	t.Run("RefusalsOfPostgresKeepCodeFieldAndDetails", func(t *testing.T) {
		got := b.do(t, "GET", "/api/v1/refuse", "")
		require.Equal(t, 409, got.status)
		p := got.json(t)
		require.Equal(t, []any{"NAME_TAKEN", "name", "That name is taken.", map[string]any{"suggestion": "x 2"}},
			[]any{p["code"], p["field"], p["detail"], p["details"]})
	})
	t.Run("ErrorsShowNothingOfTheInside", func(t *testing.T) {
		before := testdb.Value[int](b.db, "select count(*) from public.test_rows")
		got := b.do(t, "POST", "/api/v1/broken", "{}", "X-Request-ID", "find-me")
		require.Equal(t, 500, got.status)
		require.NotContains(t, got.body, "zero")
		require.Equal(t, "find-me", got.json(t)["requestId"])
		require.Contains(t, b.log.String(), "division by zero")
		require.Equal(t, before, testdb.Value[int](b.db, "select count(*) from public.test_rows"), "nothing half-written")
		require.Equal(t, 500, b.do(t, "GET", "/api/v1/handler", "").status, "a panic is an answer")
	})
	t.Run("ReadsAreReadOnly", func(t *testing.T) {
		require.Equal(t, 500, b.do(t, "GET", "/api/v1/count", "").status, "a GET that writes is a bug, and has no effect")
	})
	t.Run("AnETagSavesTheBody", func(t *testing.T) {
		first := b.do(t, "GET", "/api/v1/echo/x", "")
		second := b.do(t, "GET", "/api/v1/echo/x", "", "If-None-Match", first.header.Get("ETag"))
		require.Equal(t, 304, second.status)
		require.Empty(t, second.body)
	})
	t.Run("ALostRaceMeetsTheRulesOwnRefusal", func(t *testing.T) {
		var wg sync.WaitGroup
		statuses := make([]answer, 2)
		for i := range statuses {
			wg.Go(func() { statuses[i] = b.do(t, "POST", "/api/v1/race", "{}") })
		}
		wg.Wait()
		require.ElementsMatch(t, []int{204, 409}, []int{statuses[0].status, statuses[1].status})
		require.Contains(t, statuses[0].body+statuses[1].body, "NAME_TAKEN")
	})
	t.Run("CORSAdmitsTheListOnly", func(t *testing.T) {
		got := b.do(t, "OPTIONS", "/api/v1/who", "", "Origin", "https://app.example.nl", "Access-Control-Request-Method", "GET", "Authorization", "")
		require.Equal(t, 204, got.status)
		require.Equal(t, "https://app.example.nl", got.header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, "true", got.header.Get("Access-Control-Allow-Credentials"))
		got = b.do(t, "GET", "/api/v1/who", "", "Origin", "https://evil.example")
		require.Empty(t, got.header.Get("Access-Control-Allow-Origin"))
	})
	t.Run("PagesAreThere", func(t *testing.T) {
		require.Equal(t, 200, b.do(t, "GET", "/openapi.json", "").status)
		require.Contains(t, b.do(t, "GET", "/docs", "").body, "swagger")
		require.Contains(t, b.do(t, "GET", "/", "").body, "Kijko API")
	})
}

func TestMetricsAreForWhoHasTheirToken(t *testing.T) {
	token := strings.Repeat("m", 32)
	b := setup(t, func(d *api.Deps, _ *db.PoolOptions) { d.MetricsToken = token })
	for name, header := range map[string]string{"nothing": "", "a person's": "Bearer ann", "the service's": "Bearer " + strings.Repeat("s", 32), "no token": "Bearer", "another scheme": "Basic " + token} {
		got := b.do(t, "GET", "/metrics", "", "Authorization", header)
		require.Equal(t, 404, got.status, name)
		require.Equal(t, "NOT_FOUND", got.json(t)["code"], name)
	}
	require.Contains(t, b.do(t, "GET", "/metrics", "", "Authorization", "Bearer "+token).body, "kijko_http_requests_total")
	require.Equal(t, 404, setup(t, nil).do(t, "GET", "/metrics", "", "Authorization", "Bearer").status, "without a token there is no such address")
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	requests := []struct {
		method, path, body string
		headers            []string
		status             int
	}{
		{"GET", "/api/v1/who", "", nil, 200}, {"HEAD", "/api/v1/who", "", nil, 200}, {"POST", "/api/v1/race", "{}", nil, 204},
		{"GET", "/api/v1/who", "", []string{"Authorization", ""}, 401}, {"GET", "/api/v1/service", "", nil, 403}, {"GET", "/api/v1/nothing", "", nil, 404},
		{"GET", "/nothing", "", nil, 404}, {"GET", "/metrics", "", nil, 404}, {"DELETE", "/api/v1/who", "", nil, 405}, {"GET", "/api/v1/refuse", "", nil, 409},
		{"POST", "/api/v1/count", strings.Repeat("x", 10<<20), nil, 413}, {"GET", "/api/v1/echo/x?tag=" + strings.Repeat("x", 9<<10), "", nil, 414},
		{"GET", "/api/v1/who", "", []string{"X-Large", strings.Repeat("x", 100<<10)}, 431}, {"GET", "/api/v1/handler", "", nil, 500},
		{"GET", "/health", "", nil, 200}, {"GET", "/", "", nil, 200}, {"GET", "/openapi.json", "", nil, 200}, {"GET", "/docs", "", nil, 200},
		{"GET", "/docs/swagger-ui.css", "", nil, 200}, {"GET", "/docs/nothing", "", nil, 404},
		{"OPTIONS", "/api/v1/who", "", []string{"Origin", "https://app.example.nl", "Access-Control-Request-Method", "GET"}, 204},
	}
	for name, https := range map[string]bool{"ByHTTP": false, "ByHTTPS": true} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, func(d *api.Deps, _ *db.PoolOptions) { d.HTTPS = https })
			for _, r := range requests {
				got := b.do(t, r.method, r.path, r.body, r.headers...)
				what := r.method + " " + r.path[:min(30, len(r.path))]
				require.Equal(t, r.status, got.status, what)
				require.Equal(t, []string{"nosniff"}, got.header.Values("X-Content-Type-Options"), what)
				require.Equal(t, https, got.header.Get("Strict-Transport-Security") == "max-age=31536000", what)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	b := setup(t, nil)

	t.Run("TheCallerIsEnteredAndForgotten", func(t *testing.T) {
		who := b.do(t, "GET", "/api/v1/who", "", "X-Request-ID", "abc").json(t)
		require.Equal(t, "authenticated", who["role"])
		require.Equal(t, []any{b.caller.UserID, b.caller.OrgHint, "owner", "abc"}, []any{who["user"], who["org"], who["orgRole"], who["request"]})
		who = b.do(t, "GET", "/api/v1/public", "").json(t)
		require.Equal(t, []any{"anon", nil, nil}, []any{who["role"], who["user"], who["org"]})
	})
	t.Run("WithoutOrWithABadCredentialItIs401", func(t *testing.T) {
		for _, header := range []string{"", "Bearer", "Bearer bob", "Basic YTpi"} {
			got := b.do(t, "GET", "/api/v1/who", "", "Authorization", header)
			require.Equal(t, 401, got.status, header)
			require.Equal(t, "UNAUTHENTICATED", got.json(t)["code"])
			require.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
		}
	})
	t.Run("ServiceRoutesOpenForTheServiceOnly", func(t *testing.T) {
		require.Equal(t, 403, b.do(t, "GET", "/api/v1/service", "").status)
		require.Equal(t, 401, b.do(t, "GET", "/api/v1/service", "", "Authorization", "").status)
		got := b.do(t, "GET", "/api/v1/service", "", "Authorization", "Bearer "+strings.Repeat("s", 32))
		require.Equal(t, "service_role", got.json(t)["role"])
	})
	t.Run("ARevokedSessionIsOutAtTheNextCall", func(t *testing.T) {
		b.db.Exec("update private.sessions set revoked_at = now()")
		got := b.do(t, "GET", "/api/v1/who", "")
		require.Equal(t, 401, got.status)
		require.Equal(t, "SESSION_REVOKED", got.json(t)["code"])
		b.db.Exec("update private.sessions set revoked_at = null, expires_at = now()")
		require.Equal(t, "SESSION_EXPIRED", b.do(t, "GET", "/api/v1/who", "").json(t)["code"])
		b.db.Exec("update private.sessions set expires_at = now() + interval '1 day'")
	})
	t.Run("AFormerMemberIsOutAtTheNextCall", func(t *testing.T) {
		b.db.Exec(`update public.memberships set role = 'member';
			with u as (insert into public.users (email, first_name, last_name) values ('other@example.nl', 'Other', 'Owner') returning id)
			insert into public.memberships (organization_id, user_id, role) select o.id, u.id, 'owner' from public.organizations o, u;
			update public.memberships set status = 'inactive' where role = 'member'`)
		b.db.Exec("update private.sessions set revoked_at = null")
		got := b.do(t, "GET", "/api/v1/who", "")
		require.Equal(t, 403, got.status)
		require.Equal(t, "ORG_REQUIRED", got.json(t)["code"])
	})
}

// The basic guarantee: after any request, whatever its outcome, the next borrower of its connection has no identity.
func TestTheNextBorrowerIsNobody(t *testing.T) {
	b := setup(t, func(d *api.Deps, o *db.PoolOptions) { o.Size = 1; d.Timeout = 300 * time.Millisecond })
	nobody := func(t *testing.T) {
		t.Helper()
		var role, user, claims, readOnly string
		require.NoError(t, b.pool.QueryRow(t.Context(), `select current_user, coalesce(current_setting('app.user_id', true), ''),
			coalesce(current_setting('request.jwt.claims', true), ''), current_setting('transaction_read_only')`).Scan(&role, &user, &claims, &readOnly))
		require.Equal(t, []string{"kijko_server", "", "", "off"}, []string{role, user, claims, readOnly})
	}
	for _, c := range []struct {
		name, method, path string
		status             int
	}{
		{"AfterSuccess", "GET", "/who", 200}, {"AfterARefusal", "GET", "/refuse", 409}, {"AfterAnError", "POST", "/broken", 500},
		{"AfterAWriteInARead", "GET", "/count", 500}, {"AfterACancelledCall", "GET", "/slow", 503}, {"AfterAWrite", "POST", "/count", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.status, b.do(t, c.method, "/api/v1"+c.path, "").status)
			nobody(t)
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	b := setup(t, nil)

	t.Run("FiftyAtOnceHaveOneEffectAndOneAnswer", func(t *testing.T) {
		var wg sync.WaitGroup
		bodies := make([]string, 50)
		for i := range bodies {
			wg.Go(func() {
				got := b.do(t, "POST", "/api/v1/count", "{}", "Idempotency-Key", "fifty")
				bodies[i] = fmt.Sprint(got.status, got.body)
			})
		}
		wg.Wait()
		for _, body := range bodies {
			require.Equal(t, bodies[0], body)
		}
		require.Equal(t, `200{"count": 1}`, bodies[0])
	})
	t.Run("AnotherBodyOrOperationConflicts", func(t *testing.T) {
		require.Equal(t, 201, b.do(t, "POST", "/api/v1/echo/x", `{"name": "one"}`, "Idempotency-Key", "k").status)
		again := b.do(t, "POST", "/api/v1/echo/x", `{"name": "one"}`, "Idempotency-Key", "k")
		require.Equal(t, 201, again.status)
		require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
		got := b.do(t, "POST", "/api/v1/echo/x", `{"name": "two"}`, "Idempotency-Key", "k")
		require.Equal(t, 409, got.status)
		require.Equal(t, "IDEMPOTENCY_CONFLICT", got.json(t)["code"])
		require.Equal(t, 409, b.do(t, "POST", "/api/v1/count", `{}`, "Idempotency-Key", "k").status)
	})
	t.Run("ARefusedWorkMayBeTriedAgain", func(t *testing.T) {
		require.Equal(t, 500, b.do(t, "POST", "/api/v1/broken", "{}", "Idempotency-Key", "again").status)
		require.Zero(t, testdb.Value[int](b.db, "select count(*) from private.idempotency_keys where key = 'again'"))
	})
	t.Run("KeysHaveALimit", func(t *testing.T) {
		require.Equal(t, 400, b.do(t, "POST", "/api/v1/count", "{}", "Idempotency-Key", strings.Repeat("k", 256)).status)
	})
}

func TestRates(t *testing.T) {
	b := setup(t, nil)
	for _, path := range []string{"/api/v1/limited", "/api/v1/shared"} {
		require.Equal(t, 200, b.do(t, "GET", path, "").status)
		require.Equal(t, 200, b.do(t, "GET", path, "").status)
		got := b.do(t, "GET", path, "")
		require.Equal(t, 429, got.status, path)
		require.Equal(t, "RATE_LIMITED", got.json(t)["code"])
		require.Equal(t, "2", got.header.Get("X-RateLimit-Limit"))
		require.NotEmpty(t, got.header.Get("Retry-After"))
	}
}

func TestHealth(t *testing.T) {
	status := "healthy"
	b := setup(t, func(d *api.Deps, _ *db.PoolOptions) {
		d.Checks = []api.Check{
			{Name: "database", Critical: true, Probe: func(context.Context) api.CheckResult { return api.CheckResult{Status: status} }},
			{Name: "auth", Probe: func(context.Context) api.CheckResult { return api.CheckResult{Status: "unhealthy", Code: "DOWN"} }},
		}
	})
	got := b.do(t, "GET", "/health/ready", "", "Authorization", "")
	require.Equal(t, 200, got.status)
	require.Equal(t, "degraded", got.json(t)["status"])
	status = "unhealthy"
	require.Equal(t, 503, b.do(t, "GET", "/api/v1/health/ready", "").status)
	require.Equal(t, 200, b.do(t, "GET", "/health/live", "").status)
	require.Equal(t, 200, b.do(t, "GET", "/health", "").status)
	status = "healthy"
	b.app.Drain()
	require.Equal(t, 503, b.do(t, "GET", "/health/ready", "").status, "a draining process gets no traffic")
}

func TestNewRefusesAnOperationNobodyAnswers(t *testing.T) {
	doc, err := openapi.LoadFrom(fstest.MapFS{"a.yaml": {Data: []byte(`
paths: {/x: {get: {operationId: x, responses: {'200': {description: ok}}}}}
components: {responses: {Problem: {description: p}}}`)}})
	require.NoError(t, err)
	_, err = api.New(api.Deps{Document: doc})
	require.ErrorContains(t, err, "operation x needs either")
}
