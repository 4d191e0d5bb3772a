package jobs

import (
	"context"
	"encoding/json"
	"errors"
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

// BillingRecover: {"callId"}. Ends a call to Stripe whose process died, or to which Stripe did not answer. It comes with each call, a minute
// later, and mostly finds it settled. No unique key; 40 attempts, 1 min to 1 h, until Stripe's keys are long forgotten and the truth was looked
// up. After that the organization's next change goes on with it.
func BillingRecover(d *billing.Driver) runner.Type {
	return runner.Type{Name: "billing.recover", Attempts: 40, TimeLimit: 5 * time.Minute, Backoff: runner.Exponential(time.Minute, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				CallID string `json:"callId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			return drive(ctx, d, args.CallID)
		}}
}

// BillingDetails: {"organizationId"}. Copies billing details to Stripe, 5 s after a change. Unique key
// billing.details:<organizationId>:<time in units of 5 s>, so keystrokes share a job; 20 attempts, 5 s to 1 h. After that Stripe keeps the former
// details until the next change.
func BillingDetails(d *billing.Driver) runner.Type {
	return runner.Type{Name: "billing.details", Unique: "billing.details:<organizationId>:<unit>", Attempts: 20, TimeLimit: 5 * time.Minute,
		Backoff: runner.Exponential(5*time.Second, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			if d == nil {
				return errNoStripe
			}
			var planned struct{ Call, Busy string }
			if err := d.Ask(ctx, "plan_details_copy", json.RawMessage(job.Args), &planned); err != nil {
				return fmt.Errorf("plan a copy: %w", err)
			}
			switch {
			case planned.Busy != "":
				if err := drive(ctx, d, planned.Busy); err != nil {
					return err
				}
				return errors.New("another call was in flight")
			case planned.Call != "":
				return drive(ctx, d, planned.Call)
			}
			return nil
		}}
}

var errNoStripe = errors.New("this worker has no key at Stripe")

func drive(ctx context.Context, d *billing.Driver, callID string) error {
	if d == nil {
		return errNoStripe
	}
	result, err := d.Drive(ctx, callID, false)
	switch {
	case err != nil:
		return err
	case result.Doubt:
		return errors.New("Stripe did not answer")
	case result.Busy:
		return errors.New("another process is at this call")
	case result.Refusal != nil && result.Operation == "details":
		return fmt.Errorf("Stripe did not take the details: %s", result.Refusal.Details)
	}
	return nil
}
