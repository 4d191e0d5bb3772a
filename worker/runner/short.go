package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"kijko/db"
	"kijko/worker/lease"
)

// Lease times of short jobs: a lease is renewed three times before it would expire. It matters for a worker that is cut off; the work of a
// worker that dies is taken over at once.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 5 * time.Second
)

// endMost is how many done jobs one statement deletes. When more wait to be deleted, no further job is taken.
const endMost = 1000

// queue works the short jobs of one queue. One goroutine takes jobs, as many as there are free slots, and does not wait for the disk; one
// deletes what was done meanwhile, in one durable transaction. So a job costs a part of two round trips and of one write to the disk.
type queue struct {
	r     *Runner
	name  string
	types map[string]Type
	// keeper holds the leases of the running jobs.
	keeper *lease.Keeper
	done   chan lease.Lease
}

func (r *Runner) queues() []*queue {
	byName := map[string]*queue{}
	var all []*queue
	for _, t := range r.c.Types {
		q := byName[t.Queue]
		if q == nil {
			q = &queue{r: r, name: t.Queue, types: map[string]Type{}, done: make(chan lease.Lease, endMost)}
			q.keeper = lease.New(lease.Options{For: leaseFor, Every: renewEvery, Expires: true, Renew: r.renew, Process: r.c.Process, Log: r.c.Log})
			byName[t.Queue], all = q, append(all, q)
		}
		q.types[t.Name] = t
	}
	return all
}

// run takes and works jobs until ctx ends, and returns when all of them have come back. The handlers' contexts end with working.
func (q *queue) run(ctx, working context.Context, wakeup <-chan struct{}) {
	holding, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var others sync.WaitGroup
	others.Go(func() { q.keeper.Run(holding) })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.end()
	}()

	free := make(chan struct{}, q.r.c.Workers)
	for range q.r.c.Workers {
		free <- struct{}{}
	}
	loop(ctx, wakeup, q.r.c.Poll, func() bool {
		n := collect(ctx, free)
		if n == 0 {
			return false
		}
		jobs, token, err := q.take(ctx, n)
		for range n - len(jobs) {
			free <- struct{}{}
		}
		for _, j := range jobs {
			go func() {
				defer func() { free <- struct{}{} }()
				q.work(working, j, token)
			}()
		}
		if err != nil {
			if ctx.Err() == nil {
				q.r.c.Log.Error("queue cannot be read", "queue", q.name, "error", err)
			}
			return false
		}
		q.r.taken.Add(int64(len(jobs)))
		return len(jobs) == n
	})
	for range q.r.c.Workers {
		<-free
	}
	close(q.done)
	<-ended
	stop()
	others.Wait()
}

// taken is a job under a lease of this process.
type taken struct {
	id    ulid.ULID
	kind  string
	args  []byte
	tries int
	made  time.Time
	// lease ends the context of the work.
	working context.Context
	release func()
}

// take leases up to n due jobs. A statement that was sent is waited for, also at shutdown: its jobs are leased.
func (q *queue) take(ctx context.Context, n int) ([]taken, uuid.UUID, error) {
	token := q.r.c.Process.Token()
	taking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	rows, err := q.r.c.Pool.Query(taking, "select job_id, job_type, args, error_count, created_at from private.lease_jobs($1, $2, $3, $4)", q.name, n, token,
		int(leaseFor/time.Second))
	if err != nil {
		return nil, token, err
	}
	jobs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (j taken, err error) {
		var id string
		if err := row.Scan(&id, &j.kind, &j.args, &j.tries, &j.made); err != nil {
			return j, err
		}
		j.id, err = ulid.ParseStrict(id)
		return j, err
	})
	if err != nil {
		return nil, token, err
	}
	for i := range jobs {
		jobs[i].working, jobs[i].release = q.keeper.Add(context.WithoutCancel(ctx), lease.Lease{ID: uuid.UUID(jobs[i].id), Token: token})
	}
	return jobs, token, nil
}

// work does one job and ends it: it is deleted, given back for another attempt, or buried.
func (q *queue) work(working context.Context, j taken, token uuid.UUID) {
	defer j.release()
	held := lease.Lease{ID: uuid.UUID(j.id), Token: token}
	t, isKnown := q.types[j.kind]
	if !isKnown {
		q.giveBack(j, token, new(time.Minute), "no worker of this version knows the type "+j.kind, false)
		return
	}
	limited, cancel := context.WithTimeout(j.working, t.TimeLimit)
	defer cancel()
	defer context.AfterFunc(working, cancel)()
	attempt := j.tries + 1
	err := guarded(func() error {
		return t.Work(limited, Job{ID: j.id.String(), Args: j.args, Attempt: attempt, CreatedAt: j.made})
	})
	log := q.r.c.Log.With("type", t.Name, "job", j.id.String(), "attempt", attempt)
	switch {
	case err == nil:
		q.done <- held
	case errors.Is(context.Cause(j.working), lease.ErrLost):
		log.Warn("job was given to another worker", "error", err)
	case working.Err() != nil:
		q.giveBack(j, token, new(time.Duration(0)), "handed back at shutdown", false)
	case attempt < t.Attempts && !isPermanent(err):
		log.Warn("job failed, will be tried again", "error", err)
		q.giveBack(j, token, new(t.Backoff(attempt)), err.Error(), true)
	default:
		log.Error("job failed, no attempt is left", "error", err)
		q.giveBack(j, token, nil, err.Error(), true)
	}
}

// giveBack ends an attempt that did not do the job. Without a pause the job is buried. Where the database cannot be asked, the lease ends and
// the job is due again.
func (q *queue) giveBack(j taken, token uuid.UUID, pause *time.Duration, reason string, isAttempt bool) {
	ctx, cancel := context.WithTimeout(context.Background(), leaseFor)
	defer cancel()
	var seconds *float64
	if pause != nil {
		seconds = new(pause.Seconds())
	}
	if err := db.Retry(ctx, 0, nil, func(ctx context.Context) error {
		_, err := q.r.c.Pool.Exec(ctx, "select private.return_job($1, $2, $3, $4, $5)", j.id.String(), token, seconds, db.Text(reason), isAttempt)
		return err
	}); err != nil {
		q.r.c.Log.Error("job could not be handed back, its lease runs out", "job", j.id.String(), "error", err)
	}
}

// end deletes done jobs, all that wait in one transaction, until done is closed.
func (q *queue) end() {
	for first := range q.done {
		batch := []lease.Lease{first}
	fill:
		for len(batch) < endMost {
			select {
			case l, ok := <-q.done:
				if !ok {
					break fill
				}
				batch = append(batch, l)
			default:
				break fill
			}
		}
		ids, tokens := columns(batch)
		ctx, cancel := context.WithTimeout(context.Background(), 2*leaseFor)
		if err := db.Retry(ctx, 0, nil, func(ctx context.Context) error {
			_, err := q.r.c.Pool.Exec(ctx, "select private.finish_jobs($1, $2)", ids, tokens)
			return err
		}); err != nil {
			q.r.c.Log.Error("done jobs could not be deleted; they are done again", "jobs", len(batch), "error", err)
		}
		cancel()
	}
}

func columns(leases []lease.Lease) (ids []string, tokens []uuid.UUID) {
	for _, l := range leases {
		ids, tokens = append(ids, ulid.ULID(l.ID).String()), append(tokens, l.Token)
	}
	return ids, tokens
}

// renew asks for the leases of running jobs that are gone, and extends the others.
func (r *Runner) renew(ctx context.Context, held []lease.Lease, _ bool) (gone []lease.Lease, err error) {
	ids, tokens := columns(held)
	rows, err := r.c.Pool.Query(ctx, "select private.hold_jobs($1, $2, $3)", ids, tokens, int(leaseFor/time.Second))
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	holding, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	still := map[string]bool{}
	for _, id := range holding {
		still[id] = true
	}
	for i, l := range held {
		if !still[ids[i]] {
			gone = append(gone, l)
		}
	}
	return gone, nil
}
