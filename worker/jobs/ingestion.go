package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/ingestion"
	"kijko/worker/runner"
)

// IngestionRun: {"runId"}. Unique key ingestion.run:<runId>. A failure to take the lease is tried again every 5 s. Attempts, backoff
// and the effect of a permanent failure belong to the run (package ingestion, contract 10, 19).
func IngestionRun(e *ingestion.Engine, slots int) runner.Lease {
	return runner.Lease{Name: "ingestion.run", Queue: "ingestion", Slots: slots,
		Claim: func(ctx context.Context, job runner.Job) (func(context.Context), error) {
			return e.Claim(ctx, job.Args)
		}}
}

// IngestionDrop: {"runId"}. Removes the rows of a run that is not (or no longer) the current one, in small transactions. Unique key
// ingestion.drop:<runId>; 10 attempts, 10 s to 10 min. After a permanent failure the rows of the run stay, and stay invisible.
func IngestionDrop(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "ingestion.drop", Unique: "ingestion.drop:<runId>", Attempts: 10, TimeLimit: 10 * time.Minute,
		Backoff: runner.Exponential(10*time.Second, 10*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				RunID uuid.UUID `json:"runId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return fmt.Errorf("arguments: %w", err)
			}
			for {
				var n int64
				if err := pool.QueryRow(ctx, "select private.drop_run_rows($1)", args.RunID).Scan(&n); err != nil {
					return fmt.Errorf("drop rows of run %s: %w", args.RunID, err)
				}
				if n == 0 {
					return nil
				}
			}
		}}
}
