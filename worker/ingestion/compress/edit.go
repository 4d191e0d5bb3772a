package compress

import (
	"fmt"
	"regexp"
	"strings"
)

// editor collects replacements in ascending order.
type editor struct {
	text  string
	edits []edit
}

type edit struct {
	start, end int
	text       string
}

func (e *editor) last() int {
	if k := len(e.edits); k > 0 {
		return e.edits[k-1].end
	}
	return 0
}

// replace replaces a stretch that begins where the last one ended, or later.
func (e *editor) replace(start, end int, text string) {
	if start = max(start, e.last()); start < end {
		e.edits = append(e.edits, edit{start, end, text})
	}
}

// undo forgets the replacements that reach beyond an offset.
func (e *editor) undo(from int) {
	for k := len(e.edits); k > 0 && e.edits[k-1].end > from; k-- {
		e.edits = e.edits[:k-1]
	}
}

func (e *editor) result() string {
	if len(e.edits) == 0 {
		return e.text
	}
	var b strings.Builder
	b.Grow(len(e.text))
	at := 0
	for _, x := range e.edits {
		b.WriteString(e.text[at:x.start])
		b.WriteString(x.text)
		at = x.end
	}
	b.WriteString(e.text[at:])
	return b.String()
}

// marked are the comments that this package and package optimize leave.
var marked = regexp.MustCompile(`^(?://|#|--|/\*|;) (?:\[(?:\d+ lines?(?: as in [^\]\n]+)?|license as in [^\]\n]+|same as [^\]\n]+)\](?: \*/)?|imports: [^\n]*)$`)

// elided reports whether a marker is all that a stretch holds: it was left out before, and its number of lines stays.
func elided(s string) bool {
	s = strings.TrimSpace(s)
	return len(s) < 40 && marked.MatchString(s)
}

// dropComment removes a comment: with its lines if it has them to itself, else with the blanks before it.
func (e *editor) dropComment(start, end int) {
	for end > start && (e.text[end-1] == '\n' || e.text[end-1] == '\r') {
		end--
	}
	if marked.MatchString(e.text[start:end]) {
		return
	}
	e.drop(start, end)
}

func (e *editor) drop(start, end int) {
	from, to := start, end
	for from > 0 && (e.text[from-1] == ' ' || e.text[from-1] == '\t') {
		from--
	}
	for to < len(e.text) && (e.text[to] == ' ' || e.text[to] == '\t' || e.text[to] == '\r') {
		to++
	}
	switch {
	case (from == 0 || e.text[from-1] == '\n') && from >= e.last() && (to == len(e.text) || e.text[to] == '\n'):
		e.replace(from, min(to+1, len(e.text)), "")
	case to == len(e.text) || e.text[to] == '\n':
		e.replace(from, to, "")
	case from < start:
		e.replace(start, to, "")
	case to > end:
		e.replace(start, end, "")
	default:
		e.replace(start, end, " ") // words on both sides stay apart
	}
}

func lines(s string) int {
	s = strings.Trim(s, " \t\r\n")
	if s == "" {
		return 0
	}
	return strings.Count(s, "\n") + 1
}

func count(n int) string {
	if n == 1 {
		return "[1 line]"
	}
	return fmt.Sprintf("[%d lines]", n)
}
