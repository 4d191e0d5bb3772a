package optimize

import (
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"
)

const (
	maxLiteral  = 512 // longer unbroken literals are shortened
	keptLiteral = 64  // to this
)

// unbroken reports whether a byte may stand in a literal: the characters of data URIs, base64, hex and number lists.
func unbroken(c byte) bool {
	switch c {
	case '+', '/', '=', '_', '-', '%', ':', ';', ',', '.', '@', '&', '?', '#', '~', '\\', '|', '!', '*', '$', '^':
		return true
	}
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// shorten cuts each unbroken run of more than maxLiteral bytes to its beginning and reports how much it removed.
func shorten(l string) string {
	var b strings.Builder
	from := 0 // start of the text that is not yet in b
	for i := 0; i < len(l); {
		if !unbroken(l[i]) {
			i++
			continue
		}
		e := i + 1
		for e < len(l) && unbroken(l[e]) {
			e++
		}
		if e-i > maxLiteral {
			b.WriteString(l[from : i+keptLiteral])
			fmt.Fprintf(&b, "[+%d characters]", e-i-keptLiteral)
			from = e
		}
		i = e
	}
	if from == 0 {
		return l
	}
	b.WriteString(l[from:])
	return b.String()
}

// maxLicenseLines bounds the length of a header; the Apache notice has 13 lines, and whole licenses are files of their
// own.
const maxLicenseLines = 60

// license finds the license header of a file: a comment at its beginning, after a shebang or an opening tag, that
// mentions copyright or license. It returns the number of lines before it, its hash and its number of lines; 0 if there
// is none.
func license(content string) (skip int, hash uint64, n int) {
	var text []string
	closing := ""
	for l := range strings.Lines(content) {
		bare := strings.TrimSpace(l)
		switch {
		case closing != "":
		case len(text) == 0 && (bare == "" || strings.HasPrefix(bare, "#!") || strings.HasPrefix(bare, "<?")):
			skip++
			if skip > 3 {
				return 0, 0, 0
			}
			continue
		case strings.HasPrefix(bare, "/*"):
			closing = "*/"
		case strings.HasPrefix(bare, "<!--"):
			closing = "-->"
		case bare == "#", strings.HasPrefix(bare, "# "), strings.HasPrefix(bare, "//"), strings.HasPrefix(bare, "--"), strings.HasPrefix(bare, ";;"):
		default:
			return done(skip, text)
		}
		text = append(text, strings.TrimRight(l, " \t\r\n"))
		if len(text) > maxLicenseLines {
			return 0, 0, 0
		}
		if closing != "" && strings.HasSuffix(bare, closing) {
			return done(skip, text)
		}
	}
	if closing != "" {
		return 0, 0, 0 // never closed
	}
	return done(skip, text)
}

func done(skip int, text []string) (int, uint64, int) {
	if len(text) == 0 {
		return 0, 0, 0
	}
	all := strings.Join(text, "\n")
	lower := strings.ToLower(all)
	if !strings.Contains(lower, "copyright") && !strings.Contains(lower, "licen") && !strings.Contains(lower, "spdx-") {
		return 0, 0, 0
	}
	return skip, xxhash.Sum64String(all), len(text)
}
