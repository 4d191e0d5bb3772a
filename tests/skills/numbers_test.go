package skills

import (
	_ "embed"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
)

// numbers holds JSON numbers and the text that Node.js prints for each, separated by a tab: special values, random doubles of all sizes,
// decimals with more digits than a double has, and whole numbers between 2^53 and 10^24, where decimals lie exactly between two doubles.
// Whole numbers that Node.js would print with other digits stand with their own digits.
//
//go:embed testdata/numbers.tsv
var numbers string

func TestNumbersArePrintedAsInJavaScript(t *testing.T) {
	t.Parallel()
	given, printed := []string{}, []string{}
	for line := range strings.Lines(strings.TrimSpace(numbers)) {
		a, b, found := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		require.True(t, found)
		given, printed = append(given, a), append(printed, b)
	}
	require.Greater(t, len(given), 3000)
	db := testdb.New(t)
	// Alone, in JSON beside other numbers, and as they are inside a string.
	require.Empty(t, testdb.Value[[]string](db, `select coalesce(array_agg(g || ' ' || p), '{}') from unnest($1::text[], $2::text[]) t (g, p)
		where private.js_number(g::jsonb) <> p or private.value_text(g::jsonb) <> p
			or private.compact_json(format('[%s, {"a": %1$s, "b": "%1$s"}, 1.50]', g)::jsonb)
				<> format('[%s,{"a":%1$s,"b":"%2$s"},1.5]', case when p like '%Infinity' then 'null' else p end, g)`, given, printed))
}
