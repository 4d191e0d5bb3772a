package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/vgarvardt/gue/v5"
)

// handlerContext lets gue end its transaction normally, also at shutdown (gue uses the context that it is given for that). Handlers
// see the context that ends at shutdown.
type handlerContext struct {
	context.Context
	handlers context.Context
}

// handler wraps a type's work for gue. It never lets gue choose the backoff, and returns an error to gue only to set the time of
// the next attempt.
func (r *Runner) handler(t Type) gue.WorkFunc {
	return func(ctx context.Context, j *gue.Job) error {
		parent := ctx
		if h, ok := ctx.Value(handlersKey{}).(context.Context); ok {
			parent = h
		}
		attempt := int(j.ErrorCount) + 1
		limited, cancel := context.WithTimeout(parent, t.TimeLimit)
		defer cancel()
		err := guarded(func() error {
			return t.Work(limited, Job{ID: j.ID.String(), Args: j.Args, Attempt: attempt, CreatedAt: j.CreatedAt})
		})
		switch {
		case err == nil:
			return nil
		case parent.Err() != nil:
			return gue.ErrRescheduleJobIn(0, "handed back at shutdown")
		case attempt < t.Attempts && !isPermanent(err):
			r.c.Log.Warn("job failed, will be tried again", "type", t.Name, "job", j.ID.String(), "attempt", attempt, "error", err)
			return gue.ErrRescheduleJobIn(t.Backoff(attempt), err.Error())
		}
		r.c.Log.Error("job failed, no attempt is left", "type", t.Name, "job", j.ID.String(), "attempts", attempt, "error", err)
		if burial := r.bury(ctx, j, attempt, err); burial != nil {
			r.c.Log.Error("job could not be buried", "job", j.ID.String(), "error", burial)
			return gue.ErrRescheduleJobIn(t.Backoff(attempt), err.Error())
		}
		return nil
	}
}

type handlersKey struct{}

// Value makes the handlers' context known to handler, through the contexts that gue wraps around it.
func (h handlerContext) Value(key any) any {
	if _, ok := key.(handlersKey); ok {
		return h.handlers
	}
	return h.Context.Value(key)
}

// guarded turns a panic into an error: one bad job must not stop the others.
func guarded(work func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return work()
}

// bury writes the dead letter in a transaction of its own: an error in gue's transaction would lose the job's state.
func (r *Runner) bury(ctx context.Context, j *gue.Job, attempts int, cause error) error {
	args := j.Args
	if !json.Valid(args) {
		args = []byte("null")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := r.c.Pool.Exec(ctx, "select private.bury_job($1, $2, $3, $4, $5, $6, $7)",
		j.ID.String(), j.Type, j.Queue, args, attempts, cause.Error(), j.CreatedAt)
	return err
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
