package embed

import (
	"context"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// HashModel and HashDimensions are the built-in embedder's (contract 60, 10.3).
const (
	HashModel      = "kijko-hash-256"
	HashDimensions = 256
)

// Hash is the built-in embedder: feature hashing (Weinberger et al., 2009) over the words of names and their letter trigrams. It is code of
// ours because the contract names it by model and dimensions, and because a vector must stay comparable for as long as it is stored: a
// library's next version may hash differently. It knows no meaning: texts are near each other when they share names or parts of names.
//
// Each feature adds the logarithm of its frequency to one of 256 places, with a sign that its hash decides, so that collisions cancel out on
// average. A weight by rarity was measured to make it worse, trigrams to make it better: they join "parser", "parsing" and "parse".
type Hash struct{}

// Model is HashModel.
func (Hash) Model() string { return HashModel }

// Dimensions is HashDimensions.
func (Hash) Dimensions() int { return HashDimensions }

// Embed returns the vectors. It fails only with ctx.
func (Hash) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i] = hashed(text)
	}
	return out, nil
}

// trigramWeight is the share of a trigram in comparison with a word: a word of eight letters has six of them.
const trigramWeight = 0.3

func hashed(text string) []float32 {
	counts, grams := map[string]int{}, map[string]int{}
	words(text, func(word string) {
		counts[word]++
		for i := 0; i+3 <= len(word); i++ {
			if g := word[i : i+3]; len(word) > 3 && ascii(g) {
				grams[g]++
			}
		}
	})
	v := make([]float32, HashDimensions)
	for word, n := range counts {
		add(v, "w"+word, 1+math.Log(float64(n)))
	}
	for gram, n := range grams {
		add(v, "g"+gram, trigramWeight*(1+math.Log(float64(n))))
	}
	normalize(v)
	return v
}

func add(v []float32, feature string, weight float64) {
	h := xxhash.Sum64String(feature)
	if h>>63 == 1 {
		weight = -weight
	}
	v[h%HashDimensions] += float32(weight)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// maxWord bounds a word in bytes: longer runs are data and no names.
const maxWord = 64

// words calls found for each word of each name in a text, in lower case: parseURL, parse_url and parse-url are parse and url.
func words(text string, found func(string)) {
	start, previous := -1, rune(0)
	end := func(at int) {
		if start >= 0 && at-start >= 2 && at-start <= maxWord {
			found(strings.ToLower(text[start:at]))
		}
		start = -1
	}
	for i, c := range text {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) && !unicode.Is(unicode.M, c) {
			end(i)
			previous = 0
			continue
		}
		switch {
		case start < 0:
			start = i
		case unicode.IsUpper(c) && (unicode.IsLower(previous) || unicode.IsDigit(previous)), unicode.IsDigit(c) != unicode.IsDigit(previous) && !unicode.Is(unicode.M, c):
			end(i)
			start = i
		case unicode.IsLower(c) && unicode.IsUpper(previous) && i-utf8.RuneLen(previous) > start: // HTTPServer: http, server
			end(i - utf8.RuneLen(previous))
			start = i - utf8.RuneLen(previous)
		}
		previous = c
	}
	end(len(text))
}
