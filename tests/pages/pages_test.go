// Package pages walks the server's pages as a person does, in a headless Chromium against the development server.
package pages

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"kijko/tests/browser"
)

// develop runs the development server in a checkout of a few files, which it offers for the demo, and gives its address.
func develop(t *testing.T) string {
	t.Helper()
	program, checkout := filepath.Join(t.TempDir(), "server"), t.TempDir()
	out, err := exec.Command("go", "build", "-o", program, "kijko/server").CombinedOutput()
	require.NoError(t, err, string(out))
	for name, text := range map[string]string{
		"shop/cart.go": "package shop\n\ntype Cart struct{ lines []Line }\n\ntype Line struct{ Price int }\n\nfunc (c *Cart) Total() int {\n\treturn sum(c.lines)\n}\n",
		"shop/sum.go":  "package shop\n\nfunc sum(lines []Line) int {\n\ttotal := 0\n\tfor _, l := range lines {\n\t\ttotal += l.Price\n\t}\n\treturn total\n}\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(checkout, filepath.Dir(name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(checkout, name), []byte(text), 0o600))
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=Anna", "-c", "user.email=anna@example.nl", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "Open the shop"}} {
		git := exec.Command("git", args...)
		git.Dir = checkout
		out, err := git.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	server := exec.Command(program, "-dev")
	server.Dir = checkout
	server.Env = append(os.Environ(), "KIJKO_ADDR=127.0.0.1:0", "KIJKO_DATA_DIR="+t.TempDir(), "KIJKO_LOG_LEVEL=error")
	server.Stderr = os.Stderr
	said, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
	})
	address := regexp.MustCompile(`Kijko +(http://\S+)`)
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if found := address.FindStringSubmatch(lines.Text()); found != nil {
			for end := time.Now().Add(time.Minute); ; <-time.Tick(50 * time.Millisecond) {
				if res, err := http.Get(found[1] + "/health/ready"); err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK {
					return found[1]
				}
				require.True(t, time.Now().Before(end), "the server is not ready")
			}
		}
	}
	t.Fatal("the server did not start")
	return ""
}

// visitor is a person at a browser.
type visitor struct {
	t   *testing.T
	ctx context.Context
}

func (v visitor) do(actions ...chromedp.Action[chromedp.Void]) {
	v.t.Helper()
	require.NoError(v.t, chromedp.Do(v.ctx, actions...))
}

// sees waits until an expression of the page is true.
func (v visitor) sees(expression string) {
	v.t.Helper()
	_, err := chromedp.Run(v.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(60*time.Second)))
	if err != nil {
		text, _ := chromedp.Run(v.ctx, chromedp.Text("body"))
		require.NoError(v.t, err, "%s; the page shows:\n%s", expression, text)
	}
}

func evaluate[T any](v visitor, expression string) T {
	v.t.Helper()
	value, err := chromedp.Run(v.ctx, chromedp.Evaluate[T](expression))
	require.NoError(v.t, err)
	return value
}

// photograph looks at the page on a wide screen and on a phone, in light and dark colors: it fits, and its texts can be read.
func (v visitor) photograph(name string) {
	v.t.Helper()
	folder := os.Getenv("KIJKO_PICTURES")
	for _, scheme := range []string{"light", "dark"} {
		for device, width := range map[string]int64{"desktop": 1280, "phone": 360} {
			v.do(chromedp.EmulateViewport(width, 800), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
				_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
				return err
			}))
			require.LessOrEqual(v.t, evaluate[int64](v, `document.documentElement.scrollWidth`), width, "%s, %s: the page is wider than the screen", name, device)
			require.Equal(v.t, "[]", evaluate[string](v, contrast), "%s, %s: texts without enough contrast", name, scheme)
			picture, err := chromedp.Run(v.ctx, chromedp.FullScreenshot(100))
			require.NoError(v.t, err)
			require.Greater(v.t, len(picture), 5000, "a blank picture")
			if folder != "" {
				require.NoError(v.t, os.WriteFile(filepath.Join(folder, name+"-"+device+"-"+scheme+".png"), picture, 0o600))
			}
		}
	}
	require.Equal(v.t, "[]", evaluate[string](v, unnamed), "%s: controls that a screen reader cannot name", name)
	require.Equal(v.t, "[]", evaluate[string](v, `(() => {
		const o = new ReportingObserver(() => {}, {types: ["csp-violation"], buffered: true})
		o.observe()
		return JSON.stringify(o.takeRecords().map(r => r.body))
	})()`), "%s: the page is held up by its own policy", name)
}

// contrast lists the visible texts whose contrast with their background is below 4.5 (WCAG 2.2, 1.4.3).
const contrast = `(() => {
	const parse = (c) => c.match(/[\d.]+/g).map(Number)
	const light = (c) => parse(c).slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
	const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if ((parse(c)[3] ?? 1) > 0) return c } return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(0, 0, 0)" : "rgb(255, 255, 255)" }
	const low = []
	for (const e of document.querySelectorAll("body *")) {
		if (!e.checkVisibility() || e.disabled || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue
		const [a, b] = [light(getComputedStyle(e).color), light(behind(e))]
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
		if (ratio < 4.5) low.push([e.tagName, e.textContent.slice(0, 30), ratio.toFixed(2)])
	}
	return JSON.stringify(low)
})()`

// unnamed lists the controls and pictures without a name.
const unnamed = `JSON.stringify([...document.querySelectorAll("button, input, select, a, img, progress")].filter(e =>
	!(e.textContent.trim() && ["BUTTON", "A"].includes(e.tagName)) && !e.labels?.length && !e.getAttribute("aria-label") && !e.alt).map(e => e.outerHTML))`

// Anna starts Kijko on her machine and looks at it.
func TestAVisitorSeesWhatRuns(t *testing.T) {
	t.Parallel()
	address := develop(t)
	v := visitor{t, browser.New(t)}
	v.do(chromedp.Navigate(address + "/"))
	v.sees(`document.getElementById("state").value === "healthy"`)
	v.sees(`[...document.querySelectorAll("#checks tr")].some(r => r.innerText.startsWith("database") && r.innerText.includes("healthy"))`)
	v.photograph("home")

	// With the keyboard alone: the button is reached, and pressed.
	v.do(chromedp.EmulateViewport(1280, 800), chromedp.Focus("#sign-in"), chromedp.SendKeys("#sign-in", "\r"))
	v.sees(`document.getElementById("said").value === "Signed in as demo@kijko.local"`)
	v.sees(`document.getElementById("connection").textContent === "connected"`)
	v.do(chromedp.Click("#ingest"))
	v.sees(`document.getElementById("phase").textContent.endsWith("is ingested") && document.getElementById("progress").value === 100`)
	v.sees(`document.querySelector("#graph img")?.naturalWidth > 0`)
	v.sees(`document.querySelector("#projects").innerText.includes("Kijko") && document.querySelectorAll("#events li").length > 3`)
	v.do(chromedp.SetValue("#skill", evaluate[string](v, `[...document.getElementById("skill").options].find(o => o.text === "Daily Stand-up").value`)), chromedp.Click("#run"))
	v.sees(`document.querySelector("#runs").innerText.includes("completed") && document.getElementById("answer").textContent.length > 20`)
	v.photograph("work")

	// The graph's page, with the token of the page and the project's id.
	token := evaluate[string](v, `token`)
	v.sees(`(fetch("/api/v1/projects?pageSize=1", {headers: {Authorization: "Bearer " + token}}).then(r => r.json()).then(p => { window.first = p.data[0].id }), window.first !== undefined)`)
	id := evaluate[string](v, `first`)
	v.do(chromedp.Navigate(address+"/docs/graph"), chromedp.SetValue("#token", "wrong"), chromedp.SetValue("#context", id), chromedp.Click("#ask button"))
	v.sees(`document.getElementById("said").value.length > 10 && !document.querySelector("#picture img")`)
	v.do(chromedp.SetValue("#token", token), chromedp.Click("#ask button"))
	v.sees(`document.querySelector("#picture img")?.naturalWidth > 0 && document.getElementById("nodes").innerText.includes("Cart.Total")`)
	v.photograph("graph")
	for _, page := range []string{"/docs/realtime", "/unsubscribe", "/dev/mail"} {
		v.do(chromedp.Navigate(address + page))
		v.photograph(filepath.Base(page))
	}
}
