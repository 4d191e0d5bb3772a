package graph

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
)

// goDir finds the project directory that a Go import refers to.
func (b *Builder) goDir(file int32, imported string) (string, bool) {
	c := &b.config
	dir := path.Dir(b.paths[file])
	has := func(dir string) bool { return len(b.tree.goDirs[dir]) > 0 }
	if strings.HasPrefix(imported, ".") {
		d := path.Join(dir, imported)
		return d, has(d)
	}
	var own *goModule
	var found string
	replaced := func(list []goReplace) bool {
		for _, r := range list {
			if rest, ok := strings.CutPrefix(imported, r.old); ok && (rest == "" || rest[0] == '/') && has(path.Join(r.dir, rest)) {
				found = path.Join(r.dir, rest)
				return true
			}
		}
		return false
	}
	upward(dir, func(d string) bool {
		if own == nil && c.goByDir[d] != nil {
			own = c.goByDir[d]
			if v := path.Join(d, "vendor", imported); has(v) {
				found = v
				return true
			}
			if replaced(own.replaces) {
				return true
			}
		}
		return replaced(c.goWorks[d])
	})
	if found != "" {
		return found, true
	}
	near := -1
	length := -1
	for i := range c.goModules {
		m := &c.goModules[i]
		if len(m.path) < length {
			break
		}
		rest, ok := strings.CutPrefix(imported, m.path)
		if m.path == "std" { // the standard library itself
			rest, ok = "/"+imported, own == m
		}
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		if d := path.Join(m.dir, rest); has(d) {
			if n := commonDirs(b.paths[file], d+"/"); n > near {
				near, found, length = n, d, len(m.path)
			}
		}
	}
	if found != "" {
		return found, true
	}
	if own == nil {
		upward(dir, func(d string) bool {
			if guess := c.goGuess[d]; guess != "" {
				if rest, ok := strings.CutPrefix(imported, guess); ok && (rest == "" || rest[0] == '/') && has(path.Join(d, rest)) {
					found = path.Join(d, rest)
				}
			}
			return found != ""
		})
	}
	return found, found != ""
}

// guessGo guesses the import path of a repository without go.mod: the path under which most of its imports exist.
func (b *Builder) guessGo() {
	votes := map[string]map[string]int{} // directory -> path
	for i := range b.files {
		info := &b.files[i]
		if info.family != "go" {
			continue
		}
		dir := path.Dir(b.paths[i])
		covered := false
		upward(dir, func(d string) bool { covered = covered || b.config.goByDir[d] != nil; return covered })
		if covered {
			continue
		}
		for k := range info.binds {
			parts := strings.Split(info.binds[k].from, "/")
			if len(parts) < 4 || !strings.Contains(parts[0], ".") {
				continue
			}
			rest := strings.Join(parts[3:], "/")
			upward(dir, func(d string) bool {
				if len(b.tree.goDirs[path.Join(d, rest)]) == 0 {
					return false
				}
				if votes[d] == nil {
					votes[d] = map[string]int{}
				}
				votes[d][strings.Join(parts[:3], "/")]++
				return true
			})
		}
	}
	for dir, paths := range votes {
		b.config.goGuess[dir] = slices.MaxFunc(slices.Sorted(maps.Keys(paths)), func(x, y string) int { return cmp.Compare(paths[x], paths[y]) })
	}
}

// scriptEndings are tried in this order, as TypeScript and bundlers do.
var scriptEndings = []string{".ts", ".tsx", ".d.ts", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json", ".vue", ".svelte"}

// compiled maps the extensions in imports of TypeScript to the extensions of the sources.
var compiled = map[string][]string{".js": {".ts", ".tsx", ".d.ts", ".jsx"}, ".jsx": {".tsx"}, ".mjs": {".mts", ".d.mts"}, ".cjs": {".cts", ".d.cts"}}

// scriptFile finds the file that a JavaScript path refers to.
func (b *Builder) scriptFile(name string, depth int) int32 {
	if name == ".." || strings.HasPrefix(name, "../") {
		return -1
	}
	if i := b.tree.file(name); i >= 0 {
		return i
	}
	ext := path.Ext(name)
	for _, e := range compiled[ext] {
		if i := b.tree.file(strings.TrimSuffix(name, ext) + e); i >= 0 {
			return i
		}
	}
	for _, e := range scriptEndings {
		if i := b.tree.file(name + e); i >= 0 {
			return i
		}
	}
	if depth > 2 || !b.tree.isDir(name) {
		return -1
	}
	if p := b.config.packageDir[name]; p != nil && depth == 0 {
		if i := b.npmMain(p); i >= 0 {
			return i
		}
	}
	for _, e := range scriptEndings {
		if i := b.tree.file(path.Join(name, "index"+e)); i >= 0 {
			return i
		}
	}
	return -1
}

// built finds the source of a build output: dist/index.js comes from src/index.ts, or index.ts.
func (b *Builder) built(dir, target string) int32 {
	target = path.Clean(strings.TrimPrefix(target, "./"))
	if i := b.scriptFile(path.Join(dir, target), 1); i >= 0 {
		return i
	}
	first, rest, ok := strings.Cut(target, "/")
	if !ok {
		return -1
	}
	switch first {
	case "dist", "lib", "build", "out", "esm", "cjs", "es", "types", "typings", "output", ".output":
	default:
		return -1
	}
	for {
		bare := rest
		for _, e := range []string{".d.ts", ".d.mts", ".d.cts", ".mjs", ".cjs"} {
			if s, ok := strings.CutSuffix(rest, e); ok {
				bare = s + ".js"
				break
			}
		}
		for _, from := range []string{"src", "lib", ""} {
			if i := b.scriptFile(path.Join(dir, from, bare), 1); i >= 0 {
				return i
			}
		}
		if _, rest, ok = strings.Cut(rest, "/"); !ok { // dist/esm/index.js
			return -1
		}
	}
}

func (b *Builder) npmMain(p *npmPackage) int32 {
	if i := b.exported(p, p.exports, "."); i >= 0 {
		return i
	}
	for _, m := range p.mains {
		if i := b.built(p.dir, m); i >= 0 {
			return i
		}
	}
	for _, m := range []string{"index", "src/index", "lib/index", "src/main"} {
		for _, e := range scriptEndings {
			if i := b.tree.file(path.Join(p.dir, m+e)); i >= 0 {
				return i
			}
		}
	}
	return -1
}

// exported resolves a key such as . or ./button in the exports, or imports, of a package.json.
func (b *Builder) exported(p *npmPackage, exports any, key string) int32 {
	table, ok := exports.(map[string]any)
	if !ok || len(table) > 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(table)), func(k string) bool { return strings.HasPrefix(k, ".") || strings.HasPrefix(k, "#") }) {
		if key == "." {
			return b.condition(p, exports, "", 0)
		}
		return -1
	}
	if v, ok := table[key]; ok {
		return b.condition(p, v, "", 0)
	}
	best, star := "", ""
	for k := range table {
		before, after, ok := strings.Cut(k, "*")
		if ok && len(key) >= len(before)+len(after) && strings.HasPrefix(key, before) && strings.HasSuffix(key, after) && (best == "" || len(before) > strings.IndexByte(best, '*')) {
			best, star = k, key[len(before):len(key)-len(after)]
		}
	}
	if best == "" {
		return -1
	}
	return b.condition(p, table[best], star, 0)
}

// condition follows the conditions of an export to an existing file.
func (b *Builder) condition(p *npmPackage, v any, star string, depth int) int32 {
	if depth > 8 {
		return -1
	}
	switch v := v.(type) {
	case string:
		return b.built(p.dir, strings.ReplaceAll(v, "*", star))
	case []any:
		for _, x := range v {
			if i := b.condition(p, x, star, depth+1); i >= 0 {
				return i
			}
		}
	case map[string]any:
		for _, k := range []string{"source", "development", "types", "import", "module", "node", "default", "require", "browser"} {
			if x, ok := v[k]; ok {
				if i := b.condition(p, x, star, depth+1); i >= 0 {
					return i
				}
			}
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if i := b.condition(p, v[k], star, depth+1); i >= 0 {
				return i
			}
		}
	}
	return -1
}

// script finds the file that a JavaScript or TypeScript import refers to.
func (b *Builder) script(file int32, imported string) int32 {
	dir := path.Dir(b.paths[file])
	if k := strings.LastIndexByte(imported, '!'); k >= 0 { // loaders
		imported = imported[k+1:]
	}
	if k := strings.IndexByte(imported, '?'); k > 0 {
		imported = imported[:k]
	}
	if imported == "" || strings.Contains(imported, "://") {
		return -1
	}
	conf := b.scriptConfig(dir)
	if imported == "." || imported == ".." || strings.HasPrefix(imported, "./") || strings.HasPrefix(imported, "../") {
		p := path.Join(dir, imported)
		if i := b.scriptFile(p, 0); i >= 0 {
			return i
		}
		if conf != nil {
			for _, from := range conf.rootDirs {
				if rest, ok := strings.CutPrefix(p, from+"/"); ok {
					for _, to := range conf.rootDirs {
						if i := b.scriptFile(path.Join(to, rest), 0); i >= 0 {
							return i
						}
					}
				}
			}
		}
		return -1
	}
	if conf != nil {
		for _, key := range conf.keys {
			before, after, star := strings.Cut(key, "*")
			if !star && key != imported || star && (len(imported) < len(before)+len(after) || !strings.HasPrefix(imported, before) || !strings.HasSuffix(imported, after)) {
				continue
			}
			middle := ""
			if star {
				middle = imported[len(before) : len(imported)-len(after)]
			}
			for _, target := range conf.paths[key] {
				if i := b.scriptFile(strings.Replace(target, "*", middle, 1), 0); i >= 0 {
					return i
				}
			}
			break // the longest pattern wins
		}
		if conf.baseURL != nil {
			if i := b.scriptFile(path.Join(*conf.baseURL, imported), 0); i >= 0 {
				return i
			}
		}
	}
	var found int32 = -1
	if strings.HasPrefix(imported, "#") {
		upward(dir, func(d string) bool {
			p := b.config.packageDir[d]
			if p == nil {
				return false
			}
			found = b.exported(p, map[string]any(p.imports), imported)
			return true
		})
		return found
	}
	if strings.HasPrefix(imported, "/") {
		upward(dir, func(d string) bool {
			if b.config.packageDir[d] == nil {
				return false
			}
			found = b.scriptFile(path.Join(d, imported), 0)
			return true
		})
		return found
	}
	name, rest := imported, ""
	for {
		if list := b.config.packages[name]; len(list) > 0 {
			p := slices.MaxFunc(list, func(x, y *npmPackage) int {
				return cmp.Compare(commonDirs(b.paths[file], x.dir+"/"), commonDirs(b.paths[file], y.dir+"/"))
			})
			return b.npmFile(p, rest)
		}
		k := strings.LastIndexByte(name, '/')
		if k < 0 {
			break
		}
		name, rest = name[:k], imported[k+1:]
	}
	upward(dir, func(d string) bool {
		if m := path.Join(d, "node_modules", imported); b.tree.isDir(m) || b.scriptFile(m, 0) >= 0 {
			found = b.scriptFile(m, 0)
		}
		return found >= 0
	})
	return found
}

// npmFile finds the file of a project package that a path inside the package refers to.
func (b *Builder) npmFile(p *npmPackage, rest string) int32 {
	if rest == "" {
		return b.npmMain(p)
	}
	if i := b.exported(p, p.exports, "./"+rest); i >= 0 {
		return i
	}
	for _, from := range []string{"", "src", "lib"} {
		if i := b.scriptFile(path.Join(p.dir, from, rest), 0); i >= 0 {
			return i
		}
	}
	return b.built(p.dir, rest)
}

// scriptConfig is the nearest tsconfig.json or jsconfig.json.
func (b *Builder) scriptConfig(dir string) (found *tsConfig) {
	if len(b.config.tsconfigs) == 0 {
		return nil
	}
	upward(dir, func(d string) bool {
		for _, base := range []string{"tsconfig.json", "jsconfig.json"} {
			if found = b.config.settled(path.Join(d, base), 0); found != nil {
				return true
			}
		}
		return false
	})
	return found
}

// python finds the target of a Python import: a file, or a folder without __init__.py.
func (b *Builder) python(file int32, imported string) ref {
	dir := path.Dir(b.paths[file])
	bare := strings.TrimLeft(imported, ".")
	if up := len(imported) - len(bare); up > 0 {
		for range up - 1 {
			dir = path.Dir(dir)
		}
		return b.pythonIn(dir, bare)
	}
	if bare == "" {
		return ref{}
	}
	first, _, _ := strings.Cut(bare, ".")
	standard := pythonStandard[first]
	var found ref
	try := func(root string) bool {
		r := b.pythonIn(root, bare)
		if r.kind == aFolder && (standard || found.kind == aFolder) {
			return false
		}
		if r.kind == aFile && standard && !b.tree.has(path.Join(root, first+".py")) && !b.tree.has(path.Join(root, first, "__init__.py")) {
			return false
		}
		if r.kind != nothing {
			found = r
		}
		return r.kind == aFile
	}
	done := false
	upward(dir, func(d string) bool {
		if b.tree.has(path.Join(d, "__init__.py")) {
			return false // a package is not a starting directory
		}
		if done = try(d); !done && d != dir {
			done = try(path.Join(d, "src")) || try(path.Join(d, "lib")) || try(path.Join(d, "python"))
		} else if !done {
			done = try(path.Join(d, "src"))
		}
		return done
	})
	if done || standard {
		return found
	}
	roots := slices.Clone(b.tree.py)
	slices.SortStableFunc(roots, func(x, y string) int {
		return cmp.Compare(commonDirs(b.paths[file], y+"/"), commonDirs(b.paths[file], x+"/"))
	})
	for _, root := range roots {
		if try(root) {
			break
		}
	}
	return found
}

func (b *Builder) pythonIn(root, dotted string) ref {
	name := path.Join(root, strings.ReplaceAll(dotted, ".", "/"))
	if dotted != "" {
		for _, ending := range []string{".py", ".pyi"} {
			if i := b.tree.file(path.Join(name, "__init__"+ending)); i >= 0 {
				return ref{kind: aFile, file: i}
			}
			if i := b.tree.file(name + ending); i >= 0 {
				return ref{kind: aFile, file: i}
			}
		}
	} else if i := b.tree.file(path.Join(name, "__init__.py")); i >= 0 {
		return ref{kind: aFile, file: i}
	}
	if b.tree.isDir(name) && name != "." || dotted == "" {
		return ref{kind: aFolder, prefix: name}
	}
	return ref{}
}

// pythonChild is the module of a name in a package.
func (b *Builder) pythonChild(dir, name string) ref {
	if name == "" || strings.ContainsAny(name, "./") {
		return ref{}
	}
	return b.pythonIn(dir, name)
}

// pythonStandard are the modules of Python's standard library. A folder of the same name is not one of them.
var pythonStandard = words(`abc argparse array ast asyncio atexit base64 bdb binascii bisect builtins bz2 cProfile calendar cgi cmath cmd code codecs
	codeop collections colorsys compileall concurrent configparser contextlib contextvars copy copyreg crypt csv ctypes curses dataclasses datetime dbm
	decimal difflib dis distutils doctest email encodings ensurepip enum errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib functools gc
	genericpath getopt getpass gettext glob graphlib grp gzip hashlib heapq hmac html http imaplib imghdr imp importlib inspect io ipaddress itertools json
	keyword linecache locale logging lzma mailbox marshal math mimetypes mmap modulefinder multiprocessing netrc numbers operator optparse os pathlib pdb
	pickle pickletools pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile pyclbr pydoc queue quopri random re readline
	reprlib resource runpy sched secrets select selectors shelve shlex shutil signal site smtplib socket socketserver sqlite3 ssl stat statistics string
	stringprep struct subprocess symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios textwrap threading time timeit tkinter token
	tokenize tomllib trace traceback tracemalloc tty turtle types typing unicodedata unittest urllib uu uuid venv warnings wave weakref webbrowser winreg
	wsgiref xml xmlrpc zipapp zipfile zipimport zlib zoneinfo __future__`)

func words(s string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(s) {
		set[w] = true
	}
	return set
}

// included finds the file of a PHP include or require: relative to the file, or to one of its parent directories.
func (b *Builder) included(file int32, name string) (found int32) {
	found = -1
	name = strings.TrimPrefix(name, "/")
	upward(path.Dir(b.paths[file]), func(d string) bool {
		found = b.tree.file(path.Join(d, name))
		return found >= 0
	})
	return found
}

// required finds the file of a Ruby require: relative to the file, or on a load path.
func (b *Builder) required(file int32, name, form string) int32 {
	dir := path.Dir(b.paths[file])
	name = strings.TrimSuffix(name, ".rb")
	if form == "relative" || strings.HasPrefix(name, ".") {
		return b.tree.file(path.Join(dir, name) + ".rb")
	}
	best, near := int32(-1), -1
	for _, i := range b.tree.byStem[strings.ToLower(path.Base(name))] {
		root, ok := strings.CutSuffix(b.paths[i], name+".rb")
		if !ok || root != "" && !strings.HasSuffix(root, "/") {
			continue
		}
		root = strings.TrimSuffix(root, "/")
		switch base := path.Base(root); {
		case base == "lib", base == "test", base == "spec", base == "app", path.Base(path.Dir(root)) == "app", root == "" || root == ".", root == dir:
		default:
			continue
		}
		if n := commonDirs(b.paths[file], b.paths[i]); n > near {
			best, near = i, n
		}
	}
	return best
}

// header finds the file of a C include.
func (b *Builder) header(file int32, name, form string) (found int32) {
	found = -1
	dir := path.Dir(b.paths[file])
	if form != "system" {
		if found = b.tree.file(path.Join(dir, name)); found >= 0 {
			return found
		}
	}
	if strings.HasPrefix(name, "..") {
		return -1
	}
	upward(dir, func(d string) bool {
		for _, sub := range []string{"include", "inc", "src", "lib", ""} {
			if sub == "" && form == "system" && !strings.Contains(name, "/") {
				continue
			}
			if found = b.tree.file(path.Join(d, sub, name)); found >= 0 {
				return true
			}
		}
		return false
	})
	if found >= 0 || form == "system" && !strings.Contains(name, "/") {
		return found
	}
	near := -1
	for _, i := range b.tree.byStem[strings.ToLower(stem(name))] {
		p := b.paths[i]
		if len(p) > len(name) && p[len(p)-len(name)-1] == '/' && strings.EqualFold(p[len(p)-len(name):], name) {
			n := commonDirs(b.paths[file], p)
			if b.dirs[i] == dir {
				n++
			}
			switch {
			case n > near:
				found, near = i, n
			case n == near:
				found = unclear
			}
		}
	}
	return found
}

// unclear means that the target is a file of the project, but it is unknown which one.
const unclear = -2

// rustPath resolves the beginning of a Rust path.
func (v *view) rustPath(parts []string, depth int) (ref, []string) {
	b := v.b
	if len(parts) == 0 || depth > maxSteps {
		return ref{}, nil
	}
	r := &b.config.rust
	here := func(file int32) ref {
		if file < 0 {
			return ref{}
		}
		return ref{kind: aFile, file: file}
	}
	switch parts[0] {
	case "crate":
		return here(r.root(b, v.file)), parts[1:]
	case "self":
		return here(v.file), parts[1:]
	case "super":
		at, rest := v.file, parts
		for len(rest) > 0 && rest[0] == "super" && at >= 0 {
			at, rest = r.parent(b, at), rest[1:]
		}
		return here(at), rest
	}
	if f := r.child(b, v.file, parts[0]); f >= 0 {
		return here(f), parts[1:]
	}
	if s := v.visible(parts[0], -1); s >= 0 && len(parts) > 1 && b.syms[s].kind != isFunction {
		return ref{kind: aSymbol, sym: s}, parts[1:]
	}
	if f := r.crate(b, v.file, parts[0]); f >= 0 {
		return here(f), parts[1:]
	}
	if out, ok := v.bound(parts[0], depth+1); ok {
		return out, parts[1:]
	}
	return ref{kind: isOutside}, parts[1:]
}

// same reports whether two files belong to one crate.
func (r *rust) same(b *Builder, x, y int32) bool {
	return x == y || r.root(b, x) == r.root(b, y) || r.of(b.paths[x]) != nil && r.of(b.paths[x]) == r.of(b.paths[y])
}

// local reports whether a Rust path begins with a name of the project.
func (b *Builder) local(file int32, name string) bool {
	return b.config.rust.child(b, file, name) >= 0 || b.config.rust.crate(b, file, name) >= 0 || b.view(file).visible(name, -1) >= 0
}

// child is the file of a module that a Rust file declares.
func (r *rust) child(b *Builder, file int32, name string) int32 {
	p := b.paths[file]
	dir := strings.TrimSuffix(p, ".rs")
	if base := path.Base(p); base == "mod.rs" || base == "lib.rs" || base == "main.rs" || r.isRoot(p) {
		dir = path.Dir(p)
	}
	found := b.tree.file(path.Join(dir, name+".rs"))
	if found < 0 {
		found = b.tree.file(path.Join(dir, name, "mod.rs"))
	}
	if found < 0 || found == file || !declaresModule(b, file, name) {
		return -1
	}
	return found
}

// declaresModule reports whether a file contains mod name.
func declaresModule(b *Builder, file int32, name string) bool {
	for k := range b.files[file].binds {
		if x := &b.files[file].binds[k]; strings.HasPrefix(x.form, "module") && x.local == name {
			return true
		}
	}
	return false
}

// sees reports whether a macro that another file of the crate declares is visible in a file: the file is inside that module, or
// #[macro_use] exports the module's macros.
func (r *rust) sees(b *Builder, file int32, macro *symbol) bool {
	if macro.typ == "export" && r.same(b, file, macro.file) {
		return true
	}
	around := map[int32]bool{}
	for at := file; at >= 0 && len(around) < 64; at = r.parent(b, at) {
		around[at] = true
	}
	for at, n := macro.file, 0; at >= 0 && n < 64; n++ {
		if around[at] {
			return true
		}
		up := r.parent(b, at)
		if up < 0 {
			return false
		}
		own := stem(b.paths[at])
		if own == "mod" {
			own = path.Base(path.Dir(b.paths[at]))
		}
		if !slices.ContainsFunc(b.files[up].binds, func(x bind) bool { return x.form == "module macros" && x.local == own }) {
			return false
		}
		at = up
	}
	return false
}

func (r *rust) of(name string) (found *cratePackage) {
	upward(path.Dir(name), func(d string) bool { found = r.packages[d]; return found != nil })
	return found
}

func (r *rust) isRoot(name string) bool {
	p := r.of(name)
	return p != nil && p.roots[name]
}

// parent is the file of the parent module of a file's module, or -1 for the root of a crate.
func (r *rust) parent(b *Builder, file int32) int32 {
	name := b.paths[file]
	if base := path.Base(name); r.isRoot(name) || base == "lib.rs" || base == "main.rs" {
		return -1
	}
	dir, own := path.Dir(name), strings.TrimSuffix(path.Base(name), ".rs")
	if own == "mod" {
		dir, own = path.Dir(dir), path.Base(dir)
	}
	candidates := []string{path.Join(dir, "mod.rs"), path.Join(dir, "lib.rs"), path.Join(dir, "main.rs"), dir + ".rs"}
	for _, c := range candidates {
		if i := b.tree.file(c); i >= 0 && i != file && declaresModule(b, i, own) {
			return i
		}
	}
	for _, i := range b.tree.inDir[dir] { // roots with names of their own
		if i != file && r.isRoot(b.paths[i]) && declaresModule(b, i, own) {
			return i
		}
	}
	return -1
}

// root is the root file of a file's crate.
func (r *rust) root(b *Builder, file int32) int32 {
	for range 64 {
		up := r.parent(b, file)
		if up < 0 {
			return file
		}
		file = up
	}
	return file
}

// crate is the root of a project crate that a file names.
func (r *rust) crate(b *Builder, file int32, name string) int32 {
	own := r.of(b.paths[file])
	if own != nil {
		if own.outside[name] {
			return -1
		}
		if other := own.renamed[name]; other != "" {
			name = other
		}
	}
	list := r.names[name]
	if len(list) == 0 || name == "std" || name == "core" || name == "alloc" {
		return -1
	}
	p := slices.MaxFunc(list, func(x, y *cratePackage) int {
		return cmp.Compare(commonDirs(b.paths[file], x.dir+"/"), commonDirs(b.paths[file], y.dir+"/"))
	})
	return b.tree.file(p.lib)
}
