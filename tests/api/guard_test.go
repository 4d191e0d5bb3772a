package api

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"kijko/server/auth"
	"kijko/server/config"
	"kijko/tests/browser"
	"kijko/tests/stack"
)

// fetched sends a request without a client's checks, and gives status, headers and body.
func fetched(t *testing.T, method, url string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res, string(body)
}

func TestMetricsHaveAListenerOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.MetricsAddr = "127.0.0.1:0" })
	s.SignUp("Ann")
	res, body := fetched(t, "GET", s.App.MetricsURL())
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"))
	require.True(t, strings.Contains(body, `kijko_http_requests_total{operation="signUp",status="201"}`), "they are those of the requests")
	res, _ = fetched(t, "GET", s.App.MetricsURL()+"/../health")
	require.Equal(t, http.StatusNotFound, res.StatusCode, "nothing else is there")
	res, _ = fetched(t, "POST", s.App.MetricsURL())
	require.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
	res, _ = fetched(t, "GET", s.App.URL()+"/metrics")
	require.Equal(t, http.StatusNotFound, res.StatusCode, "and the public one does not know them")
}

// Paths that are no operations of the document.
func TestEveryAnswerSaysNosniff(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.PublicURL = "https://kijko.test" })
	p := s.SignUp("Ann")
	guarded := func(what string, header http.Header) {
		t.Helper()
		require.Equal(t, []string{"nosniff"}, header.Values("X-Content-Type-Options"), what)
		require.Equal(t, "max-age=31536000", header.Get("Strict-Transport-Security"), what)
	}
	for _, path := range []string{"/unsubscribe", "/", "/docs/realtime", "/docs/graph", "/socket.io/?EIO=4&transport=polling", "/socket.io/?EIO=3", "/api/v1/ws",
		"/webhooks/reflex/none", "/.well-known/jwks.json", "/health/ready", "/nothing"} {
		res, _ := fetched(t, "GET", s.App.URL()+path)
		guarded(path, res.Header)
	}
	for _, broken := range []string{"garbage\r\n\r\n", "GET / HTTP/1.1\r\nHost: kijko.test\r\nContent-Length: many\r\n\r\n", "POST /api/v1/auth/login HTTP/1.1\r\nHost: kijko.test\r\n" +
		"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n"} {
		conn, err := net.Dial("tcp", s.App.URL()[len("http://"):])
		require.NoError(t, err)
		_, err = conn.Write([]byte(broken))
		require.NoError(t, err)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, broken)
		guarded(broken, res.Header)
		require.NoError(t, res.Body.Close())
		require.NoError(t, conn.Close())
	}
	address := "ws" + s.App.URL()[len("http"):] + "/api/v1/ws?token=" + p.Token
	conn, res, err := websocket.DefaultDialer.DialContext(t.Context(), address, nil)
	if err == nil {
		_ = conn.Close()
	}
	require.NotNil(t, res, err)
	guarded("an upgrade", res.Header)
	_, res, err = websocket.DefaultDialer.DialContext(t.Context(), address, http.Header{"Origin": {"https://evil.example"}})
	require.Error(t, err)
	guarded("a refused upgrade", res.Header)
}

// The page at /docs in a browser, as in production: under its content policy, which forbids everything that is not the page's own.
func TestDocsPage(t *testing.T) {
	t.Parallel()
	key, err := auth.GenerateKey()
	require.NoError(t, err)
	s := stack.New(t, func(c *config.Config) { c.Debug, c.JWTPrivateKey = false, key })
	p := s.SignUp("Ann")
	res, _ := fetched(t, "GET", s.App.URL()+"/docs")
	policy := res.Header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'; ")
	require.Contains(t, policy, "frame-ancestors 'none'")
	require.NotContains(t, policy, "unsafe")

	ctx := browser.New(t)
	do := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		require.NoError(t, chromedp.Do(ctx, actions...))
	}
	shows := func(expression string) {
		t.Helper()
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second)))
		if err != nil {
			text, _ := chromedp.Run(ctx, chromedp.Text("body"))
			require.NoError(t, err, "%s; the page shows:\n%s", expression, text[:min(len(text), 3000)])
		}
	}
	do(chromedp.Navigate(s.App.URL() + "/docs"))
	shows(`document.querySelectorAll(".opblock").length > 100`)
	do(chromedp.Click(".btn.authorize"), chromedp.SendKeys(`.auth-container input`, p.Token), chromedp.Click(`.auth-container button[type="submit"]`),
		chromedp.Click(".btn-done"))
	do(chromedp.Click("#operations-identity-getMe .opblock-summary-control"))
	do(chromedp.Click("#operations-identity-getMe .execute"))
	shows(`document.querySelector("#operations-identity-getMe .live-responses-table tbody .response-col_status")?.innerText.startsWith("200")`)
	shows(`document.querySelector("#operations-identity-getMe .live-responses-table").innerText.includes("` + p.Email + `")`)
	kept, err := chromedp.Run(ctx, chromedp.Evaluate[string](`JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie`))
	require.NoError(t, err)
	require.NotContains(t, kept, p.Token[:20], "the token is kept nowhere")
	violations := `(() => {
		const o = new ReportingObserver(() => {}, {types: ["csp-violation"], buffered: true})
		o.observe()
		return JSON.stringify(o.takeRecords().map(r => r.body))
	})()`
	held, err := chromedp.Run(ctx, chromedp.Evaluate[string](violations))
	require.NoError(t, err)
	require.Equal(t, "[]", held, "the page is held up by its own policy")
	// The same query does find a matching element.
	_, err = chromedp.Run(ctx, chromedp.Evaluate[string](`const s = document.createElement("script"); s.text = "window.injected = true"; document.body.append(s); ""`))
	require.NoError(t, err)
	held, err = chromedp.Run(ctx, chromedp.Evaluate[string](`window.injected + `+violations))
	require.NoError(t, err)
	require.Contains(t, held, "undefined")
	require.Contains(t, held, "script-src-elem")
}
