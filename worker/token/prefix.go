package token

import (
	"strings"
	"unicode/utf8"
)

// Prefix returns the length in bytes of the longest beginning of text that ends between two pieces and has at most limit
// tokens, and how many it has. If the first piece alone has more, it is cut between characters; at least one character is
// always taken, so that a loop over Prefix ends. The time is linear in the length of the result.
//
// Invalid UTF-8 is counted byte by byte as U+FFFD, as Count does.
func Prefix(text string, limit int) (length, tokens int) {
	if text == "" {
		return 0, 0
	}
	b, _ := pool.Get().(*scratch)
	defer pool.Put(b)
	p := b.v.plane
	i := 0
	for i < len(text) {
		e := p.next(text, i)
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
	return b.within(text[:p.next(text, 0)], limit)
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

// within cuts one long piece by halving: pieces are bounded by windows, and so is the effort.
func (b *scratch) within(piece string, limit int) (length, tokens int) {
	piece = piece[:min(len(piece), MaxPiece)]
	low, high := 1, len(piece)
	for low < high {
		mid := (low + high + 1) / 2
		if b.piece(piece, 0, mid) <= limit {
			low = mid
		} else {
			high = mid - 1
		}
	}
	for low > 0 && low < len(piece) && !utf8.RuneStart(piece[low]) {
		low--
	}
	if low == 0 {
		_, low = utf8.DecodeRuneInString(piece)
	}
	return low, b.piece(strings.Clone(piece[:low]), 0, low)
}
