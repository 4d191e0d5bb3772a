package source

import (
	"path"
	"strings"
)

// Exclusion is the compiled form of the exclude patterns of an enrichment (contract 60, 10.4). Unlike a filter of a run, a pattern with a
// "/" inside matches at any depth too: "node_modules/**" excludes nested ones, as its name promises. Only a leading "/" or "./" ties it to
// the root.
type Exclusion struct{ list globs }

// NewExclusion compiles patterns; the error names the first invalid one.
func NewExclusion(patterns []string) (Exclusion, error) {
	anchored := make([]string, len(patterns))
	for i, p := range patterns {
		anchored[i] = anchor(p)
	}
	list, err := compileAll(anchored)
	return Exclusion{list}, err
}

func anchor(pattern string) string {
	p := strings.TrimSpace(pattern)
	if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "./") || strings.HasPrefix(p, "**/") || !strings.Contains(p, "/") {
		return p
	}
	return "**/" + p
}

// Match reports whether a path is excluded.
func (x Exclusion) Match(p string) bool { return x.list.match(p, path.Base(p)) }
