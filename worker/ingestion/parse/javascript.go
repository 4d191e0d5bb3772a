package parse

import "strings"

// isFunction reports whether the node at i is a function as a value, and isClass whether it is a class.
func (x *extraction) isFunction(i uint32) bool {
	switch x.g.typeOf(&x.nodes[i]) {
	case "arrow_function", "function_expression", "function", "generator_function":
		return true
	}
	return false
}

// value is the index of the child of the field without parentheses around it, or 0.
func (x *extraction) value(i uint32, field string) uint32 {
	v := x.fieldAt(i, field)
	for v != 0 && x.g.is(&x.nodes[v], "parenthesized_expression") && v+1 < x.nodes[v].next {
		v++
	}
	return v
}

// assignedTo is the owner of an object's members, if the object is assigned to a path of names.
func assignedTo(path string) string {
	path = strings.TrimSuffix(path, ".prototype")
	if path == "module.exports" {
		return "exports"
	}
	if rest, ok := strings.CutPrefix(path, "module.exports."); ok {
		return "exports." + rest
	}
	if !plainPath(path) {
		return "{}"
	}
	return path
}

// assigned names the function or class that is assigned to a property, or to a variable of the file.
func (x *extraction) assigned(i uint32, d *Decl, s scope) bool {
	left, right := x.fieldAt(i, "left"), x.value(i, "right")
	if left == 0 || right == 0 {
		return false
	}
	switch {
	case x.isFunction(right):
	case x.g.is(&x.nodes[right], "class"):
		d.Kind = Class
	default:
		return false
	}
	l := &x.nodes[left]
	d.NameByte = int(l.start)
	path := x.str(l)
	if x.g.is(l, "identifier") {
		d.Name = path
		return !s.inFunc && path != "exports"
	}
	if !x.g.is(l, "member_expression") || !plainPath(path) {
		return false
	}
	if property := x.field(left, x.g.fieldID("property")); property != nil {
		d.NameByte, d.Name = int(property.start), x.str(property)
	}
	if path == "module.exports" {
		if own := x.field(right, x.name); own != nil {
			d.NameByte, d.Name = int(own.start), x.str(own)
			return true
		}
	}
	before := strings.TrimSuffix(strings.TrimSuffix(path, d.Name), ".")
	if strings.HasSuffix(before, ".prototype") {
		d.Kind = Method
	}
	if before == "this" {
		d.Kind = Method
		return d.Name != ""
	}
	if before != "module" {
		before = assignedTo(before)
	}
	d.Owner, d.Qualified = before, before+"."+d.Name
	return d.Name != ""
}

// member names a member of an object literal that is a function.
func (x *extraction) member(i uint32, d *Decl) bool {
	key, v := x.fieldAt(i, "key"), x.value(i, "value")
	if key == 0 || v == 0 || !x.isFunction(v) {
		return false
	}
	d.NameByte, d.Name = int(x.nodes[key].start), strings.Trim(x.str(&x.nodes[key]), `"'`)
	d.Kind = Method
	return d.Name != "" && !strings.ContainsAny(d.Name, " \n[")
}

// export records the names that a JavaScript export statement exports.
func (x *extraction) export(i uint32) {
	from := ""
	if src := x.field(i, x.g.fieldID("source")); src != nil {
		from = strings.Trim(x.str(src), "\"'`")
	}
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		n := &x.nodes[c]
		switch x.g.typeOf(n) {
		case "export_clause":
			for k := c + 1; k < n.next; k = x.nodes[k].next {
				local := x.str(x.field(k, x.name))
				name := x.str(x.field(k, x.g.fieldID("alias")))
				if name == "" {
					name = local
				}
				x.exports(name, local, from)
			}
		case "namespace_export":
			x.exports(strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(x.str(n), "*"), " as ")), "*", from)
			return
		case "identifier":
			x.exports("default", x.str(n), "")
		case "object":
			x.exports("default", "{}", "")
		case "new_expression":
			x.exports("default", made(x.valueType(c)), "")
		case "call_expression", "arrow_function", "function_expression":
			if x.isFunction(c) {
				x.exports("default", "default", "")
			}
		default:
			if strings.HasPrefix(x.str(&x.nodes[i]), "export default") {
				x.exports("default", x.str(x.field(c, x.name)), "")
			}
		}
	}
	if from != "" && x.child(i, "export_clause", "namespace_export") == 0 {
		x.exports("*", "*", from)
	}
}

func (x *extraction) exports(name, local, from string) {
	if name != "" && local != "" && len(name)+len(local) <= 2*maxName {
		x.file.Exports = append(x.file.Exports, Export{name, local, clip(from, 4*maxName)})
	}
}

// commonExports records the names that an assignment to exports or module.exports exports.
func (x *extraction) commonExports(i uint32) {
	left, right := x.fieldAt(i, "left"), x.value(i, "right")
	if left == 0 || right == 0 {
		return
	}
	path := x.str(&x.nodes[left])
	whole := path == "module.exports" || path == "exports"
	path = strings.TrimPrefix(path, "module.")
	name, ok := strings.CutPrefix(path, "exports.")
	if !ok && !whole || strings.Contains(name, ".") {
		return
	}
	for x.g.is(&x.nodes[right], "assignment_expression") { // exports = module.exports = f
		if right = x.value(right, "right"); right == 0 {
			return
		}
	}
	r := &x.nodes[right]
	if !whole {
		x.offer(name, right, "exports."+name)
		return
	}
	switch {
	case x.g.is(r, "object"):
		for c := right + 1; c < r.next; c = x.nodes[c].next {
			n := &x.nodes[c]
			switch x.g.typeOf(n) {
			case "shorthand_property_identifier":
				x.exports(x.str(n), x.str(n), "")
			case "pair":
				key := strings.Trim(x.str(x.field(c, x.g.fieldID("key"))), `"'`)
				if v := x.value(c, "value"); v != 0 {
					x.offer(key, v, "exports."+key)
				}
			case "method_definition":
				x.exports(x.str(x.field(c, x.name)), "exports."+x.str(x.field(c, x.name)), "")
			case "spread_element":
				if from := x.requiredPath(c + 1); from != "" {
					x.exports("*", "*", from)
				}
			}
		}
	case x.isFunction(right) || x.g.is(r, "class"):
		own := x.str(x.field(right, x.name))
		if own == "" {
			own = "module.exports"
		}
		x.exports("default", own, "")
	case x.requiredPath(right) != "":
		x.exports("*", "*", x.requiredPath(right))
		x.exports("default", "default", x.requiredPath(right))
	default:
		x.offer("default", right, "")
	}
}

// made is the exported form of an unnamed object of a type.
func made(typ string) string {
	if typ == "" {
		return ""
	}
	return ":" + typ
}

// offer exports the value at node v: a name, an export of another file, or a function, which is declared as local.
func (x *extraction) offer(name string, v uint32, local string) {
	n := &x.nodes[v]
	switch {
	case x.g.is(n, "identifier"):
		x.exports(name, x.str(n), "")
	case x.isFunction(v) || x.g.is(n, "class"):
		x.exports(name, local, "")
	case x.g.is(n, "new_expression"):
		x.exports(name, made(x.valueType(v)), "")
	case x.g.is(n, "member_expression"):
		path := x.str(n)
		if k := strings.LastIndexByte(path, '.'); k > 0 {
			if o := x.fieldAt(v, "object"); o != 0 && x.requiredPath(o) != "" {
				x.exports(name, path[k+1:], x.requiredPath(o))
			} else if plainPath(path) {
				x.exports(name, path, "")
			}
		}
	default:
		if from := x.requiredPath(v); from != "" {
			x.exports(name, "*", from)
		}
	}
}

// requiredPath is the path in require("path") at node i, or empty.
func (x *extraction) requiredPath(i uint32) string {
	if int(i) >= len(x.nodes) || !x.g.is(&x.nodes[i], "call_expression") {
		return ""
	}
	if f := x.field(i, x.g.fieldID("function")); f == nil || x.str(f) != "require" {
		return ""
	}
	if a := x.child(i, "arguments"); a != 0 && a+1 < x.nodes[a].next && x.g.is(&x.nodes[a+1], "string") {
		return strings.Trim(x.str(&x.nodes[a+1]), "\"'`")
	}
	return ""
}

// requires reports whether the variable at node i holds the result of require or a part of a known name, and records that.
func (x *extraction) requires(i uint32) bool {
	if x.file.Language != "javascript" && x.file.Language != "typescript" && x.file.Language != "tsx" {
		return false
	}
	v := x.value(i, "value")
	if v == 0 {
		return false
	}
	if x.g.is(&x.nodes[v], "await_expression") && v+1 < x.nodes[v].next {
		v++
	}
	from, part := x.requiredPath(v), ""
	switch {
	case from != "":
	case x.g.is(&x.nodes[v], "member_expression"): // require("x").y
		o := x.fieldAt(v, "object")
		if o == 0 {
			return false
		}
		if from = x.requiredPath(o); from == "" {
			return false
		}
		part = x.str(x.field(v, x.g.fieldID("property")))
	default:
		return false
	}
	return x.names(i, Import{Path: from}, part)
}

// aliases records the names that a top-level declaration gives to parts of others: const { a, b: c } = x, const d = x.y.
func (x *extraction) aliases(i uint32) {
	v := x.value(i, "value")
	if v == 0 || x.requires(i) {
		return
	}
	if path := x.str(&x.nodes[v]); (x.g.is(&x.nodes[v], "identifier") || x.g.is(&x.nodes[v], "member_expression")) && plainPath(path) && !strings.HasPrefix(path, "this") {
		x.names(i, Import{Form: "alias", Path: path, StartByte: int(x.nodes[i].start), EndByte: int(x.nodes[i].start)}, "")
	}
}

// names binds the names of the variable at node i to the names of an import.
func (x *extraction) names(i uint32, imp Import, part string) bool {
	p := x.fieldAt(i, "name")
	if p == 0 {
		return false
	}
	n := &x.nodes[p]
	var binds []Bind
	switch x.g.typeOf(n) {
	case "identifier":
		binds = append(binds, Bind{Local: short(x.str(n)), Name: part})
	case "object_pattern":
		for c := p + 1; c < n.next; c = x.nodes[c].next {
			k := &x.nodes[c]
			switch x.g.typeOf(k) {
			case "shorthand_property_identifier_pattern":
				binds = append(binds, Bind{Local: short(x.str(k)), Name: short(x.str(k))})
			case "pair_pattern":
				local := x.field(c, x.fields.value)
				if local != nil && x.g.is(local, "identifier") {
					binds = append(binds, Bind{Local: short(x.str(local)), Name: short(x.str(x.field(c, x.g.fieldID("key"))))})
				}
			}
		}
		if part != "" {
			return true
		}
	}
	if len(binds) == 0 {
		return false
	}
	if imp.Form == "alias" {
		x.file.Aliases = append(x.file.Aliases, Alias{imp.Path, binds})
		return true
	}
	x.bound = append(x.bound, Import{Path: imp.Path, Binds: binds, StartByte: int(x.nodes[i].start), EndByte: int(x.nodes[i].end)})
	return true
}

// patternNames are the names that the pattern at node i declares.
func (x *extraction) patternNames(i uint32, names []*node) []*node {
	n := &x.nodes[i]
	switch x.g.typeOf(n) {
	case "identifier", "shorthand_property_identifier_pattern":
		return append(names, n)
	case "pair_pattern":
		if v := x.fieldAt(i, "value"); v != 0 {
			return x.patternNames(v, names)
		}
		return names
	case "assignment_pattern", "object_assignment_pattern":
		if i+1 < n.next {
			return x.patternNames(i+1, names)
		}
	case "object_pattern", "array_pattern", "rest_pattern":
		for c := i + 1; c < n.next && len(names) < maxFields; c = x.nodes[c].next {
			names = x.patternNames(c, names)
		}
	}
	return names
}

// further declares the names of a pattern after its first one.
func (x *extraction) further(i uint32, d *Decl) (decls []Decl) {
	p := x.fieldAt(i, "name")
	if p == 0 || !strings.HasSuffix(x.g.typeOf(&x.nodes[p]), "_pattern") {
		return nil
	}
	for _, n := range x.patternNames(p, nil)[1:] {
		name := short(x.str(n))
		decls = append(decls, Decl{Kind: Variable, Name: name, Qualified: strings.TrimSuffix(d.Qualified, d.Name) + name, StartByte: d.StartByte,
			EndByte: d.EndByte, NameByte: int(n.start), StartLine: d.StartLine, EndLine: d.EndLine, Signature: d.Signature, Scope: d.Scope})
	}
	return decls
}
