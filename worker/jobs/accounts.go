package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/runner"
)

// AccountsLink: {"requestId", "purpose", "email"}. Mails the link that was requested without signing in, if an account has the address. The
// request itself looks up no account, so its answer does not reveal whether there is one. No unique key; 5 attempts, 1 s to 1 min, before
// the person asks again. After the last failure the mail stays unsent.
func AccountsLink(pool *pgxpool.Pool) runner.Type {
	return runner.Type{Name: "accounts.link", Attempts: 5, TimeLimit: 30 * time.Second, Backoff: runner.Exponential(time.Second, time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			if _, err := pool.Exec(ctx, "select private.mail_requested_link($1)", job.Args); err != nil {
				return fmt.Errorf("mail a link: %w", err)
			}
			return nil
		}}
}

// AccountsOrganization: {"userId"}. Writes a person's organization at the identity provider, so that later tokens carry it, and clears it
// for a person without one. No unique key, since a change during the work needs a job of its own; 12 attempts, 5 s to 1 h. After the last
// failure the person's tokens from the provider carry a stale organization until the next sign-in through this application.
func AccountsOrganization(pool *pgxpool.Pool, provider Provider) runner.Type {
	return runner.Type{Name: "accounts.organization", Attempts: 12, TimeLimit: time.Minute, Backoff: runner.Exponential(5*time.Second, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				UserID uuid.UUID `json:"userId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if provider == nil {
				return nil
			}
			written := map[string]string{}
			// Of several jobs at work the last one to read the row wins, so the written value is checked once more.
			for {
				accounts, err := providerAccounts(ctx, pool, args.UserID)
				if err != nil {
					return err
				}
				settled := true
				for _, a := range accounts {
					known, seen := written[a.Subject]
					if a.Issuer != provider.Issuer() || seen && known == a.OrgID {
						continue
					}
					if err := provider.SetOrganization(ctx, a.Subject, a.OrgID); err != nil {
						return err
					}
					written[a.Subject], settled = a.OrgID, false
				}
				if settled {
					return nil
				}
			}
		}}
}

type providerAccount struct{ Issuer, Subject, OrgID string }

func providerAccounts(ctx context.Context, pool *pgxpool.Pool, userID uuid.UUID) ([]providerAccount, error) {
	rows, err := pool.Query(ctx, "select issuer, subject, coalesce(org_id, '') from private.provider_accounts($1)", userID)
	if err != nil {
		return nil, fmt.Errorf("read the provider accounts of %s: %w", userID, err)
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[providerAccount])
	if err != nil {
		return nil, fmt.Errorf("read the provider accounts of %s: %w", userID, err)
	}
	return accounts, nil
}
