package runner

import (
	"context"
	"fmt"
	"time"
)

// Jobs that are done stay in the index of the queue for a while, and for long where somebody holds an old snapshot. Looks for the next
// job begin above them (db/code/jobs/floor.sql): a process that took many jobs since moves the floor, an idle one looks after it rarely.
const (
	floorEvery = 50 * time.Millisecond
	floorBusy  = 200
	floorIdle  = 5 * time.Second
)

// raiseFloor gives what its tick does.
func (r *Runner) raiseFloor() func(context.Context) error {
	var raised time.Time
	var before int64
	return func(ctx context.Context) error {
		taken := r.taken.Load()
		if taken-before < floorBusy && time.Since(raised) < floorIdle {
			return nil
		}
		before, raised = taken, time.Now()
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if _, err := r.c.Pool.Exec(ctx, "select private.raise_queue_floor()"); err != nil {
			return fmt.Errorf("queue floor: %w", err)
		}
		return nil
	}
}
