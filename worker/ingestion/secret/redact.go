package secret

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// Finding is one secret that was replaced.
type Finding struct {
	Kind string // kebab-case, as in the marker
	Line int    // counted from 1, in the given text
}

// mark begins every marker; a match that contains it is never a secret.
const mark = "[REDACTED:"

// passes bounds the repetitions that make Redact idempotent; a second pass that finds something is already rare.
const passes = 8

// Redactor replaces secrets.
type Redactor struct {
	rules []rule
	allow []*allowlist
	words *automaton
	users [][]int // rules of each word
	free  []int   // rules without keywords, which check every text
	file  *rule   // names the secrets in a file of passwords
}

// New compiles the rules, which takes some tens of milliseconds. It fails only if the configuration of the gitleaks module differs
// from the one that this package was built for.
func New() (*Redactor, error) {
	rules, allow, err := load()
	if err != nil {
		return nil, err
	}
	r := &Redactor{rules: rules, allow: allow}
	index := map[string]int{}
	var words []string
	for i, x := range rules {
		if len(x.words) == 0 && x.find == nil {
			r.free = append(r.free, i)
		}
		for _, w := range x.words {
			k, ok := index[w]
			if !ok {
				k = len(words)
				index[w] = k
				words = append(words, w)
				r.users = append(r.users, nil)
			}
			r.users[k] = append(r.users[k], i)
		}
	}
	r.words = newAutomaton(words)
	r.file = &rule{kind: "password-file"}
	return r, nil
}

// Redact returns the text with its secrets replaced, and the findings by line. path is relative; some rules use it. No path exempts
// a file: gitleaks skips lock files, images written as text and others, but their content is stored here.
func (r *Redactor) Redact(path, text string) (string, []Finding) {
	var all []Finding
	for range passes {
		found := r.scan(path, text)
		if len(found) == 0 {
			break
		}
		text = replace(text, found, &all)
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return text, all
}

// span is a secret in a text.
type span struct {
	from, to int
	rule     *rule
}

// stretch is the part of the text on which a rule's pattern runs.
type stretch struct{ from, to int }

// scan returns the secrets of a text, in ascending order and without overlaps.
func (r *Redactor) scan(path, text string) []span {
	near := map[int][]stretch{}
	var found []span
	d := newDocument(path, text)
	d.entries(func(from, to int) { found = append(found, span{from, to, r.file}) })
	r.words.find(text, func(word, at, end int) {
		for _, k := range r.users[word] {
			x := &r.rules[k]
			if x.find != nil {
				x.find(d, at, end, func(from, to int) { found = append(found, span{from, to, x}) })
				continue
			}
			if x.check != nil && !x.check(text, at, end) {
				continue
			}
			list := near[k]
			last := len(list) - 1
			if last >= 0 && at-before >= list[last].from && end+x.reach <= list[last].to {
				continue // this stretch was searched before
			}
			w := around(text, at, end, x.reach)
			if last >= 0 && w.from <= list[last].to {
				list[last] = stretch{min(list[last].from, w.from), max(list[last].to, w.to)}
				continue
			}
			near[k] = append(list, w)
		}
	})
	for _, k := range r.free {
		near[k] = []stretch{{0, len(text)}}
	}
	if len(near) == 0 {
		return apart(found)
	}
	keys := make([]int, 0, len(near))
	for k := range near {
		keys = append(keys, k)
	}
	slices.Sort(keys) // makes the findings deterministic
	for _, k := range keys {
		x := &r.rules[k]
		if x.path != nil && !x.path.MatchString(path) || pathAllowed(x.allow, path) {
			continue
		}
		done := 0
		for _, w := range near[k] {
			if w.to > done {
				found, done = r.match(x, path, text, w, found)
			}
		}
	}
	return apart(found)
}

const (
	before  = 256     // bytes before the keyword that a pattern may need
	lineEnd = 4096    // how far the end of a line is searched
	longest = 1 << 20 // how far a match may reach
)

// around returns the lines around a keyword. Patterns match the ends of lines and words, so the stretch must not end inside of one.
func around(text string, at, end, reach int) stretch {
	from := max(0, at-before)
	if k := strings.LastIndexByte(text[max(0, from-lineEnd):from], '\n'); k >= 0 {
		from = max(0, from-lineEnd) + k + 1
	} else {
		from = max(0, from-lineEnd)
	}
	to := min(len(text), end+reach)
	tail := text[to:min(len(text), to+lineEnd)]
	if k := strings.IndexByte(tail, '\n'); k >= 0 {
		to += k + 1
	} else {
		to += len(tail)
	}
	return stretch{from, to}
}

// match adds the secrets that a rule finds in a stretch, and returns how far it has searched.
func (r *Redactor) match(x *rule, path, text string, w stretch, found []span) ([]span, int) {
	part := text[w.from:w.to]
	if len(x.needs) > 0 && !slices.ContainsFunc(x.needs, func(d need) bool { return d.met(part) }) {
		return found, w.to
	}
	matches := x.pattern.FindAllStringSubmatchIndex(part, -1)
	if n := len(matches); n > 0 && w.to < len(text) && matches[n-1][1] == len(part) && len(part) < longest {
		// The edge may have cut the match: search again in a longer stretch.
		return r.match(x, path, text, around(text, w.from+before, w.to, len(part)), found)
	}
	for _, m := range matches {
		from, to := secretOf(x, m)
		from, to = trim(part, from, to)
		if to-from > 2 && part[from] == part[to-1] && strings.IndexByte("\"'`", part[from]) >= 0 {
			from, to = from+1, to-1 // the quotes belong to the text around
		}
		if from >= to {
			continue
		}
		s := part[from:to]
		if strings.Contains(s, mark) || integrity(text, w.from+from) {
			continue
		}
		if x.entropy > 0 && entropy(s) <= x.entropy {
			continue
		}
		whole := strings.Trim(part[m[0]:m[1]], "\n")
		line := lineOf(text, w.from+m[0], w.from+m[1])
		if allowed(r.allow, path, s, whole, line) || allowed(x.allow, path, s, whole, line) {
			continue
		}
		found = append(found, span{w.from + from, w.from + to, x})
	}
	return found, w.to
}

func secretOf(x *rule, m []int) (from, to int) {
	if x.group > 0 {
		return m[2*x.group], m[2*x.group+1]
	}
	for g := 1; 2*g < len(m); g++ {
		if m[2*g] >= 0 && m[2*g+1] > m[2*g] {
			return m[2*g], m[2*g+1]
		}
	}
	return m[0], m[1]
}

// trim excludes line ends around a secret.
func trim(s string, from, to int) (int, int) {
	for from < to && (s[from] == '\n' || s[from] == '\r') {
		from++
	}
	for from < to && (s[to-1] == '\n' || s[to-1] == '\r') {
		to--
	}
	return from, to
}

// lineOf returns the lines that contain text[from:to], at most 4 KB to each side.
func lineOf(text string, from, to int) string {
	low := max(0, from-lineEnd)
	if k := strings.LastIndexByte(text[low:from], '\n'); k >= 0 {
		low += k + 1
	}
	high := min(len(text), to+lineEnd)
	if k := strings.IndexByte(text[to:high], '\n'); k >= 0 {
		high = to + k
	}
	return text[low:high]
}

// apart sorts spans and merges those that overlap. The more specific rule names the merged span.
func apart(found []span) []span {
	slices.SortStableFunc(found, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
	out := found[:0]
	for _, s := range found {
		if n := len(out); n > 0 && s.from < out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			if out[n-1].rule.generic && !s.rule.generic {
				out[n-1].rule = s.rule
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

func replace(text string, found []span, all *[]Finding) string {
	var b strings.Builder
	b.Grow(len(text))
	from, line := 0, 1
	for _, s := range found {
		gap := text[from:s.from]
		b.WriteString(gap)
		line += strings.Count(gap, "\n")
		*all = append(*all, Finding{Kind: s.rule.kind, Line: line})
		b.WriteString(mark)
		b.WriteString(s.rule.kind)
		b.WriteByte(']')
		breaks := strings.Count(text[s.from:s.to], "\n")
		for range breaks {
			b.WriteByte('\n')
		}
		line += breaks
		from = s.to
	}
	b.WriteString(text[from:])
	return b.String()
}

// entropy is Shannon's, in bits per character, computed as gitleaks does: the length in bytes, the counts by characters.
func entropy(s string) float64 {
	var ascii [128]int
	var more map[rune]int
	for _, c := range s {
		if c < 128 {
			ascii[c]++
			continue
		}
		if more == nil {
			more = map[rune]int{}
		}
		more[c]++
	}
	e, inverse := 0.0, 1/float64(len(s))
	add := func(n int) {
		if n > 0 {
			f := float64(n) * inverse
			e -= f * math.Log2(f)
		}
	}
	for _, n := range ascii {
		add(n)
	}
	counts := make([]int, 0, len(more))
	for _, n := range more {
		counts = append(counts, n)
	}
	slices.Sort(counts) // the sum of floats depends on their order
	for _, n := range counts {
		add(n)
	}
	return e
}
