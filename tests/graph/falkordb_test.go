package graph

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kijko/tests/peers"
	"kijko/worker/graph"
)

// copyOf is a generation as a mirror receives it.
func copyOf(n int, names ...string) *graph.Copy {
	c := &graph.Copy{Generation: n}
	for i, name := range names {
		c.Nodes = append(c.Nodes, graph.NodeRow{ID: uuid.NewSHA1(uuid.Nil, []byte(fmt.Sprint(i))).String(), Name: name, Lower: strings.ToLower(name), Type: "function", References: len(names) - i,
			Path: "a/" + name, Language: "go", StartLine: 1, EndLine: 2, Exported: new(i%2 == 0), Cluster: 1})
	}
	for i := 1; i < len(c.Nodes); i++ {
		c.Links = append(c.Links, graph.LinkRow{Source: c.Nodes[i-1].ID, Target: c.Nodes[i].ID, Type: "calls", Count: i})
	}
	return c
}

func newFalkor(t *testing.T) (*peers.FalkorDB, *graph.FalkorDB) {
	t.Helper()
	server := peers.NewFalkorDB(t)
	f, err := graph.NewFalkorDB(server.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return server, f
}

func TestFalkorDBKeepsEveryText(t *testing.T) {
	t.Parallel()
	_, f := newFalkor(t)
	id := uuid.New()
	names := []string{`"quoted" \back\`, "line\nbreak\ttab", "emoji 🎉 ünï", "<script>", "'; MATCH (n) DELETE n //", "$minimum", "true", "{}", "[1,2]", "a, b", `\u0041`, "%like_"}
	c := copyOf(7, names...)
	require.NoError(t, f.Replace(t.Context(), id, c))
	a, err := f.Read(t.Context(), id, 7, graph.Filter{Limit: 100})
	require.NoError(t, err)
	require.Len(t, a.Nodes, len(names))
	for i, n := range a.Nodes {
		c.Nodes[i].Color, c.Nodes[i].Lower = "#3b82f6", ""
		require.Equal(t, c.Nodes[i], n)
	}
	require.ElementsMatch(t, c.Links, a.Links)
	for _, name := range names {
		a, err := f.Read(t.Context(), id, 7, graph.Filter{Limit: 100, Search: strings.ToLower(name), Path: "a/" + name})
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(a.Nodes, func(n graph.NodeRow) bool { return n.Name == name }), "%q finds itself", name)
	}
	nodes, links, err := f.Statistics(t.Context(), id, 7)
	require.NoError(t, err)
	require.Equal(t, []int{len(names), len(names) - 1}, []int{nodes, links})
	_, err = f.Read(t.Context(), id, 8, graph.Filter{Limit: 1})
	require.ErrorIs(t, err, graph.ErrStale, "another generation is not served")
	require.NoError(t, f.Replace(t.Context(), id, &graph.Copy{Generation: 9}))
	a, err = f.Read(t.Context(), id, 9, graph.Filter{Limit: 1})
	require.NoError(t, err)
	require.Empty(t, a.Nodes, "an empty graph is a graph")
	require.NoError(t, f.Delete(t.Context(), id))
	require.NoError(t, f.Delete(t.Context(), id), "twice is no error")
	held, err := f.Holds(t.Context(), id)
	require.NoError(t, err)
	require.Zero(t, held)
}

func TestAReadOfFalkorDBNeverMixesGenerations(t *testing.T) {
	t.Parallel()
	server, f := newFalkor(t)
	id := uuid.New()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	const generations = 40
	read := make([]int, 3)
	for r := range read {
		wg.Go(func() {
			for ctx.Err() == nil {
				generation, err := f.Holds(t.Context(), id)
				if err != nil || generation == 0 {
					continue
				}
				a, err := f.Read(t.Context(), id, generation, graph.Filter{Limit: 100})
				if err != nil {
					if err != graph.ErrStale { //nolint:errorlint // the sentinel itself
						t.Errorf("read: %v", err)
					}
					continue
				}
				read[r]++
				for _, n := range a.Nodes {
					if want := fmt.Sprintf("g%d", generation); !strings.HasPrefix(n.Name, want+" ") {
						t.Errorf("generation %d has a node %s", generation, n.Name)
					}
				}
				if len(a.Nodes) != 3+generation || len(a.Links) != 2+generation {
					t.Errorf("generation %d has %d nodes and %d links", generation, len(a.Nodes), len(a.Links))
				}
			}
		})
	}
	for g := 1; g <= generations; g++ {
		var names []string
		for i := range 3 + g {
			names = append(names, fmt.Sprintf("g%d n%d", g, i))
		}
		require.NoError(t, f.Replace(t.Context(), id, copyOf(g, names...)))
	}
	cancel()
	wg.Wait()
	require.Positive(t, read[0]+read[1]+read[2])
	keys, err := server.Client().Keys(t.Context(), "*:next:*").Result()
	require.NoError(t, err)
	require.Empty(t, keys, "no graph is left over")
}

// TestFalkorDBAnswersAsPostgresDoes holds every kind of read of a random graph against SQL.
func TestFalkorDBAnswersAsPostgresDoes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	_, f := newFalkor(t)
	id := l.context()
	chance := rand.New(rand.NewPCG(3, 4))
	files := texts{}
	for i := range 25 {
		var text strings.Builder
		for range 4 {
			fmt.Fprintf(&text, "import { f%d } from './f%02d'\nimport x from 'm%d'\n", chance.IntN(4), chance.IntN(25), chance.IntN(6))
		}
		for k := range 4 {
			fmt.Fprintf(&text, "export function f%d() { f%d(); f%d() }\nexport class C%d extends C%d { Go() { f1() } }\nconst v%d = 1\n", k, chance.IntN(4), chance.IntN(4), k, chance.IntN(4), k)
		}
		files[fmt.Sprintf("src/%c/f%02d.ts", 'a'+rune(i%3), i)] = text.String()
	}
	g, change := l.build(id, files)
	require.NoError(t, (&graph.Mirror{Pool: l.worker, To: f}).Update(t.Context(), id))
	sql := func(function string, p map[string]any) any {
		p["contextId"] = id
		return l.call(function, p)
	}
	without := func(v any) any {
		m := v.(map[string]any)
		delete(m, "meta")
		return m
	}
	for _, p := range []map[string]any{
		{}, {"limit": 10}, {"type": "function"}, {"type": "class", "limit": 7}, {"linkType": []string{"calls"}}, {"linkType": []string{"calls", "extends"}, "limit": 20}, {"search": "GO"},
		{"search": "f0", "limit": 5}, {"path": "src/a"}, {"path": "src/a", "minReferences": 3, "limit": 9}, {"minReferences": 2}, {"type": "module", "search": "m"}, {"type": "file", "path": "src/b"},
	} {
		want := sql("get_knowledge_graph", p)
		meta := want.(map[string]any)["meta"].(map[string]any)
		a, err := f.Read(t.Context(), id, change.Generation, filterOf(p))
		require.NoError(t, err)
		require.Equal(t, without(want), object(t, map[string]any{"nodes": a.Nodes, "links": a.Links}), "%v", p)
		require.EqualValues(t, []any{meta["totalNodes"], meta["totalLinks"]}, []any{float64(a.TotalNodes), float64(a.TotalLinks)}, "%v", p)
	}
	for range 40 {
		from, to := uuid.UUID(g.Nodes[chance.IntN(len(g.Nodes))].ID).String(), uuid.UUID(g.Nodes[chance.IntN(len(g.Nodes))].ID).String()
		a, err := f.Path(t.Context(), id, change.Generation, from, to)
		require.NoError(t, err)
		require.Equal(t, without(sql("get_graph_path", map[string]any{"from": from, "to": to})), object(t, map[string]any{"nodes": a.Nodes, "links": a.Links}))
		depth, limit := 1+chance.IntN(3), 1+chance.IntN(60)
		a, err = f.Neighbors(t.Context(), id, change.Generation, from, depth, limit)
		require.NoError(t, err)
		require.Equal(t, sql("get_graph_node", map[string]any{"nodeId": from, "depth": depth, "limit": limit}), object(t, map[string]any{"node": a.Nodes[0], "neighbors": a.Rest, "links": a.Links}))
	}
	nodes, links, err := f.Statistics(t.Context(), id, change.Generation)
	require.NoError(t, err)
	require.Equal(t, []int{len(g.Nodes), g.Shown()}, []int{nodes, links})
}

func TestWhatTheAdapterReliesOnOfFalkorDB(t *testing.T) {
	t.Parallel()
	db := peers.NewFalkorDB(t).Client()
	ctx := t.Context()
	do := func(args ...any) (any, error) { return db.Do(ctx, args...).Result() }
	_, err := do("GRAPH.RO_QUERY", "missing", "RETURN 1", "--compact")
	require.ErrorContains(t, err, "empty key", "a read of a missing graph is an error")
	require.Zero(t, db.Exists(ctx, "missing").Val(), "and makes none")
	_, err = do("GRAPH.QUERY", "missing", "MATCH (n) RETURN n", "--compact")
	require.NoError(t, err)
	require.EqualValues(t, 1, db.Exists(ctx, "missing").Val(), "a query that may write makes it")
	_, err = do("GRAPH.QUERY", "a", `CYPHER s="\u0041" CREATE (:T {s: $s, none: null})`, "--compact")
	require.NoError(t, err)
	reply, err := do("GRAPH.RO_QUERY", "a", "MATCH (n) RETURN n.s, n.none, true", "--compact")
	require.NoError(t, err)
	require.Equal(t, []any{[]any{[]any{int64(2), `\u0041`}, []any{int64(1), nil}, []any{int64(4), "true"}}}, reply.([]any)[1], "no \\u, no null; types 2, 1 and 4")
	_, err = do("GRAPH.QUERY", "a", "UNWIND [1, 0] AS x CREATE (:U {v: 1 / x})", "--compact")
	require.Error(t, err)
	reply, err = do("GRAPH.RO_QUERY", "a", "MATCH (n:U) RETURN count(n)", "--compact")
	require.NoError(t, err)
	require.Equal(t, []any{[]any{[]any{int64(3), int64(0)}}}, reply.([]any)[1], "a query that fails leaves nothing")
	_, err = do("GRAPH.QUERY", "b", "CREATE (:V)", "--compact")
	require.NoError(t, err)
	_, err = db.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Rename(ctx, "b", "a")
		p.Set(ctx, "number", 2, 0)
		return nil
	})
	require.NoError(t, err)
	reply, err = do("GRAPH.RO_QUERY", "a", "MATCH (n) RETURN labels(n)[0]", "--compact")
	require.NoError(t, err)
	require.Equal(t, []any{[]any{[]any{int64(2), "V"}}}, reply.([]any)[1], "a graph takes the place of another one by RENAME in MULTI")
	require.NoError(t, db.Del(ctx, "a").Err())
	require.Zero(t, db.Exists(ctx, "a").Val(), "DEL drops a graph")
}
