package graph

import (
	"cmp"
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
	degree := make([]float64, n)
	for _, l := range links {
		degree[l[0]]++
		degree[l[1]]++
	}
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
			// A node with many links would else draw all others to one heap.
			d := math.Sqrt(dx*dx+dy*dy) / k / math.Sqrt(degree[l[0]]*degree[l[1]])
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
	spread(at, func(p *point) *float64 { return &p.x })
	spread(at, func(p *point) *float64 { return &p.y })
	return at
}

// spread brings one coordinate of all nodes to the picture's side: for one half as laid out, for the other evenly in the same order. Far parts
// then leave room for the dense ones.
func spread(at []point, coordinate func(*point) *float64) {
	order := make([]*float64, len(at))
	for i := range at {
		order[i] = coordinate(&at[i])
	}
	slices.SortStableFunc(order, func(a, b *float64) int { return cmp.Compare(*a, *b) })
	if len(order) < 2 {
		for _, v := range order {
			*v = side / 2
		}
		return
	}
	low, reach := *order[0], max(*order[len(order)-1]-*order[0], 1e-9)
	for i, v := range order {
		*v = 60 + (side-120)*(0.5*(*v-low)/reach+0.5*float64(i)/float64(len(order)-1))
	}
}

// part pushes nodes that overlap apart, and keeps all within the picture.
func part(at []point, nodes []graph.NodeRow) {
	for range 60 {
		for i := range at {
			for j := range i {
				dx, dy := at[i].x-at[j].x, at[i].y-at[j].y
				d, want := math.Hypot(dx, dy), radius(nodes[i])+radius(nodes[j])+4
				if d >= want {
					continue
				}
				if d < 1e-6 {
					dx, dy, d = 1, 0, 1
				}
				push := (want - d) / 2 / d
				at[i].x, at[i].y = at[i].x+dx*push, at[i].y+dy*push
				at[j].x, at[j].y = at[j].x-dx*push, at[j].y-dy*push
			}
		}
		for i := range at {
			at[i].x, at[i].y = min(max(at[i].x, 20), side-20), min(max(at[i].y, 20), side-50)
		}
	}
}

// radius is larger for nodes with more references.
func radius(n graph.NodeRow) float64 { return 4 + min(math.Log1p(float64(n.References)), 7) }

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
	part(at, nodes)
	var w strings.Builder
	fmt.Fprintf(&w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11" role="img"><title>Knowledge graph: %d nodes, %d links</title>`,
		side, side, len(nodes), len(links))
	w.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/><g stroke="#9ca3af" stroke-opacity="0.5">`)
	for _, l := range links {
		fmt.Fprintf(&w, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, at[l[0]].x, at[l[0]].y, at[l[1]].x, at[l[1]].y)
	}
	w.WriteString(`</g><g stroke="#ffffff">`)
	for i, n := range nodes {
		fmt.Fprintf(&w, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"><title>%s</title></circle>`, at[i].x, at[i].y, radius(n),
			graph.ColorOf(n.Type), escape(shorten(n.Type+" "+n.Name, 200)))
	}
	w.WriteString(`</g><g fill="#111827">`)
	taken := make([]box, 0, len(nodes)+labels)
	for i, p := range at {
		r := radius(nodes[i])
		taken = append(taken, box{p.x - r, p.y - r, p.x + r, p.y + r})
	}
	for i, n := range nodes[:min(len(nodes), labels)] {
		name := n.Name
		if n.Type == "file" {
			name = path.Base(name)
		}
		name = shorten(name, 40)
		if b, ok := room(at[i], radius(n)+4, width(name), taken); ok {
			taken = append(taken, b)
			// The width is an estimate, so a name is held where it is next to its node.
			x, anchor := b.left, ""
			switch {
			case b.right < at[i].x:
				x, anchor = b.right, ` text-anchor="end"`
			case b.left < at[i].x:
				x, anchor = at[i].x, ` text-anchor="middle"`
			}
			fmt.Fprintf(&w, `<text x="%.1f" y="%.1f"%s>%s</text>`, x, b.bottom-3, anchor, escape(name))
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
func room(at point, gap, wide float64, taken []box) (box, bool) {
	const high = 13.0
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
		switch {
		case r >= 0x1100:
			w += 11
		case unicode.IsUpper(r) || r == '_' || r == 'm' || r == 'w':
			w += 8.5
		default:
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
