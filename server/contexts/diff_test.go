package contexts

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// longest is the length of the longest common subsequence, the textbook way.
func longestCommon(a, b []string) int {
	row := make([]int, len(b)+1)
	for i := range a {
		before := 0
		for j := range b {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = before + 1
			} else {
				row[j+1] = max(above, row[j])
			}
			before = above
		}
	}
	return row[len(b)]
}

func TestADiffIsShortest(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func(n, kinds int) []string {
		lines := make([]string, n)
		for i := range lines {
			lines[i] = string(rune('a'+random.IntN(kinds))) + "\n"
		}
		return lines
	}
	for range 200 {
		a, b := text(random.IntN(80), 2+random.IntN(20)), text(random.IntN(80), 2+random.IntN(20))
		common := longestCommon(a, b)
		hunks, added, removed, tooLarge := compare(strings.Join(a, ""), strings.Join(b, ""), maxDiffLines)
		require.Equal(t, []any{len(b) - common, len(a) - common, false}, []any{added, removed, tooLarge})
		// The hunks turn the one text into the other.
		var got []string
		at := 0
		for _, h := range hunks {
			start := h.OldStart - 1
			if h.OldLines == 0 {
				start = h.OldStart
			}
			got = append(got, a[at:start]...)
			for _, line := range h.Lines {
				if line.Type != "deletion" {
					got = append(got, line.Content+"\n")
				}
			}
			at = start + h.OldLines
		}
		require.Equal(t, append([]string{}, b...), append(append([]string{}, got...), a[at:]...))
	}
}
