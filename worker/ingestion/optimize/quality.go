package optimize

import "kijko/worker/ingestion/parse"

// Totals sums results over the files of a project. The zero value is ready; it is not safe for concurrent use.
type Totals struct {
	Files           int
	Chunks          int // kept; duplicates are not counted
	References      int
	OriginalTokens  int
	OptimizedTokens int
	LostTokens      int
	Removed         [Techniques]int
}

// Add counts one file.
func (t *Totals) Add(r *Result) {
	t.Files++
	t.Chunks += r.Kept()
	t.References += len(r.References)
	t.OriginalTokens += r.OriginalTokens
	t.OptimizedTokens += r.OptimizedTokens
	t.LostTokens += r.LostTokens
	for i, n := range r.Removed {
		t.Removed[i] += n
	}
}

// ContextPreserved is 100 less the percentage of the original tokens that were removed without a resolvable reference,
// rounded down; 100 without tokens.
func (t *Totals) ContextPreserved() int {
	if t.OriginalTokens == 0 {
		return 100
	}
	return 100 * (t.OriginalTokens - min(t.LostTokens, t.OriginalTokens)) / t.OriginalTokens
}

// CompressionRatio is optimized to original tokens; 1 without tokens.
func (t *Totals) CompressionRatio() float64 {
	if t.OriginalTokens == 0 {
		return 1
	}
	return float64(t.OptimizedTokens) / float64(t.OriginalTokens)
}

// Resolvable reports whether a reference leads, in one step, to stored lines: to a body that no marker replaces.
func (p *Plan) Resolvable(r Reference) bool {
	_, ok := p.holder(r)
	return ok
}

// holder returns the chunk that holds all lines of a reference.
func (p *Plan) holder(r Reference) (*chunkFact, bool) {
	first, n, ok := p.chunkOf(r.Path)
	if !ok || r.StartLine > r.EndLine {
		return nil, false
	}
	for c := first; c < first+uint32(n); c++ {
		if f := &p.chunks[c]; f.body && r.StartLine >= int(f.startLine) && r.EndLine <= int(f.endLine) {
			return f, true
		}
	}
	return nil, false
}

// stored reports, by their hashes, whether the lines at a reference are those that it replaces; a license header is compared by its
// whole hash.
func (p *Plan) stored(r Reference, lines []line, layout parse.Layout) bool {
	f, ok := p.holder(r)
	if !ok || r.EndLine-r.StartLine+1 != len(lines) {
		return false
	}
	if _, h, n := license(text(lines)); n == len(lines) {
		if first, known := p.licenses[h]; known && &p.chunks[first] == f {
			return true
		}
	}
	at := int(f.lines) + r.StartLine - int(f.startLine)
	for j := range lines {
		if at+j >= p.lines.n || lines[j].own || lines[j].hash(layout, 0) != p.lines.at(at+j) {
			return false
		}
	}
	return true
}
