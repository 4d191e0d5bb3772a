package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/vies"
)

// Register answers whether a VAT number is valid; *vies.Client is one.
type Register interface {
	Check(ctx context.Context, number string) vies.Answer
}

// Source reads a subscription from Stripe: its JSON as it was answered.
type Source interface {
	Subscription(ctx context.Context, id string) (json.RawMessage, error)
}

// Engine does the work. It holds no connection to the database while it waits for another system.
type Engine struct {
	Pool     *pgxpool.Pool
	Register Register
	// Stripe is nil without a key.
	Stripe Source
}

// CheckNumber asks VIES about the VAT number of an organization, where the last question is older than a day.
func (e *Engine) CheckNumber(ctx context.Context, organizationID uuid.UUID) error {
	var number *string
	if err := e.Pool.QueryRow(ctx, "select private.begin_btw_recheck($1)", organizationID).Scan(&number); err != nil {
		return fmt.Errorf("read the VAT number of %s: %w", organizationID, err)
	}
	if number == nil || e.Register == nil {
		return nil
	}
	answer := e.Register.Check(ctx, *number)
	if _, err := e.Pool.Exec(ctx, "select private.finish_btw_recheck($1, $2, $3)", organizationID, *number, answer); err != nil {
		return fmt.Errorf("keep the answer of VIES about %s: %w", organizationID, err)
	}
	return nil
}

// Fetch reads a subscription from Stripe and applies it as what Stripe said at the moment of asking.
func (e *Engine) Fetch(ctx context.Context, id string) error {
	if e.Stripe == nil {
		return nil
	}
	// The moment before: what changes during the call has an event of its own.
	at := time.Now()
	found, err := e.Stripe.Subscription(ctx, id)
	if err != nil {
		return fmt.Errorf("read subscription %s: %w", id, err)
	}
	if _, err := e.Pool.Exec(ctx, "select private.apply_stripe_object('customer.subscription.updated', $1, $2, null)", found, at); err != nil {
		return fmt.Errorf("apply subscription %s: %w", id, err)
	}
	return nil
}
