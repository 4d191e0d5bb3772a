package realtime

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"kijko/tests/browser"
)

// The page at /docs/realtime, as a person uses it.
func TestRealtimePage(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann := l.actor()
	project := ann.project("private")
	n.reached()
	ctx := browser.New(t)

	response, err := http.Get("http://" + n.addr + "/docs/realtime")
	require.NoError(t, err)
	_ = response.Body.Close()
	require.Equal(t, "text/html; charset=utf-8", response.Header.Get("Content-Type"))
	require.Contains(t, response.Header.Get("Content-Security-Policy"), "default-src 'none'")

	// shows waits until an expression in the page is true.
	shows := func(expression string) {
		t.Helper()
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second)))
		if err != nil {
			text, _ := chromedp.Run(ctx, chromedp.Text("body"))
			require.NoError(t, err, "%s; the page shows:\n%s", expression, text)
		}
	}
	do := func(actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		require.NoError(t, chromedp.Do(ctx, actions...))
	}
	const frames = `document.getElementById("frames").innerText`

	do(chromedp.Navigate("http://"+n.addr+"/docs/realtime"), chromedp.Click("#connect"))
	shows(`document.getElementById("status").value === "closed: 4001 Missing token"`)

	do(chromedp.SetValue("#token", ann.token()), chromedp.Click("#connect"))
	shows(`document.getElementById("status").value.startsWith("connected as ` + ann.user + `")`)
	shows(`document.getElementById("joined").innerText.includes("org:` + ann.org + `")`)
	do(chromedp.SetValue("#room", "project:"+project), chromedp.Click("#join"))
	shows(`document.getElementById("joined").innerText.includes("project:` + project + `")`)
	l.emit(project, "error", `{"errorMessage": "<img src=x onerror=alert(1)>"}`)
	shows(frames + `.includes("ingestion_error") && ` + frames + `.includes("<img src=x onerror=alert(1)>")`)
	do(chromedp.SetValue("#room", "project:00000000-0000-4000-8000-000000000000"), chromedp.Click("#join"))
	shows(frames + `.includes("ROOM_FORBIDDEN")`)
	do(chromedp.Click("#authenticate"))
	shows(frames + `.includes("authenticated")`)

	// Offline and online again: missed events arrive with the cursor that the page kept.
	do(chromedp.Click("#disconnect"))
	shows(`document.getElementById("status").value.startsWith("closed: 1000")`)
	n.counted(0)
	l.emitTo("user:"+ann.user, "missed", `{}`)
	n.reached()
	do(chromedp.Click("#connect"))
	shows(frames + `.includes("missed") && ` + frames + `.includes("resumed")`)

	page, err := chromedp.Run(ctx, chromedp.OuterHTML("html"))
	require.NoError(t, err)
	require.NotContains(t, page, ann.token(), "the token stands nowhere in the page")
	require.False(t, strings.Contains(page, "<img"), "frames are shown as text")
}
