package parse

import (
	"bytes"
	"strings"
)

// repaired returns a version of the text that the grammar can parse better, one line end longer. Syntax that the grammar does not know,
// mostly because it is newer than the grammar, is blanked or rewritten in older syntax. Offsets stay those of the original. It returns
// false if there is nothing to repair.
func repaired(language, text string) (string, bool) {
	b := append([]byte(text), '\n') // a type that ends the text needs room
	changed := false
	switch language {
	case "csharp":
		changed = primaryConstructors(b)
	case "php":
		changed = phpConstants(b)
		changed = propertyHooks(b) || changed
	case "c", "cpp":
		changed = conditionalBraces(b)
	}
	return string(b), changed
}

// skipText returns the end of a string, comment or character that begins at i, or i where none does.
func skipText(b []byte, i int, hash bool) int {
	to := func(end string, from int) int {
		if k := bytes.Index(b[from:], []byte(end)); k >= 0 {
			return from + k + len(end)
		}
		return len(b)
	}
	switch c := b[i]; {
	case c == '/' && i+1 < len(b) && b[i+1] == '/', c == '#' && hash && (i+1 >= len(b) || b[i+1] != '['):
		for i < len(b) && b[i] != '\n' {
			i++
		}
	case c == '/' && i+1 < len(b) && b[i+1] == '*':
		return to("*/", i+2)
	case c == '"' && strings.HasPrefix(string(b[i:min(len(b), i+3)]), `"""`):
		return to(`"""`, i+3)
	case c == '"' && i > 0 && b[i-1] == '@':
		for i++; i < len(b); i++ {
			if b[i] == '"' {
				if i+1 < len(b) && b[i+1] == '"' {
					i++
					continue
				}
				return i + 1
			}
		}
	case c == '\\' && i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\''):
		return i + 2 // begins no string: searching for the end after each of many would take quadratic time
	case c == '"' || c == '\'':
		for j := i + 1; j < len(b); j++ {
			switch b[j] {
			case '\\':
				j++
			case c:
				return j + 1
			case '\n':
				if !hash || c == '\'' && !hash {
					return i + 1 // an apostrophe
				}
			}
		}
		return i + 1
	}
	return i
}

// maxHead bounds how far the head of a declaration is read.
const maxHead = 1000

// maxConstant bounds how far type and name of a constant are read.
const maxConstant = 256

// closingBrace returns the offset of the bracket that closes the one at i. It returns -1 if there is none, or if the budget of all
// searches of a text is used up.
func closingBrace(b []byte, i int, hash bool, budget *int) int {
	depth := 0
	for j := i; j < len(b); *budget-- {
		if *budget <= 0 {
			return -1
		}
		if k := skipText(b, j, hash); k > j {
			j = k
			continue
		}
		switch b[j] {
		case '(', '{', '[':
			depth++
		case ')', '}', ']':
			if depth--; depth == 0 {
				return j
			}
		}
		j++
	}
	return -1
}

func wordByte(c byte) bool {
	return c == '_' || c >= 0x80 || 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// keyword reports whether a word stands alone at i.
func keyword(b []byte, i int, word string) bool {
	return strings.HasPrefix(string(b[i:min(len(b), i+len(word))]), word) && (i == 0 || !wordByte(b[i-1]) && b[i-1] != '$' && b[i-1] != '@' && b[i-1] != '.' && b[i-1] != '>') &&
		(i+len(word) >= len(b) || !wordByte(b[i+len(word)]))
}

func blanks(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

func blank(b []byte) {
	for i := range b {
		if b[i] != '\n' && b[i] != '\r' {
			b[i] = ' '
		}
	}
}

// primaryConstructors gives C# 12 types that end with a semicolon the empty body of older syntax: class A(int x) : B(x);
func primaryConstructors(b []byte) (changed bool) {
	budget := 4 * len(b)
	for i := 0; i < len(b); {
		if k := skipText(b, i, false); k > i {
			i = k
			continue
		}
		word := ""
		for _, w := range [...]string{"class", "struct", "interface"} {
			if b[i] == w[0] && keyword(b, i, w) {
				word = w
			}
		}
		if word == "" {
			i++
			continue
		}
		j := blanks(b, i+len(word))
		start := j
		for j < len(b) && wordByte(b[j]) {
			j++
		}
		if j == start { // where T : class
			i += len(word)
			continue
		}
	head:
		for j < len(b) {
			if k := skipText(b, j, false); k > j {
				j = k
				continue
			}
			switch b[j] {
			case '(':
				end := closingBrace(b, j, false, &budget)
				if end < 0 {
					break head
				}
				j = end + 1
				continue
			case '{', '}', '=':
				break head
			case ';':
				if j+1 < len(b) && strings.IndexByte(" \t\r\n", b[j+1]) >= 0 {
					b[j], b[j+1] = '{', '}'
					changed = true
				}
				break head
			}
			j++
		}
		i = max(j, i+len(word))
	}
	return changed
}

// phpConstants rewrites the constants of enums as cases, and removes the types of constants.
func phpConstants(b []byte) (changed bool) {
	enumEnd, budget := -1, 4*len(b)
	for i := 0; i < len(b); {
		if k := skipText(b, i, true); k > i {
			i = k
			continue
		}
		switch {
		case b[i] == 'e' && keyword(b, i, "enum"):
			j := blanks(b, i+4)
			start := j
			for j < len(b) && wordByte(b[j]) {
				j++
			}
			for j > start && j < min(len(b), i+maxHead) && b[j] != '{' && b[j] != ';' && b[j] != '(' && b[j] != '=' {
				j++
			}
			if j > start && j < len(b) && b[j] == '{' {
				enumEnd = closingBrace(b, j, true, &budget)
				i = j
			}
		case b[i] == 'c' && keyword(b, i, "const"):
			j := i + 5
			end := j
			for end < min(len(b), i+maxConstant) && b[end] != '=' && b[end] != ';' && b[end] != ',' {
				end++
			}
			if words := strings.Fields(string(b[j:end])); len(words) == 2 && end < len(b) && b[end] == '=' { // const string X = ...
				at := j + strings.Index(string(b[j:end]), words[0])
				blank(b[at : at+len(words[0])])
				changed = true
			}
			if i < enumEnd {
				copy(b[i:], " case")
				for k := end; k < min(len(b), end+64*maxHead) && b[k] != ';'; { // cases have no expressions
					next := max(skipText(b, k, true), k+1)
					blank(b[k:next])
					k = next
				}
				for k := i - 1; k >= 0 && (b[k] == ' ' || b[k] == '\t' || wordByte(b[k])); k-- { // visibility and final
					b[k] = ' '
				}
				changed = true
			}
			i = max(j, i+5)
			continue
		}
		i++
	}
	return changed
}

// propertyHooks removes the bodies of PHP 8.4's properties: public string $name { get => ...; } and their set visibility.
func propertyHooks(b []byte) (changed bool) {
	budget := 4 * len(b)
	for i := 0; i < len(b); {
		if k := skipText(b, i, true); k > i {
			i = k
			continue
		}
		if b[i] == '(' { // public private(set)
			for _, word := range [...]string{"private", "protected", "public"} {
				if i >= len(word) && keyword(b, i-len(word), word) && strings.HasPrefix(string(b[i:min(len(b), i+5)]), "(set)") {
					blank(b[i-len(word) : i+5])
					changed = true
				}
			}
		}
		if b[i] != '$' || i+1 >= len(b) || !wordByte(b[i+1]) {
			i++
			continue
		}
		j := i + 1
		for j < len(b) && wordByte(b[j]) {
			j++
		}
		open := blanks(b[:min(len(b), j+maxHead)], j)
		if open < len(b) && b[open] == '=' { // with a default
			k := open + 1
			for k < min(len(b), open+maxHead) && b[k] != ';' && b[k] != '{' && b[k] != '\n' && b[k] != '(' {
				k++
			}
			open = k
		}
		if open >= len(b) || b[open] != '{' || !hooks(b, open+1) {
			i = j
			continue
		}
		end := closingBrace(b, open, true, &budget)
		if end < 0 {
			return changed
		}
		blank(b[open : end+1])
		if next := blanks(b, end+1); next >= len(b) || b[next] != ',' && b[next] != ')' { // no parameter of a constructor
			b[open] = ';'
		}
		changed = true
		i = end + 1
	}
	return changed
}

// hooks says whether get or set begins a block.
func hooks(b []byte, i int) bool {
	i = blanks(b, i)
	for i < len(b) {
		if k := skipText(b, i, true); k > i {
			i = blanks(b, k)
			continue
		}
		break
	}
	for _, word := range [...]string{"get", "set", "&get", "final"} {
		if i < len(b) && strings.HasPrefix(string(b[i:min(len(b), i+len(word))]), word) && i+len(word) < len(b) && !wordByte(b[i+len(word)]) {
			next := blanks(b, i+len(word))
			return word == "final" || next < len(b) && (b[next] == '=' || b[next] == '{' || b[next] == ';' || b[next] == '(')
		}
	}
	return false
}

// branch is a part of a conditional group of C's preprocessor.
type branch struct {
	line, end int // of its directive
	open      int // braces and parentheses that it opens and does not close
	close     int
}

// conditionalBraces keeps one branch of each #if group whose branches open or close different brackets.
func conditionalBraces(b []byte) (changed bool) {
	type group struct{ branches []branch }
	var stack []group
	settle := func(g group, endLine, endAfter int) {
		uneven := false
		for k := range g.branches {
			uneven = uneven || g.branches[k].open != 0 || g.branches[k].close != 0
		}
		if !uneven {
			return
		}
		changed = true
		for k, br := range g.branches {
			blank(b[br.line:br.end])
			if k > 0 {
				to := endLine
				if k+1 < len(g.branches) {
					to = g.branches[k+1].line
				}
				blank(b[br.end:to])
			}
		}
		blank(b[endLine:endAfter])
	}
	for i := 0; i < len(b); {
		start := i
		if i == 0 || b[i-1] == '\n' {
			start = blanksOfLine(b, i)
		}
		if (i == 0 || b[i-1] == '\n') && start < len(b) && b[start] == '#' {
			end := start
			for end < len(b) && b[end] != '\n' {
				if b[end] == '\\' && end+1 < len(b) {
					end++
				}
				end++
			}
			word := strings.TrimLeft(string(b[start+1:min(end, start+20)]), " \t")
			switch {
			case strings.HasPrefix(word, "if"):
				if len(stack) >= 200 { // deeper than hand-written code
					return false
				}
				stack = append(stack, group{[]branch{{line: start, end: end}}})
			case strings.HasPrefix(word, "el") && len(stack) > 0:
				g := &stack[len(stack)-1]
				g.branches = append(g.branches, branch{line: start, end: end})
			case strings.HasPrefix(word, "endif") && len(stack) > 0:
				g := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				if len(stack) > 0 { // the enclosing branch contains the first branch
					up, first := &stack[len(stack)-1], g.branches[0]
					last := &up.branches[len(up.branches)-1]
					closed := min(last.open, first.close)
					last.open, last.close = last.open-closed+first.open, last.close+first.close-closed
				}
				settle(g, start, end)
			}
			i = end
			continue
		}
		if k := skipText(b, i, false); k > i {
			i = k
			continue
		}
		if len(stack) > 0 {
			g := &stack[len(stack)-1]
			br := &g.branches[len(g.branches)-1]
			switch b[i] {
			case '{', '(':
				br.open++
			case '}', ')':
				if br.open > 0 {
					br.open--
				} else {
					br.close++
				}
			}
		}
		i++
	}
	return changed
}

func blanksOfLine(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	return i
}
