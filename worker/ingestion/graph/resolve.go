package graph

import (
	"path"
	"slices"
	"strings"

	"kijko/worker/ingestion/parse"
)

// maxSteps bounds how many names one resolution may follow: exports of exports, bases of bases.
const maxSteps = 12

// view resolves the names of one file.
type view struct {
	b      *Builder
	file   int32
	info   *fileInfo
	owners map[string]*declared // by qualified name; only while this file's links are made
}

func (b *Builder) view(file int32) *view { return &view{b: b, file: file, info: &b.files[file]} }

// ref is the meaning of a name.
type ref struct {
	kind   uint8
	sym    int32
	file   int32
	prefix string // prefix of the full names of its members
}

const (
	nothing   = iota
	aSymbol   // sym
	aFile     // a module that is a file
	aPackage  // a package or namespace: prefix
	aFolder   // a folder of Python's: prefix is its path
	aCrate    // a Rust crate; its root is a file, and a module without a file of its own has no ref
	isOutside // outside of the project
)

// separators of paths of names. In a call chain all languages have dots at this point.
var separators = strings.NewReplacer("?.", ".", "!.", ".", "->", ".", "::", ".", "\\", ".", "?->", ".")

// segments are the names of a path.
func segments(name string) []string {
	name = separators.Replace(name)
	parts := strings.Split(name, ".")
	kept := parts[:0]
	for _, p := range parts {
		if p = strings.Trim(p, "?!*&$ "); p != "" {
			kept = append(kept, p)
		}
	}
	return kept
}

// caller is the node that a call belongs to: the enclosing function, or the file.
func (v *view) caller(qualified string) int32 {
	for qualified != "" {
		if x, ok := v.owners[qualified]; ok && x.kind == "function" {
			return x.node
		}
		qualified = qualified[:max(0, strings.LastIndexByte(qualified, '.'))]
	}
	return v.info.node
}

// self is the enclosing class of a qualified name, or the owner of its function.
func (v *view) self(qualified string) int32 {
	for qualified != "" {
		up := qualified[:max(0, strings.LastIndexByte(qualified, '.'))]
		x, ok := v.owners[qualified]
		if ok && x.kind == "class" || ok && x.kind == "module" && v.info.family == "ruby" {
			return v.symbol(qualified)
		}
		if ok && (x.decl.Kind == parse.Method || x.decl.Owner != "" || x.inImpl != nil) {
			if c := v.symbol(up); c >= 0 {
				return c
			}
			owner := x.decl.Owner
			if x.inImpl != nil {
				owner = x.inImpl.Name
			}
			if owner != "" {
				return v.b.class(v.file, owner, up, 0)
			}
		}
		qualified = up
	}
	return -1
}

// symbol is the file's declaration with a qualified name.
func (v *view) symbol(qualified string) int32 {
	if qualified == "" {
		return -1
	}
	return v.full(v.info.prefix() + qualified)
}

func (v *view) full(key string) int32 { return v.b.nearest(v.file, v.b.find(key), nil) }

// call finds the target of a call, or -1.
func (v *view) call(c *parse.Call) int32 {
	parts := segments(c.Name)
	if len(parts) == 0 {
		return -1
	}
	last := parts[len(parts)-1]
	via := parts[:len(parts)-1]
	if len(via) > 0 && c.On != parse.OnNothing {
		if !(v.info.family == "ruby" && strings.HasPrefix(via[0], "@")) {
			via = via[1:]
		}
	}
	if c.Last {
		via = nil
	}
	switch {
	case c.On == parse.OnUnknown:
		return -1
	case c.On == parse.OnSelf:
		if len(parts) == 1 && !c.Last { // Rust: Self { ... }, PHP: new self
			return v.callable(ref{kind: aSymbol, sym: v.self(c.Caller)})
		}
		return v.method(v.self(c.Caller), via, last)
	case c.On == parse.OnSuper:
		of := v.self(c.Caller)
		if of < 0 {
			return -1
		}
		for _, base := range v.b.basesOf(of) {
			if len(parts) == 1 && !c.Last {
				return base // super(...)
			}
			if m := v.method(base, via, last); m >= 0 {
				return m
			}
		}
		return -1
	case strings.HasPrefix(c.On, parse.OnType):
		if len(parts) == 1 && !c.Last {
			return -1 // a local variable that is called
		}
		m := v.method(v.b.class(v.file, c.On[1:], c.Caller, 0), via, last)
		if m < 0 && len(via) == 0 {
			m = v.extension(c.On[1:], last)
		}
		return m
	}
	if v.info.family == "php" && (len(parts) > 1 || strings.HasPrefix(c.Name, "\\")) {
		name, method := c.Name, ""
		if !c.New && strings.ContainsAny(c.Name, ".:") {
			name, method = strings.TrimSuffix(c.Name, last), last
		}
		r := v.phpName(strings.TrimRight(name, ".:"), c.Caller, 0)
		if method == "" {
			return v.callable(r)
		}
		if r.kind != aSymbol || v.b.syms[r.sym].kind != isClass {
			return -1
		}
		return v.method(r.sym, nil, method)
	}
	if len(parts) == 1 {
		return v.bare(last, c)
	}
	return v.path(parts, c)
}

// bare finds the target of a call by a single name.
func (v *view) bare(name string, c *parse.Call) int32 {
	switch v.info.family {
	case "java", "csharp", "ruby", "c":
		if c.New {
			break
		}
		if s := v.visible(name, int32(c.Byte)); s >= 0 && v.b.syms[s].to > 0 && v.b.syms[s].kind == isFunction && v.info.family == "csharp" {
			return s // a function inside of the method
		}
		// This searches the class's own methods, those of its bases, and those of the enclosing classes.
		for at := c.Caller; at != ""; at = at[:max(0, strings.LastIndexByte(at, '.'))] {
			x, ok := v.owners[at]
			if !ok || x.kind != "class" && !(x.kind == "module" && v.info.family == "ruby") {
				if !ok || x.decl.Owner == "" || v.info.family != "c" {
					continue
				}
				at2 := v.b.class(v.file, x.decl.Owner, at, 0)
				if m := v.b.member(at2, name, 0); m >= 0 && v.b.syms[m].kind == isFunction {
					return v.constructed(at2, m, name)
				}
				continue
			}
			if m := v.b.member(v.symbol(at), name, 0); m >= 0 && v.b.syms[m].kind == isFunction {
				return v.constructed(v.symbol(at), m, name)
			}
		}
	case "rust":
		if c.Macro {
			return v.macro(name)
		}
	}
	return v.callable(v.head(name, int32(c.Byte), c.Caller, 0))
}

// constructed returns the class itself in place of its constructor, which C++ calls by the name of the class.
func (v *view) constructed(class, method int32, name string) int32 {
	if full := v.b.syms[class].full; v.info.family == "c" && strings.HasSuffix(full, "."+name) {
		return class
	}
	return method
}

// macro finds a Rust macro: one of the file, of a use, or of the crate. A crate's macros are visible in all later code.
func (v *view) macro(name string) int32 {
	for _, e := range v.b.find("v" + itoa(v.file) + " " + name) {
		if v.b.syms[e.sym].macro {
			return e.sym
		}
	}
	found := v.b.find("m " + name)
	if r, ok := v.bound(name, 0); ok {
		if r.kind == aSymbol && v.b.syms[r.sym].macro {
			return r.sym
		}
		for k := range v.info.binds { // use crate::name, where #[macro_export] has put it
			if x := &v.info.binds[k]; x.local == name {
				if f, _ := v.rustPath(segments(x.from), 0); f.kind == aFile {
					return v.b.nearest(f.file, found, func(s *symbol) bool { return s.typ == "export" && v.b.config.rust.same(v.b, s.file, f.file) })
				}
			}
		}
		return -1
	}
	return v.b.nearest(v.file, found, func(s *symbol) bool { return v.b.config.rust.sees(v.b, v.file, s) })
}

// extension finds the C# extension method for a type, by the type's name in the file, in a namespace that the file imports.
func (v *view) extension(typ, name string) int32 {
	if v.info.family != "csharp" || typ == "" {
		return -1
	}
	last := typ[strings.LastIndexByte(typ, '.')+1:]
	return v.b.nearest(v.file, v.b.find("x "+name), func(s *symbol) bool {
		if s.typ[strings.LastIndexByte(s.typ, '.')+1:] != last {
			return false
		}
		space := v.b.files[s.file].space
		if space == v.info.space || space == "" || strings.HasPrefix(v.info.space, space+".") {
			return true
		}
		known := func(list []bind) bool {
			for k := range list {
				if list[k].from == space {
					return true
				}
			}
			return false
		}
		return known(v.info.binds) || known(v.b.globals)
	})
}

// callable is the function or class that a name refers to, or -1.
func (v *view) callable(r ref) int32 {
	if r.kind == aFile && v.info.family == "js" {
		r = v.b.export(r.file, "default", 0)
	}
	if r.kind != aSymbol || r.sym < 0 {
		return -1
	}
	if kind := v.b.syms[r.sym].kind; kind != isFunction && kind != isClass {
		return -1
	}
	return r.sym
}

// path finds the target of a call by a path of names. The path begins with a name that no enclosing function declares.
func (v *view) path(parts []string, c *parse.Call) int32 {
	via, last := parts[1:len(parts)-1], parts[len(parts)-1]
	switch v.info.family {
	case "java", "csharp", "c": // a field of the enclosing class
		if strings.HasPrefix(c.Name, "::") {
			break
		}
		for at := c.Caller; at != ""; at = at[:max(0, strings.LastIndexByte(at, '.'))] {
			of := int32(-1)
			if x, ok := v.owners[at]; ok && x.kind == "class" {
				of = v.symbol(at)
			} else if ok && x.decl.Owner != "" {
				of = v.b.class(v.file, x.decl.Owner, at, 0)
			}
			if of < 0 {
				continue
			}
			if typ, ok := v.b.fieldType(of, parts[0], 0); ok {
				m := v.method(typ, via, last)
				if f, known := v.b.fieldOf(of, parts[0], 0); m < 0 && len(via) == 0 && known {
					m = v.extension(f.typ, last)
				}
				return m
			}
		}
	}
	r, rest := v.begin(parts, int32(c.Byte), c.Caller, 0)
	for _, name := range rest {
		if r = v.b.step(v.file, r, name, 0); r.kind == nothing || r.kind == isOutside {
			return -1
		}
	}
	return v.callable(r)
}

// begin resolves the beginning of a path, and returns the remaining names.
func (v *view) begin(parts []string, at int32, caller string, depth int) (ref, []string) {
	switch v.info.family {
	case "python": // import a.b.c binds the whole path
		for k := len(parts); k > 1; k-- {
			if r, ok := v.bound(strings.Join(parts[:k], "."), depth); ok {
				return r, parts[k:]
			}
		}
	case "js":
		rest := parts
		if parts[0] == "module" {
			rest = parts[1:]
		}
		if len(rest) > 1 && rest[0] == "exports" {
			return ref{kind: aFile, file: v.file}, rest[1:]
		}
	case "rust":
		switch parts[0] {
		case "crate", "super", "self":
			return v.rustPath(parts, depth)
		}
	}
	if v.info.family == "ruby" || v.info.family == "c" { // class A::B, where A itself is not of the project
		for k := len(parts); k > 1; k-- {
			if s := v.full(v.info.scope + strings.Join(parts[:k], ".")); s >= 0 && v.b.syms[s].kind != isFunction {
				return ref{kind: aSymbol, sym: s}, parts[k:]
			}
		}
	}
	return v.head(parts[0], at, caller, depth), parts[1:]
}

// method finds the method of a class that is reached through fields.
func (v *view) method(class int32, via []string, name string) int32 {
	for _, f := range via {
		if class < 0 {
			return -1
		}
		next, ok := v.b.fieldType(class, f, 0)
		if !ok {
			return -1
		}
		class = next
	}
	if class < 0 {
		return -1
	}
	m := v.b.member(class, name, 0)
	if m < 0 && v.info.family == "ruby" && name == "new" && v.b.syms[class].kind == isClass {
		return class
	}
	if m >= 0 && v.b.syms[m].kind == isFunction {
		return m
	}
	return -1
}

// visible finds the file's own declaration of a name that is visible from an offset; -1 for its top level.
func (v *view) visible(name string, at int32) int32 {
	best, size := int32(-1), int32(0)
	for _, e := range v.b.find("v" + itoa(v.file) + " " + name) {
		s := &v.b.syms[e.sym]
		n := s.to - s.from
		if s.to == 0 {
			n = 1 << 30
		} else if at < s.from || at >= s.to {
			continue
		}
		if best < 0 || n < size || n == size && v.b.syms[best].partial || n == size && v.b.syms[best].kind == isVariable && s.kind == isFunction {
			best, size = e.sym, n
		}
	}
	return best
}

// bound resolves a name from an import or an alias of the file. It also returns true for a name that leads out of the project.
func (v *view) bound(name string, depth int) (ref, bool) {
	if depth > maxSteps {
		return ref{}, false
	}
	key := nameKey{v.file, name, ""}
	if r, ok := v.b.given[key]; ok {
		return r, r.kind != nothing
	}
	r, ok := v.findBound(name, depth)
	if !ok {
		r = ref{}
	} else if r.kind == nothing {
		r.kind = isOutside
	}
	if depth < 4 {
		if len(v.b.given) > maxRemembered {
			clear(v.b.given)
		}
		v.b.given[key] = r
	}
	return r, ok
}

func (v *view) findBound(name string, depth int) (ref, bool) {
	// The last import counts, as in code that imports one module or, failing that, another. But a target in the project has precedence.
	out := false
	for k := range v.info.binds {
		x := &v.info.binds[k]
		if x.local != name {
			if v.info.family == "python" && x.name == "" && x.from == x.local && strings.HasPrefix(x.local, name+".") { // import a.b gives a too
				if r := v.b.python(v.file, name); r.kind != nothing {
					return r, true
				}
				out = true
				continue
			}
			if x.local != "" || v.info.family != "go" {
				continue
			}
			if t := v.b.target(v.file, x.from, x.form); t.space != name && !(t.outside() && goName(x.from) == name) {
				continue
			}
		}
		r := v.b.binding(v.file, x, depth+1)
		if r.kind == isOutside {
			out = true
		} else if r.kind != nothing {
			return r, true
		} else {
			out = true
		}
	}
	for k := range v.info.aliases {
		a := &v.info.aliases[k]
		for _, x := range a.Binds {
			if x.Local != name {
				continue
			}
			parts := segments(a.Path)
			if len(parts) == 0 || parts[0] == name {
				continue
			}
			if x.Name != "" {
				parts = append(parts, x.Name)
			}
			r := v.head(parts[0], -1, "", depth+1)
			for _, p := range parts[1:] {
				r = v.b.step(v.file, r, p, depth+1)
			}
			if r.kind != nothing {
				return r, true
			}
		}
	}
	return ref{kind: isOutside}, out
}

// goName is the most likely package name of an import path outside of the project.
func goName(from string) string {
	base := path.Base(from)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(from))
	}
	if k := strings.LastIndex(base, ".v"); k > 0 {
		base = base[:k]
	}
	base = strings.TrimSuffix(strings.TrimPrefix(base, "go-"), "-go")
	return base[strings.LastIndexByte(base, '-')+1:]
}

// wildcards looks a name up in all modules and packages that are imported as a whole.
func (v *view) wildcards(name string, depth int) ref {
	if depth > maxSteps {
		return ref{}
	}
	key := nameKey{v.file, name, ""}
	if r, ok := v.b.wild[key]; ok {
		return r
	}
	try := func(list []bind) (r ref) {
		for k := range list {
			if x := &list[k]; x.name == "*" && x.local == "*" {
				if r = v.b.inside(v.file, x, name, depth+1); r.kind == aSymbol || r.kind == aFile {
					return r
				}
			}
		}
		return ref{}
	}
	if len(v.b.wild) > maxRemembered {
		clear(v.b.wild)
	}
	v.b.wild[key] = ref{} // stops at cycles, and each file is searched once
	r := try(v.info.binds)
	if r.kind == nothing && v.info.family == "csharp" {
		r = try(v.b.globals)
	}
	v.b.wild[key] = r
	return r
}

// head resolves the first name of a path as visible from an offset of the file.
func (v *view) head(name string, at int32, caller string, depth int) ref {
	if depth > maxSteps || name == "" {
		return ref{}
	}
	named := func(key string) (ref, bool) {
		if s := v.full(key); s >= 0 {
			return ref{kind: aSymbol, sym: s}, true
		}
		return ref{}, false
	}
	switch v.info.family {
	case "js", "python", "rust":
		if s := v.visible(name, at); s >= 0 {
			// A variable that holds an import is resolved as the import.
			if v.b.syms[s].kind == isVariable && v.info.family == "js" {
				if r, ok := v.bound(name, depth); ok && r.kind != isOutside {
					return r
				}
			}
			return ref{kind: aSymbol, sym: s}
		}
		if r, ok := v.bound(name, depth); ok {
			return r
		}
		if v.info.family == "rust" {
			if f := v.b.config.rust.child(v.b, v.file, name); f >= 0 {
				return ref{kind: aFile, file: f}
			}
			if f := v.b.config.rust.crate(v.b, v.file, name); f >= 0 {
				return ref{kind: aFile, file: f}
			}
		}
		if v.info.family != "js" {
			return v.wildcards(name, depth)
		}
	case "go":
		if r, ok := named(v.info.scope + name); ok {
			return r
		}
		if r, ok := v.bound(name, depth); ok {
			return r
		}
		return v.wildcards(name, depth)
	case "java", "csharp":
		for in := caller; in != ""; in = in[:max(0, strings.LastIndexByte(in, '.'))] {
			if r, ok := named(v.info.prefix() + in + "." + name); ok && v.b.syms[r.sym].kind == isClass {
				return r
			}
		}
		if v.info.family == "java" {
			if r, ok := v.bound(name, depth); ok {
				return r
			}
			if r, ok := named(v.info.prefix() + name); ok {
				return r
			}
		} else {
			for space := v.info.space; ; space = space[:max(0, strings.LastIndexByte(space, '.'))] {
				if r, ok := named(v.info.scope + strings.TrimPrefix(space+"."+name, ".")); ok && !v.b.syms[r.sym].member {
					return r
				}
				if space == "" {
					break
				}
			}
			if r, ok := v.bound(name, depth); ok {
				return r
			}
		}
		if r := v.wildcards(name, depth); r.kind != nothing {
			return r
		}
		around := strings.Trim(v.info.space+"."+caller, ".")
		if v.info.family == "java" {
			around = ""
		}
		for ; ; around = around[:max(0, strings.LastIndexByte(around, '.'))] {
			if key := v.info.scope + strings.TrimPrefix(around+"."+name, "."); v.b.spaces[key] {
				return ref{kind: aPackage, prefix: key}
			}
			if around == "" {
				break
			}
		}
	case "php":
		if r, ok := v.bound(name, depth); ok {
			return r
		}
		for in := caller; in != ""; in = in[:max(0, strings.LastIndexByte(in, '.'))] { // a namespace as a block
			if s := v.full(v.info.prefix() + strings.ReplaceAll(in, "\\", ".") + "." + name); s >= 0 && !strings.Contains(in, ".") && strings.Contains(in, "\\") {
				return ref{kind: aSymbol, sym: s}
			}
		}
		if r, ok := named(v.info.prefix() + name); ok {
			return r
		}
		if s := v.full(v.info.scope + name); s >= 0 && v.b.syms[s].kind == isFunction {
			return ref{kind: aSymbol, sym: s}
		}
	case "ruby":
		for in := caller; in != ""; in = in[:max(0, strings.LastIndexByte(in, '.'))] {
			if r, ok := named(v.info.scope + in + "." + name); ok && v.b.syms[r.sym].kind != isFunction {
				return r
			}
		}
		if s := v.visible(name, at); s >= 0 {
			return ref{kind: aSymbol, sym: s}
		}
		found := v.b.find(v.info.scope + name)
		if s := v.b.nearest(v.file, found, func(s *symbol) bool { return s.kind != isFunction || v.reaches(s.file) }); s >= 0 {
			return ref{kind: aSymbol, sym: s}
		}
	case "c":
		return v.cName(name, caller)
	case "sql":
		found := v.b.find(v.info.scope + name)
		if len(found) == 1 {
			return ref{kind: aSymbol, sym: found[0].sym}
		}
		if s := v.visible(name, at); s >= 0 {
			return ref{kind: aSymbol, sym: s}
		}
	}
	return ref{}
}

// phpName resolves a PHP name in its written form: from the root, by the import of its first part, or in the namespace of the file.
func (v *view) phpName(name, caller string, depth int) ref {
	parts := segments(name)
	switch {
	case len(parts) == 0:
		return ref{}
	case strings.HasPrefix(name, "\\"):
		return v.phpFull(strings.Join(parts, "."))
	case len(parts) == 1:
		return v.head(parts[0], -1, caller, depth+1)
	case parts[0] == "namespace":
		parts = parts[1:]
	default:
		if r, ok := v.bound(parts[0], depth+1); ok {
			for _, p := range parts[1:] {
				r = v.b.step(v.file, r, p, depth+1)
			}
			return r
		}
	}
	return v.phpFull(strings.Trim(v.info.space+"."+strings.Join(parts, "."), "."))
}

func (v *view) phpFull(name string) ref {
	if s := v.full(v.info.scope + name); s >= 0 {
		return ref{kind: aSymbol, sym: s}
	}
	return ref{}
}

// reaches reports whether this file includes or requires the given file, directly or indirectly, or is the same file.
func (v *view) reaches(file int32) bool { return file == v.file || v.b.closure(v.file)[file] }

// cName finds a name of C or C++: in the enclosing namespaces, in included files, or declared there and defined elsewhere.
func (v *view) cName(name, caller string) ref {
	for in := caller; ; in = in[:max(0, strings.LastIndexByte(in, '.'))] {
		key := v.info.scope + strings.TrimPrefix(in+"."+name, ".")
		if in == name || strings.HasSuffix(in, "."+name) {
			continue // a constructor
		}
		if r := v.cPick(v.b.find(key)); r.kind != nothing {
			return r
		}
		if in == "" {
			break
		}
	}
	// Namespaces of using directives are not followed. A name that exists in only one of the included namespaces is unambiguous.
	found := v.b.find("n " + name)
	var one []entry
	for _, e := range found {
		s := &v.b.syms[e.sym]
		if v.reaches(s.file) && (s.kind == isClass || !s.member) {
			if len(one) > 0 && v.b.syms[one[0].sym].full != s.full {
				return ref{}
			}
			one = append(one, e)
		}
	}
	return v.cPick(one)
}

func (v *view) cPick(found []entry) ref {
	if len(found) == 0 {
		return ref{}
	}
	seen := false
	declared := map[string]bool{} // stems of the headers that declare it
	var headers []int32
	for _, e := range found {
		s := &v.b.syms[e.sym]
		if s.file == v.file && !s.partial {
			return ref{kind: aSymbol, sym: e.sym}
		}
		if v.reaches(s.file) {
			seen = true
			if s.file != v.file {
				declared[stem(v.b.paths[s.file])] = true
				headers = append(headers, s.file)
			}
		}
	}
	if !seen {
		return ref{}
	}
	best, score, tie := int32(-1), -1, false
	for _, e := range found {
		if v.b.syms[e.sym].kind == isModule {
			return ref{kind: aSymbol, sym: e.sym}
		}
	}
	for _, e := range found {
		s := &v.b.syms[e.sym]
		if s.private && !v.reaches(s.file) {
			continue
		}
		if (s.partial || s.kind == isClass) && !v.reaches(s.file) {
			continue
		}
		// A definition in another file belongs to a header's declaration if that file includes the header.
		if !v.reaches(s.file) && len(headers) > 0 && !declared[stem(v.b.paths[s.file])] {
			known := v.b.closure(s.file)
			if !slices.ContainsFunc(headers, func(h int32) bool { return known[h] }) {
				continue
			}
		}
		n := commonDirs(v.b.paths[v.file], v.b.paths[s.file])
		if s.partial {
			n -= 1000
		} else if declared[stem(v.b.paths[s.file])] {
			n += 1000
		}
		if best < 0 || n > score {
			best, score, tie = e.sym, n, false
		} else if n == score && !s.partial {
			tie = true
		}
	}
	if tie { // the program that it belongs to is unknown: the header's declaration is right for all
		for _, e := range found {
			if s := &v.b.syms[e.sym]; s.partial && v.reaches(s.file) {
				return ref{kind: aSymbol, sym: e.sym}
			}
		}
		return ref{}
	}
	if best < 0 {
		return ref{}
	}
	return ref{kind: aSymbol, sym: best}
}

func stem(name string) string {
	base := path.Base(name)
	if k := strings.LastIndexByte(base, '.'); k > 0 {
		base = base[:k]
	}
	return base
}

// step resolves a name inside the target of another name.
func (b *Builder) step(file int32, r ref, name string, depth int) ref {
	if depth > maxSteps {
		return ref{}
	}
	switch r.kind {
	case aSymbol:
		s := &b.syms[r.sym]
		if s.kind == isVariable && s.typ != "" {
			if c := b.class(s.file, s.typ, "", depth+1); c >= 0 {
				if m := b.member(c, name, 0); m >= 0 {
					return ref{kind: aSymbol, sym: m}
				}
				if c2, ok := b.fieldType(c, name, 0); ok && c2 >= 0 {
					return ref{kind: aSymbol, sym: c2}
				}
			}
			return ref{}
		}
		if m := b.member(r.sym, name, 0); m >= 0 {
			return ref{kind: aSymbol, sym: m}
		}
		if b.files[s.file].family == "ruby" && name == "new" && s.kind == isClass {
			return r
		}
		if s.kind == isModule && s.full != "" {
			return b.named(file, s.full+"."+name)
		}
	case aFile:
		x := b.export(r.file, name, depth+1)
		if x.kind == nothing && b.files[r.file].family == "js" {
			if d := b.export(r.file, "default", depth+1); d.kind == aSymbol {
				return b.step(file, d, name, depth+1)
			}
		}
		return x
	case aPackage:
		return b.packaged(file, r.prefix, name)
	case aFolder:
		return b.pythonChild(r.prefix, name)
	}
	return ref{}
}

func (b *Builder) named(file int32, full string) ref {
	if s := b.nearest(file, b.find(full), nil); s >= 0 {
		return ref{kind: aSymbol, sym: s}
	}
	return ref{}
}

// packaged finds a name of a package.
func (b *Builder) packaged(file int32, prefix, name string) ref {
	key := prefix + name
	if !strings.HasSuffix(prefix, "\x00") {
		key = prefix + "." + name
	}
	if s := b.nearest(file, b.find(key), func(s *symbol) bool { return s.kind != isModule }); s >= 0 {
		return ref{kind: aSymbol, sym: s}
	}
	if b.spaces[key] {
		return ref{kind: aPackage, prefix: key}
	}
	return ref{}
}

type memberKey struct {
	class int32
	name  uint64
}

// member finds a member of a class, or of another declaration with members, in itself and in its bases.
func (b *Builder) member(class int32, name string, depth int) int32 {
	if class < 0 || depth > maxSteps {
		return -1
	}
	s := &b.syms[class]
	best := int32(-1)
	if s.full != "" {
		best = b.nearest(s.file, b.find(s.full+"."+name), nil)
	}
	if m, ok := b.members[memberKey{class, hash(name)}]; ok && (best < 0 || b.syms[best].partial) {
		best = m
	}
	if best >= 0 {
		return best
	}
	for _, base := range b.basesOf(class) {
		if base != class {
			if m := b.member(base, name, depth+1); m >= 0 {
				return m
			}
		}
	}
	return -1
}

// fieldOf finds a field of a class or of its bases, if its type is known.
func (b *Builder) fieldOf(class int32, name string, depth int) (field, bool) {
	if class < 0 || depth > maxSteps || b.syms[class].full == "" {
		return field{}, false
	}
	s := &b.syms[class]
	if f, ok := b.fields[fieldKey(s.full, name)]; ok {
		if own, ok := b.fields[fieldKey(s.full, name+"\x01"+itoa(s.file))]; ok && f.file != s.file {
			return own, true
		}
		return f, true
	}
	if m := b.nearest(s.file, b.find(s.full+"."+name), nil); m >= 0 && b.syms[m].kind == isVariable {
		return field{file: b.syms[m].file}, true
	}
	for _, base := range b.basesOf(class) {
		if f, ok := b.fieldOf(base, name, depth+1); ok && base != class {
			return f, true
		}
	}
	return field{}, false
}

// fieldType is the class of a field, or -1 if the type is not in the project; ok reports that the field exists.
func (b *Builder) fieldType(class int32, name string, depth int) (int32, bool) {
	f, ok := b.fieldOf(class, name, depth)
	if !ok {
		return -1, false
	}
	return b.class(f.file, f.typ, f.around, depth+1), true
}

// basesOf are the project classes that a class extends, implements or mixes in.
func (b *Builder) basesOf(class int32) []int32 {
	if list, ok := b.bases[class]; ok {
		return list
	}
	b.bases[class] = nil // stops at cycles
	var list []int32
	s := &b.syms[class]
	for _, p := range b.parents[s.full] {
		v := b.view(p.file)
		if c := v.parentOf(strings.TrimPrefix(s.full, v.info.prefix()), p.name); c >= 0 && c != class {
			list = append(list, c)
		}
	}
	b.bases[class] = list
	return list
}

// parentClass finds the class that a declaration of the file names as its parent.
func (v *view) parentClass(d *parse.Decl, name string) int32 {
	c := v.parentOf(d.Qualified, name)
	if c >= 0 && v.symbol(d.Qualified) == c {
		return -1
	}
	return c
}

// parentOf resolves a parent from outside the class, not from inside it.
func (v *view) parentOf(qualified, name string) int32 {
	around := qualified[:max(0, strings.LastIndexByte(qualified, '.'))]
	return v.classIn(name, around, 0)
}

// class finds the class that a type name in a file refers to, as visible from inside its enclosing declaration, or -1.
func (b *Builder) class(file int32, name, around string, depth int) int32 {
	if name == "" || depth > maxSteps {
		return -1
	}
	switch b.files[file].family {
	case "js", "python", "go", "rust":
		around = ""
	}
	key := nameKey{file, name, around}
	if c, ok := b.classes[key]; ok {
		return c
	}
	c := b.view(file).classIn(name, around, depth)
	if depth < 4 {
		if len(b.classes) > maxRemembered {
			clear(b.classes)
		}
		b.classes[key] = c
	}
	return c
}

func (v *view) classIn(name, around string, depth int) int32 {
	if depth > maxSteps || name == "self" {
		return -1
	}
	parts := segments(name)
	if len(parts) == 0 {
		return -1
	}
	var r ref
	var rest []string
	if v.info.family == "php" {
		r = v.phpName(name, around, depth)
	} else {
		r, rest = v.begin(parts, -1, around, depth+1)
	}
	for _, p := range rest {
		r = v.b.step(v.file, r, p, depth+1)
	}
	if r.kind == aFile && v.info.family == "js" {
		r = v.b.export(r.file, "default", depth+1)
	}
	if r.kind != aSymbol || r.sym < 0 {
		return -1
	}
	switch s := &v.b.syms[r.sym]; s.kind {
	case isClass:
		return r.sym
	case isFunction:
		if v.info.family == "js" { // a function that creates objects
			return r.sym
		}
	case isModule:
		if v.info.family == "ruby" {
			return r.sym
		}
	case isVariable:
		if v.info.family == "js" && s.typ == "" {
			return r.sym // an object with members
		}
	}
	return -1
}
