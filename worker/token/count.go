package token

import (
	"strings"
	"sync"
	"unicode/utf8"
)

// MaxPiece is the longest unbroken piece, in bytes, that is merged as a whole.
const MaxPiece = 64 << 10

const (
	knownPower = 14      // 2^14 short pieces remembered, about 400 KB: fits the second-level cache
	longKnown  = 4096    // long pieces remembered before all are forgotten
	longLimit  = 256     // longest piece worth remembering
	keepNodes  = 1 << 12 // scratch of the heap kept between calls
)

type remembered struct {
	key
	count uint32
}

// scratch is the working memory of one call of Count. A cached count is valid for every call, so calls may share it.
type scratch struct {
	v     *vocabulary
	known [1 << knownPower]remembered
	long  map[string]int
	nodes []node
	heap  []uint64
}

var pool = sync.Pool{New: func() any { return &scratch{v: load(), long: map[string]int{}} }}

// Count returns the number of tokens of text in the encoding o200k_base; 0 for the empty text. Names of special tokens
// count as ordinary text.
func Count(text string) int {
	if text == "" {
		return 0
	}
	if !utf8.ValidString(text) {
		text = string([]rune(text)) // each invalid byte is U+FFFD to the reference, too
	}
	b, _ := pool.Get().(*scratch)
	n := b.count(text)
	b.done()
	return n
}

func (b *scratch) done() {
	if cap(b.nodes) > keepNodes {
		b.nodes, b.heap = nil, nil
	}
	pool.Put(b)
}

func (b *scratch) count(s string) int {
	total := 0
	p := b.v.plane
	for i := 0; i < len(s); {
		e := p.next(s, i)
		if e-i == 1 { // every byte is a token
			total++
		} else if e-i <= packed {
			total += b.short(s, i, e)
		} else {
			total += b.longer(s[i:e])
		}
		i = e
	}
	return total
}

func (b *scratch) short(s string, i, e int) int {
	k := pack(s, i, e)
	r := &b.known[k.hash()>>(64-knownPower)]
	if r.key == k {
		return int(r.count)
	}
	n := 1
	if b.v.find(k) == none {
		n = b.mergeScan(s[i:e])
	}
	*r = remembered{k, uint32(n)}
	return n
}

func (b *scratch) longer(s string) int {
	if b.v.rank(s, 0, len(s)) != none {
		return 1
	}
	if len(s) > longLimit {
		return b.windows(s)
	}
	if n, ok := b.long[s]; ok {
		return n
	}
	n := b.merge(s)
	if len(b.long) >= longKnown {
		clear(b.long)
	}
	b.long[strings.Clone(s)] = n
	return n
}

// windows merges a piece in windows of at most MaxPiece bytes that end between characters.
func (b *scratch) windows(s string) int {
	total := 0
	for len(s) > MaxPiece {
		e := MaxPiece
		for e > MaxPiece-utf8.UTFMax && !utf8.RuneStart(s[e]) {
			e--
		}
		total += b.merge(s[:e])
		s = s[e:]
	}
	return total + b.merge(s)
}
