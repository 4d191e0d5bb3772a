package token

import (
	"strings"
	"unicode/utf8"
)

// Prefix returns the length in bytes of the longest beginning of text that ends between two pieces and has at most limit
// tokens, and its number of tokens. If the first piece alone has more tokens, it is cut between characters. At least one
// character is always taken, so that a loop over Prefix ends. The time is linear in the length of the result.
//
// Invalid UTF-8 is counted byte by byte as U+FFFD, as Count does.
func Prefix(text string, limit int) (length, tokens int) {
	if text == "" {
		return 0, 0
	}
	limit = max(1, limit)
	b, _ := pool.Get().(*scratch)
	defer pool.Put(b)
	p := b.v.plane
	i := 0
	for i < len(text) {
		// A piece that is longer than the remaining tokens can cover is not read to its end.
		left := b.v.max * (limit - tokens)
		e := p.next(text[:min(len(text), i+left+utf8.UTFMax)], i)
		if e-i > left {
			break
		}
		n := b.piece(text, i, e)
		if tokens+n > limit {
			break
		}
		tokens += n
		i = e
	}
	if i > 0 {
		return i, tokens
	}
	return b.within(text[:p.next(text[:min(len(text), 16*limit+utf8.UTFMax)], 0)], limit)
}

// piece returns the tokens of the piece s[i:e].
func (b *scratch) piece(s string, i, e int) int {
	switch {
	case e-i == 1 && s[i] < utf8.RuneSelf:
		return 1
	case !utf8.ValidString(s[i:e]):
		t := string([]rune(s[i:e]))
		return b.piece(t, 0, len(t))
	case e-i <= packed:
		return b.short(s, i, e)
	}
	return b.longer(s[i:e])
}

// within returns the beginning of one long piece. The ends of the tokens of a window show where to cut. The cut piece
// may have other tokens, so the cut moves back until they are few enough.
func (b *scratch) within(piece string, limit int) (length, tokens int) {
	window := piece[:min(len(piece), MaxPiece, 16*limit)]
	b.mergeHeap(window)
	ends := make([]int, 0, limit)
	for i := b.nodes[0].next; len(ends) < limit; i = b.nodes[i].next {
		ends = append(ends, int(i))
		if int(i) >= len(window) {
			break
		}
	}
	for k, step := len(ends)-1, 1; k >= 0; k, step = k-step, 2*step {
		e := ends[k]
		for e > 0 && e < len(piece) && !utf8.RuneStart(piece[e]) {
			e--
		}
		if e == 0 {
			break
		}
		if n := b.piece(strings.Clone(piece[:e]), 0, e); n <= limit {
			return e, n
		}
	}
	_, n := utf8.DecodeRuneInString(piece)
	return n, b.piece(piece, 0, n)
}
