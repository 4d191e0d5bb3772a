package source_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/source"
)

func TestExclusion(t *testing.T) {
	for _, c := range []struct {
		pattern, path string
		want          bool
	}{
		{"node_modules/**", "node_modules/a/b.js", true},
		{"node_modules/**", "web/node_modules/a.js", true},
		{"node_modules/**", "node_modules.js", false},
		{"/node_modules/**", "node_modules/a.js", true},
		{"/node_modules/**", "web/node_modules/a.js", false},
		{"./dist/**", "dist/a.js", true},
		{"./dist/**", "web/dist/a.js", false},
		{"dist/", "web/dist/a.js", true},
		{"dist/", "web/dist", false},
		{"/dist", "dist/a.js", true},
		{"/dist", "web/dist/a.js", false},
		{"*.min.js", "web/a.min.js", true},
		{"/*.js", "a.js", true},
		{"/*.js", "web/a.js", false},
		{"package-lock.json", "web/package-lock.json", true},
		{"src/*.{ts,tsx}", "web/src/a.tsx", true},
		{"src/*.{ts,tsx}", "web/src/deep/a.tsx", false},
		{"**/gen/*.go", "gen/a.go", true},
		{" docs/** ", "docs/a.md", true},
	} {
		x, err := source.NewExclusion([]string{c.pattern})
		require.NoError(t, err)
		require.Equal(t, c.want, x.Match(c.path), "%s of %s", c.path, c.pattern)
	}
	_, err := source.NewExclusion([]string{"a", "[b"})
	require.ErrorContains(t, err, "[b")
}
