package billing

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/exactjson"
)

const (
	// tolerance is how far the time of a signature may be from now, in either direction. Stripe's library looks at the past only.
	tolerance = 300 * time.Second
	// receiveTime bounds the work on one event. Stripe waits longer.
	receiveTime = 15 * time.Second
)

// isGenuine checks the header Stripe-Signature, "t=...,v1=...,v1=...", over the raw body. Any of the secrets may have made any of the v1:
// secrets overlap while one replaces another. Other schemes, such as v0 of test events, are passed over.
func isGenuine(header string, body []byte, secrets []string, now time.Time) bool {
	var at string
	var signatures [][]byte
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			at = value
		case "v1":
			if signature, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, signature)
			}
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return false
	}
	if age := now.Unix() - seconds; age > int64(tolerance/time.Second) || -age > int64(tolerance/time.Second) {
		return false
	}
	genuine := false
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(at))
		mac.Write([]byte{'.'})
		mac.Write(body)
		sum := mac.Sum(nil)
		for _, signature := range signatures {
			genuine = hmac.Equal(signature, sum) || genuine
		}
	}
	return genuine
}

// outcome is what private.take_stripe_events answers of an event.
type outcome struct {
	Status    string   `json:"status"`
	EventType string   `json:"eventType"`
	Outcome   string   `json:"outcome"`
	Alerts    []string `json:"alerts"`
}

// receive answers POST /webhooks/stripe. One call of Postgres stores and applies the event, and those that came with it. Where that fails, the
// cause is kept in a transaction of its own, and Stripe hears a 500 and delivers again.
func (f *Feature) receive(c *api.Call) error {
	body, err := c.ReadAll()
	if err != nil {
		return err
	}
	if len(f.Secrets) == 0 {
		p := api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", "This installation takes no events of Stripe: STRIPE_WEBHOOK_SECRET is not set.", "")
		p.Details = json.RawMessage(`{"provider":"stripe"}`)
		return p
	}
	if !isGenuine(string(c.Ctx.Request().Header.Peek("Stripe-Signature")), body, f.Secrets, time.Now()) {
		return api.NewProblem(http.StatusBadRequest, "INVALID_STRIPE_SIGNATURE", "The signature of this event is missing, wrong or too old.", "")
	}
	var event struct {
		ID   string `json:"id"`
		Type string `json:"type"`
	}
	if openapi.CheckText(body) != nil || exactjson.Unmarshal(body, &event) != nil || event.ID == "" || event.Type == "" || len(event.ID) > 255 || len(event.Type) > 255 {
		return api.NewProblem(http.StatusBadRequest, "INVALID_PAYLOAD", "The body is no event of Stripe: it must be JSON with id and type.", "")
	}
	d := &delivery{body: body, requestID: c.RequestID, address: c.ClientIP}
	f.take(d)
	if d.err != nil {
		return f.failed(c, event.ID, body, d.err)
	}
	o := d.outcome
	if o.Status == "ok" && (o.Outcome == "unmatched" || len(o.Alerts) > 0) {
		// An operator looks at these: docs/operations.md, "A customer says they paid".
		f.Log.Error("an event of Stripe needs a look", "event", event.ID, "type", event.Type, "outcome", o.Outcome, "alerts", o.Alerts)
	}
	return c.JSON(map[string]string{"status": o.Status, "eventType": o.EventType})
}

var noteFailed = api.ProcedureSQL("note_failed_stripe_event($1, $2)")

// failed keeps the cause, which the answer does not show. A refusal of a rule is a fault here, too: Stripe has to deliver the event again.
// Where the cause cannot be kept either, the database is away.
func (f *Feature) failed(c *api.Call, id string, body []byte, cause error) error {
	f.Log.Error("an event of Stripe could not be applied", "event", id, "error", cause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), receiveTime)
	defer cancel()
	_, err := f.Exec.Run(ctx, &api.Request{AsServer: true, SQL: noteFailed, Args: []any{body, reason(cause)}, RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return cause
	}
	return fmt.Errorf("apply event %s: %s", id, reason(cause))
}

// reason is what of an error is kept: of a database's error the message without its row.
func reason(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Message + " (" + pg.Code + ")"
	}
	return err.Error()
}

// pdf answers GET /billing/invoices/{invoiceId}/pdf with Stripe's own link, which authorizes itself.
func (f *Feature) pdf(c *api.Call) error {
	answer, err := c.Query(c.Context(), "get_invoice_pdf", c.Params)
	if err != nil {
		return err
	}
	var found struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal(answer.Body, &found); err != nil {
		return fmt.Errorf("get_invoice_pdf: %w", err)
	}
	c.Ctx.Set("Location", found.URL)
	c.Ctx.Set("Cache-Control", "no-store")
	return c.Ctx.SendStatus(http.StatusFound)
}
