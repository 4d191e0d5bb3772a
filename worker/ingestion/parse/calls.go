package parse

import "strings"

// callee returns the parts of a call's target: the node before the last name, if there is one, and the last name.
func (x *extraction) callee(i uint32, r rule) (receiver, last uint32) {
	n := &x.nodes[i]
	switch x.g.typeOf(n) {
	case "method_invocation", "member_call_expression", "nullsafe_member_call_expression":
		return x.fieldAt(i, "object"), x.fieldAt(i, "name")
	case "scoped_call_expression":
		return x.fieldAt(i, "scope"), x.fieldAt(i, "name")
	case "call":
		if m := x.fieldAt(i, "method"); m != 0 { // Ruby
			return x.fieldAt(i, "receiver"), m
		}
	}
	c := i + 1
	if r.name != "" {
		c = x.fieldAt(i, r.name)
	}
	if c == 0 || c >= n.next {
		return 0, 0
	}
	for range 8 {
		before, after := "", ""
		switch x.g.typeOf(&x.nodes[c]) {
		case "member_expression":
			before, after = "object", "property"
		case "selector_expression":
			before, after = "operand", "field"
		case "attribute":
			before, after = "object", "attribute"
		case "member_access_expression":
			before, after = "expression", "name"
		case "field_expression":
			before, after = "value", "field"
			if x.fieldAt(c, "argument") != 0 {
				before = "argument"
			}
		case "conditional_access_expression": // C#: a?.B()
			if b := x.child(c, "member_binding_expression"); b != 0 {
				return x.fieldAt(c, "condition"), x.fieldAt(b, "name")
			}
			return c, c
		case "generic_function", "parenthesized_expression", "non_null_expression", "instantiation_expression", "await_expression":
			if f := x.fieldAt(c, "function"); f != 0 {
				c = f
				continue
			}
			if c+1 < x.nodes[c].next {
				c++
				continue
			}
		}
		if before == "" {
			return 0, c
		}
		if b := x.fieldAt(c, before); b != 0 {
			return b, x.fieldAt(c, after)
		}
		return 0, c // C#'s this and base are no nodes
	}
	return 0, c
}

// call records a call under its written name.
func (x *extraction) call(i uint32, r rule, s scope) {
	receiver, last := x.callee(i, r)
	if last == 0 {
		return
	}
	typ := x.g.typeOf(&x.nodes[i])
	c := Call{Byte: int(x.nodes[last].start), New: typ == "new_expression" || typ == "object_creation_expression" || typ == "composite_literal" ||
		typ == "struct_expression", Macro: typ == "macro_invocation"}
	switch x.g.typeOf(&x.nodes[last]) {
	case "identifier", "type_identifier", "property_identifier", "field_identifier", "name", "qualified_name", "scoped_identifier", "qualified_identifier",
		"generic_type", "qualified_type", "scoped_type_identifier", "generic_name", "template_function", "template_method", "template_type", "super", "this",
		"member_access_expression", "constant", "variable_name", "private_property_identifier", "object_reference", "nested_type_identifier",
		"import", "dependent_name", "generic_type_with_turbofish", "relative_scope", "operator_name", "destructor_name", "self":
	default:
		if receiver == 0 {
			return // the value of an expression
		}
	}
	name := calleeName(x.str(&x.nodes[last]))
	if x.g.is(&x.nodes[last], "private_property_identifier") {
		name = x.str(&x.nodes[last])
	}
	root := name
	if receiver != 0 {
		before := strings.TrimSuffix(x.str(&x.nodes[receiver]), "!")
		if plainPath(before) {
			root = before
			name = calleeName(strings.TrimPrefix(before, "$")) + x.separator(receiver, last) + name
			c.On = x.on(root)
		} else {
			c.Last = true
			c.On = OnUnknown
			switch t := x.valueType(receiver); {
			case x.file.Language == "python" && strings.HasPrefix(before, "super("):
				c.On = OnSuper
			case t == selfType:
				c.On = OnSelf
			case t != "":
				c.On = OnType + t
			}
		}
	} else {
		c.On = x.on(root)
	}
	if name == "" {
		return
	}
	if (r.hook == rubyCall || r.hook == jsCall) && receiver == 0 && x.required(i, name, s) {
		return
	}
	if r.hook == rubyCall && receiver == 0 && s.owner != nil && !s.inFunc && (name == "include" || name == "extend" || name == "prepend") {
		if a := x.child(i, "argument_list"); a != 0 {
			for k := a + 1; k < x.nodes[a].next; k = x.nodes[k].next {
				s.owner.Mixins = addName(s.owner.Mixins, x.str(&x.nodes[k]))
			}
		}
		return
	}
	c.Name, c.Line = short(name), x.lines.at(int(x.nodes[last].start))
	if s.owner != nil {
		c.Caller = s.owner.Qualified
	}
	x.file.Calls = append(x.file.Calls, c)
}

// separator is the text between a receiver and the last name; a dot if the grammar has them as separate nodes.
func (x *extraction) separator(receiver, last uint32) string {
	if x.nodes[receiver].end <= x.nodes[last].start {
		switch between := strings.TrimSpace(x.text[x.nodes[receiver].end:x.nodes[last].start]); between {
		case "?.", "!.", "::":
			if x.file.Language != "php" {
				return between
			}
		case "->":
			if x.file.Language != "php" {
				return between
			}
		}
	}
	return "."
}

// plainPath reports whether s is a path of names.
func plainPath(s string) bool {
	return s != "" && len(s) <= maxName && strings.IndexFunc(strings.TrimPrefix(s, "$"), notInPath) < 0
}

// on returns the kind of the beginning of a path of names.
func (x *extraction) on(path string) string {
	root := path
	if k := strings.IndexAny(path[min(1, len(path)):], ".:?-!\\"); k >= 0 {
		root = path[:k+1]
	}
	if b, ok := x.local(root); ok {
		switch b.typ {
		case "":
			return OnUnknown
		case selfType:
			return OnSelf
		}
		return OnType + b.typ
	}
	switch x.file.Language {
	case "typescript", "tsx", "javascript", "java":
		switch root {
		case "this":
			return OnSelf
		case "super":
			return OnSuper
		}
	case "csharp":
		switch root {
		case "this":
			return OnSelf
		case "base":
			return OnSuper
		}
	case "cpp":
		if root == "this" {
			return OnSelf
		}
	case "php":
		switch root {
		case "$this", "self", "static":
			return OnSelf
		case "parent":
			return OnSuper
		}
		if strings.HasPrefix(root, "$") {
			return OnUnknown
		}
	case "rust":
		if root == "self" && strings.HasPrefix(path, "self.") || root == "Self" || path == "self" {
			return OnSelf
		}
	case "ruby":
		if root == "self" || strings.HasPrefix(root, "@") {
			return OnSelf
		}
	}
	return OnNothing
}
