package parse

import "strings"

var markerWords = [...]string{"TODO", "FIXME", "HACK", "XXX", "BUG"}

// markers adds the markers of one comment that begins at line.
func markers(list []Marker, comment string, line int) []Marker {
	found := false
	for _, w := range markerWords {
		found = found || strings.Contains(comment, w)
	}
	if !found {
		return list
	}
	for l := range strings.Lines(comment) {
		for _, w := range markerWords {
			k := strings.Index(l, w)
			if k < 0 || k > 0 && isWord(l[k-1]) || k+len(w) < len(l) && isWord(l[k+len(w)]) {
				continue
			}
			text := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(strings.TrimLeft(l[k+len(w):], ": ")), "*/"))
			list = append(list, Marker{Kind: w, Text: clip(text, maxName), Line: line})
			break
		}
		line++
	}
	return list
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// cleanDoc removes the comment marks from each line.
func cleanDoc(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		l = strings.TrimSpace(l)
		l = strings.TrimSuffix(l, "*/")
		for _, m := range [...]string{"/**", "/*!", "/*", "///", "//!", "//", "##", "#", "--", "*"} {
			if t, ok := strings.CutPrefix(l, m); ok {
				l = t
				break
			}
		}
		l = strings.TrimSpace(l)
		if l == "" && b.Len() == 0 {
			continue
		}
		b.WriteString(l)
		b.WriteByte('\n')
		if b.Len() > maxDoc {
			break
		}
	}
	return clip(strings.TrimSpace(b.String()), maxDoc)
}
