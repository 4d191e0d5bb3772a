package token

import (
	"unicode"
	"unicode/utf8"
)

// The classes of the split expression of o200k_base. A character is in exactly one.
const (
	other   = iota // everything else: punctuation, symbols, controls, invalid bytes
	upper          // Lu, Lt
	lower          // Ll
	letter         // Lm, Lo: counts as upper and as lower
	mark           // M: counts as upper and as lower, but is no letter
	number         // N
	space          // white space without CR and LF
	newline        // CR, LF
)

// asUpper and asLower are the classes that may stand in the first and in the second half of a word.
const (
	asUpper = 1<<upper | 1<<letter | 1<<mark
	asLower = 1<<lower | 1<<letter | 1<<mark
	isPunct = 1<<other | 1<<mark
	isLead  = 1<<other | 1<<mark | 1<<space
)

// plane is the class of each character of the basic plane; the table is faster than a search in Unicode's range tables.
type plane [1 << 16]uint8

func newPlane() *plane {
	var p plane
	for r := range p {
		p[r] = classify(rune(r))
	}
	return &p
}

func classify(r rune) uint8 {
	switch {
	case r == '\n' || r == '\r':
		return newline
	case unicode.IsSpace(r):
		return space
	case unicode.Is(unicode.Ll, r):
		return lower
	case unicode.Is(unicode.Lu, r), unicode.Is(unicode.Lt, r):
		return upper
	case unicode.Is(unicode.L, r):
		return letter
	case unicode.Is(unicode.M, r):
		return mark
	case unicode.Is(unicode.N, r):
		return number
	}
	return other
}

// class returns the class and the width in bytes of the character at s[i]. i must be inside s.
func (p *plane) class(s string, i int) (uint8, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return p[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if r == utf8.RuneError && n == 1 {
		return other, 1
	}
	if r < 1<<16 {
		return p[r], n
	}
	return classify(r), n
}

func isLetter(c byte) bool { return (c|0x20)-'a' < 26 }

// run returns the end of the longest run of characters of the classes in set that begins at i.
func (p *plane) run(s string, i int, set uint) int {
	for i < len(s) {
		c, n := p.class(s, i)
		if set>>c&1 == 0 {
			break
		}
		i += n
	}
	return i
}

// next returns the end of the piece that begins at s[i]; i must be inside s. It follows the alternatives of
//
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	\p{N}{1,3}
//	 ?[^\s\p{L}\p{N}]+[\r\n/]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
//
// in their order, without backtracking.
func (p *plane) next(s string, i int) int {
	if isLetter(s[i]) {
		return p.word(s, i)
	}
	if s[i] == ' ' && i+1 < len(s) && isLetter(s[i+1]) {
		return p.word(s, i+1)
	}
	c, n := p.class(s, i)
	switch c {
	case number:
		return p.numbers(s, i+n)
	case upper, lower, letter:
		return p.word(s, i)
	case newline:
		return p.blanks(s, i)
	}
	// One leading character that is not a letter belongs to the word that follows it.
	if after := i + n; after < len(s) {
		if d, _ := p.class(s, after); (asUpper|asLower)>>d&1 == 1 {
			if e := p.word(s, after); e > 0 {
				return e
			}
		}
	}
	if c == mark { // a mark can also begin a word itself
		return p.word(s, i)
	}
	if c == other {
		return p.punctuation(s, i)
	}
	if s[i] == ' ' && i+1 < len(s) {
		if d, _ := p.class(s, i+1); isPunct>>d&1 == 1 {
			return p.punctuation(s, i+1)
		}
	}
	return p.blanks(s, i)
}

// word returns the end of the word that begins at i, including an ending such as 're. A character at i must be allowed
// in a word.
func (p *plane) word(s string, i int) int {
	// Nearly all words are capitals followed by small letters, all ASCII.
	e := i
	for e < len(s) && s[e]-'A' < 26 {
		e++
	}
	for e < len(s) && s[e]-'a' < 26 {
		e++
	}
	if e > i && (e == len(s) || s[e] < utf8.RuneSelf) {
		return ending(s, e)
	}
	both := -1 // end of the last character in the run that may also stand in the second half
	j := i
	for j < len(s) {
		c, n := p.class(s, j)
		if asUpper>>c&1 == 0 {
			break
		}
		j += n
		if c != upper {
			both = j
		}
	}
	if e := p.run(s, j, asLower); e > j {
		return ending(s, e)
	}
	if both > 0 {
		return ending(s, both)
	}
	return ending(s, j)
}

// ending returns i, or the end of an English contraction at i.
func ending(s string, i int) int {
	if i+1 >= len(s) || s[i] != '\'' {
		return i
	}
	switch s[i+1] | 0x20 {
	case 's', 't', 'm', 'd':
		return i + 2
	case 'r', 'v':
		if i+2 < len(s) && s[i+2]|0x20 == 'e' {
			return i + 3
		}
	case 'l':
		if i+2 < len(s) && s[i+2]|0x20 == 'l' {
			return i + 3
		}
	}
	return i
}

func (p *plane) numbers(s string, i int) int {
	for range 2 {
		if i >= len(s) {
			break
		}
		c, n := p.class(s, i)
		if c != number {
			break
		}
		i += n
	}
	return i
}

func (p *plane) punctuation(s string, i int) int {
	i = p.run(s, i, isPunct)
	for i < len(s) && (s[i] == '\n' || s[i] == '\r' || s[i] == '/') {
		i++
	}
	return i
}

// blanks cuts a run of white space after its last line end if it has one. Otherwise the last blank is left to the word
// that follows.
func (p *plane) blanks(s string, i int) int {
	before, j, line := i, i, 0
	for j < len(s) {
		n := 1
		switch c := s[j]; {
		case c == '\n' || c == '\r':
			line = j + 1
		case c == ' ' || c == '\t':
		default:
			var class uint8
			if class, n = p.class(s, j); class != space {
				n = 0
			}
		}
		if n == 0 {
			break
		}
		before = j
		j += n
	}
	switch {
	case line > 0:
		return line
	case j == len(s) || before == i:
		return j
	}
	return before
}
