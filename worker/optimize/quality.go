package optimize

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

// CompressionRatio is optimised to original tokens; 1 without tokens.
func (t *Totals) CompressionRatio() float64 {
	if t.OriginalTokens == 0 {
		return 1
	}
	return float64(t.OptimizedTokens) / float64(t.OriginalTokens)
}

// Resolvable says whether a reference names lines that the plan has observed.
func (p *Plan) Resolvable(r Reference) bool {
	first, n, ok := p.chunkOf(r.Path)
	if !ok || n == 0 || r.StartLine > r.EndLine {
		return false
	}
	last := p.chunks[first+uint32(n)-1]
	return r.StartLine >= int(p.chunks[first].startLine) && r.EndLine <= int(last.endLine)
}
