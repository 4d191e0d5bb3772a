package dataexports

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/storage"
)

// megabytes of content for TestAKilledWorkerIsReplaced; KIJKO_EXPORT_MB=1024 measures the memory of a large export.
func megabytes(t *testing.T) int64 {
	text := os.Getenv("KIJKO_EXPORT_MB")
	if text == "" {
		return 64
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err)
	return n
}

// noise cannot be compressed.
type noise struct{ *rand.ChaCha8 }

// A worker that is killed in the middle leaves no half file: another one takes the export over and has the remains deleted. Its memory does
// not grow with the content.
func TestAKilledWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	size := megabytes(t) << 20
	store, err := storage.Open(t.Context(), l.Config.Storage())
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	project := l.anna.Do("POST", "/projects", map[string]any{"name": "Shop"}).Want(201).String("project.id")
	file := uuid.NewString()
	object, err := store.Put(t.Context(), io.LimitReader(noise{rand.NewChaCha8([32]byte{1})}, size), size)
	require.NoError(t, err)
	l.DB.Exec(`insert into public.project_files (id, organization_id, project_id, uploaded_by, origin, name, path, mime_type, size, checksum, storage_key)
		values ($1, $2, $3, $4, 'upload', 'large.bin', 'large.bin', 'application/octet-stream', $5, $6, $7)`, file, l.anna.OrgID, project, l.anna.ID, size, object.SHA256, object.Key)
	program := worker.Program(t)
	start := func() *exec.Cmd {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), "DEBUG=true", "DATABASE_WORKER_URL="+l.Config.DatabaseWorker, "KIJKO_DATA_DIR="+t.TempDir(),
			"KIJKO_STORAGE_URL="+l.Config.Storage(), "ENCRYPTION_KEY="+l.Config.EncryptionKey, "KIJKO_LOG_LEVEL=warn")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
		return cmd
	}
	half := func() []string {
		found, err := filepath.Glob(strings.TrimPrefix(l.Config.Storage(), "file://") + "/*/*.tmp")
		require.NoError(t, err)
		return found
	}
	status := func(id string) string {
		return testdb.Value[string](l.DB, "select status from private.data_exports where id = $1", id)
	}
	first := start()
	stack.Eventually(t, "the worker works", func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from private.schedules where name = 'dataexports.sweep' and last_run_at is not null)")
	})
	idle := resident(t, first)
	e := ask(l.anna, map[string]any{"type": "full"})
	stack.Eventually(t, "a part of the file is written", func() bool {
		for _, name := range half() {
			if info, err := os.Stat(name); err == nil && info.Size() > 1<<20 {
				return true
			}
		}
		return false
	})
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()
	require.Equal(t, "processing", status(e.ID), "nothing is ready before all is stored")
	require.Len(t, half(), 1)

	second := start()
	require.Eventually(t, func() bool { return status(e.ID) == "ready" }, 10*time.Minute, 50*time.Millisecond)
	peak := resident(t, second)
	t.Logf("%d MB of content: the worker's peak was %d MB, and %d MB before there was work", size>>20, peak>>10, idle>>10)
	require.Less(t, (peak-idle)>>10, int64(100), "memory does not grow with the content")
	stack.Eventually(t, "the remains are deleted", func() bool { return len(half()) == 0 })
	require.Len(t, l.stored(t), 2, "the upload and the export")
	done := ready(t, l.anna, e.ID)
	if size <= 64<<20 {
		a := l.open(t, done)
		want, err := io.ReadAll(io.LimitReader(noise{rand.NewChaCha8([32]byte{1})}, size))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, a.files[fmt.Sprintf("files/%s/large.bin", file)]))
	}
}

// resident is the peak of a process's memory, in KB.
func resident(t *testing.T, cmd *exec.Cmd) int64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	require.NoError(t, err)
	for _, line := range strings.Split(string(raw), "\n") {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			require.NoError(t, err)
			return n
		}
	}
	return 0
}
