package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/runner"
)

// AnnouncementsTell: {"announcementId"}. Delivers an announcement to all its recipients, a few hundred people per transaction; the row
// keeps the progress. Unique key announcements.tell:<announcementId>; 10 attempts, 5 s to 10 min. After a permanent failure the dead letter
// names the announcement, and a new job of the same announcement continues from the stored progress.
func AnnouncementsTell(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "announcements.tell", Unique: "announcements.tell:<announcementId>", Attempts: 10, TimeLimit: 10 * time.Minute,
		Backoff: runner.Exponential(5*time.Second, 10*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				AnnouncementID uuid.UUID `json:"announcementId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			for more := true; more; {
				if err := pool.QueryRow(ctx, "select private.notify_announcement($1)", args.AnnouncementID).Scan(&more); err != nil {
					return fmt.Errorf("tell announcement %s: %w", args.AnnouncementID, err)
				}
			}
			return nil
		}}
}
