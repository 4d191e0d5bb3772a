package optimize

import (
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/parse"
)

// File is one file of the project with its chunks, as the chunking phase stored them.
type File struct {
	Path          string
	Language      string
	Layout        parse.Layout
	NeverCompress bool               // flagged so, or ingested with processingMode none: counted, never changed
	Verbatim      []parse.Verbatim   // as the parser found it, like the next two
	Imports       []parse.Import     // lines of import statements never belong to blocks
	Dependencies  []parse.Dependency // imports that may move to the list
	Chunks        []chunk.Chunk
	Tokens        int // of the chunks' contents together; 0 if they have not been counted

	Skip [Techniques]bool // techniques that do not run
	// Lead begins a comment of the language. With it all markers and the imports list are comments, so that code stays code.
	Lead string
}

// Limits bounds the memory of a plan. Zero values mean the defaults. A restarted run must use the same limits.
type Limits struct {
	MaxChunks int // chunks observed; default 2 million, 120 MB
	MaxLines  int // lines observed for repeated blocks; default 32 million, 128 MB
	MaxBlocks int // candidates for repeated blocks; default 1 million, 50 MB
}

// The errors of wrong use.
var (
	ErrOrder    = errors.New("files must be observed in ascending path order, before Seal")
	ErrNotReady = errors.New("the plan is not sealed")
	ErrUnknown  = errors.New("the file was not observed")
)

// Plan holds the facts about a whole project.
type Plan struct {
	limits   Limits
	sealed   bool
	files    []fileFact
	chunks   []chunkFact
	bodies   map[[16]byte]uint32 // hash to the first chunk with it
	licenses map[uint64]uint32   // hash of a license header to the first chunk with it
	skips    map[uint32]int      // lines before the license header in such a chunk
	lines    lineHashes
	blocks   map[uint64]block // repeated windows, after Seal
	buffer   []uint32
}

type fileFact struct {
	path  string
	first uint32 // its first chunk
}

// chunkFact is the data kept of a chunk. Its lines end where those of the next chunk begin.
type chunkFact struct {
	file      uint32
	startLine uint32
	endLine   uint32
	lines     uint32 // index of its first line hash
	columns   [2]uint32
	body      bool // no earlier chunk has the same body
	cited     bool // a later chunk has the same body, so that this one must stay as it is
}

// maxLicenses bounds the table of license headers; a project has only a few.
const maxLicenses = 10_000

// NewPlan returns an empty plan.
func NewPlan(l Limits) *Plan {
	if l.MaxChunks == 0 {
		l.MaxChunks = 2_000_000
	}
	if l.MaxLines == 0 {
		l.MaxLines = 32_000_000
	}
	if l.MaxBlocks == 0 {
		l.MaxBlocks = 1_000_000
	}
	return &Plan{limits: l, bodies: map[[16]byte]uint32{}, licenses: map[uint64]uint32{}, skips: map[uint32]int{}}
}

// Observe records the facts of the next file in path order.
func (p *Plan) Observe(f File) error {
	facts, err := FactsOf(f)
	if err != nil {
		return fmt.Errorf("observe %s: %w", f.Path, err)
	}
	return p.Add(f.Path, facts)
}

// Add is Observe with facts that were gathered earlier.
func (p *Plan) Add(path string, facts *Facts) error {
	if p.sealed {
		return fmt.Errorf("observe %s: %w", path, ErrOrder)
	}
	if k := len(p.files); k > 0 && p.files[k-1].path >= path {
		return fmt.Errorf("observe %s after %s: %w", path, p.files[k-1].path, ErrOrder)
	}
	p.files = append(p.files, fileFact{path: strings.Clone(path), first: uint32(len(p.chunks))})
	for i := range facts.Chunks {
		c := &facts.Chunks[i]
		if len(p.chunks) >= p.limits.MaxChunks {
			return nil
		}
		at := uint32(len(p.chunks))
		p.chunks = append(p.chunks, chunkFact{file: uint32(len(p.files) - 1), columns: c.Columns, startLine: c.StartLine, endLine: c.EndLine,
			lines: uint32(p.lines.n)})
		if c.Placed {
			if first, known := p.bodies[c.Hash]; known {
				p.chunks[first].cited = true
				continue // a repeated body is never the first place of a block
			}
			p.bodies[c.Hash] = at
		}
		p.chunks[at].body = true
		if i == 0 && c.Placed && facts.LicenseLines > 0 && len(p.licenses) < maxLicenses {
			if _, known := p.licenses[facts.License]; !known {
				p.licenses[facts.License] = at
				p.skips[at] = facts.LicenseSkip
			}
		}
		if room := p.limits.MaxLines - p.lines.n; room > 0 {
			base := p.lines.n
			p.buffer = c.hashes(p.buffer[:0], base)
			for _, h := range p.buffer[:min(room, len(p.buffer))] {
				p.lines.add(h)
			}
		}
	}
	return nil
}

func (p *Plan) licenseAt(c uint32) (skip int, ok bool) {
	skip, ok = p.skips[c]
	return skip, ok
}

func hashKey(h string) (key [16]byte, err error) {
	if len(h) != 32 {
		return key, fmt.Errorf("hash %q has not 32 digits", h)
	}
	_, err = hex.Decode(key[:], []byte(h))
	return key, err
}

// place returns the position of a chunk.
func (p *Plan) place(c uint32) (path string, from, to int) {
	f := &p.chunks[c]
	return p.files[f.file].path, int(f.startLine), int(f.endLine)
}

// chunkOf returns the index of the first chunk of a file, and the number of its observed chunks.
func (p *Plan) chunkOf(path string) (first uint32, n int, ok bool) {
	i := sort.Search(len(p.files), func(i int) bool { return p.files[i].path >= path })
	if i == len(p.files) || p.files[i].path != path {
		return 0, 0, false
	}
	end := uint32(len(p.chunks))
	if i+1 < len(p.files) {
		end = p.files[i+1].first
	}
	return p.files[i].first, int(end - p.files[i].first), true
}

// lineHashes is a long list that grows without being copied.
type lineHashes struct {
	pages [][]uint32
	n     int
}

const pageLines = 1 << 16

func (l *lineHashes) add(h uint32) {
	if l.n%pageLines == 0 {
		l.pages = append(l.pages, make([]uint32, 0, pageLines))
	}
	k := len(l.pages) - 1
	l.pages[k] = append(l.pages[k], h)
	l.n++
}

func (l *lineHashes) at(i int) uint32 { return l.pages[i/pageLines][i%pageLines] }
