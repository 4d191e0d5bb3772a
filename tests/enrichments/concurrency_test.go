package enrichments

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

// Ten starts at once, at two replicas: one run, nine refusals, and two workers that do it once.
func TestTenStartsAtOnceAreOneRun(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	replica := stack.On(t, l.DB)
	l.write("a.go", goFile)
	accepted := 0
	for _, r := range client.AtOnce(t, 10, func(i int) (client.Response, error) {
		c := l.anna.Client.With("Prefer", "respond-async")
		if i%2 == 1 {
			c = c.At(replica.App.URL())
		}
		return c.Try("POST", l.path([]string{"/enrichments/lsp", "/enrichments/run"}[i%2]), nil)
	}) {
		if r.Status == http.StatusAccepted {
			accepted++
			continue
		}
		r.Problem(409, "OPERATION_IN_PROGRESS")
		require.Contains(t, []any{"all", "languageServer"}, r.Value("details.kind"))
	}
	require.Equal(t, 1, accepted)
	worker.Start(t, l.Stack)
	worker.Start(t, replica)
	l.idle()
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from public.enrichment_runs where project_id = $1 and kind = 'languageServer' and status = 'completed'", l.project))
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from public.context_changelog where project_id = $1 and description like 'LSP index updated%'", l.project))
}

// A worker is killed in the middle of embeddings. Another one goes on, and the run ends once.
func TestAKilledWorkersRunGoesOn(t *testing.T) {
	t.Parallel()
	provider := newEmbedder(t)
	l := newLab(t, provider.option)
	for i := range 20 {
		l.write(fmt.Sprintf("f%d.md", i), fmt.Sprintf("# Number %d\n", i))
	}
	asked, alive := make(chan struct{}, 100), make(chan struct{})
	provider.failing(func(w http.ResponseWriter) {
		asked <- struct{}{}
		<-alive
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	cmd := exec.Command(worker.Program(t))
	cmd.Env = append(os.Environ(), "DEBUG=true", "DATABASE_WORKER_URL="+l.DB.DSN("kijko_worker"), "KIJKO_DATA_DIR="+t.TempDir(), "ENCRYPTION_KEY="+l.Config.EncryptionKey,
		"KIJKO_LOG_LEVEL=error", "KIJKO_EMBEDDING_KEY=sk-embed", "KIJKO_EMBEDDING_URL="+provider.URL+"/v1")
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
	l.anna.With("Prefer", "respond-async").Do("POST", l.path("/enrichments/cc"), nil).Want(202)
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("the provider was not asked")
	}
	require.NoError(t, cmd.Process.Kill())
	_, _ = cmd.Process.Wait()
	provider.failing(nil)
	close(alive)
	worker.Start(t, l.Stack)
	require.Eventually(t, func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from public.enrichment_runs where project_id = $1 and status = 'completed' and restarts = 1)", l.project)
	}, 90*time.Second, 50*time.Millisecond, "the run is completed by another worker")
	require.Equal(t, 20., l.anna.Get(l.path("/enrichments")).Want(200).Value("chromaCode.embeddings"))
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from public.context_changelog where project_id = $1 and type = 'enrichment'", l.project))
}

// A context that is deleted ends its runs.
func TestADeletedContextEndsItsRuns(t *testing.T) {
	t.Parallel()
	provider := newEmbedder(t)
	l := newLab(t, provider.option)
	l.write("a.md", "# One\n")
	asked, end := make(chan struct{}, 10), make(chan struct{})
	defer close(end)
	provider.failing(func(w http.ResponseWriter) {
		asked <- struct{}{}
		<-end
		w.WriteHeader(http.StatusBadRequest)
	})
	worker.Start(t, l.Stack)
	l.anna.With("Prefer", "respond-async").Do("POST", l.path("/enrichments/cc"), nil).Want(202)
	<-asked
	l.anna.Do("DELETE", "/projects/"+l.project, nil)
	l.anna.Get(l.path("/enrichments")).Problem(404, "CONTEXT_NOT_FOUND")
	require.Zero(t, testdb.Value[int](l.DB, "select (select count(*) from public.enrichment_runs) + (select count(*) from public.context_operations)"))
}
