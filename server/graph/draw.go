package graph

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"html"
	"math"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/worker/graph"
)

const (
	// drawn is the most nodes of a picture: more are a cloud, and the layout takes the square of it.
	drawn = 300
	// drawnLinks is the most links of a picture.
	drawnLinks = 3000
	// side is the length of the picture's sides.
	side = 1000.0
	// labels is the number of nodes whose names are written, those with most references.
	labels = 60
)

type data struct {
	Nodes []graph.NodeRow `json:"nodes"`
	Links []graph.LinkRow `json:"links"`
}

// draw answers a picture of the graph. It is the same while the generation and the filter are: a client that has it gets 304, and nothing
// is read but the generation.
func (f *Feature) draw(c *api.Call) error {
	found, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.CallSQL("prepare_graph_read"), Args: []any{c.Params}, ReadOnly: true,
		Needs: c.Op.Scope, RequestID: c.RequestID, ClientIP: c.ClientIP, Device: c.Device})
	if err != nil {
		return err
	}
	var p prepared
	if err := json.Unmarshal(found.Body, &p); err != nil {
		return fmt.Errorf("prepare the picture: %w", err)
	}
	h := fnv.New64a()
	_, _ = h.Write(found.Body)
	tag := fmt.Sprintf(`"%d-%x"`, p.Generation, h.Sum64())
	c.Ctx.Set(fiber.HeaderETag, tag)
	c.Ctx.Set(fiber.HeaderCacheControl, "private, no-cache")
	// Opened as a page of its own the picture runs and loads nothing.
	c.Ctx.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; sandbox")
	if strings.Contains(c.Ctx.Get(fiber.HeaderIfNoneMatch), tag) {
		return c.Ctx.SendStatus(http.StatusNotModified)
	}
	answer, err := c.Query(c.Context(), "get_knowledge_graph", c.Params)
	if err != nil {
		return err
	}
	var d data
	if err := json.Unmarshal(answer.Body, &d); err != nil {
		return fmt.Errorf("read the graph: %w", err)
	}
	c.Ctx.Set(fiber.HeaderContentType, "image/svg+xml; charset=utf-8")
	return c.Ctx.Status(http.StatusOK).SendString(picture(d))
}

type point struct{ x, y float64 }

// layout places nodes by Fruchterman and Reingold: all repel each other, links pull, and moves shrink with each round. It begins at places
// that follow from the number of nodes, so that equal graphs give equal pictures. gonum's EadesR2 was tried and diverges (its rate must fall
// with the largest degree), and its Isomap places graphs of one component only.
func layout(n int, links [][2]int) []point {
	const rounds = 200
	chance := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // the same each time on purpose
	at := make([]point, n)
	for i := range at {
		at[i] = point{chance.Float64() - 0.5, chance.Float64() - 0.5}
	}
	move := make([]point, n)
	k := math.Sqrt(1 / float64(max(n, 1)))
	for round := range rounds {
		clear(move)
		for i := range at {
			for j := i + 1; j < n; j++ {
				dx, dy := at[i].x-at[j].x, at[i].y-at[j].y
				d2 := max(dx*dx+dy*dy, 1e-6)
				dx, dy = dx*k*k/d2, dy*k*k/d2
				move[i].x, move[i].y = move[i].x+dx, move[i].y+dy
				move[j].x, move[j].y = move[j].x-dx, move[j].y-dy
			}
		}
		for _, l := range links {
			dx, dy := at[l[0]].x-at[l[1]].x, at[l[0]].y-at[l[1]].y
			d := math.Sqrt(dx*dx+dy*dy) / k
			move[l[0]].x, move[l[0]].y = move[l[0]].x-dx*d, move[l[0]].y-dy*d
			move[l[1]].x, move[l[1]].y = move[l[1]].x+dx*d, move[l[1]].y+dy*d
		}
		heat := 0.1 * (1 - float64(round)/rounds)
		for i := range at {
			// A weak pull to the middle keeps parts without links together.
			mx, my := move[i].x-at[i].x*k, move[i].y-at[i].y*k
			if d := math.Sqrt(mx*mx + my*my); d > 0 {
				at[i].x += mx / d * min(d, heat)
				at[i].y += my / d * min(d, heat)
			}
		}
	}
	low, high := point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, p := range at {
		low, high = point{min(low.x, p.x), min(low.y, p.y)}, point{max(high.x, p.x), max(high.y, p.y)}
	}
	scale := (side - 120) / max(high.x-low.x, high.y-low.y, 1e-9)
	for i, p := range at {
		at[i] = point{side/2 + (p.x-(low.x+high.x)/2)*scale, side/2 + (p.y-(low.y+high.y)/2)*scale}
	}
	return at
}

// picture draws a graph. Texts are escaped; colors and numbers are ours.
func picture(d data) string {
	nodes := d.Nodes[:min(len(d.Nodes), drawn)]
	place := make(map[string]int, len(nodes))
	for i, n := range nodes {
		place[n.ID] = i
	}
	var links [][2]int
	for _, l := range d.Links {
		s, ok := place[l.Source]
		t, both := place[l.Target]
		if ok && both && len(links) < drawnLinks {
			links = append(links, [2]int{s, t})
		}
	}
	at := layout(len(nodes), links)
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11" role="img"><title>Knowledge graph: %d nodes, %d links</title>`,
		side, side, len(nodes), len(links))
	w.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/><g stroke="#9ca3af" stroke-opacity="0.5">`)
	for _, l := range links {
		fmt.Fprintf(&w, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, at[l[0]].x, at[l[0]].y, at[l[1]].x, at[l[1]].y)
	}
	w.WriteString(`</g><g stroke="#ffffff">`)
	for i, n := range nodes {
		fmt.Fprintf(&w, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"><title>%s</title></circle>`, at[i].x, at[i].y, 4+min(2*math.Log1p(float64(n.References)), 14),
			graph.ColorOf(n.Type), escape(shorten(n.Type+" "+n.Name, 200)))
	}
	w.WriteString(`</g><g fill="#111827">`)
	taken := make([]box, 0, len(nodes)+labels)
	for _, p := range at {
		taken = append(taken, box{p.x - 4, p.y - 4, p.x + 4, p.y + 4})
	}
	for i, n := range nodes[:min(len(nodes), labels)] {
		name := n.Name
		if n.Type == "file" {
			name = path.Base(name)
		}
		name = shorten(name, 40)
		if b, ok := room(at[i], width(name), taken); ok {
			taken = append(taken, b)
			fmt.Fprintf(&w, `<text x="%.1f" y="%.1f">%s</text>`, b.left, b.bottom-3, escape(name))
		}
	}
	w.WriteString(`</g>`)
	legend(&w, nodes)
	w.WriteString(`</svg>`)
	return w.String()
}

// legend names the colors that the picture has, in its lower left corner, which the layout leaves free.
func legend(w *strings.Builder, nodes []graph.NodeRow) {
	x := 20.0
	for _, kind := range []string{"file", "module", "class", "function", "variable"} {
		if !slices.ContainsFunc(nodes, func(n graph.NodeRow) bool { return n.Type == kind }) {
			continue
		}
		fmt.Fprintf(w, `<rect x="%.1f" y="%.1f" width="10" height="10" fill="%s"/><text x="%.1f" y="%.1f" fill="#374151">%s</text>`,
			x, side-26, graph.ColorOf(kind), x+15, side-17, kind)
		x += 15 + width(kind) + 18
	}
}

// box is the place that a node or a name takes.
type box struct{ left, top, right, bottom float64 }

// room finds where a name can stand beside its node: right, left, below or above, within the picture and over no other name or node.
// A name without room is left out; the node's title tells it.
func room(at point, wide float64, taken []box) (box, bool) {
	const high, gap = 13.0, 8.0
	for _, b := range []box{
		{at.x + gap, at.y - high/2, at.x + gap + wide, at.y + high/2},
		{at.x - gap - wide, at.y - high/2, at.x - gap, at.y + high/2},
		{at.x - wide/2, at.y + gap, at.x + wide/2, at.y + gap + high},
		{at.x - wide/2, at.y - gap - high, at.x + wide/2, at.y - gap},
	} {
		if b.left >= 0 && b.right <= side && !slices.ContainsFunc(taken, func(o box) bool {
			return b.left < o.right && o.left < b.right && b.top < o.bottom && o.top < b.bottom
		}) {
			return b, true
		}
	}
	return box{}, false
}

// width is about how wide a text is at the picture's size of letters; ideographs take a square.
func width(s string) float64 {
	w := 0.0
	for _, r := range s {
		if r >= 0x1100 {
			w += 11
		} else {
			w += 6.6
		}
	}
	return w
}

// shorten cuts a text to so many characters.
func shorten(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// escape makes a text fit for XML, which has no control characters even when they are escaped.
func escape(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || r == '\uFFFE' || r == '\uFFFF' {
			return ' '
		}
		return r
	}, s))
}
