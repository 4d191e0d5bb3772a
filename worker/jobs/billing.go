package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"kijko/worker/billing"
	"kijko/worker/runner"
)

// BillingCheckNumber: {"organizationId"}. Asks VIES again about a VAT number in use. Unique key billing.check_number:<organizationId>; 3
// attempts, 1 min to 10 min. A trouble of VIES is an answer, which the next day's question may replace.
func BillingCheckNumber(e *billing.Engine) runner.Type {
	return runner.Type{Name: "billing.check_number", Unique: "billing.check_number:<organizationId>", Attempts: 3, TimeLimit: time.Minute,
		Backoff: runner.Exponential(time.Minute, 10*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				OrganizationID uuid.UUID `json:"organizationId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			return e.CheckNumber(ctx, args.OrganizationID)
		}}
}

// BillingFetch: {"subscriptionId"}. Reads a subscription from Stripe of which two events share a second. Unique key
// billing.fetch:<subscriptionId>; 8 attempts, 10 s to 1 h. After the last failure the greater event id has decided, and the next event of the
// subscription corrects it.
func BillingFetch(e *billing.Engine) runner.Type {
	return runner.Type{Name: "billing.fetch", Unique: "billing.fetch:<subscriptionId>", Attempts: 8, TimeLimit: time.Minute,
		Backoff: runner.Exponential(10*time.Second, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				SubscriptionID string `json:"subscriptionId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			return e.Fetch(ctx, args.SubscriptionID)
		}}
}
