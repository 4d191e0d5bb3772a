package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/vgarvardt/gue/v5"
)

// guarded turns a panic into an error: one bad job must not stop the others.
func guarded(work func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return work()
}

// lease takes jobs of one leased type while slots are free.
func (r *Runner) lease(ctx context.Context, l Lease, wakeup <-chan struct{}) {
	slots := make(chan struct{}, l.Slots)
	loop(ctx, wakeup, r.c.Poll, func() bool {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
		work, taken := r.take(ctx, l)
		if taken {
			r.taken.Add(1)
		}
		if work == nil {
			<-slots
			return taken
		}
		go func() {
			defer func() { <-slots }()
			if err := guarded(func() error { work(ctx); return nil }); err != nil {
				r.c.Log.Error("leased work failed", "type", l.Name, "error", err)
			}
		}()
		return true
	})
	// Once this loop holds all slots, all work has come back.
	for range l.Slots {
		slots <- struct{}{}
	}
}

// take locks one job, claims its lease and deletes the job; taken reports whether there was a job.
func (r *Runner) take(ctx context.Context, l Lease) (work func(context.Context), taken bool) {
	j, err := r.client.LockNextScheduledJob(ctx, l.Queue)
	if err != nil {
		if ctx.Err() == nil {
			r.c.Log.Error("queue cannot be read", "queue", l.Queue, "error", err)
		}
		return nil, false
	}
	if j == nil {
		return nil, false
	}
	// A locked job is always brought to its end, also at shutdown.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	defer func() {
		if err := j.Done(ending); err != nil {
			r.c.Log.Error("job could not be ended", "job", j.ID.String(), "error", err)
		}
	}()
	if j.Type != l.Name {
		err = errors.New("no worker of this version knows the type " + j.Type)
	} else {
		err = guarded(func() (err error) {
			work, err = l.Claim(ctx, Job{ID: j.ID.String(), Args: j.Args, Attempt: int(j.ErrorCount) + 1, CreatedAt: j.CreatedAt})
			return err
		})
	}
	if err != nil {
		if ctx.Err() == nil {
			r.c.Log.Error("lease could not be taken", "type", j.Type, "job", j.ID.String(), "error", err)
		}
		pause := time.Duration(0)
		if ctx.Err() == nil {
			pause = 5 * time.Second
		}
		if err := j.Error(ending, gue.ErrRescheduleJobIn(pause, err.Error())); err != nil {
			r.c.Log.Error("job could not be handed back", "job", j.ID.String(), "error", err)
		}
		return nil, true
	}
	if err := j.Delete(ending); err != nil {
		// This process holds the lease all the same. The job is taken again later and finds nothing to claim.
		r.c.Log.Error("job could not be deleted", "job", j.ID.String(), "error", err)
	}
	return work, true
}
