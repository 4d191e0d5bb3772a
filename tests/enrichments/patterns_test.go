package enrichments

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/ingestion/source"
)

// What the database accepts as a pattern the worker can use, and the other way round.
func TestPatternsAreCheckedAlike(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	patterns := []string{"node_modules/**", "*.min.js", "[a-z]?", "[!a]", "[]a]", "[^]", "[a\\]]", "\\", "a\\", "{a,b}", "{a,{b}}", "a}", "{", "/", " / ", "{a,b,c,d}{a,b,c,d}{a,b,c,d}", "{a,b,c,d}{a,b,c,d}{a,b,c,d,e}", "ü[ä]", "[\\"}
	random := rand.New(rand.NewPCG(1, 2))
	const letters = `ab/*?[]{},\!^ .`
	for range 3000 {
		p := make([]byte, 1+random.IntN(10))
		for i := range p {
			p[i] = letters[random.IntN(len(letters))]
		}
		patterns = append(patterns, string(p))
	}
	got := testdb.Value[[]bool](db, "select array_agg(private.is_exclude_pattern(p) order by n) from unnest($1::text[]) with ordinality u (p, n)", patterns)
	valid := 0
	for i, p := range patterns {
		require.Equal(t, source.ValidGlob(p), got[i], "%q", p)
		if got[i] {
			valid++
		}
	}
	require.Greater(t, valid, 500)
}
