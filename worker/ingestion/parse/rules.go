package parse

// action is the extraction's treatment of a node.
type action uint8

const (
	inside    action = iota // no meaning of its own; its children are visited
	through                 // its children count as children of its parent
	wrap                    // the declaration inside gets its range, as with export or decorators
	declare                 // a declaration
	imports                 // an import statement
	call                    // a call
	comment                 // a comment
	attribute               // belongs to the declaration after it, as a doc comment does
	heritage                // names the types that the enclosing declaration extends
	realizes                // names the types that the enclosing declaration implements
	statement               // its only declaration gets its range
	lambda                  // a function without a name
	block                   // variables in it are visible only in it
	object                  // an object literal
	packaged                // names the package of the file
)

// hook is the special treatment of a node type.
type hook uint8

const (
	plain        hook = iota
	ifBody            // a declaration only if it has a body
	goMethod          // qualified by its receiver
	goType            // struct, interface or type
	goField           // extends when it has no name
	jsVariable        // a function when its value is one
	cDeclarator       // the name is at the end of a chain of declarators
	pyAssign          // left side is the name
	rubyAssign        // left side is the name, if it is a constant
	rubyCall          // may be require
	jsCall            // may be require
	rustImpl          // named by its type
	rustMod           // without a body it is an import
	phpProperty       // the name is in a variable_name or name inside
	csBase            // classes and interfaces in one list
	csVariable        // the name is in a variable_declarator inside
	sqlStatement      // kind and name by the statement inside
	pySupers          // argument list, without keywords
	reexport          // an import too, if it has a source
	jsAssign          // a function that is assigned to a property
	jsPair            // a function that is a member of an object
	phpMixin          // traits
	phpConstant       // a constant that stands as a case of an enum
	jsDefault         // the function that export default gives
)

type rule struct {
	act  action
	kind Kind
	hook hook
	name string // field of the name if it is not "name"; for calls the field of the called expression

	binds bool // declares names for the enclosing function, or fields for the enclosing class
}

func decl(k Kind) rule           { return rule{act: declare, kind: k} }
func hooked(k Kind, h hook) rule { return rule{act: declare, kind: k, hook: h} }
func calls(field string) rule    { return rule{act: call, name: field} }

// with marks in a table node types that also bind names, or are blocks.
func with(table map[string]rule, act action, binds bool, types ...string) map[string]rule {
	for _, t := range types {
		r := table[t]
		if act != inside {
			r.act = act
		}
		r.binds = r.binds || binds
		table[t] = r
	}
	return table
}

// rules returns the rules for the node types of a language. Types that are not in the table have no meaning.
func rules(language string) map[string]rule {
	switch language {
	case "go":
		return goRules()
	case "typescript", "tsx", "javascript":
		return jsRules()
	case "python":
		return pythonRules()
	case "java":
		return javaRules()
	case "rust":
		return rustRules()
	case "c", "cpp":
		return cRules()
	case "csharp":
		return csharpRules()
	case "php":
		return phpRules()
	case "ruby":
		return rubyRules()
	case "sql":
		return sqlRules()
	}
	return nil
}

func goRules() map[string]rule {
	t := map[string]rule{
		"comment":              {act: comment},
		"import_declaration":   {act: imports},
		"function_declaration": decl(Function),
		"method_declaration":   hooked(Method, goMethod),
		"type_declaration":     {act: wrap},
		"type_spec":            hooked(Type, goType),
		"type_alias":           decl(Type),
		"const_declaration":    {act: wrap},
		"var_declaration":      {act: wrap},
		"var_spec_list":        {act: through},
		"const_spec":           decl(Variable),
		"var_spec":             decl(Variable),
		"field_declaration":    {act: heritage, hook: goField},
		"call_expression":      calls("function"),
	}
	t["package_clause"] = rule{act: packaged}
	t["composite_literal"] = calls("type")
	with(t, lambda, false, "func_literal")
	with(t, block, false, "block", "if_statement", "for_statement", "expression_case", "type_case", "default_case", "communication_case",
		"expression_switch_statement")
	with(t, block, true, "type_switch_statement")
	with(t, inside, true, "parameter_declaration", "variadic_parameter_declaration", "short_var_declaration", "var_spec", "const_spec", "range_clause",
		"receive_statement")
	return t
}

func jsRules() map[string]rule {
	t := map[string]rule{
		"comment":                        {act: comment},
		"import_statement":               {act: imports},
		"export_statement":               {act: wrap, hook: reexport},
		"ambient_declaration":            {act: wrap},
		"expression_statement":           {act: through},
		"function_declaration":           decl(Function),
		"function_signature":             decl(Function),
		"generator_function_declaration": decl(Function),
		"class_declaration":              decl(Class),
		"abstract_class_declaration":     decl(Class),
		"class":                          decl(Class),
		"interface_declaration":          decl(Interface),
		"enum_declaration":               decl(Enum),
		"type_alias_declaration":         decl(Type),
		"internal_module":                decl(Module),
		"module":                         decl(Module),
		"method_definition":              decl(Method),
		"method_signature":               decl(Method),
		"abstract_method_signature":      decl(Method),
		"public_field_definition":        hooked(Variable, jsVariable),
		"field_definition":               {act: declare, kind: Variable, hook: jsVariable, name: "property"},
		"lexical_declaration":            {act: wrap},
		"variable_declaration":           {act: wrap},
		"variable_declarator":            hooked(Variable, jsVariable),
		"decorator":                      {act: attribute},
		"class_heritage":                 {act: heritage},
		"extends_clause":                 {act: heritage},
		"extends_type_clause":            {act: heritage},
		"implements_clause":              {act: realizes},
		"call_expression":                {act: call, name: "function", hook: jsCall},
		"new_expression":                 calls("constructor"),
	}
	t["expression_statement"] = rule{act: statement}
	t["assignment_expression"] = rule{act: declare, kind: Function, hook: jsAssign, binds: true}
	t["pair"] = hooked(Function, jsPair)
	t["object"] = rule{act: object}
	t["import_alias"] = rule{act: imports}
	with(t, lambda, true, "arrow_function")
	with(t, lambda, false, "function_expression", "function", "generator_function")
	with(t, block, false, "statement_block", "for_statement", "switch_body")
	with(t, block, true, "for_in_statement", "catch_clause")
	with(t, inside, true, "required_parameter", "optional_parameter", "formal_parameters", "variable_declarator", "property_signature")
	return t
}

func pythonRules() map[string]rule {
	t := map[string]rule{
		"comment":                 {act: comment},
		"import_statement":        {act: imports},
		"import_from_statement":   {act: imports},
		"future_import_statement": {act: imports},
		"decorated_definition":    {act: wrap},
		"expression_statement":    {act: through},
		"function_definition":     decl(Function),
		"class_definition":        decl(Class),
		"assignment":              hooked(Variable, pyAssign),
		"decorator":               {act: attribute},
		"argument_list":           {act: heritage, hook: pySupers},
		"call":                    calls("function"),
	}
	with(t, lambda, false, "lambda", "list_comprehension", "set_comprehension", "dictionary_comprehension", "generator_expression")
	with(t, inside, true, "parameters", "lambda_parameters", "typed_parameter", "default_parameter", "typed_default_parameter", "assignment",
		"for_statement", "for_in_clause", "as_pattern", "named_expression")
	return t
}

func javaRules() map[string]rule {
	t := map[string]rule{
		"line_comment":                        {act: comment},
		"block_comment":                       {act: comment},
		"import_declaration":                  {act: imports},
		"class_declaration":                   decl(Class),
		"record_declaration":                  decl(Class),
		"interface_declaration":               decl(Interface),
		"annotation_type_declaration":         decl(Interface),
		"enum_declaration":                    decl(Enum),
		"enum_body_declarations":              {act: through},
		"method_declaration":                  decl(Method),
		"constructor_declaration":             decl(Method),
		"compact_constructor_declaration":     decl(Method),
		"annotation_type_element_declaration": decl(Method),
		"field_declaration":                   {act: wrap},
		"constant_declaration":                {act: wrap},
		"variable_declarator":                 decl(Variable),
		"superclass":                          {act: heritage},
		"extends_interfaces":                  {act: heritage},
		"super_interfaces":                    {act: realizes},
		"method_invocation":                   calls("name"),
		"object_creation_expression":          calls("type"),
	}
	t["package_declaration"] = rule{act: packaged}
	with(t, lambda, true, "lambda_expression")
	with(t, block, false, "block", "for_statement", "try_with_resources_statement", "catch_clause", "constructor_body", "switch_block_statement_group")
	with(t, block, true, "enhanced_for_statement")
	with(t, inside, true, "formal_parameter", "spread_parameter", "inferred_parameters", "local_variable_declaration", "catch_formal_parameter",
		"resource", "instanceof_expression", "type_pattern")
	return t
}

func rustRules() map[string]rule {
	t := map[string]rule{
		"line_comment":             {act: comment},
		"block_comment":            {act: comment},
		"attribute_item":           {act: attribute},
		"use_declaration":          {act: imports},
		"extern_crate_declaration": {act: imports},
		"function_item":            decl(Function),
		"function_signature_item":  decl(Function),
		"struct_item":              decl(Struct),
		"union_item":               decl(Struct),
		"enum_item":                decl(Enum),
		"trait_item":               decl(Interface),
		"impl_item":                {act: declare, kind: Impl, hook: rustImpl, name: "type"},
		"mod_item":                 hooked(Module, rustMod),
		"const_item":               decl(Variable),
		"static_item":              decl(Variable),
		"type_item":                decl(Type),
		"associated_type":          decl(Type),
		"macro_definition":         decl(Function),
		"trait_bounds":             {act: heritage},
		"call_expression":          calls("function"),
		"macro_invocation":         calls("macro"),
	}
	t["struct_expression"] = calls("name")
	with(t, lambda, false, "closure_expression")
	with(t, block, false, "block", "match_arm", "if_expression")
	with(t, block, true, "for_expression", "match_arm")
	with(t, inside, true, "parameter", "closure_parameters", "let_declaration", "let_condition", "field_declaration")
	return t
}

func cRules() map[string]rule {
	t := map[string]rule{
		"comment":               {act: comment},
		"preproc_include":       {act: imports},
		"preproc_def":           decl(Variable),
		"preproc_function_def":  decl(Function),
		"preproc_if":            {act: through},
		"preproc_ifdef":         {act: through},
		"preproc_else":          {act: through},
		"preproc_elif":          {act: through},
		"linkage_specification": {act: through},
		"declaration_list":      {act: through},
		"template_declaration":  {act: wrap},
		"namespace_definition":  decl(Module),
		"function_definition":   hooked(Function, cDeclarator),
		"declaration":           hooked(Variable, cDeclarator),
		"field_declaration":     hooked(Variable, cDeclarator),
		"type_definition":       hooked(Type, cDeclarator),
		"alias_declaration":     decl(Type),
		"struct_specifier":      hooked(Struct, ifBody),
		"union_specifier":       hooked(Struct, ifBody),
		"class_specifier":       hooked(Class, ifBody),
		"enum_specifier":        hooked(Enum, ifBody),
		"concept_definition":    decl(Type),
		"base_class_clause":     {act: heritage},
		"call_expression":       calls("function"),
		"new_expression":        calls("type"),
	}
	t["preproc_elifdef"] = rule{act: through}
	with(t, lambda, false, "lambda_expression")
	with(t, block, false, "compound_statement", "for_statement")
	with(t, block, true, "for_range_loop")
	with(t, inside, true, "parameter_declaration", "optional_parameter_declaration", "declaration")
	return t
}

func csharpRules() map[string]rule {
	t := map[string]rule{
		"comment":                           {act: comment},
		"using_directive":                   {act: imports},
		"namespace_declaration":             decl(Module),
		"file_scoped_namespace_declaration": decl(Module),
		"class_declaration":                 decl(Class),
		"record_declaration":                decl(Class),
		"struct_declaration":                decl(Struct),
		"record_struct_declaration":         decl(Struct),
		"interface_declaration":             decl(Interface),
		"enum_declaration":                  decl(Enum),
		"method_declaration":                decl(Method),
		"constructor_declaration":           decl(Method),
		"destructor_declaration":            decl(Method),
		"operator_declaration":              decl(Method),
		"local_function_statement":          decl(Function),
		"property_declaration":              decl(Variable),
		"field_declaration":                 hooked(Variable, csVariable),
		"event_field_declaration":           hooked(Variable, csVariable),
		"delegate_declaration":              decl(Type),
		"base_list":                         {act: heritage, hook: csBase},
		"invocation_expression":             calls("function"),
		"object_creation_expression":        calls("type"),
	}
	with(t, lambda, true, "lambda_expression")
	with(t, lambda, false, "anonymous_method_expression")
	with(t, block, false, "block", "for_statement", "using_statement", "switch_section", "catch_clause")
	with(t, block, true, "foreach_statement")
	with(t, inside, true, "parameter", "variable_declaration", "catch_declaration", "declaration_pattern")
	return t
}

func phpRules() map[string]rule {
	t := map[string]rule{
		"comment":                    {act: comment},
		"namespace_use_declaration":  {act: imports},
		"require_expression":         {act: imports},
		"require_once_expression":    {act: imports},
		"include_expression":         {act: imports},
		"include_once_expression":    {act: imports},
		"namespace_definition":       decl(Module),
		"function_definition":        decl(Function),
		"class_declaration":          decl(Class),
		"trait_declaration":          decl(Class),
		"interface_declaration":      decl(Interface),
		"enum_declaration":           decl(Enum),
		"method_declaration":         decl(Method),
		"const_declaration":          hooked(Variable, phpProperty),
		"property_declaration":       hooked(Variable, phpProperty),
		"base_clause":                {act: heritage},
		"class_interface_clause":     {act: realizes},
		"function_call_expression":   calls("function"),
		"member_call_expression":     calls("name"),
		"scoped_call_expression":     calls("name"),
		"object_creation_expression": calls(""),
	}
	t["use_declaration"] = rule{act: heritage, hook: phpMixin}
	t["enum_case"] = hooked(Variable, phpConstant)
	t["nullsafe_member_call_expression"] = calls("name")
	with(t, lambda, false, "anonymous_function_creation_expression", "arrow_function")
	with(t, inside, true, "simple_parameter", "variadic_parameter", "property_promotion_parameter", "assignment_expression", "foreach_statement",
		"catch_clause")
	return t
}

func rubyRules() map[string]rule {
	t := map[string]rule{
		"comment":          {act: comment},
		"module":           decl(Module),
		"class":            decl(Class),
		"method":           decl(Function),
		"singleton_method": decl(Function),
		"body_statement":   {act: through},
		"assignment":       hooked(Variable, rubyAssign),
		"superclass":       {act: heritage},
		"call":             {act: call, name: "method", hook: rubyCall},
	}
	with(t, lambda, false, "block", "do_block", "lambda")
	with(t, inside, true, "method_parameters", "block_parameters", "keyword_parameter", "assignment", "for")
	return t
}

func sqlRules() map[string]rule {
	return map[string]rule{
		"comment":    {act: comment},
		"marginalia": {act: comment},
		"statement":  hooked(Statement, sqlStatement),
		"invocation": calls(""),
	}
}
