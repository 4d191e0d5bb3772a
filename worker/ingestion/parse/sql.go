package parse

import (
	"regexp"
	"slices"
	"strings"
)

const (
	sqlName = `(?:\[[^\]\n]+\]|"[^"\n]+"|` + "`[^`\n]+`" + `|[\w$#@]+)`
	sqlPath = sqlName + `(?:\s*\.\s*` + sqlName + `)*`
)

var (
	creates = regexp.MustCompile(`(?is)^(?:create|alter)\s+(?:or\s+(?:replace|alter)\s+)?` +
		`(?:definer\s*=\s*\S+\s+|algorithm\s*=\s*\w+\s+|sql\s+security\s+\w+\s+|(?:global\s+|local\s+|private\s+)?temp(?:orary)?\s+|unlogged\s+|unique\s+|` +
		`materialized\s+|constraint\s+|recursive\s+|foreign\s+|external\s+|virtual\s+|clustered\s+|nonclustered\s+|bitmap\s+|force\s+|` +
		`(?:non)?editionable\s+|noforce\s+|public\s+|event\s+(?:trigger))*` +
		`(table|view|type(?:\s+body)?|domain|function|proc(?:edure)?|trigger|schema|index|sequence|extension|role|policy|aggregate|package(?:\s+body)?|event|` +
		`synonym|database)\s+(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?(` + sqlPath + `)`)
	// terminators are lines by which a dialect ends statements; the statements before them may hold semicolons.
	terminators = regexp.MustCompile(`(?im)^[ \t]*(?:delimiter[ \t]+\S+|go(?:[ \t]+\d+)?;?|/|set[ \t]+term[ \t]+[^\s=]+.*)[ \t]*\r?$`)
	goLine      = regexp.MustCompile(`(?im)^[ \t]*go(?:[ \t]+\d+)?;?[ \t]*\r?$`)
	slashLine   = regexp.MustCompile(`(?m)^[ \t]*/[ \t]*\r?$`)
	mysql       = regexp.MustCompile(`(?im)^[ \t]*delimiter[ \t]|engine[ \t]*=|auto_increment|^-- mysql dump`)
)

var createKinds = map[string]Kind{
	"table": Struct, "view": Type, "type": Type, "domain": Type, "function": Function, "procedure": Function, "proc": Function, "trigger": Function,
	"aggregate": Function, "event": Function, "schema": Module, "package": Module,
}

// ownTerminators reports whether a text ends statements by other means than semicolons, or has bodies of BEGIN and END, which the
// grammar would split.
func ownTerminators(text string) bool {
	return terminators.MatchString(text) || compound.MatchString(text)
}

var compound = regexp.MustCompile(`(?i)\b(?:procedure|proc|trigger|function|package|event)\b[^;$]*\bbegin\b`)

// splitSQL replaces the declarations and cuts of a file whose dialect the grammar does not know. Statements end at semicolons outside
// of quotes, comments, parentheses and bodies of BEGIN and END. If the file has other terminators (DELIMITER, GO, a line with a
// slash), statements end at those.
func splitSQL(text string, ln lines, f *File) {
	f.Decls, f.Cuts = nil, nil
	s := sqlSplitter{text: text, lines: ln, file: f, start: -1, head: -1, delimiter: ";",
		batches: goLine.MatchString(text), slashes: slashLine.MatchString(text), escapes: mysql.MatchString(text)}
	s.split()
}

type sqlSplitter struct {
	text                      string
	lines                     lines
	file                      *File
	batches, slashes, escapes bool

	start     int    // of the statement's own first word, or -1
	head      int    // of the comments before it, or -1
	delimiter string // ends statements
	routine   bool   // the statement creates an object with a body
	headed    bool   // as routine, and the IS or AS before the body was read
	parens    int
	depth     int  // open BEGIN and CASE
	pending   bool // a body is announced by IS or AS and has not begun
	packaged  bool // the body is a package's, which has END without BEGIN
}

func (s *sqlSplitter) split() {
	text := s.text
	for i := 0; i < len(text); {
		c := text[i]
		if (i == 0 || text[i-1] == '\n') && s.parens == 0 {
			if n := s.terminator(i); n > 0 {
				i += n
				continue
			}
		}
		switch {
		case strings.HasPrefix(text[i:], s.delimiter) && s.delimiter != ";":
			s.flush(i + len(s.delimiter))
			i += len(s.delimiter)
			continue
		case strings.HasPrefix(text[i:], "--") || strings.HasPrefix(text[i:], "/*") || c == '#' && s.escapes:
			if s.head < 0 && s.lines.startsLine(text, i) {
				s.head = i
			}
			i = endOfComment(text, i)
			continue
		case strings.IndexByte(" \t\r\n", c) >= 0:
			if s.start < 0 && s.head >= 0 && c == '\n' && strings.HasPrefix(strings.TrimLeft(text[i+1:min(len(text), i+81)], " \t\r"), "\n") {
				s.head = -1 // a blank line: the comment does not belong to the statement
			}
			i++
			continue
		}
		if s.start < 0 {
			s.begin(i)
		}
		switch {
		case c == '\'' || c == '"' || c == '`' || c == '[' && s.batches:
			i = s.endOfQuote(i)
			s.pending = false
			continue
		case sqlQuoted(text, i) != 0:
			data := copied(text, i) > 0
			if i = sqlQuoted(text, i); i < 0 {
				i = len(text)
			}
			if s.pending = false; data {
				s.flush(i)
			}
			continue
		case c == '(':
			s.parens++
		case c == ')':
			s.parens = max(0, s.parens-1)
		case c == ';' && s.ends():
			s.flush(i + 1)
		case isWord(c) && (i == 0 || !isWord(text[i-1])):
			e := i
			for e < len(text) && isWord(text[e]) {
				e++
			}
			s.word(strings.ToLower(text[i:e]), i, e)
			i = e
			continue
		}
		i++
	}
	s.flush(len(strings.TrimRight(text, " \t\r\n")))
}

// ends says whether a semicolon here ends the statement.
func (s *sqlSplitter) ends() bool {
	switch {
	case s.delimiter != ";" || s.parens > 0:
		return false
	case s.routine && (s.slashes || s.batches):
		return false
	}
	return s.depth == 0 && !s.pending
}

func (s *sqlSplitter) begin(at int) {
	s.start, s.parens, s.depth, s.pending, s.packaged = at, 0, 0, false, false
	if s.head < 0 {
		s.head = at
	}
	rest := s.text[at:min(len(s.text), at+400)]
	kind, _, body := created(rest)
	s.routine, s.headed = body, kind == "trigger" || kind == "event" // whose AS introduces a name
	if first := strings.ToLower(firstWord(rest)); first == "declare" || first == "begin" && s.slashes {
		s.routine = s.slashes
	}
}

// created returns the kind and name of the object that a statement creates, and whether it has a body of statements. An ALTER counts
// if it contains a new body.
func created(statement string) (kind, name string, body bool) {
	m := creates.FindStringSubmatch(statement[:min(len(statement), 2000)])
	if m == nil {
		return "", "", false
	}
	words := strings.Fields(strings.ToLower(m[1]))
	switch kind = words[0]; kind {
	case "function", "procedure", "proc", "trigger", "package", "event":
		body = true
	case "type":
		body = len(words) > 1
	}
	if m[0][0]|0x20 == 'a' && !body {
		return "", "", false
	}
	return kind, unquoted(m[2]), body
}

// word tracks the bodies of routines.
func (s *sqlSplitter) word(w string, at, end int) {
	if s.batches && s.depth == 0 && s.parens == 0 && !s.routine && at > s.start && (w == "create" || w == "alter") && s.lines.startsLine(s.text, at) {
		s.flush(at) // Transact-SQL needs no semicolons
		s.begin(at)
		return
	}
	if !s.routine || at == s.start || s.parens > 0 || s.text[at-1] == '.' {
		return
	}
	switch w {
	case "is", "as":
		if s.headed || s.depth > 0 {
			return
		}
		s.headed = true
		next := strings.TrimLeft(s.text[end:min(len(s.text), end+200)], " \t\r\n")
		switch strings.ToLower(firstWord(next)) {
		case "select", "with", "insert", "update", "delete", "external", "language", "table", "enum", "object", "return", "begin", "range", "null", "not":
			return
		}
		if next == "" || !isWord(next[0]) {
			return
		}
		if packages.MatchString(s.text[s.start:at]) {
			s.depth, s.packaged = 1, true
			return
		}
		s.pending = true
	case "begin":
		next := strings.ToLower(firstWord(strings.TrimLeft(s.text[end:min(len(s.text), end+40)], " \t\r\n")))
		if next == "tran" || next == "transaction" || next == "distributed" || next == "work" {
			return
		}
		s.depth++
		s.pending = false
	case "case":
		if s.depth > 0 && !strings.EqualFold(lastWord(s.text[max(0, at-20):at]), "end") {
			s.depth++
		}
	case "end":
		switch strings.ToLower(firstWord(strings.TrimLeft(s.text[end:min(len(s.text), end+40)], " \t\r\n"))) {
		case "if", "loop", "while", "repeat", "for":
			return
		}
		s.depth = max(0, s.depth-1)
	}
}

var packages = regexp.MustCompile(`(?is)^create\s.*\b(?:package|type\s+body)\b`)

func firstWord(s string) string {
	n := 0
	for n < len(s) && isWord(s[n]) {
		n++
	}
	return s[:n]
}

func lastWord(s string) string {
	s = strings.TrimRight(s, " \t\r\n")
	n := len(s)
	for n > 0 && isWord(s[n-1]) {
		n--
	}
	return s[n:]
}

// terminator returns the length of a line that ends the statement before it, or changes the terminator; 0 for other lines.
func (s *sqlSplitter) terminator(at int) int {
	l := s.text[at:]
	n := len(l)
	if k := strings.IndexByte(l, '\n'); k >= 0 {
		l, n = l[:k], k+1
	}
	if len(l) > 200 || !terminators.MatchString(l) {
		return 0
	}
	words := strings.Fields(l)
	switch strings.ToLower(words[0]) {
	case "delimiter", "set":
		if s.start >= 0 {
			s.flush(at)
		}
		s.delimiter = words[len(words)-1]
		if strings.EqualFold(words[0], "set") {
			s.delimiter = words[2]
		}
		if s.head < 0 {
			s.head = at
		}
		if s.delimiter == ";" {
			s.head = -1
		}
	default:
		s.flush(at)
		s.head = -1
	}
	return n
}

// flush records the statement that ends before an offset.
func (s *sqlSplitter) flush(end int) {
	if s.start < 0 {
		return
	}
	start, head := s.start, s.head
	s.start, s.head, s.routine, s.parens, s.depth, s.pending = -1, -1, false, 0, 0, false
	end = head + len(strings.TrimRight(s.text[head:end], " \t\r\n"))
	d := Decl{Kind: Statement, StartByte: head, EndByte: end, NameByte: start, StartLine: s.lines.at(head), EndLine: s.lines.at(max(head, end-1))}
	body := s.text[start:end]
	if kind, name, _ := created(body); kind != "" {
		d.Kind = Variable
		if k, ok := createKinds[kind]; ok {
			d.Kind = k
		}
		d.Name = clip(name, maxName)
	} else {
		d.Name = clip(strings.Join(strings.Fields(clip(body, 80)), " "), 60)
	}
	d.Qualified = d.Name
	d.Signature = clip(strings.Join(strings.Fields(clip(body, maxSignature)), " "), maxSignature)
	if start > head {
		d.Doc = cleanDoc(terminators.ReplaceAllString(s.text[head:start], ""))
	}
	if at, ok := s.lines.lineStart(s.text, head); ok && at > 0 {
		s.file.Cuts = append(s.file.Cuts, Cut{Byte: at, Decl: true})
	}
	if packages.MatchString(body[:min(len(body), 400)]) {
		s.members(&d)
	}
	s.file.Decls = append(s.file.Decls, d)
}

// unquoted removes the brackets and quotes from a name.
func unquoted(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("[]\"` \t\r\n", r) {
			return -1
		}
		return r
	}, name)
}

var member = regexp.MustCompile(`(?im)^[ \t]*(?:(?:overriding|final|static|member|constructor|map|order)[ \t]+)*(procedure|function)\s+(` + sqlName + `)`)

// members finds the procedures and functions of a package. Each lasts until the next one, which in these bodies is as good as its END.
func (s *sqlSplitter) members(d *Decl) {
	code := blanked(s.text[d.StartByte:d.EndByte])
	found := member.FindAllStringSubmatchIndex(code, -1)
	// A routine inside another's declarations is indented deeper than the first.
	indent := -1
	found = slices.DeleteFunc(found, func(m []int) bool {
		width := len(code[m[0]:m[2]])
		if indent < 0 {
			indent = width
		}
		return width > indent
	})
	for k, m := range found {
		from, to := d.StartByte+m[0], d.EndByte
		for from < len(s.text) && s.text[from] == '\n' {
			from++
		}
		if k+1 < len(found) {
			to = d.StartByte + found[k+1][0]
		} else if e := strings.LastIndex(strings.ToLower(code), "\nend"); e > m[1] {
			to = d.StartByte + e
		}
		to = from + len(strings.TrimRight(s.text[from:to], " \t\r\n"))
		name := unquoted(code[m[4]:m[5]])
		c := Decl{Kind: Function, Name: name, Qualified: d.Qualified + "." + name, StartByte: from, EndByte: to, NameByte: d.StartByte + m[4],
			StartLine: s.lines.at(from), EndLine: s.lines.at(max(from, to-1))}
		head := s.text[from:to]
		if cut := signatureEnd.FindStringIndex(head); cut != nil {
			head = head[:cut[0]]
		}
		c.Signature = clip(strings.Join(strings.Fields(head), " "), maxSignature)
		d.Children = append(d.Children, c)
		s.file.Cuts = append(s.file.Cuts, Cut{Byte: from, Level: 1, Decl: true})
	}
}

var signatureEnd = regexp.MustCompile(`(?i)\b(?:is|as)\b|;`)

// blanked is SQL with its comments and strings replaced by blanks, except line ends.
func blanked(text string) string {
	b := []byte(text)
	for i := 0; i < len(text); {
		e := i + 1
		switch {
		case strings.HasPrefix(text[i:], "--") || strings.HasPrefix(text[i:], "/*"):
			e = endOfComment(text, i)
		case text[i] == '\'':
			if k := strings.IndexByte(text[i+1:], '\''); k >= 0 {
				e = i + k + 2
			}
		default:
			i++
			continue
		}
		for ; i < e; i++ {
			if b[i] != '\n' {
				b[i] = ' '
			}
		}
	}
	return string(b)
}

func endOfComment(text string, i int) int {
	mark, skip := "\n", 0
	if text[i] == '/' {
		mark, skip = "*/", 2
	}
	if k := strings.Index(text[i:], mark); k >= 0 {
		return i + k + skip
	}
	return len(text)
}

func (s *sqlSplitter) endOfQuote(i int) int {
	shut := s.text[i]
	if shut == '[' {
		shut = ']'
	}
	for j := i + 1; j < len(s.text); j++ {
		switch s.text[j] {
		case '\\':
			if s.escapes && shut != '`' {
				j++
			}
		case shut:
			return j + 1
		}
	}
	return len(s.text)
}
