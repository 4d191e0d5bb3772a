package chunk

// Quality sums the chunk figures that section 18.3 shows. The zero value is ready; it is not safe for concurrent use.
type Quality struct {
	Chunks   int
	Tokens   int
	Coherent int // begin and end on a syntactic boundary
	ByType   map[Type]TypeQuality
}

// TypeQuality are the numbers of one type.
type TypeQuality struct{ Chunks, Tokens int }

// Add counts the chunks of one file.
func (q *Quality) Add(chunks []Chunk) {
	if q.ByType == nil {
		q.ByType = map[Type]TypeQuality{}
	}
	for i := range chunks {
		c := &chunks[i]
		q.Chunks++
		q.Tokens += c.Tokens
		if c.OnBoundaryStart && c.OnBoundaryEnd {
			q.Coherent++
		}
		t := q.ByType[c.Type]
		q.ByType[c.Type] = TypeQuality{t.Chunks + 1, t.Tokens + c.Tokens}
	}
}

// Merge adds the figures of other files.
func (q *Quality) Merge(o *Quality) {
	if q.ByType == nil {
		q.ByType = map[Type]TypeQuality{}
	}
	q.Chunks += o.Chunks
	q.Tokens += o.Tokens
	q.Coherent += o.Coherent
	for t, n := range o.ByType {
		m := q.ByType[t]
		q.ByType[t] = TypeQuality{m.Chunks + n.Chunks, m.Tokens + n.Tokens}
	}
}

// SemanticCoherence is the percentage of chunks that begin and end on a syntactic boundary, rounded down; 100 without
// chunks.
func (q *Quality) SemanticCoherence() int {
	if q.Chunks == 0 {
		return 100
	}
	return 100 * q.Coherent / q.Chunks
}

// AvgChunkSize is tokens per chunk, rounded down.
func (q *Quality) AvgChunkSize() int {
	if q.Chunks == 0 {
		return 0
	}
	return q.Tokens / q.Chunks
}
