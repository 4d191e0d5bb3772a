package enrichments

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/ingestion/parse"
)

// lab is a server with Anna and a context of hers. Files come by SQL, as a finished ingestion leaves them: the tests begin after it.
type lab struct {
	*stack.Stack
	t       *testing.T
	anna    *client.Person
	project string
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	t.Helper()
	l := &lab{Stack: stack.New(t, options...), t: t}
	l.anna = l.SignUp("Anna")
	l.project = l.newProject("Billing")
	return l
}

func (l *lab) newProject(name string) string {
	l.t.Helper()
	return l.anna.Do("POST", "/projects", map[string]any{"name": name, "id": uuid.NewString()}).Want(201).String("project.id")
}

// write puts a text file into the current set, in place of one with the same path.
func (l *lab) write(path, text string) {
	l.t.Helper()
	hash := sha256.Sum256([]byte(text))
	l.DB.Exec(`insert into public.content_blobs (organization_id, project_id, hash, content) values ($1, $2, $3, $4) on conflict do nothing`,
		l.anna.OrgID, l.project, hash[:], []byte(text))
	l.DB.Exec(`insert into public.context_files (organization_id, project_id, path, number, hash, origin, language, bytes, tokens)
		values ($1, $2, $3, 1, $4, 'file', $5, $6, 1)
		on conflict (project_id, path collate "C") do update set hash = excluded.hash, bytes = excluded.bytes`,
		l.anna.OrgID, l.project, path, hash[:], parse.Language(path, text), len(text))
}

// ready makes a version ready, as the end of an ingestion does.
func (l *lab) ready() {
	l.t.Helper()
	l.DB.Exec(`insert into public.context_ingestions (organization_id, project_id, number, status)
		select $1, $2, coalesce(max(number), 0) + 1, 'ready' from public.context_ingestions where project_id = $2`, l.anna.OrgID, l.project)
}

// idle waits until no run of the context is open.
func (l *lab) idle() {
	l.t.Helper()
	stack.Eventually(l.t, "no run of the context is open", func() bool {
		return testdb.Value[bool](l.DB, "select not exists (select from public.enrichment_runs where project_id = $1 and status in ('queued', 'running'))", l.project)
	})
}

func (l *lab) path(rest string) string { return "/contexts/" + l.project + rest }

func (l *lab) post(rest string) client.Response {
	l.t.Helper()
	return l.anna.Do("POST", l.path(rest), nil)
}

func (l *lab) entries() string {
	l.t.Helper()
	return testdb.Value[string](l.DB, `select coalesce(string_agg(concat_ws(' ', user_name, description, files_added, files_modified), '; ' order by created_at), '')
		from public.context_changelog where project_id = $1 and type = 'enrichment'`, l.project)
}

// embedder is a provider of embeddings over HTTP. Fail, if set, answers instead.
type embedder struct {
	*httptest.Server
	mu    sync.Mutex
	fail  func(w http.ResponseWriter)
	texts []string
}

func newEmbedder(t *testing.T) *embedder {
	t.Helper()
	e := &embedder{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model string   `json:"model"`
			Input []string `json:"input"`
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/embeddings" || r.Header.Get("Authorization") != "Bearer sk-embed" {
			t.Errorf("not a request for embeddings: %s %v", r.URL.Path, err)
		}
		e.mu.Lock()
		fail := e.fail
		if fail == nil {
			e.texts = append(e.texts, body.Input...)
		}
		e.mu.Unlock()
		if fail != nil {
			fail(w)
			return
		}
		n := map[string]int{"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}[body.Model]
		var data []map[string]any
		for i, text := range body.Input {
			v := make([]float32, n)
			v[len(text)%n] = 1
			data = append(data, map[string]any{"index": i, "embedding": v})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": data, "model": body.Model})
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *embedder) failing(f func(w http.ResponseWriter)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail = f
}

func (e *embedder) asked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.texts)
}

func (e *embedder) option(c *config.Config) { c.EmbeddingKey, c.EmbeddingURL = "sk-embed", e.URL+"/v1" }

// part is one part of EnrichmentStatus.
func part(t *testing.T, r client.Response, name string) map[string]any {
	t.Helper()
	p, ok := r.Value(name).(map[string]any)
	require.True(t, ok, "%s of %s", name, r.Body)
	return p
}
