package graph

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // version 5 of RFC 9562 is SHA-1
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	resolve "kijko/worker/ingestion/graph"
	"kijko/worker/ingestion/parse"
)

const (
	// MaxNodes and MaxLinks are the contract's limits of a context. Containment counts as no link.
	MaxNodes = 50_000
	MaxLinks = 250_000
	// maxSeen bounds the declarations, and maxFound the links, among which the limits choose.
	maxSeen  = 1_000_000
	maxFound = 4_000_000
	// maxText bounds names: a generated file may have one of any length.
	maxText = 1000
)

// Type is the type of a node.
type Type uint8

// The types of nodes, in the order in which nodes with as many references are shown.
const (
	File Type = iota
	Module
	Class
	Function
	Variable
)

var typeNames = [...]string{"file", "module", "class", "function", "variable"}

func (t Type) String() string { return typeNames[t] }

// LinkType is the type of a link.
type LinkType uint8

// The types of links, in the order of their names.
const (
	Calls LinkType = iota
	Contains
	Extends
	Implements
	Imports
)

var linkNames = [...]string{"calls", "contains", "extends", "implements", "imports"}

func (t LinkType) String() string { return linkNames[t] }

// ID is a UUID of version 5. It is bare bytes, because a uuid.UUID goes to Postgres through its text.
type ID = [16]byte

// Node is a node of the graph.
type Node struct {
	ID         ID
	Type       Type
	Name       string
	Part       int    // index into Graph.Parts
	Path       string // "" for a module outside of the context
	Language   string
	Start, End int32 // lines, 0 for none
	Exported   *bool // nil where the language does not say
	References int32
}

// Link is a link between two nodes, which are indexes into Graph.Nodes.
type Link struct {
	Source, Target int32
	Type           LinkType
	Count          int32
}

// Part is what a build compares as a whole: the nodes of a file and the links that begin in it, or a share of the modules.
type Part struct {
	Path    string // "" for modules
	Bucket  int    // of modules
	Digest  [16]byte
	Cluster int32 // 0 for none
}

// Graph is the whole graph of a context. Links are in the order of their sources' ids and then their targets'.
type Graph struct {
	Nodes    []Node
	Links    []Link
	Parts    []Part
	Clusters int
	// Parsed counts the files that gave a tree, Texts all text files.
	Parsed, Texts int
}

// Source is the current file set of a context. Each gives the files in order, nil for one that could not be parsed and is a node all the
// same. Build calls it twice.
type Source interface {
	Paths() []string
	// Text is the content of a file that says where modules are, "" when it cannot be read.
	Text(ctx context.Context, i int) (string, error)
	Each(ctx context.Context, visit func(i int, f *parse.File) error) error
}

// buckets is the number of parts that modules are in.
const buckets = 64

// seen is a node while the graph is made. One that is folded has no node: what leads to it leads to the one above.
type seen struct {
	id         ID
	name       string
	file       int32 // -1 for modules
	above      int32 // the node that contains it, -1 for none
	start, end int32
	references int32
	typ        Type
	folded     bool
	external   bool
	exported   int8 // 1 yes, -1 no, 0 unknown
}

type builder struct {
	context   uuid.UUID
	paths     []string
	languages []string
	nodes     []seen
	links     []Link
	parsed    int
	texts     int
}

// Build makes the graph of a context.
func Build(ctx context.Context, contextID uuid.UUID, src Source) (*Graph, error) {
	paths := src.Paths()
	b := &builder{context: contextID, paths: paths, languages: make([]string, len(paths))}
	names := resolve.New(paths)
	for i, p := range paths {
		if !resolve.Configures(p) {
			continue
		}
		text, err := src.Text(ctx, i)
		if err != nil {
			return nil, err
		}
		names.Configure(i, text)
	}
	err := src.Each(ctx, func(i int, f *parse.File) error {
		b.texts++
		if f == nil {
			f = &parse.File{Language: parse.Language(paths[i], "")}
		} else if f.Structured {
			b.parsed++
		}
		b.languages[i] = strings.Clone(f.Language)
		b.take(names.Add(i, f), f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.take(names.Seal(), nil)
	err = src.Each(ctx, func(i int, f *parse.File) error {
		if f == nil {
			return nil
		}
		found, modules := names.Links(i, f)
		b.take(modules, nil)
		b.link(found)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return b.graph(), nil
}

// take remembers nodes, which are numbered in order.
func (b *builder) take(nodes []resolve.Node, f *parse.File) {
	for k := range nodes {
		n := &nodes[k]
		s := seen{file: int32(n.File), above: -1, start: int32(n.Start), end: int32(n.End), external: n.External}
		symbol, path := n.Symbol, ""
		if n.File >= 0 {
			path = b.paths[n.File]
		}
		switch n.Kind {
		case "file":
			s.typ, s.name, symbol = File, path, ""
		case "module":
			s.typ, s.name = Module, n.Name
			if n.File < 0 {
				symbol = n.Name
				if !n.External {
					path = n.Name
				}
			} else { // a namespace of a file is neither a package nor imported: its declarations are the file's
				s.folded, s.above = true, n.Above
			}
		case "class":
			s.typ, s.name, s.above = Class, n.Name, n.Above
			s.folded = f != nil && n.Decl != nil && isBareAlias(f.Language, n.Decl)
		case "function":
			s.typ, s.name, s.above = Function, methodName(n), n.Above
			s.folded = n.Parent != nil && (n.Parent.Kind == parse.Function || n.Parent.Kind == parse.Method)
		case "variable":
			s.typ, s.name, s.above = Variable, n.Name, n.Above
			s.folded = n.Parent != nil && n.Parent.Kind != parse.Module || n.Decl != nil && n.Decl.Scope.EndByte > 0
		}
		if len(b.nodes) >= maxSeen && s.typ != File {
			s.folded = true
		}
		if s.folded && s.above < 0 {
			s.above = int32(len(b.nodes)) // nothing above: what leads to it leads nowhere
		}
		if !s.folded {
			s.name = clip(s.name)
			s.id = b.id(s.typ, path, symbol)
			if f != nil && n.Decl != nil {
				s.exported = exported(f, n)
			}
		} else {
			s.name = ""
		}
		b.nodes = append(b.nodes, s)
	}
}

// id names a node by what it is and where: version 5, in the name space that is the context's id.
func (b *builder) id(t Type, path, symbol string) ID {
	h := sha1.New() //nolint:gosec // see above
	h.Write(b.context[:])
	for _, s := range [...]string{t.String(), "\x00", path, "\x00", symbol} {
		h.Write([]byte(s))
	}
	var id ID
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// clip cuts a name to what the database takes: valid text of bounded length.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return strings.Clone(s)
}

// isBareAlias reports whether a declaration only names another type. TypeScript's aliases of object shape are classes.
func isBareAlias(language string, d *parse.Decl) bool {
	if d.Kind != parse.Type || language != "typescript" && language != "tsx" {
		return false
	}
	signature := d.Signature
	if k := strings.LastIndexByte(signature, '>'); strings.ContainsRune(signature[:max(k, 0)], '<') {
		signature = signature[:strings.IndexByte(signature, '<')] + signature[k+1:]
	}
	return strings.Contains(signature, "=")
}

// methodName is Class.method, or the name alone of what belongs to no class.
func methodName(n *resolve.Node) string {
	if n.Parent != nil && n.Parent.Kind == parse.Module || n.Decl == nil {
		return n.Name
	}
	if owner, _, ok := cutLast(n.Symbol); ok && (n.Parent != nil || n.Decl.Owner != "") {
		if _, last, ok := cutLast(owner); ok {
			owner = last
		}
		return owner + "." + n.Name
	}
	return n.Name
}

func cutLast(s string) (before, after string, ok bool) {
	k := strings.LastIndexByte(s, '.')
	if k < 0 {
		return "", s, false
	}
	return s[:k], s[k+1:], true
}

// exported says by the rules of the language whether other files may use a declaration.
func exported(f *parse.File, n *resolve.Node) int8 {
	yes := func(b bool) int8 {
		if b {
			return 1
		}
		return -1
	}
	d := n.Decl
	switch f.Language {
	case "go":
		first, _ := utf8.DecodeRuneInString(d.Name)
		return yes(unicode.IsUpper(first))
	case "python":
		return yes(!strings.HasPrefix(d.Name, "_"))
	case "rust":
		return yes(strings.HasPrefix(d.Signature, "pub"))
	case "java", "csharp":
		return yes(strings.HasPrefix(d.Signature, "public ") || strings.Contains(d.Signature, " public "))
	case "typescript", "tsx", "javascript":
		if n.Parent != nil {
			return 0
		}
		if slices.ContainsFunc(f.Exports, func(e parse.Export) bool { return e.Local == d.Name && e.From == "" }) {
			return 1
		}
		return yes(d.Exports)
	}
	return 0
}

// shown follows a node to the one that is shown in its place, -1 for none.
func (b *builder) shown(n int32) int32 {
	for b.nodes[n].folded {
		if b.nodes[n].above == n {
			return -1
		}
		n = b.nodes[n].above
	}
	return n
}

// link remembers the links of a file. Containment follows from the nodes, except that of packages.
func (b *builder) link(found map[resolve.Edge]int32) {
	begin := len(b.links)
	for e, count := range found {
		t := LinkType(slices.Index(linkNames[:], e.Kind))
		if t == Contains && b.nodes[e.From].file >= 0 {
			continue
		}
		from, to := b.shown(e.From), b.shown(e.To)
		if from < 0 || to < 0 || from == to {
			continue
		}
		b.links = append(b.links, Link{from, to, t, count})
	}
	b.links = b.links[:begin+merge(b.links[begin:])]
	if len(b.links) > maxFound { // the order of a map must not decide
		slices.SortFunc(b.links[begin:], compareLinks)
		b.links = b.links[:max(begin, maxFound)]
	}
}

func compareLinks(x, y Link) int {
	return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.Target, y.Target), cmp.Compare(x.Type, y.Type))
}

// merge joins links of the same ends and type, and returns how many are left.
func merge(links []Link) int {
	slices.SortFunc(links, compareLinks)
	n := 0
	for _, l := range links {
		if n > 0 && compareLinks(links[n-1], l) == 0 {
			links[n-1].Count = addCount(links[n-1].Count, l.Count)
			continue
		}
		links[n] = l
		n++
	}
	return n
}

func addCount(a, b int32) int32 { return int32(min(int64(a)+int64(b), 1<<31-1)) }

// graph chooses what is within the limits, and puts it in order.
func (b *builder) graph() *Graph {
	b.links = b.links[:merge(b.links)]
	for _, l := range b.links {
		if l.Type != Contains {
			b.nodes[l.Target].references = addCount(b.nodes[l.Target].references, l.Count)
		}
	}
	kept := b.choose()
	g := &Graph{Parsed: b.parsed, Texts: b.texts}
	// Numbers in the order of ids, so that equal contents give equal graphs.
	order := make([]int32, 0, len(kept))
	for n, keep := range kept {
		if keep {
			order = append(order, int32(n))
		}
	}
	slices.SortFunc(order, func(x, y int32) int { return slices.Compare(b.nodes[x].id[:], b.nodes[y].id[:]) })
	place := make([]int32, len(b.nodes))
	for n := range place {
		place[n] = -1
	}
	parts := map[int]int{} // number of a file, or minus one less than the bucket of modules
	g.Nodes = make([]Node, 0, len(order))
	for _, n := range order {
		s := &b.nodes[n]
		if len(g.Nodes) > 0 && g.Nodes[len(g.Nodes)-1].ID == s.id { // one external module under two numbers
			place[n] = int32(len(g.Nodes) - 1)
			g.Nodes[place[n]].References = addCount(g.Nodes[place[n]].References, s.references)
			continue
		}
		key := int(s.file)
		if s.file < 0 {
			key = -1 - int(s.id[0])%buckets
		}
		part, ok := parts[key]
		if !ok {
			part = len(g.Parts)
			parts[key] = part
			p := Part{}
			if key < 0 {
				p.Bucket = -key
			} else {
				p.Path = b.paths[key]
			}
			g.Parts = append(g.Parts, p)
		}
		node := Node{ID: s.id, Type: s.typ, Name: s.name, Part: part, Start: s.start, End: s.end, References: s.references}
		switch {
		case s.file >= 0:
			node.Path, node.Language = b.paths[s.file], b.languages[s.file]
		case !s.external:
			node.Path = s.name
		}
		if s.exported != 0 {
			node.Exported = new(s.exported > 0)
		}
		place[n] = int32(len(g.Nodes))
		g.Nodes = append(g.Nodes, node)
	}
	for _, l := range b.links {
		if l.Source, l.Target = place[l.Source], place[l.Target]; l.Source >= 0 && l.Target >= 0 && l.Source != l.Target {
			g.Links = append(g.Links, l)
		}
	}
	for _, n := range order {
		s := &b.nodes[n]
		if s.above < 0 {
			continue
		}
		if above := b.shown(s.above); above >= 0 && place[above] >= 0 && place[above] != place[n] {
			g.Links = append(g.Links, Link{place[above], place[n], Contains, 1})
		}
	}
	g.Links = g.Links[:merge(g.Links)]
	b.limitLinks(g)
	g.cluster()
	g.digest()
	return g
}

// choose decides which nodes are kept. On excess variables go first, then functions that nothing refers to (contract 60, 9.2); then what has
// the fewest references, functions before classes, modules and files.
func (b *builder) choose() []bool {
	kept := make([]bool, len(b.nodes))
	count, links := 0, 0
	for n := range b.nodes {
		if kept[n] = !b.nodes[n].folded; kept[n] {
			count++
		}
	}
	degree := make([]int32, len(b.nodes))
	for _, l := range b.links {
		if l.Type != Contains {
			links++
			degree[l.Source]++
			degree[l.Target]++
		}
	}
	if count <= MaxNodes && links <= MaxLinks {
		return kept
	}
	expendable := make([]int32, 0, count)
	for n := range b.nodes {
		if kept[n] {
			expendable = append(expendable, int32(n))
		}
	}
	rank := func(n int32) int {
		switch s := &b.nodes[n]; {
		case s.typ == Variable:
			return 0
		case s.typ == Function && s.references == 0:
			return 1
		default:
			return 2 + int(Function-min(s.typ, Function))
		}
	}
	slices.SortFunc(expendable, func(x, y int32) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(b.nodes[x].references, b.nodes[y].references), slices.Compare(b.nodes[y].id[:], b.nodes[x].id[:]))
	})
	// Links of two nodes that go are counted twice, so that at most too many links seem gone; limitLinks does the rest.
	for _, n := range expendable {
		if count <= MaxNodes && (links <= MaxLinks || rank(n) > 1) {
			break
		}
		kept[n] = false
		count--
		links -= int(degree[n])
	}
	return kept
}

// limitLinks drops links beyond the limit: those that repeat least, calls first.
func (b *builder) limitLinks(g *Graph) {
	shown := make([]int32, 0, len(g.Links))
	for i, l := range g.Links {
		if l.Type != Contains {
			shown = append(shown, int32(i))
		}
	}
	if len(shown) <= MaxLinks {
		return
	}
	slices.SortFunc(shown, func(x, y int32) int {
		return cmp.Or(-cmp.Compare(g.Links[x].Count, g.Links[y].Count), -cmp.Compare(g.Links[x].Type, g.Links[y].Type), cmp.Compare(x, y))
	})
	drop := make(map[int32]bool, len(shown)-MaxLinks)
	for _, i := range shown[MaxLinks:] {
		drop[i] = true
	}
	n := 0
	for i, l := range g.Links {
		if !drop[int32(i)] {
			g.Links[n] = l
			n++
		}
	}
	g.Links = g.Links[:n]
}

// cluster numbers the connected components of at least two nodes by size; modules join nothing. All nodes of a file are in one, because the
// file contains them, so files are joined and not nodes.
func (g *Graph) cluster() {
	root := make([]int, len(g.Parts))
	size := make([]int, len(g.Parts))
	first := make([]int32, len(g.Parts))
	for p := range root {
		root[p], first[p] = p, -1
	}
	find := func(p int) int {
		for root[p] != p {
			root[p] = root[root[p]]
			p = root[p]
		}
		return p
	}
	for _, l := range g.Links {
		s, t := &g.Nodes[l.Source], &g.Nodes[l.Target]
		if s.Type != Module && t.Type != Module {
			root[find(s.Part)] = find(t.Part)
		}
	}
	for i, n := range g.Nodes {
		if n.Type == Module {
			continue
		}
		p := find(n.Part)
		size[p]++
		if first[p] < 0 {
			first[p] = int32(i)
		}
	}
	var found []int
	for p := range root {
		if size[p] >= 2 {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(x, y int) int { return cmp.Or(-cmp.Compare(size[x], size[y]), cmp.Compare(first[x], first[y])) })
	number := make(map[int]int32, len(found))
	for i, p := range found {
		number[p] = int32(i + 1)
	}
	for p := range g.Parts {
		if g.Parts[p].Path != "" {
			g.Parts[p].Cluster = number[find(p)]
		}
	}
	g.Clusters = len(found)
}

// digest hashes each part: its nodes and the links that begin at them, both in order.
func (g *Graph) digest() {
	hashes := make([]interface {
		Write(p []byte) (int, error)
		Sum(b []byte) []byte
	}, len(g.Parts))
	for p := range hashes {
		hashes[p] = sha256.New()
	}
	var buf []byte
	text := func(s string) {
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		buf = append(buf, s...)
	}
	next := 0
	for i := range g.Nodes {
		n := &g.Nodes[i]
		buf = append(append(buf[:0], n.ID[:]...), byte(n.Type))
		text(n.Name)
		text(n.Path)
		text(n.Language)
		buf = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(buf, uint64(n.Start)), uint64(n.End)), uint64(n.References))
		switch {
		case n.Exported == nil:
			buf = append(buf, 0)
		case *n.Exported:
			buf = append(buf, 1)
		default:
			buf = append(buf, 2)
		}
		for ; next < len(g.Links) && int(g.Links[next].Source) == i; next++ {
			l := g.Links[next]
			buf = append(append(buf, g.Nodes[l.Target].ID[:]...), byte(l.Type))
			buf = binary.AppendUvarint(buf, uint64(l.Count))
		}
		_, _ = hashes[n.Part].Write(buf)
	}
	for p := range g.Parts {
		copy(g.Parts[p].Digest[:], hashes[p].Sum(nil))
	}
}

// Shown counts the links that answers have.
func (g *Graph) Shown() (n int) {
	for _, l := range g.Links {
		if l.Type != Contains {
			n++
		}
	}
	return n
}
