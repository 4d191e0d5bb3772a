package mcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/token"
)

func TestAnAnswerStaysWithinItsTokens(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", strings.Repeat("word ", 5000), strings.Repeat("x", 30_000), strings.Repeat("日本語", 5000), strings.Repeat("\xff", 5000)} {
		for _, most := range []int{100, 1000, 20_000} {
			a := newAnswer(most)
			a.add(text)
			require.LessOrEqual(t, token.Count(a.text.String()), most, "%.20q in %d", text, most)
			require.True(t, strings.HasSuffix(a.text.String(), " [cut]") || a.text.String() == text, "%.20q in %d", text, most)
		}
	}
	lines := make([]string, 1000)
	for i := range lines {
		lines[i] = fmt.Sprintf("a result number %d", i)
	}
	a := newAnswer(100)
	a.list(lines, 1234, "Ask for less.")
	require.Regexp(t, `^a result number 0\n(a result number \d+\n)+\[\d+ of 1234 shown\. Ask for less\.\]\n$`, a.text.String())
	require.LessOrEqual(t, token.Count(a.text.String()), 130)
}

func TestNamesOfPrompts(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"Sum up": "sum-up", "  Übersetze: DE/EN!": "übersetze-de-en", "要約": "要約", "!!!": "skill"} {
		require.Equal(t, want, slug(name))
	}
	require.Equal(t, []inputField{{Name: "b", Type: "number"}, {Name: "a", Type: "string"}},
		fields(skill{PromptTemplate: "{{ a }} {{b}} {{a}} {{ }}", InputSchema: []inputField{{Name: "b", Type: "number"}}}))
}

func TestProgressIsReportedToCallsThatAskForIt(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]about{
		`{"method": "tools/call", "params": {"name": "run_skill", "_meta": {"progressToken": 1}}}`:     {1, true},
		`{"method": "tools/call", "params": {"name": "run_skill", "_meta": {"progressToken": "x"}}}`:   {1, true},
		`{"method": "tools/call", "params": {"name": "run_skill"}}`:                                    {1, false},
		`{"method": "tools/call", "params": {"name": "search_code", "_meta": {"progressToken": 1}}}`:   {1, false},
		`{"method": "prompts/get", "params": {"name": "run_skill", "_meta": {"progressToken": 1}}}`:    {1, false},
		`{"method": "tools/call", "params": {"name": "run_skill", "arguments": {"progressToken": 1}}}`: {1, false},
		` [{}, {}, {"progressToken": 1}]`: {3, false},
	} {
		require.Equal(t, want, describe([]byte(body)), body)
	}
}
