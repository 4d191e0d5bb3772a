package ingest

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/jackc/pgx/v5/pgtype"

	"kijko/worker/parse"
)

// maxDecls bounds the table by which names resolve (about 40 bytes each); declarations past it are nodes that nothing points to.
const maxDecls = 1_000_000

// decl is a declaration as links find it. Numbers are those of nodes.
type decl struct {
	name uint64 // hash
	file int32
	node int32
	kind byte
}

const (
	declFunction = iota
	declClass
)

// graph makes nodes and links. First all nodes are stored, file by file, and the names are remembered; then the links, which may point
// anywhere. Names resolve to the same file, then the same directory, then to the only one in the project; what stays ambiguous
// makes no link, because a wrong one is worse than none.
type graph struct {
	r       *run
	next    int
	fileNo  []int32 // node of each file; -1 for files that were left out
	decls   []decl  // by name, then node, once sealed
	modules map[string]int32
	paths   pathIndex
	dirs    []int32 // number of each file's directory
}

func (r *run) indexGraph(ctx context.Context) error {
	g := &graph{r: r, fileNo: make([]int32, len(r.files)), modules: map[string]int32{}, dirs: make([]int32, len(r.files))}
	g.paths.build(r)
	dirs := map[string]int32{}
	for i, f := range r.files {
		dir := path.Dir(r.name(f))
		if _, ok := dirs[dir]; !ok {
			dirs[dir] = int32(len(dirs))
		}
		g.dirs[i] = dirs[dir]
	}
	if err := g.nodes(ctx); err != nil {
		return err
	}
	slices.SortFunc(g.decls, func(a, b decl) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.node, b.node)) })
	return g.links(ctx)
}

func hashName(name string) uint64 { return xxhash.Sum64String(name) }

// nodeKind maps a declaration to the graph's kinds; "" for what is no node.
func nodeKind(k parse.Kind) string {
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

// declared visits the nodes of a file in order, each with the node above it.
func declared(f *parse.File, visit func(d *parse.Decl, kind string, above int) (at int)) {
	var walk func(ds []parse.Decl, above int)
	walk = func(ds []parse.Decl, above int) {
		for i := range ds {
			at := above
			if kind := nodeKind(ds[i].Kind); kind != "" && ds[i].Name != "" {
				at = visit(&ds[i], kind, above)
			}
			walk(ds[i].Children, at)
		}
	}
	walk(f.Decls, 0)
}

const graphBatch = 2000

// nodes stores files and declarations, and a module for each import that leads out of the project.
func (g *graph) nodes(ctx context.Context) error {
	r := g.r
	rows := &nodeRows{}
	send := func(force bool) error {
		if len(rows.ids) < graphBatch && !force {
			return nil
		}
		err := r.store.nodes(ctx, rows)
		*rows = nodeRows{}
		return err
	}
	err := g.files(ctx, func(i int, p *parsedFile) error {
		f := r.files[i]
		name := r.name(f)
		fileID := pgtype.UUID{Bytes: r.t.id(kindFile, i), Valid: true}
		g.fileNo[i] = int32(g.next)
		g.node(rows, fileID, "file", path.Base(name), name, 1, p.File.Lines, map[string]any{"language": p.File.Language})
		seen := map[string]int{}
		declared(&p.File, func(d *parse.Decl, kind string, _ int) int {
			at := g.next
			qualified := name + "#" + d.Qualified
			if n := seen[qualified]; n > 0 {
				qualified += "~" + strconv.Itoa(n)
			}
			seen[name+"#"+d.Qualified]++
			meta := map[string]any{"kind": string(d.Kind)}
			if d.Signature != "" && r.t.MetadataOptions.Signatures {
				meta["signature"] = d.Signature
			}
			g.node(rows, fileID, kind, d.Name, qualified, d.StartLine, d.EndLine, meta)
			if len(g.decls) < maxDecls && (kind == "function" || kind == "class") {
				k := byte(declFunction)
				if kind == "class" {
					k = declClass
				}
				g.decls = append(g.decls, decl{hashName(d.Name), int32(i), int32(at), k})
			}
			return at
		})
		for _, imp := range p.File.Imports {
			if imp.Path == "" || len(g.paths.resolve(i, p.File.Language, imp.Path)) > 0 {
				continue
			}
			if _, ok := g.modules[imp.Path]; !ok && len(g.modules) < maxDecls/10 {
				g.modules[imp.Path] = int32(g.next)
				g.node(rows, pgtype.UUID{}, "module", path.Base(imp.Path), imp.Path, 0, 0, map[string]any{"external": true})
			}
		}
		return send(false)
	})
	if err != nil {
		return err
	}
	return send(true)
}

func (g *graph) node(rows *nodeRows, file pgtype.UUID, kind, name, qualified string, start, end int, meta map[string]any) {
	line := func(n int) *int32 {
		if n <= 0 {
			return nil
		}
		v := int32(n)
		return &v
	}
	rows.ids = append(rows.ids, g.r.t.id(kindNode, g.next))
	rows.files = append(rows.files, file)
	rows.kinds = append(rows.kinds, kind)
	rows.names = append(rows.names, name)
	rows.qualified = append(rows.qualified, qualified)
	rows.starts = append(rows.starts, line(start))
	rows.ends = append(rows.ends, line(end))
	rows.metadata = append(rows.metadata, mustJSON(meta))
	g.next++
}

// link is one edge between nodes.
type link struct {
	from, to int32
	kind     string
}

// links stores who contains, imports, calls, extends and implements whom.
func (g *graph) links(ctx context.Context) error {
	r := g.r
	rows := &linkRows{}
	send := func(force bool) error {
		if len(rows.from) < graphBatch && !force {
			return nil
		}
		err := r.store.links(ctx, rows)
		*rows = linkRows{}
		return err
	}
	err := g.files(ctx, func(i int, p *parsedFile) error {
		found := g.linksOf(i, p)
		edges := make([]link, 0, len(found))
		for l := range found {
			edges = append(edges, l)
		}
		slices.SortFunc(edges, func(a, b link) int {
			return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.kind, b.kind))
		})
		for _, l := range edges {
			rows.from = append(rows.from, r.t.id(kindNode, int(l.from)))
			rows.to = append(rows.to, r.t.id(kindNode, int(l.to)))
			rows.kinds = append(rows.kinds, l.kind)
			rows.weights = append(rows.weights, found[l])
		}
		return send(false)
	})
	if err != nil {
		return err
	}
	return send(true)
}

// linksOf counts the edges that begin in a file.
func (g *graph) linksOf(i int, p *parsedFile) map[link]int32 {
	found := map[link]int32{}
	self := g.fileNo[i]
	next := int(self)
	byQualified := map[string]int32{}
	declared(&p.File, func(d *parse.Decl, kind string, above int) int {
		next++
		from := self
		if above > 0 {
			from = int32(above)
		}
		found[link{from, int32(next), "contains"}]++
		if _, ok := byQualified[d.Qualified]; !ok {
			byQualified[d.Qualified] = int32(next)
		}
		if kind == "class" {
			for _, name := range d.Extends {
				if to, ok := g.resolve(i, name, declClass); ok && to != int32(next) {
					found[link{int32(next), to, "extends"}]++
				}
			}
			for _, name := range d.Implements {
				if to, ok := g.resolve(i, name, declClass); ok && to != int32(next) {
					found[link{int32(next), to, "implements"}]++
				}
			}
		}
		return next
	})
	for _, imp := range p.File.Imports {
		targets := g.paths.resolve(i, p.File.Language, imp.Path)
		for _, t := range targets {
			if g.fileNo[t] >= 0 && t != i {
				found[link{self, g.fileNo[t], "imports"}]++
			}
		}
		if m, ok := g.modules[imp.Path]; ok && len(targets) == 0 {
			found[link{self, m, "imports"}]++
		}
	}
	for _, c := range p.File.Calls {
		from, ok := byQualified[c.Caller]
		if !ok {
			from = self
		}
		if to, ok := g.resolve(i, c.Name, declFunction); ok {
			found[link{from, to, "calls"}]++
		} else if to, ok := g.resolve(i, c.Name, declClass); ok {
			found[link{from, to, "calls"}]++
		}
	}
	return found
}

// resolve finds the one declaration that a name means, seen from a file.
func (g *graph) resolve(file int, name string, kind byte) (int32, bool) {
	if at := strings.LastIndexAny(name, ".:>/\\"); at >= 0 {
		name = name[at+1:]
	}
	if name == "" {
		return 0, false
	}
	key := hashName(name)
	at, _ := slices.BinarySearchFunc(g.decls, key, func(d decl, key uint64) int { return cmp.Compare(d.name, key) })
	var here, near, all int
	var inFile, inDir, any int32
	for ; at < len(g.decls) && g.decls[at].name == key; at++ {
		d := g.decls[at]
		if d.kind != kind {
			continue
		}
		switch {
		case int(d.file) == file:
			if here == 0 {
				inFile = d.node
			}
			here++
		case g.dirs[d.file] == g.dirs[file]:
			inDir = d.node
			near++
		}
		any = d.node
		if all++; all > 64 && here == 0 {
			break
		}
	}
	switch {
	case here > 0:
		return inFile, true
	case near == 1:
		return inDir, true
	case all == 1:
		return any, true
	}
	return 0, false
}

// files visits the parsed files in order, decoding ahead.
func (g *graph) files(ctx context.Context, visit func(i int, p *parsedFile) error) error {
	r := g.r
	return ordered(ctx, len(r.files), r.workers(), func(_ context.Context, i int) (*parsedFile, error) {
		var p parsedFile
		ok, err := r.record(i, &p)
		if err != nil || !ok {
			return nil, err
		}
		return &p, nil
	}, func(i int, p *parsedFile) error {
		if p == nil {
			g.fileNo[i] = -1
			return nil
		}
		return visit(i, p)
	})
}
