package graph

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/graph"
)

// graphiti takes what the server of getzep/graphiti takes (docs/peers/graphiti.md), and refuses every other request.
type graphiti struct {
	*httptest.Server
	down atomic.Bool

	mu       sync.Mutex
	entities map[string][]string // by group
	messages map[string][]string
	faults   []string
}

func newGraphiti(t *testing.T) *graphiti {
	g := &graphiti{entities: map[string][]string{}, messages: map[string][]string{}}
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"message": "", "success": true}`))
	}
	read := func(w http.ResponseWriter, r *http.Request, into any) bool {
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			g.faults = append(g.faults, err.Error())
			answer(w, 422)
			return false
		}
		return true
	}
	mux.HandleFunc("GET /healthcheck", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200) })
	mux.HandleFunc("DELETE /group/{group}", func(w http.ResponseWriter, r *http.Request) {
		delete(g.entities, r.PathValue("group"))
		delete(g.messages, r.PathValue("group"))
		answer(w, 200)
	})
	mux.HandleFunc("POST /entity-node", func(w http.ResponseWriter, r *http.Request) {
		var e struct {
			UUID    uuid.UUID `json:"uuid"`
			Group   string    `json:"group_id"`
			Name    string    `json:"name"`
			Summary string    `json:"summary"`
		}
		if read(w, r, &e) {
			g.entities[e.Group] = append(g.entities[e.Group], e.Name)
			answer(w, 201)
		}
	})
	mux.HandleFunc("POST /messages", func(w http.ResponseWriter, r *http.Request) {
		var b struct {
			Group    string `json:"group_id"`
			Messages []struct {
				Content     string    `json:"content"`
				UUID        uuid.UUID `json:"uuid"`
				Name        string    `json:"name"`
				RoleType    string    `json:"role_type"`
				Role        string    `json:"role"`
				Description string    `json:"source_description"`
			} `json:"messages"`
		}
		if read(w, r, &b) {
			for _, m := range b.Messages {
				if m.RoleType != "system" {
					g.faults = append(g.faults, "role_type "+m.RoleType)
				}
				g.messages[b.Group] = append(g.messages[b.Group], m.Content)
			}
			answer(w, 202)
		}
	})
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *graphiti) holds(group string) (entities, messages []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.entities[group], g.messages[group]
}

func TestGraphitiReceivesEntitiesAndFacts(t *testing.T) {
	t.Parallel()
	server := newGraphiti(t)
	s := newStory(t, func(c *config.Config) { c.GraphBackend, c.GraphitiURL = "graphiti", server.URL })
	worker.Start(t, s.Stack)
	g := s.build(shop)
	stack.Eventually(t, "the graph is pushed", func() bool {
		entities, messages := server.holds(s.id.String())
		return len(entities) == len(g.Nodes) && len(messages) == g.Shown()
	})
	_, messages := server.holds(s.id.String())
	require.Contains(t, messages, "function Basket.add calls function price.")
	require.NotContains(t, strings.Join(messages, ""), "contains")
	require.Equal(t, "postgres", s.backend(1), "nothing is read there")
	require.Equal(t, "healthy", s.health()["status"])
	server.down.Store(true)
	s.build(shop)
	stack.Eventually(t, "the health check tells a failure", func() bool { return s.health()["status"] == "degraded" })
	require.Equal(t, "postgres", s.backend(2))
	server.down.Store(false)
	stack.Eventually(t, "which passes", func() bool { return s.health()["status"] == "healthy" })
	s.anna.Do("DELETE", "/projects/"+s.id.String(), nil).Want(200)
	stack.Eventually(t, "a deleted context leaves", func() bool {
		// A push that failed before is tried again first, after a pause that grew with its attempts.
		s.DB.Exec("update jobs.stored_jobs set run_at = now() where job_type = 'graph.mirror' and run_at > now() and lease is null")
		entities, messages := server.holds(s.id.String())
		return len(entities)+len(messages) == 0
	})
	require.Empty(t, server.faults)
}

func TestGraphitiReceivesTheNodesWithMostReferences(t *testing.T) {
	t.Parallel()
	server := newGraphiti(t)
	g, err := graph.NewGraphiti(server.URL + "/")
	require.NoError(t, err)
	var names []string
	for i := range 1500 {
		names = append(names, fmt.Sprintf("f%d", i))
	}
	id := uuid.New()
	require.NoError(t, g.Replace(t.Context(), id, copyOf(1, names...)))
	entities, messages := server.holds(id.String())
	require.Len(t, entities, 1000)
	require.Len(t, messages, 999)
	require.Equal(t, "f0", entities[0])
	server.down.Store(true)
	require.ErrorContains(t, g.Ping(t.Context()), "503")
}

func TestSettingsOfTheStoreOfGraphs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config graph.Config
		fault  string
	}{
		{graph.Config{}, ""},
		{graph.Config{Backend: "postgres"}, ""},
		{graph.Config{Backend: "neo4j"}, "GRAPH_BACKEND"},
		{graph.Config{Backend: "falkordb"}, "FALKORDB_URL"},
		{graph.Config{Backend: "falkordb", FalkorDB: "http://user:secret@host"}, "FALKORDB_URL"},
		{graph.Config{Backend: "falkordb", FalkorDB: "redis://user:secret@host:6379"}, ""},
		{graph.Config{Backend: "graphiti"}, "GRAPHITI_URL"},
		{graph.Config{Backend: "graphiti", Graphiti: "host:80"}, "GRAPHITI_URL"},
		{graph.Config{Backend: "graphiti", Graphiti: "http://host"}, ""},
	} {
		backend, err := graph.Open(c.config)
		if c.fault == "" {
			require.NoError(t, err)
			if backend != nil {
				require.NoError(t, backend.Close())
			}
			continue
		}
		require.ErrorContains(t, err, c.fault)
		require.NotContains(t, err.Error(), "secret")
	}
}
