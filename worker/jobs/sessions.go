package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/runner"
)

// Provider ends sessions at an identity provider, keeps the organization of the accounts there, and deletes them (*keycloak.Admin is one).
type Provider interface {
	Issuer() string
	EndSession(ctx context.Context, sid string) error
	// SetOrganization sets the organization of the account there; "" removes it.
	SetOrganization(ctx context.Context, subject, orgID string) error
	// DeleteUser deletes the account there; one that does not exist counts as deleted.
	DeleteUser(ctx context.Context, subject string) error
}

// SessionsEnd: {"sessionId"}. Ends a session at Keycloak that ended here: by a sign-out, the end of a membership, or an administrator.
// Unique key sessions.end:<sessionId>; 12 attempts, 5 s to 1 h, about five hours in all. A session that Keycloak does not have counts as
// ended. After the last failure a dead letter names the session. Keycloak keeps it until it expires there; here it stays ended all the
// same.
func SessionsEnd(pool *pgxpool.Pool, provider Provider) runner.Type {
	return runner.Type{Name: "sessions.end", Unique: "sessions.end:<sessionId>", Attempts: 12, TimeLimit: 30 * time.Second,
		Backoff: runner.Exponential(5*time.Second, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				SessionID uuid.UUID `json:"sessionId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if provider == nil {
				return nil
			}
			var issuer, sid string
			err := pool.QueryRow(ctx, "select issuer, session_key from private.provider_session($1)", args.SessionID).Scan(&issuer, &sid)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				return nil
			case err != nil:
				return fmt.Errorf("read session %s: %w", args.SessionID, err)
			case issuer != provider.Issuer():
				return nil
			}
			return provider.EndSession(ctx, sid)
		}}
}
