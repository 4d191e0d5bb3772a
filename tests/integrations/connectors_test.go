package integrations

import (
	"bytes"
	"context"
	"encoding/base64"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// tools is an MCP server of the SDK with two tools.
func tools() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "tools", Version: "1"}, nil)
	type nothing struct{}
	for _, name := range []string{"one", "two"} {
		mcp.AddTool(server, &mcp.Tool{Name: name}, func(context.Context, *mcp.CallToolRequest, nothing) (*mcp.CallToolResult, nothing, error) {
			return &mcp.CallToolResult{}, nothing{}, nil
		})
	}
	return server
}

func streamable(stateless bool) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return tools() }, &mcp.StreamableHTTPOptions{Stateless: stateless})
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

// guarded admits only requests with the header.
func guarded(name, value string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(name) != value {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// through leads through n redirects.
func through(n int, to http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if len(r.URL.Path)-1 >= n {
			to.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
	})
	return mux
}

func redirectTo(url string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusTemporaryRedirect) })
}

func TestShakingHandsWithMCPServers(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		// A server notices that the caller has gone only when it has read the body.
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
				return
			}
		}
	})
	short := map[string]any{"timeout": 1000}
	for _, c := range []struct {
		name    string
		url     string
		body    map[string]any
		tools   float64
		failure string
	}{
		{"TheNewestProtocol", serve(t, streamable(true)), nil, 2, ""},
		{"SessionsOfOlderProtocols", serve(t, streamable(false)), nil, 2, ""},
		{"TheStreamOf2024", serve(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return tools() }, nil)), nil, 2, ""},
		{"WithAKeyAsBearer", serve(t, guarded("Authorization", "Bearer k", streamable(true))), map[string]any{"authType": "api_key", "credentials": map[string]any{"apiKey": "k"}}, 2, ""},
		{"WithAKeyInAHeader", serve(t, guarded("X-Key", "k", streamable(true))), map[string]any{"authType": "api_key", "credentials": map[string]any{"apiKey": "k", "headerName": "x-key"}}, 2, ""},
		{"WithAToken", serve(t, guarded("Authorization", "Bearer k", streamable(true))), map[string]any{"authType": "oauth", "credentials": map[string]any{"apiKey": "k"}}, 2, ""},
		{"WithAPassword", serve(t, guarded("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("ann:pw")), streamable(true))),
			map[string]any{"authType": "basic", "credentials": map[string]any{"username": "ann", "password": "pw"}}, 2, ""},
		{"WithAHeader", serve(t, guarded("X-Custom", "v", streamable(true))), map[string]any{"config": map[string]any{"customHeaders": map[string]any{"x-custom": "v"}}}, 2, ""},
		{"AfterThreeRedirects", serve(t, through(3, streamable(true))), nil, 2, ""},
		{"AfterFourRedirects", serve(t, through(4, streamable(true))), nil, 0, "redirects too often"},
		{"WithoutTheKey", serve(t, guarded("Authorization", "Bearer k", streamable(true))), nil, 0, "does not accept the credentials"},
		{"TheKeyIsForTheServerAlone", serve(t, redirectTo(serve(t, guarded("X-Custom", "v", streamable(true))))),
			map[string]any{"config": map[string]any{"customHeaders": map[string]any{"x-custom": "v"}}}, 0, "does not accept the credentials"},
		{"HTML", serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) })), nil, 0, "does not speak MCP"},
		{"Down", serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) })), nil, 0, "answered Bad Gateway"},
		{"NotThere", "http://127.0.0.1:1/mcp", nil, 0, "could not be reached"},
		{"NoSuchName", "http://nowhere.invalid/mcp", nil, 0, "could not be reached"},
		{"Slow", serve(t, hang), map[string]any{"config": short}, 0, "did not answer in time"},
		{"Endless", serve(t, endless), map[string]any{"config": short}, 0, ""},
		{"ToMetadataOfTheCloud", "http://169.254.169.254/latest", nil, 0, "may be contacted"},
		{"RedirectedToMetadataOfTheCloud", serve(t, redirectTo("http://169.254.169.254/latest")), nil, 0, "may not be contacted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			body := map[string]any{"remoteMcpServerUrl": c.url}
			for name, value := range c.body {
				body[name] = value
			}
			r := o.anna.In(t).Do("POST", "/integrations/connectors/test", body).Want(200)
			require.Equal(t, c.tools > 0, r.Value("success"), "%s", r.Body)
			if c.tools > 0 {
				require.Equal(t, c.tools, r.Value("toolCount"))
				require.NotNil(t, r.Value("latencyMs"))
			} else {
				require.Contains(t, r.String("error"), c.failure)
			}
		})
	}
	for _, p := range []*client.Person{o.ben, o.vera} {
		p.Do("POST", "/integrations/connectors/test", map[string]any{"remoteMcpServerUrl": "http://127.0.0.1:1"}).Problem(403, "FORBIDDEN")
	}
}

func TestAddressesOfOurOwnNetworkAreNotContacted(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *config.Config) { c.GitAllowPrivate = false })
	hits := 0
	var mu sync.Mutex
	inside := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		hits++
	}))
	port := inside[strings.LastIndex(inside, ":"):]
	for _, url := range []string{inside, "http://localhost" + port, "http://[::1]" + port, "http://[::ffff:127.0.0.1]" + port, "http://0.0.0.0" + port, "http://10.1.2.3/",
		"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[64:ff9b::7f00:1]/", "http://100.64.0.1/", "http://2130706433/", "http://0x7f000001" + port + "/"} {
		r := o.anna.Do("POST", "/integrations/connectors/test", map[string]any{"remoteMcpServerUrl": url}).Want(200)
		require.Equal(t, false, r.Value("success"), url)
		if !strings.Contains(url, "2130706433") && !strings.Contains(url, "0x7f") { // when stored, these two count as names, which no resolver need know
			o.anna.Do("POST", "/integrations/connectors", map[string]any{"name": "Inside", "remoteMcpServerUrl": url}).Problem(400, "VALIDATION_ERROR").Field("remoteMcpServerUrl")
			o.anna.Do("POST", "/integrations/webhooks", map[string]any{"name": "Inside", "endpointUrl": strings.Replace(url, "http:", "https:", 1), "secret": strings.Repeat("s", 16),
				"events": []string{"context.created"}}).Problem(400, "VALIDATION_ERROR").Field("endpointUrl")
		}
	}
	// Each connection checks its address again: the rule may be newer than the row, and a name may resolve differently later.
	o.DB.Exec(`insert into public.webhooks (id, organization_id, name, endpoint_url, secret_end, events) values (gen_random_uuid(), $1, 'Inside', $2, '1234', '{context.created}')`,
		o.anna.OrgID, strings.Replace(inside, "http:", "https:", 1))
	id := testdb.Value[string](o.DB, "select id::text from public.webhooks where name = 'Inside'")
	require.Equal(t, "failed", o.anna.Do("POST", "/integrations/webhooks/"+id+"/test", nil).Want(200).String("status"))
	require.Zero(t, hits)
}

type connector struct {
	ID, Name, Status, AuthType, Category, RemoteMcpServerURL string
	IconURL                                                  *string
	LastUsedAt                                               *string
	Config                                                   map[string]any
}

func TestConnectors(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	const secret = "a-header-that-is-a-secret"
	server := serve(t, guarded("X-Secret", secret, streamable(true)))
	write := map[string]any{"name": "  Tools  ", "description": "", "remoteMcpServerUrl": server, "category": "analytics", "config": map[string]any{
		"timeout": 5000, "retryPolicy": map[string]any{"maxRetries": 2}, "customHeaders": map[string]any{"X-Secret": secret}, "webhookUrl": "https://hooks.example.nl/x"}}
	id := ""

	t.Run("Refusals", func(t *testing.T) {
		for _, c := range []struct {
			field string
			with  map[string]any
		}{
			{"name", map[string]any{"name": "   "}},
			{"name", map[string]any{"name": strings.Repeat("x", 51)}},
			{"remoteMcpServerUrl", map[string]any{"remoteMcpServerUrl": "ftp://example.nl"}},
			{"remoteMcpServerUrl", map[string]any{"remoteMcpServerUrl": "http://ann:pw@example.nl"}},
			{"remoteMcpServerUrl", map[string]any{"remoteMcpServerUrl": "http://"}},
			{"iconUrl", map[string]any{"iconUrl": "http://example.nl/i.png"}},
			{"iconUrl", map[string]any{"iconUrl": "data:image/svg+xml;base64,PHN2Zz4="}},
			{"config.webhookUrl", map[string]any{"config": map[string]any{"webhookUrl": "http://example.nl"}}},
			{"config.customHeaders", map[string]any{"config": map[string]any{"customHeaders": map[string]any{"Connection": "close"}}}},
			{"config.customHeaders", map[string]any{"config": map[string]any{"customHeaders": map[string]any{"transfer-encoding": "chunked"}}}},
			{"config.customHeaders", map[string]any{"config": map[string]any{"customHeaders": map[string]any{"a b": "v"}}}},
			{"config.customHeaders", map[string]any{"config": map[string]any{"customHeaders": map[string]any{"X": "a\r\nY: b"}}}},
			{"config.customHeaders", map[string]any{"config": map[string]any{"customHeaders": map[string]any{"X-A": "1", "x-a": "2"}}}},
			{"config.customHeaders", map[string]any{"config": map[string]any{"customHeaders": map[string]any{"X-New": "••••"}}}},
			{"config.timeout", map[string]any{"config": map[string]any{"timeout": 999}}},
			{"config.retryPolicy.maxRetries", map[string]any{"config": map[string]any{"retryPolicy": map[string]any{"maxRetries": 11}}}},
			{"authType", map[string]any{"authType": "magic"}},
			{"credentials.headerName", map[string]any{"authType": "api_key", "credentials": map[string]any{"apiKey": "k", "headerName": "Host"}}},
		} {
			body := map[string]any{"name": "Tools", "remoteMcpServerUrl": server}
			for name, value := range c.with {
				body[name] = value
			}
			r := o.anna.In(t).Do("POST", "/integrations/connectors", body).Problem(400, "VALIDATION_ERROR")
			require.Contains(t, r.String("field"), strings.Split(c.field, ".")[0], "%v: %s", c.with, r.Body)
		}
		for _, p := range []*client.Person{o.ben, o.vera} {
			p.In(t).Do("POST", "/integrations/connectors", write).Problem(403, "FORBIDDEN")
		}
		require.Empty(t, client.JSON[[]any](o.anna.In(t).Get("/integrations/connectors").Want(200)))
	})
	t.Run("OneIsAddedAndTested", func(t *testing.T) {
		keyed := o.anna.In(t).With("Idempotency-Key", "one")
		r := keyed.Do("POST", "/integrations/connectors", write).Want(201)
		require.Equal(t, string(r.Body), string(keyed.Do("POST", "/integrations/connectors", write).Want(201).Body))
		c := client.JSON[connector](r)
		id = c.ID
		require.Equal(t, []string{"Tools", "active", "none", "analytics"}, []string{c.Name, c.Status, c.AuthType, c.Category})
		require.NotNil(t, c.LastUsedAt)
		require.Nil(t, r.Value("description"))
		require.Equal(t, "••••", c.Config["customHeaders"].(map[string]any)["X-Secret"])
		require.Equal(t, "connected", connectionOf(o.vera, id))
		require.Empty(t, client.JSON[[]any](o.stan.In(t).Get("/integrations/connectors").Want(200)))
		require.Equal(t, "info", client.JSON[struct{ Logs []struct{ Level string } }](o.vera.In(t).Get("/integrations/" + id + "/logs").Want(200)).Logs[0].Level)
		require.Len(t, o.vera.In(t).Get("/integrations/"+id+"/stats").Want(200).Value("performance.tools"), 2)
	})
	t.Run("TheMaskKeepsTheValue", func(t *testing.T) {
		path := "/integrations/connectors/" + id
		r := o.anna.In(t).Do("PATCH", path, map[string]any{"name": "Renamed", "config": map[string]any{"customHeaders": map[string]any{"X-Secret": "••••"}}}).Want(200)
		require.Equal(t, "active", r.String("status"))
		require.Equal(t, 5000.0, r.Value("config.timeout"), "absent members stay")
		require.Equal(t, "active", o.anna.In(t).Do("PUT", path, map[string]any{"description": "Two of them"}).Want(200).String("status"), "and so do all headers")
		// A form that has only the masked key tests the key stored for this address.
		test := map[string]any{"remoteMcpServerUrl": server, "config": map[string]any{"customHeaders": map[string]any{"X-Secret": "••••"}}}
		require.Equal(t, true, o.anna.In(t).Do("POST", "/integrations/connectors/test", test).Want(200).Value("success"))
		test["remoteMcpServerUrl"] = server + "/elsewhere"
		o.anna.In(t).Do("POST", "/integrations/connectors/test", test).Problem(400, "VALIDATION_ERROR").Field("config.customHeaders")
		r = o.anna.In(t).Do("PATCH", path, map[string]any{"config": map[string]any{"customHeaders": map[string]any{"X-Secret": "another one"}}}).Want(200)
		require.Equal(t, "error", r.String("status"), "saving succeeds either way")
		require.Equal(t, "disconnected", connectionOf(o.vera, id))
		r = o.anna.In(t).Do("PATCH", path, map[string]any{"config": map[string]any{"customHeaders": nil, "timeout": nil}}).Want(200)
		require.Equal(t, "error", r.String("status"))
		require.Nil(t, r.Value("config.timeout"))
		require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from private.integration_secrets"))
		o.anna.In(t).Do("PATCH", path, map[string]any{"config": map[string]any{"customHeaders": map[string]any{"X-Secret": secret}}}).Want(200)
		for _, p := range []*client.Person{o.ben, o.vera} {
			p.In(t).Do("PATCH", path, map[string]any{"name": "Mine"}).Problem(403, "FORBIDDEN")
			p.In(t).Do("DELETE", path, nil).Problem(403, "FORBIDDEN")
		}
		o.stan.In(t).Do("PATCH", path, map[string]any{"name": "Mine"}).Problem(404, "CONNECTOR_NOT_FOUND")
	})
	t.Run("SecretsAreNowhere", func(t *testing.T) {
		text := testdb.Value[string](o.DB, `select coalesce(string_agg(s, ' '), '') from (
			select to_jsonb(x)::text from private.integration_secrets x union all select to_jsonb(x)::text from public.connectors x
			union all select to_jsonb(x)::text from public.audit_log x union all select to_jsonb(x)::text from public.events x
			union all select to_jsonb(x)::text from private.integration_logs x union all select to_jsonb(x)::text from private.idempotency_keys x) s(s)`)
		require.NotContains(t, text, secret)
	})
	t.Run("AnIconIsDrawnAgain", func(t *testing.T) {
		var raw bytes.Buffer
		require.NoError(t, png.Encode(&raw, image.NewRGBA(image.Rect(0, 0, 300, 200))))
		path := "/integrations/connectors/" + id + "/icon"
		dataURL := "data:image/png;base64," + base64.StdEncoding.EncodeToString(append(raw.Bytes(), "<script>"...))
		icon := o.anna.In(t).Do("POST", path, map[string]any{"dataUrl": dataURL}).Want(200).String("iconUrl")
		require.True(t, strings.HasPrefix(icon, "data:image/png;base64,"))
		drawn, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(icon, "data:image/png;base64,"))
		require.NoError(t, err)
		config, err := png.DecodeConfig(bytes.NewReader(drawn))
		require.NoError(t, err)
		require.Equal(t, 96, config.Width)
		require.NotContains(t, string(drawn), "script")
		require.Equal(t, icon, *client.JSON[connector](o.anna.In(t).Do("PATCH", "/integrations/connectors/"+id, map[string]any{"iconUrl": icon}).Want(200)).IconURL, "what the route returned is taken")

		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		part, err := w.CreateFormFile("file", "icon.png")
		require.NoError(t, err)
		_, err = part.Write(raw.Bytes())
		require.NoError(t, err)
		require.NoError(t, w.Close())
		o.anna.In(t).With("Content-Type", w.FormDataContentType()).Do("POST", path, form.Bytes()).Want(200)

		o.anna.In(t).Do("POST", path, map[string]any{"dataUrl": "data:image/gif;base64," + base64.StdEncoding.EncodeToString([]byte("GIF89a"))}).Problem(400, "INVALID_FILE_TYPE").Field("file")
		big := "data:image/png;base64," + base64.StdEncoding.EncodeToString(append(raw.Bytes(), bytes.Repeat([]byte("x"), 1<<20)...))
		o.anna.In(t).Do("POST", path, map[string]any{"dataUrl": big}).Problem(400, "FILE_TOO_LARGE").Field("file")
		o.anna.In(t).Do("POST", path, map[string]any{"dataUrl": "nonsense"}).Problem(400, "VALIDATION_ERROR").Field("file")
		o.anna.In(t).Do("POST", path, "no json").Problem(400, "VALIDATION_ERROR").Field("file")
		o.ben.In(t).Do("POST", path, map[string]any{"dataUrl": dataURL}).Problem(403, "FORBIDDEN")
		o.stan.In(t).Do("POST", path, map[string]any{"dataUrl": dataURL}).Problem(404, "CONNECTOR_NOT_FOUND")
		o.anna.In(t).Do("PATCH", "/integrations/connectors/"+id, map[string]any{"iconUrl": nil}).Want(200)
	})
	t.Run("FiftyAreEnough", func(t *testing.T) {
		o.DB.Exec(`insert into public.connectors (id, organization_id, name, remote_mcp_server_url, status)
			select gen_random_uuid(), $1, 'More ' || n, 'https://mcp.invalid', 'error' from generate_series(1, 49) n`, o.anna.OrgID)
		o.anna.In(t).Do("POST", "/integrations/connectors", write).Problem(409, "TOO_MANY_CONNECTORS")
		o.anna.In(t).Do("DELETE", "/integrations/connectors/"+id, nil).Want(204)
		o.anna.In(t).Do("DELETE", "/integrations/connectors/"+id, nil).Problem(404, "CONNECTOR_NOT_FOUND")
		require.Equal(t, 49, len(client.JSON[[]any](o.vera.In(t).Get("/integrations/connectors").Want(200))))
		status := make(chan int, 4)
		for range 4 {
			go func() {
				r, err := o.anna.Try("POST", "/integrations/connectors", write)
				if err != nil {
					status <- 0
					return
				}
				status <- r.Status
			}()
		}
		made := 0
		for range 4 {
			if <-status == 201 {
				made++
			}
		}
		require.Equal(t, 1, made, "of several at once")
	})
}

func TestAnInstallationWithoutAKeyKeepsNoSecrets(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options, stack.Option(func(c *config.Config) { c.EncryptionKey = "" }))
	o.anna.Do("POST", "/integrations/gitlab/connect", nil).Problem(503, "PROVIDER_NOT_CONFIGURED")
	o.anna.Do("POST", "/integrations/connectors", map[string]any{"name": "x", "remoteMcpServerUrl": serve(t, streamable(true)),
		"config": map[string]any{"customHeaders": map[string]any{"X": "v"}}}).Problem(503, "PROVIDER_NOT_CONFIGURED")
	o.anna.Do("POST", "/integrations/connectors", map[string]any{"name": "x", "remoteMcpServerUrl": serve(t, streamable(true))}).Want(201)
	o.anna.Do("POST", "/integrations/webhooks", map[string]any{"name": "x", "endpointUrl": "https://hooks.invalid/", "secret": strings.Repeat("s", 16),
		"events": []string{"context.created"}}).Problem(503, "PROVIDER_NOT_CONFIGURED")
}
