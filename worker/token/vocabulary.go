package token

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync"

	"github.com/tiktoken-go/tokenizer"
)

// none is the rank of a byte sequence that is no token.
const none = math.MaxUint32

// packed is the largest length of a piece that fits into two machine words.
const packed = 16

// key is a piece of at most packed bytes. Pieces may contain NUL, hence the length.
type key struct {
	lo, hi uint64
	n      uint32
}

func (k key) hash() uint64 {
	h, l := bits.Mul64(k.lo^0x9e3779b97f4a7c15^uint64(k.n)<<56, k.hi^0xe7037ed1a0b428db)
	return h ^ l
}

// pack returns the key of s[i:e], which must be 1 to packed bytes long.
func pack(s string, i, e int) key {
	k := key{n: uint32(e - i)}
	if i+packed <= len(s) {
		k.lo = word64(s[i : i+8])
		k.hi = word64(s[i+8 : i+16])
	} else {
		var b [packed]byte
		copy(b[:], s[i:e])
		k.lo = binary.LittleEndian.Uint64(b[:8])
		k.hi = binary.LittleEndian.Uint64(b[8:])
	}
	if k.n < 8 {
		k.lo &= 1<<(8*k.n) - 1
		k.hi = 0
	} else if k.n < packed {
		k.hi &= 1<<(8*(k.n-8)) - 1
	}
	return k
}

func word64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

type slot struct {
	key
	rank uint32
}

// vocabulary maps tokens to ranks: open addressing for the short tokens, a map for the few thousand long ones.
type vocabulary struct {
	plane *plane
	slots []slot
	mask  uint64
	long  map[string]uint32
	max   int // length of the longest token
}

// slotsPower gives 2^19 slots for 200,000 tokens. The table is two fifths full, so a miss, the usual result while
// merging, ends after one or two probes. It takes 12 MB.
const slotsPower = 19

// load reads the vocabulary from the library once. The library offers no iteration, but decodes each id.
var load = sync.OnceValue(func() *vocabulary {
	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil { // only for an unknown name
		return &vocabulary{plane: newPlane(), slots: make([]slot, 1)}
	}
	v := &vocabulary{
		plane: newPlane(),
		slots: make([]slot, 1<<slotsPower),
		mask:  1<<slotsPower - 1,
		long:  make(map[string]uint32),
	}
	one := make([]uint, 1)
	for id := range uint(200_000) {
		one[0] = id
		text, err := codec.Decode(one)
		if err != nil {
			continue // ids are not contiguous
		}
		v.add(text, uint32(id))
	}
	return v
})

func (v *vocabulary) add(text string, rank uint32) {
	v.max = max(v.max, len(text))
	if len(text) > packed {
		v.long[text] = rank
		return
	}
	k := pack(text, 0, len(text))
	for h := k.hash() & v.mask; ; h = (h + 1) & v.mask {
		if v.slots[h].n == 0 {
			v.slots[h] = slot{k, rank}
			return
		}
	}
}

func (v *vocabulary) find(k key) uint32 {
	for h := k.hash() & v.mask; ; h = (h + 1) & v.mask {
		s := &v.slots[h]
		if s.key == k {
			return s.rank
		}
		if s.n == 0 {
			return none
		}
	}
}

// rank returns the rank of s[i:e], or none.
func (v *vocabulary) rank(s string, i, e int) uint32 {
	switch n := e - i; {
	case n <= packed:
		return v.find(pack(s, i, e))
	case n <= v.max:
		if r, ok := v.long[s[i:e]]; ok {
			return r
		}
	}
	return none
}
