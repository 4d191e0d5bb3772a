package token

import (
	"sort"
	"unicode/utf8"
)

// Joins reports whether the tokens of a text that ends with before and of a text that begins with after add up to those of both together.
// It is true at nearly all ends of lines, and false where it would have to look further than it does.
//
// No piece but white space and punctuation goes over the end of a line. White space is cut after its last line end, so after must not begin
// with a blank line. Punctuation takes the line ends and the slashes that follow it.
func Joins(before, after string) bool {
	n := len(before)
	if n == 0 || before[n-1] != '\n' || after == "" {
		return false
	}
	if after[0] == '/' {
		return n > 1 && (isLetter(before[n-2]) || before[n-2]-'0' < 10)
	}
	for i := 0; i < len(after); i++ {
		if c := after[i]; c != ' ' && c != '\t' {
			return c > ' ' && c < 0x7f
		}
	}
	return false
}

// Tally counts the tokens of stretches of one text, whose tokens it has counted once. The zero value is that of the empty text.
type Tally struct {
	text  string
	at    []int32 // where the tokens of both sides add up, ascending
	until []int32 // tokens before these
	total int
}

// NewTally counts the tokens of a text.
func NewTally(text string) Tally {
	t := Tally{text: text}
	if !utf8.ValidString(text) || len(text) > 1<<30 {
		t.total = Count(text)
		return t
	}
	b, _ := pool.Get().(*scratch)
	defer b.done()
	p := b.v.plane
	for i := 0; i < len(text); {
		e := p.next(text, i)
		if e-i == 1 {
			t.total++
		} else if e-i <= packed {
			t.total += b.short(text, i, e)
		} else {
			t.total += b.longer(text[i:e])
		}
		i = e
		if text[e-1] == '\n' && Joins(text[:e], text[e:]) {
			t.at, t.until = append(t.at, int32(e)), append(t.until, int32(t.total))
		}
	}
	return t
}

// Total is Count of the text.
func (t *Tally) Total() int { return t.total }

// Count is Count of text[start:end].
func (t *Tally) Count(start, end int) int {
	if start == 0 && end == len(t.text) {
		return t.total
	}
	from := sort.Search(len(t.at), func(k int) bool { return int(t.at[k]) >= start })
	to := sort.Search(len(t.at), func(k int) bool { return int(t.at[k]) > end }) - 1
	if from > to {
		return Count(t.text[start:end])
	}
	return Count(t.text[start:t.at[from]]) + int(t.until[to]-t.until[from]) + Count(t.text[t.at[to]:end])
}
