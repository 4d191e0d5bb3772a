package integrations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/lease"
	"kijko/worker/seal"
)

// leaseTime is how long a worker has for one piece of work before the work is given to another worker. It is longer than any piece may
// take.
const leaseTime = 2 * time.Minute

// Engine does the work of the queues "webhooks" and "integrations".
type Engine struct {
	pool      *pgxpool.Pool
	process   *lease.Process
	box       *seal.Box
	providers *Providers
	guard     *Guard
	log       *slog.Logger
}

// NewEngine makes an Engine. If box is nil, no sealed value can be opened, so attempts and synchronizations fail.
func NewEngine(pool *pgxpool.Pool, process *lease.Process, box *seal.Box, providers *Providers, guard *Guard, log *slog.Logger) *Engine {
	return &Engine{pool: pool, process: process, box: box, providers: providers, guard: guard, log: log}
}

// TakeDeliveries leases waiting attempts.
func (e *Engine) TakeDeliveries(ctx context.Context, n int) ([]func(context.Context), int, error) {
	return take(ctx, e, "select private.take_deliveries($1, $2, $3)", n, func(d Delivery) uuid.UUID { return uuid.MustParse(d.Token) }, e.deliver)
}

// TakeWork leases waiting synchronizations and revocations.
func (e *Engine) TakeWork(ctx context.Context, n int) ([]func(context.Context), int, error) {
	return take(ctx, e, "select private.take_integration_work($1, $2, $3)", n, func(t task) uuid.UUID { return t.Token }, e.work)
}

func take[T any](ctx context.Context, e *Engine, sql string, n int, token func(T) uuid.UUID, do func(context.Context, T)) (works []func(context.Context), seen int, err error) {
	rows, err := e.pool.Query(ctx, sql, n, int(leaseTime.Seconds()), e.process.ID())
	if err != nil {
		return nil, 0, fmt.Errorf("take work: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, 0, fmt.Errorf("take work: %w", err)
	}
	for _, raw := range found {
		if raw == nil {
			continue
		}
		var task T
		if err := json.Unmarshal(raw, &task); err != nil {
			return nil, 0, fmt.Errorf("read work: %w", err)
		}
		works = append(works, func(ctx context.Context) {
			// An attempt that has begun is finished, also at shutdown: it takes less than the grace time, and after an interruption it
			// would stay unknown whether the message arrived.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTime)
			defer cancel()
			ctx, release := e.process.Context(ctx, token(task))
			defer release()
			do(ctx, task)
		})
	}
	return works, len(found), nil
}

func (e *Engine) deliver(ctx context.Context, d Delivery) {
	result := Result{ID: d.ID, Token: d.Token}
	if e.box != nil {
		result = e.guard.Deliver(ctx, e.box, d)
	}
	if err := e.record(ctx, "select private.finish_delivery($1)", result); err != nil {
		e.log.Error("the result of a delivery could not be kept", "delivery", d.ID, "error", err)
	}
}

// record writes a result. It has a time limit of its own, because the result must not be lost.
func (e *Engine) record(ctx context.Context, sql string, args ...any) error {
	var err error
	for wait := 100 * time.Millisecond; ; wait *= 3 {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err = e.pool.Exec(attempt, sql, args...)
		cancel()
		if err == nil || wait > 10*time.Second || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// task is a synchronization or a revocation.
type task struct {
	Kind           string    `json:"kind"`
	ID             uuid.UUID `json:"id"`
	Token          uuid.UUID `json:"token"`
	Provider       string    `json:"provider"`
	OrganizationID string    `json:"organizationId"`
	Sealed         string    `json:"sealed"`
}

func (e *Engine) work(ctx context.Context, t task) {
	var err error
	if t.Kind == "revocation" {
		err = e.revoke(ctx, t)
	} else {
		err = e.sync(ctx, t)
	}
	if err != nil {
		e.log.Error("the result of work for an integration could not be kept", "integration", t.ID, "error", err)
	}
}

// Open returns the tokens that were sealed for an organization and a provider.
func Open(box *seal.Box, organizationID, provider, sealed string) (t Tokens, err error) {
	if box == nil {
		return t, seal.ErrOpen
	}
	plain, err := box.Open(seal.Integration(organizationID, provider), sealed)
	if err == nil {
		err = json.Unmarshal(plain, &t)
	}
	return t, err
}

// Seal seals tokens for an organization and a provider.
func Seal(box *seal.Box, organizationID, provider string, t Tokens) (string, error) {
	plain, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	return box.Seal(seal.Integration(organizationID, provider), plain)
}

// revoke notifies the provider, best effort: tokens that cannot be opened are skipped.
func (e *Engine) revoke(ctx context.Context, t task) error {
	tokens, err := Open(e.box, t.OrganizationID, t.Provider, t.Sealed)
	done := err != nil || e.providers.Revoke(ctx, t.Provider, tokens) == nil
	return e.record(ctx, "select private.finish_revocation($1, $2, $3)", t.ID, t.Token, done)
}

// sync renews the tokens if the provider allows it and makes one authenticated call.
func (e *Engine) sync(ctx context.Context, t task) error {
	calls := []Call{}
	err := e.ask(ctx, t, &calls)
	outcome, message := "ok", "Synchronized."
	var f *Failure
	switch {
	case errors.As(err, &f) && f.Why == Refused:
		outcome, message = "expired", f.Message
	case errors.As(err, &f):
		outcome, message = "failed", f.Message
	case err != nil:
		outcome, message = "failed", "The synchronization could not be done."
		e.log.Error("synchronization failed", "integration", t.ID, "error", err)
	}
	return e.record(ctx, "select private.finish_sync($1, $2, $3, $4, $5)", t.ID, t.Token, outcome, message, calls)
}

func (e *Engine) ask(ctx context.Context, t task, calls *[]Call) error {
	tokens, err := Open(e.box, t.OrganizationID, t.Provider, t.Sealed)
	if err != nil {
		return &Failure{Misconfigured, "The stored credentials cannot be opened. Please reconnect."}
	}
	if tokens.RefreshToken != "" {
		renewed, err := e.providers.Renew(ctx, t.Provider, tokens, calls)
		if err != nil {
			return err
		}
		if renewed.RefreshToken == "" {
			renewed.RefreshToken = tokens.RefreshToken
		}
		sealed, err := Seal(e.box, t.OrganizationID, t.Provider, renewed)
		if err != nil {
			return err
		}
		var kept bool
		if err := e.pool.QueryRow(ctx, "select private.renew_integration($1, $2, $3)", t.ID, t.Token, sealed).Scan(&kept); err != nil {
			return fmt.Errorf("keep renewed tokens: %w", err)
		}
		if !kept {
			// The integration was disconnected meanwhile: the old tokens are being revoked, and the renewed tokens exist only here.
			return e.providers.Revoke(ctx, t.Provider, renewed)
		}
		tokens = renewed
	}
	return e.providers.Identify(ctx, t.Provider, tokens, calls)
}
