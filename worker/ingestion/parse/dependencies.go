package parse

import (
	"slices"
	"strings"
)

// Dependency is an import that means the same in a list at the beginning of the file. One statement may have several,
// which share its range.
type Dependency struct {
	StartByte, EndByte int
	Entry              string // path, "path as local", path(names), or with a modifier of the statement: "static path"
}

// dependencies lists the imports that may be moved: statements of the file's top level that begin at the start of a line
// and have their lines to themselves, without conditions, attributes, comments of their own or effects on other code. In
// languages where imports run in order (Python, Ruby) or the code before them matters (C), only imports before all other
// code are listed.
func (f *File) dependencies(g *grammar, t tree, text string) {
	read := importReaders[f.Language]
	if read == nil || len(t.nodes) == 0 {
		return
	}
	d := dependent{extraction: &extraction{g: g, text: text, nodes: t.nodes, file: f, name: g.fieldID("name")}}
	inOrder := f.Language == "python" || f.Language == "ruby" || f.Language == "c" || f.Language == "cpp"
	directives := f.Language == "c" || f.Language == "cpp" || f.Language == "csharp"
	if f.Language == "php" && strings.Count(text, "\nnamespace ") > 1 {
		return // use belongs to its enclosing namespace
	}
	head := true // only comments so far
	docstring := true
	before, attributed := uint32(0), false
	depth, looked := 0, 0 // conditional directives that are open before an offset
	for c := uint32(1); c < t.nodes[0].next; c = t.nodes[c].next {
		n := &t.nodes[c]
		r := g.rule(n)
		if r.act == comment || r.act == attribute || g.is(n, "hash_bang_line") {
			before, attributed = c, attributed || r.act == attribute
			continue
		}
		entries := read(&d, c)
		start, end := int(n.start), d.trimmed(n)
		movable := len(entries) > 0 && !attributed && !d.bound(before, start, head) && d.alone(start, end) && !d.more(c)
		if movable && directives {
			depth += conditionals(text[looked:start])
			looked = start
			movable = depth == 0
		}
		switch {
		case movable:
			for _, e := range entries {
				f.Dependencies = append(f.Dependencies, Dependency{start, end, e})
			}
		case !inOrder:
		case d.passive(c, docstring):
		default:
			return
		}
		before, attributed, head, docstring = c, false, false, false
	}
}

type dependent struct{ *extraction }

// passive reports whether a node of the top level has no effect on imports after it.
func (d *dependent) passive(c uint32, first bool) bool {
	n := &d.nodes[c]
	switch d.g.typeOf(n) {
	case "future_import_statement":
		return true
	case "expression_statement":
		return first && c+1 < n.next && d.g.is(&d.nodes[c+1], "string")
	case "preproc_call":
		return strings.HasPrefix(d.str(n), "#pragma once")
	}
	return false
}

// bound reports whether the comment before a statement belongs to it: a comment on the line above that is not the file's
// opening comment.
func (d *dependent) bound(before uint32, start int, head bool) bool {
	if before == 0 {
		return false
	}
	n := &d.nodes[before]
	if d.g.rule(n).act != comment {
		return false
	}
	end := d.trimmed(n)
	if end > start || d.gap(end, start) || !startsLine(d.text, int(n.start)) {
		return false
	}
	return !head || strings.Count(d.text[:end], "\n") == 0
}

// alone reports whether a statement has its lines to itself and begins in the first column.
func (d *dependent) alone(start, end int) bool {
	if start > 0 && d.text[start-1] != '\n' {
		return false
	}
	after := d.text[end:]
	if k := strings.IndexByte(after, '\n'); k >= 0 {
		after = after[:k]
	}
	return strings.Trim(after, "; \t\r") == ""
}

// more reports whether a statement contains a comment, or a part that the grammar does not know.
func (d *dependent) more(c uint32) bool {
	for k := c + 1; k < d.nodes[c].next; k++ {
		if n := &d.nodes[k]; d.g.rule(n).act == comment || d.g.is(n, "ERROR") || int(n.symbol) >= len(d.g.types) {
			return true
		}
	}
	return false
}

func startsLine(text string, at int) bool {
	return at == 0 || strings.TrimLeft(text[strings.LastIndexByte(text[:at], '\n')+1:at], " \t") == ""
}

// conditionals counts the conditional directives that a text opens, minus those that it closes.
func conditionals(text string) int {
	n := 0
	for l := range strings.Lines(text) {
		if l = strings.TrimLeft(l, " \t"); l == "" || l[0] != '#' {
			continue
		}
		l = strings.TrimLeft(l[1:], " \t")
		if strings.HasPrefix(l, "if") {
			n++
		} else if strings.HasPrefix(l, "endif") {
			n--
		}
	}
	return n
}

// importReaders return the entries of an import statement's node; none for other nodes, and for imports with more meaning
// than a list can express.
var importReaders = map[string]func(*dependent, uint32) []string{
	"go": (*dependent).goImport, "python": (*dependent).pythonImport, "java": (*dependent).wordsAfter, "csharp": (*dependent).wordsAfter,
	"php": (*dependent).wordsAfter, "rust": (*dependent).wordsAfter, "javascript": (*dependent).jsImport, "typescript": (*dependent).jsImport,
	"tsx": (*dependent).jsImport, "c": (*dependent).include, "cpp": (*dependent).include, "ruby": (*dependent).require,
}

func (d *dependent) goImport(c uint32) (list []string) {
	n := &d.nodes[c]
	if !d.g.is(n, "import_declaration") {
		return nil
	}
	for k := c + 1; k < n.next; k++ {
		if !d.g.is(&d.nodes[k], "import_spec") {
			continue
		}
		path := strings.Trim(d.str(d.field(k, d.g.fieldID("path"))), "\"`")
		if path == "C" || path == "" {
			return nil // cgo: the comment before the import is its C code
		}
		if local := d.str(d.field(k, d.name)); local != "" {
			path += " as " + local
		}
		list = append(list, path)
	}
	return list
}

func (d *dependent) pythonImport(c uint32) (list []string) {
	n := &d.nodes[c]
	switch d.g.typeOf(n) {
	case "import_statement":
		for k := c + 1; k < n.next; k = d.nodes[k].next {
			list = append(list, spaced(d.str(&d.nodes[k])))
		}
	case "import_from_statement":
		var names []string
		for k := c + 1; k < n.next; k = d.nodes[k].next {
			if m := &d.nodes[k]; m.field == d.name || d.g.is(m, "wildcard_import") {
				names = append(names, spaced(d.str(m)))
			}
		}
		if path := spaced(d.str(d.field(c, d.g.fieldID("module_name")))); path != "" && len(names) > 0 {
			list = append(list, path+"("+strings.Join(names, ", ")+")")
		}
	}
	return list
}

// wordsAfter takes a statement without its keyword: "static a.B.c", "a::b::{c, d as e}", "Short = A.B".
func (d *dependent) wordsAfter(c uint32) []string {
	n := &d.nodes[c]
	keyword := map[string]string{"import_declaration": "import", "using_directive": "using", "namespace_use_declaration": "use",
		"use_declaration": "use"}[d.g.typeOf(n)]
	s, ok := strings.CutPrefix(d.str(n), keyword)
	if keyword == "" || !ok { // pub use, global using: part of the interface
		return nil
	}
	return []string{spaced(strings.TrimRight(s, "; \t\r\n"))}
}

func (d *dependent) jsImport(c uint32) []string {
	n := &d.nodes[c]
	source, clause := d.field(c, d.g.fieldID("source")), d.child(c, "import_clause")
	if !d.g.is(n, "import_statement") || source == nil || clause == 0 || strings.Trim(d.text[source.end:d.trimmed(n)], "; \t\r\n") != "" {
		return nil // imported only for its effects, or with attributes
	}
	entry := strings.Trim(d.str(source), "\"'")
	if strings.ContainsAny(entry, " ,()") {
		return nil
	}
	switch strings.TrimSpace(d.text[n.start+uint32(len("import")) : d.nodes[clause].start]) {
	case "":
	case "type":
		entry = "type " + entry
	default:
		return nil
	}
	var names []string
	for k := clause + 1; k < d.nodes[clause].next; k = d.nodes[k].next {
		switch m := &d.nodes[k]; d.g.typeOf(m) {
		case "identifier":
			names = append(names, "default as "+d.str(m))
		case "namespace_import":
			names = append(names, spaced(d.str(m)))
		case "named_imports":
			for s := k + 1; s < m.next; s = d.nodes[s].next {
				names = append(names, spaced(d.str(&d.nodes[s])))
			}
		default:
			return nil
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{entry + "(" + strings.Join(names, ", ") + ")"}
}

func (d *dependent) include(c uint32) []string {
	if !d.g.is(&d.nodes[c], "preproc_include") {
		return nil
	}
	path := d.field(c, d.g.fieldID("path"))
	if path == nil || !slices.Contains([]string{"system_lib_string", "string_literal"}, d.g.typeOf(path)) {
		return nil
	}
	return []string{d.str(path)}
}

func (d *dependent) require(c uint32) []string {
	n := &d.nodes[c]
	if !d.g.is(n, "call") {
		return nil
	}
	method, arguments := d.str(d.field(c, d.g.fieldID("method"))), d.child(c, "argument_list")
	if method != "require" && method != "require_relative" || arguments == 0 || d.field(c, d.g.fieldID("receiver")) != nil {
		return nil
	}
	one := arguments + 1
	if one >= d.nodes[arguments].next || d.nodes[one].next != d.nodes[arguments].next || !d.g.is(&d.nodes[one], "string") ||
		d.find(one, "interpolation") != 0 || d.nodes[arguments].next != n.next {
		return nil
	}
	path := strings.Trim(d.str(&d.nodes[one]), `"'`)
	if method == "require_relative" {
		path = "require_relative " + path
	}
	return []string{path}
}

func spaced(s string) string { return strings.Join(strings.Fields(s), " ") }
