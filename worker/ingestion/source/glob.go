package source

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// maxAlternatives bounds the combinations of the braces in one pattern. Every combination is tried, and nested or repeated braces
// multiply: 200 characters could ask for 2^40 comparisons.
const maxAlternatives = 64

// special are the characters that make a pattern more than a plain name.
const special = `*?[{\`

// ValidGlob reports whether a pattern can be used: "*", "?", "**", character classes, and "{a,b}" with at most 64 combinations.
func ValidGlob(pattern string) bool {
	return strings.Trim(pattern, "/ ") != "" && doublestar.ValidatePattern(pattern) && alternatives(pattern) <= maxAlternatives
}

// alternatives counts the combinations of a valid pattern's braces. The result may be too high, but never too low.
func alternatives(pattern string) int {
	count, commas, depth := 1, 0, 0
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '{':
			if depth++; depth > 1 {
				return maxAlternatives + 1
			}
			commas = 0
		case ',':
			commas++
		case '}':
			depth--
			if count *= commas + 1; count > maxAlternatives {
				return count
			}
		}
	}
	return count
}

// glob is one compiled pattern. The rules:
//
//   - A pattern without "/" matches the base name at any depth.
//   - A pattern with "/" matches the whole path; a leading "/" or "./" changes nothing.
//   - A pattern that can name a folder covers all below it: one that ends in "/", one whose last segment has no wildcard ("src/app",
//     "packages/*/src"), and a plain name such as "docs" at any depth. "docs/*" means the files in docs only.
type glob struct {
	pattern string
	whole   bool // has a "/", so the path counts and not the base name
	folder  bool // ended in "/", so a file of that name is not meant
	below   bool // may name a folder
	plain   bool // no special character: a comparison
	suffix  string
}

func compile(pattern string) (glob, error) {
	if !ValidGlob(pattern) {
		return glob{}, fmt.Errorf("%q is not a valid pattern", pattern)
	}
	g := glob{pattern: strings.TrimSpace(pattern)}
	g.whole = strings.Contains(g.pattern, "/")
	g.pattern = strings.TrimPrefix(strings.TrimPrefix(g.pattern, "./"), "/")
	if trimmed := strings.TrimRight(g.pattern, "/"); trimmed != g.pattern {
		g.pattern, g.folder = trimmed, true
	}
	g.plain = !strings.ContainsAny(g.pattern, special)
	g.below = g.folder || !strings.ContainsAny(g.pattern[strings.LastIndexByte(g.pattern, '/')+1:], special)
	// "*.ext", by far the commonest pattern, needs no matcher.
	if rest, ok := strings.CutPrefix(g.pattern, "*"); ok && !g.whole && !strings.ContainsAny(rest, special) {
		g.suffix = rest
	}
	return g, nil
}

func (g glob) match(path, base string) bool {
	switch {
	case g.suffix != "":
		return strings.HasSuffix(base, g.suffix)
	case g.plain && g.whole:
		return path == g.pattern && !g.folder || strings.HasPrefix(path, g.pattern) && len(path) > len(g.pattern) && path[len(g.pattern)] == '/'
	case g.plain:
		return base == g.pattern || hasSegment(path, g.pattern)
	case !g.whole:
		return doublestar.MatchUnvalidated(g.pattern, base)
	case !g.folder && doublestar.MatchUnvalidated(g.pattern, path):
		return true
	case !g.below:
		return false
	}
	// Does the pattern match a folder above the file?
	for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path[:i], '/') {
		if doublestar.MatchUnvalidated(g.pattern, path[:i]) {
			return true
		}
	}
	return false
}

// hasSegment reports whether one of the path's segments, the base name included, equals name.
func hasSegment(path, name string) bool {
	for {
		segment, rest, more := strings.Cut(path, "/")
		if segment == name {
			return true
		}
		if !more {
			return false
		}
		path = rest
	}
}

type globs []glob

func compileAll(patterns []string) (globs, error) {
	list := make(globs, len(patterns))
	for i, pattern := range patterns {
		var err error
		if list[i], err = compile(pattern); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (list globs) match(path, base string) bool {
	for _, g := range list {
		if g.match(path, base) {
			return true
		}
	}
	return false
}
