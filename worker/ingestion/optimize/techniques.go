package optimize

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// work is the data of the file that the techniques change.
type work struct {
	p        *Plan
	f        *File
	first    uint32 // the plan's index of the file's first chunk
	observed int    // how many of its chunks the plan knows
	source   []body // as the file was read
}

// deduplicate replaces a body that an earlier chunk contains by a marker. A body that is no longer than its marker stays.
func (w *work) deduplicate(s *state) bool {
	changed := false
	for i := range s.bodies {
		key, err := hashKey(w.f.Chunks[i].Hash)
		if err != nil || i >= w.observed || strings.TrimSpace(w.f.Chunks[i].Content) == "" || w.f.Chunks[i].StartByte < 0 {
			continue
		}
		at, known := w.p.bodies[key]
		if !known || at == w.first+uint32(i) {
			continue
		}
		path, from, to := w.p.place(at)
		columns := w.p.chunks[at].columns
		marker := w.f.Lead + fmt.Sprintf("[same as %s:%s-%s]\n", path, position(from, columns[0]), position(to, columns[1]))
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

// position formats a line, with a column if only a part of the line is meant.
func position(line int, column uint32) string {
	if column == 0 {
		return strconv.Itoa(line)
	}
	return fmt.Sprintf("%d:%d", line, column)
}

// patterns replaces license headers, repeated blocks and long literals.
func (w *work) patterns(s *state) bool {
	changed := false
	for i := range s.bodies {
		if s.bodies[i].duplicate || s.bodies[i].cited {
			continue // a chunk that others refer to keeps its text, so that a reader gets there in one step
		}
		b := &s.bodies[i]
		var swaps []swap
		if i < w.observed {
			swaps = append(w.license(i, b.lines), w.repeated(i, b.lines)...)
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

// swap replaces n lines by a marker.
type swap struct {
	at, n  int
	marker string
	ref    Reference
}

// swapped returns the lines after the swaps, which must be ascending, and with long literals shortened; nil if nothing changed.
// lost is the number of tokens that the shortened literals lost.
func swapped(lines []line, swaps []swap) (out []line, lost int) {
	did := len(swaps) > 0
	out = make([]line, 0, len(lines))
	for j := 0; j < len(lines); j++ {
		if len(swaps) > 0 && swaps[0].at == j {
			out = append(out, line{text: swaps[0].marker, source: lines[j].source, swaps: int32(swaps[0].n), marker: true})
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

// license replaces a license header that an earlier file contains.
func (w *work) license(i int, lines []line) []swap {
	if i > 0 {
		return nil
	}
	at, h, n := license(w.f.Chunks[0].Content)
	if n == 0 {
		return nil
	}
	first, known := w.p.licenses[h]
	if !known || first == w.first {
		return nil
	}
	path, from, _ := w.p.place(first)
	skip, _ := w.p.licenseAt(first)
	from += skip
	return w.swap(lines, at, n, "license", Reference{PatternCompression, w.f.Chunks[0].Order, path, from, from + n - 1})
}

// swap returns the swap of lines for a reference if that is shorter.
func (w *work) swap(lines []line, at, n int, what string, ref Reference) []swap {
	marker := w.marker(fmt.Sprintf("%s as in %s:%d-%d", what, ref.Path, ref.StartLine, ref.EndLine))
	if token.Count(marker) >= token.Count(text(lines[at:at+n])) {
		return nil
	}
	return []swap{{at, n, marker, ref}}
}

// marker returns a line of its own that is a comment where the language has a simple one.
func (w *work) marker(text string) string {
	lead, ok := leads[w.f.Language]
	if w.f.Lead != "" {
		lead = w.f.Lead
	} else if !ok {
		lead = "// "
	}
	return lead + "[" + text + "]\n"
}

var leads = map[string]string{
	"python": "# ", "ruby": "# ", "yaml": "# ", "toml": "# ", "shell": "# ", "makefile": "# ", "dockerfile": "# ", "perl": "# ", "r": "# ",
	"ini": "# ", "properties": "# ", "dotenv": "# ", "hcl": "# ", "elixir": "# ", "sql": "-- ", "lua": "-- ", "haskell": "-- ",
	"markdown": "", "text": "", "html": "", "xml": "", "json": "", "css": "", "restructuredtext": "", "csv": "", "svg": "",
}

// repeated replaces blocks that occurred earlier. Lines of a window whose first occurrence is here are never changed, so the target
// of a marker always exists.
func (w *work) repeated(i int, lines []line) []swap {
	if len(w.p.blocks) == 0 || len(lines) < blockLines {
		return nil
	}
	c := w.first + uint32(i)
	base := w.p.chunks[c].lines
	hashes := make([]uint32, len(lines))
	for j := range lines {
		hashes[j] = lines[j].hash(w.f.Layout, int(base)+j)
	}
	here := make([]bool, len(hashes)) // lines whose first occurrence is here
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
		after := j + n - 1
		for n >= blockLines && (hashes[j+n-1] == 0 || lines[j+n-1].tail == parse.Quoted) {
			n-- // blank lines at the end stay, and a string stays whole
		}
		for n >= blockLines && lines[j].front == parse.Quoted {
			j, n, k.first = j+1, n-1, k.first+1
		}
		if n < blockLines {
			j = after
			continue
		}
		path, from, _ := w.p.place(k.chunk)
		from += int(k.first - w.p.chunks[k.chunk].lines)
		ref := Reference{PatternCompression, w.f.Chunks[i].Order, path, from, from + n - 1}
		swaps = append(swaps, w.swap(lines, j, n, fmt.Sprintf("%d lines", n), ref)...)
		j += n - 1
	}
	return swaps
}

// whitespace removes trailing blanks, joins blank lines, and reduces indentation to one blank per level, as far as the layout
// allows. Verbatim text stays.
func (w *work) whitespace(s *state) bool {
	if w.f.Layout == parse.Exact {
		return false
	}
	unit := 0
	if w.f.Layout == parse.Free || w.f.Layout == parse.Levels {
		unit = indentUnit(s)
	}
	if w.f.Layout == parse.Levels && !distinct(s, unit) {
		unit = 0
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
			if l.marker || l.front != parse.Loose && l.tail != parse.Loose {
				blank = false
				out = append(out, l)
				continue
			}
			text := l.text
			if l.blank() {
				if blank {
					did = true
					continue
				}
				blank = true
			} else {
				blank = false
			}
			if l.tail == parse.Loose {
				end := ""
				if strings.HasSuffix(text, "\n") {
					end = "\n"
				}
				l.text = l.trimmed(w.f.Layout)
				if w.f.Language == "markdown" && l.text != "" && strings.HasSuffix(strings.TrimRight(text, "\r\n"), "  ") {
					l.text += "  " // a hard line break
				}
				l.text += end
			}
			if unit > 0 && l.front == parse.Loose {
				l.text = dedent(l.text, unit)
			}
			did = did || l.text != text
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

// distinct reports whether all indentations of a file stay different.
func distinct(s *state, unit int) bool {
	fronts := map[int]string{}
	for i := range s.bodies {
		for _, l := range s.bodies[i].lines {
			if l.marker || l.front != parse.Loose || l.blank() {
				continue
			}
			front := l.text[:len(l.text)-len(strings.TrimLeft(l.text, " \t"))]
			n := narrowed(front, unit)
			if other, known := fronts[n]; known && other != front {
				return false
			}
			fronts[n] = front
		}
	}
	return true
}

// indentUnit returns the width of one level of indentation: 1 with tabs, else the most frequent step inwards.
func indentUnit(s *state) int {
	var steps [9]int
	tabs, previous := 0, 0
	for i := range s.bodies {
		for _, l := range s.bodies[i].lines {
			if l.marker || l.front != parse.Loose || l.blank() {
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

// dedent replaces each tab and each unit of blanks at the front of a line by one blank. The rest is alignment.
func dedent(l string, unit int) string {
	rest := strings.TrimLeft(l, " \t")
	front := l[:len(l)-len(rest)]
	if front == "" {
		return l
	}
	return strings.Repeat(" ", narrowed(front, unit)) + rest
}

func narrowed(front string, unit int) int {
	tabs := strings.Count(front, "\t")
	return tabs + (len(front)-tabs+unit-1)/unit
}

// imports removes whole import statements from the bodies and lists them once at the front.
func (w *work) imports(s *state) bool {
	if len(w.f.Dependencies) == 0 {
		return false
	}
	gone := map[int32]bool{}
	for i := range s.bodies {
		if s.bodies[i].duplicate || s.bodies[i].cited {
			continue
		}
		for _, l := range s.bodies[i].lines {
			if l.imp > 0 {
				gone[l.imp] = true
			}
		}
	}
	if len(gone) == 0 {
		return false
	}
	for i := range s.bodies {
		b := s.bodies[i]
		if b.duplicate || b.cited || !slices.ContainsFunc(b.lines, func(l line) bool { return gone[l.imp] }) {
			continue
		}
		out := make([]line, 0, len(b.lines))
		rest := false
		for _, l := range b.lines {
			blank := l.blank()
			if gone[l.imp] || blank && (len(out) == 0 || out[len(out)-1].blank()) {
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
	return headedBody(s) >= 0
}

// header returns the list of the imports whose statements were removed. Entries that contain blanks are separated by commas.
func header(f *File, gone map[int32]bool) string {
	var list []string
	separator := " "
	first := int32(0)
	for k, d := range f.Dependencies {
		if k == 0 || f.Dependencies[k-1].StartByte != d.StartByte {
			first = int32(k + 1)
		}
		if !gone[first] || slices.Contains(list, d.Entry) {
			continue
		}
		list = append(list, d.Entry)
		name, _, _ := strings.Cut(d.Entry, "(")
		if strings.Contains(name, " ") {
			separator = ", "
		}
	}
	return f.Lead + headerWord + strings.Join(list, separator) + "\n"
}

const headerWord = "imports: "

// missing counts the tokens of source lines that are neither stored, nor blank, nor listed in the header, nor replaced by a marker
// that leads to the same stored lines. Correct techniques leave none; tokens that they lost by mistake would lower
// contextPreserved.
func (w *work) missing(s *state) int {
	lost := 0
	listed := map[string]bool{}
	for i := range s.bodies {
		b, source := &s.bodies[i], w.source[i].lines
		if b.duplicate {
			if !w.p.Resolvable(b.refs[0]) {
				lost += w.f.Chunks[i].Tokens
			}
			continue
		}
		if len(b.lines) == len(source) && len(b.refs) == 0 {
			continue
		}
		j, refs := 0, b.refs
		skip := func(to int) {
			for ; j < to; j++ {
				l := &source[j]
				if l.blank() || l.imp > 0 && w.listed(s.header, l.imp, listed) {
					continue
				}
				lost += token.Count(l.text)
			}
		}
		for k := range b.lines {
			l := &b.lines[k]
			skip(int(l.source))
			j++
			if l.marker {
				to := int(l.source + l.swaps)
				if w.p.stored(refs[0], source[l.source:to], w.f.Layout) {
					j = to
				} else {
					j--
					skip(to)
				}
				refs = refs[1:]
			}
		}
		skip(len(source))
	}
	return lost
}

// listed reports whether the header has all entries of the import statement whose first dependency is id-1.
func (w *work) listed(header string, id int32, known map[string]bool) bool {
	if len(known) == 0 {
		list := strings.TrimSuffix(strings.TrimPrefix(header, w.f.Lead+headerWord), "\n")
		for _, d := range w.f.Dependencies {
			known[d.Entry] = strings.Contains(list, d.Entry)
		}
	}
	start := w.f.Dependencies[id-1].StartByte
	for _, d := range w.f.Dependencies[id-1:] {
		if d.StartByte != start {
			break
		}
		if !known[d.Entry] {
			return false
		}
	}
	return true
}
