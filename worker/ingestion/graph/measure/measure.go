// Package measure makes the graph of a directory and measures its quality: how many calls lead to declarations that the calling file has
// no relation to, and how many imports of the project's own files count as outside. It checks the finished links against the files' own
// words, not against the rules that made the links.
package measure

import (
	"cmp"
	"context"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kijko/worker/ingestion/graph"
	"kijko/worker/ingestion/parse"
)

// Graph is the graph of a directory.
type Graph struct {
	Paths   []string
	Files   []*parse.File // nil for files that no parser accepted
	Nodes   []graph.Node
	Links   map[graph.Edge]int32
	Configs map[string]string // texts of go.mod, package.json and Cargo.toml
	Parsing time.Duration
	Making  time.Duration
}

// Directory parses the files below a directory and makes their graph.
func Directory(ctx context.Context, root string) (*Graph, error) {
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == ".git" || e.Name() == "node_modules") && name != root {
			return filepath.SkipDir
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > parse.DefaultMaxBytes {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil || !utf8.Valid(data) || strings.IndexByte(string(data), 0) >= 0 {
			return err
		}
		rel, err := filepath.Rel(root, name)
		texts[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	return Texts(ctx, texts)
}

// Texts makes the graph of files by path.
func Texts(ctx context.Context, texts map[string]string) (*Graph, error) {
	g := &Graph{Paths: slices.Sorted(maps.Keys(texts)), Links: map[graph.Edge]int32{}, Configs: map[string]string{}}
	p := parse.New()
	defer p.Close()
	began := time.Now()
	for _, name := range g.Paths {
		f, err := p.Parse(ctx, name, texts[name], parse.Options{})
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		g.Files = append(g.Files, f)
	}
	g.Parsing, began = time.Since(began), time.Now()
	b := graph.New(g.Paths)
	for i, name := range g.Paths {
		if graph.Configures(name) {
			b.Configure(i, texts[name])
			g.Configs[name] = texts[name]
		}
	}
	for i, f := range g.Files {
		if f != nil {
			g.Nodes = append(g.Nodes, b.Add(i, f)...)
		}
	}
	g.Nodes = append(g.Nodes, b.Seal()...)
	for i, f := range g.Files {
		if f == nil {
			continue
		}
		found, nodes := b.Links(i, f)
		for e, n := range found {
			g.Links[e] += n
		}
		g.Nodes = append(g.Nodes, nodes...)
	}
	g.Making = time.Since(began)
	return g, nil
}

// Counts are the figures of one language.
type Counts struct {
	Language  string
	Files     int
	Calls     int // call links
	Across    int // call links to another package
	Unreached int // call links whose package the calling file neither imports nor shares
	Foreign   int // call links to another language that the caller's language cannot call
	Numbered  int // nodes with a number because another node has the same name
	Own       int // imports of files of the project
	Outside   int // imports of files of the project that count as outside
	Worst     []string
}

// Score counts, by language.
func (g *Graph) Score() []Counts {
	counts := map[string]*Counts{}
	of := func(i int) *Counts {
		l := g.Files[i].Language
		if counts[l] == nil {
			counts[l] = &Counts{Language: l}
		}
		return counts[l]
	}
	imports := map[int]map[int]bool{} // file -> files
	outside := map[int]map[string]bool{}
	dirs := map[int]map[string]bool{} // file -> directories that it imports from
	for e := range g.Links {
		from, to := &g.Nodes[e.From], &g.Nodes[e.To]
		if e.Kind != "imports" || from.File < 0 {
			continue
		}
		if to.File < 0 {
			if to.External {
				if outside[from.File] == nil {
					outside[from.File] = map[string]bool{}
				}
				outside[from.File][to.Qualified] = true
			}
			continue
		}
		if imports[from.File] == nil {
			imports[from.File], dirs[from.File] = map[int]bool{}, map[string]bool{}
		}
		imports[from.File][to.File] = true
		dirs[from.File][g.place(to.File)] = true
	}
	g.mentions(imports)
	reach := map[int]map[int]bool{}
	closure := func(i int, method bool) map[int]bool {
		if reach[i] == nil {
			set := map[int]bool{}
			todo := []int{i}
			for len(todo) > 0 {
				at := todo[len(todo)-1]
				todo = todo[:len(todo)-1]
				next := imports[at]
				for f := range next {
					if !set[f] {
						set[f] = true
						todo = append(todo, f)
					}
				}
				if method || at != i { // a package is imported as a whole
					for f, p := range g.Files {
						if p != nil && !set[f] && (p.Language == "go" || p.Language == "csharp") && p.Package != "" && g.place(f) == g.place(at) {
							set[f] = true
							todo = append(todo, f)
						}
					}
				}
			}
			reach[i] = set
		}
		return reach[i]
	}
	for i, f := range g.Files {
		if f != nil && family(f.Language) != "" {
			of(i).Files++
		}
	}
	for k := range g.Nodes {
		if n := &g.Nodes[k]; n.File >= 0 && numbered(n.Qualified) && family(g.Files[n.File].Language) != "" {
			of(n.File).Numbered++
		}
	}
	for e := range g.Links {
		if e.Kind != "calls" {
			continue
		}
		from, to := &g.Nodes[e.From], &g.Nodes[e.To]
		c := of(from.File)
		c.Calls++
		if family(g.Files[from.File].Language) != family(g.Files[to.File].Language) {
			c.Foreign++
			c.Worst = append(c.Worst, from.Qualified+" -> "+to.Qualified)
			continue
		}
		place := g.place(to.File)
		if place == g.place(from.File) {
			continue
		}
		c.Across++
		if imports[from.File][to.File] || dirs[from.File][place] || dirs[from.File][path.Dir(g.Paths[to.File])] || g.shares(from.File, to) {
			continue
		}
		if c := g.crate(to.File); c != "" && c == g.crate(from.File) && strings.HasPrefix(to.Decl.Signature, "macro_rules!") {
			continue
		}
		method := to.Decl != nil && (to.Decl.Kind == parse.Method || to.Decl.Owner != "")
		if reached := closure(from.File, method); method || family(g.Files[from.File].Language) == "c" || family(g.Files[from.File].Language) == "rust" || family(g.Files[from.File].Language) == "js" || family(g.Files[from.File].Language) == "python" {
			near := reached[to.File] || g.crate(to.File) != "" && method && g.crate(to.File) == g.crate(from.File)
			for f := range reached {
				near = near || g.place(f) == place || path.Dir(g.Paths[f]) == path.Dir(g.Paths[to.File]) || g.crate(f) != "" && g.crate(f) == g.crate(to.File)
			}
			if near {
				continue
			}
		}
		c.Unreached++
		c.Worst = append(c.Worst, from.Qualified+" -> "+to.Qualified)
	}
	own := g.own()
	for i, f := range g.Files {
		if f == nil || family(f.Language) == "" {
			continue
		}
		c := of(i)
		c.Own += len(imports[i])
		for _, imp := range f.Imports {
			if own(i, f, imp) && outside[i][graph.ModuleName(f.Language, imp.Path)] {
				c.Own++
				c.Outside++
				c.Worst = append(c.Worst, g.Paths[i]+" imports "+imp.Path)
			}
		}
	}
	list := make([]Counts, 0, len(counts))
	for _, c := range counts {
		slices.Sort(c.Worst)
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Counts) int { return cmp.Compare(a.Language, b.Language) })
	return list
}

// numbered reports whether a name ends with a number after a tilde; destructors of C++ have a tilde too.
func numbered(name string) bool {
	k := strings.LastIndexByte(name, '~')
	return k >= 0 && k+1 < len(name) && strings.Trim(name[k+1:], "0123456789") == ""
}

func family(language string) string {
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

// place is the package of a file, in its language's sense of a package.
func (g *Graph) place(i int) string {
	f := g.Files[i]
	switch f.Language {
	case "java", "csharp", "php":
		return f.Language + " " + f.Package
	case "go":
		return "go " + path.Dir(g.Paths[i]) + " " + f.Package
	case "c", "cpp", "ruby", "sql":
		return f.Language[:1] + " " + path.Dir(g.Paths[i])
	}
	return g.Paths[i]
}

// crate is the directory of a crate of Rust.
func (g *Graph) crate(i int) string {
	name := g.Paths[i]
	if g.Files[i] == nil || g.Files[i].Language != "rust" {
		return ""
	}
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if _, ok := g.Configs[path.Join(dir, "Cargo.toml")]; ok || dir == "." {
			return dir + "/"
		}
	}
}

// mentions adds to the imports of Rust files the crates at the beginning of their paths.
func (g *Graph) mentions(imports map[int]map[int]bool) {
	roots := map[string]int{}
	for i, name := range g.Paths {
		if dir, ok := strings.CutSuffix(name, "src/lib.rs"); ok {
			for line := range strings.Lines(g.Configs[dir+"Cargo.toml"]) {
				if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "name"); ok {
					roots[strings.ReplaceAll(strings.Trim(rest, " =\"\r\n"), "-", "_")] = i
					break
				}
			}
		}
	}
	for i, f := range g.Files {
		if f == nil || f.Language != "rust" {
			continue
		}
		add := func(path string) {
			first, _, ok := strings.Cut(strings.TrimLeft(path, ":"), "::")
			if root, known := roots[first]; ok && known {
				if imports[i] == nil {
					imports[i] = map[int]bool{}
				}
				imports[i][root] = true
			}
		}
		for _, c := range f.Calls {
			add(c.Name)
			add(c.On)
		}
		f.Walk(func(d *parse.Decl) {
			for _, field := range d.Fields {
				add(field.Type)
			}
		})
	}
}

// shares reports whether a file can use another file's declarations without importing it.
func (g *Graph) shares(a int, to *graph.Node) bool {
	b := to.File
	switch f := g.Files[a]; f.Language {
	case "csharp":
		space := g.space(to)
		for _, own := range g.spaces(a) {
			if own == space || strings.HasPrefix(own, space+".") {
				return true
			}
		}
		for i, other := range g.Files {
			if other == nil || other.Language != "csharp" {
				continue
			}
			for _, imp := range other.Imports {
				if (i == a || strings.HasPrefix(imp.Form, "global")) && (imp.Path == space || strings.HasPrefix(imp.Path, space+".")) {
					return true
				}
			}
		}
		return space == ""
	case "ruby", "sql": // one namespace for all files
		return true
	case "php":
		return g.Files[b].Package == "" || strings.Contains(g.Files[b].Package, f.Package)
	}
	return false
}

// spaces are the namespaces that a file of C# declares.
func (g *Graph) spaces(i int) []string {
	list := []string{g.Files[i].Package}
	g.Files[i].Walk(func(d *parse.Decl) {
		if d.Kind == parse.Module {
			list = append(list, d.Qualified)
		}
	})
	return list
}

// space is the namespace of a node of C#.
func (g *Graph) space(n *graph.Node) (best string) {
	_, qualified, _ := strings.Cut(n.Qualified, "#")
	for _, s := range g.spaces(n.File) {
		if s == g.Files[n.File].Package && best == "" || strings.HasPrefix(qualified, s+".") && len(s) > len(best) {
			best = s
		}
	}
	return best
}

// own returns a function that reports whether the words of an import are those of a file of the project.
func (g *Graph) own() func(i int, f *parse.File, imp parse.Import) bool {
	packages := map[string]bool{} // packages that files declare
	modules := map[string]bool{}  // of go.mod
	npm := map[string]bool{}      // of package.json
	crates := map[string]bool{}   // of Cargo.toml
	tops := map[string]bool{}     // of Python
	bases := map[string]bool{}    // last segments
	stems := map[string]bool{}    // paths without endings
	declared := map[string]bool{} // classes by namespace
	firsts := map[string]bool{}   // first segments of paths below src and the root
	for i, name := range g.Paths {
		bases[path.Base(name)] = true
		stems[strings.TrimSuffix(name, path.Ext(name))] = true
		first, _, _ := strings.Cut(strings.TrimPrefix(name, "src/"), "/")
		firsts[first] = true
		f := g.Files[i]
		if f == nil {
			continue
		}
		if f.Package != "" {
			packages[f.Language+" "+strings.ReplaceAll(f.Package, "\\", ".")] = true
			for _, d := range f.Decls {
				declared[strings.ReplaceAll(f.Package, "\\", ".")+"."+d.Name] = true
			}
		}
		if path.Base(name) == "__init__.py" && !slices.Contains(g.Paths, path.Join(path.Dir(path.Dir(name)), "__init__.py")) {
			tops[path.Base(path.Dir(name))] = true
		}
	}
	for name := range g.config("go.mod", "module ") {
		modules[name] = true
	}
	for name := range g.config("package.json", `"name":`) {
		npm[name] = true
	}
	for name := range g.config("Cargo.toml", "name") {
		crates[strings.ReplaceAll(name, "-", "_")] = true
	}
	return func(i int, f *parse.File, imp parse.Import) bool {
		name := imp.Path
		switch f.Language {
		case "go":
			for m := range modules {
				if name == m || strings.HasPrefix(name, m+"/") {
					return true
				}
			}
		case "typescript", "tsx", "javascript":
			parts := strings.Split(name, "/")
			switch {
			case strings.HasPrefix(name, "."):
				p := path.Join(path.Dir(g.Paths[i]), name)
				return stems[p] || stems[strings.TrimSuffix(p, path.Ext(p))] || stems[path.Join(p, "index")]
			case strings.HasPrefix(name, "@/"), strings.HasPrefix(name, "~/"):
				return true
			case strings.HasPrefix(name, "@") && len(parts) > 1:
				return npm[parts[0]+"/"+parts[1]]
			}
			return npm[parts[0]] || len(parts) > 1 && (stems[name] || stems["src/"+name])
		case "python":
			first, _, _ := strings.Cut(name, ".")
			return first == "" || tops[first]
		case "java":
			return declared[strings.TrimSuffix(name, ".*")] || packages["java "+strings.TrimSuffix(name, ".*")]
		case "csharp":
			return packages["csharp "+name] || declared[name]
		case "php":
			return declared[strings.ReplaceAll(strings.Trim(name, "\\"), "\\", ".")]
		case "rust":
			first, _, _ := strings.Cut(name, "::")
			return first == "crate" || first == "super" || first == "self" || crates[first]
		case "ruby":
			base := path.Base(name)
			return bases[base+".rb"] && (imp.Form == "relative" || stems["lib/"+name] || stems["test/"+name] || stems["spec/"+name])
		case "c", "cpp":
			return imp.Form != "system" && bases[path.Base(name)]
		}
		return false
	}
}

// config returns the values that follow a word in files of a given name.
func (g *Graph) config(base, word string) map[string]bool {
	found := map[string]bool{}
	for name, text := range g.Configs {
		if path.Base(name) != base {
			continue
		}
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), word); ok {
				if v := strings.Trim(rest, " =\",\r\n"); v != "" && !strings.Contains(v, " ") {
					found[v] = true
				}
				break
			}
		}
	}
	return found
}
