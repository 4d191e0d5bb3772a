// Command graph measures the largest graph that a context may have, 50,000 nodes and 250,000 links: storing it beside a COPY of the same rows
// into tables of the same shape without row-level security, storing a change of one file in a hundred beside all of it, and reading it.
// DATABASE_URL names an empty, set-up database.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kijko/worker/graph"
)

const (
	files   = 5_000
	perFile = graph.MaxNodes / files
	rounds  = 3
	reads   = 60
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench graph:", err)
		os.Exit(1)
	}
}

// largest makes a graph of so many nodes and links. Each file has a class and functions; a few are called by many.
func largest(contextID uuid.UUID, changed int) *graph.Graph {
	chance := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same graph each time
	g := &graph.Graph{Clusters: 1, Parsed: files, Texts: files}
	type row struct {
		node graph.Node
		file int
	}
	rows := make([]row, 0, graph.MaxNodes)
	for f := range files {
		path := fmt.Sprintf("src/package%02d/some/directory/file%04d.ts", f%50, f)
		for k := range perFile {
			n := graph.Node{Type: graph.Function, Name: fmt.Sprintf("Service%d.handle%d", f, k), Part: f, Path: path, Language: "typescript", Start: int32(10 * k), End: int32(10*k + 8), Exported: new(k%2 == 0)}
			switch k {
			case 0:
				n.Type, n.Name = graph.File, path
			case 1:
				n.Type, n.Name = graph.Class, fmt.Sprintf("Service%d", f)
			}
			if f < changed {
				n.End++
			}
			n.ID = graph.ID(uuid.NewSHA1(contextID, []byte(n.Type.String()+n.Path+n.Name)))
			rows = append(rows, row{n, f})
		}
		g.Parts = append(g.Parts, graph.Part{Path: path, Cluster: 1})
	}
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return slices.Compare(rows[x].node.ID[:], rows[y].node.ID[:]) })
	place := make([]int32, len(rows))
	for i, n := range order {
		place[n] = int32(i)
		g.Nodes = append(g.Nodes, rows[n].node)
	}
	taken := map[[2]int32]bool{}
	for len(taken) < graph.MaxLinks {
		from, to := chance.IntN(len(rows)), int(float64(len(rows))*chance.Float64()*chance.Float64()*chance.Float64())
		at := [2]int32{place[from], place[to]}
		if from == to || taken[at] {
			continue
		}
		taken[at] = true
		g.Links = append(g.Links, graph.Link{Source: at[0], Target: at[1], Type: graph.Calls, Count: int32(1 + chance.IntN(3))})
		g.Nodes[at[1]].References += g.Links[len(g.Links)-1].Count
	}
	for n := range rows {
		if n%perFile != 0 {
			g.Links = append(g.Links, graph.Link{Source: place[n-n%perFile], Target: place[n], Type: graph.Contains, Count: 1})
		}
	}
	slices.SortFunc(g.Links, func(x, y graph.Link) int {
		return slices.Compare([]int32{x.Source, x.Target, int32(x.Type)}, []int32{y.Source, y.Target, int32(y.Type)})
	})
	for p := range g.Parts {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %v", p, p < changed))
		copy(g.Parts[p].Digest[:], sum[:])
	}
	return g
}

type bed struct {
	conn      *pgx.Conn
	user, org uuid.UUID
}

func run(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	b := &bed{conn: conn}
	if err := conn.QueryRow(ctx, "insert into public.users (email, first_name) values ('anna@example.nl', 'Anna') returning id").Scan(&b.user); err != nil {
		return err
	}
	if err := conn.QueryRow(ctx, "select private.create_organization('Bench', $1)", b.user).Scan(&b.org); err != nil {
		return err
	}
	for _, table := range []string{"kg_nodes", "kg_edges", "kg_files"} {
		if _, err := conn.Exec(ctx, fmt.Sprintf("create table public.copy_%[1]s (like public.%[1]s including all)", table)); err != nil {
			return err
		}
	}
	var stored, copied, difference []time.Duration
	var id uuid.UUID
	for range rounds {
		if id, err = b.context(ctx); err != nil {
			return err
		}
		g := largest(id, 0)
		took, _, err := b.store(ctx, id, g)
		if err != nil {
			return err
		}
		stored = append(stored, took)
		if took, err = b.copy(ctx, id, g); err != nil {
			return err
		}
		copied = append(copied, took)
		took, change, err := b.store(ctx, id, largest(id, files/100))
		if err != nil {
			return err
		}
		if change.NodesChanged != graph.MaxNodes/100 || change.NodesAdded+change.LinksAdded > 0 {
			return fmt.Errorf("a change of one file in a hundred wrote %+v", change)
		}
		difference = append(difference, took)
	}
	full := median(stored)
	fmt.Printf("%-14s %5.2f  storing 50,000 nodes and 250,000 links / COPY of the same rows without row-level security (%.1f s / %.1f s)\n", "graph",
		ratio(full, median(copied)), full.Seconds(), median(copied).Seconds())
	fmt.Printf("%-14s %5.3f  storing a change of one file in a hundred / storing all (%.2f s / %.1f s)\n", "graph", ratio(median(difference), full), median(difference).Seconds(), full.Seconds())

	if _, err := conn.Exec(ctx, "vacuum analyze public.kg_nodes, public.kg_edges, public.kg_files, public.kg_generations"); err != nil {
		return err
	}
	var node, other string
	if err := conn.QueryRow(ctx, "select min(id::text), max(id::text) from public.kg_nodes where project_id = $1", id).Scan(&node, &other); err != nil {
		return err
	}
	yard, err := b.ask(ctx, "get_knowledge_graph", map[string]any{"contextId": id, "limit": 1})
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name, function string
		p              map[string]any
	}{
		{"the whole graph, 500 nodes", "get_knowledge_graph", map[string]any{"limit": 500}},
		{"the whole graph, 5,000 nodes", "get_knowledge_graph", map[string]any{"limit": 5000}},
		{"classes", "get_knowledge_graph", map[string]any{"type": "class"}},
		{"a search", "get_knowledge_graph", map[string]any{"search": "service77"}},
		{"a path that fits one file in fifty", "get_knowledge_graph", map[string]any{"path": "src/package07/"}},
		{"neighbors of a node, depth 2", "get_graph_node", map[string]any{"nodeId": node, "depth": 2}},
		{"a path between two nodes", "get_graph_path", map[string]any{"from": node, "to": other}},
	} {
		c.p["contextId"] = id
		took, err := b.ask(ctx, c.function, c.p)
		if err != nil {
			return err
		}
		fmt.Printf("%-14s %5.1f  %s / one node of it (median of %d: %.1f ms / %.1f ms)\n", "graph", ratio(took, yard), c.name, reads, ms(took), ms(yard))
	}
	return nil
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func (b *bed) context(ctx context.Context) (id uuid.UUID, err error) {
	id = uuid.New()
	_, err = b.conn.Exec(ctx, "insert into public.projects (id, organization_id, user_id, name, type) values ($1, $2, $3, $4, 'files')", id, b.org, b.user, "Context "+id.String()[:8])
	return id, err
}

// store times the transaction that makes g the context's graph, as the worker.
func (b *bed) store(ctx context.Context, id uuid.UUID, g *graph.Graph) (took time.Duration, change graph.Change, err error) {
	began := time.Now()
	err = pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) (err error) {
		if _, err = tx.Exec(ctx, "set local role kijko_worker"); err != nil {
			return err
		}
		change, err = graph.Apply(ctx, tx, id, g, -1)
		return err
	})
	return time.Since(began), change, err
}

// copy times a COPY of the same rows.
func (b *bed) copy(ctx context.Context, id uuid.UUID, g *graph.Graph) (took time.Duration, err error) {
	began := time.Now()
	err = pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"public", "copy_kg_files"}, []string{"organization_id", "project_id", "part", "path", "digest", "cluster"},
			pgx.CopyFromSlice(len(g.Parts), func(i int) ([]any, error) {
				return []any{b.org, id, i, g.Parts[i].Path, g.Parts[i].Digest[:], g.Parts[i].Cluster}, nil
			}))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"public", "copy_kg_nodes"}, []string{"organization_id", "project_id", "id", "part", "type", "name", "path", "language", "start_line", "end_line",
			"is_exported", "reference_count"}, pgx.CopyFromSlice(len(g.Nodes), func(i int) ([]any, error) {
			n := &g.Nodes[i]
			return []any{b.org, id, n.ID, n.Part, n.Type.String(), n.Name, n.Path, n.Language, n.Start, n.End, n.Exported, n.References}, nil
		}))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"public", "copy_kg_edges"}, []string{"organization_id", "project_id", "source_id", "target_id", "type", "count"},
			pgx.CopyFromSlice(len(g.Links), func(i int) ([]any, error) {
				l := g.Links[i]
				return []any{b.org, id, g.Nodes[l.Source].ID, g.Nodes[l.Target].ID, l.Type.String(), l.Count}, nil
			}))
		return err
	})
	return time.Since(began), err
}

// ask is the median time of an operation's function, as Anna.
func (b *bed) ask(ctx context.Context, function string, p map[string]any) (time.Duration, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	var all []time.Duration
	for range reads {
		err := pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `select set_config('app.user_id', $1, true), set_config('app.org_id', $2, true), set_config('app.org_role', 'owner', true),
				set_config('role', 'authenticated', true)`, b.user.String(), b.org.String()); err != nil {
				return err
			}
			var answer []byte
			began := time.Now()
			if err := tx.QueryRow(ctx, "select api."+function+"($1)", raw).Scan(&answer); err != nil {
				return err
			}
			all = append(all, time.Since(began))
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return median(all), nil
}
