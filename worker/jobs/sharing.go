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

// SharingTell: {"memberId"}. Notifies the account of an address that is invited to a project, if there is one. It is a job and no part of
// the request, because the duration of the request would reveal whether there is an account. Unique key sharing.tell:<memberId>; 10
// attempts, 5 s to 10 min.
func SharingTell(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "sharing.tell", Unique: "sharing.tell:<memberId>", Attempts: 10, TimeLimit: time.Minute,
		Backoff: runner.Exponential(5*time.Second, 10*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				MemberID uuid.UUID `json:"memberId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if _, err := pool.Exec(ctx, "select private.tell_project_invitee($1)", args.MemberID); err != nil {
				return fmt.Errorf("tell of member %s: %w", args.MemberID, err)
			}
			return nil
		}}
}
