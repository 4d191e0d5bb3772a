package frontend

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/browser"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

var packed struct {
	sync.Mutex
	page []byte
}

// buildPage compiles the page in strict mode and packs it, once for all tests.
func buildPage(t *testing.T) []byte {
	t.Helper()
	packed.Lock()
	defer packed.Unlock()
	if packed.page != nil {
		return packed.page
	}
	folder := workshop(t)
	write(t, filepath.Join(folder, "page.tsx"), read(t, "page/page.tsx"))
	run(t, folder, nil, filepath.Join(modules(t), "typescript", "bin", "tsc"), "--noEmit", "--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler",
		"--jsx", "react-jsx", "--skipLibCheck", "page.tsx")
	packed.page = bundle(t, folder, "page.tsx", "--minify", "--jsx=automatic", `--define:process.env.NODE_ENV="production"`)
	return packed.page
}

// front is what stands before the servers in production: it serves the page, and passes /api on with upgrades, to one server after the other.
type front struct {
	*httptest.Server
	mu        sync.Mutex
	servers   []*stack.Stack
	turn      int
	conns     []net.Conn
	refreshes atomic.Int32
}

func newFront(t *testing.T, page []byte, servers ...*stack.Stack) *front {
	f := &front{servers: servers}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.turn++
		target, err := url.Parse(f.servers[f.turn%len(f.servers)].BaseURL)
		if err == nil {
			r.SetURL(target)
			r.Out.Host = r.In.Host // a page may open sockets to its own host
		}
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/auth/refresh" {
			f.refreshes.Add(1)
		}
		proxy.ServeHTTP(w, r)
	})
	mux.HandleFunc("/page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!doctype html><title>Kijko</title><div id="root"></div><script type="module" src="/page.js"></script>`))
	})
	f.Server = httptest.NewUnstartedServer(mux)
	f.Server.Listener = &listener{Listener: f.Server.Listener, front: f}
	f.Start()
	t.Cleanup(func() {
		f.cut()
		f.Close()
	})
	return f
}

// listener remembers the connections, sockets among them.
type listener struct {
	net.Listener
	front *front
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	l.front.mu.Lock()
	defer l.front.mu.Unlock()
	l.front.conns = append(l.front.conns, conn)
	return conn, err
}

// cut ends all connections, as a network that is lost does.
func (f *front) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	f.conns = nil
}

// replace puts a new server in the place of one that was stopped.
func (f *front) replace(at int, s *stack.Stack) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers[at] = s
}

// page is a browser at the front.
type page struct {
	t   *testing.T
	ctx context.Context
}

func open(t *testing.T, f *front) page {
	p := page{t, browser.New(t)}
	p.do(chromedp.Navigate(f.URL))
	p.eval(`window.neverReloaded = true`)
	return p
}

func (p page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, actions...))
}

func (p page) eval(script string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Evaluate[any](script))
	require.NoError(p.t, err, script)
}

// shows waits until the element has the text.
func (p page) shows(id, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf(`document.getElementById(%q)?.innerText.includes(%q)`, id, text))
}

func (p page) until(expression string) {
	p.t.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(45*time.Second)))
	if err != nil {
		text, _ := chromedp.Run(p.ctx, chromedp.Text("body"))
		require.NoError(p.t, err, "%s; the page shows:\n%s", expression, text)
	}
}

func (p page) text(id string) string {
	p.t.Helper()
	text, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.getElementById(%q).innerText`, id)))
	require.NoError(p.t, err)
	return text
}

func (p page) click(id string) { p.t.Helper(); p.do(chromedp.Click("#" + id)) }

func (p page) signIn(email, password, button string) {
	p.t.Helper()
	p.do(chromedp.SendKeys("#email", email), chromedp.SendKeys("#password", password), chromedp.Click("#"+button))
}

func TestAPageWalksTheProduct(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("It adds ", "two numbers.") })
	s := stack.New(t, stack.Models(models), func(c *config.Config) { c.Debug = true })
	worker.Start(t, s)
	f := newFront(t, buildPage(t), s)
	p := open(t, f)

	// Anna signs up. What she typed wrong is told in the server's words.
	p.signIn("anna@example.org", "short", "signup")
	p.shows("error", "WEAK_PASSWORD")
	p.do(chromedp.SendKeys("#password", "-no-more"), chromedp.Click("#signup"))
	p.until(`document.getElementById("projects")`)
	p.shows("status", "connected")

	// A project, with a file that shows how much of it has been sent, and its ingestion live.
	p.do(chromedp.SendKeys("#name", "Shop"), chromedp.Click("#create"))
	p.shows("projects", fmt.Sprintf("Shop since %d", time.Now().UTC().Year()))
	p.do(chromedp.Click("#projects li"))
	file := filepath.Join(t.TempDir(), "add.js")
	require.NoError(t, os.WriteFile(file, []byte("export const add = (a, b) => a + b;\n"), 0o600))
	p.do(chromedp.SetUploadFiles("#file", []string{file}))
	p.shows("sent", "100 %, 1 stored")
	p.click("ingest")
	p.shows("result", fmt.Sprintf("Shop active with 1 file, changed in %d", time.Now().UTC().Year()))
	p.shows("socket", "resting")
	require.Contains(t, p.text("progress"), "indexing")

	// Answers come piece by piece.
	p.click("run")
	p.shows("output", "It adds two numbers. completed")
	p.click("ask")
	p.shows("answer", fmt.Sprintf("It adds two numbers. at %d", time.Now().UTC().Year()))

	p.click("team")
	p.shows("members", "anna@example.org owner since")
	p.click("invite")
	p.shows("error", "PLAN_UPGRADE_REQUIRED")
	p.click("billing")
	p.shows("plan", fmt.Sprintf("free since %d", time.Now().UTC().Year()))
	require.Equal(t, 1, strings.Count(p.text("result"), "Shop"), "a completion is told once")

	// After signing in again the first list needs two round trips: the second begins when the first has ended, and nothing lies between them.
	p.click("signout")
	p.until(`document.getElementById("signin")`)
	p.eval(`performance.clearResourceTimings()`)
	p.signIn("anna@example.org", "short-no-more", "signin")
	p.shows("projects", "Shop")
	trips, err := chromedp.Run(p.ctx, chromedp.Evaluate[float64](`(() => {
		const calls = performance.getEntriesByType("resource").filter((e) => e.name.includes("/api/"));
		const list = calls.find((e) => e.name.includes("/projects?"));
		return 1 + calls.filter((e) => e.responseEnd <= list.startTime).length;
	})()`))
	require.NoError(t, err)
	t.Logf("the first list after sign-in is answered by round trip %v", trips)
	require.LessOrEqual(t, trips, 2.0)
	p.until(`window.neverReloaded`)
}

func TestAPageGoesOnThroughLosses(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	// With tokens of five minutes the server asks each socket for a new one at once.
	start := func() *stack.Stack { return stack.On(t, db, func(c *config.Config) { c.AccessTTL = 5 * time.Minute }) }
	first, second := start(), start()
	f := newFront(t, buildPage(t), first, second)
	anna := first.SignUp("Anna")
	first.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	stan := first.SignUp("Stan")
	stan.Do("POST", "/projects", map[string]any{"name": "Theirs", "privacy": "private"}).Want(201)
	p := open(t, f)
	p.signIn(anna.Email, anna.Password, "signin")
	p.shows("status", "connected")
	told := 0
	tell := func(by *stack.Stack, times int) {
		t.Helper()
		for range times {
			told++
			by.As(anna.Token).Do("POST", "/notifications", map[string]any{"type": "system_update", "title": fmt.Sprintf("News %d.", told)}).Want(201)
		}
	}
	// heard waits until every notification is on the page, and none twice.
	heard := func() {
		t.Helper()
		p.shows("news", fmt.Sprintf("News %d.", told))
		var want []string
		for n := 1; n <= told; n++ {
			want = append(want, fmt.Sprintf("News %d.", n))
		}
		// The alert about the sign-in may have come first.
		got := slices.DeleteFunc(strings.Split(strings.TrimSpace(p.text("news")), "\n"), func(line string) bool { return !strings.HasPrefix(line, "News ") })
		require.Equal(t, want, got)
	}
	tell(first, 3)
	heard()
	stack.Eventually(t, "the socket renews its token", func() bool { return f.refreshes.Load() == 1 })

	t.Run("ItsSocket", func(t *testing.T) {
		f.cut()
		tell(second, 5)
		p.until(`document.getElementById("status").innerText === "connected"`)
		heard()
	})
	t.Run("ItsToken", func(t *testing.T) {
		before := f.refreshes.Load()
		p.eval(`localStorage.setItem("access_token", "expired")`)
		f.cut() // the socket needs a new token as well
		p.click("reload")
		p.until(`localStorage.getItem("access_token") !== "expired"`)
		p.until(`document.getElementById("projects")`)
		require.Empty(t, p.text("error"))
		tell(first, 1)
		heard()
		require.Equal(t, before+1, f.refreshes.Load(), "five calls and a socket, one refresh")
	})
	t.Run("ItsServersOneAfterTheOther", func(t *testing.T) {
		p.click("many")
		p.until(`document.title.startsWith("3 of")`)
		first.Close()
		tell(second, 2)
		third := start()
		f.replace(0, third)
		tell(third, 2)
		second.Close()
		tell(third, 2)
		f.replace(1, start())
		tell(third, 1)
		p.until(`document.title === "20 of 20"`)
		heard()
		p.shows("status", "connected")
		p.shows("projects", "Number 20 ")
		require.Empty(t, p.text("error"))
		require.EqualValues(t, 2, f.refreshes.Load(), "no socket asks for a token over and over")
		require.Equal(t, 20, testdb.Value[int](db, "select count(*)::int from public.projects where organization_id = $1", anna.OrgID), "nothing is lost or doubled")
	})
	t.Run("ASocketThatTheServerRefusesRests", func(t *testing.T) {
		for name, c := range map[string]struct {
			project string
			code    string
			status  int
		}{
			"Unknown":   {uuid.NewString(), "NOT_FOUND", 4004},
			"NoUUID":    {"none", "NOT_FOUND", 4004},
			"Strangers": {testdb.Value[string](db, "select id::text from public.projects where organization_id = $1 limit 1", stan.OrgID), "NOT_FOUND", 4004},
		} {
			t.Run(name, func(t *testing.T) {
				got, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](fmt.Sprintf(`ingestionWebSocket.connect(%q).then(() => "hello", (e) => e.code + " " + e.status)`, c.project), chromedp.EvalAwaitPromise))
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("%s %d", c.code, c.status), got)
			})
		}
	})
	t.Run("ItsSession", func(t *testing.T) {
		db.Exec("update private.sessions set revoked_at = now(), revoked_reason = 'revoked' where user_id = $1", anna.ID)
		p.until(`document.getElementById("status").innerText === "closed"`)
		p.click("reload")
		p.until(`document.getElementById("signin")`)
	})
	p.until(`window.neverReloaded`)
}
