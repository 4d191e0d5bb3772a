package optimize

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

// Version changes when the techniques give another text for the same files.
const Version = "1"

// Facts are what a plan needs to know of a file. They follow from the file alone, so they can be kept until it changes.
type Facts struct {
	Chunks       []ChunkFacts
	License      uint64 // hash of the license header
	LicenseSkip  int    // lines before it
	LicenseLines int    // 0: the file has none
}

// ChunkFacts are the facts of one chunk.
type ChunkFacts struct {
	Hash      [16]byte
	Placed    bool // a stretch of the text; a webhook may give chunks that are none
	StartLine uint32
	EndLine   uint32
	Columns   [2]uint32
	Lines     string // hashes of the lines, four bytes each
}

// Size is about how many bytes of memory the facts take.
func (f *Facts) Size() int {
	n := 100
	for i := range f.Chunks {
		n += 100 + len(f.Chunks[i].Lines)
	}
	return n
}

// ownLine stands for a line that must not be part of a block. No hash of a line is 2: they are odd, or 0 for a blank line.
const ownLine = 2

// FactsOf gathers the facts of a file.
func FactsOf(f File) (*Facts, error) {
	facts := &Facts{Chunks: make([]ChunkFacts, len(f.Chunks))}
	read := newReader(&f)
	var lines []line
	for i := range f.Chunks {
		c := &f.Chunks[i]
		key, err := hashKey(c.Hash)
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", c.Order, err)
		}
		if i == 0 && c.StartByte >= 0 {
			facts.LicenseSkip, facts.License, facts.LicenseLines = license(c.Content)
		}
		lines = read.chunk(lines[:0], i)
		read.seal(lines, i)
		hashes := make([]byte, 0, 4*len(lines))
		for j := range lines {
			h := uint32(ownLine)
			if !lines[j].own {
				h = lines[j].hash(f.Layout, 0)
			}
			hashes = binary.LittleEndian.AppendUint32(hashes, h)
		}
		facts.Chunks[i] = ChunkFacts{Hash: key, Placed: c.StartByte >= 0, StartLine: uint32(c.StartLine), EndLine: uint32(c.EndLine),
			Columns: [2]uint32{uint32(c.StartColumn), uint32(c.EndColumn)}, Lines: string(hashes)}
	}
	return facts, nil
}

// hashes appends the hashes of the lines of a chunk whose first line has this number in the whole project.
func (c *ChunkFacts) hashes(to []uint32, base int) []uint32 {
	for k := 0; k+4 <= len(c.Lines); k += 4 {
		h := uint32(c.Lines[k]) | uint32(c.Lines[k+1])<<8 | uint32(c.Lines[k+2])<<16 | uint32(c.Lines[k+3])<<24
		if h == ownLine {
			h = uniqueHash(base + k/4)
		}
		to = append(to, h)
	}
	return to
}

// uniqueHash is the hash of a line that is like no other one.
func uniqueHash(at int) uint32 { return uint32(at)*0x9e3779b1 | 1 }

// Standing is a fingerprint of everything in other files that decides what Apply makes of this one: which of its chunks are repeated or
// cited, and where each duplicate, license header and block leads. As long as a file and its standing stay the same, so does the result.
// It may be called from many goroutines after Seal.
func (p *Plan) Standing(path string, facts *Facts) ([16]byte, error) {
	var sum [16]byte
	if !p.sealed {
		return sum, fmt.Errorf("standing of %s: %w", path, ErrNotReady)
	}
	first, observed, ok := p.chunkOf(path)
	if !ok {
		return sum, fmt.Errorf("standing of %s: %w", path, ErrUnknown)
	}
	s := standing{p: p, h: sha256.New()}
	s.put(uint32(observed))
	var hashes []uint32
	for i := range facts.Chunks[:min(observed, len(facts.Chunks))] {
		c, at := &facts.Chunks[i], first+uint32(i)
		if p.chunks[at].cited {
			s.put(1)
		} else {
			s.put(0)
		}
		if body, known := p.bodies[c.Hash]; known && c.Placed && body != at {
			s.target(2, 0, body, 0)
		}
		if i == 0 && facts.LicenseLines > 0 {
			if holder, known := p.licenses[facts.License]; known && holder != first {
				s.target(3, 0, holder, uint32(p.skips[holder]))
			}
		}
		if len(p.blocks) == 0 {
			continue
		}
		base := p.chunks[at].lines
		hashes = c.hashes(hashes[:0], int(base))
		for j := 0; j+blockLines <= len(hashes); j++ {
			h, ok := window(hashes[j:])
			if !ok {
				continue
			}
			switch k, ok := p.blocks[h]; {
			case !ok:
			case k.first == base+uint32(j) && k.chunk == at:
				s.put(4)
				s.put(uint32(j))
			default:
				s.target(5, uint32(j), k.chunk, k.first-p.chunks[k.chunk].lines)
			}
		}
	}
	copy(sum[:], s.h.Sum(nil))
	return sum, nil
}

type standing struct {
	p *Plan
	h hash.Hash
	b [4]byte
}

func (s *standing) put(n uint32) {
	binary.LittleEndian.PutUint32(s.b[:], n)
	s.h.Write(s.b[:])
}

// target says that a line of the file leads to a line of a chunk.
func (s *standing) target(kind, from, chunk, line uint32) {
	c := &s.p.chunks[chunk]
	for _, n := range [...]uint32{kind, from, c.startLine, c.endLine, c.columns[0], c.columns[1], line} {
		s.put(n)
	}
	s.h.Write([]byte(s.p.files[c.file].path + "\x00"))
}
