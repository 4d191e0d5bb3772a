package jobs

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/runner"
)

// SharingTell: {"memberId"}. Notifies the account of an address that is invited to a project, if there is one. It is a job and no part of
// the request, because the duration of the request would reveal whether there is an account. Unique key sharing.tell:<memberId>; 10
// attempts, 5 s to 10 min.
func SharingTell(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "sharing.tell", Unique: "sharing.tell:<memberId>", Attempts: 10, TimeLimit: time.Minute,
		Backoff: runner.Exponential(5*time.Second, 10*time.Minute),
		Work:    withID(pool, "memberId", "private.notify_project_invitee")}
}
