package runner

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vgarvardt/gue/v5"
	"github.com/vgarvardt/gue/v5/adapter/pgxv5"
	gueslog "github.com/vgarvardt/gue/v5/adapter/slog"
)

// Runner works the queues of its Config. Make it with New; Run it once.
type Runner struct {
	c       Config
	client  *gue.Client
	wakeups wakeups
	// taken counts the jobs that this process removed from the queue.
	taken atomic.Int64
}

// New checks the configuration.
func New(c Config) (*Runner, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	client, err := gue.NewClient(pgxv5.NewConnPool(c.Pool), gue.WithClientLogger(gueslog.New(c.Log)))
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	return &Runner{c: c, client: client}, nil
}

// Names returns the job types that this runner knows.
func (r *Runner) Names() []string {
	var names []string
	for _, t := range r.c.Types {
		names = append(names, t.Name)
	}
	for _, l := range r.c.Leases {
		names = append(names, l.Name)
	}
	for _, b := range r.c.Batches {
		names = append(names, b.Name)
	}
	return names
}

// Wake tells all idle loops to look at their queues. It never blocks; a notification does the same.
func (r *Runner) Wake() { r.wakeups.send() }

// Run works until ctx ends and all work has come back.
func (r *Runner) Run(ctx context.Context) error {
	// Short jobs may outlive ctx by the grace time.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(r.c.Grace, stop)
		context.AfterFunc(working, func() { timer.Stop() })
	})()

	var group sync.WaitGroup
	for _, q := range r.queues() {
		wakeup := r.wakeups.add()
		group.Go(func() { q.run(ctx, working, wakeup) })
	}
	for _, l := range r.c.Leases {
		wakeup := r.wakeups.add()
		group.Go(func() { r.lease(ctx, l, wakeup) })
	}
	for _, b := range r.c.Batches {
		wakeup := r.wakeups.add()
		group.Go(func() { r.batch(ctx, b, wakeup) })
	}
	for _, t := range r.c.Ticks {
		group.Go(func() { r.tick(ctx, t) })
	}
	group.Go(func() { r.tick(ctx, Tick{Name: "queue floor", Every: floorEvery, Do: r.raiseFloor()}) })
	group.Go(func() { r.listen(ctx) })
	group.Wait()
	return nil
}

// loop calls do repeatedly until there is nothing to do, then waits for a wake-up or the next poll.
func loop(ctx context.Context, wakeup <-chan struct{}, poll time.Duration, once func() bool) {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for ctx.Err() == nil {
		if once() {
			continue
		}
		timer.Reset(poll)
		select {
		case <-ctx.Done():
		case <-wakeup:
		case <-timer.C:
		}
	}
}

func (r *Runner) tick(ctx context.Context, t Tick) {
	ticker := time.NewTicker(t.Every)
	defer ticker.Stop()
	for {
		if err := t.Do(ctx); err != nil && ctx.Err() == nil {
			r.c.Log.Error("tick failed", "tick", t.Name, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
