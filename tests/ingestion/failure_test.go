package ingestion

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch/gittest"
)

// refused asserts a refusal by its code.
func refused(t testing.TB, err error, code string) {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	var detail struct {
		Code string `json:"code"`
	}
	require.NoError(t, json.Unmarshal([]byte(pg.Detail), &detail), pg.Message+" "+pg.Where)
	require.Equal(t, code, detail.Code, pg.Message)
}

func (l *ingestLab) run(run uuid.UUID) (outcome, phase, code string, failed []string) {
	l.t.Helper()
	outcome = l.outcome(run)
	phase = value[string](l, "select phase from public.ingestion_runs where id = $1", run)
	code = value[string](l, "select coalesce(error_code, '') from public.ingestion_runs where id = $1", run)
	failed = value[[]string](l, "select failed_items from public.ingestion_runs where id = $1", run)
	return outcome, phase, code, failed
}

func TestIngestionFailures(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/good", gittest.On("main", smallRepository))
	l.git.Create(t, "acme/other", gittest.On("trunk", smallRepository))
	l.git.Create(t, "acme/binary", gittest.On("main", gittest.Files{"a.bin": gittest.Text("\x00\x01\x02"), "link": gittest.Symlink("/etc/passwd")}))
	l.git.Create(t, "acme/private", gittest.On("main", smallRepository))
	l.git.Set("acme/private", gittest.Mood{User: "u", Password: "p"})
	big := gittest.Text(strings.Repeat("many words in a line\n", 80_000))
	l.git.Create(t, "acme/huge", gittest.On("main", gittest.Files{"big.txt": big}))
	l.git.Create(t, "acme/mixed", gittest.On("main", gittest.Files{"big.txt": big, "small.txt": gittest.Text("one two three\n"), "old.pas": gittest.Text("{ \xdcbersicht f\xfcr Stra\xdfe }\nbegin end.\n"),
		"odd.c": gittest.Text("/* \x81\x8d\x8f\x90 */\n"), "logo.png": gittest.Text("\x89PNG\x00"), "model.onnx": gittest.Text("version https://git-lfs.github.com/spec/v1\noid sha256:" +
			strings.Repeat("a1", 32) + "\nsize 9\n"), "n\xe4me.txt": gittest.Text("a name that is not UTF-8\n"), "link": gittest.Symlink("/etc/passwd")}))
	l.work()

	for _, c := range []struct{ name, repository, code, phase string }{
		{"AMissingRepositoryIsNotFound", "acme/missing", "REPO_NOT_FOUND", "repository_fetch"},
		{"APrivateRepositoryIsNotFoundForStrangers", "acme/private", "REPO_NOT_FOUND", "repository_fetch"},
		{"NothingButBinariesAndSymlinksIsInvalid", "acme/binary", "INVALID_FORMAT", "repository_fetch"},
		{"AProjectOfNothingButFilesTooLargeFailsParsing", "acme/huge", "PARSING_FAILED", "parsing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			project := l.project(c.repository)
			run := l.start(project)
			outcome, phase, code, _ := l.run(run)
			require.Equal(t, []string{"failed", c.phase, c.code}, []string{outcome, phase, code})
			require.Equal(t, "error", value[string](l, "select status from public.projects where id = $1", project))
			require.False(t, value[bool](l, "select completed_at is not null from public.ingestion_runs where id = $1", run))
			_, err := l.call("start_ingestion", project, "{}")
			refused(t, err, "INVALID_STATUS")
		})
	}

	t.Run("MainFallsBackToTheDefaultBranch", func(t *testing.T) {
		project := l.project("acme/other")
		require.Equal(t, "completed", l.outcome(l.start(project)))
		require.Equal(t, "trunk", value[string](l, "select branch from public.project_repositories where project_id = $1", project))
		require.Equal(t, "connected", value[string](l, "select status from public.project_repositories where project_id = $1", project))
	})

	t.Run("AMissingBranchOffersTheOthersAndIsRecovered", func(t *testing.T) {
		project := l.project("acme/good")
		l.exec("update public.project_repositories set branch = 'nope' where project_id = $1", project)
		_, _, code, failed := l.run(l.start(project))
		require.Equal(t, "BRANCH_NOT_FOUND", code)
		require.Equal(t, []string{"https://github.com/acme/good"}, failed)
		data, err := l.call("get_recovery", project, "{}")
		require.NoError(t, err)
		var recovery struct {
			Branches []string
			CanRetry bool
			Options  []struct{ Action string }
		}
		require.NoError(t, json.Unmarshal(data, &recovery))
		require.Equal(t, []string{"main"}, recovery.Branches)
		require.False(t, recovery.CanRetry)
		require.Equal(t, "retry_branch", recovery.Options[0].Action)
		_, err = l.call("recover_ingestion", project, `{"action": "retry"}`)
		refused(t, err, "MAX_RETRIES_EXCEEDED")
		_, err = l.call("recover_ingestion", project, `{"action": "retry_branch", "branch": "main"}`)
		require.NoError(t, err)
		run := value[uuid.UUID](l, "select id from public.ingestion_runs where project_id = $1 order by created_at desc limit 1", project)
		require.Equal(t, "completed", l.outcome(run))
		_, err = l.call("recover_ingestion", project, `{"action": "retry"}`)
		refused(t, err, "NOTHING_TO_RECOVER")
	})

	t.Run("FilesLeftOutAreCountedByReasonAndFailNothing", func(t *testing.T) {
		project := l.project("acme/mixed")
		run := l.start(project)
		require.Equal(t, "completed", l.outcome(run))
		require.Equal(t, []string{`n\xe4me.txt`, "old.pas", "small.txt"}, value[[]string](l, "select array_agg(path order by path) from public.run_files where run_id = $1", run))
		require.Zero(t, value[int](l, "select errors_encountered from public.ingestion_runs where id = $1", run))
		require.Equal(t, "{ Übersicht für Straße }\nbegin end.\n", value[string](l, "select string_agg(c.content, '' order by c.position) from public.chunks c join public.run_files f on f.id = c.file_id where c.run_id = $1 and f.path = 'old.pas'", run))
		data, err := l.call("get_ingestion_result", project, "{}")
		require.NoError(t, err)
		var result struct {
			FilesLeftOut struct {
				Total   int
				Reasons map[string]int
				Files   []struct{ Path, Reason string }
			}
		}
		require.NoError(t, json.Unmarshal(data, &result))
		left := result.FilesLeftOut
		require.Equal(t, map[string]int{"too_large": 1, "binary": 1, "unknown_encoding": 1, "lfs_pointer": 1, "symlink": 1}, left.Reasons)
		require.Equal(t, 5, left.Total)
		require.Equal(t, []struct{ Path, Reason string }{{"odd.c", "unknown_encoding"}, {"big.txt", "too_large"}}, left.Files)
		data, err = l.call("get_progress_details", project, "{}")
		require.NoError(t, err)
		var state map[string]map[string]any
		_ = json.Unmarshal(data, &state) // some members are no objects
		require.EqualValues(t, 4, state["phase1Data"]["leftOut"].(map[string]any)["total"])
		require.EqualValues(t, 1, state["phase2Data"]["leftOut"].(map[string]any)["total"])
	})

	t.Run("FilesTooLargeAreParsedWithMoreMemory", func(t *testing.T) {
		project := l.project("acme/huge")
		_, _, _, failed := l.run(l.start(project))
		require.Equal(t, []string{"big.txt"}, failed)
		_, err := l.call("recover_ingestion", project, `{"action": "exclude_files", "files": ["unknown.txt"]}`)
		refused(t, err, "VALIDATION_ERROR")
		_, err = l.call("recover_ingestion", project, `{"action": "retry_with_memory"}`)
		require.NoError(t, err)
		run := value[uuid.UUID](l, "select id from public.ingestion_runs where project_id = $1 order by created_at desc limit 1", project)
		require.Equal(t, "completed", l.outcome(run))
		require.Equal(t, 1, value[int](l, "select count(*) from public.run_files where run_id = $1", run))
	})
}

func TestIngestionCancel(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/slow", gittest.On("main", smallRepository))
	hold := make(chan struct{})
	defer close(hold)
	l.git.Set("acme/slow", gittest.Mood{Hold: hold})
	l.work()
	project := l.project("acme/slow")
	run := l.start(project)
	require.Eventually(t, func() bool { return l.git.Holding() > 0 }, 20*time.Second, 10*time.Millisecond)
	_, err := l.call("start_ingestion", project, "{}")
	refused(t, err, "ALREADY_PROCESSING")
	_, err = l.call("cancel_ingestion", project, "{}")
	require.NoError(t, err)
	began := time.Now()
	require.Eventually(t, func() bool { return l.git.Holding() == 0 }, 10*time.Second, 10*time.Millisecond, "the fetch goes on after the cancel")
	t.Logf("stopped %.2f s after the cancel", time.Since(began).Seconds())
	require.Equal(t, "cancelled", l.outcome(run))
	require.Equal(t, "draft", value[string](l, "select status from public.projects where id = $1", project))
	require.Equal(t, "pending", value[string](l, "select status from public.project_repositories where project_id = $1", project))
	data, err := l.call("get_ingestion_progress", project, "{}")
	require.NoError(t, err)
	require.Empty(t, string(data))
	_, err = l.call("cancel_ingestion", project, "{}")
	refused(t, err, "NO_ACTIVE_INGESTION")
}

func TestIngestionHandsBackAtShutdown(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/slow", gittest.On("main", smallRepository))
	hold := make(chan struct{})
	l.git.Set("acme/slow", gittest.Mood{Hold: hold})
	stop := l.work()
	run := l.start(l.project("acme/slow"))
	require.Eventually(t, func() bool { return l.git.Holding() > 0 }, 20*time.Second, 10*time.Millisecond)
	stop()
	require.True(t, value[bool](l, "select outcome = 'open' and lease_owner is null and restarts = 0 from public.ingestion_runs where id = $1", run))
	close(hold)
	l.git.Set("acme/slow", gittest.Mood{})
	l.work()
	require.Equal(t, "completed", l.outcome(run))
	require.Zero(t, value[int](l, "select restarts from public.ingestion_runs where id = $1", run))
}

func TestIngestionWorkerLost(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	project := l.project("acme/any")
	run := l.start(project)
	l.exec("update public.ingestion_runs set lease_owner = gen_random_uuid(), lease_expires_at = now() - interval '1 second', restarts = 3 where id = $1", run)
	l.work()
	outcome, _, code, _ := l.run(run)
	require.Equal(t, []string{"failed", "WORKER_LOST"}, []string{outcome, code})
}

// TestIngestionQuotaIsExact: 50 starts at once with two units left; exactly two are admitted.
func TestIngestionQuotaIsExact(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.exec("update public.subscriptions set plan_id = 'free' where organization_id = $1", l.org)
	l.exec("insert into public.usage_counters (organization_id, metric, period, used) values ($1, 'ingestions', date_trunc('month', now() at time zone 'UTC'), 48)", l.org)
	projects := make([]uuid.UUID, 50)
	for i := range projects {
		projects[i] = l.project("acme/any")
	}
	var group sync.WaitGroup
	codes := make([]string, len(projects))
	for i, project := range projects {
		group.Go(func() {
			_, err := l.call("start_ingestion", project, "{}")
			codes[i] = "started"
			if err != nil {
				codes[i] = err.Error()
			}
		})
	}
	group.Wait()
	started := 0
	for _, code := range codes {
		if code == "started" {
			started++
		} else {
			require.Contains(t, code, "PT429", code)
		}
	}
	require.Equal(t, 2, started)
	require.Equal(t, 2, value[int](l, "select count(*) from public.ingestion_runs"))
	require.Equal(t, 2, value[int](l, "select count(*) from public.projects where status = 'processing'"))
}

func TestIngestionReplacesTheIndexAtOnce(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/greet", gittest.On("main", smallRepository))
	l.work()
	project := l.project("acme/greet")
	first := l.start(project)
	require.Equal(t, "completed", l.outcome(first))
	visible := func() []byte {
		data, err := l.as("select to_jsonb(array_agg(distinct run_id)) from public.chunks")
		require.NoError(t, err)
		return data
	}
	require.JSONEq(t, fmt.Sprintf("[%q]", first), string(visible()))
	second := l.start(project)
	require.Equal(t, "completed", l.outcome(second))
	require.JSONEq(t, fmt.Sprintf("[%q]", second), string(visible()), "only the current run's chunks are seen")
	require.Equal(t, l.digest(second), l.digest(second))
	require.Eventually(t, func() bool {
		return value[int](l, "select count(*) from public.chunks where run_id = $1", first) == 0
	}, 20*time.Second, 20*time.Millisecond, "the old run's rows stay")
	var result map[string]any
	data, err := l.call("get_ingestion_result", project, "{}")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &result))
	sum := 0.0
	for _, n := range result["savingsBreakdown"].(map[string]any) {
		sum += n.(float64)
	}
	require.Equal(t, result["originalTokens"].(float64)-result["optimizedTokens"].(float64), sum, "the four savings are the difference")
	require.Zero(t, value[int](l, "select count(*) from public.chunks where content like '%ghp_R8s2%'"), "a secret was stored")
	l.exec("delete from public.project_repositories where project_id = $1", project)
	require.Zero(t, value[int](l, "select count(*) from public.chunks where run_id = $1", second), "a removed repository leaves the index")
	require.Zero(t, value[int](l, "select count(*) from public.kg_edges where project_id = $1", project), "and its links the graph")
}
