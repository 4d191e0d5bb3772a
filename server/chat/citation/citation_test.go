package citation

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func whole(text string, passages int) (string, []int) {
	f := New(passages)
	out := f.Write(text) + f.Close()
	return out, f.Cited()
}

func TestMarkersWithoutAPassageAreRemoved(t *testing.T) {
	for _, c := range []struct {
		text, want string
		cited      []int
	}{
		{"Tokens are checked in one place [1].", "Tokens are checked in one place [1].", []int{1}},
		{"Tokens are checked [7].", "Tokens are checked.", []int{}},
		{"[9] first, [2] second", " first, [2] second", []int{2}},
		{"Both [1, 3] and [2,9] and [0]", "Both [1][3] and [2] and", []int{1, 2, 3}},
		{"A range [1-3] or [2–9].", "A range [1][2][3] or [2][3].", []int{1, 2, 3}},
		{"Side by side [1][9][2]", "Side by side [1][2]", []int{1, 2}},
		{"Nested [[9]7] and [1[9]2] and [[2]9]", "Nested and and [[2]9]", []int{2}},
		{"No marker [x], [ ], [1a], []", "No marker [x], [ ], [1a], []", []int{}},
		{"A huge number [99999999999999999999]!", "A huge number!", []int{}},
		{"Cut off [1", "Cut off", []int{}},
		{"Indexes `a[0]` and ``b`[9]`` stay, [9] goes", "Indexes `a[0]` and ``b`[9]`` stay, goes", []int{}},
		{"An open ` tick\n[9] and [1]", "An open ` tick\n and [1]", []int{1}},
		{"```js\nx = a[9]\n```\nThen [9] [1]", "```js\nx = a[9]\n```\nThen [1]", []int{1}},
		{"~~~\na[9]\n```\nb[8]\n~~~\n[9]", "~~~\na[9]\n```\nb[8]\n~~~\n", []int{}},
		{"  ```\na[9]", "  ```\na[9]", []int{}},
		{"é – dash [1–2] ü", "é – dash [1][2] ü", []int{1, 2}},
	} {
		got, cited := whole(c.text, 3)
		require.Equal(t, c.want, got, "%q", c.text)
		require.Equal(t, c.cited, cited, "%q", c.text)
	}
}

var plain = regexp.MustCompile(`\[\s*(\d+)\s*\]`)

// However an answer is cut into pieces, the client sees the same text, at each moment without a marker of no passage and without a part of one.
func TestPiecesDoNotChangeTheAnswer(t *testing.T) {
	parts := []string{"[1]", "[2]", "[3]", "[9]", "[", "]", "[1, 9]", "[1-", "12", " ", "  ", "word", "\n", "\n\n", "`", "``", "```", "```go\n", "~~~\n", "a[0]", "é", "–", ",", "."}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		var b strings.Builder
		for range random.IntN(14) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		text, passages := b.String(), random.IntN(4)
		want, cited := whole(text, passages)
		f, got := New(passages), ""
		for rest := text; rest != ""; {
			n := 1 + random.IntN(len(rest))
			for n < len(rest) && !utf8.RuneStart(rest[n]) {
				n++
			}
			got += f.Write(rest[:n])
			rest = rest[n:]
			require.True(t, strings.HasPrefix(want, strings.TrimRight(got, " ")), "%q: %q before %q", text, got, want)
		}
		require.Equal(t, want, got+f.Close(), "%q", text)
		require.Equal(t, cited, f.Cited(), "%q", text)
		if !strings.ContainsAny(text, "`~") {
			for _, m := range plain.FindAllStringSubmatch(want, -1) {
				require.Contains(t, []string{"1", "2", "3"}[:passages], m[1], "%q became %q", text, want)
			}
		}
	}
}

func TestALongAnswerIsNotHeldBack(t *testing.T) {
	f, held := New(1), 0
	for range 10000 {
		held += len("[ ] `x ") - len(f.Write("[ ] `x "))
		require.Less(t, held, 2*maxLine)
	}
}
