package graph

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"kijko/worker/ingestion/parse"
)

const (
	// MaxDecls bounds the declarations that names resolve to, at some 200 bytes each including their tables.
	MaxDecls = 1_000_000
	// maxModules bounds the nodes of modules outside of the project.
	maxModules = 100_000
	// maxPackageFiles bounds how many files of a package one import of the package links to.
	maxPackageFiles = 50
)

// Node is a node of the graph. Its number is its place among all nodes that were given.
type Node struct {
	Kind       string // file, module, class, function, variable
	Name       string
	Qualified  string // path, or path#Class.method
	File       int    // number of the file, -1 for modules
	Start, End int
	Decl       *parse.Decl
	Language   string // of files
	External   bool   // a module outside of the project

	// Of declarations: the names of those around it and its own, unique in the file together with Kind; the declaration around it; and the
	// node that contains it.
	Symbol string
	Parent *parse.Decl
	Above  int32
}

// Edge is a link between two nodes.
type Edge struct {
	From, To int32
	Kind     string // contains, imports, calls, extends, implements
}

const (
	isFunction = iota
	isClass
	isVariable
	isModule
)

// symbol is a declaration in the form that name resolution uses.
type symbol struct {
	full     string // scope and qualified name; empty where nothing can be inside
	typ      string // declared type of a variable
	file     int32
	node     int32
	from, to int32 // where in the file it is seen; 0, 0 for everywhere
	kind     uint8
	member   bool // visible only through its owner
	partial  bool // a signature without a body
	private  bool // visible in its file only
	macro    bool
}

// entry leads from a key to a symbol.
type entry struct {
	key uint64
	sym int32
}

// bind is a name that an import adds to a file.
type bind struct{ local, name, from, form string }

// fileInfo is the data that is kept of a file.
type fileInfo struct {
	family  string
	scope   string // prefix of the full names of its declarations
	space   string // package or namespace
	node    int32
	added   bool
	binds   []bind
	exports []parse.Export
	aliases []parse.Alias
	test    bool
}

// parent is a type that a class extends or implements, as written in a file.
type parent struct {
	file int32
	name string
	kind string // extends, implements, mixin
}

// Builder makes the graph of a project.
type Builder struct {
	paths  []string
	dirs   []string
	files  []fileInfo
	tree   tree
	next   int32
	syms   []symbol
	index  []entry
	spaces map[string]bool // namespaces that files declare, and those around them

	parents  map[string][]parent // by full name of the class
	fields   map[uint64]field
	foreign  []foreign
	words    map[string]string
	modules  map[string]int32
	dirNodes map[string]int32

	config   config
	globals  []bind // C#'s global usings
	targets  map[targetKey]target
	closures map[int32]map[int32]bool
	bases    map[int32][]int32
	goTypes  goTypes
	members  map[memberKey]int32
	classes  map[nameKey]int32 // resolved type names of files
	given    map[nameKey]ref   // resolved names that imports add
	wild     map[nameKey]ref   // resolved names from imports of a whole package
}

// nameKey is a name in a file.
type nameKey struct {
	file         int32
	name, around string
}

// maxRemembered bounds the cached resolutions.
const maxRemembered = 100_000

type field struct {
	typ    string
	around string // class that has it, as its file qualifies it
	file   int32
}

// foreign is a member of a type that its file does not declare.
type foreign struct {
	sym   int32
	owner string
	name  string
}

// New begins the graph of files with these paths.
func New(paths []string) *Builder {
	b := &Builder{paths: paths, files: make([]fileInfo, len(paths)), spaces: map[string]bool{}, parents: map[string][]parent{}, fields: map[uint64]field{},
		words: map[string]string{}, modules: map[string]int32{}, dirNodes: map[string]int32{}, targets: map[targetKey]target{},
		closures: map[int32]map[int32]bool{}, bases: map[int32][]int32{}, members: map[memberKey]int32{}, classes: map[nameKey]int32{}, wild: map[nameKey]ref{}, given: map[nameKey]ref{}}
	b.dirs = make([]string, len(paths))
	for i, name := range paths {
		b.dirs[i] = path.Dir(name)
	}
	b.tree.build(paths)
	b.config.init()
	return b
}

// familyOf returns the group of languages that may call each other.
func familyOf(language string) string {
	switch language {
	case "typescript", "tsx", "javascript":
		return "js"
	case "c", "cpp":
		return "c"
	case "go", "python", "java", "rust", "csharp", "php", "ruby", "sql":
		return language
	}
	return ""
}

// word interns a string: it keeps one copy.
func (b *Builder) word(s string) string {
	if w, ok := b.words[s]; ok {
		return w
	}
	s = strings.Clone(s)
	b.words[s] = s
	return s
}

func hash(s string) uint64 { return xxhash.Sum64String(s) }

// NodeKind maps a declaration to the graph's kinds; empty if the declaration is no node.
func NodeKind(k parse.Kind) string {
	switch k {
	case parse.Function, parse.Method:
		return "function"
	case parse.Class, parse.Interface, parse.Struct, parse.Enum, parse.Type:
		return "class"
	case parse.Module:
		return "module"
	case parse.Variable:
		return "variable"
	}
	return ""
}

// declared is a declaration of a file with its place in the graph.
type declared struct {
	decl   *parse.Decl
	kind   string
	above  int32 // node that contains it
	node   int32
	parent *parse.Decl // declaration around it, groups passed over
	inImpl *parse.Decl
	impl   bool // the declaration is a block of methods, no node
}

// plan numbers the nodes of a file: declarations of the same kind and name are one node, as overloads and accessors are.
func plan(f *parse.File, first int32, name string) (all []declared, nodes []Node) {
	taken := map[string]int{} // kind and qualified name -> index into nodes
	count := map[string]int{}
	add := func(d, parent *parse.Decl, above int32, kind, qualified, short string, start, end int) int32 {
		key := kind + "#" + qualified
		at, ok := taken[key]
		if !ok && kind == "function" {
			at, ok = taken["variable#"+qualified]
		} else if !ok && kind == "variable" {
			at, ok = taken["function#"+qualified]
		}
		if ok {
			n := &nodes[at]
			if n.Kind == "variable" && kind == "function" || n.Kind == kind && n.Decl != nil && n.Decl.Partial && d != nil && !d.Partial {
				n.Kind, n.Start, n.End, n.Decl, n.Parent = kind, start, end, d, parent
			}
			taken[key] = at
			return first + int32(at)
		}
		unique := name + "#" + qualified
		if n := count[qualified]; n > 0 {
			unique += "~" + strconv.Itoa(n)
		}
		count[qualified]++
		taken[key] = len(nodes)
		nodes = append(nodes, Node{Kind: kind, Name: short, Qualified: unique, Start: start, End: end, Decl: d, Symbol: qualified, Parent: parent, Above: above})
		return first + int32(len(nodes)-1)
	}
	var walk func(ds []parse.Decl, above int32, parent, impl *parse.Decl)
	walk = func(ds []parse.Decl, above int32, parent, impl *parse.Decl) {
		for i := range ds {
			d := &ds[i]
			kind := NodeKind(d.Kind)
			if len(d.Children) > 0 && d.Children[0].NameByte == d.NameByte && d.Children[0].Qualified == d.Qualified {
				walk(d.Children, above, parent, impl) // several declarations of one statement
				continue
			}
			if d.Kind == parse.Impl {
				all = append(all, declared{decl: d, impl: true, parent: parent, above: above})
				walk(d.Children, above, d, d)
				continue
			}
			at, in := above, parent
			if kind != "" && d.Name != "" {
				at, in = add(d, parent, above, kind, d.Qualified, d.Name, d.StartLine, d.EndLine), d
				all = append(all, declared{decl: d, kind: kind, above: above, node: at, parent: parent, inImpl: impl})
				for k := range d.Methods {
					m := &d.Methods[k]
					made := &parse.Decl{Kind: parse.Method, Name: m.Name, Qualified: d.Qualified + "." + m.Name, StartLine: m.Line, EndLine: m.Line, Partial: true, Scope: d.Scope}
					all = append(all, declared{decl: made, kind: "function", above: at, parent: d,
						node: add(made, d, at, "function", made.Qualified, m.Name, m.Line, m.Line)})
				}
			}
			walk(d.Children, at, in, nil)
		}
	}
	walk(f.Decls, first-1, nil, nil)
	return all, nodes
}

// Add takes a file and returns its nodes: first the file, then its declarations.
func (b *Builder) Add(i int, f *parse.File) []Node {
	name := b.paths[i]
	info := &b.files[i]
	info.family, info.node, info.added = familyOf(f.Language), b.next, true
	info.test = isTest(name)
	info.space = b.word(strings.Trim(strings.ReplaceAll(strings.ReplaceAll(f.Package, "\\", "."), "::", "."), "."))
	info.scope = b.scope(i, info)
	all, nodes := plan(f, b.next+1, name)
	for k := range nodes {
		nodes[k].File = i
	}
	nodes = append([]Node{{Kind: "file", Name: path.Base(name), Qualified: name, File: i, Start: 1, End: f.Lines, Language: f.Language}}, nodes...)
	b.next += int32(len(nodes))
	for _, imp := range f.Imports {
		for _, x := range imp.Binds {
			from := x.From
			if from == "" {
				from = imp.Path
			}
			one := bind{b.word(x.Local), b.word(x.Name), b.word(from), b.word(imp.Form)}
			info.binds = append(info.binds, one)
			if info.family == "csharp" && strings.HasPrefix(imp.Form, "global") && len(b.globals) < 1000 {
				b.globals = append(b.globals, one)
			}
		}
	}
	info.exports, info.aliases = f.Exports, f.Aliases
	if info.family == "" {
		return nodes
	}
	b.declareSpace(info)
	for k := range all {
		if len(b.syms) >= MaxDecls {
			break
		}
		b.declare(i, info, &all[k])
	}
	return nodes
}

func isTest(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, "_test.go") || strings.Contains("/"+name, "/test/") || strings.Contains("/"+name, "/tests/") ||
		strings.Contains(base, ".test.") || strings.Contains(base, ".spec.") || strings.HasPrefix(base, "test_")
}

// scope is where the names of a file are declared: its package, the namespaces of its language, or the file itself.
func (b *Builder) scope(i int, info *fileInfo) string {
	switch info.family {
	case "go":
		return b.word("go " + path.Dir(b.paths[i]) + " " + info.space + "\x00")
	case "java", "csharp", "php", "ruby", "c", "sql":
		return info.family + "\x00"
	}
	return "#" + strconv.Itoa(i) + "\x00"
}

// prefix is the scope and namespace of the file's top level.
func (info *fileInfo) prefix() string {
	switch info.family {
	case "java", "csharp", "php":
		if info.space != "" {
			return info.scope + info.space + "."
		}
	}
	return info.scope
}

func (b *Builder) declareSpace(info *fileInfo) {
	if info.family == "java" || info.family == "csharp" || info.family == "php" {
		b.addSpace(info.scope, info.space)
	}
}

func (b *Builder) addSpace(scope, space string) {
	for space != "" && !b.spaces[scope+space] {
		b.spaces[scope+space] = true
		space = space[:max(0, strings.LastIndexByte(space, '.'))]
	}
}

func (b *Builder) enter(key string, sym int32) { b.index = append(b.index, entry{hash(key), sym}) }

// declare registers a declaration for name resolution.
func (b *Builder) declare(i int, info *fileInfo, x *declared) {
	d := x.decl
	full := strings.ReplaceAll(info.prefix()+d.Qualified, "\\", ".")
	if x.impl {
		for _, name := range d.Implements {
			b.foreign = append(b.foreign, foreign{-1 - int32(i), b.word(d.Name), b.word(name)})
		}
		return
	}
	s := symbol{file: int32(i), node: x.node, partial: d.Partial}
	switch x.kind {
	case "class":
		s.kind = isClass
	case "variable":
		s.kind, s.typ = isVariable, b.word(d.Type)
	case "module":
		s.kind = isModule
	}
	if s.kind == isClass || s.kind == isModule || info.family == "js" && d.Scope.EndByte == 0 {
		s.full = full
	}
	if d.Scope.EndByte > 0 {
		s.from, s.to = int32(d.Scope.StartByte), int32(d.Scope.EndByte)
	}
	s.member = d.Kind == parse.Method || d.Owner != ""
	if p := x.parent; p != nil {
		switch NodeKind(p.Kind) {
		case "class", "variable":
			s.member = true
		case "module":
			if s.member = s.member || info.family != "js" && info.family != "rust"; s.to == 0 { // seen inside the module
				s.from, s.to = int32(p.StartByte), int32(p.EndByte)
			}
		}
		if p.Kind == parse.Impl {
			s.member = true
		}
	}
	if s.kind == isFunction && d.Type != "" {
		s.typ = b.word(d.Type)
		b.enter("x "+d.Name, int32(len(b.syms)))
	}
	if info.family == "rust" && strings.HasPrefix(d.Signature, "macro_rules!") {
		s.macro = true
		b.enter("m "+d.Name, int32(len(b.syms)))
	}
	s.private = info.family == "c" && s.kind == isFunction && strings.HasPrefix(d.Signature, "static ")
	at := int32(len(b.syms))
	b.syms = append(b.syms, s)
	if s.kind == isModule && (info.family == "csharp" || info.family == "php" || info.family == "c" || info.family == "ruby") {
		b.addSpace(info.scope, strings.ReplaceAll(d.Qualified, "\\", "."))
	}
	b.enter(full, at)
	if !s.member {
		b.enter("v"+strconv.Itoa(i)+" "+d.Name, at)
	}
	if info.family == "c" && s.kind != isVariable && strings.Contains(d.Qualified, ".") {
		b.enter("n "+d.Name, at)
	}
	switch s.kind {
	case isClass, isModule:
		for _, name := range d.Extends {
			b.parents[full] = append(b.parents[full], parent{int32(i), b.word(name), "extends"})
		}
		for _, name := range d.Implements {
			b.parents[full] = append(b.parents[full], parent{int32(i), b.word(name), "implements"})
		}
		for _, name := range d.Mixins {
			b.parents[full] = append(b.parents[full], parent{int32(i), b.word(name), "mixin"})
		}
		for _, f := range d.Fields {
			b.addField(full, f.Name, f.Type, int32(i))
		}
		if info.family == "go" {
			b.goTypes.class(at, d)
		}
	case isVariable:
		if k := strings.LastIndexByte(full, '.'); k > 0 && d.Type != "" && x.parent != nil {
			b.addField(full[:k], d.Name, d.Type, int32(i))
		}
	case isFunction:
		for _, f := range d.Fields { // functions that create objects
			b.addField(full, f.Name, f.Type, int32(i))
		}
		if info.family == "go" && d.Owner != "" {
			b.goTypes.method(info.scope+d.Owner, d.Name)
		}
	}
	owner := d.Owner
	if x.inImpl != nil {
		owner = x.inImpl.Name
	}
	if owner != "" && owner != "{}" && owner != "exports" && info.family != "go" {
		b.foreign = append(b.foreign, foreign{at, b.word(owner), b.word(d.Name)})
	}
}

func fieldKey(class, name string) uint64 { return hash(class + "\x01" + name) }

func (b *Builder) addField(class, name, typ string, file int32) {
	key := fieldKey(class, name)
	if old, ok := b.fields[key]; ok && old.file != file { // a class of the same name elsewhere
		key = fieldKey(class, name+"\x01"+strconv.Itoa(int(file)))
	}
	if _, ok := b.fields[key]; !ok && len(b.fields) < MaxDecls {
		b.fields[key] = field{b.word(typ), b.word(strings.TrimPrefix(class, b.files[file].prefix())), file}
	}
}

// Seal ends the adding of files. It returns the nodes of package directories.
func (b *Builder) Seal() []Node {
	slices.SortFunc(b.index, func(x, y entry) int { return cmp.Or(cmp.Compare(x.key, y.key), cmp.Compare(x.sym, y.sym)) })
	b.config.seal(b)
	b.tree.seal(b)
	for _, f := range b.foreign {
		if f.sym < 0 { // Rust: impl Trait for Type
			file := -1 - f.sym
			if c := b.class(file, f.owner, "", 0); c >= 0 {
				full := b.syms[c].full
				b.parents[full] = append(b.parents[full], parent{file, f.name, "implements"})
			}
			continue
		}
		s := &b.syms[f.sym]
		if c := b.class(s.file, f.owner, "", 0); c >= 0 {
			key := memberKey{c, hash(f.name)}
			if old, ok := b.members[key]; !ok || b.syms[old].partial {
				b.members[key] = f.sym
			}
		}
	}
	b.foreign = nil
	clear(b.bases) // cached while types still got members and parents
	clear(b.classes)
	clear(b.wild)
	clear(b.given)
	b.words = nil
	b.goTypes.seal(b)
	var dirs []string
	packages := map[string]bool{}
	for i := range b.files {
		info := &b.files[i]
		dir := path.Dir(b.paths[i])
		if info.added && !packages[dir] && (info.family == "go" || info.family == "java" || info.family == "python" && b.tree.has(path.Join(dir, "__init__.py"))) {
			packages[dir] = true
			dirs = append(dirs, dir)
		}
	}
	var nodes []Node
	for _, dir := range dirs {
		b.dirNodes[dir] = b.next
		b.next++
		nodes = append(nodes, Node{Kind: "module", Name: dir, Qualified: dir + "/", File: -1})
	}
	return nodes
}

// find returns the symbols of a key.
func (b *Builder) find(key string) []entry {
	h := hash(key)
	at, ok := slices.BinarySearchFunc(b.index, h, func(e entry, h uint64) int { return cmp.Compare(e.key, h) })
	if !ok {
		return nil
	}
	end := at
	for end < len(b.index) && b.index[end].key == h {
		end++
	}
	return b.index[at:end]
}

// nearest picks among declarations of one full name: one with a body, not in a test, near the file with the reference.
func (b *Builder) nearest(file int32, found []entry, fits func(*symbol) bool) int32 {
	best, score := int32(-1), -1
	for k, e := range found {
		if k > 256 {
			break
		}
		s := &b.syms[e.sym]
		if fits != nil && !fits(s) {
			continue
		}
		n := 4 * commonDirs(b.paths[file], b.paths[s.file])
		if s.file == file {
			n += 2
		}
		if !s.partial {
			n += 4000
		}
		if !b.files[s.file].test || b.files[file].test {
			n++
		}
		if n > score {
			best, score = e.sym, n
		}
	}
	return best
}

// commonDirs counts the leading directories that two paths share.
func commonDirs(a, b string) (n int) {
	for k := 0; k < len(a) && k < len(b) && a[k] == b[k]; k++ {
		if a[k] == '/' {
			n++
		}
	}
	return n
}

// Links counts the links that begin in a file, and returns the modules outside of the project that the file is the first to
// import.
func (b *Builder) Links(i int, f *parse.File) (map[Edge]int32, []Node) {
	found := map[Edge]int32{}
	info := &b.files[i]
	link := func(from, to int32, kind string) {
		if from != to {
			found[Edge{from, to, kind}]++
		}
	}
	if n, ok := b.dirNodes[path.Dir(b.paths[i])]; ok && (info.family == "go" || info.family == "java" || info.family == "python") {
		link(n, info.node, "contains")
	}
	all, _ := plan(f, info.node+1, b.paths[i])
	v := &view{b: b, file: int32(i), info: info, owners: map[string]*declared{}}
	for k := range all {
		x := &all[k]
		if x.impl {
			continue
		}
		if old, ok := v.owners[x.decl.Qualified]; !ok || old.decl.Partial {
			v.owners[x.decl.Qualified] = x
		}
		if found[Edge{x.above, x.node, "contains"}] == 0 {
			link(x.above, x.node, "contains")
		}
	}
	if info.family == "" {
		return found, nil
	}
	for k := range all {
		x := &all[k]
		if x.kind != "class" && x.kind != "module" {
			continue
		}
		for kind, names := range map[string][]string{"extends": x.decl.Extends, "implements": x.decl.Implements} {
			for _, name := range names {
				if c := v.parentClass(x.decl, name); c >= 0 && b.syms[c].kind == isClass {
					link(x.node, b.syms[c].node, kind)
				}
			}
		}
	}
	for k := range all {
		if x := &all[k]; x.impl {
			for _, name := range x.decl.Implements {
				of, trait := b.class(int32(i), x.decl.Name, "", 0), b.class(int32(i), name, "", 0)
				if of >= 0 && trait >= 0 {
					link(b.syms[of].node, b.syms[trait].node, "implements")
				}
			}
		}
	}
	for from, to := range b.goTypes.implements(int32(i)) {
		for _, t := range to {
			if found[Edge{from, t, "extends"}] == 0 {
				link(from, t, "implements")
			}
		}
	}
	nodes := b.importLinks(v, f, link)
	for k := range f.Calls {
		c := &f.Calls[k]
		if to := v.call(c); to >= 0 {
			link(v.caller(c.Caller), b.syms[to].node, "calls")
		}
	}
	return found, nodes
}
