package parse

import "strings"

// imports notes the imports of the statement at node i.
func (x *extraction) imports(i uint32, s scope) {
	n := &x.nodes[i]
	base := Import{StartByte: int(n.start), EndByte: x.trimmed(n), Line: x.lines.at(int(n.start)), Statement: s.owner == nil && s.level == 0}
	if s.owner != nil && s.owner.Kind == Module && !s.inFunc {
		base.Statement = false // belongs to the module's scope
	}
	switch x.g.typeOf(n) {
	case "import_declaration":
		if x.file.Language == "java" {
			x.javaImport(i, base)
			return
		}
		for c := i + 1; c < n.next; c++ {
			if x.g.is(&x.nodes[c], "import_spec") {
				x.add(base, x.str(x.field(c, x.g.fieldID("path"))), x.str(x.field(c, x.name)))
			}
		}
	case "import_statement":
		if x.file.Language == "python" {
			for c := i + 1; c < n.next; c = x.nodes[c].next {
				path, _, _ := strings.Cut(x.str(&x.nodes[c]), " as ")
				x.add(base, path)
			}
			return
		}
		if src := x.field(i, x.g.fieldID("source")); src != nil {
			var names []string
			if c := x.child(i, "import_clause"); c != 0 {
				names = x.clause(c)
			}
			x.add(base, x.str(src), names...)
		}
	case "import_from_statement", "future_import_statement":
		path := x.str(x.field(i, x.g.fieldID("module_name")))
		if path == "" {
			path = "__future__"
			base.Statement = false // must stay the first statement
		}
		var names []string
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			if k := &x.nodes[c]; k.field == x.name {
				names = append(names, x.str(k))
			} else if x.g.is(k, "wildcard_import") {
				names = append(names, "*")
			}
		}
		x.add(base, path, names...)
	case "use_declaration":
		x.add(base, x.str(x.field(i, x.g.fieldID("argument"))))
	case "extern_crate_declaration", "mod_item":
		base.Statement = base.Statement && x.g.is(n, "extern_crate_declaration")
		x.add(base, x.str(x.field(i, x.name)))
	case "preproc_include":
		x.add(base, x.str(x.field(i, x.g.fieldID("path"))))
	case "using_directive":
		var path string
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			path = x.str(&x.nodes[c]) // an alias comes first
		}
		x.add(base, path)
	case "namespace_use_declaration":
		x.phpUse(i, base)
	default: // PHP's include and require
		base.Statement = false
		if c := x.find(i, "string", "encapsed_string"); c != 0 {
			x.add(base, x.str(&x.nodes[c]))
		}
	}
}

func (x *extraction) add(base Import, path string, names ...string) {
	path = strings.Trim(path, "\"'`<> \t\n")
	if path == "" {
		return
	}
	base.Path = clip(strings.Join(strings.Fields(path), " "), 4*maxName)
	for _, n := range names {
		if n != "" {
			base.Names = append(base.Names, short(strings.Join(strings.Fields(n), " ")))
		}
	}
	x.file.Imports = append(x.file.Imports, base)
}

// clause returns the names of an import clause of JavaScript.
func (x *extraction) clause(i uint32) []string {
	var names []string
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		n := &x.nodes[c]
		if !x.g.is(n, "named_imports") {
			names = append(names, x.str(n))
			continue
		}
		for k := c + 1; k < n.next; k = x.nodes[k].next {
			if x.g.is(&x.nodes[k], "import_specifier") {
				names = append(names, x.str(&x.nodes[k]))
			}
		}
	}
	return names
}

func (x *extraction) javaImport(i uint32, base Import) {
	c := x.child(i, "scoped_identifier", "identifier")
	if c == 0 {
		return
	}
	path := x.str(&x.nodes[c])
	if x.child(i, "asterisk") != 0 {
		path += ".*"
	}
	x.add(base, path)
}

func (x *extraction) phpUse(i uint32, base Import) {
	prefix := ""
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		n := &x.nodes[c]
		switch x.g.typeOf(n) {
		case "namespace_name":
			prefix = x.str(n)
		case "namespace_use_group":
			var names []string
			for k := c + 1; k < n.next; k = x.nodes[k].next {
				names = append(names, x.str(&x.nodes[k]))
			}
			x.add(base, prefix, names...)
		case "namespace_use_clause":
			path, alias, _ := strings.Cut(x.str(n), " as ")
			x.add(base, path, alias)
		}
	}
}

// reexport notes the source of export ... from; the statement also exports, so it is more than an import.
func (x *extraction) reexport(i uint32, s scope) {
	if src := x.field(i, x.g.fieldID("source")); src != nil && s.owner == nil {
		n := &x.nodes[i]
		x.add(Import{StartByte: int(n.start), EndByte: x.trimmed(n), Line: x.lines.at(int(n.start))}, x.str(src))
	}
}

// required notes require("path") of JavaScript and Ruby.
func (x *extraction) required(i uint32, name string, s scope) bool {
	if name != "require" && name != "require_relative" {
		return false
	}
	c := x.find(i, "string")
	if c == 0 {
		return false
	}
	n := &x.nodes[i]
	base := Import{StartByte: int(n.start), EndByte: int(n.end), Line: x.lines.at(int(n.start))}
	base.Statement = x.file.Language == "ruby" && s.owner == nil && s.level == 0
	x.add(base, x.str(&x.nodes[c]))
	return true
}
