package runner_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/runner"
)

func TestQueueFloor(t *testing.T) {
	b := setup(t)
	db, ctx := b.db, context.Background()
	worker := db.Connect("kijko_worker")
	raise := func() {
		_, err := worker.Exec(ctx, "select private.raise_queue_floor()")
		require.NoError(t, err)
	}
	isBelow := func(sql string, args ...any) bool {
		return testdb.Value[bool](db, "select coalesce((select floor from jobs.queue_floor) <= ("+sql+"), false)", args...)
	}
	visible := func(id string) bool {
		return testdb.Value[bool](db, "select exists (select from jobs.gue_jobs where job_id = $1)", id)
	}

	t.Run("NeverAboveAJobThatIsNotCommittedYet", func(t *testing.T) {
		tx, err := db.Connect("postgres").Begin(ctx)
		require.NoError(t, err)
		var id string
		require.NoError(t, tx.QueryRow(ctx, "select private.enqueue('late', '{}')").Scan(&id))
		for range 5 {
			raise()
		}
		require.NoError(t, tx.Commit(ctx))
		require.True(t, visible(id))
		for range 5 {
			raise()
		}
		require.True(t, visible(id), "nor above one that waits")
		require.True(t, isBelow("select run_at from jobs.stored_jobs where job_id = $1", id))
		db.Exec("delete from jobs.gue_jobs where job_id = $1", id)
	})
	t.Run("FollowsWhatIsDone", func(t *testing.T) {
		before := testdb.Value[time.Time](db, "select clock_timestamp()")
		// Transactions of other databases of the cluster may be under way.
		require.Eventually(t, func() bool {
			raise()
			return !isBelow("$1::timestamptz", before)
		}, time.Minute, 20*time.Millisecond, "an empty queue has its floor just behind the clock")
		id := testdb.Value[string](db, "select private.enqueue('next', '{}', now() - interval '1 day')")
		require.True(t, visible(id), "whatever time a caller names, a job waits from now on")
		db.Exec("delete from jobs.gue_jobs")
	})
	t.Run("AWriterWithAnotherClockWaitsForSeconds", func(t *testing.T) {
		id := testdb.Value[string](db, `insert into jobs.stored_jobs select private.new_ulid(), 0, now() - interval '1 hour', 'stray', 'null', 0, null, 'new queue', now(), now()
			returning job_id`)
		require.False(t, visible(id))
		require.Eventually(t, func() bool {
			db.Exec("update jobs.queue_floor set compared_at = now() - interval '6 seconds'")
			raise()
			return visible(id)
		}, time.Minute, 20*time.Millisecond)
		db.Exec("delete from jobs.gue_jobs")
	})
	t.Run("ABusyWorkerRaisesIt", func(t *testing.T) {
		db.Exec("update jobs.queue_floor set floor = '-infinity', next_floor = '-infinity'")
		const jobs = 600
		db.Exec("select private.enqueue('count', '{}') from generate_series(1, $1)", jobs)
		var worked atomic.Int64
		c := b.config()
		c.Types = []runner.Type{quick("count", func(context.Context, runner.Job) error { worked.Add(1); return nil })}
		b.run(c)
		require.Eventually(t, func() bool { return worked.Load() == jobs }, time.Minute, 5*time.Millisecond)
		require.Eventually(t, func() bool {
			return testdb.Holds(db, "select floor > '-infinity' from jobs.queue_floor")
		}, time.Minute, 20*time.Millisecond)
	})
}
