package optimize

import (
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"

	"kijko/worker/ingestion/parse"
)

// line is one line of a body with the properties that the techniques use.
type line struct {
	text   string // with its line end
	source int32  // its number inside the chunk; of a marker, that of the first line that it replaces
	swaps  int32  // of a marker: how many lines it replaces
	imp    int32  // 1 + index of the first dependency of the import statement that it belongs to
	front  parse.Hold
	tail   parse.Hold
	own    bool // must not be part of a block: of an import, a license header, with a long literal, cut by the chunk's end
	marker bool
}

// blank reports whether the line is blank and its blankness has no meaning.
func (l *line) blank() bool {
	return l.front == parse.Loose && l.tail == parse.Loose && strings.TrimLeft(l.text, " \t\r\n") == ""
}

// trimmed returns the line without the blanks at its end, if they have no meaning.
func (l *line) trimmed(layout parse.Layout) string {
	if l.tail != parse.Loose || layout == parse.Exact {
		return l.text
	}
	bare := strings.TrimRight(l.text, " \t\r\n")
	if strings.HasSuffix(bare, "\\") { // the backslash escapes the blank or the line end after it
		return strings.TrimRight(l.text, "\r\n")
	}
	return bare
}

// hash is the same for lines that may replace one another; 0 for a blank line. A line with own set gets a hash that occurs nowhere
// else; at is the line's number in the whole project.
func (l *line) hash(layout parse.Layout, at int) uint32 {
	if l.own {
		return uniqueHash(at)
	}
	if l.blank() && (layout != parse.Exact || strings.TrimRight(l.text, "\r\n") == "") {
		return 0
	}
	h := xxhash.Sum64String(l.trimmed(layout)) + uint64(layout)*0x9e3779b97f4a7c15
	if l.front != parse.Loose {
		h ^= 0xa0761d6478bd642f
	}
	return uint32(h^h>>32) | 1
}

// reader makes the lines of a file's chunks, which the caller requests in order.
type reader struct {
	f        *File
	verbatim parse.Lines
	imports  []stretch // of all import statements
	from     int       // first byte of the last chunk that was read
	next     int       // next import statement
}

// stretch is an import statement.
type stretch struct {
	start, end int
	id         int32 // 1 + index of its first dependency; 0 without one
}

func newReader(f *File) *reader {
	r := &reader{f: f, verbatim: parse.VerbatimLines(f.Verbatim)}
	for k := range f.Imports {
		s := stretch{f.Imports[k].StartByte, f.Imports[k].EndByte, 0}
		if n := len(r.imports); n > 0 && r.imports[n-1].start == s.start {
			continue
		}
		d, found := slices.BinarySearchFunc(f.Dependencies, s.start, func(d parse.Dependency, at int) int { return d.StartByte - at })
		if found {
			s.id = int32(d + 1)
			s.end = max(s.end, f.Dependencies[d].EndByte)
		}
		r.imports = append(r.imports, s)
	}
	slices.SortStableFunc(r.imports, func(a, b stretch) int { return a.start - b.start })
	return r
}

// chunk appends the lines of chunk i.
func (r *reader) chunk(lines []line, i int) []line {
	c := &r.f.Chunks[i]
	placed := c.StartByte >= 0
	at := c.StartByte
	if at < r.from { // overlapping chunks of a webhook
		r.verbatim, r.next = parse.VerbatimLines(r.f.Verbatim), 0
	}
	r.from = max(at, 0)
	for text := range strings.Lines(c.Content) {
		l := line{text: text, source: int32(len(lines)), own: !placed || len(text) > maxLiteral}
		if placed {
			end := at + len(text)
			if text[len(text)-1] == '\n' {
				end--
			}
			l.front, l.tail = r.verbatim.At(at, end)
			for r.next < len(r.imports) && r.imports[r.next].end <= at {
				r.next++
			}
			if r.next < len(r.imports) && r.imports[r.next].start < at+len(text) {
				l.own = true
				if s := r.imports[r.next]; s.start >= c.StartByte && s.end <= c.EndByte {
					l.imp = s.id
				}
			}
			at += len(text)
		}
		lines = append(lines, l)
	}
	if first := 0; len(lines) > 0 && c.StartColumn > 0 {
		lines[first].own, lines[first].front = true, max(lines[first].front, parse.Kept)
	}
	if last := len(lines) - 1; last >= 0 && c.EndColumn > 0 {
		lines[last].own, lines[last].tail = true, max(lines[last].tail, parse.Kept)
	}
	return lines
}

// seal keeps the license header of chunk i out of blocks, so that the two never overlap.
func (r *reader) seal(lines []line, i int) {
	if i > 0 {
		return
	}
	from, _, n := license(r.f.Chunks[0].Content)
	for j := from; j < from+n && j < len(lines); j++ {
		lines[j].own = true
	}
}
