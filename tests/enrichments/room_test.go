package enrichments

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fasthttp/websocket"
	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

const (
	knowledgeGraph = "knowledgeGraph"
	languageServer = "languageServer"
)

// progress is an event enrichment:progress.
type progress struct {
	ContextID, Type, Status, Message string
	Progress                         int
}

// listen opens the socket of the context, as services/websocket.ts does, and passes its events enrichment:progress on.
func (l *lab) listen() <-chan progress {
	l.t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(l.t.Context(), "ws"+strings.TrimPrefix(l.BaseURL, "http")+"/ws?contextId="+l.project+"&token="+l.anna.Token, nil)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close() })
	type frame struct {
		Event string
		Data  json.RawMessage
	}
	var hello frame
	for hello.Event != "hello" {
		require.NoError(l.t, conn.ReadJSON(&hello))
	}
	events := make(chan progress, 1000)
	go func() {
		defer close(events)
		for {
			var f frame
			if conn.ReadJSON(&f) != nil {
				return
			}
			var p progress
			if f.Event == "enrichment:progress" && json.Unmarshal(f.Data, &p) == nil {
				events <- p
			}
		}
	}()
	return events
}

// completed reads events until one of each kind says so, and returns the statuses on the way, each once.
func completed(t *testing.T, events <-chan progress, kinds ...string) map[string][]string {
	t.Helper()
	seen, ended := map[string][]string{}, 0
	for ended < len(kinds) {
		select {
		case p, open := <-events:
			require.True(t, open, "the socket closed before %v were completed: %v", kinds, seen)
			former := seen[p.Type]
			if len(former) == 0 || former[len(former)-1] != p.Status {
				seen[p.Type] = append(former, p.Status)
				if p.Status == "completed" {
					require.Equal(t, 100, p.Progress)
					ended++
				}
			}
		case <-t.Context().Done():
			t.Fatalf("%v were not completed: %v", kinds, seen)
		}
	}
	return seen
}

// Anna sends texts. Their run builds the graph, the enrichments follow by themselves, and the room hears of both. Settings leave the same
// files out of the graph of the run as of one that she asks for.
func TestAnIngestionIsEnrichedByItself(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.anna.Do("PATCH", l.path("/settings/lsp"), map[string]any{"excludePatterns": []string{"*.min.ts"}, "maxFileSize": 1}).Want(200)
	events := l.listen()
	ingest := func(title, content string) {
		t.Helper()
		entry := l.anna.Do("POST", l.path("/ingestions"), map[string]any{"sourceType": "text", "title": title, "content": content, "config": map[string]any{
			"fileId": "text-1", "fileName": title, "displayName": title, "processingMode": "none", "codebase": map[string]any{"type": "existing", "name": ""}}}).Want(201)
		require.Equal(t, "ready", entry.String("status"))
	}
	ingest("cart.go", goFile)
	seen := completed(t, events, knowledgeGraph, languageServer)
	require.Equal(t, map[string][]string{knowledgeGraph: {"pending", "processing", "completed"}, languageServer: {"pending", "processing", "completed"}}, seen,
		"embeddings are not in use")
	l.idle()
	status := l.anna.Get(l.path("/enrichments")).Want(200)
	kg, lsp := part(t, status, knowledgeGraph), part(t, status, languageServer)
	require.Equal(t, []any{true, "idle", 100., 100.}, []any{kg["active"], kg["status"], kg["progress"], kg["coverage"]})
	require.Equal(t, []any{true, "idle", 100., 1., 1., 4.}, []any{lsp["active"], lsp["status"], lsp["coverage"], lsp["indexedFiles"], lsp["totalFiles"], lsp["symbols"]})
	require.Greater(t, kg["entities"], 4.)
	require.Equal(t, false, status.Value("chromaCode.active"))
	require.Equal(t, status.Value("overall"), l.anna.Get(l.path("/export")).Want(200).Value("summary.enrichmentCoverage"), "the export says so too")

	ingest("basket.min.ts", tsFile)
	ingest("long.go", goFile+strings.Repeat("// A long remark about nothing in particular.\n", 30))
	l.idle()
	drawn := func() []string {
		t.Helper()
		return testdb.Value[[]string](l.DB, "select array_agg(distinct path order by path) from public.kg_nodes where project_id = $1 and type = 'file'", l.project)
	}
	require.Equal(t, []string{"texts/cart.go"}, drawn(), "a pattern and the limit hold for the graph of a run")
	again := part(t, l.post("/enrichments/kg").Want(200), knowledgeGraph)
	require.Equal(t, []string{"texts/cart.go"}, drawn())
	require.Equal(t, []any{kg["entities"], kg["relationships"], kg["clusters"]}, []any{again["entities"], again["relationships"], again["clusters"]})

	t.Run("ARunThatFailsSaysSo", func(t *testing.T) {
		// In one transaction, so that no worker takes the run.
		l.DB.Exec(fmt.Sprintf(`insert into public.enrichment_runs (organization_id, project_id, kind, message) values ('%[1]s', '%[2]s', 'languageServer', 'Waiting');
			update public.enrichment_runs set status = 'failed', error_message = 'No luck.' where project_id = '%[2]s' and status in ('queued', 'running')`, l.anna.OrgID, l.project))
		stack.Eventually(t, "the room hears of it", func() bool {
			select {
			case p := <-events:
				return p.Status == "error" && p.Type == languageServer && p.ContextID == l.project && p.Message == "No luck."
			default:
				return false
			}
		})
	})
}
