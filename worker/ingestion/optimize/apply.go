package optimize

import (
	"fmt"
	"strings"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/token"
)

// Technique is one of the four techniques, in the order in which they run.
type Technique int

// The techniques.
const (
	Deduplication Technique = iota
	PatternCompression
	Whitespace
	Imports
)

// Techniques is the number of techniques.
const Techniques = 4

// String returns the technique's id in the contract.
func (t Technique) String() string {
	return [...]string{"deduplication", "pattern_compression", "whitespace", "imports"}[t]
}

// Reference says that the text is stored elsewhere.
type Reference struct {
	Technique Technique
	Order     int // chunk that holds the marker
	Path      string
	StartLine int
	EndLine   int
}

// Chunk is the stored form of a chunk after optimization. StartLine and EndLine stay those of the source, Hash that of the original
// content.
type Chunk struct {
	chunk.Chunk
	Duplicate bool // Content is only a marker; the body is at the reference
}

// Result is the stored form of a file.
type Result struct {
	Chunks          []Chunk // in order; put together, their contents are the file's stored text
	Header          string  // imports list at the front of the first non-duplicate chunk; may be empty
	Removed         [Techniques]int
	OriginalTokens  int
	OptimizedTokens int
	LostTokens      int // of OriginalTokens, removed without a reference
	References      []Reference
}

// Kept returns the number of chunks that are not duplicates.
func (r *Result) Kept() int {
	n := 0
	for i := range r.Chunks {
		if !r.Chunks[i].Duplicate {
			n++
		}
	}
	return n
}

// body is a chunk that is being rewritten.
type body struct {
	lines     []line
	duplicate bool
	cited     bool // a later chunk refers to it: its text must neither shrink nor grow
	refs      []Reference
}

func text(lines []line) string {
	if len(lines) == 1 {
		return lines[0].text
	}
	var s strings.Builder
	for i := range lines {
		s.WriteString(lines[i].text)
	}
	return s.String()
}

// state is a file that is being rewritten. A technique makes a new state and does not change the old one.
type state struct {
	bodies []body
	header string
	tokens int
	lost   int
}

// Apply rewrites one file. The file must be as it was observed.
func (p *Plan) Apply(f File) (Result, error) {
	if !p.sealed {
		return Result{}, fmt.Errorf("apply to %s: %w", f.Path, ErrNotReady)
	}
	first, observed, ok := p.chunkOf(f.Path)
	if !ok {
		return Result{}, fmt.Errorf("apply to %s: %w", f.Path, ErrUnknown)
	}
	now := state{bodies: make([]body, len(f.Chunks))}
	read := newReader(&f)
	for i := range f.Chunks {
		b := &now.bodies[i]
		b.lines = read.chunk(make([]line, 0, strings.Count(f.Chunks[i].Content, "\n")+1), i)
		read.seal(b.lines, i)
		b.cited = i < observed && p.chunks[first+uint32(i)].cited
	}
	region, before := regionOf(&f), now.texts()
	if now.tokens = f.Tokens; now.tokens == 0 {
		now.tokens = token.Count(strings.Join(before, ""))
	}
	r := Result{OriginalTokens: now.tokens}
	if !f.NeverCompress {
		w := work{p: p, f: &f, first: first, observed: observed, source: now.bodies}
		for t, technique := range [Techniques]func(*state) bool{w.deduplicate, w.patterns, w.whitespace, w.imports} {
			if f.Skip[t] {
				continue
			}
			next := now
			next.bodies = append([]body(nil), now.bodies...)
			if !technique(&next) {
				continue
			}
			texts := next.texts()
			next.tokens = now.tokens + region.difference(before, texts)
			if next.tokens >= now.tokens {
				continue // the text did not get smaller: it stays unchanged
			}
			r.Removed[t] = now.tokens - next.tokens
			now, before = next, texts
		}
		now.lost += w.missing(&now)
	}
	r.OptimizedTokens, r.LostTokens = now.tokens, now.lost
	r.Header = now.header
	r.Chunks = p.chunksOf(&f, &now, region)
	for i := range now.bodies {
		r.References = append(r.References, now.bodies[i].refs...)
	}
	return r, nil
}

// chunksOf makes the stored chunks. A body that became empty is dropped.
func (p *Plan) chunksOf(f *File, s *state, source region) []Chunk {
	out := make([]Chunk, 0, len(s.bodies))
	headed := headedBody(s)
	for i := range s.bodies {
		b := &s.bodies[i]
		text := text(b.lines)
		if i == headed {
			text = s.header + text
		}
		if text == "" {
			continue
		}
		c := Chunk{Chunk: f.Chunks[i], Duplicate: b.duplicate}
		if text != c.Content {
			var was []string
			for l := range strings.Lines(c.Content) {
				was = append(was, l)
			}
			texts := make([]string, 0, len(b.lines)+1)
			if i == headed {
				texts = appendText(texts, s.header)
			}
			c.Tokens += source.difference(was, appendLines(texts, b.lines))
			c.Content = text
		}
		out = append(out, c)
	}
	return out
}

// headedBody returns the body that carries the header: the first one that is not a duplicate, not cited and not empty, or else the
// first empty one. It returns -1 without a header or a body for it.
func headedBody(s *state) int {
	if s.header == "" {
		return -1
	}
	empty := -1
	for i := range s.bodies {
		if s.bodies[i].duplicate || s.bodies[i].cited {
			continue
		}
		if len(s.bodies[i].lines) > 0 {
			return i
		}
		if empty < 0 {
			empty = i
		}
	}
	return empty
}
