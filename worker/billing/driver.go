package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"kijko/worker/lease"
	"kijko/worker/stripe"
)

// Database runs a function of schema private that only our programs may call, and reads its answer.
type Database func(ctx context.Context, function string, p, into any) error

// Driver brings calls to their end.
type Driver struct {
	Stripe *stripe.Client
	Ask    Database
	Log    *slog.Logger
	// Process tells workers that this one lives; nil: only the time of the lease does.
	Process *lease.Process
}

// Refusal is how a call ended without what was asked.
type Refusal struct {
	Status  int             `json:"status"`
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Field   string          `json:"field"`
	Details json.RawMessage `json:"details"`
}

// Result is what is known of a call.
type Result struct {
	// Doubt: Stripe did not answer, and the call goes on later.
	Doubt bool
	// Busy: another process was at the call until the context ended.
	Busy      bool
	Operation string
	Answer    json.RawMessage
	Refusal   *Refusal
	// Secret is the client secret of a consent that was just made. It is stored nowhere.
	Secret string
}

// said is what Postgres says of a call.
type said struct {
	Settled   bool            `json:"settled"`
	Busy      bool            `json:"busy"`
	Doubt     bool            `json:"doubt"`
	Again     bool            `json:"again"`
	Lease     string          `json:"lease"`
	Operation string          `json:"operation"`
	Step      json.RawMessage `json:"step"`
	Answer    json.RawMessage `json:"answer"`
	Refusal   *Refusal        `json:"refusal"`
	Warnings  []string        `json:"warnings"`
}

// askAgain is how often a process looks whether another one has ended the call.
const askAgain = 100 * time.Millisecond

// lag is how much longer than its request a lease holds.
const lag = 5 * time.Second

// Drive brings a call to its end, unless another process does or Stripe does not answer. isForward says that the person who asked waits: an
// old request is then still sent. Only waiting ends with ctx: what Stripe answered is always stored.
func (d *Driver) Drive(ctx context.Context, callID string, isForward bool) (Result, error) {
	working := context.WithoutCancel(ctx)
	seconds := int((d.Stripe.Timeout() + lag) / time.Second)
	for {
		var now said
		if err := d.Ask(working, "take_stripe_call", map[string]any{"callId": callID, "seconds": seconds, "isForward": isForward, "worker": d.Process.ID()}, &now); err != nil {
			return Result{}, fmt.Errorf("take a call: %w", err)
		}
		secret := ""
		for !now.Settled && len(now.Step) > 0 {
			lease, step := now.Lease, now.Step
			answer, err := d.send(working, step)
			if err != nil {
				return Result{}, err
			}
			if answer.Body, secret, err = withoutSecret(answer.Body, secret); err != nil {
				return Result{}, err
			}
			now = said{}
			if err := d.Ask(working, "settle_stripe_call", settlement{Answer: answer, CallID: callID, Lease: lease, Seconds: seconds}, &now); err != nil {
				return Result{}, fmt.Errorf("settle a call: %w", err)
			}
			for _, warning := range now.Warnings {
				d.Log.Warn("a call to Stripe had an unexpected result", "call", callID, "warning", warning)
			}
		}
		switch {
		case now.Settled:
			return Result{Operation: now.Operation, Answer: now.Answer, Refusal: now.Refusal, Secret: secret}, nil
		case now.Doubt:
			return Result{Doubt: true}, nil
		case now.Again:
			continue
		}
		select {
		case <-ctx.Done():
			return Result{Busy: true}, nil
		case <-time.After(askAgain):
		}
	}
}

type settlement struct {
	stripe.Answer
	CallID  string `json:"callId"`
	Lease   string `json:"lease"`
	Seconds int    `json:"seconds"`
}

func (d *Driver) send(ctx context.Context, step json.RawMessage) (stripe.Answer, error) {
	var r stripe.Request
	if err := json.Unmarshal(step, &r); err != nil {
		return stripe.Answer{}, fmt.Errorf("a step of a call: %w", err)
	}
	return d.Stripe.Do(ctx, r)
}

// withoutSecret takes the client secret out of an answer: it is for the page alone.
func withoutSecret(body json.RawMessage, secret string) (json.RawMessage, string, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members["client_secret"] == nil {
		return body, secret, nil
	}
	_ = json.Unmarshal(members["client_secret"], &secret)
	delete(members, "client_secret")
	body, err := json.Marshal(members)
	return body, secret, err
}

// Reader reads from Stripe.
type Reader struct{ Stripe *stripe.Client }

// Subscription reads a subscription.
func (r Reader) Subscription(ctx context.Context, id string) (json.RawMessage, error) {
	a, err := r.Stripe.Do(ctx, stripe.Request{Method: http.MethodGet, Path: "/v1/subscriptions/" + url.PathEscape(id)})
	if err != nil {
		return nil, err
	}
	if a.Outcome != stripe.OK {
		return nil, fmt.Errorf("reading a subscription: %s, status %d %s", a.Outcome, a.Status, a.Code)
	}
	return a.Body, nil
}
