package parse

import (
	"slices"
	"strings"
)

const (
	maxDoc       = 2000
	maxSignature = 300
	maxName      = 200
)

// extraction walks one tree in pre-order and fills a File.
type extraction struct {
	g     *grammar
	text  string
	nodes []node
	lines lines
	file  *File
	heads []head // where declarations begin, for the cuts

	name, body, declarator uint16 // numbers of common fields
	fields                 struct{ value, typ, size uint16 }
	binds                  []binding // names of the functions around, innermost last
	bound                  []Import  // variables that hold required modules, for the imports inside their declarations
}

// head is the stretch from the doc comment to the node itself.
type head struct{ start, node int }

// scope is the context of a list of siblings.
type scope struct {
	owner  *Decl // nil at the top level
	level  int
	inFunc bool
	class  *Decl  // the enclosing class
	seen   Range  // the enclosing function, named or not
	typ    string // type that the wrapper gives to the variables inside
	object string // the owner of an object literal's members
	nested bool   // the object is not the value of a name of its own
	main   bool   // of export default
}

func extract(g *grammar, t tree, text string, ln lines, f *File) {
	x := &extraction{
		g: g, text: text, nodes: t.nodes, lines: ln, file: f,
		name: g.fieldID("name"), body: g.fieldID("body"), declarator: g.fieldID("declarator"),
	}
	x.fields.value, x.fields.typ, x.fields.size = g.fieldID("value"), g.fieldID("type"), g.fieldID("size")
	f.HasError = t.hasError
	if len(t.nodes) == 0 {
		return
	}
	f.Decls = x.siblings(1, t.nodes[0].next, scope{})
	f.Doc = x.headDoc()
	x.placeCuts()
}

// pending collects the comments and attributes that may belong to the next declaration.
type pending struct {
	start, end int
	docs       []Range
	active     bool
}

// siblings returns the declarations among nodes[i:end], which are the children of one node and their subtrees.
func (x *extraction) siblings(i, end uint32, s scope) []Decl {
	var decls []Decl
	var p pending
	for i < end {
		n := &x.nodes[i]
		r := x.g.rule(n)
		x.cut(n, s.level)
		switch r.act {
		case comment:
			x.comment(n, &p)
			i = n.next
			continue
		case attribute:
			x.hold(n, &p)
			x.siblings(i+1, n.next, s) // calls in decorators
			i = n.next
			continue
		case through:
			decls = append(decls, x.siblings(i+1, n.next, s)...)
		case statement:
			inner := x.siblings(i+1, n.next, s)
			if len(inner) == 1 && inner[0].StartByte == int(n.start) {
				d := &inner[0]
				d.EndByte = x.trimmed(n)
				x.place(d)
				x.attach(d, int(n.start), &p)
			}
			decls = append(decls, inner...)
		case wrap:
			decls = append(decls, x.wrapped(i, r, &p, s)...)
		case declare:
			if r.kind == Class && s.owner != nil && s.owner.Kind == Class && s.owner.EndByte >= int(n.end) && x.g.is(n, "class") && x.field(i, x.name) == nil {
				decls = append(decls, x.siblings(i+1, n.next, x.under(s))...) // the value of the declaration
				break
			}
			if d, ok := x.declaration(i, r, s); ok {
				x.attach(&d, int(n.start), &p)
				decls = append(decls, d)
				if r.hook == jsVariable {
					decls = append(decls, x.further(i, &d)...)
				}
			} else {
				decls = append(decls, x.siblings(i+1, n.next, x.members(i, r, s))...)
			}
		case packaged:
			if c := i + 1; c < n.next {
				x.file.Package = short(x.str(&x.nodes[c]))
			}
		case imports:
			x.imports(i, s)
			x.siblings(i+1, n.next, x.under(s))
		case call:
			x.call(i, r, s)
			decls = append(decls, x.siblings(i+1, n.next, x.under(s))...)
		case heritage, realizes:
			x.inherit(i, r, s)
			x.siblings(i+1, n.next, x.under(s))
		case object:
			inner := x.under(s)
			inner.object, inner.nested = s.object, s.nested
			decls = append(decls, x.siblings(i+1, n.next, inner)...)
		case lambda:
			if s.main {
				d, _ := x.declaration(i, rule{act: declare, kind: Function, hook: jsDefault, binds: r.binds}, x.under(s))
				x.attach(&d, int(n.start), &p)
				decls = append(decls, d)
				break
			}
			mark := len(x.binds)
			inner := x.under(s)
			inner.inFunc, inner.seen = true, Range{int(n.start), int(n.end)}
			if r.binds {
				x.bind(i, inner)
			}
			decls = append(decls, x.siblings(i+1, n.next, inner)...)
			x.binds = x.binds[:mark]
		case block:
			mark := len(x.binds)
			if r.binds {
				x.bind(i, s)
			}
			decls = append(decls, x.siblings(i+1, n.next, x.under(s))...)
			x.binds = x.binds[:mark]
		default:
			decls = append(decls, x.siblings(i+1, n.next, x.under(s))...)
		}
		if r.binds && r.act != lambda && r.act != block {
			x.bind(i, s)
		}
		p = pending{}
		i = n.next
	}
	return decls
}

func (x *extraction) under(s scope) scope {
	s.level++
	s.typ, s.object, s.nested, s.main = "", "", false, false
	return s
}

// members is the scope inside a node that is no declaration itself, but may be an object whose members are declarations.
func (x *extraction) members(i uint32, r rule, s scope) scope {
	inner := x.under(s)
	switch r.hook {
	case jsAssign:
		if right := x.fieldAt(i, "right"); right != 0 && x.g.is(&x.nodes[right], "object") {
			inner.object = assignedTo(x.str(x.field(i, x.g.fieldID("left"))))
		}
	case jsPair:
		if v := x.fieldAt(i, "value"); v != 0 && x.g.is(&x.nodes[v], "object") {
			inner.object = strings.Trim(x.str(x.field(i, x.g.fieldID("key"))), "\"'")
			if inner.nested = true; s.object != "" {
				inner.object = s.object + "." + inner.object
			}
		}
	}
	return inner
}

// wrapped returns the declarations inside a wrapper. A single one takes the wrapper's range. Several become children of
// a declaration with the wrapper's range, so that the group is not split.
func (x *extraction) wrapped(i uint32, r rule, p *pending, s scope) []Decl {
	n := &x.nodes[i]
	if r.hook == reexport {
		x.reexport(i, s)
	}
	under := x.under(s)
	under.typ = x.typeAt(i, "type")
	under.main = r.hook == reexport && x.fieldAt(i, "value") != 0
	inner := x.siblings(i+1, n.next, under)
	if len(inner) == 0 {
		return nil
	}
	d := inner[0]
	if x.g.is(n, "decorated_definition") && strings.Contains(x.text[n.start:max(int(n.start), min(int(n.start)+maxSignature, d.NameByte))], "overload") {
		d.Partial = true
	}
	if len(inner) > 1 {
		d = Decl{Kind: inner[0].Kind, Name: inner[0].Name, Qualified: inner[0].Qualified, NameByte: inner[0].NameByte, Children: inner}
		d.Signature = x.signature(int(n.start), int(n.end))
	} else if d.Kind == Variable || d.Kind == Type || d.Kind == Struct || d.Kind == Interface {
		d.Signature = x.signature(int(n.start), int(n.end)) // with its keyword
	}
	d.StartByte, d.EndByte = int(n.start), x.trimmed(n)
	x.place(&d)
	x.attach(&d, int(n.start), p)
	return []Decl{d}
}

// extends is the type that a C# extension method extends.
func (x *extraction) extends(i uint32) string {
	list := x.child(i, "parameter_list")
	if list == 0 || list+1 >= x.nodes[list].next || !strings.HasPrefix(x.str(&x.nodes[list+1]), "this ") {
		return ""
	}
	return x.typeAt(list+1, "type")
}

// interfaceOf records the methods that a Go interface requires.
func (x *extraction) interfaceOf(i uint32, d *Decl) {
	t := x.fieldAt(i, "type")
	if d.Kind != Interface || x.file.Language != "go" || t == 0 {
		return
	}
	for c := t + 1; c < x.nodes[t].next; c = x.nodes[c].next {
		switch n := &x.nodes[c]; x.g.typeOf(n) {
		case "method_elem", "method_spec":
			if name := x.field(c, x.name); name != nil && len(d.Methods) < maxFields {
				d.Methods = append(d.Methods, Member{short(x.str(name)), x.lines.at(int(name.start))})
			}
		case "type_elem", "constraint_elem":
			if c+1 < n.next && x.nodes[c+1].next == n.next && !strings.HasPrefix(x.str(n), "~") {
				d.Extends = addName(d.Extends, x.str(n))
			}
		}
	}
}

// trimmed returns the end of a node without the line end that some grammars include.
func (x *extraction) trimmed(n *node) int {
	e := int(n.end)
	for e > int(n.start) && (x.text[e-1] == '\n' || x.text[e-1] == '\r') {
		e--
	}
	return e
}

func (x *extraction) place(d *Decl) {
	d.StartLine = x.lines.at(d.StartByte)
	d.EndLine = max(d.StartLine, x.lines.at(max(d.StartByte, d.EndByte-1)))
}

// attach adds the pending comments and attributes to a declaration.
func (x *extraction) attach(d *Decl, at int, p *pending) {
	if p.active && p.end <= at && !x.gap(p.end, at) {
		d.StartByte = p.start
		d.StartLine = x.lines.at(p.start)
		if len(p.docs) > 0 {
			var b strings.Builder
			for _, r := range p.docs {
				b.WriteString(x.text[r.StartByte:r.EndByte])
				b.WriteByte('\n')
				if b.Len() > 2*maxDoc {
					break
				}
			}
			d.Doc = cleanDoc(b.String())
		}
	}
	x.heads = append(x.heads, head{d.StartByte, at})
}

// gap reports whether there is more than one line end between two offsets.
func (x *extraction) gap(from, to int) bool {
	if to-from > 4096 {
		return true
	}
	between := x.text[from:to]
	// Some grammars include the line end in the comment.
	return strings.TrimSpace(between) != "" || strings.Count(between, "\n") > 1
}

// hold makes a comment or attribute pending.
func (x *extraction) hold(n *node, p *pending) {
	end := x.trimmed(n)
	if !p.active || x.gap(p.end, int(n.start)) {
		*p = pending{start: int(n.start), active: true}
	}
	p.end = end
}

func (x *extraction) comment(n *node, p *pending) {
	r := Range{int(n.start), x.trimmed(n)}
	x.file.Comments = append(x.file.Comments, r)
	x.file.Markers = markers(x.file.Markers, x.text[r.StartByte:r.EndByte], x.lines.at(r.StartByte))
	if !x.lines.startsLine(x.text, r.StartByte) {
		return // it belongs to the code before it
	}
	x.hold(n, p)
	p.docs = append(p.docs, r)
}

// field returns the first child of node i with the field, or nil.
func (x *extraction) field(i uint32, field uint16) *node {
	if field == 0xFFFF {
		return nil
	}
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		if x.nodes[c].field == field {
			return &x.nodes[c]
		}
	}
	return nil
}

// child returns the index of the first child of node i of one of the types, or 0.
func (x *extraction) child(i uint32, types ...string) uint32 {
	for c := i + 1; c < x.nodes[i].next; c = x.nodes[c].next {
		if slices.Contains(types, x.g.typeOf(&x.nodes[c])) {
			return c
		}
	}
	return 0
}

// find returns the index of the first node inside node i, at any depth, of one of the types, or 0.
func (x *extraction) find(i uint32, types ...string) uint32 {
	for c := i + 1; c < x.nodes[i].next; c++ {
		if slices.Contains(types, x.g.typeOf(&x.nodes[c])) {
			return c
		}
	}
	return 0
}

func (x *extraction) str(n *node) string {
	if n == nil {
		return ""
	}
	return x.text[n.start:n.end]
}

func (x *extraction) index(n *node) uint32 {
	// Nodes are in pre-order, so the first node at or after this one with this start and end is the right one.
	i, _ := slices.BinarySearchFunc(x.nodes, n.start, func(a node, start uint32) int {
		return int(int64(a.start) - int64(start))
	})
	for i < len(x.nodes) && &x.nodes[i] != n {
		i++
	}
	return uint32(i)
}

// declaration makes the declaration at node i, or reports that the node is none.
func (x *extraction) declaration(i uint32, r rule, s scope) (Decl, bool) {
	n := &x.nodes[i]
	d := Decl{Kind: r.kind, StartByte: int(n.start), EndByte: x.trimmed(n)}
	named := x.named(i, r, &d, s)
	if !named || d.Kind == Variable && s.inFunc {
		return d, false
	}
	if d.Kind == Function && s.owner != nil {
		switch s.owner.Kind {
		case Class, Struct, Interface, Impl, Enum:
			d.Kind = Method
		}
	}
	d.Name = short(d.Name)
	if d.Qualified == "" {
		d.Qualified = d.Name
	}
	if s.object != "" && d.Owner == "" {
		if d.Owner = s.object; s.nested {
			d.Owner = "{}"
		}
		d.Qualified = s.object + "." + d.Qualified
	}
	if s.owner != nil && s.owner.Qualified != "" {
		d.Qualified = s.owner.Qualified + "." + d.Qualified
	}
	d.Qualified = strings.ReplaceAll(d.Qualified, "::", ".")
	if len(d.Qualified) > 2*maxName {
		d.Qualified = d.Qualified[len(d.Qualified)-2*maxName:]
		d.Qualified = strings.ToValidUTF8(d.Qualified, "")
	}
	x.place(&d)
	end := int(n.end)
	body := x.field(i, x.body)
	if body != nil {
		end = int(body.start)
	}
	d.Signature = x.signature(int(n.start), end)
	d.Scope = s.seen
	inner := scope{owner: &d, level: s.level + 1, inFunc: s.inFunc || d.Kind == Function || d.Kind == Method, class: s.class, seen: s.seen}
	mark := len(x.binds)
	switch d.Kind {
	case Variable:
		inner.owner, inner.inFunc = &d, true
		if s.typ != "" && s.typ != "var" {
			d.Type = s.typ
		} else if d.Type == "" {
			d.Type = x.declaredType(i)
		}
		if r.hook == jsVariable && int(n.start) == d.NameByte-1 { // the type of a pattern is not that of its names
			d.Type = ""
		}
	case Function, Method:
		if x.file.Language == "csharp" {
			d.Type = x.extends(i)
		}
		if x.g.is(n, "macro_definition") && strings.Contains(x.text[max(0, d.StartByte-200):d.StartByte], "#[macro_export") {
			d.Type = "export"
		}
		inner.seen = Range{int(n.start), int(n.end)}
		d.Partial = body == nil && r.hook != jsVariable && r.hook != jsAssign && r.hook != jsPair && !x.g.is(n, "preproc_function_def") && x.find(i, "body", "block", "statement_block", "compound_statement") == 0
	case Class, Struct, Interface, Enum, Impl, Module:
		inner.class = &d
		if d.Kind == Module && body == nil && s.owner == nil {
			x.file.Package = d.Name // for all following code
		}
		x.interfaceOf(i, &d)
	}
	if r.hook == jsDefault && r.binds {
		x.bind(i, inner)
	}
	d.Children = x.siblings(i+1, n.next, inner)
	x.binds = x.binds[:mark]
	if body != nil && (d.Kind == Class || d.Kind == Function || d.Kind == Method) {
		x.docstring(body, &d)
	}
	return d, true
}

// headDoc returns the comment that opens the file, unless it is the doc comment of a declaration, or Python's docstring.
func (x *extraction) headDoc() string {
	if x.file.Language == "python" {
		for c := uint32(1); c < x.nodes[0].next; c = x.nodes[c].next {
			if x.g.is(&x.nodes[c], "expression_statement") && c+1 < x.nodes[c].next && x.g.is(&x.nodes[c+1], "string") {
				return cleanDoc(strings.Trim(x.str(&x.nodes[c+1]), `"'rRuUbB`))
			}
			if !x.g.is(&x.nodes[c], "comment") {
				break
			}
		}
	}
	comments := x.file.Comments
	if len(comments) > 0 && strings.HasPrefix(x.text[comments[0].StartByte:], "#!") {
		comments = comments[1:]
	}
	if len(comments) == 0 {
		return ""
	}
	from, to := comments[0].StartByte, comments[0].EndByte
	before := x.nodes[0].next > 1 && int(x.nodes[1].start) < from && x.g.rule(&x.nodes[1]).act != comment && !x.g.is(&x.nodes[1], "php_tag")
	if before || len(x.file.Decls) > 0 && x.file.Decls[0].StartByte <= from {
		return ""
	}
	for _, c := range comments[1:] {
		if x.gap(to, c.StartByte) {
			break
		}
		to = c.EndByte
	}
	return cleanDoc(x.text[from:to])
}

// docstring takes Python's documentation, which is the first statement of the body.
func (x *extraction) docstring(body *node, d *Decl) {
	if d.Doc != "" || x.file.Language != "python" {
		return
	}
	b := x.index(body)
	if e := b + 1; e < body.next && x.g.is(&x.nodes[e], "expression_statement") {
		if c := e + 1; c < x.nodes[e].next && x.g.is(&x.nodes[c], "string") {
			d.Doc = cleanDoc(strings.Trim(x.str(&x.nodes[c]), `"'rRuUbB`))
		}
	}
}

// signature returns text[from:to] up to a brace, on one line.
func (x *extraction) signature(from, to int) string {
	s := x.text[from:min(to, from+2*maxSignature)]
	if k := strings.Index(s, "{"); k > 0 {
		s = s[:k]
	}
	return clip(strings.TrimRight(strings.Join(strings.Fields(s), " "), " ;:="), maxSignature)
}

// cut records that a syntactic unit begins a line. In pre-order the outermost node of a line comes first.
func (x *extraction) cut(n *node, level int) {
	at, ok := x.lines.lineStart(x.text, int(n.start))
	if !ok || at == 0 || n.field == x.body { // a body belongs to its head, even if its brace has a line of its own
		return
	}
	if k := len(x.file.Cuts); k > 0 && x.file.Cuts[k-1].Byte >= at {
		return
	}
	x.file.Cuts = append(x.file.Cuts, Cut{Byte: at, Level: level})
}

// placeCuts moves the cuts of declarations to their doc comments.
func (x *extraction) placeCuts() {
	slices.SortFunc(x.heads, func(a, b head) int { return a.start - b.start })
	kept := x.file.Cuts[:0]
	h := 0
	until := -1 // cuts up to here belong to the head of a declaration
	for _, c := range x.file.Cuts {
		for h < len(x.heads) && x.lineOf(x.heads[h].start) < c.Byte {
			until = max(until, x.heads[h].node)
			h++
		}
		if c.Byte <= until {
			continue
		}
		for h < len(x.heads) && x.lineOf(x.heads[h].start) == c.Byte {
			c.Decl = true
			until = max(until, x.heads[h].node)
			h++
		}
		kept = append(kept, c)
	}
	x.file.Cuts = kept
}

func (x *extraction) lineOf(at int) int {
	if s, ok := x.lines.lineStart(x.text, at); ok {
		return s
	}
	return at
}

// inherit records the types that the enclosing declaration of node i extends or implements.
func (x *extraction) inherit(i uint32, r rule, s scope) {
	if s.owner == nil || s.inFunc {
		return
	}
	n := &x.nodes[i]
	switch r.hook {
	case goField:
		if x.field(i, x.name) != nil {
			typ := x.typeAt(i, "type")
			for c := i + 1; c < n.next && s.owner.Kind == Struct; c = x.nodes[c].next {
				if x.nodes[c].field == x.name {
					x.addField(s.owner, x.str(&x.nodes[c]), typ)
				}
			}
		} else if s.owner.Kind == Struct {
			if t := x.field(i, x.g.fieldID("type")); t != nil {
				s.owner.Extends = addName(s.owner.Extends, x.str(t))
			}
		}
		return
	case phpMixin:
		for c := i + 1; c < n.next; c = x.nodes[c].next {
			s.owner.Mixins = addName(s.owner.Mixins, x.str(&x.nodes[c]))
		}
		return
	case pySupers:
		if s.owner.Kind != Class || n.field == 0 {
			return
		}
	}
	for c := i + 1; c < n.next; c = x.nodes[c].next {
		k := &x.nodes[c]
		switch x.g.typeOf(k) {
		case "access_specifier", "keyword_argument", "type_arguments", "comment", "argument_list", "virtual":
			continue
		case "type_list":
			for g := c + 1; g < k.next; g = x.nodes[g].next {
				x.parent(s.owner, r, x.str(&x.nodes[g]))
			}
			continue
		case "extends_clause", "implements_clause":
			continue // they are visited separately
		}
		x.parent(s.owner, r, x.str(k))
	}
}

func (x *extraction) parent(d *Decl, r rule, name string) {
	second := r.act == realizes
	if r.hook == csBase {
		// C# syntax does not distinguish them. By its convention, names of interfaces begin with I and a capital.
		base := name[strings.LastIndexByte(name, '.')+1:]
		second = d.Kind != Interface && len(base) > 1 && base[0] == 'I' && base[1] >= 'A' && base[1] <= 'Z'
	}
	if second {
		d.Implements = addName(d.Implements, name)
	} else {
		d.Extends = addName(d.Extends, name)
	}
}
