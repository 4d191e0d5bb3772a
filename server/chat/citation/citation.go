// Package citation keeps the markers of an answer true. A marker is a number in brackets, `[2]`, or several, `[1, 3]` or `[1-3]`. It names a
// passage that the model was given. A model also writes markers of passages that do not exist, so a Filter removes those, and it never passes
// on a part of a marker. Markers in code are indexes of a program and stay as they are.
package citation

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxRun bounds a sequence of markers, maxLine the rest of a line that may be code. Longer ones are passed on as far as they go.
	maxRun  = 512
	maxLine = 4096
)

// Filter filters one answer. It is not safe for concurrent use.
type Filter struct {
	passages int
	pending  string
	// inLine is true where pending does not begin a line.
	inLine bool
	// fence is the line that opened a block of code and has not been closed: its characters.
	fence string
	cited map[int]bool
}

// New makes a Filter for an answer to that many passages, which are numbered from 1.
func New(passages int) *Filter { return &Filter{passages: passages, cited: map[int]bool{}} }

// Write takes the next piece of the answer and returns the text that may be passed on.
func (f *Filter) Write(text string) string {
	f.pending += text
	return f.take(false)
}

// Close returns the rest of the answer. An unfinished marker at its end is dropped.
func (f *Filter) Close() string { return unfinished.ReplaceAllString(f.take(true), "") }

// Cited returns the cited passages in order.
func (f *Filter) Cited() []int {
	all := make([]int, 0, len(f.cited))
	for n := range f.cited {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

var (
	unfinished = regexp.MustCompile(`[ \t]*\[[ \t]*\d[\d \t,;–-]*$`)
	fenceLine  = regexp.MustCompile("^ {0,3}(`{3,}|~{3,})([^\n]*)\n")
	// A line that may become such a line.
	fenceStart = regexp.MustCompile("^ {0,3}(`+|~+)?[^\n]*$")
	blankStart = regexp.MustCompile("^ {0,3}(`|~|$)")
	marker     = regexp.MustCompile(`[ \t]*\[[ \t]*\d+(?:[ \t]*[,;–-][ \t]*\d+)*[ \t]*\]`)
	number     = regexp.MustCompile(`([–-]?)[ \t]*(\d+)`)
)

// take returns as much of pending as can be decided, all of it at the end.
func (f *Filter) take(end bool) string {
	var out strings.Builder
	for f.pending != "" {
		n, text := f.next(end)
		if n == 0 {
			break
		}
		f.inLine = f.pending[n-1] != '\n'
		f.pending = f.pending[n:]
		out.WriteString(text)
	}
	return out.String()
}

// next returns how many bytes of pending are decided, and what becomes of them; 0: more must come.
func (f *Filter) next(end bool) (int, string) {
	p := f.pending
	if !f.inLine {
		if n, decided := f.line(end); !decided {
			return 0, ""
		} else if n > 0 {
			return n, p[:n]
		}
	}
	if f.fence != "" {
		n := strings.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		return n, p[:n]
	}
	switch at := strings.IndexAny(p, "[` \t\n"); {
	case at < 0:
		return len(p), p
	case p[at] == '\n':
		return at + 1, p[:at+1]
	case at > 0:
		return at, p[:at]
	case p[0] == '`':
		return f.code(end)
	}
	return f.run(end)
}

// line decides whether a line opens or closes a block of code: n is the length of such a line. Undecided: more must come.
func (f *Filter) line(end bool) (n int, decided bool) {
	p := f.pending
	if m := fenceLine.FindStringSubmatch(p); m != nil {
		switch {
		case f.fence == "" && (m[1][0] == '~' || !strings.Contains(m[2], "`")):
			f.fence = m[1]
			return len(m[0]), true
		case f.fence != "" && m[1][0] == f.fence[0] && len(m[1]) >= len(f.fence) && strings.TrimSpace(m[2]) == "":
			f.fence = ""
			return len(m[0]), true
		}
		return 0, true
	}
	open := !end && len(p) < maxLine && fenceStart.MatchString(p) && blankStart.MatchString(p)
	return 0, !open
}

// code decides about code within a line: from a sequence of backticks to the next equal one.
func (f *Filter) code(end bool) (int, string) {
	p := f.pending
	ticks := len(p) - len(strings.TrimLeft(p, "`"))
	rest := p[ticks:]
	line, _, whole := strings.Cut(rest, "\n")
	for at := 0; at < len(line); {
		begin := strings.IndexByte(line[at:], '`')
		if begin < 0 {
			break
		}
		begin += at
		at = begin + len(line[begin:]) - len(strings.TrimLeft(line[begin:], "`"))
		if at-begin == ticks && (at < len(line) || whole || end) {
			n := ticks + at
			return n, p[:n]
		}
	}
	if !whole && !end && len(p) < maxLine {
		return 0, ""
	}
	return ticks, p[:ticks]
}

// run decides about a sequence of markers with the blanks around it. It is looked at as a whole, because a removed marker may leave another
// one: [[9]7].
func (f *Filter) run(end bool) (int, string) {
	p := f.pending
	n := strings.IndexFunc(p, func(r rune) bool { return !strings.ContainsRune("[]0123456789 \t,;–-", r) })
	switch {
	case n < 0 && !end && len(p) < maxRun:
		return 0, ""
	case n < 0 && len(p) >= maxRun && strings.LastIndexByte(p, '[') > 0:
		n = strings.LastIndexByte(p, '[')
	case n < 0:
		n = len(p)
	}
	text := p[:n]
	var kept []string
	for {
		cleaned := marker.ReplaceAllStringFunc(text, func(m string) string {
			blanks := m[:strings.IndexByte(m, '[')]
			numbers := f.numbers(m)
			if len(numbers) == 0 {
				return ""
			}
			var b strings.Builder
			b.WriteString(blanks)
			for _, n := range numbers {
				f.cited[n] = true
				b.WriteString("[" + strconv.Itoa(n) + "]")
			}
			kept = append(kept, b.String())
			return placeholder(len(kept) - 1)
		})
		if cleaned == text {
			break
		}
		text = cleaned
	}
	for i, k := range kept {
		text = strings.Replace(text, placeholder(i), k, 1)
	}
	return n, text
}

// placeholder stands for a kept marker. A run has no such character.
func placeholder(i int) string { return string(rune(0xE000 + i)) }

// numbers returns the passages that a marker names and that exist.
func (f *Filter) numbers(marker string) (all []int) {
	last := 0
	for _, m := range number.FindAllStringSubmatch(marker, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		from := n
		if m[1] != "" && last > 0 && last < n {
			from = last + 1
		}
		for i := max(from, 1); i <= min(n, f.passages); i++ {
			if !slices.Contains(all, i) {
				all = append(all, i)
			}
		}
		last = n
	}
	return all
}
