// Package billing answers the operations of contract 50 that need the outside world: checks of VAT numbers by VIES, quotes that depend on
// them, and the events of Stripe. Postgres decides who may ask, what is known already, and what an answer or an event means.
package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/exactjson"
	"kijko/worker/vies"
)

// Executor runs calls; *api.Executor is one.
type Executor interface {
	Run(ctx context.Context, r *api.Request) (api.Answer, error)
	TakeShared(ctx context.Context, key string, r *openapi.Rate) (map[string]string, error)
}

// Feature is billing's part of the edge.
type Feature struct {
	Exec Executor
	VIES *vies.Client
	Payments
	// Secrets are those that Stripe signs events with; none: no event is taken.
	Secrets []string
	// IsLive says whether the key of Stripe is one for real money; nil without a key.
	IsLive *bool
	Log    *slog.Logger

	intake intake
}

// perMinute is how many numbers an organization may have checked in a minute.
const perMinute = 10

// Handlers returns the operations that this package answers, by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"validateBtwNumber":       f.validate,
		"previewSubscription":     f.preview,
		"receiveStripeEvent":      f.receive,
		"getInvoicePdf":           f.pdf,
		"createCheckout":          f.pay("create_checkout", "successUrl", "cancelUrl"),
		"createPortal":            f.pay("create_portal", "returnUrl"),
		"updateSubscription":      f.pay("update_subscription"),
		"updateSubscriptionPut":   f.pay("update_subscription"),
		"cancelSubscription":      f.pay("cancel_subscription"),
		"resumeSubscription":      f.pay("resume_subscription"),
		"createSetupIntent":       f.pay("create_setup_intent"),
		"createPaymentMethod":     f.pay("create_payment_method"),
		"deletePaymentMethod":     f.pay("delete_payment_method"),
		"setDefaultPaymentMethod": f.pay("set_default_payment_method"),
	}
}

// Close does nothing; the interface of features demands it.
func (f *Feature) Close() error { return nil }

// known is what Postgres says before VIES is asked.
type known struct {
	OrganizationID string `json:"organizationId"`
	Check          struct {
		Number  string `json:"number"`
		Outcome string `json:"outcome"`
	} `json:"check"`
}

// unasked is the outcome of a check that only VIES can decide.
const unasked = "unasked"

// validate answers POST /billing/details/validate-btw. Each attempt counts, whatever comes of it.
func (f *Feature) validate(c *api.Call) error {
	k, err := f.begin(c, "begin_btw_check")
	if err != nil {
		return err
	}
	headers, err := f.count(c, k)
	if err != nil {
		return err
	}
	for name, value := range headers {
		c.Ctx.Set(name, value)
	}
	return f.finish(c, k, "validate_btw_number")
}

// preview answers POST /billing/preview. Only quotes for which VIES is asked count as checks.
func (f *Feature) preview(c *api.Call) error {
	k, err := f.begin(c, "begin_preview")
	if err != nil {
		return err
	}
	if k.Check.Outcome == unasked {
		if _, err := f.count(c, k); err != nil {
			return err
		}
	}
	return f.finish(c, k, "preview_subscription")
}

// begin asks as the caller what is known. It does not use the request's Idempotency-Key.
func (f *Feature) begin(c *api.Call, function string) (k known, err error) {
	answer, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, Needs: c.Op.Scope, SQL: api.ProcedureSQL(function + "($1)"), Args: []any{c.Params},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(answer.Body, &k); err != nil {
		return k, fmt.Errorf("what %s says: %w", function, err)
	}
	return k, nil
}

func (f *Feature) count(c *api.Call, k known) (map[string]string, error) {
	return f.Exec.TakeShared(c.Context(), "btw|"+k.OrganizationID, &openapi.Rate{Limit: perMinute, Per: 60})
}

// finish asks VIES where nothing else can tell, and lets the operation's function answer.
func (f *Feature) finish(c *api.Call, k known, function string) error {
	p := map[string]json.RawMessage{}
	if err := exactjson.Unmarshal(c.Params, &p); err != nil {
		return err
	}
	if k.Check.Outcome == unasked {
		ctx, cancel := inTime(c.Context())
		said, err := json.Marshal(f.VIES.Check(ctx, k.Check.Number))
		cancel()
		if err != nil {
			return err
		}
		p["answer"] = said
	}
	answer, err := c.Query(c.Context(), function, p)
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// inTime leaves a third of the request's time to the database, so that a slow VIES is answered as unavailable.
func inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithTimeout(ctx, time.Until(deadline)*2/3)
	}
	return context.WithCancel(ctx)
}
