package graph

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/graph"
	"kijko/worker/ingestion/parse"
)

// texts is a context's file set: paths with their contents. A content of "!" cannot be parsed.
type texts map[string]string

func (s texts) Paths() []string { return slices.Sorted(maps.Keys(s)) }

func (s texts) Text(_ context.Context, i int) (string, error) { return s[s.Paths()[i]], nil }

func (s texts) Each(ctx context.Context, visit func(i int, f *parse.File) error) error {
	parser := parse.New()
	defer parser.Close()
	for i, path := range s.Paths() {
		if s[path] == "!" {
			if err := visit(i, nil); err != nil {
				return err
			}
			continue
		}
		f, err := parser.Parse(ctx, path, s[path], parse.Options{})
		if err != nil {
			return err
		}
		if err := visit(i, f); err != nil {
			return err
		}
	}
	return nil
}

// lab is a database with contexts of Anna's.
type lab struct {
	t      testing.TB
	db     *testdb.DB
	owner  *pgxpool.Pool
	worker *pgxpool.Pool
	user   uuid.UUID
	org    uuid.UUID
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, db: testdb.New(t)}
	l.owner, l.worker = l.db.Pool("postgres"), l.db.Pool("kijko_worker")
	l.user = value[uuid.UUID](l, "insert into public.users (email, first_name) values ('anna@example.org', 'Anna') returning id")
	l.org = value[uuid.UUID](l, "select private.create_organization('Analytical Engines', $1)", l.user)
	return l
}

func value[T any](l *lab, sql string, args ...any) (v T) {
	l.t.Helper()
	require.NoError(l.t, l.owner.QueryRow(l.t.Context(), sql, args...).Scan(&v))
	return v
}

func (l *lab) exec(sql string, args ...any) {
	l.t.Helper()
	_, err := l.owner.Exec(l.t.Context(), sql, args...)
	require.NoError(l.t, err)
}

// context makes an empty context.
func (l *lab) context() uuid.UUID {
	l.t.Helper()
	id := uuid.New()
	l.exec(`insert into public.projects (id, organization_id, user_id, name, type) values ($1, $2, $3, $4, 'files')`, id, l.org, l.user, "Context "+id.String()[:8])
	return id
}

// build makes the graph of files and stores it.
func (l *lab) build(id uuid.UUID, files texts) (*graph.Graph, graph.Change) {
	l.t.Helper()
	g, err := graph.Build(l.t.Context(), id, files)
	require.NoError(l.t, err)
	return g, l.apply(id, g)
}

func (l *lab) apply(id uuid.UUID, g *graph.Graph) (change graph.Change) {
	l.t.Helper()
	require.NoError(l.t, pgx.BeginFunc(l.t.Context(), l.worker, func(tx pgx.Tx) (err error) {
		change, err = graph.Apply(l.t.Context(), tx, id, g, -1)
		return err
	}))
	return change
}

// lines tells a graph in words, a line each node and link, sorted.
func lines(g *graph.Graph) []string {
	var all []string
	for _, n := range g.Nodes {
		exported := "?"
		if n.Exported != nil {
			exported = fmt.Sprint(*n.Exported)
		}
		all = append(all, fmt.Sprintf("%s %s %s %s %s %d-%d %s %d cluster %d", uuid.UUID(n.ID), n.Type, n.Name, n.Path, n.Language, n.Start, n.End, exported, n.References,
			cmp.Or(g.Parts[n.Part].Cluster, 0)))
	}
	for _, l := range g.Links {
		all = append(all, fmt.Sprintf("%s %s %s %d", uuid.UUID(g.Nodes[l.Source].ID), l.Type, uuid.UUID(g.Nodes[l.Target].ID), l.Count))
	}
	slices.Sort(all)
	return all
}

// stored tells the stored graph in the same words.
func (l *lab) stored(id uuid.UUID) []string {
	l.t.Helper()
	rows, err := l.owner.Query(l.t.Context(), `
		select concat(n.id, ' ', n.type, ' ', n.name, ' ', n.path, ' ', n.language, ' ', coalesce(n.start_line, 0), '-', coalesce(n.end_line, 0), ' ',
			coalesce(case when n.is_exported then 'true' else case when not n.is_exported then 'false' end end, '?'), ' ', n.reference_count, ' cluster ', coalesce(f.cluster, 0))
		from public.kg_nodes n join public.kg_files f on f.project_id = n.project_id and f.part = n.part where n.project_id = $1
		union all
		select concat_ws(' ', source_id, type, target_id, count) from public.kg_edges where project_id = $1`, id)
	require.NoError(l.t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(l.t, err)
	slices.Sort(all)
	return all
}

// named tells links by the names of their ends.
func named(g *graph.Graph) []string {
	var all []string
	for _, l := range g.Links {
		if l.Type != graph.Contains {
			all = append(all, fmt.Sprintf("%s %s %s %d", g.Nodes[l.Source].Name, l.Type, g.Nodes[l.Target].Name, l.Count))
		}
	}
	slices.Sort(all)
	return all
}

func names(g *graph.Graph, t graph.Type) string {
	var all []string
	for _, n := range g.Nodes {
		if n.Type == t {
			all = append(all, n.Name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// call runs an operation's function as Anna.
func (l *lab) call(function string, p map[string]any) (v any) {
	l.t.Helper()
	ctx := l.t.Context()
	raw, err := json.Marshal(p)
	require.NoError(l.t, err)
	tx, err := l.owner.Begin(ctx)
	require.NoError(l.t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `select set_config('app.user_id', $1, true), set_config('app.org_id', $2, true), set_config('app.org_role', 'owner', true),
		set_config('role', 'authenticated', true)`, l.user.String(), l.org.String())
	require.NoError(l.t, err)
	var out []byte
	require.NoError(l.t, tx.QueryRow(ctx, "select api."+function+"($1)", raw).Scan(&out))
	require.NoError(l.t, json.Unmarshal(out, &v))
	return v
}

// object is a value as its JSON reads.
func object(t *testing.T, v any) (o any) {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &o))
	return o
}

// filterOf is the filter that api.prepare_graph_read would make.
func filterOf(p map[string]any) graph.Filter {
	f := graph.Filter{Limit: 500}
	f.Type, _ = p["type"].(string)
	f.LinkTypes, _ = p["linkType"].([]string)
	f.Search, _ = p["search"].(string)
	f.Search = strings.ToLower(f.Search)
	f.Path, _ = p["path"].(string)
	f.MinReferences, _ = p["minReferences"].(int)
	if n, ok := p["limit"].(int); ok {
		f.Limit = n
	}
	return f
}
