package compress

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	longLiteral = 200 // characters that a literal may have
	keptLiteral = 64  // bytes that a longer one keeps
)

// literals are the nodes that are strings.
var literals = map[string]bool{
	"string": true, "string_literal": true, "interpreted_string_literal": true, "raw_string_literal": true, "template_string": true,
	"verbatim_string_literal": true, "interpolated_string_expression": true, "encapsed_string": true, "text_block": true,
}

// literal shortens a long string. What is interpolated into it goes with the rest.
func (r *renderer) literal(c int) {
	n := &r.nodes[c]
	s := r.str(c)
	if len(s) <= longLiteral {
		return
	}
	open, shut, ok := delimiters(s)
	if !ok {
		return
	}
	content := s[open : len(s)-shut]
	if utf8.RuneCountInString(content) <= longLiteral {
		return
	}
	k := keptLiteral
	for i := c + 1; i < n.Next; i = r.nodes[i].Next {
		switch r.nodes[i].Type {
		case "string_start", "string_end", "string_content", "string_fragment", "escape_sequence", "interpolation_start", "raw_string_content", "multiline_string_fragment":
			continue
		}
		k = min(k, max(0, r.nodes[i].Start-n.Start-open))
		break
	}
	for k > 0 && !utf8.RuneStart(content[k]) {
		k--
	}
	// An escape stays whole, and so does the beginning of an interpolation.
	if at := strings.LastIndexByte(content[max(0, k-12):k], '\\'); at >= 0 {
		k = max(0, k-12) + at
	}
	for k > 0 && strings.IndexByte(`\${}#%@`, content[k-1]) >= 0 {
		k--
	}
	head := ""
	if shut == 3 && strings.HasPrefix(content, "\n") && k == 0 {
		head = "\n" // a text block begins on a line of its own
	}
	r.replace(n.Start+open+k, n.End-shut, fmt.Sprintf("%s[+%d characters]", head, utf8.RuneCountInString(content[k:])))
}

// delimiters returns the lengths of what opens and closes a string.
func delimiters(s string) (open, shut int, ok bool) {
	q := strings.IndexAny(s[:min(len(s), 12)], "\"'`")
	if q < 0 {
		return 0, 0, false
	}
	for i := range q {
		if c := s[i]; c != '@' && c != '$' && c != '#' && (c|0x20 < 'a' || c|0x20 > 'z') && c != '8' {
			return 0, 0, false
		}
	}
	mark := s[q : q+1]
	if strings.HasPrefix(s[q:], strings.Repeat(mark, 3)) {
		mark = s[q : q+3]
		if len(s) > q+3 && s[q+3] == mark[0] {
			return 0, 0, false // more than three
		}
	}
	open = q + len(mark)
	switch {
	case q > 0 && s[q-1] == 'R' && mark == `"`: // R"tag( ... )tag"
		k := strings.IndexByte(s[open:min(len(s), open+18)], '(')
		if k < 0 {
			return 0, 0, false
		}
		mark = ")" + s[open:open+k] + `"`
		open += k + 1
	case strings.Contains(s[:q], "#"): // r#" ... "#
		mark += strings.Repeat("#", strings.Count(s[:q], "#"))
	}
	if len(s) < open+len(mark) || !strings.HasSuffix(s, mark) {
		return 0, 0, false
	}
	return open, len(mark), true
}
