package graph

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/mod/modfile"

	"kijko/worker/exactjson"
)

// maxConfig bounds how much of a configuration file is read, and how many names are taken from one.
const maxConfig = 1 << 20

// Configures reports whether a file defines where modules are. The graph needs the text of such a file before any other
// file.
func Configures(name string) bool {
	base := path.Base(name)
	switch base {
	case "go.mod", "go.work", "package.json", "Cargo.toml":
		return true
	}
	return strings.HasSuffix(base, ".json") && (strings.HasPrefix(base, "tsconfig") || strings.HasPrefix(base, "jsconfig"))
}

// Configure reads the text of such a file. A text that cannot be read is ignored.
func (b *Builder) Configure(i int, text string) {
	if len(text) > maxConfig {
		return
	}
	name := b.paths[i]
	dir := path.Dir(name)
	switch base := path.Base(name); base {
	case "go.mod":
		b.config.gomod(dir, name, text)
	case "go.work":
		b.config.gowork(dir, name, text)
	case "package.json":
		b.config.packageJSON(dir, text)
	case "Cargo.toml":
		b.config.rust.cargo(dir, text)
	default:
		b.config.tsconfig(name, text)
	}
}

// config is the project's configuration of module locations.
type config struct {
	goModules  []goModule // longest path first
	goByDir    map[string]*goModule
	goGuess    map[string]string // directory of a repository without go.mod -> path it seems to have
	goWorks    map[string][]goReplace
	packages   map[string][]*npmPackage // by name
	packageDir map[string]*npmPackage
	tsconfigs  map[string]*tsConfig // by path
	rust       rust
}

type goModule struct {
	path, dir string
	replaces  []goReplace
}

type goReplace struct{ old, dir string }

func (c *config) init() {
	c.goByDir, c.goWorks, c.goGuess = map[string]*goModule{}, map[string][]goReplace{}, map[string]string{}
	c.packages, c.packageDir, c.tsconfigs = map[string][]*npmPackage{}, map[string]*npmPackage{}, map[string]*tsConfig{}
	c.rust.packages = map[string]*cratePackage{}
	c.rust.names = map[string][]*cratePackage{}
}

func (c *config) gomod(dir, name, text string) {
	f, err := modfile.ParseLax(name, []byte(text), nil)
	if err != nil || f.Module == nil {
		return
	}
	m := goModule{path: f.Module.Mod.Path, dir: dir}
	// The lax parser ignores replace directives.
	if strict, err := modfile.Parse(name, []byte(text), nil); err == nil {
		m.replaces = localReplaces(dir, strict.Replace)
	}
	c.goModules = append(c.goModules, m)
}

func localReplaces(dir string, list []*modfile.Replace) (local []goReplace) {
	for _, r := range list {
		if modfile.IsDirectoryPath(r.New.Path) && !path.IsAbs(r.New.Path) {
			local = append(local, goReplace{r.Old.Path, path.Join(dir, r.New.Path)})
		}
	}
	return local
}

func (c *config) gowork(dir, name, text string) {
	if f, err := modfile.ParseWork(name, []byte(text), nil); err == nil {
		c.goWorks[dir] = localReplaces(dir, f.Replace)
	}
}

func (c *config) seal(b *Builder) {
	slices.SortStableFunc(c.goModules, func(x, y goModule) int { return cmp.Compare(len(y.path), len(x.path)) })
	for i := range c.goModules {
		c.goByDir[c.goModules[i].dir] = &c.goModules[i]
	}
	c.rust.seal(b)
}

// upward visits a directory and its parents until visit returns true.
func upward(dir string, visit func(dir string) bool) {
	for {
		if visit(dir) || dir == "." || dir == "/" {
			return
		}
		dir = path.Dir(dir)
	}
}

type npmPackage struct {
	dir     string
	name    string
	exports any
	imports map[string]any
	mains   []string
}

func (c *config) packageJSON(dir, text string) {
	var raw struct {
		Name    string         `json:"name"`
		Main    any            `json:"main"`
		Module  any            `json:"module"`
		Types   any            `json:"types"`
		Typings any            `json:"typings"`
		Source  any            `json:"source"`
		Browser any            `json:"browser"`
		Exports any            `json:"exports"`
		Imports map[string]any `json:"imports"`
	}
	if exactjson.Unmarshal([]byte(text), &raw) != nil {
		return
	}
	p := &npmPackage{dir: dir, name: raw.Name, exports: raw.Exports, imports: raw.Imports}
	for _, m := range []any{raw.Source, raw.Types, raw.Typings, raw.Module, raw.Main, raw.Browser} {
		if s, ok := m.(string); ok && s != "" {
			p.mains = append(p.mains, s)
		}
	}
	c.packageDir[dir] = p
	if p.name != "" && !strings.Contains("/"+dir+"/", "/node_modules/") {
		c.packages[p.name] = append(c.packages[p.name], p)
	}
}

// tsConfig is a tsconfig.json or jsconfig.json. Patterns are tried longest first, as TypeScript does.
type tsConfig struct {
	dir        string
	extends    []string
	references []string
	baseURL    *string
	paths      map[string][]string
	keys       []string
	resolved   bool
	rootDirs   []string
}

func (c *config) tsconfig(name, text string) {
	var raw struct {
		Extends         any `json:"extends"`
		CompilerOptions struct {
			BaseURL  *string             `json:"baseUrl"`
			Paths    map[string][]string `json:"paths"`
			RootDirs []string            `json:"rootDirs"`
		} `json:"compilerOptions"`
		References []struct {
			Path string `json:"path"`
		} `json:"references"`
	}
	if exactjson.Unmarshal(plainJSON(text), &raw) != nil {
		return
	}
	dir := path.Dir(name)
	t := &tsConfig{dir: dir, baseURL: raw.CompilerOptions.BaseURL, paths: raw.CompilerOptions.Paths}
	switch e := raw.Extends.(type) {
	case string:
		t.extends = []string{e}
	case []any:
		for _, x := range e {
			if s, ok := x.(string); ok {
				t.extends = append(t.extends, s)
			}
		}
	}
	if t.baseURL != nil {
		base := path.Join(dir, *t.baseURL)
		t.baseURL = &base
	}
	// Targets are relative to baseUrl, or, without it, to the file that contains them.
	from := dir
	if t.baseURL != nil {
		from = *t.baseURL
	}
	for key, list := range t.paths {
		for i, target := range list {
			list[i] = path.Join(from, target)
		}
		t.paths[key] = list
	}
	for _, d := range raw.CompilerOptions.RootDirs {
		t.rootDirs = append(t.rootDirs, path.Join(dir, d))
	}
	for _, r := range raw.References {
		t.references = append(t.references, r.Path)
	}
	c.tsconfigs[name] = t
}

// settled returns a configuration merged with those that it extends.
func (c *config) settled(name string, depth int) *tsConfig {
	t := c.tsconfigs[name]
	if t == nil || depth > 8 {
		return nil
	}
	if t.resolved {
		return t
	}
	t.resolved = true
	for k := len(t.extends) - 1; k >= 0; k-- {
		base := c.extended(t.dir, t.extends[k], depth)
		if base == nil {
			continue
		}
		if t.baseURL == nil {
			t.baseURL = base.baseURL
		}
		if t.paths == nil {
			t.paths = base.paths
		}
		if t.rootDirs == nil {
			t.rootDirs = base.rootDirs
		}
	}
	if t.paths == nil && t.baseURL == nil { // a file that only lists the projects of a directory
		for _, r := range t.references {
			name := path.Join(t.dir, r)
			if !strings.HasSuffix(name, ".json") {
				name = path.Join(name, "tsconfig.json")
			}
			if path.Dir(name) != t.dir {
				continue
			}
			if other := c.settled(name, depth+1); other != nil && (other.paths != nil || other.baseURL != nil) {
				t.baseURL, t.paths = other.baseURL, other.paths
				break
			}
		}
	}
	t.keys = slices.SortedFunc(maps.Keys(t.paths), func(x, y string) int {
		xs, _, xStar := strings.Cut(x, "*")
		ys, _, yStar := strings.Cut(y, "*")
		if xStar != yStar {
			if xStar {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(len(ys), len(xs)), cmp.Compare(x, y))
	})
	return t
}

func (c *config) extended(dir, name string, depth int) *tsConfig {
	try := func(p string) *tsConfig {
		for _, ending := range []string{"", ".json", "/tsconfig.json"} {
			if t := c.settled(p+ending, depth+1); t != nil {
				return t
			}
		}
		return nil
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "/") {
		return try(path.Join(dir, name))
	}
	for own := name; ; {
		if list := c.packages[own]; len(list) > 0 {
			return try(path.Join(list[0].dir, strings.TrimPrefix(name, own)))
		}
		k := strings.LastIndexByte(own, '/')
		if k < 0 {
			return nil
		}
		own = own[:k]
	}
}

// plainJSON removes comments and trailing commas from JSON.
func plainJSON(text string) []byte {
	text = strings.TrimPrefix(text, "\ufeff")
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			j := i + 1
			for j < len(text) && text[j] != '"' {
				if text[j] == '\\' {
					j++
				}
				j++
			}
			out = append(out, text[i:min(j+1, len(text))]...)
			i = j
		case c == '/' && i+1 < len(text) && text[i+1] == '/':
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case c == '/' && i+1 < len(text) && text[i+1] == '*':
			end := strings.Index(text[i+2:], "*/")
			if end < 0 {
				return out
			}
			i += end + 3
		case c == '}' || c == ']':
			k := len(out)
			for k > 0 && strings.IndexByte(" \t\r\n", out[k-1]) >= 0 {
				k--
			}
			if k > 0 && out[k-1] == ',' {
				out = out[:k-1]
			}
			out = append(out, c)
		default:
			out = append(out, c)
		}
	}
	return out
}

// rust is the content of the Cargo.toml files.
type rust struct {
	packages map[string]*cratePackage   // by directory
	names    map[string][]*cratePackage // by name as code writes it
}

type cratePackage struct {
	dir, name, lib string
	roots          map[string]bool   // files that crates begin with
	renamed        map[string]string // names of dependencies -> crate, where it is of the project
	outside        map[string]bool   // dependencies that a registry gives
}

func (r *rust) cargo(dir, text string) {
	var raw struct {
		Package struct {
			Name string `toml:"name"`
		} `toml:"package"`
		Lib struct {
			Name string `toml:"name"`
			Path string `toml:"path"`
		} `toml:"lib"`
		Bin               []struct{ Path string } `toml:"bin"`
		Dependencies      map[string]any          `toml:"dependencies"`
		DevDependencies   map[string]any          `toml:"dev-dependencies"`
		BuildDependencies map[string]any          `toml:"build-dependencies"`
	}
	if toml.Unmarshal([]byte(text), &raw) != nil || raw.Package.Name == "" {
		return
	}
	p := &cratePackage{dir: dir, name: cmp.Or(raw.Lib.Name, raw.Package.Name), lib: path.Join(dir, cmp.Or(raw.Lib.Path, "src/lib.rs")),
		roots: map[string]bool{}, renamed: map[string]string{}, outside: map[string]bool{}}
	p.name = strings.ReplaceAll(p.name, "-", "_")
	p.roots[p.lib], p.roots[path.Join(dir, "src/main.rs")], p.roots[path.Join(dir, "build.rs")] = true, true, true
	for _, bin := range raw.Bin {
		if bin.Path != "" {
			p.roots[path.Join(dir, bin.Path)] = true
		}
	}
	for _, list := range []map[string]any{raw.Dependencies, raw.DevDependencies, raw.BuildDependencies} {
		for name, d := range list {
			own := strings.ReplaceAll(name, "-", "_")
			table, _ := d.(map[string]any)
			_, byPath := table["path"]
			inherited, _ := table["workspace"].(bool)
			if other, ok := table["package"].(string); ok && (byPath || inherited) {
				p.renamed[own] = strings.ReplaceAll(other, "-", "_")
			}
			if !byPath && !inherited {
				p.outside[own] = true
			}
		}
	}
	r.packages[dir] = p
	r.names[p.name] = append(r.names[p.name], p)
}

func (r *rust) seal(b *Builder) {
	for _, p := range r.packages {
		for _, folder := range []string{"src/bin", "tests", "examples", "benches"} {
			for _, i := range b.tree.inDir[path.Join(p.dir, folder)] {
				p.roots[b.paths[i]] = true
			}
			for _, sub := range b.tree.subdirs(path.Join(p.dir, folder)) {
				p.roots[path.Join(sub, "main.rs")] = true
			}
		}
	}
}
