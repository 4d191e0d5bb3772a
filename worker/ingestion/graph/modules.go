package graph

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"kijko/worker/ingestion/parse"
)

func itoa(n int32) string { return strconv.Itoa(int(n)) }

// tree holds the existing files and directories.
type tree struct {
	byName map[string]int32
	inDir  map[string][]int32
	byStem map[string][]int32 // last segment without its ending
	below  map[string][]string
	goDirs map[string][]int32 // Go files that are no tests, by directory
	py     []string           // directories in which Python imports may begin
	spaces map[string][]int32 // files of a namespace or package
}

func (t *tree) build(paths []string) {
	t.byName = make(map[string]int32, len(paths))
	t.inDir, t.byStem, t.below, t.goDirs, t.spaces = map[string][]int32{}, map[string][]int32{}, map[string][]string{}, map[string][]int32{}, map[string][]int32{}
	known := map[string]bool{}
	for i, name := range paths {
		t.byName[name] = int32(i)
		dir := path.Dir(name)
		s := strings.ToLower(stem(name))
		t.byStem[s] = append(t.byStem[s], int32(i))
		if t.inDir[dir] == nil {
			for d := dir; d != "." && d != "/"; d = path.Dir(d) {
				up := path.Dir(d)
				if known[d] {
					break
				}
				known[d] = true
				t.below[up] = append(t.below[up], d)
			}
		}
		t.inDir[dir] = append(t.inDir[dir], int32(i))
	}
}

func (t *tree) has(name string) bool { _, ok := t.byName[name]; return ok }

func (t *tree) file(name string) int32 {
	if i, ok := t.byName[name]; ok {
		return i
	}
	return -1
}

func (t *tree) subdirs(dir string) []string { return t.below[dir] }

func (t *tree) isDir(dir string) bool { return t.inDir[dir] != nil || t.below[dir] != nil }

func (t *tree) seal(b *Builder) {
	roots := map[string]bool{}
	for i := range b.files {
		info := &b.files[i]
		if !info.added {
			continue
		}
		name := b.paths[i]
		dir := path.Dir(name)
		switch info.family {
		case "go":
			if !strings.HasSuffix(name, "_test.go") {
				t.goDirs[dir] = append(t.goDirs[dir], int32(i))
			}
		case "python":
			if path.Base(name) == "__init__.py" && !t.has(path.Join(path.Dir(dir), "__init__.py")) {
				roots[path.Dir(dir)] = true
			}
			if k := strings.Index("/"+name, "/src/"); k >= 0 {
				roots[strings.Trim(name[:k]+"/src", "/")] = true
			}
		case "java", "csharp", "php":
			t.spaces[info.scope+info.space] = append(t.spaces[info.scope+info.space], int32(i))
		}
	}
	for r := range roots {
		t.py = append(t.py, r)
	}
	slices.Sort(t.py)
	t.py = t.py[:min(len(t.py), 100)]
	b.guessGo()
}

// targetKey holds all inputs that the target of an import depends on.
type targetKey struct {
	from         string // directory or file that imports
	path         string
	family, form string
}

// target is the target of an import: files, or a declaration in files.
type target struct {
	found ref
	files []int32
	space string // name that a package of Go declares
}

func (t *target) outside() bool { return t.found.kind == nothing && len(t.files) == 0 }

// target resolves the path of an import.
func (b *Builder) target(file int32, imported, form string) *target {
	info := &b.files[file]
	key := targetKey{b.dirs[file], imported, info.family, form}
	if info.family == "rust" {
		key.from = b.paths[file]
	}
	if t, ok := b.targets[key]; ok {
		return &t
	}
	b.targets[key] = target{} // stops at cycles
	t := b.resolve(file, info, imported, form)
	b.targets[key] = t
	return &t
}

func (b *Builder) resolve(file int32, info *fileInfo, imported, form string) (t target) {
	one := func(i int32) target {
		if i == unclear {
			return target{found: ref{kind: aFolder}}
		}
		if i < 0 {
			return target{}
		}
		return target{found: ref{kind: aFile, file: i}, files: []int32{i}}
	}
	switch info.family {
	case "js":
		return one(b.script(file, imported))
	case "python":
		if r := b.python(file, imported); r.kind == aFile {
			return one(r.file)
		} else if r.kind != nothing {
			return target{found: r}
		}
	case "go":
		dir, ok := b.goDir(file, imported)
		if !ok {
			return target{}
		}
		files := b.tree.goDirs[dir]
		t.space = b.files[files[0]].space
		for _, f := range files { // a directory may contain a program that is built on its own
			if s := b.files[f].space; s != "main" && t.space == "main" {
				t.space = s
			}
		}
		for _, f := range files {
			if b.files[f].space == t.space && len(t.files) < maxPackageFiles {
				t.files = append(t.files, f)
			}
		}
		t.found = ref{kind: aPackage, prefix: b.files[t.files[0]].scope}
	case "java", "csharp", "php":
		name := strings.Trim(strings.ReplaceAll(imported, "\\", "."), ".")
		name = strings.TrimPrefix(name, "global::")
		if info.family == "php" && form == "file" {
			return one(b.included(file, imported))
		}
		name, all := strings.CutSuffix(name, ".*")
		return b.space(file, info, name, all || info.family == "csharp", form)
	case "rust":
		r, rest := b.view(file).rustPath(segments(imported), 0)
		for _, p := range rest {
			next := b.step(file, r, p, 0)
			if next.kind == nothing && r.kind == aFile {
				break // a variant, a constant, or the output of a macro
			}
			if next.kind == isOutside {
				return target{}
			}
			r = next
		}
		switch r.kind {
		case aFile:
			return one(r.file)
		case aSymbol:
			return target{found: r, files: []int32{b.syms[r.sym].file}}
		}
	case "ruby":
		return one(b.required(file, imported, form))
	case "c":
		return one(b.header(file, imported, form))
	}
	return t
}

// space resolves a dotted name to a class, a member of a class, or a namespace.
func (b *Builder) space(file int32, info *fileInfo, name string, all bool, form string) (t target) {
	full := info.scope + name
	if s := b.nearest(file, b.find(full), func(s *symbol) bool { return s.kind != isModule && (s.kind != isVariable || info.family == "php") }); s >= 0 {
		return target{found: ref{kind: aSymbol, sym: s}, files: []int32{b.syms[s].file}}
	}
	if strings.Contains(form, "static") && !all {
		if k := strings.LastIndexByte(name, '.'); k > 0 {
			if s := b.nearest(file, b.find(info.scope+name[:k]), func(s *symbol) bool { return s.kind == isClass }); s >= 0 {
				t = target{files: []int32{b.syms[s].file}, found: ref{kind: aSymbol, sym: s}}
				if m := b.member(s, name[k+1:], 0); m >= 0 {
					t.found.sym = m
				}
				return t
			}
		}
	}
	if b.spaces[full] && (all || info.family == "php") {
		files := b.tree.spaces[full]
		if len(files) == 0 && info.family != "csharp" && info.family != "php" {
			return target{}
		}
		t.found = ref{kind: aPackage, prefix: full}
		if info.family == "csharp" || all {
			t.files = slices.Clone(files[:min(len(files), maxPackageFiles)])
			if info.family != "java" { // namespaces as blocks
				for _, e := range b.find(full) {
					if b.syms[e.sym].kind == isModule && len(t.files) < maxPackageFiles && !slices.Contains(t.files, b.syms[e.sym].file) {
						t.files = append(t.files, b.syms[e.sym].file)
					}
				}
			}
		}
	}
	return t
}

// binding resolves a name that an import adds to the file.
func (b *Builder) binding(file int32, x *bind, depth int) ref {
	if depth > maxSteps {
		return ref{}
	}
	info := &b.files[file]
	if info.family == "rust" {
		parts := segments(x.from)
		if !strings.HasPrefix(x.form, "module") && x.from != "" {
			parts = append(parts, x.name)
		} else if x.from == "" || len(parts) == 0 {
			parts = []string{x.name}
		}
		if len(parts) == 1 && parts[0] == x.local && !strings.HasPrefix(x.form, "module") { // extern crate
			if f := b.config.rust.crate(b, file, parts[0]); f >= 0 {
				return ref{kind: aFile, file: f}
			}
			return ref{kind: isOutside}
		}
		v := b.view(file)
		r, rest := v.rustPath(parts, depth+1)
		for _, p := range rest {
			if r = b.step(file, r, p, depth+1); r.kind == nothing || r.kind == isOutside {
				break
			}
		}
		return r
	}
	t := b.target(file, x.from, x.form)
	if t.outside() {
		return ref{kind: isOutside}
	}
	if x.name == "" || x.name == "*" {
		return t.found
	}
	switch t.found.kind {
	case aFile:
		if t.found.file == file && info.family == "python" { // a package that imports its own modules
			return b.pythonChild(path.Dir(b.paths[file]), x.name)
		}
		r := b.export(t.found.file, x.name, depth+1)
		if r.kind == nothing && info.family == "python" {
			if path.Base(b.paths[t.found.file]) == "__init__.py" {
				return b.pythonChild(path.Dir(b.paths[t.found.file]), x.name)
			}
		}
		return r
	case aFolder:
		return b.pythonChild(t.found.prefix, x.name)
	case aPackage:
		return b.packaged(file, t.found.prefix, x.name)
	}
	return ref{}
}

// inside looks a name up in the module or package that an import takes as a whole.
func (b *Builder) inside(file int32, x *bind, name string, depth int) ref {
	info := &b.files[file]
	if info.family == "csharp" && !strings.Contains(x.form, "static") {
		if prefix := info.scope + x.from; b.spaces[prefix] {
			return b.packaged(file, prefix, name)
		}
		return ref{}
	}
	switch info.family {
	case "python", "go", "java", "csharp":
		t := b.target(file, x.from, x.form)
		switch t.found.kind {
		case aFile:
			return b.export(t.found.file, name, depth+1)
		case aPackage:
			if r := b.packaged(file, t.found.prefix, name); r.kind == aSymbol {
				return r
			}
		case aSymbol:
			if m := b.member(t.found.sym, name, 0); m >= 0 {
				return ref{kind: aSymbol, sym: m}
			}
		}
	case "rust":
		r, rest := b.view(file).rustPath(segments(x.from), depth+1)
		for _, p := range append(rest, name) {
			if r.kind == aFile && r.file == file && p == name {
				return ref{} // use self::*, or super::* of a module in the same file
			}
			r = b.step(file, r, p, depth+1)
		}
		return r
	}
	return ref{}
}

// export finds the declaration that a file exports under a name.
func (b *Builder) export(file int32, name string, depth int) ref {
	if depth > maxSteps {
		return ref{}
	}
	info := &b.files[file]
	v := b.view(file)
	own := func(name string) ref {
		if s := b.nearest(file, b.find(info.scope+name), func(s *symbol) bool { return s.file == file && s.to == 0 || s.file == file && info.family == "rust" }); s >= 0 {
			return ref{kind: aSymbol, sym: s}
		}
		return ref{}
	}
	switch info.family {
	case "js":
		for k := range info.exports {
			e := &info.exports[k]
			if e.Name != name {
				continue
			}
			if e.From != "" {
				t := b.target(file, e.From, "")
				if t.outside() {
					return ref{kind: isOutside}
				}
				if e.Local == "*" {
					return t.found
				}
				return b.export(t.found.file, e.Local, depth+1)
			}
			if e.Local == "{}" {
				return ref{kind: aFile, file: file}
			}
			if typ, ok := strings.CutPrefix(e.Local, ":"); ok {
				if c := b.class(file, typ, "", depth+1); c >= 0 {
					return ref{kind: aSymbol, sym: c}
				}
				continue
			}
			if r := own(e.Local); r.kind != nothing && b.syms[r.sym].kind != isVariable {
				return r
			}
			parts := segments(e.Local)
			if len(parts) == 0 {
				continue
			}
			r := v.head(parts[0], -1, "", depth+1)
			for _, p := range parts[1:] {
				r = b.step(file, r, p, depth+1)
			}
			if r.kind != nothing {
				return r
			}
			if s := v.visibleAnywhere(e.Local); s >= 0 {
				return ref{kind: aSymbol, sym: s}
			}
		}
		if name != "default" {
			if r := own(name); r.kind != nothing {
				if b.syms[r.sym].kind == isVariable {
					if x, ok := v.bound(name, depth+1); ok && x.kind != isOutside && x.kind != nothing {
						return x
					}
				}
				return r
			}
			if r := own("exports." + name); r.kind != nothing {
				return r
			}
		}
		key := nameKey{file, name, "*"}
		if r, ok := b.wild[key]; ok {
			return r
		}
		b.wild[key] = ref{} // stops at cycles, and each file is searched once
		for k := range info.exports {
			if e := &info.exports[k]; e.Name == "*" && e.From != "" {
				if t := b.target(file, e.From, ""); t.found.kind == aFile {
					if r := b.export(t.found.file, name, depth+1); r.kind == aSymbol || r.kind == aFile {
						b.wild[key] = r
						return r
					}
				}
			}
		}
	case "python", "rust":
		if r := own(name); r.kind != nothing {
			return r
		}
		if info.family == "rust" {
			if f := b.config.rust.child(b, file, name); f >= 0 {
				return ref{kind: aFile, file: f}
			}
		}
		r, ok := v.bound(name, depth+1)
		if ok && r.kind != isOutside {
			return r
		}
		if info.family == "python" && path.Base(b.paths[file]) == "__init__.py" {
			if r := b.pythonChild(path.Dir(b.paths[file]), name); r.kind != nothing {
				return r
			}
		}
		if ok {
			return r
		}
		return v.wildcards(name, depth+1)
	}
	return ref{}
}

// visibleAnywhere finds an inner function that a file exports all the same, as wrappers around modules do.
func (v *view) visibleAnywhere(name string) int32 {
	for _, e := range v.b.find("v" + itoa(v.file) + " " + name) {
		if v.b.syms[e.sym].kind != isVariable {
			return e.sym
		}
	}
	return -1
}

// closure is the set of files that a C or Ruby file includes or requires, directly or indirectly.
func (b *Builder) closure(file int32) map[int32]bool {
	if set, ok := b.closures[file]; ok {
		return set
	}
	set := map[int32]bool{}
	todo := []int32{file}
	for len(todo) > 0 && len(set) < 4000 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for k := range b.files[at].binds {
			x := &b.files[at].binds[k]
			for _, f := range b.target(at, x.from, x.form).files {
				if !set[f] {
					set[f] = true
					todo = append(todo, f)
				}
			}
		}
	}
	if len(b.closures) > 2000 {
		clear(b.closures)
	}
	b.closures[file] = set
	return set
}

// importLinks makes the links of a file's imports, and the nodes of outside modules that no earlier file imports.
func (b *Builder) importLinks(v *view, f *parse.File, link func(from, to int32, kind string)) (nodes []Node) {
	file := v.file
	for k := range f.Imports {
		imp := &f.Imports[k]
		var files []int32
		var syms []int32
		add := func(i int32) {
			if i != file && b.files[i].added && !slices.Contains(files, i) {
				files = append(files, i)
			}
		}
		own := false // leads into the project
		take := func(r ref) {
			switch r.kind {
			case aSymbol:
				own = true
				if s := &b.syms[r.sym]; s.file != file {
					syms = append(syms, s.node)
				}
			case aFile:
				own = true
				add(r.file)
			case aPackage, aFolder:
				own = own || r.kind == aPackage
			}
		}
		switch v.info.family {
		case "rust":
			if strings.HasPrefix(imp.Form, "module") || len(imp.Binds) == 0 {
				if r := b.binding(file, &bind{local: imp.Path, from: "self::" + imp.Path, form: "module"}, 0); r.kind == aFile {
					take(r)
				} else if strings.HasPrefix(imp.Form, "module") {
					continue // a file that does not exist, or that an attribute names
				}
			}
			for _, x := range imp.Binds {
				if strings.HasPrefix(imp.Form, "module") {
					break
				}
				from := x.From
				if x.Name == "*" {
					if t := b.target(file, from, ""); !t.outside() {
						own = true
						for _, i := range t.files {
							add(i)
						}
					}
					continue
				}
				r := b.binding(file, &bind{x.Local, x.Name, from, imp.Form}, 0)
				take(r)
				if r.kind == aSymbol {
					add(b.syms[r.sym].file)
				} else if r.kind == nothing && from != "" {
					if t := b.target(file, from, ""); !t.outside() {
						own = true
						for _, i := range t.files {
							add(i)
						}
					}
				}
			}
			if first := segments(imp.Path); !own && len(first) > 0 && (first[0] == "crate" || first[0] == "self" || first[0] == "super" || v.b.local(file, first[0])) {
				continue // part of the project, but its target is made by a macro or does not exist
			}
		case "php":
			for _, x := range imp.Binds {
				from := x.From
				if from == "" {
					from = imp.Path
				}
				t := b.target(file, from, imp.Form)
				own = own || !t.outside()
				take(t.found)
				for _, i := range t.files {
					add(i)
				}
			}
		default:
			t := b.target(file, imp.Path, imp.Form)
			own = !t.outside() && (t.found.kind != aFolder || t.found.prefix == "")
			submodules := false
			for _, x := range imp.Binds {
				if x.Name == "" && v.info.family != "java" && v.info.family != "csharp" || x.Name == "*" {
					continue
				}
				r := b.binding(file, &bind{x.Local, x.Name, imp.Path, imp.Form}, 0)
				take(r)
				if r.kind == aFile && v.info.family == "python" {
					submodules = true
				}
			}
			// The form "from package import module" links to the module only.
			if !submodules || len(syms) > 0 {
				for _, i := range t.files {
					add(i)
				}
			}
			if v.info.family == "go" && own {
				if n, ok := b.dirNodes[path.Dir(b.paths[t.files[0]])]; ok {
					link(v.info.node, n, "imports")
				}
			}
		}
		for _, i := range files {
			link(v.info.node, b.files[i].node, "imports")
		}
		for _, s := range syms {
			link(v.info.node, s, "imports")
		}
		if own || imp.Path == "" {
			continue
		}
		name := ModuleName(f.Language, imp.Path)
		n, ok := b.modules[name]
		if !ok {
			if len(b.modules) >= maxModules {
				continue
			}
			n = b.next
			b.next++
			b.modules[name] = n
			nodes = append(nodes, Node{Kind: "module", Name: path.Base(name), Qualified: name, File: -1, External: true})
		}
		link(v.info.node, n, "imports")
	}
	return nodes
}

// ModuleName is the package that a specifier outside of the project belongs to.
func ModuleName(language, imported string) string {
	switch familyOf(language) {
	case "js":
		if strings.HasPrefix(imported, ".") || strings.HasPrefix(imported, "/") {
			return imported
		}
		parts := strings.SplitN(imported, "/", 3)
		if strings.HasPrefix(imported, "@") && len(parts) > 1 {
			return parts[0] + "/" + parts[1]
		}
		return parts[0]
	case "python":
		if strings.HasPrefix(imported, ".") {
			return imported
		}
		first, _, _ := strings.Cut(imported, ".")
		return first
	case "rust":
		if parts := segments(imported); len(parts) > 0 {
			return parts[0]
		}
	case "java":
		name := strings.TrimSuffix(imported, ".*")
		parts := strings.Split(name, ".")
		for k, p := range parts {
			if k > 0 && p != "" && p[0] >= 'A' && p[0] <= 'Z' {
				return strings.Join(parts[:k], ".")
			}
		}
		return name
	}
	return imported
}
