package integrations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/integrations"
	"kijko/worker/public"
	"kijko/worker/seal"
)

// saveWebhook answers POST and PATCH of webhooks. It resolves and checks the address, and seals the secret.
func (f *Feature) saveWebhook(c *api.Call) error {
	p, err := params(c)
	if err != nil {
		return err
	}
	body := members{}
	if len(c.Body) > 0 {
		if err := exactjson.Unmarshal(c.Body, &body); err != nil {
			return err
		}
	}
	var secret string
	if raw, given := body["secret"]; given {
		if err := exactjson.Unmarshal(raw, &secret); err != nil {
			return err
		}
		if n := utf8.RuneCountInString(secret); n < 16 || n > 256 {
			return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The secret has 16 to 256 characters.", "secret")
		}
		delete(body, "secret")
	}
	p.set("body", body)
	var plan struct {
		ID          string `json:"id"`
		EndpointURL string `json:"endpointUrl"`
	}
	if err := f.ask(c, "check_webhook", p, &plan); err != nil {
		return err
	}
	function := "update_webhook"
	if plan.ID == "" {
		plan.ID, function = uuid.NewString(), "create_webhook"
		p.set("id", plan.ID)
		if secret == "" {
			return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The secret has 16 to 256 characters.", "secret")
		}
	}
	looking, cancel := context.WithTimeout(c.Context(), 5*time.Second)
	defer cancel()
	if err := f.Guard.Check(looking, plan.EndpointURL); errors.Is(err, public.ErrAddress) {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "This address is not one that may be contacted.", "endpointUrl")
	}
	if secret != "" {
		if err := f.needBox(); err != nil {
			return err
		}
		sealed, err := f.Box.Seal(seal.OutgoingWebhook(plan.ID), []byte(secret))
		if err != nil {
			return err
		}
		runes := []rune(secret)
		p.set("sealed", sealed)
		p.set("secretEnd", string(runes[len(runes)-4:]))
		if strings.HasPrefix(secret, "whsec_•") {
			// The secret may be the mask that clients are shown; the database checks that.
			p.set("secretMask", secret)
		}
	}
	answer, err := f.store(c, function, p)
	if err != nil {
		return err
	}
	if function == "create_webhook" {
		// A replayed answer (Idempotency-Key) is about the webhook of the first request.
		var made struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(answer.Body, &made); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		answer.Body = f.Box.Reveal(answer.Body, "secret", seal.OutgoingWebhook(made.ID))
	}
	return c.Reply(answer)
}

// testWebhook answers POST /integrations/webhooks/{id}/test: it sends one sample now, and answers with its outcome.
func (f *Feature) testWebhook(c *api.Call) error {
	release, err := f.place(c)
	if err != nil {
		return err
	}
	defer release()
	if err := f.needBox(); err != nil {
		return err
	}
	var d integrations.Delivery
	answer, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL("begin_webhook_test($1)"),
		Args: []any{strings.Clone(c.Path("webhookId"))}, RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Body, &d); err != nil {
		return fmt.Errorf("what begin_webhook_test says: %w", err)
	}
	if err := f.server(c, "finish_delivery", f.Guard.Deliver(c.Context(), f.Box, d), nil); err != nil {
		return err
	}
	var shown json.RawMessage
	if err := f.server(c, "delivery_of", map[string]string{"id": d.ID}, &shown); err != nil {
		return err
	}
	return c.Reply(api.Answer{Body: shown})
}
