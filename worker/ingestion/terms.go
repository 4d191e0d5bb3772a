package ingestion

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/rangetable"
)

// Limits of Postgres's tsvector, and of this package.
const (
	maxPosition  = 16383
	maxPositions = 64  // per word; more positions do not improve ranking (Postgres keeps 256)
	maxWord      = 128 // letters; four bytes each are far below Postgres's 2,046
	maxLetter    = 32  // bytes of a character with its marks
	minWord      = 2
	maxTermBytes = 512 << 10 // Postgres allows 1 MiB
)

// unspaced are the scripts that write words without blanks between them, or (Hangul) with changing endings. It also contains the
// length and voice marks that Unicode assigns to no script.
var unspaced = rangetable.Merge(unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo, unicode.Yi, unicode.Thai,
	unicode.Lao, unicode.Khmer, unicode.Myanmar, rangetable.New('\u30fc', '\uff70', '\uff9e', '\uff9f'))

// runs calls visit for each run of letters, digits, underscores and their combining marks, in the Unicode form NFKC (é is one
// letter, half-width kana are kana). A run of an unspaced script is a run of its own.
func runs(text string, visit func(run string, paired bool)) {
	if !plainASCII(text) {
		text = norm.NFKC.String(text)
	}
	start, paired := -1, false
	for i, c := range text {
		if c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' {
			if start >= 0 && paired {
				visit(text[start:i], true)
				start = -1
			}
		} else if c < utf8.RuneSelf || !unicode.In(c, unicode.L, unicode.Nd, unicode.M) || start < 0 && unicode.Is(unicode.M, c) {
			if start >= 0 {
				visit(text[start:i], paired)
				start = -1
			}
			continue
		} else if unicode.Is(unicode.M, c) {
			continue // it belongs to the current run
		} else if start >= 0 && paired != unicode.Is(unspaced, c) {
			visit(text[start:i], paired)
			start = -1
		}
		if start < 0 {
			start, paired = i, c >= utf8.RuneSelf && unicode.Is(unspaced, c)
		}
	}
	if start >= 0 {
		visit(text[start:], paired)
	}
}

func plainASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// words calls found for each word of a text, in lower case. For a name made of several words (parseURL, max_size), it then calls
// found for each of these words, and for the letters and the digits of a word that has both (sha256sum). A run of an unspaced script gives its overlapping pairs of letters and, at the end, its last
// letter. So every letter is the beginning of some word.
func words(text string, found func(word string)) {
	runs(text, func(run string, paired bool) {
		if paired {
			last := ""
			pairs(run, func(pair, letter string) {
				if pair != "" {
					found(pair)
				}
				last = letter
			})
			found(last)
			return
		}
		lower, ok := wordOf(run)
		if !ok {
			return
		}
		found(lower)
		parts(run, func(part string) {
			part = strings.ToLower(part)
			if part != lower && utf8.RuneCountInString(part) >= minWord {
				found(part)
			}
			segments(part, func(segment string) {
				if segment != part && utf8.RuneCountInString(segment) >= minWord {
					found(segment)
				}
			})
		})
	})
}

// wordOf returns the word of a run, unless it is too short or too long for a word.
func wordOf(run string) (string, bool) {
	n := utf8.RuneCountInString(run)
	return strings.ToLower(run), n >= minWord && n <= maxWord
}

// pairs calls visit for each letter of a run (a character with its marks), and for the pair that ends with it.
func pairs(run string, visit func(pair, letter string)) {
	before, at := -1, 0
	for at < len(run) {
		end := at
		for end < len(run) {
			c, n := utf8.DecodeRuneInString(run[end:])
			if end > at && (!unicode.Is(unicode.M, c) || end-at > maxLetter) {
				break
			}
			end += n
		}
		if before >= 0 {
			visit(run[before:end], run[at:end])
		} else {
			visit("", run[at:end])
		}
		before, at = at, end
	}
}

// parts calls found for the words of a compound name: parseURLOf_file2 has parse, URL, Of, file2.
func parts(name string, found func(string)) {
	start := 0
	var before rune
	cut := func(at int) {
		if part := strings.Trim(name[start:at], "_"); part != "" {
			found(part)
		}
		start = at
	}
	for i, c := range name {
		next, _ := utf8.DecodeRuneInString(name[i+utf8.RuneLen(c):])
		switch {
		case i == 0:
		case c == '_' || before == '_':
			cut(i)
		case unicode.IsUpper(c) && (!unicode.IsUpper(before) || unicode.IsLower(next)):
			cut(i)
		}
		before = c
	}
	cut(len(name))
}

// segments calls found for each stretch of digits and of other letters.
func segments(word string, found func(string)) {
	start := 0
	var digits bool
	for i, c := range word {
		if is := unicode.Is(unicode.Nd, c); i > 0 && is != digits && !unicode.Is(unicode.M, c) {
			found(word[start:i])
			start, digits = i, is
		} else if i == 0 {
			digits = is
		}
	}
	found(word[start:])
}

// termsOf makes the search vector of a chunk: words of its path have weight A, of its declared identifiers B, of its content D.
func termsOf(path string, names []string, content string) pgtype.TSVector {
	places := make(map[string][]pgtype.TSVectorPosition, 256)
	size := 0
	position := uint16(0)
	add := func(weight pgtype.TSVectorWeight) func(string) {
		return func(word string) {
			list, known := places[word]
			if !known {
				if size > maxTermBytes {
					return
				}
				size += len(word) + 4
			}
			if len(list) < maxPositions {
				if n := len(list); n > 0 && list[n-1].Position == position && list[n-1].Weight == weight {
					return
				}
				places[word] = append(list, pgtype.TSVectorPosition{Position: position, Weight: weight})
				size += 2
			}
		}
	}
	each := func(text string, weight pgtype.TSVectorWeight) {
		put := add(weight)
		words(text, func(word string) {
			if position < maxPosition {
				position++
			}
			put(word)
		})
	}
	each(path, pgtype.TSVectorWeightA)
	for _, name := range names {
		each(name, pgtype.TSVectorWeightB)
	}
	each(content, pgtype.TSVectorWeightD)

	// Postgres sorts the lexemes itself.
	lexemes := make([]pgtype.TSVectorLexeme, 0, len(places))
	for word, positions := range places {
		lexemes = append(lexemes, pgtype.TSVectorLexeme{Word: word, Positions: positions})
	}
	return pgtype.TSVector{Lexemes: lexemes, Valid: true}
}
