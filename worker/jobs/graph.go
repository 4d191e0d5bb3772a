package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"kijko/worker/graph"
	"kijko/worker/runner"
)

// GraphMirror: {"projectId"}. Copies the context's graph to the other store of graphs, or drops the copy of a deleted context. Unique key
// graph.mirror:<projectId>; 8 attempts, 2 s to 5 min. Without such a store it does nothing. After a permanent failure a dead letter names
// the context, reads stay in Postgres, and the worker's sweep enqueues it again.
func GraphMirror(m *graph.Mirror) runner.Type {
	return runner.Type{Name: "graph.mirror", Unique: "graph.mirror:<projectId>", Attempts: 8, TimeLimit: 5 * time.Minute,
		Backoff: runner.Exponential(2*time.Second, 5*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				ProjectID uuid.UUID `json:"projectId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if m == nil {
				return nil
			}
			return m.Update(ctx, args.ProjectID)
		}}
}
