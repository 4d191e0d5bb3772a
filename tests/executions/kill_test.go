package executions

import (
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// program builds the worker, and returns what starts it against the lab.
func (l *skillLab) program(t *testing.T) func() *exec.Cmd {
	t.Helper()
	path := worker.Program(t)
	return func() *exec.Cmd {
		cmd := exec.Command(path)
		m := l.models.Config()
		cmd.Env = append(os.Environ(), "DEBUG=true", "DATABASE_WORKER_URL="+l.DB.DSN("kijko_worker"), "KIJKO_DATA_DIR="+t.TempDir(),
			"ENCRYPTION_KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KIJKO_LOG_LEVEL=error", "KIJKO_WORKER_EXECUTIONS=200",
			"ANTHROPIC_API_KEY="+m.AnthropicKey, "ANTHROPIC_BASE_URL="+m.AnthropicURL)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
		return cmd
	}
}

// A worker is killed in the middle of 200 model calls, 20 of which belong to habits whose calls will fail. Another worker takes over. Each
// run ends once, its owner is notified once, each habit counts one failure, and each run is paid for once.
func TestKilledWorkerInTheMiddleOfTwoHundredModelCalls(t *testing.T) {
	t.Parallel()
	const runs, habits = 200, 20
	l := newSkillLab(t)
	var second atomic.Bool
	l.models.Always(func(c llmtest.Call) llmtest.Reply {
		switch {
		case !second.Load():
			return llmtest.Silence()
		case c.Text == "Write something nice about failure":
			return llmtest.Fail(400, "not about that")
		}
		return llmtest.Answer("nice")
	})
	skill := l.skill(l.anna, "Writer")
	l.DB.Exec(`insert into public.habits (user_id, organization_id, skill_id, schedule_cron, next_run_at)
		select $2, $3, $1, '0 9 * * *', now() + interval '1 day' from generate_series(1, 20)`, skill, l.anna.ID, l.anna.OrgID)
	l.DB.Exec(`select private.start_execution(skill_id, user_id, organization_id, 'habit', id, '{"topic": "failure"}') from public.habits`)
	l.DB.Exec(`select private.start_execution($1, $2, $3, 'manual', null, '{"topic": "trees"}') from generate_series(1, 180)`, skill, l.anna.ID, l.anna.OrgID)

	process := l.program(t)
	first := process()
	require.Eventually(t, func() bool { return len(l.models.Calls()) == runs }, 60*time.Second, 20*time.Millisecond, "all calls are in flight")
	require.LessOrEqual(t, l.count("select count(*) from pg_stat_activity where datname = current_database() and usename = 'kijko_worker'"), 15)
	require.NoError(t, first.Process.Kill())
	_, _ = first.Process.Wait()
	second.Store(true)

	process()
	restarted := time.Now()
	require.Eventually(t, func() bool { return l.count("select count(*) from public.skill_executions where takes = 2") > 0 }, 30*time.Second,
		20*time.Millisecond, "nothing was taken over within 30 s")
	t.Logf("taken over %.1f s after kill -9", time.Since(restarted).Seconds())
	require.Eventually(t, func() bool {
		return l.count("select count(*) from public.skill_executions where completed_at is null") == 0
	},
		60*time.Second-time.Since(restarted), 20*time.Millisecond, "not all have ended within 60 s of the restart")
	t.Logf("all ended %.1f s after kill -9", time.Since(restarted).Seconds())

	require.Equal(t, runs, l.count("select count(*) from public.skill_executions"))
	require.Equal(t, runs-habits, l.count("select count(*) from public.skill_executions where status = 'completed' and output = 'nice' and takes = 2"))
	require.Equal(t, habits, l.count("select count(*) from public.skill_executions where status = 'failed' and error_code = 'BAD_REQUEST' and takes = 2"))
	require.Equal(t, habits, l.count("select count(*) from public.habits where consecutive_failures = 1 and run_count = 1 and is_active"), "one failure each")
	require.Equal(t, runs-habits, l.count("select execution_count from public.skills where id = $1", skill))
	require.Equal(t, runs, l.used(l.anna), "paid for once")
	require.Zero(t, l.count("select count(*) from jobs.gue_jobs where queue = 'executions'"))
	require.Zero(t, l.count("select count(*) from jobs.dead_letters"))
	// Three steps of each run were published, in spite of the kill: pending, running, the end.
	told := testdb.Value[string](l.DB, `select string_agg(distinct n || ' ' || steps, ', ') from (
			select entity_id, count(*) as n, count(distinct data ->> 'status') as steps from (
				select entity_id, data from public.events where type = 'execution_update'
				union all select entity_id, data from private.event_inbox where type = 'execution_update') e
			group by entity_id) x`)
	require.Equal(t, "3 3", told)
}

// A worker that is suspended in the middle of its model calls keeps its lock, and its runs until their leases end. Then another worker has
// them, and the first one, awake again, changes nothing.
func TestASuspendedWorkerKeepsItsRunsUntilTheirLeasesEnd(t *testing.T) {
	t.Parallel()
	const runs = 5
	l := newSkillLab(t)
	var second atomic.Bool
	l.models.Always(func(llmtest.Call) llmtest.Reply {
		if second.Load() {
			return llmtest.Answer("second")
		}
		return llmtest.Silence()
	})
	skill := l.skill(l.anna, "Writer")
	l.DB.Exec(`select private.start_execution($1, $2, $3, 'manual', null, '{"topic": "trees"}') from generate_series(1, $4::integer)`, skill, l.anna.ID, l.anna.OrgID, runs)
	process := l.program(t)
	first := process()
	require.Eventually(t, func() bool { return len(l.models.Calls()) == runs }, time.Minute, 20*time.Millisecond, "all calls are in flight")
	require.NoError(t, first.Process.Signal(syscall.SIGSTOP))
	second.Store(true)
	process()
	require.Eventually(t, func() bool { return l.count("select count(*) from jobs.workers") == 2 }, time.Minute, 20*time.Millisecond)
	// What the second worker would do to the first, it does to one that died.
	l.DB.Exec("insert into jobs.workers (id, lock_key, pid, server) values (1, 1, 1, private.server_run())")
	require.Eventually(t, func() bool { return l.count("select count(*) from jobs.workers where id = 1") == 0 }, time.Minute, 20*time.Millisecond)
	require.Equal(t, runs, l.count("select count(*) from public.skill_executions where status = 'running' and takes = 1"))

	l.DB.Exec("update public.skill_executions set lease_expires_at = now()")
	l.DB.Exec("update private.schedules set run_at = now() where name = 'executions.sweep'")
	require.Eventually(t, func() bool {
		return l.count("select count(*) from public.skill_executions where status = 'completed'") == runs
	}, time.Minute,
		20*time.Millisecond)
	require.NoError(t, first.Process.Signal(syscall.SIGCONT))
	require.NoError(t, first.Process.Signal(syscall.SIGTERM))
	_, _ = first.Process.Wait()
	require.Equal(t, runs, l.count("select count(*) from public.skill_executions where status = 'completed' and output = 'second' and takes = 2"))
	require.Equal(t, runs, l.used(l.anna), "paid for once")
	require.Equal(t, 1, l.count("select count(*) from jobs.workers"), "a worker that stops leaves nothing")
}
