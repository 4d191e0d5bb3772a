// Package compression tests that contexts are compressed by the server and the worker together: waiting, refusals, events, settings, workers
// that die.
package compression

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/token"
)

// source is a file that every level makes smaller; each number gives another one.
func source(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "package shop\n\nimport \"fmt\"\n\n")
	for i := range 6 {
		fmt.Fprintf(&b, "// Total%d_%d adds the prices of a basket, and says so.\nfunc Total%d_%d(prices []int) (sum int) {\n", n, i, n, i)
		for k := range 15 {
			fmt.Fprintf(&b, "\tsum += prices[%d] * %d\n\tfmt.Println(sum)\n", k, k+n)
		}
		b.WriteString("\treturn sum\n}\n\n")
	}
	return b.String()
}

type lab struct {
	*stack.Stack
	t       *testing.T
	anna    *client.Person
	context string
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	s := stack.New(t, options...)
	l := &lab{Stack: s, t: t, anna: s.SignUp("Anna")}
	l.context = l.anna.Do("POST", "/projects", map[string]any{"id": uuid.NewString(), "name": "Shop"}).Want(201).String("project.id")
	return l
}

// ingest makes a ready entry with files, as the end of a run does.
func (l *lab) ingest(number int, compress bool, files map[string]string) {
	l.t.Helper()
	ctx := context.Background()
	pool := l.DB.Pool("postgres")
	tx, err := pool.Begin(ctx)
	require.NoError(l.t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	exec := func(sql string, args ...any) {
		l.t.Helper()
		_, err := tx.Exec(ctx, sql, args...)
		require.NoError(l.t, err)
	}
	exec("select private.lock_context($1)", l.context)
	exec("update private.context_counters set last_number = $2, current_number = $2 where project_id = $1", l.context, number)
	var id uuid.UUID
	total := 0
	for _, text := range files {
		total += token.Count(text)
	}
	require.NoError(l.t, tx.QueryRow(ctx, `insert into public.context_ingestions (organization_id, project_id, number, source_type, files_added, tokens, wants_compression)
		values ($1, $2, $3, 'file', $4, $5, $6) returning id`, l.anna.OrgID, l.context, number, len(files), total, compress).Scan(&id))
	for path, text := range files {
		hash := sha256.Sum256([]byte(text))
		exec(`insert into public.content_blobs (organization_id, project_id, hash, content, tokens, lines) values ($1, $2, $3, $4, $5, 1) on conflict do nothing`,
			l.anna.OrgID, l.context, hash[:], []byte(text), token.Count(text))
		exec(`insert into public.context_file_ops (organization_id, project_id, ingestion_id, number, path, operation, hash, origin, language, bytes, tokens)
			values ($1, $2, $3, $4, $5, 'added', $6, 'file', 'go', $7, $8)`, l.anna.OrgID, l.context, id, number, path, hash[:], len(text), token.Count(text))
	}
	exec("select private.apply_operations(e) from public.context_ingestions e where e.id = $1", id)
	exec("update public.context_ingestions set status = 'ready' where id = $1", id)
	require.NoError(l.t, tx.Commit(ctx))
}

func (l *lab) path(format string, a ...any) string {
	return "/contexts/" + l.context + fmt.Sprintf(format, a...)
}

func shop(n int) map[string]string {
	files := map[string]string{"small.go": "package shop\n"}
	for i := range n {
		files[fmt.Sprintf("shop%03d.go", i)] = source(i)
	}
	return files
}

// TestAnEntryIsCompressed: the request waits for the worker; lists and metrics follow; another level makes other texts when all is
// compressed again.
func TestAnEntryIsCompressed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.ingest(1, false, shop(3))

	before := l.anna.Get(l.path("/compression")).Want(200)
	require.Len(t, before.Value("pendingFiles"), 3)
	l.anna.Do("POST", l.path("/compress"), nil).Want(200).Equal(map[string]any{"success": true, "message": "Nothing to re-compress", "entriesProcessed": 0,
		"metrics": before.Value("metrics")})

	entry := l.anna.Do("POST", l.path("/ingestions/1/compress"), nil).Want(200)
	require.Equal(t, true, entry.Value("compressed"))
	tokens, compressed := entry.Value("tokens").(float64), entry.Value("compressedTokens").(float64)
	require.Less(t, compressed, tokens/4)
	l.anna.Do("POST", l.path("/ingestions/1/compress"), nil).Want(200).Equal(client.JSON[map[string]any](entry))

	after := l.anna.Get(l.path("/compression")).Want(200)
	require.Len(t, after.Value("compressedFiles"), 3)
	require.Empty(t, after.Value("pendingFiles"))
	require.Equal(t, compressed, after.Value("metrics.compressedTokens"))
	require.Equal(t, []any{"Structure", "Types", "Exports"}, after.Value("algorithmInfo.preserves"))

	l.anna.Do("PATCH", "/context/"+l.context+"/settings/compression", map[string]any{"optimizationLevel": "low", "preserveDocs": true}).Want(200)
	again := l.anna.Do("POST", "/context/"+l.context+"/compress", nil).Want(200)
	require.Equal(t, "Re-compression completed successfully", again.Value("message"))
	require.Equal(t, 1.0, again.Value("entriesProcessed"))
	require.Greater(t, again.Value("metrics.compressedTokens"), compressed)
	require.Equal(t, []any{"Structure", "Types", "Exports", "Documentation"}, l.anna.Get(l.path("/compression")).Want(200).Value("algorithmInfo.preserves"))

	l.anna.Do("PATCH", l.path("/ingestions/1"), map[string]any{"neverCompress": true}).Problem(409, "ALREADY_COMPRESSED")
}

// TestBothLayersTellTheSameTokens: with method standard, an ingested file has the text and the tokens that its run optimized (contract 60, 27,
// 18). A copy of another file has the text of that file, where the run leaves a marker only.
func TestBothLayersTellTheSameTokens(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", l.anna.OrgID)
	for i, name := range []string{"shop", "more", "copy"} {
		// The last file is the first one again.
		text := strings.ReplaceAll(source(i%2), "\n\n", "\n\n\n\n")
		l.anna.With("Prefer", "respond-async").Do("POST", l.path("/ingestions"), client.Object{"sourceType": "text", "content": text, "config": client.Object{
			"fileId": fmt.Sprintf("text-%d", i), "fileName": name + ".go", "displayName": name, "processingMode": "compress", "codebase": client.Object{"type": "existing", "name": ""}}}).Want(202)
		stack.Eventually(t, "the entry is compressed", func() bool {
			return l.anna.Get(l.path("/ingestions/%d", i+1)).Want(200).Value("compressed") == true
		})
	}
	l.anna.Do("PATCH", "/context/"+l.context+"/settings/compression", map[string]any{"method": "standard"}).Want(200)
	again := l.anna.Do("POST", l.path("/compress"), nil).Want(200)
	require.Equal(t, 3.0, again.Value("entriesProcessed"), "%s", again.Body)
	pool := l.DB.Pool("postgres")
	rows, err := pool.Query(t.Context(), `select f.path, f.tokens, f.optimized_tokens, t.tokens, string_agg(k.content, '' order by k.position), coalesce(t.content, '')
		from public.project_indexes i
		join public.run_files f on f.organization_id = i.organization_id and f.run_id = i.run_id
		join public.chunks k on k.organization_id = f.organization_id and k.run_id = f.run_id and k.file_id = f.id
		join public.compressed_files t on t.project_id = i.project_id and t.hash = f.hash and t.settings_key = 'standard/1'
		where i.project_id = $1 group by 1, 2, 3, 4, 6`, l.context)
	require.NoError(t, err)
	files, smaller, copies := 0, 0, 0
	var path, optimized, served string
	var original, ofRun, ofContext int
	_, err = pgx.ForEachRow(rows, []any{&path, &original, &ofRun, &ofContext, &optimized, &served}, func() error {
		files++
		if ofRun < 64 {
			copies++
			require.Greater(t, ofContext, 1000, path)
			return nil
		}
		require.Equal(t, min(ofRun, original), ofContext, path)
		if ofRun < original {
			smaller++
			require.Equal(t, optimized, served, path)
			require.Equal(t, token.Count(served), ofContext, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []int{3, 1}, []int{files, copies})
	require.Positive(t, smaller)
}

// TestOfTwoCompressionsOneRuns: without a worker the first request goes on as an operation, and all others are refused.
func TestOfTwoCompressionsOneRuns(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ingest(1, false, shop(2))
	asked := l.anna.With("Prefer", "respond-async")
	states := map[int]int{}
	for _, r := range client.AtOnce(t, 8, func(int) (client.Response, error) { return asked.Try("POST", l.path("/ingestions/1/compress"), nil) }) {
		states[r.Status]++
		if r.Status == 409 {
			r.Problem(409, "OPERATION_IN_PROGRESS")
			require.Equal(t, "compression", r.Value("details.kind"))
		}
	}
	require.Equal(t, map[int]int{202: 1, 409: 7}, states)
	asked.Do("POST", l.path("/compress"), nil).Problem(409, "OPERATION_IN_PROGRESS")

	// Two workers share the queue: the texts are made once, and the entry is marked once.
	worker.Start(t, l.Stack)
	worker.Start(t, l.Stack)
	stack.Eventually(t, "the entry is compressed", func() bool {
		return l.anna.Get(l.path("/ingestions/1")).Want(200).Value("compressed") == true
	})
	require.Equal(t, 2, stack.Count(t, l.DB.Pool("postgres"), "select count(*) from public.compressed_files"))
}

// TestAnEntryThatWantsCompressionIsCompressedByItself: as soon as it is ready, and its room hears of it.
func TestAnEntryThatWantsCompressionIsCompressedByItself(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)
	l.ingest(1, true, shop(1))
	stack.Eventually(t, "the entry is compressed", func() bool {
		return l.anna.Get(l.path("/ingestions/1")).Want(200).Value("compressed") == true
	})
	stack.Eventually(t, "the room has heard of it", func() bool {
		return stack.Count(t, l.DB.Pool("postgres"), `select count(*) from (select type, data from public.events union all select type, data from private.event_inbox) e
			where e.type = 'ingestion:updated' and e.data ->> 'field' = 'compressed' and e.data ->> 'value' = 'true'`) == 1
	})
}

// TestACompressionSurvivesKill: kill -9 of the real worker program while it compresses. The next one goes on behind what is stored, and the
// texts are those of an undisturbed compression.
func TestACompressionSurvivesKill(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	files := shop(400)
	l.ingest(1, false, files)
	program := worker.Program(t)
	start := func() *exec.Cmd {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), "DEBUG=true", "DATABASE_WORKER_URL="+l.Config.DatabaseWorker, "KIJKO_DATA_DIR="+l.Config.DataDir,
			"KIJKO_STORAGE_URL=file://"+t.TempDir(), "ENCRYPTION_KEY="+l.Config.EncryptionKey, "KIJKO_LOG_LEVEL=warn")
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
		return cmd
	}
	pool := l.DB.Pool("postgres")
	stored := func() int { return stack.Count(t, pool, "select count(*) from public.compressed_files") }
	l.anna.With("Prefer", "respond-async").Do("POST", l.path("/ingestions/1/compress"), nil).Want(202)
	first := start()
	stack.Eventually(t, "a batch is stored", func() bool { return stored() > 0 })
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()
	require.Equal(t, 0, stack.Count(t, pool, "select count(*) from public.context_ingestions where compressed"), "nothing is marked before all is stored")
	start()
	stack.Eventually(t, "the entry is compressed", func() bool {
		return l.anna.Get(l.path("/ingestions/1")).Want(200).Value("compressed") == true
	})
	require.Equal(t, 400, stored())
	sum := stack.Count(t, pool, "select sum(tokens)::integer from public.compressed_files")
	require.Equal(t, float64(sum+token.Count(files["small.go"])), l.anna.Get(l.path("/ingestions/1")).Want(200).Value("compressedTokens"))
}
