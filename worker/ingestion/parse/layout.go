package parse

import (
	"slices"
	"strings"
)

// Layout says which white space of a file has no meaning and may therefore change. No white space inside File.Verbatim may
// change.
type Layout uint8

// The layouts.
const (
	Exact    Layout = iota // all white space stays: it has meaning, or nothing is known about the language
	Indented               // indentation stays; blanks at the ends of lines and repeated blank lines have no meaning
	Levels                 // as Indented, and a level of indentation may be narrower, as long as all levels stay different
	Free                   // indentation has no meaning
)

// layout determines which white space of a text may change. t is its syntax tree if the language has a grammar. White space
// that is not known to be safe stays: a language is Exact unless the code here can separate its strings from the rest.
func (f *File) layout(path string, g *grammar, t tree, text string) {
	switch {
	case g != nil && f.Language != "sql":
		f.Layout = Free
		if f.Language == "python" {
			f.Layout = Indented
		}
		f.Verbatim = verbatimNodes(g, t, text)
		if f.HasError { // strings may be missing in the tree
			f.scanLines(text, f.Layout)
			if f.Layout == Free && unsure[f.Language] {
				f.Layout = Levels
			}
		}
	case f.Language == "yaml":
		f.Layout, f.Verbatim = Indented, yamlScalars(text)
	case f.Language == "markdown", f.Language == "restructuredtext", f.Language == "text" && (f.Category == Documentation || strings.HasSuffix(path, ".txt")):
		f.Layout, f.Verbatim = Indented, indentedBlocks(text, f.Language == "markdown")
	case markups[f.Language]:
		f.Layout = Levels
		if strings.Contains(text, "xml:space") {
			f.Layout = Exact
			return
		}
		f.Verbatim = markup(text)
	case f.Language == "sql":
		f.scanLines(text, Free)
	case f.Language == "scala", f.Language == "starlark", f.Language == "cython":
		f.scanLines(text, Indented)
	default:
		f.scanLines(text, Levels)
	}
}

// unsure are the languages whose strings a scanner cannot tell from regular expressions and templates in every case.
var unsure = map[string]bool{"javascript": true, "typescript": true, "tsx": true, "ruby": true, "php": true}

// scanLines adds the verbatim stretches by the language's lexical rules. The layout is Exact if there are no such rules or
// if a string never ends.
func (f *File) scanLines(text string, l Layout) {
	f.Layout = Exact
	language := f.Language
	if language == "sql" && mysql.MatchString(text) {
		language = "mysql"
	}
	rules, known := lexes[language]
	if !known {
		return
	}
	found, ok := rules.scan(text)
	if ok {
		f.Layout, f.Verbatim = l, joined(append(f.Verbatim, found...))
	}
}

// verbatimTypes are the node types of strings and the like in all grammars.
var verbatimTypes = map[string]bool{
	"string": true, "string_literal": true, "raw_string_literal": true, "interpreted_string_literal": true, "template_string": true,
	"verbatim_string_literal": true, "interpolated_string_expression": true, "encapsed_string": true, "heredoc": true, "nowdoc": true,
	"heredoc_body": true, "shell_command_expression": true, "text": true, "regex": true, "string_array": true, "symbol_array": true,
	"subshell": true, "uninterpreted": true, "glimmer_template": true, "delimited_symbol": true, "text_block": true, "char_literal": true,
	"character_literal": true, "bare_string": true, "heredoc_content": true, "preproc_arg": true, "template_literal_type": true,
}

// verbatimNodes returns the strings of a tree that span lines, and the comments in which a line does not begin with a star:
// those may contain code or a drawing.
func verbatimNodes(g *grammar, t tree, text string) []Verbatim {
	var found []Verbatim
	end := uint32(0)
	for i := range t.nodes {
		n := &t.nodes[i]
		if n.end <= end || int(n.symbol) >= len(g.verbatim) || !g.verbatim[n.symbol] {
			continue
		}
		s := text[n.start:n.end]
		if strings.IndexByte(s, '\n') < 0 {
			continue
		}
		if g.is(n, "preproc_arg") { // the grammar does not parse macros; a string may span their lines
			inside, _ := lexes["c"].scan(s)
			for _, v := range inside {
				found = append(found, Verbatim{int(n.start) + v.StartByte, int(n.start) + v.EndByte, v.Quoted})
			}
			continue
		}
		if g.rules[n.symbol].act == comment && starred(s) {
			continue
		}
		found = append(found, Verbatim{int(n.start), int(n.end), g.rules[n.symbol].act != comment})
		end = n.end
	}
	return joined(found)
}

// starred reports whether each line of a comment after its first begins with a star or is blank.
func starred(s string) bool {
	first := true
	for l := range strings.Lines(s) {
		if l = strings.TrimSpace(l); !first && l != "" && l[0] != '*' {
			return false
		}
		first = false
	}
	return true
}

// joined sorts ranges and merges those that overlap.
func joined(list []Verbatim) []Verbatim {
	slices.SortFunc(list, func(a, b Verbatim) int { return a.StartByte - b.StartByte })
	out := list[:0]
	for _, r := range list {
		if k := len(out); k > 0 && r.StartByte < out[k-1].EndByte {
			out[k-1].EndByte = max(out[k-1].EndByte, r.EndByte)
			out[k-1].Quoted = out[k-1].Quoted || r.Quoted
			continue
		}
		out = append(out, r)
	}
	return out
}

// Hold says how far the white space at a position is protected.
type Hold uint8

// The degrees of protection.
const (
	Loose  Hold = iota // by the layout alone
	Kept               // its white space stays
	Quoted             // as Kept, and the position is inside a string
)

// Lines returns the protection of the lines of a text, which the caller requests in ascending order.
type Lines struct{ rest []Verbatim }

// VerbatimLines returns the Lines of ascending stretches.
func VerbatimLines(stretches []Verbatim) Lines { return Lines{stretches} }

// At returns the protection of the front and the end of a line that goes from start to end, the offset of its line end.
func (l *Lines) At(start, end int) (front, tail Hold) {
	for len(l.rest) > 0 && l.rest[0].EndByte <= start {
		l.rest = l.rest[1:]
	}
	for _, r := range l.rest {
		if r.StartByte >= end {
			break
		}
		hold := Kept
		if r.Quoted {
			hold = Quoted
		}
		if r.StartByte < start {
			front = hold
		}
		if r.EndByte > end {
			tail = hold
		}
	}
	return front, tail
}

// indentedBlocks returns the stretches of indented lines of prose, with the blank lines between them, because they may be
// code. In Markdown it also returns front matter and fenced code.
func indentedBlocks(text string, markdown bool) []Verbatim {
	var found []Verbatim
	offset, from, to := 0, -1, 0
	fence, html := "", ""
	if markdown {
		if end := frontMatter(text); end > 0 {
			found = append(found, Verbatim{-1, end, false})
		}
	}
	for l := range strings.Lines(text) {
		at := offset
		offset += len(l)
		trimmed := strings.TrimSpace(l)
		fenced := fence != ""
		if markdown {
			if html == "" {
				fence = fenceAfter(fence, l)
			}
			fenced = fenced || fence != "" || html != ""
			if !fenced {
				html = htmlBlock(strings.TrimLeft(l, " "))
				fenced = html != ""
			}
			if html != "" && strings.Contains(strings.ToLower(l), html) {
				html = ""
			}
		}
		switch {
		case fenced || trimmed != "" && (l[0] == ' ' || l[0] == '\t'):
			if from < 0 {
				from = at
			}
			to = offset
		case trimmed != "" && from >= 0:
			found = append(found, Verbatim{from - 1, to, false})
			from = -1
		}
	}
	if from >= 0 {
		found = append(found, Verbatim{from - 1, to, false})
	}
	return joined(found)
}

// yamlScalars returns the block scalars of YAML, and the quoted and plain scalars that span lines. In doubt it returns more.
func yamlScalars(text string) []Verbatim {
	var found []Verbatim
	var lines []string
	var at []int
	offset := 0
	for l := range strings.Lines(text) {
		lines, at = append(lines, l), append(at, offset)
		offset += len(l)
	}
	at = append(at, offset)
	for i := 0; i < len(lines); i++ {
		bare := strings.TrimSpace(lines[i])
		if bare == "" || bare[0] == '#' {
			continue
		}
		depth := len(lines[i]) - len(strings.TrimLeft(lines[i], " "))
		if yamlBlock(bare) {
			j := i + 1
			for j < len(lines) && (strings.TrimSpace(lines[j]) == "" || len(lines[j])-len(strings.TrimLeft(lines[j], " ")) > depth) {
				j++
			}
			if j > i+1 {
				found = append(found, Verbatim{at[i+1] - 1, at[j], true})
			}
			i = j - 1
			continue
		}
		if q := openQuote(bare); q != 0 {
			j := i + 1
			for j < len(lines) && !closesQuote(lines[j], q) {
				j++
			}
			if j < len(lines) {
				found = append(found, Verbatim{at[i], at[j+1], true})
				i = j
			} else {
				found = append(found, Verbatim{at[i], len(text), true})
				break
			}
			continue
		}
		// A line that is no entry of its own continues the scalar before it, in which a blank line means a line end.
		if i > 0 && !yamlEntry(bare) {
			k := i - 1
			for k > 0 && strings.TrimSpace(lines[k]) == "" {
				k--
			}
			found = append(found, Verbatim{at[k], at[i+1], true})
		}
	}
	return joined(found)
}

// yamlBlock reports whether a line ends with the header of a block scalar.
func yamlBlock(l string) bool {
	if k := strings.Index(l, " #"); k >= 0 {
		l = strings.TrimSpace(l[:k])
	}
	word := l[strings.LastIndexAny(l, " \t")+1:]
	return word != "" && (word[0] == '|' || word[0] == '>') && strings.Trim(word[1:], "+-0123456789") == ""
}

// yamlEntry reports whether a line begins a new item: a key, a list item, a comment, a document or a bracket.
func yamlEntry(l string) bool {
	if strings.HasPrefix(l, "- ") || l == "-" || strings.HasPrefix(l, "---") || strings.HasPrefix(l, "...") || strings.IndexByte("#{}[],%?", l[0]) >= 0 {
		return true
	}
	k := strings.IndexByte(l, ':')
	return k > 0 && (k+1 == len(l) || l[k+1] == ' ' || l[k+1] == '\t') || strings.Contains(l, ": ") || strings.HasSuffix(l, ":")
}

// openQuote returns the quote of a value that begins on this line and does not end there; 0 without one.
func openQuote(l string) byte {
	for i := 0; i < len(l); i++ {
		c := l[i]
		if c != '"' && c != '\'' || i > 0 && strings.IndexByte(" \t[{,:-", l[i-1]) < 0 {
			if c == '#' && i > 0 && l[i-1] == ' ' {
				return 0
			}
			continue
		}
		end := quoteEnd(l[i+1:], c)
		if end < 0 {
			return c
		}
		i += end + 1
	}
	return 0
}

func closesQuote(l string, q byte) bool { return quoteEnd(l, q) >= 0 }

// quoteEnd returns the offset of the quote that closes a string of YAML, or -1.
func quoteEnd(s string, q byte) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && q == '"':
			i++
		case s[i] == q && q == '\'' && i+1 < len(s) && s[i+1] == q:
			i++
		case s[i] == q:
			return i
		}
	}
	return -1
}

var markups = map[string]bool{"xml": true, "html": true, "svg": true, "vue": true, "svelte": true, "xslt": true, "maven-pom": true, "xml-property-list": true}

// markup returns the text in HTML and XML: content that spans lines, attributes that do, comments, CDATA, and the elements
// whose white space has meaning or which contain another language.
func markup(text string) []Verbatim {
	var found []Verbatim
	note := func(from, to int, quoted bool) {
		if strings.IndexByte(text[max(from, 0):to], '\n') >= 0 {
			found = append(found, Verbatim{from, to, quoted})
		}
	}
	until := func(from int, mark string) int {
		if k := strings.Index(text[from:], mark); k >= 0 {
			return from + k + len(mark)
		}
		return len(text)
	}
	for i := 0; i < len(text); {
		rest := text[i:]
		switch {
		case strings.HasPrefix(rest, "<!--"):
			e := until(i, "-->")
			note(i, e, false)
			i = e
		case strings.HasPrefix(rest, "<![CDATA["):
			e := until(i, "]]>")
			note(i, e, true)
			i = e
		case strings.HasPrefix(rest, "<?"):
			e := until(i, "?>")
			note(i, e, true)
			i = e
		case rest[0] == '<' && len(rest) > 1 && (isWord(rest[1]) || rest[1] == '/' || rest[1] == '!'):
			name := i + 1
			for name < len(text) && isWord(text[name]) {
				name++
			}
			element := strings.ToLower(text[i+1 : name])
			j := i + 1
			for j < len(text) && text[j] != '>' {
				if q := text[j]; q == '"' || q == '\'' {
					k := strings.IndexByte(text[j+1:], q)
					if k < 0 {
						note(i, len(text), true)
						return joined(found)
					}
					note(j, j+k+2, true)
					j += k + 1
				}
				j++
			}
			j = min(j+1, len(text))
			i = j
			switch element {
			case "pre", "textarea", "script", "style", "listing", "xmp":
				if text[max(j-2, 0)] != '/' {
					k := strings.Index(strings.ToLower(text[j:]), "</"+element)
					if k < 0 {
						k = len(text) - j
					}
					note(j-1, j+k, true)
					i = j + k
				}
			}
		default:
			e := len(text)
			if k := strings.IndexByte(text[i+1:], '<'); k >= 0 {
				e = i + 1 + k
			}
			if s := text[i:e]; strings.TrimSpace(s) != "" {
				note(i-1, e, true)
			}
			i = e
		}
	}
	return joined(found)
}
