// Package registry tests contract 60, sections 17.1 and 17.2, by actor: Anna owns an organization, Ben is a member of it, Stan is a stranger with
// an organization of his own. MCP servers are the SDK's own; the registry is a double in the form of the public one.
package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

type fields = map[string]any

type lab struct {
	*stack.Stack
	anna, ben, stan *client.Person
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	t.Helper()
	s := stack.New(t, append([]stack.Option{func(c *config.Config) { c.GitAllowPrivate = true }}, options...)...)
	l := &lab{Stack: s, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", l.anna.OrgID, l.ben.ID)
	l.ben.Client = l.ben.As(l.ben.Do("POST", "/auth/switch-org", fields{"org_id": l.anna.OrgID}).Want(200).Tokens().AccessToken)
	return l
}

type server struct{ ID, Name, Status, Version, RegistryID, URL, ErrorMessage string }

// state is what the organization sees of a server.
func state(c *client.Client, id string) server {
	for _, s := range client.JSON[[]server](c.Get("/mcp/servers").Want(200)) {
		if s.ID == id {
			return s
		}
	}
	return server{}
}

// settled waits until a server is no longer connecting. Pauses between attempts are skipped.
func (l *lab) settled(t *testing.T, c *client.Client, id string) (s server) {
	t.Helper()
	stack.Eventually(t, "the end of connecting", func() bool {
		l.DB.Exec("update jobs.gue_jobs set run_at = clock_timestamp() where queue = 'registry' and run_at > clock_timestamp()")
		s = state(c, id)
		return s.Status != "connecting"
	})
	return s
}

func serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// tools is an MCP server of the SDK with these tools.
func tools(version string, stateless bool, names ...string) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server {
		server := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: version}, nil)
		type nothing struct{}
		for _, name := range names {
			mcp.AddTool(server, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, nothing) (*mcp.CallToolResult, nothing, error) {
				return &mcp.CallToolResult{}, nothing{}, nil
			})
		}
		return server
	}, &mcp.StreamableHTTPOptions{Stateless: stateless})
}

func TestAServerIsConnectedByAJobAndItsToolsAreRead(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const secret = "Bearer a-secret-of-the-organization"
	var calls atomic.Int32
	var broken atomic.Bool
	next := tools("1.4.0", true, "search", "fetch")
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if broken.Load() || r.Header.Get("Authorization") != secret || r.Header.Get("X-Team") != "a" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	}))
	write := fields{"name": " Tools ", "url": address, "headers": fields{"Authorization": secret, "x-team": "a"}}
	l.ben.Do("POST", "/mcp/servers", write).Problem(403, "FORBIDDEN")
	keyed := l.anna.With("Idempotency-Key", "k")
	made := keyed.Do("POST", "/mcp/servers", write).Want(201)
	require.Zero(t, calls.Load(), "the request itself does not call out")
	require.NotContains(t, string(made.Body), "secret")
	id := made.String("id")
	made.Equal(fields{"id": id, "name": "Tools", "status": "connecting", "version": "", "url": address})
	require.Equal(t, string(made.Body), string(keyed.Do("POST", "/mcp/servers", write).Want(201).Body))
	l.anna.Do("POST", "/mcp/servers", fields{"name": "TOOLS", "url": address}).Problem(409, "NAME_TAKEN").Field("name")
	require.Contains(t, testdb.Value[string](l.DB, "select sealed from private.mcp_server_secrets where server_id = $1", id), "v1.")
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from private.idempotency_keys where response::text like '%secret%'"))

	worker.Start(t, l.Stack)
	require.Equal(t, server{ID: id, Name: "Tools", Status: "connected", Version: "v1.4.0", URL: address}, l.settled(t, l.ben.Client, id))
	l.ben.Get("/mcp/tools").Want(200).Equal([]fields{{"tool": "Tools.fetch", "server": "Tools"}, {"tool": "Tools.search", "server": "Tools"}})
	l.stan.Get("/mcp/tools").Want(200).Equal([]any{})
	l.stan.Get("/mcp/servers").Want(200).Equal([]any{})
	l.stan.Do("POST", "/mcp/servers/"+id+"/reconnect", nil).Problem(404, "MCP_SERVER_NOT_FOUND")
	l.stan.Do("DELETE", "/mcp/servers/"+id, nil).Problem(404, "MCP_SERVER_NOT_FOUND")

	broken.Store(true)
	l.ben.Do("POST", "/mcp/servers/"+id+"/reconnect", nil).Problem(403, "FORBIDDEN")
	require.Equal(t, "connecting", l.anna.Do("POST", "/mcp/servers/"+id+"/reconnect", nil).Want(200).String("status"))
	down := l.settled(t, l.anna.Client, id)
	require.Equal(t, "error", down.Status)
	require.Contains(t, down.ErrorMessage, "does not accept the credentials")
	l.anna.Get("/mcp/tools").Want(200).Equal([]any{})
	broken.Store(false)
	l.anna.Do("POST", "/mcp/servers/"+id+"/reconnect", nil).Want(200)
	require.Equal(t, "connected", l.settled(t, l.anna.Client, id).Status)
	l.ben.Do("DELETE", "/mcp/servers/"+id, nil).Problem(403, "FORBIDDEN")
	l.anna.Do("DELETE", "/mcp/servers/"+id, nil).Want(204)
	l.anna.Get("/mcp/tools").Want(200).Equal([]any{})
	require.Equal(t, "integration.connected integration.disconnected", testdb.Value[string](l.DB,
		"select string_agg(event_type, ' ' order by created_at, event_type) from public.audit_log where organization_id = $1 and metadata ->> 'mcpServerId' = $2", l.anna.OrgID, id))
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from public.audit_log a where a::text like '%secret-of%'"))
}

// Three tries, and an error that says why. The first two failures cost only time.
func TestConnectingIsTriedThreeTimes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	var calls atomic.Int32
	flaky := tools("v2", false, "one")
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= 2 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		flaky.ServeHTTP(w, r)
	}))
	add := func(name, url string) string {
		return l.anna.Do("POST", "/mcp/servers", fields{"name": name, "url": url}).Want(201).String("id")
	}
	first, second := add("Flaky", address), add("Not there", "http://127.0.0.1:1/mcp")
	require.Equal(t, "v2", l.settled(t, l.anna.Client, first).Version)
	gone := l.settled(t, l.anna.Client, second)
	require.Equal(t, []string{"error", "The server could not be reached."}, []string{gone.Status, gone.ErrorMessage})
	require.Equal(t, 3, testdb.Value[int](l.DB, "select tries::int from public.mcp_servers where id = $1", second))

	// What a worker that was killed had in hand, another one takes over.
	stop := worker.Start(t, l.Stack)
	stop()
	third := add("Interrupted", serve(t, tools("1", true, "one")))
	l.DB.Exec("update public.mcp_servers set status = 'connecting', lease_token = gen_random_uuid(), lease_until = clock_timestamp() - interval '1 second', tries = 1 where id = $1", third)
	l.DB.Exec("update private.schedules set run_at = clock_timestamp() where name = 'registry.sweep'")
	require.Equal(t, "connected", l.settled(t, l.anna.Client, third).Status)
}

func TestAddressesAndHeadersAreRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.GitAllowPrivate = false })
	var hits atomic.Int32
	inside := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	port := inside[strings.LastIndex(inside, ":"):]
	for _, url := range []string{inside, "http://localhost" + port, "http://[::1]" + port, "http://[::ffff:127.0.0.1]" + port, "http://0.0.0.0" + port, "http://10.1.2.3/", "http://169.254.169.254/latest/meta-data",
		"http://[fe80::1]/", "http://[64:ff9b::7f00:1]/", "http://100.64.0.1/", "ftp://mcp.example.nl", "https://ann:pw@mcp.example.nl", "file:///etc/passwd", "https://", ""} {
		r := l.anna.Do("POST", "/mcp/servers", fields{"name": "Inside", "url": url})
		require.Equal(t, 400, r.Status, "%s: %s", url, r.Body)
		r.Problem(400, "VALIDATION_ERROR").Field("url")
	}
	many := fields{}
	for i := range 21 {
		many[fmt.Sprintf("X-%d", i)] = "v"
	}
	for _, headers := range []any{fields{"X": "a\r\nHost: evil"}, fields{"X\r\nY": "a"}, fields{"Host": "evil"}, fields{"content-length": "5"}, fields{"Transfer-Encoding": "chunked"}, fields{"Connection": "X"},
		fields{"": "v"}, fields{"a b": "v"}, fields{"X-A": "1", "x-a": "2"}, fields{"X": strings.Repeat("v", 9000)}, many} {
		l.anna.Do("POST", "/mcp/servers", fields{"name": "Tools", "url": "https://mcp.invalid/mcp", "headers": headers}).Problem(400, "VALIDATION_ERROR").Field("headers")
	}
	l.anna.Do("POST", "/mcp/servers", fields{"registryId": "github"}).Problem(400, "VALIDATION_ERROR").Field("url")
	l.anna.Do("POST", "/mcp/servers", fields{"registryId": "none"}).Problem(400, "VALIDATION_ERROR").Field("registryId")
	l.anna.Do("POST", "/mcp/servers", fields{"url": "https://mcp.invalid"}).Problem(400, "VALIDATION_ERROR").Field("name")

	// Each connection checks its address again: a name may lead elsewhere by then. A refused address is not tried again.
	worker.Start(t, l.Stack)
	id := testdb.Value[string](l.DB, "insert into public.mcp_servers (id, organization_id, name, url) values (gen_random_uuid(), $1, 'Inside', $2) returning id::text", l.anna.OrgID, inside)
	l.DB.Exec("select private.enqueue('registry.run', jsonb_build_object('serverId', $1::text), p_queue => 'registry')", id)
	refused := l.settled(t, l.anna.Client, id)
	require.Equal(t, []string{"error", "This address is not one that may be contacted."}, []string{refused.Status, refused.ErrorMessage})
	require.Equal(t, 1, testdb.Value[int](l.DB, "select tries::int from public.mcp_servers where id = $1", id))
	require.Zero(t, hits.Load())
	require.Equal(t, "connecting", l.anna.Do("POST", "/mcp/servers", fields{"registryId": "github", "url": "https://mcp.invalid/mcp"}).Want(201).String("status"))
}

// Without a key of the installation no headers can be kept, and headers of a lost key are not sent.
func TestHeadersNeedTheInstallationsKey(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *config.Config) { c.EncryptionKey = "" })
	r := l.anna.Do("POST", "/mcp/servers", fields{"name": "Tools", "url": "https://mcp.invalid", "headers": fields{"X": "v"}})
	r.Problem(503, "PROVIDER_NOT_CONFIGURED").Field("headers")
	require.Equal(t, "encryption", r.String("details.provider"))
	var hits atomic.Int32
	address := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	id := l.anna.Do("POST", "/mcp/servers", fields{"name": "Tools", "url": address}).Want(201).String("id")
	l.DB.Exec("insert into private.mcp_server_secrets (server_id, sealed) values ($1, 'v1.00000000.xyz')", id)
	worker.Start(t, l.Stack)
	require.Contains(t, l.settled(t, l.anna.Client, id).ErrorMessage, "cannot be opened")
	require.Zero(t, hits.Load())
}

// catalogue is a registry with pages.
type catalogue struct {
	mu      sync.Mutex
	pages   map[string]string // by cursor
	queries []string
}

func (c *catalogue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queries = append(c.queries, r.URL.Path+"?"+r.URL.RawQuery)
	page, ok := c.pages[r.URL.Query().Get("cursor")]
	if !ok || r.URL.Path != "/v0.1/servers" {
		http.Error(w, `{"error": "no"}`, http.StatusInternalServerError)
		return
	}
	_, _ = w.Write([]byte(page))
}

func (c *catalogue) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.queries...)
}

func (c *catalogue) set(pages map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pages, c.queries = pages, nil
}

type item struct {
	ID, Name, Description, Homepage, Vendor string
	DownloadCount                           *int
}

func TestTheRegistryIsSynchronizedEachHour(t *testing.T) {
	t.Parallel()
	c := &catalogue{}
	l := newLab(t, func(cfg *config.Config) { cfg.MCPRegistryMax = 5 }, func(cfg *config.Config) { cfg.MCPRegistryURL = serve(t, c) + "/" })
	one := func(name, more string) string {
		return fmt.Sprintf(`{"server": {"name": %q, "description": "About %s", "version": "1.0.0"%s}, "_meta": {"io.modelcontextprotocol.registry/official": {"status": "active", "isLatest": true}}}`, name, name, more)
	}
	c.set(map[string]string{
		"":         `{"servers": [` + one("io.github.acme/weather", `, "websiteUrl": "https://acme.example", "repository": {"url": "https://github.com/acme/weather"}, "remotes": [{"type": "streamable-http", "url": "https://acme.example/mcp"}, {"type": "sse", "url": "https://acme.example/sse"}]`) + `], "metadata": {"count": 1, "nextCursor": "a/b:1 &x"}}`,
		"a/b:1 &x": `{"servers": [` + one("nl.example/docs", `, "repository": {"url": "https://github.com/example/docs"}`) + `, {"server": {"name": "nl.example/old"}, "_meta": {"io.modelcontextprotocol.registry/official": {"status": "deleted"}}}], "metadata": {"next_cursor": "last"}}`,
		"last":     `{"servers": [` + one("com.c/three", "") + `,` + one("com.c/four\\u0000", "") + `,` + one("com.c/five", "") + `,` + one("com.c/six", "") + `], "metadata": {"nextCursor": null}}`,
	})
	synchronize := func() {
		l.DB.Exec("update private.schedules set run_at = clock_timestamp() where name = 'registry.sync'")
	}
	items := func(path string) []item { return client.JSON[[]item](l.ben.Get(path).Want(200)) }
	require.Len(t, items("/mcp/registry"), 10)
	worker.Start(t, l.Stack)
	synchronize()
	stack.Eventually(t, "the first synchronization", func() bool { return len(items("/mcp/registry?search=About")) > 0 })
	require.Equal(t, []string{"/v0.1/servers?limit=100&version=latest", "/v0.1/servers?cursor=a%2Fb%3A1+%26x&limit=100&version=latest", "/v0.1/servers?cursor=last&limit=100&version=latest"}, c.asked()[:3])
	all := items("/mcp/registry")
	require.Equal(t, "filesystem", all[0].ID)
	require.Equal(t, 1240, *all[0].DownloadCount)
	found := items("/mcp/registry?search=ABOUT")
	require.Equal(t, []item{{ID: "nl.example/docs", Name: "docs", Description: "About nl.example/docs", Homepage: "https://github.com/example/docs", Vendor: "@nl.example"},
		{ID: "com.c/five", Name: "five", Description: "About com.c/five", Vendor: "@com.c"}, {ID: "com.c/three", Name: "three", Description: "About com.c/three", Vendor: "@com.c"},
		{ID: "io.github.acme/weather", Name: "weather", Description: "About io.github.acme/weather", Homepage: "https://acme.example", Vendor: "@io.github.acme"}}, found, "five were read, and one of them has no usable name")
	r := l.ben.Get("/mcp/registry?pageSize=4&page=3").Want(200)
	require.Equal(t, []string{"14", "true"}, []string{r.Header.Get("X-Total-Count"), r.Header.Get("X-Has-More")})
	added := l.anna.Do("POST", "/mcp/servers", fields{"registryId": "io.github.acme/weather"}).Want(201)
	require.Equal(t, []string{"weather", "https://acme.example/mcp", "v1.0.0", "io.github.acme/weather"}, []string{added.String("name"), added.String("url"), added.String("version"), added.String("registryId")})

	// Each kind of failure leaves the stored rows.
	for name, pages := range map[string]map[string]string{
		"Down":            {},
		"NoJSON":          {"": "<html>"},
		"TheSecondPage":   {"": `{"servers": [` + one("com.new/one", "") + `], "metadata": {"nextCursor": "gone"}}`},
		"ACircle":         {"": `{"servers": [` + one("com.new/one", "") + `], "metadata": {"nextCursor": "x"}}`, "x": `{"servers": [], "metadata": {"nextCursor": "x"}}`},
		"ResultsOfOthers": {"": `{"results": [{"name": "com.new/one"}]}`},
	} {
		c.set(pages)
		synchronize()
		stack.Eventually(t, name, func() bool { return len(c.asked()) >= len(pages) && len(c.asked()) > 0 })
		stack.Eventually(t, name+" has ended", func() bool {
			return testdb.Value[bool](l.DB, "select not exists (select from jobs.gue_jobs where queue = 'registry' and convert_from(args, 'UTF8') like '%sync%')")
		})
		require.Len(t, items("/mcp/registry?search=About"), 4, name)
	}
	// What the registry has dropped goes with the next success; the server of the organization stays.
	c.set(map[string]string{"": `{"servers": [` + one("nl.example/docs", "") + `], "metadata": {}}`})
	synchronize()
	stack.Eventually(t, "the next synchronization", func() bool { return len(items("/mcp/registry?search=About")) == 1 })
	require.Empty(t, state(l.anna.Client, added.String("id")).RegistryID)
	require.Equal(t, "weather", state(l.anna.Client, added.String("id")).Name)
}

// Without MCP_REGISTRY_URL nothing is asked.
func TestWithoutARegistryTheSeedsStand(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.DB.Exec("update private.schedules set run_at = clock_timestamp() where name = 'registry.sync'")
	stack.Eventually(t, "the job of the synchronization", func() bool {
		return testdb.Value[bool](l.DB, "select last_run_at is not null from private.schedules where name = 'registry.sync'") &&
			testdb.Value[bool](l.DB, "select not exists (select from jobs.gue_jobs where queue = 'registry')")
	})
	var all []json.RawMessage
	l.ben.Get("/mcp/registry").Want(200).Into(&all)
	require.Len(t, all, 10)
	l.As("").Get("/mcp/registry").Problem(401, "UNAUTHENTICATED")
}
