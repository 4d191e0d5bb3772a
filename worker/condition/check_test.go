package condition

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only the faults that Go alone can find are refused here. Check ignores the others, and Postgres refuses them
// (tests/pgtap/reflexes.sql).
func TestCheckChecksExpressionsAndPatterns(t *testing.T) {
	t.Parallel()
	j := check(t)
	filter := func(members string) string {
		return `{"filters":[{"field":"ok","operator":"exists"},{` + members + `}]}`
	}
	regex := func(source string) string { return filter(`"field":"a","operator":"regex","value":"` + source + `"`) }
	for _, c := range []struct{ raw, field, message string }{
		{`{"expression":"a &&"}`, "conditions.expression", "Unsupported expression format: a &&"},
		{regex("("), "conditions.filters[1]", "Filter 2: Invalid regular expression: missing closing )"},
		{regex("a)(b"), "conditions.filters[1]", "Filter 2: Invalid regular expression: unexpected )"},
		{regex(`(a)\\1`), "conditions.filters[1]", "Filter 2: Invalid regular expression: invalid escape sequence"},
		{regex("a(?=b)"), "conditions.filters[1]", "Filter 2: Invalid regular expression: invalid or unsupported Perl syntax"},
		{regex(strings.Repeat("é", 201)), "conditions.filters[1]", "Filter 2: Pattern must be 200 characters or less"},
		{regex("((a{100}){100}){100}"), "conditions.filters[1]", "Filter 2: Invalid regular expression: invalid repeat count"},
		{regex("(((a{1,9}){1,10}){1,10})"), "conditions.filters[1]", "Filter 2: Regular expression repeats itself too often"},
	} {
		require.Equal(t, &Fault{c.field, c.message}, j.Check([]byte(c.raw)), "%.200s", c.raw)
	}
	for _, raw := range []string{``, `null`, `[]`, `7`, `{}`, `{"expression":7}`, `{"expression":" \n"}`, `{"filters":{}}`, `{"filters":[7, null, {}]}`, `{"matchAll":1}`,
		`{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`, `{"expression":"` + strings.Repeat("x", 70000) + `"}`,
		filter(`"field":"a","operator":"regex"`), filter(`"field":"a","operator":"regex","value":["("]`), filter(`"field":"a","operator":"equals","value":"("`),
		regex(strings.Repeat("é", 200)), regex(`^\\d+$`)} {
		require.NoError(t, j.Check([]byte(raw)), "%.200s", raw)
	}
}
