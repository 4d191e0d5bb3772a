package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/runner"
)

// GdprIdentity: {"issuer", "subject"}. Deletes the account of an erased person at the identity provider, unless the person has signed up with
// it again. No unique key; 20 attempts, 10 s to 6 h, about three days in all. An account that does not exist there counts as deleted. After
// the last failure the dead letter names the account, and an operator deletes it by hand.
func GdprIdentity(pool *pgxpool.Pool, provider Provider) runner.Type {
	return runner.Type{Name: "gdpr.identity", Attempts: 20, TimeLimit: time.Minute, Backoff: runner.Exponential(10*time.Second, 6*time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct{ Issuer, Subject string }
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if provider == nil || provider.Issuer() != args.Issuer {
				return runner.Permanent(fmt.Errorf("this installation cannot delete accounts at %s; delete %s there by hand", args.Issuer, args.Subject))
			}
			var free bool
			if err := pool.QueryRow(ctx, "select private.is_identity_free($1, $2)", args.Issuer, args.Subject).Scan(&free); err != nil {
				return fmt.Errorf("ask for the identity: %w", err)
			}
			if !free {
				return nil
			}
			return provider.DeleteUser(ctx, args.Subject)
		}}
}

// Canceler ends what Stripe keeps of an organization. What does not exist there counts as ended.
type Canceler interface {
	// CancelSubscription ends a subscription at once, without a refund.
	CancelSubscription(ctx context.Context, id string) error
	// DeleteCustomer deletes a customer with the payment methods.
	DeleteCustomer(ctx context.Context, id string) error
}

// GdprCustomer: {"subscriptionId"?, "customerId"?}. Ends the subscription and the customer of a deleted organization at Stripe, in this order.
// No unique key; 20 attempts, 10 s to 6 h, about three days in all. Ending twice changes nothing. After the last failure the dead letter has
// the ids, and an operator ends them in Stripe's dashboard.
func GdprCustomer(canceler Canceler) runner.Type {
	return runner.Type{Name: "gdpr.customer", Attempts: 20, TimeLimit: time.Minute, Backoff: runner.Exponential(10*time.Second, 6*time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct{ SubscriptionID, CustomerID string }
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if canceler == nil {
				return errors.New("this worker has no key of Stripe (STRIPE_SECRET_KEY)")
			}
			if args.SubscriptionID != "" {
				if err := canceler.CancelSubscription(ctx, args.SubscriptionID); err != nil {
					return fmt.Errorf("end a subscription at Stripe: %w", err)
				}
			}
			if args.CustomerID != "" {
				if err := canceler.DeleteCustomer(ctx, args.CustomerID); err != nil {
					return fmt.Errorf("delete a customer at Stripe: %w", err)
				}
			}
			return nil
		}}
}
