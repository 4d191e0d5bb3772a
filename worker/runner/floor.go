package runner

import (
	"context"
	"fmt"
	"time"
)

// Finished jobs stay in the index of the queue for a while, and for a long time while a transaction holds an old snapshot. Looks for the
// next job begin above them (db/code/jobs/floor.sql). A process that took many jobs since the last tick moves the floor; an idle process
// does so rarely.
const (
	floorEvery = 50 * time.Millisecond
	floorBusy  = 200
	floorIdle  = 5 * time.Second
)

// raiseFloor returns the function of its tick.
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
