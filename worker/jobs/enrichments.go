package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/enrichments"
	"kijko/worker/runner"
)

// EnrichmentsRun: {"runId"}. Unique key enrichments.run:<runId>. A failure to take the lease is tried again every 5 s. The effect of a
// failure belongs to the run (package enrichments): it ends as failed, and what earlier runs made stays in force.
func EnrichmentsRun(e *enrichments.Engine, slots int) runner.Lease {
	return runner.Lease{Name: "enrichments.run", Queue: "enrichments", Slots: slots,
		Claim: func(ctx context.Context, job runner.Job) (func(context.Context), error) {
			return e.Claim(ctx, job.Args)
		}}
}

// enrichmentRows is how many rows one transaction of EnrichmentsDrop removes.
const enrichmentRows = 5000

// EnrichmentsDrop: {"projectId"}. Removes definitions and embeddings that are no longer in force, in small transactions. Without
// a unique key: one that is working already may have passed the rows of a later reset. 10 attempts, 10 s to 10 min. After a permanent
// failure the rows stay, and stay invisible, until the next run of the context ends.
func EnrichmentsDrop(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "enrichments.drop", Attempts: 10, TimeLimit: 10 * time.Minute,
		Backoff: runner.Exponential(10*time.Second, 10*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				ProjectID uuid.UUID `json:"projectId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return fmt.Errorf("arguments: %w", err)
			}
			for {
				var n int64
				if err := pool.QueryRow(ctx, "select private.drop_enrichment_rows($1, $2)", args.ProjectID, enrichmentRows).Scan(&n); err != nil {
					return fmt.Errorf("drop rows of context %s: %w", args.ProjectID, err)
				}
				if n == 0 {
					return nil
				}
			}
		}}
}
