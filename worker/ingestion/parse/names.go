package parse

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// named fills in kind and name of the declaration at node i, or reports that the node is none.
func (x *extraction) named(i uint32, r rule, d *Decl, s scope) bool {
	var n *node
	switch r.hook {
	case ifBody:
		if x.field(i, x.body) == nil {
			return false
		}
	case goMethod:
		n = x.field(i, x.name)
		if rec := x.field(i, x.g.fieldID("receiver")); rec != nil && n != nil {
			if t := x.find(x.index(rec), "type_identifier"); t != 0 {
				d.Owner = x.str(&x.nodes[t])
				d.Qualified = d.Owner + "." + x.str(n)
			}
		}
	case goType:
		if t := x.field(i, x.g.fieldID("type")); t != nil {
			switch x.g.typeOf(t) {
			case "struct_type":
				d.Kind = Struct
			case "interface_type":
				d.Kind = Interface
			}
		}
	case jsVariable:
		if v := x.field(i, x.g.fieldID("value")); v != nil {
			switch x.g.typeOf(v) {
			case "arrow_function", "function_expression", "function", "generator_function":
				d.Kind = Function
			case "class":
				d.Kind = Class
			}
		}
		if s.inFunc {
			x.requires(i)
		} else {
			x.aliases(i)
		}
	case jsAssign:
		x.commonExports(i)
		return x.assigned(i, d, s)
	case jsPair:
		return x.member(i, d)
	case jsDefault:
		d.Name, d.NameByte = "default", d.StartByte
		return true
	case cDeclarator:
		return x.declared(i, d, s)
	case pyAssign:
		n = x.field(i, x.g.fieldID("left"))
		if n == nil || !x.g.is(n, "identifier") {
			return false
		}
	case rubyAssign:
		n = x.field(i, x.g.fieldID("left"))
		if n == nil || !x.g.is(n, "constant") {
			return false
		}
	case rustImpl:
		n = x.field(i, x.g.fieldID("type"))
		if t := x.field(i, x.g.fieldID("trait")); t != nil {
			d.Implements = addName(d.Implements, x.str(t))
		}
	case rustMod:
		if x.field(i, x.body) == nil {
			x.imports(i, s)
			return false
		}
	case phpProperty:
		if e := x.find(i, "property_element", "const_element"); e != 0 { // a type before it has a name too
			if c := x.find(e, "name"); c != 0 {
				n = &x.nodes[c]
			}
		}
	case phpConstant:
		if d.StartByte == 0 || x.text[d.StartByte-1:d.StartByte+4] != "const" {
			return false
		}
		d.StartByte--
	case csVariable:
		if c := x.find(i, "variable_declarator"); c != 0 {
			n = x.field(c, x.name)
		}
		if c := x.child(i, "variable_declaration"); c != 0 {
			d.Type = x.typeAt(c, "type")
		}
	case sqlStatement:
		return x.statement(i, d)
	}
	if n == nil {
		field := x.name
		if r.name != "" {
			field = x.g.fieldID(r.name)
		}
		n = x.field(i, field)
	}
	if n == nil {
		d.NameByte = d.StartByte
		return r.kind == Class // anonymous, as in export default class
	}
	if strings.HasSuffix(x.g.typeOf(n), "_pattern") && r.hook == jsVariable { // const { a, b: c } = ...
		names := x.patternNames(x.index(n), nil)
		if len(names) == 0 {
			return false
		}
		n = names[0]
	}
	d.NameByte = int(n.start)
	d.Name = strings.Trim(stripGeneric(x.str(n)), `"'`)
	return d.Name != ""
}

// declared finds the name of a C or C++ declaration, which is at the end of a chain of declarators.
func (x *extraction) declared(i uint32, d *Decl, s scope) bool {
	typ := x.g.typeOf(&x.nodes[i])
	if s.inFunc && typ != "function_definition" {
		return false
	}
	for range 16 {
		n := x.field(i, x.declarator)
		if n == nil {
			// reference_declarator and others have their child without a field
			if c := x.child(i, "identifier", "function_declarator", "field_identifier", "type_identifier", "qualified_identifier",
				"operator_name", "destructor_name"); c != 0 && x.nodes[i].field == x.declarator {
				n = &x.nodes[c]
			} else {
				return false
			}
		}
		i = x.index(n)
		switch x.g.typeOf(n) {
		case "function_declarator":
			if typ == "declaration" || typ == "field_declaration" {
				d.Kind = Function
			}
		case "identifier", "field_identifier", "type_identifier", "destructor_name", "operator_name", "qualified_identifier",
			"template_function", "operator_cast", "primitive_type":
			full := stripGeneric(x.str(n))
			d.NameByte = int(n.start)
			d.Name = full
			if k := strings.LastIndex(full, "::"); k >= 0 {
				d.Name, d.Qualified, d.Owner = full[k+2:], full, full[:k]
				if d.Kind == Function {
					d.Kind = Method
				}
			}
			return d.Name != ""
		}
	}
	return false
}

var sqlKinds = map[string]Kind{
	"create_table": Struct, "create_view": Type, "create_materialized_view": Type, "create_type": Type, "create_function": Function,
	"create_procedure": Function, "create_trigger": Function, "create_schema": Module, "create_index": Variable,
	"create_sequence": Variable, "create_database": Module, "create_role": Variable, "create_extension": Variable, "alter_table": Statement,
}

// statement names an SQL statement by the object that it creates, or by its first words.
func (x *extraction) statement(i uint32, d *Decl) bool {
	c := i + 1
	if c >= x.nodes[i].next {
		return false
	}
	typ := x.g.typeOf(&x.nodes[c])
	if k, ok := sqlKinds[typ]; ok {
		d.Kind = k
	}
	d.NameByte = d.StartByte
	ref := x.child(c, "object_reference")
	if typ == "create_index" {
		ref = x.child(c, "identifier")
	}
	if ref == 0 {
		ref = x.child(c, "identifier")
	}
	if ref != 0 {
		d.NameByte = int(x.nodes[ref].start)
		d.Name = x.str(&x.nodes[ref])
		if d.Kind != Statement {
			return true
		}
	}
	d.Name = clip(strings.Join(strings.Fields(clip(x.text[d.StartByte:d.EndByte], 80)), " "), 60)
	return d.Name != ""
}

// stripGeneric removes type arguments and the text after them.
func stripGeneric(s string) string {
	if k := strings.IndexAny(s, "<[("); k > 0 && !strings.HasPrefix(s, "operator") {
		s = s[:k]
	}
	return strings.TrimSpace(s)
}

func addName(list []string, name string) []string {
	name = short(stripGeneric(strings.TrimLeft(name, "*&:")))
	if name == "" || strings.ContainsAny(name, " \n\t\"'`,;{}()") || slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// calleeName returns a callee as written if it is a plain path of names, else its last name.
func calleeName(s string) string {
	if k := strings.IndexAny(s, "<["); k > 0 {
		s = s[:k]
	}
	if len(s) <= maxName && strings.IndexFunc(s, notInPath) < 0 {
		return s
	}
	end := len(s)
	start := end
	for start > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:start])
		if r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			break
		}
		start -= n
	}
	return s[start:end]
}

func notInPath(r rune) bool {
	switch r {
	case '_', '$', '.', ':', '>', '-', '?', '!', '\\', '@':
		return false
	}
	return !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

func short(s string) string { return clip(s, maxName) }

// clip cuts s to at most n bytes between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
