package ingestion

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch/gittest"
)

// upload stores content as an attached file of a project.
func (l *ingestLab) upload(project uuid.UUID, origin, path string, content []byte) {
	l.t.Helper()
	object, err := l.blobs.Put(context.Background(), bytes.NewReader(content), 1<<20)
	require.NoError(l.t, err)
	l.exec(`insert into public.project_files (organization_id, project_id, origin, name, path, size, checksum, storage_key)
		values ($1, $2, $3, $4, $4, $5, $6, $7)`, l.org, project, origin, path, object.Size, object.SHA256, object.Key)
}

func zipOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, text := range files {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// TestIngestionOfSeveralSources: two repositories with the same paths, an archive, a text and manual content in one project, cut by a
// webhook that does not answer, and then recovered with fixed chunks.
func TestIngestionOfSeveralSources(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/one", gittest.On("main", smallRepository))
	l.git.Create(t, "acme/two", gittest.On("main", smallRepository))
	l.work()
	project := l.project("acme/one", "acme/two")
	l.upload(project, "upload", "code.zip", zipOf(t, map[string]string{"src/a.ts": "export const a = 1\n", "src/b.test.ts": "test('b')\n"}))
	l.upload(project, "text", "note.txt", []byte("a text of some words\n"))
	l.exec("insert into public.project_manual_contents (project_id, organization_id, content) values ($1, $2, E'# Title\\n\\nTyped by hand.')", project, l.org)
	l.exec("insert into public.project_settings (project_id, organization_id, webhook_url) values ($1, $2, 'https://127.0.0.1:1/chunk') on conflict (project_id) do update set webhook_url = excluded.webhook_url",
		project, l.org)
	l.exec("update public.projects set chunking_strategy = 'custom' where id = $1", project)
	outcome, phase, code, failed := l.run(l.start(project))
	require.Equal(t, []string{"failed", "chunking", "CHUNKING_FAILED"}, []string{outcome, phase, code})
	require.Len(t, failed, 1)

	_, err := l.call("recover_ingestion", project, `{"action": "switch_chunking"}`)
	require.NoError(t, err)
	run := value[uuid.UUID](l, "select id from public.ingestion_runs where project_id = $1 order by created_at desc limit 1", project)
	require.Equal(t, "completed", l.outcome(run))
	require.Equal(t, "fixed", value[string](l, "select chunking_strategy from public.projects where id = $1", project))
	paths := value[[]string](l, "select array_agg(path order by position) from public.run_files where run_id = $1", run)
	require.Len(t, paths, 2*9+3)
	require.Subset(t, paths, []string{"greet.go", "acme/two/greet.go", "code.zip/src/a.ts", "note.txt", "manual-content.md"})
	require.Positive(t, value[int](l, "select count(*) from public.chunks where run_id = $1 and reference_of is not null", run), "equal chunks are stored once")
	for _, kind := range []string{"contains", "imports", "calls", "extends"} {
		require.Positive(t, value[int](l, "select count(*) from public.kg_edges where project_id = $1 and type = $2", project, kind), kind)
	}

	data, err := l.call("get_progress_details", project, "{}")
	require.NoError(t, err)
	var state map[string]any
	require.NoError(t, json.Unmarshal(data, &state))
	for _, name := range []string{"phase1Data", "phase2Data", "phase3Data", "phase4Data"} {
		require.NotNil(t, state[name], name)
	}
	require.Equal(t, "fixed", state["phase3Data"].(map[string]any)["strategy"])
}
