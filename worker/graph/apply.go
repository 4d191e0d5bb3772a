package graph

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// batch is the number of rows in one statement.
const batch = 5000

// Change counts the rows that a build wrote.
type Change struct {
	Generation                                                              int
	NodesAdded, NodesChanged, NodesRemoved, LinksAdded, LinksRemoved, Parts int
}

// Generation reads the number of the current graph, to build on.
func Generation(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, contextID uuid.UUID) (n int, err error) {
	err = q.QueryRow(ctx, "select private.graph_generation($1)", contextID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("generation of the graph: %w", err)
	}
	return n, nil
}

// Apply makes g the next generation of the context's graph. It reads the stored rows of the parts whose digests differ, and writes only the
// rows that differ. It fails with a serialization failure when base is not the current generation any more; a negative base is not compared.
// Readers see the change when tx commits.
func Apply(ctx context.Context, tx pgx.Tx, contextID uuid.UUID, g *Graph, base int) (Change, error) {
	a := &apply{ctx: ctx, tx: tx, id: contextID, g: g}
	err := a.run(base)
	if err != nil {
		return Change{}, fmt.Errorf("write the graph: %w", err)
	}
	return a.change, nil
}

type apply struct {
	ctx    context.Context
	tx     pgx.Tx
	id     uuid.UUID
	g      *Graph
	change Change

	numbers []int32 // stored number of each part
	differs []bool  // parts whose rows are compared
}

func (a *apply) exec(sql string, args ...any) error {
	_, err := a.tx.Exec(a.ctx, sql, append([]any{a.id}, args...)...)
	return err
}

type storedPart struct {
	part    int32
	path    *string
	digest  []byte
	cluster *int32
}

func (a *apply) run(base int) error {
	var given *int
	if base >= 0 {
		given = &base
	}
	if err := a.exec("select private.open_graph($1, $2)", given); err != nil {
		return err
	}
	rows, err := a.tx.Query(a.ctx, "select part, path, digest, cluster from private.read_graph_files($1)", a.id)
	if err != nil {
		return err
	}
	stored, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p storedPart, err error) {
		err = row.Scan(&p.part, &p.path, &p.digest, &p.cluster)
		return p, err
	})
	if err != nil {
		return err
	}
	gone, compared := a.match(stored)
	if err := a.rows(append(gone, compared...)); err != nil {
		return err
	}
	if err := a.parts(stored, gone); err != nil {
		return err
	}
	return a.tx.QueryRow(a.ctx, "select private.switch_graph($1, $2, $3, $4, $5, $6)", a.id, len(a.g.Nodes), a.g.Shown(), a.g.Clusters, a.g.Parsed,
		a.g.Texts).Scan(&a.change.Generation)
}

// match numbers the parts, and returns the stored ones that are gone and those whose rows are to be compared.
func (a *apply) match(stored []storedPart) (gone, compared []int32) {
	byPath, highest := make(map[string]int, len(a.g.Parts)), int32(-1)
	key := func(path string, bucket int) string {
		if bucket > 0 {
			return string(rune(bucket))
		}
		return "/" + path
	}
	a.numbers, a.differs = make([]int32, len(a.g.Parts)), make([]bool, len(a.g.Parts))
	for i, p := range a.g.Parts {
		byPath[key(p.Path, p.Bucket)], a.numbers[i], a.differs[i] = i, -1, true
		if p.Bucket > 0 {
			a.numbers[i] = -int32(p.Bucket)
		}
	}
	for _, s := range stored {
		highest = max(highest, s.part)
		path, bucket := "", 0
		if s.path != nil {
			path = *s.path
		} else {
			bucket = int(-s.part)
		}
		i, ok := byPath[key(path, bucket)]
		if !ok {
			gone = append(gone, s.part)
			continue
		}
		a.numbers[i] = s.part
		if string(s.digest) == string(a.g.Parts[i].Digest[:]) {
			a.differs[i] = false
		} else {
			compared = append(compared, s.part)
		}
	}
	for i, p := range a.g.Parts {
		if p.Bucket == 0 && a.numbers[i] < 0 {
			highest++
			a.numbers[i] = highest
		}
	}
	return gone, compared
}

type storedLink struct {
	source, target ID
	typ            string
}

// rows compares the rows of the given stored parts with those of the new parts that differ, and writes the difference.
func (a *apply) rows(parts []int32) error {
	g := a.g
	old := map[ID]string{} // id -> what the row says
	links := map[storedLink]int32{}
	if len(parts) > 0 {
		rows, err := a.tx.Query(a.ctx, `select id, part, type, name, path, language, start_line, end_line, is_exported, reference_count
			from private.read_graph_nodes($1, $2)`, a.id, parts)
		if err != nil {
			return err
		}
		sources := make([]ID, 0, len(parts))
		for rows.Next() {
			var r nodeRow
			if err := rows.Scan(&r.id, &r.part, &r.typ, &r.name, &r.path, &r.language, &r.start, &r.end, &r.exported, &r.references); err != nil {
				rows.Close()
				return err
			}
			old[r.id] = r.text()
			sources = append(sources, r.id)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for len(sources) > 0 {
			n := min(len(sources), batch)
			rows, err := a.tx.Query(a.ctx, "select source_id, target_id, type, count from private.read_graph_edges($1, $2)", a.id, sources[:n])
			if err != nil {
				return err
			}
			for rows.Next() {
				var l storedLink
				var count int32
				if err := rows.Scan(&l.source, &l.target, &l.typ, &count); err != nil {
					rows.Close()
					return err
				}
				links[l] = count
			}
			if err := rows.Err(); err != nil {
				return err
			}
			sources = sources[n:]
		}
	}
	var added, changed nodeRows
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if !a.differs[n.Part] {
			continue
		}
		row := a.row(n)
		if was, ok := old[n.ID]; !ok {
			added.add(row)
			a.change.NodesAdded++
		} else {
			delete(old, n.ID)
			if was == row.text() {
				continue
			}
			changed.add(row)
			a.change.NodesChanged++
		}
	}
	var fresh linkRows
	for _, l := range g.Links {
		if !a.differs[g.Nodes[l.Source].Part] {
			continue
		}
		at := storedLink{g.Nodes[l.Source].ID, g.Nodes[l.Target].ID, l.Type.String()}
		if count, ok := links[at]; ok && count == l.Count {
			delete(links, at)
			continue
		}
		fresh.add(at, l.Count)
		a.change.LinksAdded++
	}
	var stale linkRows
	for l := range links {
		stale.add(l, 0)
	}
	a.change.LinksRemoved, a.change.NodesRemoved = len(links), len(old)
	if err := stale.each(func(r *linkRows) error {
		return a.exec("select private.delete_graph_edges($1, $2, $3, $4)", r.sources, r.targets, r.types)
	}); err != nil {
		return err
	}
	removed := make([]ID, 0, len(old))
	for id := range old {
		removed = append(removed, id)
	}
	for len(removed) > 0 {
		n := min(len(removed), batch)
		if err := a.exec("select private.delete_graph_nodes($1, $2)", removed[:n]); err != nil {
			return err
		}
		removed = removed[n:]
	}
	for sql, rows := range map[string]*nodeRows{"select private.update_graph_nodes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)": &changed,
		"select private.insert_graph_nodes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)": &added} {
		if err := rows.each(func(r *nodeRows) error {
			return a.exec(sql, r.ids, r.parts, r.types, r.names, r.paths, r.languages, r.starts, r.ends, r.exported, r.references)
		}); err != nil {
			return err
		}
	}
	return fresh.each(func(r *linkRows) error {
		return a.exec("select private.insert_graph_edges($1, $2, $3, $4, $5)", r.sources, r.targets, r.types, r.counts)
	})
}

// parts stores the digests and clusters of parts that came or changed.
func (a *apply) parts(stored []storedPart, gone []int32) error {
	was := make(map[int32]storedPart, len(stored))
	for _, s := range stored {
		was[s.part] = s
	}
	var numbers []int32
	var paths []*string
	var digests [][]byte
	var clusters []*int32
	for i := range a.g.Parts {
		p := &a.g.Parts[i]
		s, ok := was[a.numbers[i]]
		if ok && !a.differs[i] && (s.cluster == nil && p.Cluster == 0 || s.cluster != nil && *s.cluster == p.Cluster) {
			continue
		}
		numbers, digests = append(numbers, a.numbers[i]), append(digests, p.Digest[:])
		paths, clusters = append(paths, orNil(p.Path)), append(clusters, orNil(p.Cluster))
	}
	a.change.Parts = len(numbers) + len(gone)
	return a.exec("select private.store_graph_files($1, $2, $3, $4, $5, $6)", gone, numbers, paths, digests, clusters)
}

func orNil[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

type nodeRow struct {
	id             ID
	part           int32
	typ, name      string
	path, language *string
	start, end     *int32
	exported       *bool
	references     int32
}

func (a *apply) row(n *Node) nodeRow {
	return nodeRow{n.ID, a.numbers[n.Part], n.Type.String(), n.Name, orNil(n.Path), orNil(n.Language), orNil(n.Start), orNil(n.End), n.Exported, n.References}
}

// text is equal for equal rows.
func (r *nodeRow) text() string {
	value := func(v any) string {
		switch v := v.(type) {
		case *string:
			if v != nil {
				return "=" + *v
			}
		case *int32:
			if v != nil {
				return fmt.Sprint("=", *v)
			}
		case *bool:
			if v != nil {
				return fmt.Sprint("=", *v)
			}
		}
		return ""
	}
	return fmt.Sprint(r.part, "\x00", r.typ, "\x00", r.name, "\x00", value(r.path), "\x00", value(r.language), "\x00", value(r.start), "\x00", value(r.end), "\x00",
		value(r.exported), "\x00", r.references)
}

// nodeRows are columns of kg_nodes.
type nodeRows struct {
	ids              []ID
	parts            []int32
	types, names     []string
	paths, languages []*string
	starts, ends     []*int32
	exported         []*bool
	references       []int32
}

func (r *nodeRows) add(n nodeRow) {
	r.ids, r.parts, r.types, r.names = append(r.ids, n.id), append(r.parts, n.part), append(r.types, n.typ), append(r.names, n.name)
	r.paths, r.languages = append(r.paths, n.path), append(r.languages, n.language)
	r.starts, r.ends = append(r.starts, n.start), append(r.ends, n.end)
	r.exported, r.references = append(r.exported, n.exported), append(r.references, n.references)
}

func (r *nodeRows) each(write func(*nodeRows) error) error {
	for i := 0; i < len(r.ids); i += batch {
		j := min(len(r.ids), i+batch)
		if err := write(&nodeRows{r.ids[i:j], r.parts[i:j], r.types[i:j], r.names[i:j], r.paths[i:j], r.languages[i:j], r.starts[i:j], r.ends[i:j], r.exported[i:j],
			r.references[i:j]}); err != nil {
			return err
		}
	}
	return nil
}

// linkRows are columns of kg_edges.
type linkRows struct {
	sources, targets []ID
	types            []string
	counts           []int32
}

func (r *linkRows) add(l storedLink, count int32) {
	r.sources, r.targets, r.types, r.counts = append(r.sources, l.source), append(r.targets, l.target), append(r.types, l.typ), append(r.counts, count)
}

func (r *linkRows) each(write func(*linkRows) error) error {
	for i := 0; i < len(r.sources); i += batch {
		j := min(len(r.sources), i+batch)
		if err := write(&linkRows{r.sources[i:j], r.targets[i:j], r.types[i:j], r.counts[i:j]}); err != nil {
			return err
		}
	}
	return nil
}
