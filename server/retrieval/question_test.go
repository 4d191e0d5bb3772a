package retrieval

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAQuestionIsTheWordsThatSaySomething(t *testing.T) {
	for question, want := range map[string]string{
		"How does the parser read durations?":       "parser read durations",
		"where is parseDuration called":             "parseduration parse duration",
		"MAX_RETRY_COUNT":                           "max_retry_count max retry count",
		"What does it do?":                          "what does it do",
		"库存数量":                                      "库存 存数 数量",
		"":                                          "",
		"? ! ' \\ & |":                              "",
		"parse the parsed text by parsing it":       "parse text",
		strings.Repeat("x", 40_000):                 "",
		"the database holds a db connection (conn)": "database holds connection",
	} {
		var got []string
		for _, term := range terms(question) {
			got = append(got, term[0])
		}
		require.Equal(t, want, strings.Join(got, " "), question)
	}
	require.Len(t, terms(strings.Repeat("alpha beta gamma delta ", 2)), 4)
}

func TestAWordHasItsForms(t *testing.T) {
	for word, want := range map[string]string{
		"returns": "return returned returning", "parsing": "parse parser parses parsed", "copies": "copy copied copying copier",
		"stopped": "stop stopping stops stopper", "validation": "validate validates validated validating validator", "caches": "cache cached caching",
		"connection": "connect connected conn connections", "configuration": "config cfg conf", "headers": "header", "encoder": "encode encoding encoded",
		"creates": "create creation creator created", "matches": "match matching matcher", "arguments": "argument arg args",
	} {
		list := forms(word)
		require.Equal(t, word, list[0])
		for _, form := range strings.Fields(want) {
			require.Contains(t, list, form, word)
		}
		require.LessOrEqual(t, len(list), maxForms)
	}
	require.NotContains(t, forms("string"), "king")
	require.Equal(t, []string{"class"}, forms("class")[:1])
	require.NotContains(t, forms("class"), "clas")
	require.Equal(t, []string{"größe"}, forms("größe"))
}

func TestAQuestionNamesFilesIngestionsAndASkill(t *testing.T) {
	for question, want := range map[string]references{
		"what does @src/auth.ts do?":      {files: [][]string{{"src/auth.ts do?", "src/auth.ts do", "src/auth.ts"}}},
		"see @auth.ts.":                   {files: [][]string{{"auth.ts.", "auth.ts"}}},
		"@Ingestion #3 and @ingestion#12": {numbers: []int{3, 12}},
		"/skill:Code Review now":          {skill: []string{"Code Review now", "Code Review", "Code"}},
		"@":                               {},
		"nothing":                         {},
		"mail a@b.c":                      {files: [][]string{{"b.c"}}},
	} {
		got := namesIn(question)
		require.Equal(t, want.files, got.files, question)
		require.Equal(t, want.numbers, got.numbers, question)
		require.Equal(t, want.skill, got.skill, question)
	}
	r := namesIn("please /skill:Code Review this")
	require.Equal(t, "please this", r.without("code review"))
	require.Equal(t, "please /skill:Code Review this", r.without(""))
	many := namesIn(strings.Repeat("@a ", 100))
	require.Len(t, many.files, maxReferences)
	long := namesIn("@" + strings.Repeat("x", 5000))
	require.Empty(t, long.files)
}
