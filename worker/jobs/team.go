package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/runner"
)

// InvitationsTell: {"invitationId"}. Notifies the account of an invited address, if there is one. It is a job and no part of the request,
// because the duration of the request would reveal whether there is an account. Unique key invitations.tell:<invitationId>; 10 attempts, 5
// s to 10 min.
func InvitationsTell(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "invitations.tell", Unique: "invitations.tell:<invitationId>", Attempts: 10, TimeLimit: time.Minute,
		Backoff: runner.Exponential(5*time.Second, 10*time.Minute),
		Work:    withID(pool, "invitationId", "private.notify_invited")}
}

// withID returns the work of a job that calls a function with the id that one member of its arguments holds.
func withID(pool *pgxpool.Pool, member, function string) func(context.Context, runner.Job) error {
	return func(ctx context.Context, job runner.Job) error {
		if _, err := pool.Exec(ctx, "select "+function+"(($1::jsonb ->> $2::text)::uuid)", string(job.Args), member); err != nil {
			return fmt.Errorf("%s: %w", function, err)
		}
		return nil
	}
}
