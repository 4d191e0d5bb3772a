package ingestion

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"kijko/worker/ingestion/graph"
)

const graphBatch = 2000

// indexGraph stores nodes and links. It first stores the nodes, file by file, and remembers the names. Then it stores the links,
// which may point to any file, and the modules outside of the project that imports lead to.
func (r *run) indexGraph(ctx context.Context) error {
	paths := make([]string, len(r.files))
	for i, f := range r.files {
		paths[i] = r.name(f)
	}
	g := &graphStore{r: r, b: graph.New(paths)}
	for i, p := range paths {
		if !graph.Configures(p) {
			continue
		}
		var file parsedFile
		if ok, err := r.record(i, &file); err != nil {
			return err
		} else if ok {
			g.b.Configure(i, file.Text)
		}
	}
	err := g.each(ctx, func(i int, p *parsedFile) error {
		g.take(g.b.Add(i, &p.File))
		return g.send(ctx, graphBatch)
	})
	if err != nil {
		return err
	}
	g.take(g.b.Seal())
	err = g.each(ctx, func(i int, p *parsedFile) error {
		found, modules := g.b.Links(i, &p.File)
		g.take(modules)
		edges := make([]graph.Edge, 0, len(found))
		for e := range found {
			edges = append(edges, e)
		}
		slices.SortFunc(edges, func(a, b graph.Edge) int {
			return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To), cmp.Compare(a.Kind, b.Kind))
		})
		for _, e := range edges {
			g.links.from = append(g.links.from, r.t.id(kindNode, int(e.From)))
			g.links.to = append(g.links.to, r.t.id(kindNode, int(e.To)))
			g.links.kinds = append(g.links.kinds, e.Kind)
			g.links.weights = append(g.links.weights, found[e])
		}
		return g.send(ctx, graphBatch)
	})
	if err != nil {
		return err
	}
	return g.send(ctx, 1)
}

// graphStore collects the next batch to store.
type graphStore struct {
	r     *run
	b     *graph.Builder
	count int
	nodes nodeRows
	links linkRows
}

// take adds nodes and numbers them in order.
func (g *graphStore) take(nodes []graph.Node) {
	r := g.r
	for k := range nodes {
		n := &nodes[k]
		var file pgtype.UUID
		if n.File >= 0 {
			file = pgtype.UUID{Bytes: r.t.id(kindFile, n.File), Valid: true}
		}
		meta := map[string]any{}
		switch {
		case n.External:
			meta["external"] = true
		case n.Kind == "file":
			meta["language"] = n.Language
		case n.Decl != nil:
			meta["kind"] = string(n.Decl.Kind)
			if n.Decl.Signature != "" && r.t.MetadataOptions.Signatures {
				meta["signature"] = n.Decl.Signature
			}
		}
		g.nodes.ids = append(g.nodes.ids, r.t.id(kindNode, g.count))
		g.nodes.files = append(g.nodes.files, file)
		g.nodes.kinds = append(g.nodes.kinds, n.Kind)
		g.nodes.names = append(g.nodes.names, n.Name)
		g.nodes.qualified = append(g.nodes.qualified, n.Qualified)
		g.nodes.starts = append(g.nodes.starts, lineOf(n.Start))
		g.nodes.ends = append(g.nodes.ends, lineOf(n.End))
		g.nodes.metadata = append(g.nodes.metadata, mustJSON(meta))
		g.count++
	}
}

func lineOf(n int) *int32 {
	if n <= 0 {
		return nil
	}
	v := int32(n)
	return &v
}

// send stores the batch when it has reached the batch size.
func (g *graphStore) send(ctx context.Context, batch int) error {
	if len(g.nodes.ids) >= batch {
		if err := g.r.store.nodes(ctx, &g.nodes); err != nil {
			return err
		}
		g.nodes = nodeRows{}
	}
	if len(g.links.from) >= batch {
		if err := g.r.store.links(ctx, &g.links); err != nil {
			return err
		}
		g.links = linkRows{}
	}
	return nil
}

// each visits the parsed files in order and decodes ahead.
func (g *graphStore) each(ctx context.Context, visit func(i int, p *parsedFile) error) error {
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
			return nil
		}
		return visit(i, p)
	})
}
