package token_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/token"
)

func TestTheStretchesOfATextAddUp(t *testing.T) {
	t.Parallel()
	parts := []string{"\n", "\n", "\n\n", " ", "\t", "  ", "//", "/", "/*", "}", "foo", "Bar.", "'re", "é", "\u0301", "\u00a0", "\r\n", "\r", "12345", ";", "\v", "日本", "\xff", "=>", "x\n// y"}
	r := rand.New(rand.NewPCG(1, 2))
	joined := 0
	for range 20_000 {
		var b strings.Builder
		for range r.IntN(24) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		text := b.String()
		tally := token.NewTally(text)
		require.Equal(t, token.Count(text), tally.Total(), "%q", text)
		start := r.IntN(len(text) + 1)
		end := start + r.IntN(len(text)-start+1)
		require.Equal(t, token.Count(text[start:end]), tally.Count(start, end), "%q of %q", text[start:end], text)
		if token.Joins(text[:start], text[start:]) {
			joined++
			require.Equal(t, token.Count(text), token.Count(text[:start])+token.Count(text[start:]), "%q and %q", text[:start], text[start:])
		}
	}
	require.Greater(t, joined, 500)
}

func TestMostLinesOfCodeAreCountedByThemselves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, before, after string
		joins               bool
	}{
		{"a line of code", "a := 1\n", "b := 2", true},
		{"an indented line", "if a {\n", "\tb()", true},
		{"a comment after a name", "package a\n", "// b", true},
		{"a comment after punctuation, which takes the slashes", "}\n", "// b", false},
		{"a blank line", "a\n", "\nb", false},
		{"the middle of a line", "a", "b", false},
		{"other white space", "a\n", "\u00a0b", false},
		{"the end of a text", "a\n", "", false},
	} {
		require.Equal(t, c.joins, token.Joins(c.before, c.after), c.name)
	}
}
