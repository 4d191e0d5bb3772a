package compress

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"kijko/worker/ingestion/parse"
)

// exports are the names that a file exports by a statement of their own.
type exports struct {
	known bool // the file says which; otherwise all names are visible
	names map[string]bool
}

var quoted = regexp.MustCompile(`["']([A-Za-z_][A-Za-z0-9_]*)["']`)

// readExports reads the export statements of a JavaScript file and the __all__ of a Python module. A script without exports shows all
// its names; so does a module without __all__, except those that begin with an underscore.
func (r *renderer) readExports() exports {
	e := exports{names: map[string]bool{}}
	for c := 1; c < r.nodes[0].Next; c = r.nodes[c].Next {
		n := &r.nodes[c]
		switch {
		case r.language == "python" && n.Type == "expression_statement" && strings.HasPrefix(r.str(c), "__all__"):
			e.known = true
			for _, m := range quoted.FindAllStringSubmatch(r.str(c), -1) {
				e.names[m[1]] = true
			}
		case n.Type == "export_statement":
			e.known = true
			if r.child(c, "source") == 0 && r.child(c, "declaration") == 0 {
				r.addNames(c, e.names)
			}
		case n.Type == "expression_statement" && c+1 < n.Next && r.nodes[c+1].Type == "assignment_expression":
			r.addAssigned(c+1, &e)
		}
	}
	return e
}

// addAssigned adds what module.exports = ... or exports.x = ... names.
func (r *renderer) addAssigned(a int, e *exports) {
	for a != 0 && r.nodes[a].Type == "assignment_expression" {
		left, right := r.child(a, "left"), r.child(a, "right")
		if left == 0 || right == 0 {
			return
		}
		if r.isExportTarget(left) {
			e.known = true
			switch r.nodes[right].Type {
			case "identifier":
				e.names[r.str(right)] = true
			case "object":
				r.addNames(right, e.names)
			}
		} else if r.nodes[left].Type == "identifier" && r.nodes[right].Type == "assignment_expression" {
			e.names[r.str(left)] = true
		}
		a = right
	}
}

func (r *renderer) isExportTarget(left int) bool {
	s := r.str(left)
	return s == "exports" || strings.HasPrefix(s, "module.exports") || strings.HasPrefix(s, "exports.")
}

// addNames adds the identifiers inside a node, without those of functions.
func (r *renderer) addNames(i int, names map[string]bool) {
	for c := i + 1; c < r.nodes[i].Next; {
		switch t := r.nodes[c].Type; {
		case t == "identifier" || t == "shorthand_property_identifier" || t == "type_identifier":
			names[r.str(c)] = true
		case r.child(c, "body") != 0:
			c = r.nodes[c].Next
			continue
		}
		c++
	}
}

// access returns the access in force after a sibling: the labels of C++, the bare words of Ruby.
func (r *renderer) access(c int, now string) string {
	switch n := &r.nodes[c]; {
	case n.Type == "access_specifier":
		return strings.TrimRight(r.str(c), ": ")
	case r.language == "ruby" && n.Type == "identifier":
		switch w := r.str(c); w {
		case "private", "protected", "public":
			return w
		}
	}
	return now
}

// members is the scope of the members of a declaration.
func (r *renderer) members(d int, s scope) scope {
	n := &r.nodes[d]
	switch {
	case s.kind == innerScope, s.kind == hiddenScope:
		return scope{kind: s.kind}
	case n.Kind == parse.Module:
		if r.language == "cpp" && r.child(d, "name") == 0 {
			return scope{kind: hiddenScope}
		}
		return scope{kind: fileScope}
	case n.Kind == parse.Interface, n.Kind == parse.Impl && r.child(d, "trait") != 0:
		return scope{kind: openScope}
	case r.language == "cpp" && n.Kind == parse.Class:
		return scope{kind: classScope, access: "private"}
	}
	return scope{kind: classScope}
}

// exported reports whether one of the declarations of sibling c is visible outside of its file, or of the type that it is a member of. from
// is where its comments and attributes begin.
func (r *renderer) exported(c, from int, list []int, s scope) bool {
	switch s.kind {
	case openScope, innerScope:
		return true
	case hiddenScope:
		return false
	}
	switch r.language {
	case "go":
		return r.anyName(list, func(name string) bool {
			first, _ := utf8.DecodeRuneInString(name)
			return unicode.IsUpper(first) || name == "_"
		})
	case "javascript", "typescript", "tsx":
		return r.exportedJS(c, list, s)
	case "python":
		return r.anyName(list, func(name string) bool {
			if s.kind == fileScope && r.exports.known {
				return r.exports.names[name] || strings.HasPrefix(name, "__all__")
			}
			return !strings.HasPrefix(name, "_") || strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__")
		})
	case "java", "csharp":
		return r.hasModifier(c, list, "public") || r.hasModifier(c, list, "protected") || r.nodes[list[0]].Type == "destructor_declaration"
	case "rust":
		if r.nodes[list[0]].Kind == parse.Impl {
			return true
		}
		if r.nodes[list[0]].Type == "macro_definition" {
			return strings.Contains(r.text[from:r.nodes[c].Start], "macro_export")
		}
		return r.hasModifier(c, list, "pub")
	case "c", "cpp":
		if s.kind == classScope {
			return s.access != "private"
		}
		return !r.hasModifier(c, list, "static")
	case "php":
		return !r.hasModifier(c, list, "private")
	case "ruby":
		return s.access != "private"
	}
	return true
}

func (r *renderer) exportedJS(c int, list []int, s scope) bool {
	n := &r.nodes[c]
	if s.kind == classScope {
		return !r.hasModifier(c, list, "private") && !r.hasModifier(c, list, "protected") && !r.anyName(list, func(name string) bool { return strings.HasPrefix(name, "#") })
	}
	if n.Type == "export_statement" || !r.exports.known {
		return true
	}
	return r.anyName(list, func(name string) bool {
		base, _, _ := strings.Cut(name, ".")
		return r.exports.names[base] || base == "exports" || base == "module"
	})
}

// modifiers are the nodes whose text is a modifier, or several.
var modifiers = map[string]bool{
	"modifiers": true, "modifier": true, "visibility_modifier": true, "accessibility_modifier": true, "storage_class_specifier": true,
}

func (r *renderer) hasModifier(c int, list []int, word string) bool {
	for _, d := range append([]int{c}, list...) {
		for k := d + 1; k < r.nodes[d].Next; k = r.nodes[k].Next {
			if modifiers[r.nodes[k].Type] && hasWord(r.str(k), word) {
				return true
			}
		}
	}
	return false
}

func hasWord(s, word string) bool {
	for w := range strings.FieldsSeq(s) {
		if w == word {
			return true
		}
	}
	return false
}

func (r *renderer) anyName(list []int, is func(string) bool) bool {
	for _, d := range list {
		found := false
		for k := d + 1; k < r.nodes[d].Next; k = r.nodes[k].Next {
			switch r.nodes[k].Field {
			case "name", "left", "key", "property":
				found = true
				if name := r.str(k); name != "" && len(name) < 1000 && is(name) {
					return true
				}
			}
		}
		if !found {
			return true
		}
	}
	return false
}

// isExport reports whether a sibling is an export statement that declares nothing.
func (r *renderer) isExport(c int) bool {
	n := &r.nodes[c]
	switch n.Type {
	case "export_statement":
		if r.child(c, "declaration") != 0 {
			return false
		}
		v := r.child(c, "value")
		return v == 0 || r.nodes[v].Type == "identifier"
	case "expression_statement":
		if c+1 >= n.Next {
			return false
		}
		left := r.child(c+1, "left")
		if left == 0 {
			return false
		}
		switch r.nodes[c+1].Type {
		case "assignment":
			return r.str(left) == "__all__"
		case "assignment_expression":
			right := r.child(c+1, "right")
			return r.isExportTarget(left) && right != 0 && (r.nodes[right].Type == "identifier" || r.nodes[right].Type == "object")
		}
	case "use_declaration":
		return r.hasModifier(c, nil, "pub")
	}
	return false
}
