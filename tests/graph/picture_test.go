package graph

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"kijko/tests/browser"
)

func TestABrowserDrawsThePicture(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	g := s.build(shop)
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.App.URL()+"/api/v1"+s.path()+".svg", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.anna.Token)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	file, err := os.Create(filepath.Join(t.TempDir(), "graph.svg"))
	require.NoError(t, err)
	_, err = file.ReadFrom(answer.Body)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	ctx := browser.New(t)
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate("file://"+file.Name())))
	count := func(expression string) int {
		n, err := chromedp.Run(ctx, chromedp.Evaluate[int](expression))
		require.NoError(t, err)
		return n
	}
	circles := count(`document.querySelectorAll("circle").length`)
	outside := count(`[...document.querySelectorAll("circle")].filter(c => { const b = c.getBBox(); return b.x < 0 || b.y < 0 || b.x + b.width > 1000 || b.y + b.height > 1000 }).length`)
	together := count(`(() => { const at = [...document.querySelectorAll("circle")].map(c => [+c.getAttribute("cx"), +c.getAttribute("cy")]); let n = 0;
		for (let i = 0; i < at.length; i++) for (let j = 0; j < i; j++) if (Math.hypot(at[i][0] - at[j][0], at[i][1] - at[j][1]) < 8) n++; return n })()`)
	crossing := count(`(() => { const at = [...document.querySelectorAll("text")].map(c => c.getBBox()); let n = 0;
		for (let i = 0; i < at.length; i++) for (let j = 0; j < i; j++) if (at[i].x < at[j].x + at[j].width && at[j].x < at[i].x + at[i].width &&
			at[i].y < at[j].y + at[j].height && at[j].y < at[i].y + at[i].height) n++; return n })()`)
	beyond := count(`[...document.querySelectorAll("text")].filter(c => { const b = c.getBBox(); return b.x < 0 || b.x + b.width > 1000 }).length`)
	kinds := count(`[...document.querySelectorAll("text")].filter(c => ["file", "module", "class", "function", "variable"].includes(c.textContent)).length`)
	require.Equal(t, len(g.Nodes), circles)
	require.Zero(t, crossing, "no name covers another one")
	require.Zero(t, beyond, "every name is within the picture")
	require.Positive(t, kinds, "a legend names the colors")
	require.Zero(t, outside, "every node is within the picture")
	require.Zero(t, together, "no node hides another one")
}
