package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/vgarvardt/gue/v5"
	"github.com/vgarvardt/gue/v5/adapter/pgxv5"

	"kijko/db"
	"kijko/worker/runner"
)

// engine is one job engine, on a database of its own in the shared cluster. It works twenty jobs at once, with durable commits.
type engine interface {
	// install makes the engine's schema in its empty database.
	install(ctx context.Context) error
	// enqueue commits n trivial jobs.
	enqueue(ctx context.Context, n int) error
	// drain works until the n waiting jobs are done, from the start of the worker.
	drain(ctx context.Context, n int) (time.Duration, error)
	// latency gives an idle worker n jobs one by one, and returns the time from before each insert to the start of its work.
	latency(ctx context.Context, n int) ([]time.Duration, error)
}

const workers = 20

// peer is an engine that is a program: install, enqueue N, drain N, latency N.
type peer struct {
	command []string
	dsn     string
}

func (p peer) call(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.command[0], append(p.command[1:len(p.command):len(p.command)], args...)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "DATABASE_URL="+p.dsn, "NODE_ENV=production"), os.Stderr
	out, err := cmd.Output()
	return string(out), err
}

func (p peer) install(ctx context.Context) error {
	_, err := p.call(ctx, "install")
	return err
}

func (p peer) enqueue(ctx context.Context, n int) error {
	_, err := p.call(ctx, "enqueue", strconv.Itoa(n))
	return err
}

func (p peer) drain(ctx context.Context, n int) (time.Duration, error) {
	out, err := p.call(ctx, "drain", strconv.Itoa(n))
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	return time.Duration(seconds * float64(time.Second)), err
}

func (p peer) latency(ctx context.Context, n int) ([]time.Duration, error) {
	out, err := p.call(ctx, "latency", strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for _, line := range strings.Fields(out) {
		us, err := strconv.Atoi(line)
		if err != nil {
			return nil, err
		}
		all = append(all, time.Duration(us)*time.Microsecond)
	}
	return all, nil
}

// kijko is the product's own runner over the product's own queue. Jobs enter through private.enqueue.
type kijko struct{ owner, worker string }

func (k kijko) install(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, k.owner)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return db.Setup(ctx, conn)
}

func (k kijko) enqueue(ctx context.Context, n int) error {
	return execute(ctx, k.owner, "select private.enqueue('noop', '{}') from generate_series(1, $1)", n)
}

func (k kijko) pool(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(k.worker)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.ConnConfig.RuntimeParams["search_path"] = workers+2, "jobs"
	return pgxpool.NewWithConfig(ctx, config)
}

func (k kijko) run(ctx context.Context, work func(job runner.Job)) (stop func(), err error) {
	pool, err := k.pool(ctx)
	if err != nil {
		return nil, err
	}
	r, err := runner.New(runner.Config{Pool: pool, Workers: workers,
		Listen: func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, k.worker) },
		Types: []runner.Type{{Name: "noop", Attempts: 1, Backoff: runner.Exponential(time.Second, time.Second), TimeLimit: time.Minute,
			Work: func(_ context.Context, job runner.Job) error { work(job); return nil }}}})
	if err != nil {
		return nil, err
	}
	working, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(working)
	}()
	return func() {
		cancel()
		<-done
		pool.Close()
	}, nil
}

func (k kijko) drain(ctx context.Context, n int) (time.Duration, error) {
	return drain(ctx, n, k.owner, "select count(*) from jobs.gue_jobs", func(work func()) (func(), error) {
		return k.run(ctx, func(runner.Job) { work() })
	})
}

func (k kijko) latency(ctx context.Context, n int) ([]time.Duration, error) {
	began := make(chan time.Time, 1)
	stop, err := k.run(ctx, func(runner.Job) { began <- time.Now() })
	if err != nil {
		return nil, err
	}
	defer stop()
	return latency(ctx, n, k.owner, "select private.enqueue('noop', '{}')", began)
}

// plainGue is gue as its documentation starts it: its schema, its default way to choose a job, its default poll.
type plainGue struct{ dsn string }

//go:embed gue.sql
var gueSchema string

func (g plainGue) install(ctx context.Context) error { return execute(ctx, g.dsn, gueSchema) }

func (g plainGue) enqueue(ctx context.Context, n int) error {
	return g.with(ctx, func(client *gue.Client) error {
		// A batch is one statement, whose parameters are limited.
		for ; n > 0; n -= 1000 {
			jobs := make([]*gue.Job, min(n, 1000))
			for i := range jobs {
				jobs[i] = &gue.Job{Type: "noop"}
			}
			if err := client.EnqueueBatch(ctx, jobs); err != nil {
				return err
			}
		}
		return nil
	})
}

func (g plainGue) with(ctx context.Context, f func(*gue.Client) error) error {
	config, err := pgxpool.ParseConfig(g.dsn)
	if err != nil {
		return err
	}
	config.MaxConns = workers + 2
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := gue.NewClient(pgxv5.NewConnPool(pool))
	if err != nil {
		return err
	}
	return f(client)
}

func (g plainGue) run(ctx context.Context, client *gue.Client, work func()) (stop func(), err error) {
	pool, err := gue.NewWorkerPool(client, gue.WorkMap{"noop": func(context.Context, *gue.Job) error { work(); return nil }}, workers)
	if err != nil {
		return nil, err
	}
	working, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = pool.Run(working)
	}()
	return func() { cancel(); <-done }, nil
}

func (g plainGue) drain(ctx context.Context, n int) (took time.Duration, err error) {
	err = g.with(ctx, func(client *gue.Client) (err error) {
		took, err = drain(ctx, n, g.dsn, "select count(*) from gue_jobs", func(work func()) (func(), error) { return g.run(ctx, client, work) })
		return err
	})
	return took, err
}

func (g plainGue) latency(ctx context.Context, n int) (all []time.Duration, err error) {
	err = g.with(ctx, func(client *gue.Client) error {
		began := make(chan time.Time, 1)
		stop, err := g.run(ctx, client, func() { began <- time.Now() })
		if err != nil {
			return err
		}
		defer stop()
		for range n {
			at := time.Now()
			if err := client.Enqueue(ctx, &gue.Job{Type: "noop"}); err != nil {
				return err
			}
			all = append(all, (<-began).Sub(at))
		}
		return nil
	})
	return all, err
}

// drain starts a worker and waits until it has worked the jobs and they are gone from the table.
func drain(ctx context.Context, n int, dsn, open string, run func(work func()) (stop func(), err error)) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	var left atomic.Int64
	left.Store(int64(n))
	worked := make(chan struct{})
	began := time.Now()
	stop, err := run(func() {
		if left.Add(-1) == 0 {
			close(worked)
		}
	})
	if err != nil {
		return 0, err
	}
	defer stop()
	select {
	case <-worked:
	case <-ctx.Done():
		return 0, fmt.Errorf("%d of %d jobs left: %w", left.Load(), n, ctx.Err())
	}
	for rows := 1; rows > 0; {
		if err := conn.QueryRow(ctx, open).Scan(&rows); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// latency inserts jobs one by one with a connection of its own.
func latency(ctx context.Context, n int, dsn, insert string, began <-chan time.Time) ([]time.Duration, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	time.Sleep(time.Second)
	var all []time.Duration
	for range n {
		at := time.Now()
		if _, err := conn.Exec(ctx, insert); err != nil {
			return nil, err
		}
		select {
		case t := <-began:
			all = append(all, t.Sub(at))
		case <-time.After(time.Minute):
			return nil, errors.New("a job was not begun within a minute")
		}
		time.Sleep(20 * time.Millisecond)
	}
	return all, nil
}

func execute(ctx context.Context, dsn, sql string, args ...any) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// assembled gives all engines by name, each installed on an empty database.
func (b *bench) assemble(ctx context.Context) error {
	b.engines = map[string]engine{}
	for _, name := range b.among("kijko", "graphile", "river", "gue") {
		if _, err := b.cluster.EnsureDatabase(ctx, name); err != nil {
			return err
		}
		dsn := b.cluster.TCPDSN(name)
		switch name {
		case "kijko":
			b.engines[name] = kijko{owner: dsn, worker: b.cluster.DSN("kijko_worker", name)}
		case "graphile":
			graphile, err := installGraphile(ctx, filepath.Join(b.dir, "graphile"))
			if err != nil {
				return err
			}
			b.engines[name] = peer{graphile, dsn}
		case "river":
			river, err := installRiver(ctx, b.dir)
			if err != nil {
				return err
			}
			b.engines[name] = peer{river, dsn}
		case "gue":
			b.engines[name] = plainGue{dsn}
		}
		if err := b.engines[name].install(ctx); err != nil {
			return fmt.Errorf("installing %s: %w", name, err)
		}
	}
	return nil
}
