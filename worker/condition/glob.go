package condition

import (
	"strings"
)

// maxPath bounds the paths that globs are matched against; no file system in use has longer ones.
const maxPath = 1024

// Tokens of a path glob that stand for more than one character.
const (
	oneChar   rune = -1 - iota // ? within a segment
	anyChars                   // * within a segment
	anything                   // ** across segments
	anyFolder                  // **/ any number of folders, or none
)

// pathGlob is a pattern for project-relative paths (section 10.3).
type pathGlob struct {
	tokens []rune
	// base is true for patterns without a slash: they are matched against the name of the file.
	base bool
}

func compileGlob(source string) pathGlob {
	s := strings.TrimPrefix(strings.TrimPrefix(source, "./"), "/")
	g := pathGlob{base: !strings.Contains(source, "/")}
	if strings.HasSuffix(s, "/") {
		// A folder matches all paths below it.
		s += "**"
	}
	runes := []rune(s)
	for i := 0; i < len(runes); i++ {
		switch {
		case runes[i] == '?':
			g.tokens = append(g.tokens, oneChar)
		case runes[i] != '*':
			g.tokens = append(g.tokens, runes[i])
		case i+1 < len(runes) && runes[i+1] == '*':
			for i+1 < len(runes) && runes[i+1] == '*' {
				i++
			}
			// "**/" at the beginning of a segment also stands for no folder at all.
			if i+1 < len(runes) && runes[i+1] == '/' && (len(g.tokens) == 0 || g.tokens[len(g.tokens)-1] == '/') {
				i++
				g.tokens = append(g.tokens, anyFolder)
			} else {
				g.tokens = append(g.tokens, anything)
			}
		default:
			g.tokens = append(g.tokens, anyChars)
		}
	}
	return g
}

// match matches the glob against a path. It follows all alternatives at once, so a hostile pattern costs at most pattern
// length times path length.
func (g pathGlob) match(path string) bool {
	if len(path) > maxPath {
		return false
	}
	if g.base {
		path = path[strings.LastIndexByte(path, '/')+1:]
	}
	// at[i]: the first i tokens match the text read so far.
	at, next := make([]bool, len(g.tokens)+1), make([]bool, len(g.tokens)+1)
	at[0] = true
	g.skip(at)
	for _, r := range path {
		clear(next)
		for i, t := range g.tokens {
			if !at[i] {
				continue
			}
			switch t {
			case anything:
				next[i] = true
			case anyFolder:
				// The token stays active within the folders until one ends.
				next[i] = true
			case anyChars:
				next[i] = next[i] || r != '/'
			case oneChar:
				next[i+1] = next[i+1] || r != '/'
			default:
				next[i+1] = next[i+1] || r == t
			}
		}
		g.pass(next, r)
		at, next = next, at
	}
	return at[len(g.tokens)]
}

// skip passes over tokens that may match no text, at the beginning.
func (g pathGlob) skip(at []bool) {
	for i, t := range g.tokens {
		if at[i] && (t == anything || t == anyChars || t == anyFolder) {
			at[i+1] = true
		}
	}
}

// pass does the same after a character. Folder tokens end only at a slash.
func (g pathGlob) pass(at []bool, r rune) {
	for i, t := range g.tokens {
		if at[i] && (t == anything || t == anyChars || t == anyFolder && r == '/') {
			at[i+1] = true
		}
	}
}

// starGlob matches a whole text against a pattern in which * matches any run of characters. Both are lower-cased already.
func starGlob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	if !strings.HasSuffix(s, last) {
		return false
	}
	s = s[:len(s)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}
