package ingest

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// Limits of Postgres's tsvector, and ours.
const (
	maxPosition  = 16383
	maxPositions = 64 // a word; ranking gains nothing from more (Postgres keeps 256)
	maxWord      = 128
	minWord      = 2
	maxTermBytes = 512 << 10 // Postgres allows 1 MiB
)

// words calls found for each word of a text: runs of letters, digits and underscores, lower case; and besides, for names made of
// several words (parseURL, max_size), each of these right after it.
func words(text string, found func(word string)) {
	start := -1
	flush := func(end int) {
		if start < 0 {
			return
		}
		name := text[start:end]
		start = -1
		if utf8.RuneCountInString(name) < minWord || len(name) > maxWord {
			return
		}
		lower := strings.ToLower(name)
		found(lower)
		parts(name, func(part string) {
			if part = strings.ToLower(part); part != lower && utf8.RuneCountInString(part) >= minWord {
				found(part)
			}
		})
	}
	for i, c := range text {
		if c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c)) {
			if start < 0 {
				start = i
			}
			continue
		}
		flush(i)
	}
	flush(len(text))
}

// parts calls found for the words of a compound name: parseURLOf_file2 is parse, URL, Of, file2.
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

// termsOf makes the search vector of a chunk: words of its path weigh A, of the identifiers it declares B, of its content D.
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

	// Postgres puts them into its own order.
	lexemes := make([]pgtype.TSVectorLexeme, 0, len(places))
	for word, positions := range places {
		lexemes = append(lexemes, pgtype.TSVectorLexeme{Word: word, Positions: positions})
	}
	return pgtype.TSVector{Lexemes: lexemes, Valid: true}
}

// queryOf makes a query of all words of a text, at most limit; "" when it has none.
func queryOf(text string, limit int) string {
	var terms []string
	words(text, func(word string) {
		if len(terms) < limit && !slices.Contains(terms, word) {
			terms = append(terms, word)
		}
	})
	for i, t := range terms {
		terms[i] = "'" + strings.ReplaceAll(strings.ReplaceAll(t, `\`, `\\`), "'", "''") + "'"
	}
	return strings.Join(terms, " & ")
}
