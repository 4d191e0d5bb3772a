// Command jobs measures the job engine: J1 to J3, J5 and J6 of the targets, beside graphile-worker, River and gue with their defaults, all in
// one PostgreSQL with durable commits, twenty jobs at once. Rounds are interleaved, medians are printed. The tests that kill workers
// measure J4 (go test -run Kill ./tests).
//
//	go run ./tests/bench/jobs              all
//	go run ./tests/bench/jobs J1 J3        some
//	go run ./tests/bench/jobs J1 kijko     without the other engines
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"kijko/db/devpg"
	"kijko/worker/runner"
)

const rounds = 5

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench jobs:", err)
		os.Exit(1)
	}
}

type bench struct {
	dir     string
	cluster *devpg.Cluster
	engines map[string]engine
	// wanted names the engines to run; none: all.
	wanted []string
}

// among gives those of the engines that were asked for.
func (b *bench) among(names ...string) []string {
	if len(b.wanted) == 0 {
		return names
	}
	return slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(b.wanted, name) })
}

func run(ctx context.Context, wanted []string) (err error) {
	dir, err := os.MkdirTemp("", "kijko-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{dir: dir}
	data := filepath.Join(dir, "data")
	if b.cluster, err = devpg.Start(ctx, devpg.Options{DataDir: data}); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.cluster.Stop(context.WithoutCancel(ctx)), devpg.Remove(data))
	}()
	isEngine := func(name string) bool { return slices.Contains([]string{"kijko", "graphile", "river", "gue"}, name) }
	for _, name := range wanted {
		if isEngine(name) {
			b.wanted = append(b.wanted, name)
		}
	}
	wanted = slices.DeleteFunc(slices.Clone(wanted), isEngine)
	if err := b.assemble(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{{"J1", b.throughput}, {"J2", b.pickup}, {"J3", b.heldSnapshot}, {"J5", b.longJobs}, {"J6", b.costs}} {
		if len(wanted) > 0 && !slices.Contains(wanted, step.name) {
			continue
		}
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// rate enqueues n jobs and drains them. It returns jobs a second.
func (b *bench) rate(ctx context.Context, name string, n int) (float64, error) {
	e := b.engines[name]
	if err := e.enqueue(ctx, n); err != nil {
		return 0, fmt.Errorf("%s: enqueue: %w", name, err)
	}
	took, err := e.drain(ctx, n)
	if err != nil {
		return 0, fmt.Errorf("%s: drain: %w", name, err)
	}
	fmt.Fprintf(os.Stderr, "     %-8s %7d jobs in %.1f s\n", name, n, took.Seconds())
	return float64(n) / took.Seconds(), nil
}

// throughput measures J1, a backlog of 20,000 trivial jobs.
func (b *bench) throughput(ctx context.Context) error {
	const jobs = 20_000
	rates := map[string][]float64{}
	for i := range rounds {
		for _, name := range b.among("kijko", "graphile", "river", "gue") {
			backlog := jobs
			if name == "gue" || name == "river" {
				// gue scans its whole backlog for each job, so a short backlog flatters it. River's defaults take twenty jobs ten times a
				// second, whatever the backlog. 20,000 would take minutes.
				if backlog = 2_000; i > 0 {
					continue
				}
			}
			rate, err := b.rate(ctx, name, backlog)
			if err != nil {
				return err
			}
			rates[name] = append(rates[name], rate)
		}
	}
	for _, name := range b.among("graphile", "river", "gue") {
		aim := ""
		if name == "graphile" {
			aim = "must 1.5, aim 3"
		}
		report("J1", fmt.Sprintf("20,000 trivial jobs, 20 at once (%.0f a second) / %s's defaults (%.0f)", median(rates["kijko"]), name,
			median(rates[name])), median(rates["kijko"])/median(rates[name]), aim)
	}
	return nil
}

// pickup measures J2, from before the insert until the work begins, on an idle worker.
func (b *bench) pickup(ctx context.Context) error {
	const jobs = 200
	tails, middles := map[string][]float64{}, map[string][]float64{}
	for range rounds {
		for _, name := range b.among("kijko", "graphile", "river") {
			all, err := b.engines[name].latency(ctx, jobs)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			slices.Sort(all)
			middles[name] = append(middles[name], all[len(all)/2].Seconds()*1000)
			tails[name] = append(tails[name], all[len(all)*99/100].Seconds()*1000)
		}
	}
	for _, name := range b.among("graphile", "river") {
		aim := ""
		if name == "graphile" {
			aim = "must 1.2, aim 0.7"
		}
		report("J2", fmt.Sprintf("enqueue to start, p99 (%.1f ms, p50 %.1f) / %s's (%.1f ms, p50 %.1f)", median(tails["kijko"]), median(middles["kijko"]),
			name, median(tails[name]), median(middles[name])), median(tails["kijko"])/median(tails[name]), aim)
	}
	return nil
}

// heldSnapshot measures J3: while a session holds an old snapshot (a backup, a report), dead rows of the queue cannot be removed. River is
// left out: its defaults take two hundred jobs a second, so a hundred thousand take longer than this bench runs.
func (b *bench) heldSnapshot(ctx context.Context) error {
	const sample, finished = 10_000, 100_000
	for _, name := range b.among("kijko", "graphile") {
		before, err := b.rate(ctx, name, sample)
		if err != nil {
			return err
		}
		conn, err := pgx.Connect(ctx, b.cluster.TCPDSN(name))
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "begin isolation level repeatable read; select count(*) from pg_class"); err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
		_, err = b.rate(limited, name, finished)
		after := 0.0
		if err == nil {
			after, err = b.rate(limited, name, sample)
		}
		cancel()
		_ = conn.Close(ctx)
		if err != nil && ctx.Err() == nil && limited.Err() != nil {
			fmt.Printf("J3   %s: not done within two minutes\n", name)
			continue
		}
		if err != nil {
			return err
		}
		aim := ""
		if name == "kijko" {
			aim = "must 0.7, aim 0.9"
		}
		report("J3", fmt.Sprintf("%s after 100,000 jobs with a snapshot held (%.0f a second) / before (%.0f)", name, after, before), after/before, aim)
	}
	return nil
}

// longJobs measures J5, sessions that are idle in a transaction while 100 jobs run long under leases.
func (b *bench) longJobs(ctx context.Context) error {
	const jobs = 100
	k, ok := b.engines["kijko"].(kijko)
	if !ok {
		return errors.New("no engine of ours")
	}
	if err := execute(ctx, k.owner, "select private.enqueue('long', '{}', now(), null, 'long') from generate_series(1, $1)", jobs); err != nil {
		return err
	}
	idle, connections, err := k.holdLong(ctx, jobs, 3*time.Second)
	if err != nil {
		return err
	}
	report("J5", fmt.Sprintf("sessions idle in transaction while %d long jobs run (%d connections)", jobs, connections), float64(idle), "must 0, aim 0")
	return nil
}

// holdLong takes jobs in batches, keeps them running for a while, and counts the worker's sessions meanwhile.
func (k kijko) holdLong(ctx context.Context, jobs int, hold time.Duration) (idle, connections int, err error) {
	conn, err := pgx.Connect(ctx, k.owner)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	pool, err := k.pool(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer pool.Close()
	running := make(chan struct{}, jobs)
	release := make(chan struct{})
	take := func(ctx context.Context, n int) (works []func(context.Context), seen int, err error) {
		tag, err := pool.Exec(ctx, `delete from jobs.gue_jobs where job_id in (
			select job_id from jobs.gue_jobs where queue = 'long' and run_at <= now() order by run_at limit $1 for update skip locked)`, n)
		for range tag.RowsAffected() {
			works = append(works, func(context.Context) {
				running <- struct{}{}
				<-release
			})
		}
		return works, len(works), err
	}
	r, err := runner.New(runner.Config{Pool: pool, Batches: []runner.Batch{{Name: "long", Queue: "long", Slots: jobs, Take: take}},
		Listen: func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, k.worker) }})
	if err != nil {
		return 0, 0, err
	}
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(working) }()
	for range jobs {
		select {
		case <-running:
		case <-time.After(time.Minute):
			err = errors.New("the jobs did not begin")
		}
	}
	for end := time.Now().Add(hold); err == nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var i, c int
		err = conn.QueryRow(ctx, `select count(*) filter (where state like 'idle in transaction%'), count(*) from pg_stat_activity
			where usename = 'kijko_worker'`).Scan(&i, &c)
		idle, connections = max(idle, i), max(connections, c)
	}
	close(release)
	stop()
	return idle, connections, errors.Join(err, <-done)
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.SortFunc(v, cmp.Compare)
	return v[len(v)/2]
}

func report(id, what string, value float64, aim string) {
	fmt.Printf("%-4s %-92s %8.2f   %s\n", id, what, value, aim)
}
