package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/llm"
	"kijko/worker/seal"
)

// admitted is the database's answer for a call that it has charged.
type admitted struct {
	Answers        string `json:"answers"`
	Called         string `json:"called"`
	OrganizationID string `json:"organizationId"`
	HasOwnKey      bool   `json:"hasOwnKey"`
	// WithoutSampling: the model takes no temperature, top_p and top_k.
	WithoutSampling bool `json:"withoutSampling"`
}

// admit counts the attempt and lets the database authorize and charge it. It completes the request with the provider and the key that pays.
func (f *Feature) admit(c *api.Call, model string, r *llm.Request) (llm.Provider, error) {
	ctx := c.Context()
	headers, err := f.Exec.TakeShared(ctx, "ai|"+c.Caller.UserID, &openapi.Rate{Limit: perMinute, Per: 60})
	if err != nil {
		return nil, err
	}
	// An Idempotency-Key is ignored, because its answer would have to be stored.
	answer, err := f.Exec.Run(ctx, &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL("admit_model_call($1)"), Args: []any{model},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return nil, refusal(err)
	}
	if len(answer.Headers) > 0 {
		// The headers show the plan's numbers, which users actually reach. With an unlimited plan they show the rate limit.
		headers = answer.Headers
	}
	for name, value := range headers {
		c.Ctx.Set(name, value)
	}
	var a admitted
	if err := json.Unmarshal(answer.Body, &a); err != nil {
		return nil, fmt.Errorf("read the admission: %w", err)
	}
	r.Model, r.WithoutSampling = a.Called, a.WithoutSampling
	if a.HasOwnKey {
		if r.Key, err = f.ownKey(ctx, c, a); err != nil {
			return nil, err
		}
	}
	p, err := f.Models.For(a.Answers)
	if err != nil {
		return nil, Problem(err)
	}
	return p, nil
}

// ownKey reads and opens the organization's key, in the server's role: callers can never read it.
func (f *Feature) ownKey(ctx context.Context, c *api.Call, a admitted) (string, error) {
	answer, err := f.Exec.Run(ctx, &api.Request{AsServer: true, Payer: c.Caller, ReadOnly: true, SQL: api.ProcedureSQL("provider_key($1, $2)"),
		Args: []any{a.Answers, a.OrganizationID}, RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return "", err
	}
	unreadable := func(cause error) error {
		p := api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED",
			"Your organization's key cannot be read any more. Please ask an owner or admin to set it again.", "")
		p.Details, _ = json.Marshal(map[string]string{"provider": a.Answers})
		return judged(p.Because(cause), false)
	}
	if f.Box == nil {
		return "", unreadable(errors.New("there is no ENCRYPTION_KEY"))
	}
	key, err := f.Box.Open(seal.ProviderKey(a.OrganizationID, a.Answers), string(answer.Body))
	if err != nil {
		return "", unreadable(err)
	}
	return string(key), nil
}

// ask calls the provider once and waits. The call ends when the client disconnects.
func (f *Feature) ask(c *api.Call, p llm.Provider, r llm.Request) (llm.Result, error) {
	here, leave := c.Present(c.Context())
	defer leave()
	ctx, cancel := context.WithTimeout(here, f.Timeout)
	defer cancel()
	result, err := p.Generate(ctx, r)
	if err == nil {
		return result, nil
	}
	if here.Err() != nil {
		return llm.Result{}, errGone
	}
	return llm.Result{}, Problem(err)
}

// errGone means that the client has disconnected and gets no answer.
var errGone = errors.New("the client has gone")

// statusGone is the status of such a request in the access log; it is never sent.
const statusGone = 499
