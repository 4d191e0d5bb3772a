// Command river is River (riverqueue.com) as the bench of job engines runs it, in a module of its own so that the product does not
// require it. DATABASE_URL names its database.
//
//	river install
//	river enqueue N
//	river drain N        works until N jobs are done and prints the seconds
//	river latency N      works; inserts N jobs one by one and prints for each the microseconds until it began
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

type noop struct {
	At int64 `json:"at"`
}

func (noop) Kind() string { return "noop" }

type worker struct {
	river.WorkerDefaults[noop]
	left    atomic.Int64
	done    chan struct{}
	started chan time.Duration
}

func (w *worker) Work(_ context.Context, job *river.Job[noop]) error {
	if job.Args.At != 0 {
		w.started <- time.Since(time.Unix(0, job.Args.At))
	}
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
	return nil
}

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer pool.Close()
	if len(os.Args) < 2 {
		return errors.New("usage: river install | enqueue N | drain N | latency N")
	}
	n := 0
	if len(os.Args) > 2 {
		if n, err = strconv.Atoi(os.Args[2]); err != nil {
			return err
		}
	}
	if os.Args[1] == "install" {
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
		if err != nil {
			return err
		}
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		return err
	}
	w := &worker{done: make(chan struct{}), started: make(chan time.Duration, n)}
	w.left.Store(int64(n))
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 20}}, Workers: workers})
	if err != nil {
		return err
	}
	switch os.Args[1] {
	case "enqueue":
		many := make([]river.InsertManyParams, n)
		for i := range many {
			many[i].Args = noop{}
		}
		_, err := client.InsertManyFast(ctx, many)
		return err
	case "drain":
		began := time.Now()
		if err := client.Start(ctx); err != nil {
			return err
		}
		<-w.done
		// Done means stored as done: River completes jobs a little after they were worked.
		for left := 1; left > 0; {
			if err := pool.QueryRow(ctx, "select count(*) from river_job where state in ('available', 'running')").Scan(&left); err != nil {
				return err
			}
		}
		fmt.Println(time.Since(began).Seconds())
	case "latency":
		if err := client.Start(ctx); err != nil {
			return err
		}
		time.Sleep(time.Second)
		for range n {
			if _, err := client.Insert(ctx, noop{At: time.Now().UnixNano()}, nil); err != nil {
				return err
			}
			fmt.Println((<-w.started).Microseconds())
			time.Sleep(20 * time.Millisecond)
		}
	default:
		return fmt.Errorf("unknown command %q", os.Args[1])
	}
	return client.Stop(ctx)
}
