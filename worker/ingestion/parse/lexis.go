package parse

import (
	"regexp"
	"slices"
	"strings"
)

// lexis holds the lexical rules that separate a language's strings from the rest of its text.
type lexis struct {
	line   []string                                             // marks that begin comments to the end of the line
	block  [2]string                                            // marks that enclose comments
	nested bool                                                 // they may be nested
	quotes []quote                                              // in the order in which they are tried
	other  func(string, int) int                                // end of a string of some other form that begins at an offset, 0 without one, -1 if it never ends
	here   func(string) (tag string, indented bool, length int) // here-document that is announced by the beginning of a text

	starts *[256]bool // made by init
}

// quote is one form of strings. A line end ends the string, unless the form is long or the line end is escaped.
type quote struct {
	open, shut string
	escape     byte // 0 without
	long       bool
	double     bool // the doubled closing quote stands for itself
}

var (
	short2 = quote{open: `"`, shut: `"`, escape: '\\'}
	short1 = quote{open: `'`, shut: `'`, escape: '\\'}
	long2  = quote{open: `"`, shut: `"`, escape: '\\', long: true}
	long1  = quote{open: `'`, shut: `'`, escape: '\\', long: true}
	text2  = quote{open: `"""`, shut: `"""`, escape: '\\', long: true}
	text1  = quote{open: `'''`, shut: `'''`, escape: '\\', long: true}
	raw2   = quote{open: `"""`, shut: `"""`, long: true}
	raw1   = quote{open: `'''`, shut: `'''`, long: true}
	tick   = quote{open: "`", shut: "`", long: true}
)

// lexes are the languages whose strings can be found by such rules. All other languages are unknown here.
var lexes = func() map[string]*lexis {
	c := lexis{line: []string{"//"}, block: [2]string{"/*", "*/"}, quotes: []quote{short2, short1}}
	with := func(change func(*lexis)) *lexis {
		x := c
		change(&x)
		return &x
	}
	hash := func(q ...quote) *lexis { return &lexis{line: []string{"#"}, quotes: q} }
	lisp := &lexis{line: []string{";"}, block: [2]string{"#|", "|#"}, nested: true, quotes: []quote{long2}, other: escapedCharacter}
	m := map[string]*lexis{
		"go":     with(func(x *lexis) { x.quotes = []quote{short2, short1, tick} }),
		"java":   with(func(x *lexis) { x.quotes = []quote{text2, short2, short1} }),
		"cpp":    with(func(x *lexis) { x.other = cppRaw }),
		"rust":   with(func(x *lexis) { x.nested, x.quotes, x.other = true, []quote{long2}, rustRaw }),
		"csharp": with(func(x *lexis) { x.other = csharpRaw }),
		"php": with(func(x *lexis) {
			x.line, x.quotes, x.here = []string{"//", "#"}, []quote{long2, long1}, phpHere
		}),
		"ruby":   {line: []string{"#"}, block: [2]string{"\n=begin", "\n=end"}, quotes: []quote{long2, long1, {open: "`", shut: "`", escape: '\\', long: true}}, here: rubyHere},
		"python": hash(text2, text1, short2, short1), "starlark": hash(text2, text1, short2, short1), "cython": hash(text2, text1, short2, short1),
		"toml":   hash(text2, raw1, short2, quote{open: `'`, shut: `'`}),
		"kotlin": with(func(x *lexis) { x.nested, x.quotes = true, []quote{raw2, short2, short1} }),
		"scala":  with(func(x *lexis) { x.nested, x.quotes, x.other = true, []quote{raw2, short2}, character }),
		"swift":  with(func(x *lexis) { x.nested, x.quotes, x.other = true, []quote{text2, short2}, swiftRaw }),
		"groovy": with(func(x *lexis) {
			x.quotes = []quote{text2, text1, short2, short1, {open: "$/", shut: "/$", escape: '$', long: true}}
		}),
		"dart":   with(func(x *lexis) { x.nested, x.quotes = true, []quote{text2, text1, short2, short1} }),
		"lua":    {line: []string{"--"}, quotes: []quote{short2, short1}, other: luaLong},
		"elixir": {line: []string{"#"}, quotes: []quote{text2, text1, long2, short1}, other: elixirOther},
		"julia":  {line: []string{"#"}, block: [2]string{"#=", "=#"}, nested: true, quotes: []quote{text2, long2}, other: character},
		"r":      {line: []string{"#"}, quotes: []quote{long2, long1, tick}, other: rRaw},
		"powershell": {line: []string{"#"}, block: [2]string{"<#", "#>"}, quotes: []quote{{open: "@\"\n", shut: "\n\"@", long: true}, {open: "@'\n", shut: "\n'@", long: true},
			{open: "@\"\r\n", shut: "\n\"@", long: true}, {open: "@'\r\n", shut: "\n'@", long: true},
			{open: `"`, shut: `"`, escape: '`', long: true, double: true}, {open: `'`, shut: `'`, long: true, double: true}}},
		"hcl":     {line: []string{"#", "//"}, block: [2]string{"/*", "*/"}, quotes: []quote{short2}, here: shellHere},
		"shell":   {line: []string{"#"}, quotes: []quote{{open: "$'", shut: "'", escape: '\\', long: true}, {open: "'", shut: "'", long: true}}, other: shellString, here: shellHere},
		"css":     {block: [2]string{"/*", "*/"}, quotes: []quote{short2, short1}},
		"graphql": hash(quote{open: `"""`, shut: `"""`, escape: '\\', long: true}, short2),
		"zig":     {line: []string{"//", `\\`}, quotes: []quote{short2, short1}},
		"clojure": lisp, "common-lisp": lisp, "scheme": lisp, "racket": lisp, "emacs-lisp": {line: []string{";"}, quotes: []quote{long2}, other: questionMark},
		"erlang": {line: []string{"%"}, quotes: []quote{text2, long2, short1}, other: dollarCharacter},
		"ocaml":  {block: [2]string{"(*", "*)"}, nested: true, quotes: []quote{long2}, other: ocamlQuoted},
		"pascal": {line: []string{"//"}, block: [2]string{"{", "}"}, quotes: []quote{raw1, {open: `'`, shut: `'`}}},
		"ada":    {line: []string{"--"}, quotes: []quote{{open: `"`, shut: `"`}}},
		"mysql":  {line: []string{"-- ", "--\n", "#"}, block: [2]string{"/*", "*/"}, quotes: []quote{long1, long2, tick}},
		"sql":    {line: []string{"--"}, block: [2]string{"/*", "*/"}, quotes: []quote{{open: `'`, shut: `'`, long: true}, {open: `"`, shut: `"`, long: true}, tick}, other: sqlQuoted},
		"json":   {quotes: []quote{short2}}, "jsonc": &c, "json5": &c, "jupyter-notebook": {quotes: []quote{short2}},
		"c": &c, "objective-c": &c, "objective-cpp": &c, "cuda": &c, "glsl": &c, "hlsl": &c, "protocol-buffer": &c, "solidity": &c, "thrift": hash(short2, short1),
		"scss": &c, "less": &c,
	}
	for _, id := range [...]string{"javascript", "typescript", "tsx"} {
		m[id] = with(func(x *lexis) { x.other = jsTemplate })
	}
	for _, x := range m {
		x.starts = new([256]bool)
		for _, s := range x.line {
			x.starts[s[0]] = true
		}
		if x.block[0] != "" {
			x.starts[x.block[0][0]] = true
		}
		for _, q := range x.quotes {
			x.starts[q.open[0]] = true
		}
	}
	return m
}()

// scan returns the strings and comments that span lines; false if one never ends.
func (x *lexis) scan(text string) (found []Verbatim, ok bool) { return x.read(text, func(int, int) {}) }

// read is scan that also tells of each comment.
func (x *lexis) read(text string, comment func(from, to int)) (found []Verbatim, ok bool) {
	note := func(from, to int, quoted bool) {
		if strings.IndexByte(text[from:to], '\n') >= 0 {
			found = append(found, Verbatim{from, to, quoted})
		}
	}
	var pending []hereDoc
	for i := 0; i < len(text); {
		c := text[i]
		if c == '\n' && len(pending) > 0 {
			end, whole := hereEnd(text, i+1, pending)
			if !whole {
				return nil, false
			}
			found = append(found, Verbatim{i, end, true})
			pending, i = nil, max(end-1, i+1)
			continue
		}
		if c == '\\' && x.here != nil {
			i += 2
			continue
		}
		if x.other != nil {
			if e := x.other(text, i); e < 0 {
				return nil, false
			} else if e > 0 {
				note(i, e, true)
				i = e
				continue
			}
		}
		if x.here != nil && c == '<' {
			if tag, indented, n := x.here(text[i:]); n > 0 {
				pending = append(pending, hereDoc{tag, indented})
				i += n
				continue
			}
		}
		if !x.starts[c] {
			i++
			continue
		}
		if x.block[0] != "" && strings.HasPrefix(text[i:], x.block[0]) {
			e := x.blockEnd(text, i)
			if e < 0 {
				return nil, false
			}
			if s := text[i:e]; !starred(s) {
				note(i, e, false)
			}
			comment(i, e)
			i = e
			continue
		}
		if slices.ContainsFunc(x.line, func(s string) bool { return strings.HasPrefix(text[i:], s) }) &&
			(c != '#' || x.here == nil || i == 0 || strings.IndexByte(" \t\n;()|&", text[i-1]) >= 0) {
			k := strings.IndexByte(text[i:], '\n')
			if k < 0 {
				comment(i, len(text))
				break
			}
			comment(i, i+k)
			i += k
			continue
		}
		q := slices.IndexFunc(x.quotes, func(q quote) bool { return strings.HasPrefix(text[i:], q.open) })
		if q < 0 {
			i++
			continue
		}
		e, closed := x.quotes[q].end(text, i)
		if !closed {
			return nil, false
		}
		note(i, e, true)
		i = e
	}
	return found, len(pending) == 0
}

func (x *lexis) blockEnd(text string, i int) int {
	depth := 0
	for j := i; j < len(text); {
		switch {
		case strings.HasPrefix(text[j:], x.block[0]) && (depth == 0 || x.nested):
			depth++
			j += len(x.block[0])
		case strings.HasPrefix(text[j:], x.block[1]):
			j += len(x.block[1])
			if depth--; depth == 0 {
				return j
			}
		default:
			j++
		}
	}
	return -1
}

// end returns the end of the string at i. A short string without a closing quote does not count as a string: it ends
// with its line.
func (q *quote) end(text string, i int) (int, bool) {
	for j := i + len(q.open); j < len(text); j++ {
		switch c := text[j]; {
		case q.escape != 0 && c == q.escape:
			j++
			if c == '\\' && j+1 < len(text) && text[j] == '\r' && text[j+1] == '\n' {
				j++
			}
		case c == '\n' && !q.long:
			return j, true
		case c == q.shut[0] && strings.HasPrefix(text[j:], q.shut):
			if q.double && strings.HasPrefix(text[j+1:], q.shut) {
				j++
				continue
			}
			j += len(q.shut)
			for len(q.shut) == 3 && j < len(text) && text[j] == q.shut[0] {
				j++ // quotes of the content right before the closing ones
			}
			return j, true
		}
	}
	return len(text), !q.long
}

type hereDoc struct {
	tag      string
	indented bool // the closing tag may be indented
}

// hereEnd returns the end of the bodies of the here-documents that begin at i, the closing tags included.
func hereEnd(text string, i int, docs []hereDoc) (end int, ok bool) {
	for _, d := range docs {
		for {
			if i >= len(text) {
				return 0, false
			}
			l := text[i:]
			if k := strings.IndexByte(l, '\n'); k >= 0 {
				l = l[:k+1]
			}
			i += len(l)
			l = strings.TrimRight(l, "\r\n")
			if d.indented {
				l = strings.TrimLeft(l, " \t")
			}
			if l == d.tag || d.indented && strings.HasPrefix(l, d.tag) && len(l) > len(d.tag) && !isWord(l[len(d.tag)]) {
				break
			}
		}
	}
	return i, true
}

// hereTag reads the tag of a here-document: a word, or anything in quotes.
func hereTag(s string, quotes string) (tag string, n int) {
	if s == "" {
		return "", 0
	}
	if strings.IndexByte(quotes, s[0]) >= 0 {
		if k := strings.IndexByte(s[1:], s[0]); k > 0 && strings.IndexByte(s[1:1+k], '\n') < 0 {
			return s[1 : 1+k], k + 2
		}
		return "", 0
	}
	for n < len(s) && isWord(s[n]) {
		n++
	}
	if n > 0 && s[0] >= '0' && s[0] <= '9' {
		return "", 0
	}
	return s[:n], n
}

func shellHere(s string) (tag string, indented bool, length int) {
	if !strings.HasPrefix(s, "<<") {
		return "", false, 0
	}
	n := 2
	if n < len(s) && s[n] == '-' {
		indented = true
		n++
	}
	for n < len(s) && (s[n] == ' ' || s[n] == '\t') {
		n++
	}
	if n < len(s) && s[n] == '\\' {
		n++
	}
	tag, k := hereTag(s[n:], `"'`)
	if k == 0 {
		return "", false, 0
	}
	return tag, indented, n + k
}

func rubyHere(s string) (tag string, indented bool, length int) {
	if !strings.HasPrefix(s, "<<") {
		return "", false, 0
	}
	n := 2
	if n < len(s) && (s[n] == '-' || s[n] == '~') {
		indented = true
		n++
	}
	if n >= len(s) || !indented && (s[n] < 'A' || s[n] > 'Z') {
		return "", false, 0
	}
	tag, k := hereTag(s[n:], "\"'`")
	if k == 0 {
		return "", false, 0
	}
	return tag, indented, n + k
}

func phpHere(s string) (tag string, indented bool, length int) {
	if !strings.HasPrefix(s, "<<<") {
		return "", false, 0
	}
	n := 3
	for n < len(s) && (s[n] == ' ' || s[n] == '\t') {
		n++
	}
	tag, k := hereTag(s[n:], `"'`)
	if k == 0 {
		return "", false, 0
	}
	return tag, true, n + k
}

// shellString returns the end of a string in double quotes, in which commands with strings of their own may stand.
func shellString(text string, i int) int {
	if text[i] != '"' {
		return 0
	}
	return shellQuoted(text, i+1, 0)
}

func shellQuoted(text string, i, depth int) int {
	for i < len(text) && depth < 100 {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		case '$':
			if strings.HasPrefix(text[i:], "$(") {
				if i = shellCommand(text, i+2, depth+1); i < 0 {
					return -1
				}
				continue
			}
		}
		i++
	}
	return -1
}

// shellCommand returns the end of the command in parentheses that begins at i.
func shellCommand(text string, i, depth int) int {
	open := 1
	for i < len(text) && depth < 100 {
		switch text[i] {
		case '\\':
			i++
		case '"':
			if i = shellQuoted(text, i+1, depth+1); i < 0 {
				return -1
			}
			continue
		case '\'':
			k := strings.IndexByte(text[i+1:], '\'')
			if k < 0 {
				return -1
			}
			i += k + 1
		case '(':
			open++
		case ')':
			if open--; open == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// jsTemplate returns the end of a template, in which code with templates of its own may stand.
func jsTemplate(text string, i int) int {
	if text[i] != '`' {
		return 0
	}
	return jsTemplateEnd(text, i+1, 0)
}

func jsTemplateEnd(text string, i, depth int) int {
	for i < len(text) && depth < 100 {
		switch text[i] {
		case '\\':
			i++
		case '`':
			return i + 1
		case '$':
			if strings.HasPrefix(text[i:], "${") {
				open := 1
				for i += 2; i < len(text) && open > 0; i++ {
					switch text[i] {
					case '{':
						open++
					case '}':
						open--
					case '`':
						if i = jsTemplateEnd(text, i+1, depth+1) - 1; i < 0 {
							return -1
						}
					case '"', '\'':
						e, _ := (&quote{open: text[i : i+1], shut: text[i : i+1], escape: '\\'}).end(text, i)
						i = e - 1
					}
				}
				continue
			}
		}
		i++
	}
	return -1
}

// closing returns the end of the mark that closes a string whose content begins at an offset; -1 if there is no such
// mark.
func closing(text string, from int, mark string) int {
	if k := strings.Index(text[from:], mark); k >= 0 {
		return from + k + len(mark)
	}
	return -1
}

func cppRaw(text string, i int) int {
	if text[i] != 'R' || !strings.HasPrefix(text[i:], `R"`) {
		return 0
	}
	k := strings.IndexByte(text[i:min(len(text), i+20)], '(')
	if k < 0 {
		return 0
	}
	return closing(text, i+k, ")"+text[i+2:i+k]+`"`)
}

func rustRaw(text string, i int) int {
	switch text[i] {
	case '\'':
		return character(text, i)
	case 'r':
		n := i + 1
		for n < len(text) && text[n] == '#' {
			n++
		}
		if n < len(text) && text[n] == '"' && (i == 0 || !isWord(text[i-1]) || text[i-1] == 'b' || text[i-1] == 'c') {
			return closing(text, n+1, `"`+text[i+1:n])
		}
	}
	return 0
}

// character skips a quoted character; a single quote alone is a lifetime, a type or a symbol.
func character(text string, i int) int {
	if text[i] != '\'' {
		return 0
	}
	if i+2 < len(text) && text[i+1] == '\\' {
		if k := strings.IndexByte(text[i+3:min(len(text), i+16)], '\''); k >= 0 {
			return i + 3 + k + 1
		}
		return 0
	}
	if k := strings.IndexByte(text[min(len(text), i+2):min(len(text), i+6)], '\''); k >= 0 && (k == 0 || text[i+1] >= 0x80) {
		return i + 2 + k + 1
	}
	return 0
}

func escapedCharacter(text string, i int) int {
	if text[i] == '\\' && i+1 < len(text) {
		return i + 2
	}
	return 0
}

func questionMark(text string, i int) int {
	if text[i] != '?' || i+1 >= len(text) || i > 0 && isWord(text[i-1]) {
		return 0
	}
	if text[i+1] == '\\' && i+2 < len(text) {
		return i + 3
	}
	if text[i+1] == '"' || text[i+1] == '\'' || text[i+1] == '#' || text[i+1] == ';' {
		return i + 2
	}
	return 0
}

// elixirOther handles characters and sigils; sigils with three quotes are strings like others.
func elixirOther(text string, i int) int {
	if text[i] != '~' {
		return questionMark(text, i)
	}
	n := i + 1
	for n < len(text) && (text[n]|0x20 >= 'a' && text[n]|0x20 <= 'z') {
		n++
	}
	if n == i+1 || n >= len(text) || strings.HasPrefix(text[n:], `"""`) || strings.HasPrefix(text[n:], "'''") {
		return 0
	}
	k := strings.IndexByte(`/|"'([{<`, text[n])
	if k < 0 {
		return 0
	}
	e, closed := (&quote{open: text[i : n+1], shut: `/|"')]}>`[k : k+1], escape: '\\', long: true}).end(text, i)
	if !closed {
		return -1
	}
	return e
}

func dollarCharacter(text string, i int) int {
	if text[i] != '$' || i+1 >= len(text) {
		return 0
	}
	if text[i+1] == '\\' {
		return min(len(text), i+3)
	}
	return i + 2
}

func csharpRaw(text string, i int) int {
	j := i
	for j < len(text) && (text[j] == '$' || text[j] == '@') {
		j++
	}
	if j >= len(text) || text[j] != '"' {
		return 0
	}
	n := 0
	for j+n < len(text) && text[j+n] == '"' {
		n++
	}
	switch {
	case n >= 3 && strings.IndexByte(text[i:j], '@') < 0:
		e := closing(text, j+n, text[j:j+n])
		for e > 0 && e < len(text) && text[e] == '"' {
			e++
		}
		return e
	case strings.IndexByte(text[i:j], '@') >= 0:
		e, closed := (&quote{open: text[i : j+1], shut: `"`, long: true, double: true}).end(text, i)
		if !closed {
			return -1
		}
		return e
	}
	return 0
}

func swiftRaw(text string, i int) int {
	if text[i] != '#' {
		return 0
	}
	n := i
	for n < len(text) && text[n] == '#' && n-i < 256 { // a run of them is read once, not again from each
		n++
	}
	marks := text[i:n]
	switch {
	case strings.HasPrefix(text[n:], `"""`):
		return closing(text, n+3, `"""`+marks)
	case strings.HasPrefix(text[n:], `"`):
		return closing(text, n+1, `"`+marks)
	}
	return 0
}

func luaLong(text string, i int) int {
	j := i
	if strings.HasPrefix(text[i:], "--[") {
		j += 2
	}
	if text[j] != '[' {
		return 0
	}
	n := j + 1
	for n < len(text) && text[n] == '=' {
		n++
	}
	if n >= len(text) || text[n] != '[' {
		return 0
	}
	return closing(text, n+1, "]"+text[j+1:n]+"]")
}

func rRaw(text string, i int) int {
	if text[i] != 'r' && text[i] != 'R' || i > 0 && isWord(text[i-1]) || i+2 >= len(text) || text[i+1] != '"' && text[i+1] != '\'' {
		return 0
	}
	n := i + 2
	for n < len(text) && text[n] == '-' {
		n++
	}
	if n >= len(text) {
		return 0
	}
	shut := map[byte]string{'(': ")", '[': "]", '{': "}"}[text[n]]
	if shut == "" {
		return 0
	}
	return closing(text, n+1, shut+text[i+2:n]+text[i+1:i+2])
}

func ocamlQuoted(text string, i int) int {
	switch text[i] {
	case '\'':
		return character(text, i)
	case '{':
		n := i + 1
		for n < len(text) && (text[n] == '_' || text[n] >= 'a' && text[n] <= 'z' || text[n] == '%') {
			n++
		}
		if n < len(text) && text[n] == '|' {
			return closing(text, n+1, "|"+strings.TrimLeft(text[i+1:n], "%")+"}")
		}
	}
	return 0
}

var copies = regexp.MustCompile(`(?i)^copy\s[^;\n]*\bfrom\s+stdin\b[^;\n]*;[ \t\r]*\n`)

// copied returns the end of the data after COPY ... FROM stdin; 0 if there are none.
func copied(text string, i int) int {
	if text[i]|0x20 != 'c' || i > 0 && text[i-1] != '\n' {
		return 0
	}
	head := copies.FindString(text[i:min(len(text), i+4000)])
	if head == "" {
		return 0
	}
	from := i + len(head) - 1
	if k := strings.Index(text[from:], "\n\\."); k >= 0 {
		return from + k + len("\n\\.")
	}
	return len(text)
}

// sqlQuoted handles the dollar quotes of Postgres, Oracle's q quotes, and the data of COPY.
func sqlQuoted(text string, i int) int {
	switch c := text[i]; {
	case c|0x20 == 'c':
		return copied(text, i)
	case c == '$':
		if i > 0 && isWord(text[i-1]) {
			return 0
		}
		e := i + 1
		for e < len(text) && isWord(text[e]) {
			e++
		}
		if e >= len(text) || text[e] != '$' || e > i+1 && text[i+1] >= '0' && text[i+1] <= '9' {
			return 0
		}
		return closing(text, e+1, text[i:e+1])
	case (c == 'q' || c == 'Q') && i+2 < len(text) && text[i+1] == '\'' && (i == 0 || !isWord(text[i-1])):
		shut := text[i+2 : i+3]
		if k := strings.IndexByte("([{<", text[i+2]); k >= 0 {
			shut = ")]}>"[k : k+1]
		}
		return closing(text, i+3, shut+"'")
	}
	return 0
}
