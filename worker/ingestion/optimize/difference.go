package optimize

import (
	"strings"
	"unsafe"

	"kijko/worker/token"
)

// The techniques change few lines of a file. So the tokens of a changed text are those of the text before it, less those of the stretches of
// lines that are gone, plus those of the new ones. A stretch ends where the tokens of both sides add up.

// region is a stretch of memory that holds the source of a file, or nothing.
type region struct{ start, end uintptr }

// regionOf returns where the chunks lie if they follow one another in one text.
func regionOf(f *File) region {
	var r region
	for i := range f.Chunks {
		at := uintptr(unsafe.Pointer(unsafe.StringData(f.Chunks[i].Content)))
		if i == 0 {
			r = region{at, at}
		}
		if at != r.end || f.Chunks[i].StartByte < 0 {
			return region{}
		}
		r.end += uintptr(len(f.Chunks[i].Content))
	}
	return r
}

// run is a stretch of lines. place is where it lies if all of it lies together in the source; a stretch of another text with the same place and
// size is equal to it. Otherwise it is 0.
type run struct {
	place uintptr
	size  int
	lines []string
}

func (r *run) tokens() int {
	if len(r.lines) == 1 {
		return token.Count(r.lines[0])
	}
	return token.Count(strings.Join(r.lines, ""))
}

// next cuts the first stretch off lines.
func (g region) next(lines []string) (run, []string) {
	n := 1
	r := run{size: len(lines[0])}
	if at := uintptr(unsafe.Pointer(unsafe.StringData(lines[0]))); at >= g.start && at < g.end {
		r.place = at
	}
	for ; n < len(lines) && !token.Joins(lines[n-1], lines[n]); n++ {
		if r.place+uintptr(r.size) != uintptr(unsafe.Pointer(unsafe.StringData(lines[n]))) {
			r.place = 0
		}
		r.size += len(lines[n])
	}
	r.lines = lines[:n]
	return r, lines[n:]
}

// difference is how many tokens the text of the lines now has more than that of the lines before.
func (g region) difference(before, now []string) (n int) {
	var old run
	held := false // old is the first one of those that have not been compared
	more := func() bool {
		if !held && len(before) > 0 {
			old, before = g.next(before)
			held = true
		}
		return held
	}
	drop := func() {
		n -= old.tokens()
		held = false
	}
	for len(now) > 0 {
		var r run
		r, now = g.next(now)
		if r.place == 0 {
			n += r.tokens()
			continue
		}
		for more() && old.place < r.place {
			drop()
		}
		if held && old.place == r.place && old.size == r.size {
			held = false
			continue
		}
		n += r.tokens()
	}
	for more() {
		drop()
	}
	return n
}

// texts are the lines of a state, without empty ones.
func (s *state) texts() []string {
	size := 1
	for i := range s.bodies {
		size += len(s.bodies[i].lines)
	}
	all := make([]string, 0, size)
	headed := headedBody(s)
	for i := range s.bodies {
		if i == headed {
			all = appendText(all, s.header)
		}
		all = appendLines(all, s.bodies[i].lines)
	}
	return all
}

func appendLines(all []string, lines []line) []string {
	for j := range lines {
		all = appendText(all, lines[j].text)
	}
	return all
}

func appendText(all []string, text string) []string {
	if text == "" {
		return all
	}
	return append(all, text)
}
