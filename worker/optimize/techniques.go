package optimize

import (
	"fmt"
	"slices"
	"strings"

	"kijko/worker/chunk"
	"kijko/worker/parse"
	"kijko/worker/token"
)

// work is what the techniques know of the file they change.
type work struct {
	p        *Plan
	f        *File
	first    uint32 // the plan's index of the file's first chunk
	observed int    // how many of its chunks the plan knows

	lines map[int32]int // lines of each import statement
}

// deduplicate leaves a marker where a body stands in an earlier chunk. A body that is no longer than its marker stays.
func (w *work) deduplicate(s *state) bool {
	changed := false
	for i := range s.bodies {
		key, err := hashKey(w.f.Chunks[i].Hash)
		if err != nil || i >= w.observed || strings.TrimSpace(w.f.Chunks[i].Content) == "" {
			continue
		}
		at, known := w.p.bodies[key]
		if !known || at == w.first+uint32(i) {
			continue
		}
		path, from, to := w.p.place(at)
		marker := fmt.Sprintf("[same as %s:%d-%d]\n", path, from, to)
		if token.Count(marker) >= w.f.Chunks[i].Tokens {
			continue
		}
		s.bodies[i] = body{
			lines:     []line{{text: marker, marker: true}},
			duplicate: true,
			refs:      []Reference{{Deduplication, w.f.Chunks[i].Order, path, from, to}},
		}
		changed = true
	}
	return changed
}

// patterns replaces licence headers, repeated blocks and long literals.
func (w *work) patterns(s *state) bool {
	changed := false
	for i := range s.bodies {
		if s.bodies[i].duplicate {
			continue
		}
		b := &s.bodies[i]
		var swaps []swap
		if i < w.observed {
			swaps = append(w.licence(i, b.lines), w.repeated(i, b.lines)...)
		}
		lines, lost := swapped(b.lines, swaps)
		if lines == nil {
			continue
		}
		s.lost += lost
		next := body{lines: lines, refs: slices.Clone(b.refs)}
		for _, x := range swaps {
			next.refs = append(next.refs, x.ref)
		}
		s.bodies[i] = next
		changed = true
	}
	return changed
}

// swap puts a marker in the place of n lines.
type swap struct {
	at, n  int
	marker string
	ref    Reference
}

// swapped returns the lines with the swaps made, which must be ascending, and with long literals shortened; nil if nothing
// changed. lost is what the literals lost.
func swapped(lines []line, swaps []swap) (out []line, lost int) {
	did := len(swaps) > 0
	out = make([]line, 0, len(lines))
	for j := 0; j < len(lines); j++ {
		if len(swaps) > 0 && swaps[0].at == j {
			out = append(out, line{text: swaps[0].marker, marker: true})
			j += swaps[0].n - 1
			swaps = swaps[1:]
			continue
		}
		l := lines[j]
		if len(l.text) > maxLiteral {
			if short := shorten(l.text); short != l.text {
				lost += max(0, token.Count(l.text)-token.Count(short))
				l.text = short
				did = true
			}
		}
		out = append(out, l)
	}
	if !did {
		return nil, 0
	}
	return out, lost
}

// licence replaces a licence header that stands in an earlier file.
func (w *work) licence(i int, lines []line) []swap {
	if i > 0 {
		return nil
	}
	at, h, n := licence(w.f.Chunks[0].Content)
	if n == 0 {
		return nil
	}
	first, known := w.p.licences[h]
	if !known || first == w.first {
		return nil
	}
	path, from, _ := w.p.place(first)
	skip, _ := w.p.licenceAt(first)
	from += skip
	return w.swap(lines, at, n, "licence", Reference{PatternCompression, w.f.Chunks[0].Order, path, from, from + n - 1})
}

// swap returns the swap of lines for a reference if that is shorter.
func (w *work) swap(lines []line, at, n int, what string, ref Reference) []swap {
	marker := w.marker(fmt.Sprintf("%s as in %s:%d-%d", what, ref.Path, ref.StartLine, ref.EndLine))
	old := body{lines: lines[at : at+n]}
	if token.Count(marker) >= token.Count(old.text()) {
		return nil
	}
	return []swap{{at, n, marker, ref}}
}

// marker returns a line of its own that is a comment where the language has a simple one.
func (w *work) marker(text string) string {
	lead, ok := leads[w.f.Language]
	if !ok {
		lead = "// "
	}
	return lead + "[" + text + "]\n"
}

var leads = map[string]string{
	"python": "# ", "ruby": "# ", "yaml": "# ", "toml": "# ", "shell": "# ", "makefile": "# ", "dockerfile": "# ", "perl": "# ", "r": "# ",
	"ini": "# ", "properties": "# ", "dotenv": "# ", "hcl": "# ", "elixir": "# ", "sql": "-- ", "lua": "-- ", "haskell": "-- ",
	"markdown": "", "text": "", "html": "", "xml": "", "json": "", "css": "", "restructuredtext": "", "csv": "", "svg": "",
}

// repeated replaces blocks that stand somewhere before. Lines of a window that stands here first are never touched, so
// what a marker names is always there.
func (w *work) repeated(i int, lines []line) []swap {
	if len(w.p.blocks) == 0 || len(lines) < blockLines {
		return nil
	}
	c := w.first + uint32(i)
	base := w.p.chunks[c].lines
	hashes := w.p.hashes(nil, w.f.Chunks[i].Content, i == 0, int(base))
	here := make([]bool, len(hashes)) // lines that stand here first
	found := make([]block, len(hashes))
	for j := 0; j+blockLines <= len(hashes); j++ {
		h, ok := window(hashes[j:])
		if !ok {
			continue
		}
		k, ok := w.p.blocks[h]
		if ok && k.first == base+uint32(j) && k.chunk == c {
			for x := range blockLines {
				here[j+x] = true
			}
		} else if ok {
			found[j] = k
		}
	}
	free := func(j int) bool {
		return j+blockLines <= len(here) && found[j].count > 0 && !slices.Contains(here[j:j+blockLines], true)
	}
	var swaps []swap
	for j := 0; j < len(hashes); j++ {
		if !free(j) {
			continue
		}
		k := found[j]
		n := blockLines
		for free(j+n-blockLines+1) && found[j+n-blockLines+1].chunk == k.chunk && found[j+n-blockLines+1].first == k.first+uint32(n-blockLines+1) {
			n++
		}
		for n > blockLines && hashes[j+n-1] == 0 {
			n-- // blank lines at the end stay
		}
		path, from, _ := w.p.place(k.chunk)
		from += int(k.first - w.p.chunks[k.chunk].lines)
		ref := Reference{PatternCompression, w.f.Chunks[i].Order, path, from, from + n - 1}
		swaps = append(swaps, w.swap(lines, j, n, fmt.Sprintf("%d lines", n), ref)...)
		j += n - 1
	}
	return swaps
}

// whitespace removes trailing blanks, joins blank lines, and brings indentation down to one blank a level, except where
// indentation has meaning.
func (w *work) whitespace(s *state) bool {
	unit := 0
	if !w.f.IndentSensitive {
		unit = indentUnit(s)
	}
	changed := false
	for i := range s.bodies {
		if s.bodies[i].duplicate {
			continue
		}
		b := s.bodies[i]
		out := make([]line, 0, len(b.lines))
		did := false
		blank := false
		for _, l := range b.lines {
			text := l.text
			end := ""
			if strings.HasSuffix(text, "\n") {
				end = "\n"
			}
			keep := w.f.Language == "markdown" && strings.HasSuffix(strings.TrimRight(text, "\r\n"), "  ") // a hard line break
			bare := strings.TrimRight(text, " \t\r\n")
			if bare == "" {
				if blank {
					did = true
					continue
				}
				blank = true
			} else {
				blank = false
				if keep {
					bare += "  "
				}
				if unit > 0 {
					bare = dedent(bare, unit)
				}
			}
			if l.text = bare + end; l.text != text {
				did = true
			}
			out = append(out, l)
		}
		if did {
			b.lines = out
			s.bodies[i] = b
			changed = true
		}
	}
	return changed
}

// indentUnit returns the width of one level of indentation: 1 with tabs, else the most frequent step inwards.
func indentUnit(s *state) int {
	var steps [9]int
	tabs, previous := 0, 0
	for i := range s.bodies {
		for _, l := range s.bodies[i].lines {
			if l.marker || strings.TrimSpace(l.text) == "" {
				continue
			}
			if l.text[0] == '\t' {
				tabs++
				continue
			}
			width := len(l.text) - len(strings.TrimLeft(l.text, " "))
			if step := width - previous; step > 0 && step < len(steps) {
				steps[step]++
			}
			previous = width
		}
	}
	best := 0
	for w := 1; w < len(steps); w++ {
		if steps[w] > steps[best] {
			best = w
		}
	}
	if best == 0 || tabs > steps[best] {
		return 1
	}
	return best
}

// dedent makes each tab and each unit of blanks at the front of a line one blank. What is left over is alignment.
func dedent(l string, unit int) string {
	rest := strings.TrimLeft(l, " \t")
	front := l[:len(l)-len(rest)]
	if front == "" {
		return l
	}
	tabs := strings.Count(front, "\t")
	blanks := len(front) - tabs
	return strings.Repeat(" ", tabs+(blanks+unit-1)/unit) + rest
}

// imports takes whole import statements out of the bodies and lists them once at the front.
func (w *work) imports(s *state) bool {
	if len(w.f.Imports) == 0 {
		return false
	}
	there := map[int32]int{} // lines of each statement that are still there
	for i := range s.bodies {
		for _, l := range s.bodies[i].lines {
			if l.imp > 0 {
				there[l.imp]++
			}
		}
	}
	gone := map[int32]bool{}
	for k, im := range w.f.Imports {
		id := statement(w.f.Imports, k)
		if n := there[id]; n > 0 && n == w.lines[id] && im.Statement {
			gone[id] = true
		}
	}
	if len(gone) == 0 {
		return false
	}
	for i := range s.bodies {
		b := s.bodies[i]
		if b.duplicate || !slices.ContainsFunc(b.lines, func(l line) bool { return gone[l.imp] }) {
			continue
		}
		out := make([]line, 0, len(b.lines))
		rest := false
		for _, l := range b.lines {
			blank := strings.TrimSpace(l.text) == ""
			if gone[l.imp] || blank && len(out) > 0 && strings.TrimSpace(out[len(out)-1].text) == "" || blank && len(out) == 0 {
				continue
			}
			rest = rest || !blank
			out = append(out, l)
		}
		if !rest {
			out = nil
		}
		b.lines = out
		s.bodies[i] = b
	}
	s.header = header(w.f, gone)
	return true
}

// header returns the list of the imports whose statements have gone.
func header(f *File, gone map[int32]bool) string {
	var list []string
	for k, im := range f.Imports {
		if !gone[statement(f.Imports, k)] {
			continue
		}
		entry := im.Path
		if len(im.Names) > 0 {
			entry += "(" + strings.Join(im.Names, ", ") + ")"
		}
		if !slices.Contains(list, entry) {
			list = append(list, entry)
		}
	}
	return "imports: " + strings.Join(list, " ") + "\n"
}

// statement returns 1 + the index of the first import of the statement that import k belongs to.
func statement(imports []parse.Import, k int) int32 {
	for k > 0 && imports[k-1].StartByte == imports[k].StartByte {
		k--
	}
	return int32(k + 1)
}

// annotate notes for each line which import statement it belongs to, and for each statement how many lines it has.
// Statements that share a line with something else, or are torn by a chunk's end, are left alone.
func (w *work) annotate(s *state) {
	w.lines = map[int32]int{}
	for k, im := range w.f.Imports {
		id := statement(w.f.Imports, k)
		if !im.Statement || id != int32(k+1) {
			continue
		}
		i := slices.IndexFunc(w.f.Chunks, func(c chunk.Chunk) bool { return c.StartByte <= im.StartByte && im.EndByte <= c.EndByte })
		if i < 0 {
			continue
		}
		c := &w.f.Chunks[i]
		from, to := im.StartByte-c.StartByte, im.EndByte-c.StartByte
		if to > len(c.Content) || from < 0 {
			continue
		}
		before := c.Content[strings.LastIndexByte(c.Content[:from], '\n')+1 : from]
		after := c.Content[to:]
		if e := strings.IndexByte(after, '\n'); e >= 0 {
			after = after[:e]
		}
		if strings.TrimSpace(before) != "" || strings.Trim(after, "; \t\r") != "" {
			continue
		}
		l := strings.Count(c.Content[:from], "\n")
		n := 1 + strings.Count(c.Content[from:to], "\n")
		lines := s.bodies[i].lines
		if l+n > len(lines) {
			continue
		}
		for j := l; j < l+n; j++ {
			lines[j].imp = id
		}
		w.lines[id] = n
	}
}
