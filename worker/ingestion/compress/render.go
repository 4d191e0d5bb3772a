package compress

import (
	"strings"

	"kijko/worker/ingestion/parse"
)

// longBody is the number of lines from which level medium leaves a body out: bodies over 12 lines.
const longBody = 13

// renderer walks one tree and collects the edits of its text.
type renderer struct {
	editor
	nodes    []parse.Node
	language string
	set      Settings
	least    bool // comments and bodies only
	exports  exports
}

// render returns the contextual rendering. least leaves out all steps but comments and bodies.
func render(t *parse.Syntax, text string, s Settings, least bool) string {
	if len(t.Nodes) == 0 {
		return text
	}
	r := &renderer{editor: editor{text: text}, nodes: t.Nodes, language: t.Language, set: s, least: least}
	r.exports = r.readExports()
	r.block(0, scope{kind: fileScope})
	return r.result()
}

type scopeKind uint8

const (
	fileScope   scopeKind = iota
	classScope            // members are checked by their own marks
	openScope             // members are as visible as what holds them: interfaces, traits
	hiddenScope           // members are never visible: anonymous namespaces
	innerScope            // code inside functions and expressions
)

// scope is what stands around a list of siblings.
type scope struct {
	kind   scopeKind
	access string // C++ and Ruby: the word in force
}

// structural: level high also narrows symbols, types and exports.
func (r *renderer) structural() bool { return r.set.OptimizationLevel == High && !r.least }

func (r *renderer) str(i int) string { return r.text[r.nodes[i].Start:r.nodes[i].End] }

// child returns the first child of node i with a field, or 0.
func (r *renderer) child(i int, field string) int {
	for c := i + 1; c < r.nodes[i].Next; c = r.nodes[c].Next {
		if r.nodes[c].Field == field {
			return c
		}
	}
	return 0
}

// run is a sequence of dropped siblings, which leave one marker. at is one more than the index of its edit.
type run struct{ at, lines int }

// block handles the children of node i, which are declarations and statements.
func (r *renderer) block(i int, s scope) {
	end := r.nodes[i].Next
	var dropped run
	pending := -1 // start of the comments and attributes before the next sibling
	kept := false
	for c := i + 1; c < end; {
		n := &r.nodes[c]
		switch {
		case n.Role == parse.Comment:
			if pending < 0 {
				pending = n.Start
			}
			c = r.comments(c, end)
			continue
		case n.Role == parse.Attribute:
			if pending < 0 {
				pending = n.Start
			}
			c = n.Next
			continue
		}
		s.access = r.access(c, s.access)
		from := n.Start
		if pending >= 0 {
			from = pending
		}
		if r.structural() && r.drops(c, from, s) {
			if stop, ok := r.droppable(c); ok {
				r.omit(&dropped, from, stop, lines(r.text[n.Start:stop]))
				pending, c = -1, n.Next
				continue
			}
		}
		dropped = run{}
		kept = kept || !r.hollow(c)
		r.element(c, s)
		pending, c = -1, n.Next
	}
	if r.language == "python" && !kept && dropped.at > 0 && s.kind == classScope {
		r.edits[dropped.at-1].text = "...  # " + count(dropped.lines)
	}
}

// hollow: a docstring that goes away leaves nothing in its block.
func (r *renderer) hollow(c int) bool {
	return r.language == "python" && !r.set.PreserveDocs && r.isDocstring(c)
}

// omit replaces a sibling by a marker, or adds it to the marker of the siblings before it.
func (r *renderer) omit(d *run, from, to, n int) {
	r.undo(from)
	if d.at > 0 && d.at == len(r.edits) {
		from = r.edits[d.at-1].start
		r.edits = r.edits[:d.at-1]
	} else {
		d.lines = 0
	}
	d.lines += n
	marker := lead(r.language) + count(d.lines)
	rest := strings.TrimLeft(r.text[to:min(len(r.text), to+200)], " \t\r")
	if r.language != "python" && r.language != "ruby" && rest != "" && rest[0] != '\n' {
		marker = "/* " + count(d.lines) + " */"
	}
	r.replace(from, to, marker)
	d.at = len(r.edits)
}

// droppable returns where a sibling ends, with its semicolon. In languages without comments that end, what follows on its line would
// be swallowed.
func (r *renderer) droppable(c int) (end int, ok bool) {
	end = r.nodes[c].End
	for end > r.nodes[c].Start && (r.text[end-1] == '\n' || r.text[end-1] == '\r') {
		end--
	}
	if end < len(r.text) && (r.text[end] == ';' || r.text[end] == ',' && r.nodes[c].Role != parse.Plain && r.language != "go") {
		end++
	}
	if r.language != "python" && r.language != "ruby" {
		return end, true
	}
	k := strings.IndexByte(r.text[end:], '\n')
	if k < 0 {
		k = len(r.text) - end
	}
	rest := strings.TrimSpace(r.text[end : end+k])
	return end, rest == "" || rest[0] == '#'
}

// comments handles the run of comments that begins with node c, and returns the index after it. Doc comments are the ones of that form, and
// where a language has no form for them, those directly before a declaration.
func (r *renderer) comments(c, end int) int {
	first, at := c, c
	for at < end && r.nodes[at].Role == parse.Comment {
		at = r.nodes[at].Next
	}
	from := at // the comments from here on touch what follows
	if r.set.PreserveDocs && at < end && r.plainDocs() && r.documented(at) {
		next := r.nodes[at].Start
		var list []int
		for k := first; k < at; k = r.nodes[k].Next {
			list = append(list, k)
		}
		for k := len(list) - 1; k >= 0; k-- {
			if strings.Count(r.text[r.nodes[list[k]].End:next], "\n") > 1 || !r.startsLine(r.nodes[list[k]].Start) {
				break
			}
			from, next = list[k], r.nodes[list[k]].Start
		}
	}
	for k := first; k < at; k = r.nodes[k].Next {
		if !(r.set.PreserveDocs && (k >= from || docForm(r.str(k)))) {
			r.dropComment(r.nodes[k].Start, r.nodes[k].End)
		}
	}
	return at
}

// startsLine reports whether only blanks precede an offset on its line.
func (r *renderer) startsLine(at int) bool {
	for at > 0 && (r.text[at-1] == ' ' || r.text[at-1] == '\t') {
		at--
	}
	return at == 0 || r.text[at-1] == '\n'
}

// plainDocs: any comment before a declaration documents it.
func (r *renderer) plainDocs() bool {
	switch r.language {
	case "go", "ruby", "c", "cpp", "sql":
		return true
	}
	return false
}

func (r *renderer) documented(c int) bool {
	n := &r.nodes[c]
	return n.Role == parse.Declaration || n.Role == parse.Wrapper || n.Type == "package_clause" || n.Type == "field_declaration" || n.Type == "method_elem"
}

func docForm(s string) bool {
	return strings.HasPrefix(s, "/**") && len(s) > 4 || strings.HasPrefix(s, "///") || strings.HasPrefix(s, "//!") || strings.HasPrefix(s, "/*!")
}

// inner returns the declarations of a sibling: itself, or those that its wrappers hold.
func (r *renderer) inner(c int) []int {
	n := &r.nodes[c]
	if n.Role == parse.Declaration {
		return []int{c}
	}
	var found []int
	switch {
	case n.Role == parse.Wrapper, n.Type == "expression_statement", n.Type == "var_spec_list":
		for k := c + 1; k < n.Next; k = r.nodes[k].Next {
			found = append(found, r.inner(k)...)
		}
	}
	return found
}

// sort is what a declaration is to the table of the contract.
type sort uint8

const (
	other sort = iota
	function
	variable
	typ
	class
	holder // a namespace or a block of methods, which is no symbol itself
)

func (r *renderer) sort(d int) sort {
	n := &r.nodes[d]
	switch n.Kind {
	case parse.Function, parse.Method:
		if n.Type == "assignment_expression" || n.Type == "pair" {
			v := r.value(d)
			if v == 0 || !lambdas[r.nodes[v].Type] {
				return other
			}
		}
		return function
	case parse.Variable:
		if v := r.value(d); v != 0 && lambdas[r.nodes[v].Type] {
			return function
		}
		return variable
	case parse.Interface, parse.Enum, parse.Type, parse.Struct:
		return typ
	case parse.Class:
		return class
	case parse.Module, parse.Impl:
		return holder
	}
	return other
}

func (r *renderer) value(d int) int {
	for _, field := range [...]string{"value", "right"} {
		if v := r.child(d, field); v != 0 {
			return v
		}
	}
	return 0
}

// lambdas are functions that have their name from the variable that they are assigned to.
var lambdas = map[string]bool{"arrow_function": true, "function_expression": true, "function": true, "generator_function": true}

// drops reports whether a sibling goes away as a whole.
func (r *renderer) drops(c, from int, s scope) bool {
	if s.kind == innerScope {
		return false
	}
	if !r.set.PreserveExports && s.kind == fileScope && r.isExport(c) {
		return true
	}
	if r.set.PreserveStructure {
		return false
	}
	list := r.inner(c)
	if len(list) == 0 || r.exported(c, from, list, s) {
		return false
	}
	switch r.sort(list[0]) {
	case function, variable, class:
		return true
	case typ:
		return !r.set.PreserveTypes
	case holder:
		return r.nodes[list[0]].Kind == parse.Module && r.child(list[0], "body") != 0
	}
	return false
}

// element handles one sibling that stays.
func (r *renderer) element(c int, s scope) {
	n := &r.nodes[c]
	list := r.inner(c)
	if len(list) == 0 {
		switch n.Type {
		case "preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif", "preproc_elifdef", "linkage_specification", "declaration_list", "enum_body_declarations":
			r.block(c, s)
			return
		}
		r.node(c, scope{kind: innerScope}, 0)
		return
	}
	if r.structural() && s.kind != innerScope {
		open := r.exported(c, n.Start, list, s)
		switch r.sort(list[0]) {
		case variable:
			if !open && r.bare(c) {
				return
			}
		case typ:
			if !r.set.PreserveTypes && r.hollowed(c, list) {
				return
			}
		case class:
			if !open && r.hollowed(c, list) {
				return
			}
		case holder:
			if !open && r.nodes[list[0]].Kind == parse.Module && r.hollowed(c, list) {
				return
			}
		}
	}
	r.node(c, s, 0)
}

// walk handles the descendants of a node. s says what surrounds declarations in it.
func (r *renderer) walk(i int, s scope) {
	for c := i + 1; c < r.nodes[i].Next; {
		n := &r.nodes[c]
		if n.Role == parse.Comment {
			c = r.comments(c, r.nodes[i].Next)
			continue
		}
		r.node(c, s, i)
		c = n.Next
	}
}

// node handles one node. parent is the node around it, or 0 where that has no meaning for it.
func (r *renderer) node(c int, s scope, parent int) {
	n := &r.nodes[c]
	switch {
	case n.Role == parse.ImportStatement:
		r.dropComments(c+1, n.Next)
		return
	case literals[n.Type]:
		if r.hollow(c) {
			return
		}
		r.literal(c)
		return
	case r.isDocstring(c):
		if !r.set.PreserveDocs {
			r.dropDocstring(c)
		}
		return
	}
	if body := r.body(c, parent); body != 0 {
		for k := c + 1; k < n.Next; {
			if r.nodes[k].Role == parse.Comment {
				k = r.comments(k, n.Next)
				continue
			}
			if k == body {
				if !r.elide(body) {
					r.walk(body, scope{kind: innerScope})
				}
			} else {
				r.node(k, scope{kind: innerScope}, c)
			}
			k = r.nodes[k].Next
		}
		return
	}
	if n.Role == parse.Declaration {
		switch n.Kind {
		case parse.Class, parse.Interface, parse.Struct, parse.Enum, parse.Impl, parse.Module:
			members := r.members(c, s)
			for k := c + 1; k < n.Next; {
				if r.nodes[k].Role == parse.Comment {
					k = r.comments(k, n.Next)
					continue
				}
				if r.nodes[k].Field == "body" {
					r.block(k, members)
				} else {
					r.node(k, scope{kind: innerScope}, c)
				}
				k = r.nodes[k].Next
			}
			return
		}
	}
	r.walk(c, s)
}

// functions are the nodes whose body is that of a function.
var functions = map[string]bool{
	"function_declaration": true, "method_declaration": true, "generator_function_declaration": true, "method_definition": true,
	"function_definition": true, "constructor_declaration": true, "compact_constructor_declaration": true, "function_item": true,
	"destructor_declaration": true, "operator_declaration": true, "conversion_operator_declaration": true, "local_function_statement": true,
	"accessor_declaration": true, "method": true, "singleton_method": true,
}

// named are the parents that give a function without a name its name.
var named = map[string]bool{
	"variable_declarator": true, "pair": true, "assignment_expression": true, "public_field_definition": true, "field_definition": true,
	"export_statement": true,
}

// body returns the body of a function at node c, or 0. Functions without a name are values, and values stay.
func (r *renderer) body(c, parent int) int {
	t := r.nodes[c].Type
	if functions[t] || lambdas[t] && parent != 0 && named[r.nodes[parent].Type] {
		return r.child(c, "body")
	}
	return 0
}

// elide leaves out a body of a function as the level says.
func (r *renderer) elide(body int) bool {
	start, end, front, back := r.inside(body)
	if start >= end {
		return false
	}
	if elided(r.text[start:end]) {
		return true
	}
	n := lines(r.text[start:end])
	switch r.set.OptimizationLevel {
	case High:
	case Medium:
		if n < longBody {
			return false
		}
	default:
		return false
	}
	marker := front + count(n) + back
	if n == 0 || end-start <= len(marker) {
		return false
	}
	r.replace(start, end, marker)
	return true
}

// inside returns the stretch of a body that a marker replaces, and the text around the marker's count.
func (r *renderer) inside(body int) (start, end int, front, back string) {
	n := &r.nodes[body]
	start, end = n.Start, n.End
	switch r.language {
	case "python":
		if r.set.PreserveDocs {
			for c := body + 1; c < n.Next && r.isDocstring(c); c = r.nodes[c].Next {
				start = end
				if next := r.nodes[c].Next; next < n.Next {
					start = r.nodes[next].Start
				}
			}
		}
		for end > start && (r.text[end-1] == '\n' || r.text[end-1] == '\r') {
			end--
		}
		if end < len(r.text) && r.text[end] != '\n' && r.text[end] != '\r' {
			// A comment after the last statement is no part of the body, and may stand behind the marker.
			if rest, _, _ := strings.Cut(r.text[end:min(len(r.text), end+1000)], "\n"); !strings.HasPrefix(strings.TrimLeft(rest, " \t"), "#") && strings.TrimSpace(rest) != "" {
				return 0, 0, "", ""
			}
		}
		return start, end, "...  # ", ""
	case "ruby":
		for end > start && strings.IndexByte(" \t\r\n", r.text[end-1]) >= 0 {
			end--
		}
		if rest := strings.TrimLeft(r.text[end:min(len(r.text), end+200)], " \t\r"); rest == "" || rest[0] != '\n' {
			return 0, 0, "", ""
		}
		return start, end, "# ", ""
	}
	if end-start >= 2 && r.text[start] == '{' && r.text[end-1] == '}' {
		return start + 1, end - 1, " /* ", " */ "
	}
	if r.arrow(body) {
		return start, end, "{ /* ", " */ }"
	}
	return 0, 0, "", ""
}

// arrow reports whether a body is the expression of an arrow function.
func (r *renderer) arrow(body int) bool {
	before := strings.TrimRight(r.text[max(0, r.nodes[body].Start-50):r.nodes[body].Start], " \t\r\n(")
	return (r.language == "javascript" || r.language == "typescript" || r.language == "tsx") && strings.HasSuffix(before, "=>")
}

// bare leaves out the values of a variable that is not exported: its lists and objects of several lines, and those of its type. It reports
// false when there is none.
func (r *renderer) bare(c int) bool {
	n := &r.nodes[c]
	at, did := c+1, false
	for k := c + 1; k < n.Next; k++ {
		v := &r.nodes[k]
		if v.End-v.Start < 2 || v.Role == parse.Comment || literals[v.Type] {
			continue
		}
		open, shut := r.text[v.Start], r.text[v.End-1]
		if !(open == '{' && shut == '}' || open == '[' && shut == ']' || open == '(' && shut == ')') {
			continue
		}
		inside := r.text[v.Start+1 : v.End-1]
		if !elided(inside) {
			m := lines(inside)
			marker := " /* " + count(m) + " */ "
			if r.language == "python" || r.language == "ruby" {
				marker = "  # " + count(m) + "\n"
			}
			if m < 2 || len(inside) <= len(marker) {
				continue
			}
			r.dropComments(at, k)
			r.replace(v.Start+1, v.End-1, marker)
		}
		did, at = true, v.Next
		k = v.Next - 1
	}
	if did {
		r.dropComments(at, n.Next)
	}
	return did
}

// dropComments drops the comments among nodes[from:to].
func (r *renderer) dropComments(from, to int) {
	for i := from; i < to; i++ {
		if r.nodes[i].Role == parse.Comment {
			r.dropComment(r.nodes[i].Start, r.nodes[i].End)
		}
	}
}

// hollowed leaves only the heads of the declarations of a sibling. It reports false when they have no bodies to leave out.
func (r *renderer) hollowed(c int, list []int) bool {
	at := c + 1
	did := false
	for _, d := range list {
		x, v := r.hollowing(d)
		if v == 0 {
			continue
		}
		r.dropComments(at, v)
		r.replace(x.start, x.end, x.text)
		did, at = true, r.nodes[v].Next
	}
	if did {
		r.dropComments(at, r.nodes[c].Next)
	}
	return did
}

// hollowing returns the replacement that leaves the head of a declaration, and the node that it is inside of; 0 without one.
func (r *renderer) hollowing(d int) (edit, int) {
	if body := r.child(d, "body"); body != 0 {
		start, end, front, back := r.inside(body)
		if start >= end {
			return edit{}, 0
		}
		if elided(r.text[start:end]) {
			return edit{start, end, r.text[start:end]}, body
		}
		marker := front + count(lines(r.text[start:end])) + back
		if end-start <= len(marker) {
			return edit{}, 0
		}
		return edit{start, end, marker}, body
	}
	v := r.child(d, "type")
	if v == 0 {
		v = r.child(d, "value")
	}
	if v == 0 {
		return edit{}, 0
	}
	n := lines(r.str(v))
	from := strings.IndexByte(r.str(v), '{')
	start, end := r.nodes[v].Start+from+1, r.nodes[v].End-1
	marker := " /* " + count(n) + " */ "
	switch {
	case r.nodes[d].Type == "type_alias_declaration" && n > 1:
		return edit{r.nodes[v].Start, r.nodes[v].End, "unknown" + strings.TrimRight(marker, " ")}, v
	case from >= 0 && end > start && r.text[end] == '}' && end-start > len(marker) && r.nodes[d].Type != "type_alias_declaration":
		return edit{start, end, marker}, v
	}
	return edit{}, 0
}

// isDocstring reports whether a node is the string that documents a Python module, class or function.
func (r *renderer) isDocstring(c int) bool {
	if r.language != "python" || r.nodes[c].Type != "expression_statement" || c+1 >= r.nodes[c].Next {
		return false
	}
	if r.nodes[c+1].Type != "string" || r.nodes[c+1].Next != r.nodes[c].Next {
		return false
	}
	// The statement is the first one of its block. In pre-order only the block itself and comments stand before it.
	for k := c - 1; k >= 0 && k > c-50; k-- {
		switch n := &r.nodes[k]; {
		case n.Role == parse.Comment:
		case n.Type == "module":
			return true
		case n.Type == "block":
			return n.Field == "body"
		default:
			return false
		}
	}
	return false
}

// dropDocstring removes a docstring; one that is all of its block leaves a statement that does nothing.
func (r *renderer) dropDocstring(c int) {
	n := &r.nodes[c]
	if r.onlyChild(c) {
		r.replace(n.Start, n.End, "...")
		return
	}
	r.drop(n.Start, n.End)
}

// onlyChild reports whether a statement is all of the block around it.
func (r *renderer) onlyChild(c int) bool {
	k := c - 1
	for k > 0 && r.nodes[k].Role == parse.Comment {
		k--
	}
	if r.nodes[k].Type != "block" {
		return false
	}
	for i := k + 1; i < r.nodes[k].Next; i = r.nodes[i].Next {
		if i != c && r.nodes[i].Role != parse.Comment {
			return false
		}
	}
	return true
}
