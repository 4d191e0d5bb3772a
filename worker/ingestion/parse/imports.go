package parse

import "strings"

// imports records the imports of the statement at node i.
func (x *extraction) imports(i uint32, s scope) {
	n := &x.nodes[i]
	base := Import{StartByte: int(n.start), EndByte: x.trimmed(n), Line: x.lines.at(int(n.start))}
	switch x.g.typeOf(n) {
	case "import_declaration":
		if x.file.Language == "java" {
			x.javaImport(i, base)
			return
		}
		for c := i + 1; c < n.next; c++ {
			if x.g.is(&x.nodes[c], "import_spec") {
				alias := x.str(x.field(c, x.name))
				each := base
				switch alias {
				case "_":
				case ".":
					each.Binds = []Bind{{Local: "*", Name: "*"}}
				default: // without an alias it is the package's own name
					each.Binds = []Bind{{Local: short(alias)}}
				}
				x.add(each, x.str(x.field(c, x.g.fieldID("path"))), alias)
			}
		}
	case "import_statement":
		if x.file.Language == "python" {
			for c := i + 1; c < n.next; c = x.nodes[c].next {
				each := base
				path, alias := x.str(&x.nodes[c]), ""
				if x.g.is(&x.nodes[c], "aliased_import") {
					path, alias = x.str(x.field(c, x.name)), x.str(x.field(c, x.g.fieldID("alias")))
				}
				if alias == "" {
					alias = path
				}
				each.Binds = []Bind{{Local: short(alias)}}
				x.add(each, path)
			}
			return
		}
		if c := x.child(i, "import_require_clause"); c != 0 {
			if c+1 < x.nodes[c].next {
				base.Binds = []Bind{{Local: short(x.str(&x.nodes[c+1]))}}
			}
			x.add(base, x.str(x.field(c, x.g.fieldID("source"))))
			return
		}
		if src := x.field(i, x.g.fieldID("source")); src != nil {
			var names []string
			if c := x.child(i, "import_clause"); c != 0 {
				names, base.Binds = x.clause(c)
			}
			x.add(base, x.str(src), names...)
		}
	case "import_alias": // import a = b.c of TypeScript
		if c := i + 1; c < n.next && x.nodes[c].next < n.next {
			path := x.str(&x.nodes[x.nodes[c].next])
			x.file.Aliases = append(x.file.Aliases, Alias{clip(path, maxName), []Bind{{Local: short(x.str(&x.nodes[c]))}}})
		}
	case "import_from_statement", "future_import_statement":
		path := x.str(x.field(i, x.g.fieldID("module_name")))
		if path == "" {
			path = "__future__"
		}
		var names []string
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			if k := &x.nodes[c]; k.field == x.name {
				names = append(names, x.str(k))
				name, local := x.str(k), x.str(k)
				if x.g.is(k, "aliased_import") {
					name, local = x.str(x.field(c, x.name)), x.str(x.field(c, x.g.fieldID("alias")))
				}
				base.Binds = append(base.Binds, Bind{Local: short(local), Name: short(name)})
			} else if x.g.is(k, "wildcard_import") {
				names = append(names, "*")
				base.Binds = append(base.Binds, Bind{Local: "*", Name: "*"})
			}
		}
		x.add(base, path, names...)
	case "use_declaration":
		if a := x.fieldAt(i, "argument"); a != 0 {
			x.use(a, "", x.inlineModules(s), &base.Binds)
			x.add(base, x.str(&x.nodes[a]))
		}
	case "extern_crate_declaration", "mod_item":
		name := x.str(x.field(i, x.name))
		base.Binds = []Bind{{Local: short(name)}}
		if x.g.is(n, "mod_item") {
			base.Form = "module"
			if strings.HasSuffix(strings.TrimSpace(x.text[max(0, base.StartByte-200):base.StartByte]), "#[macro_use]") {
				base.Form = "module macros"
			}
			base.Binds[0].From = strings.Join(append([]string{"self"}, append(x.inlineModules(s), name)...), "::")
		} else if alias := x.str(x.field(i, x.g.fieldID("alias"))); alias != "" {
			base.Binds[0].Local = short(alias)
		}
		x.add(base, name)
	case "preproc_include":
		path := x.str(x.field(i, x.g.fieldID("path")))
		if strings.HasPrefix(path, "<") {
			base.Form = "system"
		}
		base.Binds = []Bind{{Local: "*", Name: "*"}}
		x.add(base, path)
	case "using_directive":
		var path string
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			path = x.str(&x.nodes[c]) // an alias comes first
		}
		bind := Bind{Local: "*", Name: "*"}
		if alias := x.field(i, x.name); alias != nil && x.str(alias) != path {
			bind = Bind{Local: short(x.str(alias))}
		}
		words := strings.Fields(clip(x.str(n), 60))
		if len(words) > 1 && words[0] == "global" {
			base.Form, words = "global", words[1:]
		}
		if len(words) > 1 && words[1] == "static" {
			base.Form = strings.TrimSpace(base.Form + " static")
		}
		base.Binds = []Bind{bind}
		x.add(base, path)
	case "namespace_use_declaration":
		x.phpUse(i, base)
	default: // PHP's include and require
		base.Form = "file"
		if c := x.find(i, "string", "encapsed_string"); c != 0 {
			base.Binds = []Bind{{Local: "*", Name: "*"}}
			x.add(base, x.str(&x.nodes[c]))
		}
	}
}

// inlineModules are the Rust modules in the same file that enclose an import.
func (x *extraction) inlineModules(s scope) []string {
	if s.class == nil || s.class.Kind != Module {
		return nil
	}
	return strings.Split(s.class.Qualified, ".")
}

// use flattens the tree of a Rust use into the names that it adds. Paths inside a module of the file are rewritten relative to the
// file.
func (x *extraction) use(i uint32, prefix string, inside []string, binds *[]Bind) {
	n := &x.nodes[i]
	join := func(name string) string {
		if prefix == "" {
			return name
		}
		return prefix + "::" + name
	}
	bind := func(path, local string) {
		if len(*binds) >= 1000 || len(path) > 4*maxName {
			return
		}
		path = fromFile(path, inside)
		from, name := "", path
		if k := strings.LastIndex(path, "::"); k >= 0 {
			from, name = path[:k], path[k+2:]
		}
		if local == "" {
			local = name
		}
		if name == "self" || name == "" {
			return
		}
		*binds = append(*binds, Bind{Local: short(local), Name: short(name), From: from})
	}
	switch x.g.typeOf(n) {
	case "scoped_use_list":
		path := join(x.str(x.field(i, x.g.fieldID("path"))))
		if l := x.fieldAt(i, "list"); l != 0 {
			x.use(l, strings.TrimPrefix(path, "::"), inside, binds)
		}
	case "use_list":
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			x.use(c, prefix, inside, binds)
		}
	case "use_as_clause":
		path := x.str(x.field(i, x.g.fieldID("path")))
		if path == "self" {
			path = prefix
		} else {
			path = join(path)
		}
		bind(path, x.str(x.field(i, x.g.fieldID("alias"))))
	case "use_wildcard":
		path := strings.TrimSuffix(x.str(n), "*")
		bind(strings.TrimPrefix(join(path), "::")+"*", "*")
	case "self":
		if prefix != "" {
			bind(prefix, "")
		}
	case "identifier", "scoped_identifier", "crate", "super":
		bind(strings.TrimPrefix(join(x.str(n)), "::"), "")
	}
}

// fromFile rewrites a path inside modules of a file relative to the file.
func fromFile(path string, inside []string) string {
	if len(inside) == 0 {
		return path
	}
	at := len(inside)
	rest := path
	for {
		first, more, ok := strings.Cut(rest, "::")
		if first == "super" && at > 0 {
			at--
		} else if first != "self" {
			break
		}
		if !ok {
			rest = ""
			break
		}
		rest = more
	}
	if rest == path {
		return path // from the crate, of another crate, or of a name that is imported here
	}
	if at == 0 && (rest == "super" || strings.HasPrefix(rest, "super::")) {
		return rest
	}
	parts := append([]string{"self"}, inside[:at]...)
	if rest != "" {
		parts = append(parts, rest)
	}
	return strings.Join(parts, "::")
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
func (x *extraction) clause(i uint32) (names []string, binds []Bind) {
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		n := &x.nodes[c]
		if !x.g.is(n, "named_imports") {
			names = append(names, x.str(n))
			if x.g.is(n, "namespace_import") {
				if c+1 < n.next {
					binds = append(binds, Bind{Local: short(x.str(&x.nodes[c+1]))})
				}
			} else {
				binds = append(binds, Bind{Local: short(x.str(n)), Name: "default"})
			}
			continue
		}
		for k := c + 1; k < n.next; k = x.nodes[k].next {
			if x.g.is(&x.nodes[k], "import_specifier") {
				names = append(names, x.str(&x.nodes[k]))
				name := x.str(x.field(k, x.name))
				local := x.str(x.field(k, x.g.fieldID("alias")))
				if local == "" {
					local = name
				}
				binds = append(binds, Bind{Local: short(local), Name: short(name)})
			}
		}
	}
	return names, binds
}

func (x *extraction) javaImport(i uint32, base Import) {
	c := x.child(i, "scoped_identifier", "identifier")
	if c == 0 {
		return
	}
	path := x.str(&x.nodes[c])
	if strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(x.str(&x.nodes[i]), "import")), "static ") {
		base.Form = "static"
	}
	last := path[strings.LastIndexByte(path, '.')+1:]
	base.Binds = []Bind{{Local: short(last)}}
	if x.child(i, "asterisk") != 0 {
		path += ".*"
		base.Binds[0] = Bind{Local: "*", Name: "*"}
	}
	x.add(base, path)
}

func (x *extraction) phpUse(i uint32, base Import) {
	switch words := strings.Fields(clip(x.str(&x.nodes[i]), 40)); {
	case len(words) > 1 && (words[1] == "function" || words[1] == "const"):
		base.Form = words[1]
	}
	prefix := ""
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		n := &x.nodes[c]
		switch x.g.typeOf(n) {
		case "namespace_name":
			prefix = x.str(n)
		case "namespace_use_group":
			var names []string
			each := base
			for k := c + 1; k < n.next; k = x.nodes[k].next {
				names = append(names, x.str(&x.nodes[k]))
				path, alias, _ := strings.Cut(x.str(&x.nodes[k]), " as ")
				each.Binds = append(each.Binds, phpBind(prefix+"\\"+path, alias))
			}
			x.add(each, prefix, names...)
		case "namespace_use_clause":
			path, alias, _ := strings.Cut(x.str(n), " as ")
			each := base
			each.Binds = []Bind{phpBind(path, alias)}
			x.add(each, path, alias)
		}
	}
}

func phpBind(path, alias string) Bind {
	path, alias = strings.Trim(strings.TrimSpace(path), "\\"), strings.TrimSpace(alias)
	if alias == "" {
		alias = path[strings.LastIndexByte(path, '\\')+1:]
	}
	return Bind{Local: short(alias), From: clip(path, 4*maxName)}
}

// reexport records the source of export ... from. The statement also exports, so it is more than an import.
func (x *extraction) reexport(i uint32, s scope) {
	x.export(i)
	if src := x.field(i, x.g.fieldID("source")); src != nil && s.owner == nil {
		n := &x.nodes[i]
		x.add(Import{StartByte: int(n.start), EndByte: x.trimmed(n), Line: x.lines.at(int(n.start))}, x.str(src))
	}
}

// required records require("path") of JavaScript and Ruby.
func (x *extraction) required(i uint32, name string, s scope) bool {
	switch name {
	case "require", "require_relative", "import", "require.resolve":
	default:
		return false
	}
	c := x.find(i, "string")
	if a := x.child(i, "arguments", "argument_list"); a == 0 || c != a+1 {
		return false
	}
	n := &x.nodes[i]
	base := Import{StartByte: int(n.start), EndByte: int(n.end), Line: x.lines.at(int(n.start))}
	if x.file.Language == "ruby" {
		base.Binds = []Bind{{Local: "*", Name: "*"}}
		if name == "require_relative" {
			base.Form = "relative"
		}
	}
	for _, b := range x.bound { // its variable was visited before
		if b.StartByte <= base.StartByte && base.EndByte <= b.EndByte && b.Path == strings.Trim(x.str(&x.nodes[c]), "\"'`") {
			base.Binds = b.Binds
		}
	}
	x.bound = x.bound[:0]
	x.add(base, x.str(&x.nodes[c]))
	return true
}
