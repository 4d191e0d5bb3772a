// Package wake notifies the readers of events and jobs, after commit, that there is something to read.
//
// Rules. A wake-up is a hint: losing one delays events until the next tick and loses nothing. Wake never blocks and may be called from any
// goroutine. Calls made while one is being served are merged into one more. Run owns one dedicated connection, never one of a pool, so that
// a busy pool cannot hold up events. Every statement is sent by itself, outside a transaction block: a process that hangs between two
// statements holds no lock.
package wake

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"kijko/db"
)

const (
	timeout = 10 * time.Second
	// pace is the least time between two numberings. The first commit after a quiet moment is served at once, and a storm of commits is
	// served in batches. Each batch costs a commit and a notification, which slow down the writers.
	pace = 3 * time.Millisecond
)

// Waker numbers committed events (private.sequence_events) and notifies the job workers, once for all that is pending.
type Waker struct {
	dsn  string
	log  *slog.Logger
	tick time.Duration

	wake   chan struct{} // capacity 1; never closed
	events atomic.Bool
	jobs   atomic.Bool
	muted  atomic.Bool
}

// New makes a Waker that connects to dsn as a role that may run private.sequence_events. It also numbers events every tick without being
// called, as a fallback for lost wake-ups; 0 means every second.
func New(dsn string, tick time.Duration, log *slog.Logger) *Waker {
	if tick <= 0 {
		tick = time.Second
	}
	return &Waker{dsn: dsn, log: log, tick: tick, wake: make(chan struct{}, 1)}
}

// Wake says that a committed transaction left events, jobs or both. It returns at once.
func (w *Waker) Wake(events, jobs bool) {
	if w.muted.Load() {
		return
	}
	if events {
		w.events.Store(true)
	}
	if jobs {
		w.jobs.Store(true)
	}
	if !events && !jobs {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Mute drops wake-ups, as if they were lost. Tests use it to prove that the tick alone delivers everything.
func (w *Waker) Mute(muted bool) { w.muted.Store(muted) }

// Run serves until ctx is done. It returns nil then.
func (w *Waker) Run(ctx context.Context) error {
	db.Follow(ctx, db.To(w.dsn, db.DefaultLimits()), w.log, "wake-ups are delayed: no connection to the database", w.serve)
	return nil
}

func (w *Waker) serve(ctx context.Context, conn *pgx.Conn) error {
	tick := time.NewTicker(w.tick)
	defer tick.Stop()
	w.events.Store(true) // events may have been committed while no Waker ran
	for {
		began := time.Now()
		if err := w.work(ctx, conn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-tick.C:
			w.events.Store(true)
		}
		if rest := pace - time.Since(began); rest > 0 {
			time.Sleep(rest)
		}
	}
}

// work serves the pending wake-ups. The flag is cleared before the statement: a transaction that commits after that sets it again.
func (w *Waker) work(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if w.events.Swap(false) {
		if _, err := conn.Exec(ctx, "select private.sequence_events()"); err != nil {
			return fmt.Errorf("numbering events: %w", err)
		}
	}
	if w.jobs.Swap(false) {
		if _, err := conn.Exec(ctx, "select pg_notify('kijko_jobs', '')"); err != nil {
			w.jobs.Store(true)
			return fmt.Errorf("waking the job workers: %w", err)
		}
	}
	return nil
}
