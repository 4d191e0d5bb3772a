package parse

import (
	"strings"
	"unicode"
)

// binding is a name that a function declares: a parameter or a local variable. typ is its declared type, or the type of the object that
// is assigned to it; empty if neither is known.
type binding struct{ name, typ string }

// selfType is the type of Python's first parameter.
const selfType = "self"

// The values of Call.On: the receiver of a call.
const (
	OnNothing = ""      // a bare name, or a name that no enclosing function declares
	OnUnknown = "?"     // an expression, or a local variable, of unknown type
	OnSelf    = "self"  // the enclosing object or class
	OnSuper   = "super" // its bases
	OnType    = ":"     // before the name of a type: a value of this type
)

// local returns the innermost local variable or parameter of the name.
func (x *extraction) local(name string) (binding, bool) {
	for k := len(x.binds) - 1; k >= 0; k-- {
		if x.binds[k].name == name {
			return x.binds[k], true
		}
	}
	return binding{}, false
}

func (x *extraction) bindName(n *node, typ string) {
	if n != nil && len(x.binds) < 4096 {
		x.binds = append(x.binds, binding{short(x.str(n)), typ})
	}
}

// pattern binds the names in the pattern at node i. The type applies only if the pattern is a single name.
func (x *extraction) pattern(i uint32, typ string) {
	n := &x.nodes[i]
	switch x.g.typeOf(n) {
	case "identifier", "shorthand_property_identifier_pattern", "variable_name", "field_identifier", "self":
		x.bindName(n, typ)
		return
	case "pointer_declarator", "reference_declarator", "init_declarator", "array_declarator", "mut_pattern", "ref_pattern", "reference_pattern",
		"parenthesized_declarator", "parenthesized_expression":
	case "assignment_pattern", "object_assignment_pattern": // the first child is the pattern, the rest is the default
		if i+1 < n.next {
			x.pattern(i+1, "")
		}
		return
	case "pair_pattern":
		if v := x.fieldAt(i, "value"); v != 0 {
			x.pattern(v, "")
		}
		return
	case "function_declarator", "type_identifier", "type_arguments", "type_annotation", "member_expression", "attribute", "subscript",
		"subscript_expression", "call_expression", "call", "selector_expression", "index_expression", "literal_value", "argument_list", "scoped_identifier":
		return
	default:
		typ = ""
	}
	for c := i + 1; c < n.next; c = x.nodes[c].next {
		if f := x.nodes[c].field; f != 0 && (f == x.fields.value || f == x.fields.typ || f == x.fields.size) {
			continue
		}
		x.pattern(c, typ)
	}
}

// fieldAt is field with the index of the child, or 0.
func (x *extraction) fieldAt(i uint32, name string) uint32 {
	f := x.g.fieldID(name)
	if f == 0xFFFF {
		return 0
	}
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		if x.nodes[c].field == f {
			return c
		}
	}
	return 0
}

// firstOf returns the first child with one of the fields, or 0.
func (x *extraction) firstOf(i uint32, names ...string) uint32 {
	for _, f := range names {
		if c := x.fieldAt(i, f); c != 0 {
			return c
		}
	}
	return 0
}

// typeAt is the name of the type in the child with the field.
func (x *extraction) typeAt(i uint32, field string) string {
	if c := x.fieldAt(i, field); c != 0 {
		return x.typeName(x.str(&x.nodes[c]))
	}
	return ""
}

// declaredType is the type of the variable at node i: the declared type, or else that of the object that is assigned to it.
func (x *extraction) declaredType(i uint32) string {
	if t := x.typeAt(i, "type"); t != "" && t != "var" && t != "auto" {
		return t
	}
	if v := x.firstOf(i, "value", "right", "default_value"); v != 0 {
		return x.valueType(v)
	}
	return ""
}

// bind records the names that node i declares for the enclosing function, and the fields that it adds to the enclosing class.
func (x *extraction) bind(i uint32, s scope) {
	n := &x.nodes[i]
	typ := x.g.typeOf(n)
	switch typ {
	case "required_parameter", "optional_parameter": // TypeScript
		if p := x.fieldAt(i, "pattern"); p != 0 {
			t := x.typeAt(i, "type")
			x.pattern(p, t)
			if s.class != nil && (x.child(i, "accessibility_modifier") != 0 || strings.HasPrefix(x.str(n), "readonly ")) {
				x.addField(s.class, x.str(&x.nodes[p]), t)
			}
		}
	case "arrow_function", "catch_clause":
		if p := x.fieldAt(i, "parameter"); p != 0 {
			x.pattern(p, "")
		}
	case "for_in_statement", "for_statement", "for_in_clause", "range_clause", "receive_statement", "foreach_statement":
		if p := x.fieldAt(i, "left"); p != 0 {
			x.pattern(p, x.typeAt(i, "type"))
		}
		if typ == "foreach_statement" && x.file.Language == "php" {
			for c := i + 1; c < n.next; c = x.nodes[c].next {
				if x.nodes[c].field == 0 {
					x.pattern(c, "")
				}
			}
		}
	case "variable_declarator":
		if p := x.fieldAt(i, "name"); p != 0 && s.inFunc && !x.requires(i) {
			x.pattern(p, x.declaredType(i))
		}
		x.bound = x.bound[:0]
	case "formal_parameters", "parameters", "lambda_parameters", "inferred_parameters", "closure_parameters", "method_parameters",
		"block_parameters", "lambda_expression":
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			k := &x.nodes[c]
			switch x.g.typeOf(k) {
			case "identifier":
				t := ""
				if name := x.str(k); x.file.Language == "python" && (name == "self" || name == "cls" || name == "mcs") && s.class != nil {
					t = selfType
				}
				x.bindName(k, t)
			case "list_splat_pattern", "dictionary_splat_pattern", "object_pattern", "array_pattern", "rest_pattern", "assignment_pattern",
				"tuple_pattern", "splat_parameter", "hash_splat_parameter", "block_parameter", "destructured_parameter", "implicit_parameter":
				if typ == "lambda_expression" && x.g.is(k, "implicit_parameter") {
					x.bindName(k, "")
				} else {
					x.pattern(c, "")
				}
			}
		}
	case "typed_parameter":
		if i+1 < n.next {
			x.pattern(i+1, x.typeAt(i, "type"))
		}
	case "default_parameter", "typed_default_parameter", "named_expression", "keyword_parameter", "formal_parameter", "catch_formal_parameter",
		"resource", "enhanced_for_statement", "instanceof_expression", "parameter", "catch_declaration", "declaration_pattern", "simple_parameter",
		"variadic_parameter", "property_promotion_parameter", "type_pattern":
		p := x.firstOf(i, "name", "pattern")
		if p == 0 {
			return
		}
		t := x.typeAt(i, "type")
		switch {
		case typ == "instanceof_expression":
			t = x.typeAt(i, "right")
		case t == "" || t == "var":
			t = x.declaredType(i)
		}
		x.pattern(p, t)
		if s.class != nil && (typ == "property_promotion_parameter" || !s.inFunc && (typ == "formal_parameter" || typ == "parameter")) {
			x.addField(s.class, strings.TrimPrefix(x.str(&x.nodes[p]), "$"), t)
		}
	case "spread_parameter":
		if c := x.find(i, "variable_declarator"); c != 0 {
			x.bindName(x.field(c, x.name), "")
		}
	case "as_pattern":
		if p := x.fieldAt(i, "alias"); p != 0 {
			x.pattern(p, "")
		}
	case "assignment", "assignment_expression", "short_var_declaration":
		x.bindAssigned(i, s)
	case "parameter_declaration", "variadic_parameter_declaration", "var_spec", "const_spec", "optional_parameter_declaration":
		t := x.typeAt(i, "type")
		if typ == "variadic_parameter_declaration" {
			t = ""
		}
		if d := x.fieldAt(i, "declarator"); d != 0 {
			x.pattern(d, t)
			return
		}
		if t == "" && x.g.is(n, "var_spec") {
			if v := x.fieldAt(i, "value"); v != 0 && v+1 < x.nodes[v].next {
				t = x.valueType(v + 1)
			}
		}
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			if x.nodes[c].field == x.name {
				x.bindName(&x.nodes[c], t)
			}
		}
	case "type_switch_statement":
		if p := x.fieldAt(i, "alias"); p != 0 {
			x.pattern(p, "")
		}
	case "local_variable_declaration", "variable_declaration": // Java, C#
		t := x.typeAt(i, "type")
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			if !x.g.is(&x.nodes[c], "variable_declarator") || !s.inFunc && s.owner != nil {
				continue
			}
			own := t
			if t == "var" || t == "" {
				own = ""
				if v := x.fieldAt(c, "value"); v != 0 {
					own = x.valueType(v)
				} else if name := x.fieldAt(c, "name"); name != 0 && x.nodes[name].next < x.nodes[c].next {
					own = x.valueType(x.nodes[name].next)
				}
			}
			x.bindName(x.field(c, x.name), own)
		}
	case "let_declaration", "for_expression", "match_arm", "let_condition", "match_pattern":
		if p := x.fieldAt(i, "pattern"); p != 0 {
			x.pattern(p, x.declaredType(i))
		}
	case "declaration", "for_range_loop": // C, C++
		if !s.inFunc {
			return
		}
		t := x.typeAt(i, "type")
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			if x.nodes[c].field != x.declarator {
				continue
			}
			own := t
			if v := x.fieldAt(c, "value"); v != 0 && (t == "" || t == "auto") {
				own = x.valueType(v)
			}
			x.pattern(c, own)
		}
	case "field_declaration": // Rust; Go's fields are handled as heritage
		if s.class != nil {
			if f := x.fieldAt(i, "name"); f != 0 {
				x.addField(s.class, x.str(&x.nodes[f]), x.typeAt(i, "type"))
			}
		}
	case "property_signature":
		if f := x.fieldAt(i, "name"); f != 0 && s.class != nil {
			x.addField(s.class, x.str(&x.nodes[f]), x.typeAt(i, "type"))
		}
	}
}

// bindAssigned binds the names that an assignment of Go, Python, Ruby, PHP or JavaScript introduces: local variables and fields of the
// object.
func (x *extraction) bindAssigned(i uint32, s scope) {
	left := x.fieldAt(i, "left")
	if left == 0 {
		return
	}
	l := &x.nodes[left]
	right := x.fieldAt(i, "right")
	switch x.g.typeOf(l) {
	case "expression_list", "pattern_list", "left_assignment_list": // a, b := f(), T{}
		r := uint32(0)
		if right != 0 && strings.HasSuffix(x.g.typeOf(&x.nodes[right]), "_list") {
			r = right + 1
		}
		for c := left + 1; c < l.next; c = x.nodes[c].next {
			t := ""
			if r != 0 && r < x.nodes[right].next {
				t = x.valueType(r)
				r = x.nodes[r].next
			}
			if s.inFunc {
				x.pattern(c, t)
			}
		}
	case "identifier":
		if (s.inFunc || x.file.Language == "ruby") && x.file.Language != "javascript" && x.file.Language != "typescript" && x.file.Language != "tsx" {
			t := x.declaredType(i)
			if b, ok := x.local(x.str(l)); ok && t == "" && b.typ != "" && x.file.Language == "python" {
				return // narrowed or assigned again; the declared type stays valid
			}
			x.bindName(l, t)
		}
	case "variable_name":
		if b, ok := x.local(x.str(l)); !(ok && b.typ != "" && x.declaredType(i) == "") {
			x.bindName(l, x.declaredType(i))
		}
	case "instance_variable":
		if s.class != nil {
			x.addField(s.class, x.str(l), x.declaredType(i))
		}
	case "attribute", "member_expression", "member_access_expression", "field_access": // self.x = T()
		if s.class == nil || !s.inFunc {
			return
		}
		object, last, ok := strings.Cut(strings.ReplaceAll(x.str(l), "->", "."), ".")
		if b, local := x.local(object); ok && (object == "this" || object == "$this" || local && b.typ == selfType) && !strings.Contains(last, ".") {
			x.addField(s.class, last, x.declaredType(i))
		}
	case "tuple", "tuple_pattern", "list_literal":
		if s.inFunc {
			x.pattern(left, "")
		}
	}
}

const maxFields = 512

// addField adds a field to a class; the first known type stays.
func (x *extraction) addField(d *Decl, name, typ string) {
	if typ == "" || name == "" || len(d.Fields) >= maxFields {
		return
	}
	for k := range d.Fields {
		if d.Fields[k].Name == name {
			return
		}
	}
	d.Fields = append(d.Fields, Field{short(name), typ})
}

// valueType is the type of the expression at node i, if it is evident: a created object, a cast, a name of known type.
func (x *extraction) valueType(i uint32) string {
	n := &x.nodes[i]
	switch x.g.typeOf(n) {
	case "new_expression", "object_creation_expression", "composite_literal", "struct_expression", "compound_literal_expression",
		"type_assertion_expression", "type_conversion_expression", "cast_expression", "as_expression", "satisfies_expression", "type_cast_expression":
		if c := x.firstOf(i, "constructor", "type"); c != 0 {
			return x.typeName(x.str(&x.nodes[c]))
		}
		if c := x.fieldAt(i, "name"); c != 0 {
			return x.typeName(x.str(&x.nodes[c]))
		}
		c := i + 1
		if t := x.g.typeOf(n); t == "as_expression" || t == "satisfies_expression" {
			if c < n.next {
				c = x.nodes[c].next
			}
		}
		if c < n.next {
			return x.typeName(x.str(&x.nodes[c]))
		}
	case "unary_expression", "parenthesized_expression", "reference_expression", "expression_list", "pointer_expression", "non_null_expression", "clone_expression":
		if text := x.str(n); i+1 < n.next && text != "" && strings.IndexByte("&(*", text[0]) >= 0 || x.g.is(n, "expression_list") || x.g.is(n, "non_null_expression") {
			c := i + 1
			for c < n.next && x.g.is(&x.nodes[c], "mutable_specifier") {
				c = x.nodes[c].next
			}
			if c < n.next {
				return x.valueType(c)
			}
		}
	case "call_expression", "call":
		return x.madeBy(i)
	case "identifier", "variable_name":
		if b, ok := x.local(x.str(n)); ok {
			return b.typ
		}
	case "this", "self":
		return selfType
	}
	return ""
}

// madeBy is the type of the object that a call creates, by the language's syntax for that.
func (x *extraction) madeBy(i uint32) string {
	switch x.file.Language {
	case "python": // whether the name is a class is decided later
		if f := x.fieldAt(i, "function"); f != 0 {
			return x.typeName(x.str(&x.nodes[f]))
		}
	case "go":
		if f := x.fieldAt(i, "function"); f != 0 && x.str(&x.nodes[f]) == "new" {
			if a := x.child(i, "argument_list"); a != 0 && a+1 < x.nodes[a].next {
				return x.typeName(x.str(&x.nodes[a+1]))
			}
		}
	case "rust":
		f := x.fieldAt(i, "function")
		if f == 0 {
			return ""
		}
		text := x.str(&x.nodes[f])
		if strings.HasSuffix(text, "Arc::new") || strings.HasSuffix(text, "Box::new") || strings.HasSuffix(text, "Rc::new") {
			return "" // a wrapper: its type depends on the argument
		}
		for _, maker := range [...]string{"::new", "::default"} {
			if t, ok := strings.CutSuffix(text, maker); ok {
				return x.typeName(t)
			}
		}
	case "ruby":
		r, m := x.fieldAt(i, "receiver"), x.fieldAt(i, "method")
		if r != 0 && m != 0 && x.str(&x.nodes[m]) == "new" && (x.g.is(&x.nodes[r], "constant") || x.g.is(&x.nodes[r], "scope_resolution")) {
			return x.typeName(x.str(&x.nodes[r]))
		}
	case "cpp":
		if f := x.fieldAt(i, "function"); f != 0 {
			if text := x.str(&x.nodes[f]); strings.Contains(text, "make_unique<") || strings.Contains(text, "make_shared<") {
				return x.typeName(text[strings.IndexByte(text, '<')+1 : strings.LastIndexByte(text, '>')])
			}
		}
	}
	return ""
}

// holders are generic types that are used like the value that they hold.
var holders = map[string]bool{
	"Box": true, "Rc": true, "Arc": true, "std::unique_ptr": true, "std::shared_ptr": true, "unique_ptr": true, "shared_ptr": true,
	"typing.Optional": true, "Annotated": true, "Final": true, "ClassVar": true, "Readonly": true, "Partial": true, "Required": true,
	"std::sync::Arc": true, "std::rc::Rc": true, "t.Optional": true, "NonNullable": true, "DeepPartial": true,
}

// typeName reduces a written type to the name of the class of its values; empty for types that are not a single name, such as arrays
// and functions.
func (x *extraction) typeName(s string) string {
	lang := x.file.Language
	if len(s) > 400 {
		return ""
	}
	s = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s), ":"))
	if lang == "python" || lang == "typescript" || lang == "tsx" {
		s = strings.Trim(s, `"'`)
	}
	for {
		before := s
		s = strings.TrimLeft(s, "*&? \t\n")
		for _, word := range [...]string{"const ", "mut ", "dyn ", "impl ", "final ", "readonly ", "static ", "struct ", "class ", "enum ", "typename ", "ref ", "in ", "out ", "volatile "} {
			s = strings.TrimPrefix(s, word)
		}
		if strings.HasPrefix(s, "'") {
			if _, rest, ok := strings.Cut(s, " "); ok {
				s = rest
			}
		}
		if s == before {
			break
		}
	}
	s = strings.TrimRight(s, "?*& \t\n")
	if lang == "cpp" || lang == "c" {
		s = strings.TrimSuffix(s, " const")
	}
	if strings.Contains(s, "|") {
		one := ""
		for part := range strings.SplitSeq(s, "|") {
			switch part = strings.TrimSpace(part); part {
			case "null", "undefined", "None", "void", "false", "":
				continue
			}
			if one != "" {
				return ""
			}
			one = part
		}
		return x.typeName(one)
	}
	if k := strings.IndexAny(s, "<["); k == 0 {
		return ""
	} else if k > 0 {
		name, inner := strings.TrimSpace(s[:k]), s[k+1:]
		if e := strings.LastIndexAny(inner, ">]"); e >= 0 {
			if rest := strings.TrimSpace(inner[e+1:]); rest != "" {
				return ""
			}
			inner = inner[:e]
		}
		if strings.TrimSpace(inner) == "" && s[k] == '[' || name == "map" {
			return "" // an array
		}
		if holders[name] || name == "Optional" && lang == "python" {
			first, _, _ := strings.Cut(inner, ",")
			return x.typeName(first)
		}
		if s[k] == '[' && lang != "go" && lang != "python" {
			return ""
		}
		s = strings.TrimSuffix(name, "::")
	}
	if s == "" || len(s) > maxName {
		return ""
	}
	for _, r := range s {
		if r != '_' && r != '$' && r != '.' && r != ':' && r != '\\' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return ""
		}
	}
	switch s {
	case "Self", "self", "static", "this", "$this":
		return selfType
	}
	return s
}
