package graph

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/graph"
)

// story is a running product with a context of Anna's.
type story struct {
	*stack.Stack
	t    *testing.T
	anna *client.Person
	id   uuid.UUID
}

func newStory(t *testing.T, options ...stack.Option) *story {
	t.Helper()
	s := &story{Stack: stack.New(t, options...), t: t, id: uuid.New()}
	s.anna = s.SignUp("Anna")
	s.anna.Do("POST", "/projects", map[string]any{"id": s.id, "name": "Shop"}).Want(201)
	return s
}

// build stores the graph of files, as the end of an ingestion does.
func (s *story) build(files texts) (g *graph.Graph) {
	s.t.Helper()
	g, err := graph.Build(s.t.Context(), s.id, files)
	require.NoError(s.t, err)
	require.NoError(s.t, pgx.BeginFunc(s.t.Context(), s.DB.Pool("kijko_worker"), func(tx pgx.Tx) error {
		_, err := graph.Apply(s.t.Context(), tx, s.id, g, -1)
		return err
	}))
	return g
}

func (s *story) path() string { return "/contexts/" + s.id.String() + "/knowledge-graph" }

// backend tells what served a read, and that it read the current generation.
func (s *story) backend(generation int) string {
	s.t.Helper()
	meta := s.anna.Get(s.path()).Want(200).Value("meta").(map[string]any)
	require.EqualValues(s.t, generation, meta["generation"])
	return meta["backend"].(string)
}

func (s *story) served(by string, generation int) {
	s.t.Helper()
	stack.Eventually(s.t, "reads come from "+by, func() bool { return s.backend(generation) == by })
}

func TestTheOwnerReadsTheGraphAndAStrangerDoesNot(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	empty := s.anna.Get(s.path()).Want(200)
	require.Empty(t, empty.Value("nodes"))
	require.Empty(t, empty.Value("links"))
	g := s.build(shop)
	for _, prefix := range []string{"/contexts/", "/context/"} {
		all := s.anna.Get(prefix + s.id.String() + "/knowledge-graph").Want(200)
		require.Len(t, all.Value("nodes"), len(g.Nodes))
		require.Len(t, all.Value("links"), g.Shown())
		first := all.Value("nodes").([]any)[0].(map[string]any)
		node := s.anna.Get(prefix + s.id.String() + "/knowledge-graph/nodes/" + first["id"].(string) + "?depth=2").Want(200)
		require.Equal(t, first, node.Value("node"))
		last := all.Value("nodes").([]any)[1].(map[string]any)
		s.anna.Get(prefix + s.id.String() + "/knowledge-graph/path?from=" + first["id"].(string) + "&to=" + last["id"].(string)).Want(200)
		two := s.anna.Get(prefix + s.id.String() + "/knowledge-graph?linkType=calls&linkType=extends&type=class").Want(200)
		require.Len(t, two.Value("links"), 1)
	}
	s.anna.Get(s.path()+"?type=folder").Problem(400, "VALIDATION_ERROR")
	s.anna.Get(s.path()+"/path?from="+uuid.NewString()).Problem(400, "VALIDATION_ERROR")
	s.anna.Get(s.path()+"/nodes/"+uuid.NewString()).Problem(404, "NODE_NOT_FOUND")
	stan := s.SignUp("Stan")
	for _, path := range []string{s.path(), s.path() + ".svg", s.path() + "/nodes/" + uuid.UUID(g.Nodes[0].ID).String(), s.path() + "/path?from=x&to=y"} {
		stan.Get(path).Problem(404, "CONTEXT_NOT_FOUND")
		s.Client.Get(path).Problem(401, "UNAUTHENTICATED")
	}
	s.anna.Do("DELETE", "/projects/"+s.id.String(), nil).Want(200)
	require.Zero(t, stack.Count(t, s.DB.Pool("postgres"), "select (select count(*) from public.kg_nodes) + (select count(*) from public.kg_edges)"))
}

func TestPicturesAreSafeAndStay(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	files := maps.Clone(shop)
	files["src/<script>alert(1)</script>&\"'.ts"] = "export function attack() {}\n"
	s.build(files)
	get := func(path, tag string) (*http.Response, string) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", s.App.URL()+"/api/v1"+path, nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+s.anna.Token)
		r.Header.Set("If-None-Match", tag)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer, string(body)
	}
	answer, body := get(s.path()+".svg", "")
	require.Equal(t, 200, answer.StatusCode)
	require.Equal(t, "image/svg+xml; charset=utf-8", answer.Header.Get("Content-Type"))
	require.NotContains(t, body, "<script")
	require.Contains(t, body, "&lt;script&gt;")
	for _, color := range []string{"#3b82f6", "#8b5cf6", "#10b981", "#f59e0b", "#6b7280"} {
		require.Contains(t, body, color)
	}
	decoder := xml.NewDecoder(strings.NewReader(body))
	circles := 0
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	require.Equal(t, len(s.anna.Get(s.path()).Want(200).Value("nodes").([]any)), circles)
	again, same := get(s.path()+".svg", "")
	require.Equal(t, body, same, "equal graphs give equal pictures")
	unchanged, nothing := get(s.path()+".svg", again.Header.Get("ETag"))
	require.Equal(t, 304, unchanged.StatusCode)
	require.Empty(t, nothing)
	filtered, _ := get(s.path()+".svg?type=class", again.Header.Get("ETag"))
	require.Equal(t, 200, filtered.StatusCode, "another filter is another picture")
	s.build(files)
	rebuilt, _ := get(s.path()+".svg", again.Header.Get("ETag"))
	require.Equal(t, 200, rebuilt.StatusCode, "so is another generation")
}

func TestReadsFollowTheMirrorAndLeaveItWhenItFails(t *testing.T) {
	t.Parallel()
	server := peers.NewFalkorDB(t)
	s := newStory(t, func(c *config.Config) { c.GraphBackend, c.FalkorDBURL = "falkordb", server.URL })
	worker.Start(t, s.Stack)
	s.build(shop)
	s.served("falkordb", 1)
	copied := s.anna.Get(s.path() + "?path=src/").Want(200)
	require.Len(t, copied.Value("nodes"), 11)
	first := copied.Value("nodes").([]any)[0].(map[string]any)["id"].(string)
	s.anna.Get(s.path() + "/nodes/" + strings.ToUpper(first)).Want(200)
	s.anna.Get(s.path() + "/path?from=" + first + "&to=" + first).Want(200)
	stan := s.SignUp("Stan")
	stan.Get(s.path()).Problem(404, "CONTEXT_NOT_FOUND")
	s.anna.Get(s.path()+"/nodes/"+uuid.NewString()).Problem(404, "NODE_NOT_FOUND")
	require.Equal(t, "healthy", s.health()["status"])

	// An old generation, as between a switch and its copy.
	db := server.Client()
	require.NoError(t, db.Set(t.Context(), "kijko:generation:"+s.id.String(), 0, 0).Err())
	require.Equal(t, "postgres", s.backend(1))
	s.served("falkordb", 1)

	// Emptied.
	require.NoError(t, db.FlushAll(t.Context()).Err())
	require.Equal(t, "postgres", s.backend(1))
	s.served("falkordb", 1)

	// Frozen: the read waits a second, then Postgres answers.
	server.Freeze()
	require.Equal(t, "postgres", s.backend(1))
	require.Equal(t, "postgres", s.backend(1), "and is not asked again at once")
	server.Thaw()
	s.served("falkordb", 1)

	// Stopped, with a build meanwhile.
	server.Stop()
	s.build(shop)
	require.Equal(t, "postgres", s.backend(2))
	stack.Eventually(t, "the health check says so", func() bool { return s.health()["code"] == "MIRROR_UNREACHABLE" })
	require.Equal(t, "degraded", s.health()["status"])
	stack.Eventually(t, "the failure is recorded", func() bool {
		return stack.Count(t, s.DB.Pool("postgres"), "select count(*) from private.kg_mirrors where failures > 0 and error is not null") == 1
	})
	server.Start()
	s.served("falkordb", 2)
	stack.Eventually(t, "the health check says so too", func() bool { return s.health()["status"] == "healthy" })

	// A deleted context takes its copy along.
	db = server.Client()
	s.anna.Do("DELETE", "/projects/"+s.id.String(), nil).Want(200)
	stack.Eventually(t, "the copy is dropped", func() bool {
		keys, err := db.Keys(t.Context(), "kijko:*"+s.id.String()+"*").Result()
		return err == nil && len(keys) == 0
	})
	stack.Eventually(t, "and its record", func() bool {
		return stack.Count(t, s.DB.Pool("postgres"), "select count(*) from private.kg_mirrors") == 0
	})
}

func (s *story) health() map[string]any {
	s.t.Helper()
	checks := s.Client.Get("/health/ready").Value("checks").(map[string]any)
	return checks["graph"].(map[string]any)
}

func TestASweepFindsWhatAMirrorMisses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	server, f := newFalkor(t)
	m := &graph.Mirror{Pool: l.worker, To: f}
	var ids []uuid.UUID
	for range 3 {
		ids = append(ids, l.context())
		l.build(ids[len(ids)-1], shop)
	}
	waiting := func() []string {
		rows, err := l.owner.Query(t.Context(), "select convert_from(args, 'UTF8')::jsonb ->> 'projectId' from jobs.gue_jobs where job_type = 'graph.mirror'")
		require.NoError(t, err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		l.exec("delete from jobs.gue_jobs")
		l.exec("delete from jobs.unique_keys")
		slices.Sort(all)
		return all
	}
	waiting()
	require.NoError(t, m.Sweep(t.Context()))
	require.Len(t, waiting(), 3, "contexts of before the mirror")
	for _, id := range ids {
		require.NoError(t, m.Update(t.Context(), id))
	}
	require.NoError(t, m.Sweep(t.Context()))
	require.Empty(t, waiting(), "a mirror that holds all is left alone")
	l.build(ids[1], shop)
	waiting() // the job of the switch is lost
	require.NoError(t, m.Sweep(t.Context()))
	require.Equal(t, []string{ids[1].String()}, waiting())
	require.NoError(t, m.Update(t.Context(), ids[1]))
	require.NoError(t, server.Client().FlushAll(t.Context()).Err())
	require.NoError(t, m.Sweep(t.Context()))
	require.Len(t, waiting(), 3, "an emptied mirror")
	l.exec("delete from public.projects where id = $1", ids[0])
	waiting()
	require.NoError(t, m.Sweep(t.Context()))
	require.Contains(t, waiting(), ids[0].String(), "a context that is gone")
	require.NoError(t, m.Update(t.Context(), ids[0]))
	require.Equal(t, 2, value[int](l, "select count(*) from private.kg_mirrors"))
	server.Stop()
	require.Error(t, m.Update(t.Context(), ids[1]))
	require.Equal(t, 1, value[int](l, "select failures from private.kg_mirrors where project_id = $1", ids[1]))
	require.NoError(t, m.Sweep(t.Context()), "a mirror that is down stops no sweep")
	require.Equal(t, fmt.Sprint(ids[1]), value[string](l, "select project_id::text from private.kg_mirrors where failures > 0"))
}
