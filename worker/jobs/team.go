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

// InvitationsTell: {"invitationId"}. Notifies the account of an invited address, if there is one. It is a job and no part of the request,
// because the duration of the request would reveal whether there is an account. Unique key invitations.tell:<invitationId>; 10 attempts, 5
// s to 10 min.
func InvitationsTell(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "invitations.tell", Unique: "invitations.tell:<invitationId>", Attempts: 10, TimeLimit: time.Minute,
		Backoff: runner.Exponential(5*time.Second, 10*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				InvitationID uuid.UUID `json:"invitationId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if _, err := pool.Exec(ctx, "select private.tell_invited($1)", args.InvitationID); err != nil {
				return fmt.Errorf("tell of invitation %s: %w", args.InvitationID, err)
			}
			return nil
		}}
}
