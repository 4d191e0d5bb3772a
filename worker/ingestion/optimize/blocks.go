package optimize

import "math/bits"

const (
	blockLines  = 5 // minimum lines of a block
	blockTimes  = 3 // minimum occurrences of a block
	substantial = 3 // minimum lines of a window that are not blank
)

// block is a window of blockLines lines that occurs at least blockTimes times.
type block struct {
	first uint32 // index of its first line at its first occurrence
	chunk uint32 // the chunk of that line
	count uint32
	last  uint32 // its last counted occurrence, so that a run of equal lines does not count as many
}

// window returns the hash of the blockLines line hashes at the front of w, or false for mostly blank ones.
func window(w []uint32) (uint64, bool) {
	full := 0
	h := uint64(0x9e3779b97f4a7c15)
	for _, l := range w[:blockLines] {
		if l != 0 {
			full++
		}
		hi, lo := bits.Mul64(h^uint64(l), 0xa0761d6478bd642f)
		h = hi ^ lo
	}
	return h, full >= substantial
}

// Seal finds the repeated blocks. It reads the line hashes twice. The first time it counts windows in a sketch whose
// counts are never too low. The second time it counts exactly the windows that the sketch lets through.
func (p *Plan) Seal() {
	if p.sealed {
		return
	}
	p.sealed = true
	s := newSketch(p.lines.n)
	p.windows(func(_, _ uint32, h uint64) { s.add(h) })
	found := map[uint64]block{}
	p.windows(func(c, at uint32, h uint64) {
		if !s.often(h) {
			return
		}
		b, known := found[h]
		switch {
		case known && at < b.last+blockLines:
			return
		case known:
			b.count++
			b.last = at
		case len(found) >= p.limits.MaxBlocks:
			return
		default:
			b = block{first: at, chunk: c, count: 1, last: at}
		}
		found[h] = b
	})
	p.blocks = make(map[uint64]block, len(found)/4)
	for h, b := range found {
		if b.count >= blockTimes {
			p.blocks[h] = b
		}
	}
}

// windows calls visit for each window of each chunk, in order.
func (p *Plan) windows(visit func(chunk, at uint32, h uint64)) {
	var w []uint32
	for c := range p.chunks {
		from, to := int(p.chunks[c].lines), p.lines.n
		if c+1 < len(p.chunks) {
			to = int(p.chunks[c+1].lines)
		}
		w = w[:0]
		for i := from; i < to; i++ {
			w = append(w, p.lines.at(i))
		}
		for i := 0; i+blockLines <= len(w); i++ {
			if h, ok := window(w[i:]); ok {
				visit(uint32(c), uint32(from+i), h)
			}
		}
	}
}

// sketch counts to three in two bits, twice for each hash: a count-min sketch. Its size follows the number of windows, up
// to 64 MB. With eight counters per window, one window in a million is let through wrongly.
type sketch struct {
	bits []uint64
	mask uint64
}

func newSketch(windows int) *sketch {
	power := min(28, max(10, bits.Len(uint(windows)*8)))
	n := uint64(1) << power
	return &sketch{bits: make([]uint64, n/32), mask: n - 1}
}

func (s *sketch) get(i uint64) uint64 { return s.bits[i/32] >> (2 * (i % 32)) & 3 }

func (s *sketch) add(h uint64) {
	for _, i := range [2]uint64{h & s.mask, h >> 32 & s.mask} {
		if s.get(i) < 3 {
			s.bits[i/32] += 1 << (2 * (i % 32))
		}
	}
}

func (s *sketch) often(h uint64) bool { return s.get(h&s.mask) == 3 && s.get(h>>32&s.mask) == 3 }
