package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/lease"
)

// Job is the input of a handler.
type Job struct {
	ID   string
	Args []byte // JSON, as enqueued
	// Attempt counts from 1.
	Attempt   int
	CreatedAt time.Time
}

// Type is a short job type. Every field is required except Queue (default "default") and Unique.
type Type struct {
	Name  string
	Queue string
	// Unique documents the unique key under which SQL enqueues the job; at most one such job waits at a time.
	Unique string
	// Attempts is how often a job is tried before it is buried in jobs.dead_letters. An error marked by Permanent buries it at once.
	Attempts int
	// Backoff is the pause after a failed attempt; attempt counts from 1.
	Backoff func(attempt int) time.Duration
	// TimeLimit ends the context of one attempt.
	TimeLimit time.Duration
	Work      func(ctx context.Context, job Job) error
}

// Lease is a long job type.
type Lease struct {
	Name  string
	Queue string
	// Slots is how many jobs run at once in this process. No job is taken while all slots are busy.
	Slots int
	// Claim takes the lease in a transaction of its own and returns the work. The work is nil when the job has nothing left to do.
	Claim func(ctx context.Context, job Job) (work func(ctx context.Context), err error)
}

// Batch is a long job type whose jobs are taken many in one round trip. It is for work that mostly waits for another system, of which a
// process holds hundreds at a time.
type Batch struct {
	Name  string
	Queue string
	// Slots is how many jobs run at once in this process. No job is taken while all slots are busy.
	Slots int
	// Take deletes up to n waiting jobs and takes the leases of their work, in one transaction. seen is how many jobs it looked at. A
	// number below n means that no more jobs were waiting.
	Take func(ctx context.Context, n int) (works []func(ctx context.Context), seen int, err error)
}

// Tick is a function that runs at a fixed interval, starting at once. Errors are logged.
type Tick struct {
	Name  string
	Every time.Duration
	Do    func(ctx context.Context) error
}

// Config configures a Runner.
type Config struct {
	// Pool belongs to kijko_worker, with search_path jobs (gue names no schema). Running jobs hold no connection of it.
	Pool *pgxpool.Pool
	// Process is what other workers know of this one; nil: when it dies, its short jobs are due again after 15 s.
	Process *lease.Process
	// Listen opens the connection for LISTEN; it must not go through a transaction pooler.
	Listen func(ctx context.Context) (*pgx.Conn, error)
	Types  []Type
	Leases []Lease
	// Batches have one queue each, like Leases.
	Batches []Batch
	Ticks   []Tick
	// Hear has a function for each further channel; the listening connection passes notifications to it. A function must return at once.
	// Work that matters must not depend on it alone: notifications are lost while the connection is down.
	Hear map[string]func(payload string)
	// Workers is how many short jobs run at once per queue; default 2.
	Workers int
	// Poll is how often idle loops look at their queues, in case a wake-up was lost; default 2 s.
	Poll time.Duration
	// Grace is the time that running work gets at shutdown; default 20 s.
	Grace time.Duration
	Log   *slog.Logger
}

func (c *Config) complete() error {
	if c.Workers <= 0 {
		c.Workers = 2
	}
	if c.Poll <= 0 {
		c.Poll = 2 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 20 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var faults []error
	if c.Pool == nil {
		faults = append(faults, errors.New("runner: Pool is missing"))
	}
	if c.Listen == nil {
		faults = append(faults, errors.New("runner: Listen is missing"))
	}
	seen := map[string]bool{}
	for i := range c.Types {
		t := &c.Types[i]
		if t.Queue == "" {
			t.Queue = "default"
		}
		if t.Name == "" || seen[t.Name] || t.Attempts < 1 || t.Backoff == nil || t.TimeLimit <= 0 || t.Work == nil {
			faults = append(faults, fmt.Errorf("runner: job type %q is incomplete or listed twice", t.Name))
		}
		seen[t.Name] = true
	}
	queues := map[string]bool{}
	for _, l := range c.Leases {
		if l.Name == "" || seen[l.Name] || l.Queue == "" || queues[l.Queue] || l.Slots < 1 || l.Claim == nil {
			faults = append(faults, fmt.Errorf("runner: leased job type %q is incomplete, listed twice, or shares its queue", l.Name))
		}
		seen[l.Name], queues[l.Queue] = true, true
	}
	for _, b := range c.Batches {
		if b.Name == "" || seen[b.Name] || b.Queue == "" || queues[b.Queue] || b.Slots < 1 || b.Take == nil {
			faults = append(faults, fmt.Errorf("runner: batched job type %q is incomplete, listed twice, or shares its queue", b.Name))
		}
		seen[b.Name], queues[b.Queue] = true, true
	}
	return errors.Join(faults...)
}

// Exponential returns base, 2 × base, 4 × base ... up to limit.
func Exponential(base, limit time.Duration) func(int) time.Duration {
	return func(attempt int) time.Duration {
		d := base
		for i := 1; i < attempt && d < limit; i++ {
			d *= 2
		}
		return min(d, limit)
	}
}
