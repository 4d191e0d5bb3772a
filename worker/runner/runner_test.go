package runner_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/lease"
	"kijko/worker/runner"
)

type bundle struct {
	t    *testing.T
	db   *testdb.DB
	pool *pgxpool.Pool
	conn *pgx.Conn
}

func setup(t *testing.T) *bundle {
	t.Parallel()
	d := testdb.New(t)
	c, err := pgxpool.ParseConfig(d.DSN("kijko_worker"))
	require.NoError(t, err)
	c.ConnConfig.RuntimeParams["search_path"] = "jobs"
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return &bundle{t, d, pool, d.Connect("postgres")}
}

func (b *bundle) config() runner.Config {
	return runner.Config{Pool: b.pool, Poll: time.Hour, Grace: 100 * time.Millisecond,
		Listen: func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, b.db.DSN("kijko_worker")) }}
}

func (b *bundle) run(c runner.Config) (r *runner.Runner, stop func()) {
	b.t.Helper()
	r, err := runner.New(c)
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(b.t, <-done)
	})
	b.t.Cleanup(stop)
	return r, stop
}

func (b *bundle) enqueue(kind, queue string) {
	b.t.Helper()
	_, err := b.conn.Exec(context.Background(), `select private.enqueue($1, '{"n": 1}', now(), null, $2)`, kind, queue)
	require.NoError(b.t, err)
}

func (b *bundle) count(sql string) int {
	b.t.Helper()
	return testdb.Value[int](b.db, sql)
}

func quick(name string, work func(context.Context, runner.Job) error) runner.Type {
	return runner.Type{Name: name, Attempts: 2, TimeLimit: time.Minute, Backoff: runner.Exponential(time.Millisecond, time.Millisecond), Work: work}
}

func TestJobs(t *testing.T) {
	t.Run("ANotificationStartsAJobAtOnce", func(t *testing.T) {
		b := setup(t)
		done := make(chan runner.Job, 10)
		c := b.config() // polls once an hour
		c.Types = []runner.Type{quick("a", func(_ context.Context, j runner.Job) error { done <- j; return nil })}
		b.enqueue("a", "default")
		b.run(c)
		j := <-done
		require.JSONEq(t, `{"n": 1}`, string(j.Args))
		require.Equal(t, 1, j.Attempt)
		for range 5 {
			b.enqueue("a", "default")
			<-done
		}
		require.Eventually(t, func() bool { return b.count("select count(*) from jobs.gue_jobs") == 0 }, 5*time.Second, 10*time.Millisecond)
	})
	t.Run("AFailingJobIsTriedAgainAndThenBuried", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		c.Poll = 20 * time.Millisecond
		var mu sync.Mutex
		var attempts []int
		c.Types = []runner.Type{
			quick("bad", func(_ context.Context, j runner.Job) error {
				mu.Lock()
				defer mu.Unlock()
				attempts = append(attempts, j.Attempt)
				return errors.New("no luck")
			}),
			quick("panics", func(context.Context, runner.Job) error { panic("at once") }),
		}
		b.enqueue("bad", "default")
		b.enqueue("panics", "default")
		b.run(c)
		require.Eventually(t, func() bool { return b.count("select count(*) from jobs.dead_letters") == 2 }, 10*time.Second, 10*time.Millisecond)
		require.Zero(t, b.count("select count(*) from jobs.gue_jobs"))
		require.Equal(t, 2, b.count("select error_count from jobs.dead_letters where job_type = 'bad' and last_error = 'no luck'"))
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []int{1, 2}, attempts)
	})
	t.Run("AShutdownHandsARunningJobBack", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		began := make(chan struct{})
		c.Types = []runner.Type{quick("long", func(ctx context.Context, _ runner.Job) error { close(began); <-ctx.Done(); return ctx.Err() })}
		b.enqueue("long", "default")
		_, stop := b.run(c)
		<-began
		stop()
		require.Equal(t, 1, b.count("select count(*) from jobs.gue_jobs where run_at <= now()"))
		require.Zero(t, b.count("select count(*) from jobs.dead_letters"))
	})
	t.Run("AnUnknownTypeWaitsForAWorkerThatKnowsIt", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		c.Types = []runner.Type{quick("a", func(context.Context, runner.Job) error { return nil })}
		b.enqueue("newer", "default")
		b.run(c)
		require.Eventually(t, func() bool { return b.count("select count(*) from jobs.gue_jobs where run_at > now()") == 1 }, 5*time.Second, 10*time.Millisecond)
	})
}

func TestShortJobsUnderLeases(t *testing.T) {
	t.Run("ManyWorkersDoEachJobOnceAndNoTransactionStaysOpen", func(t *testing.T) {
		b := setup(t)
		const jobs = 400
		var mu sync.Mutex
		times := map[string]int{}
		all := make(chan struct{})
		for range 3 {
			c := b.config()
			c.Workers = 7
			c.Types = []runner.Type{quick("count", func(_ context.Context, j runner.Job) error {
				mu.Lock()
				defer mu.Unlock()
				if times[j.ID]++; len(times) == jobs {
					close(all)
				}
				return nil
			})}
			b.run(c)
		}
		_, err := b.conn.Exec(context.Background(), "select private.enqueue('count', '{}') from generate_series(1, $1)", jobs)
		require.NoError(t, err)
		<-all
		require.Eventually(t, func() bool { return b.count("select count(*) from jobs.stored_jobs") == 0 }, time.Minute, 10*time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		for id, n := range times {
			require.Equal(t, 1, n, id)
		}
	})
	t.Run("NoMoreThanWorkersRunAndNoTransactionStaysOpen", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		c.Workers = 2
		running, finish := make(chan struct{}, 10), make(chan struct{})
		c.Types = []runner.Type{quick("long", func(context.Context, runner.Job) error { running <- struct{}{}; <-finish; return nil })}
		for range 3 {
			b.enqueue("long", "default")
		}
		b.run(c)
		<-running
		<-running
		require.Equal(t, 1, b.count("select count(*) from jobs.stored_jobs where lease is null"), "the third waits")
		require.Zero(t, b.count("select count(*) from pg_stat_activity where usename = 'kijko_worker' and state like 'idle in transaction%' and datname = current_database()"))
		close(finish)
		<-running
	})
	t.Run("AJobThatWasGivenToAnotherIsNotEndedByItsFormerWorker", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		running, finish := make(chan struct{}, 2), make(chan struct{})
		c.Types = []runner.Type{quick("lost", func(context.Context, runner.Job) error { running <- struct{}{}; <-finish; return nil })}
		b.enqueue("lost", "default")
		_, stop := b.run(c)
		<-running
		b.db.Exec("update jobs.stored_jobs set lease = gen_random_uuid(), run_at = now() + interval '1 hour'")
		close(finish)
		stop()
		require.Equal(t, 1, b.count("select count(*) from jobs.stored_jobs"))
	})
	t.Run("AnEarlierJobIsDoneFirst", func(t *testing.T) {
		b := setup(t)
		for range 5 {
			b.enqueue("a", "default")
		}
		want := testdb.Value[string](b.db, "select string_agg(job_id, ' ' order by run_at, priority, job_id) from jobs.stored_jobs")
		done := make(chan string, 5)
		c := b.config()
		c.Workers = 1
		c.Types = []runner.Type{quick("a", func(_ context.Context, j runner.Job) error { done <- j.ID; return nil })}
		b.run(c)
		var got []string
		for range 5 {
			got = append(got, <-done)
		}
		require.Equal(t, want, strings.Join(got, " "))
	})
	t.Run("AWorkerThatDiesLeavesItsJobsToOthers", func(t *testing.T) {
		b := setup(t)
		connect := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, b.db.DSN("kijko_worker")) }
		dead := lease.NewProcess(connect, nil, slog.New(slog.DiscardHandler))
		conn, err := connect(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "select private.register_worker($1, 1, false)", *dead.ID())
		require.NoError(t, err)
		b.enqueue("a", "default")
		require.Equal(t, 1, testdb.Value[int](b.db, "select count(*)::int from private.lease_jobs('default', 1, $1, 3600)", dead.Token()))
		require.NoError(t, conn.PgConn().Conn().Close())

		c := b.config()
		done := make(chan struct{}, 1)
		c.Types = []runner.Type{quick("a", func(context.Context, runner.Job) error { done <- struct{}{}; return nil })}
		var r *runner.Runner
		c.Process = lease.NewProcess(connect, func(context.Context) { r.Wake() }, slog.New(slog.DiscardHandler))
		r, _ = b.run(c)
		living, stop := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { c.Process.Run(living); close(ended) }()
		<-done
		stop()
		<-ended
	})
}

func TestLeases(t *testing.T) {
	t.Run("NoMoreThanSlotsAreTakenAndNoTransactionStaysOpen", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		running, finish := make(chan struct{}, 10), make(chan struct{})
		c.Leases = []runner.Lease{{Name: "l", Queue: "leased", Slots: 2, Claim: func(context.Context, runner.Job) (func(context.Context), error) {
			return func(context.Context) { running <- struct{}{}; <-finish }, nil
		}}}
		for range 3 {
			b.enqueue("l", "leased")
		}
		b.run(c)
		<-running
		<-running
		require.Eventually(t, func() bool { return b.count("select count(*) from jobs.gue_jobs") == 1 }, 5*time.Second, 10*time.Millisecond, "the third waits")
		require.Zero(t, b.count("select count(*) from pg_stat_activity where usename = 'kijko_worker' and state like 'idle in transaction%' and datname = current_database()"))
		finish <- struct{}{}
		<-running
		close(finish)
		require.Eventually(t, func() bool { return b.count("select count(*) from jobs.gue_jobs") == 0 }, 5*time.Second, 10*time.Millisecond)
	})
	t.Run("AClaimThatFailsIsTriedLaterAndNothingToDoIsDone", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		c.Leases = []runner.Lease{
			{Name: "fails", Queue: "one", Slots: 1, Claim: func(context.Context, runner.Job) (func(context.Context), error) { return nil, errors.New("not now") }},
			{Name: "nothing", Queue: "two", Slots: 1, Claim: func(context.Context, runner.Job) (func(context.Context), error) { return nil, nil }},
		}
		b.enqueue("fails", "one")
		b.enqueue("nothing", "two")
		b.run(c)
		require.Eventually(t, func() bool {
			return b.count("select count(*) from jobs.gue_jobs where job_type = 'fails' and run_at > now()") == 1 && b.count("select count(*) from jobs.gue_jobs") == 1
		}, 5*time.Second, 10*time.Millisecond)
	})
}

func TestTheListenerComesBack(t *testing.T) {
	b := setup(t)
	c := b.config()
	done := make(chan struct{}, 10)
	c.Types = []runner.Type{quick("a", func(context.Context, runner.Job) error { done <- struct{}{}; return nil })}
	ticked := make(chan struct{}, 10)
	c.Ticks = []runner.Tick{{Name: "t", Every: time.Hour, Do: func(context.Context) error { ticked <- struct{}{}; return errors.New("logged") }}}
	r, _ := b.run(c)
	<-ticked
	require.Equal(t, []string{"a"}, r.Names())
	b.enqueue("a", "default")
	<-done
	require.Eventually(t, func() bool {
		return b.count("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and query like 'listen %'") == 1
	}, 5*time.Second, 10*time.Millisecond)
	b.enqueue("a", "default")
	<-done
	r.Wake()
}

func TestConfigNamesEveryFault(t *testing.T) {
	_, err := runner.New(runner.Config{Types: []runner.Type{{Name: "x"}}, Leases: []runner.Lease{{}}})
	require.ErrorContains(t, err, "Pool")
	require.ErrorContains(t, err, "Listen")
	require.ErrorContains(t, err, `"x"`)
	backoff := runner.Exponential(time.Second, 5*time.Second)
	require.Equal(t, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second}, []time.Duration{backoff(1), backoff(2), backoff(3), backoff(9)})
}

func TestBatches(t *testing.T) {
	// take deletes jobs of the queue as a real Take does, and gives the same work for each.
	take := func(b *bundle, work func(context.Context)) func(context.Context, int) ([]func(context.Context), int, error) {
		return func(ctx context.Context, n int) ([]func(context.Context), int, error) {
			tag, err := b.pool.Exec(ctx, `delete from gue_jobs where job_id in (select job_id from gue_jobs where queue = 'many' and run_at <= clock_timestamp()
				order by run_at limit $1 for update skip locked)`, n)
			works := make([]func(context.Context), tag.RowsAffected())
			for i := range works {
				works[i] = work
			}
			return works, len(works), err
		}
	}
	t.Run("ManyAreTakenAtOnceButNoMoreThanSlots", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		running, finish := make(chan struct{}, 10), make(chan struct{})
		var asked []int
		work := take(b, func(context.Context) { running <- struct{}{}; <-finish })
		c.Batches = []runner.Batch{{Name: "m", Queue: "many", Slots: 3, Take: func(ctx context.Context, n int) ([]func(context.Context), int, error) {
			asked = append(asked, n)
			return work(ctx, n)
		}}}
		for range 5 {
			b.enqueue("m", "many")
		}
		r, stop := b.run(c)
		require.Equal(t, []string{"m"}, r.Names())
		for range 3 {
			<-running
		}
		require.Equal(t, 2, b.count("select count(*) from jobs.gue_jobs"), "the others wait for a slot")
		finish <- struct{}{}
		<-running
		require.Equal(t, 1, b.count("select count(*) from jobs.gue_jobs"))
		close(finish)
		<-running
		require.Eventually(t, func() bool { return b.count("select count(*) from jobs.gue_jobs") == 0 }, 5*time.Second, 10*time.Millisecond)
		b.enqueue("m", "many")
		<-running
		stop()
		require.Equal(t, 3, asked[0], "all free slots in one round trip")
	})
	t.Run("ATakeThatFailsIsTriedAgainAtTheNextLookAndAPanicFreesItsSlot", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		done := make(chan struct{}, 10)
		work := take(b, func(context.Context) { done <- struct{}{}; panic("boom") })
		failed := false
		c.Batches = []runner.Batch{{Name: "m", Queue: "many", Slots: 1, Take: func(ctx context.Context, n int) ([]func(context.Context), int, error) {
			if !failed {
				failed = true
				return nil, 0, errors.New("no luck")
			}
			return work(ctx, n)
		}}}
		b.run(c)
		for range 3 {
			b.enqueue("m", "many")
		}
		for range 3 {
			<-done
		}
	})
	t.Run("AtShutdownWorkSeesTheEndAndIsWaitedFor", func(t *testing.T) {
		b := setup(t)
		c := b.config()
		began, back := make(chan struct{}), false
		c.Batches = []runner.Batch{{Name: "m", Queue: "many", Slots: 2, Take: take(b, func(ctx context.Context) { close(began); <-ctx.Done(); back = true })}}
		b.enqueue("m", "many")
		_, stop := b.run(c)
		<-began
		stop()
		require.True(t, back)
	})
}

func TestFurtherChannelsAreHeard(t *testing.T) {
	b := setup(t)
	c := b.config()
	heard := make(chan string, 1)
	c.Hear = map[string]func(string){"kijko_other": func(payload string) { heard <- payload }}
	done := make(chan struct{}, 1)
	c.Types = []runner.Type{quick("a", func(context.Context, runner.Job) error { done <- struct{}{}; return nil })}
	b.run(c)
	b.enqueue("a", "default")
	<-done
	_, err := b.conn.Exec(context.Background(), "notify kijko_other, 'this'")
	require.NoError(t, err)
	require.Equal(t, "this", <-heard)
}
