package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

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

// Question is a request to a model that may be sent: the database has authorized it, and it names the provider and the key that pays.
type Question struct {
	provider llm.Provider
	request  llm.Request
	trace    llm.Trace
}

// admit counts the attempt and lets the database authorize and charge it.
func (f *Feature) admit(c *api.Call, model string, r llm.Request) (*Question, error) {
	headers, err := f.Exec.TakeShared(c.Context(), "ai|"+c.Caller.UserID, &openapi.Rate{Limit: perMinute, Per: 60})
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		c.Ctx.Set(name, value)
	}
	return f.prepare(c, "admit_model_call($1)", model, r)
}

// Prepare is for features that limit their callers themselves: the call is authorized and not charged.
func (f *Feature) Prepare(c *api.Call, model string, r llm.Request) (*Question, error) {
	return f.prepare(c, "route_model_call($1)", model, r)
}

func (f *Feature) prepare(c *api.Call, procedure, model string, r llm.Request) (*Question, error) {
	ctx := c.Context()
	// An Idempotency-Key is ignored, because its answer would have to be stored.
	answer, err := f.Exec.Run(ctx, &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL(procedure), Args: []any{model},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return nil, refusal(err)
	}
	// The headers show the plan's numbers, which users actually reach. With an unlimited plan they show the rate limit.
	for name, value := range answer.Headers {
		c.Ctx.Set(name, value)
	}
	var a admitted
	if err := json.Unmarshal(answer.Body, &a); err != nil {
		return nil, fmt.Errorf("read the admission: %w", err)
	}
	route := Route{Answers: a.Answers, Called: a.Called, OrganizationID: a.OrganizationID, WithoutSampling: a.WithoutSampling}
	if a.HasOwnKey {
		if route.SealedKey, err = f.ownKey(ctx, c, a); err != nil {
			return nil, err
		}
	}
	// A stream outlives the request that the strings belong to.
	return f.Open(route, r, llm.Trace{Name: c.Op.ID, UserID: strings.Clone(c.Caller.UserID), OrganizationID: a.OrganizationID, SessionID: strings.Clone(c.Caller.SessionID)})
}

// Route is the database's choice for a call that it has authorized: the provider, the name of the model there, and the organization's own key, if
// it has one.
type Route struct {
	Answers, Called, OrganizationID, SealedKey string
	WithoutSampling                            bool
}

// Open is for features whose own functions authorize and charge the call.
func (f *Feature) Open(route Route, r llm.Request, trace llm.Trace) (_ *Question, err error) {
	r.Model, r.WithoutSampling = route.Called, route.WithoutSampling
	q := &Question{trace: trace}
	if q.provider, err = f.Models.For(route.Answers); err != nil {
		return nil, Problem(err)
	}
	if route.SealedKey != "" {
		if r.Key, err = f.openKey(route); err != nil {
			return nil, err
		}
	}
	q.request = r
	return q, nil
}

// ownKey reads the organization's sealed key, in the server's role: callers can never read it.
func (f *Feature) ownKey(ctx context.Context, c *api.Call, a admitted) (string, error) {
	answer, err := f.Exec.Run(ctx, &api.Request{AsServer: true, Payer: c.Caller, ReadOnly: true, SQL: api.ProcedureSQL("provider_key($1, $2)"),
		Args: []any{a.Answers, a.OrganizationID}, RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return "", err
	}
	return string(answer.Body), nil
}

// openKey opens the organization's own key.
func (f *Feature) openKey(route Route) (string, error) {
	cause := errors.New("there is no ENCRYPTION_KEY")
	if f.Box != nil {
		key, err := f.Box.Open(seal.ProviderKey(route.OrganizationID, route.Answers), route.SealedKey)
		if err == nil {
			return string(key), nil
		}
		cause = err
	}
	p := api.NewProblem(http.StatusBadGateway, "INVALID_API_KEY",
		"Your organization's key cannot be read any more. Please ask an owner or admin to set it again.", "")
	p.Details, _ = json.Marshal(map[string]string{"provider": route.Answers})
	return "", checked(p.Because(cause), false)
}

// Finish makes the answer of an operation from the model's result. It runs once, after the last byte of the result and before the answer.
type Finish func(ctx context.Context, r llm.Result) (any, error)

// Answer asks the provider once and answers the request, whole or as events: `text` in order, then one `done` with the answer, or one
// `error`. The call ends when the client disconnects.
func (f *Feature) Answer(c *api.Call, q *Question, streamed bool, finish Finish) error {
	if streamed {
		return f.stream(c, q, finish)
	}
	here, leave := c.Present(c.Context())
	defer leave()
	answer, err := f.ask(here, q, nil, finish)
	switch {
	case err == nil:
		return c.JSON(answer)
	case here.Err() != nil:
		c.Ctx.Status(StatusGone)
		return nil
	}
	return err
}

// StatusGone is the status of a request whose client has disconnected in the access log; it is never sent.
const StatusGone = 499

func (f *Feature) stream(c *api.Call, q *Question, finish Finish) error {
	log, id := f.Log, c.RequestID
	return c.Events(func(here context.Context, s *api.EventStream) {
		answer, err := f.ask(here, q, func(text string) error {
			return s.Send("text", map[string]string{"type": "text", "content": text})
		}, finish)
		switch {
		case here.Err() != nil:
		case err != nil:
			refused := api.ProblemOf(err)
			log.WarnContext(here, "stream failed", "request_id", id, "operation", q.trace.Name, "code", refused.Code, "error", refused.Unwrap())
			_ = s.Send("error", event(refused))
		default:
			_ = s.Send("done", map[string]any{"type": "done", "response": answer})
		}
	})
}

// ask makes the call to the provider. emit gets the text as it comes; nil: as a whole. The error is a problem with the members that the
// clients of models read.
func (f *Feature) ask(here context.Context, q *Question, emit func(string) error, finish Finish) (answer any, err error) {
	result, err := f.Ask(here, q, emit)
	if err != nil {
		return nil, Problem(err)
	}
	if answer, err = finish(here, result); err != nil {
		p := api.ProblemOf(err)
		return nil, checked(p, p.Status == http.StatusServiceUnavailable)
	}
	return answer, nil
}

// Ask makes the call to the provider, traced and within the time that a call may take. emit gets the text as it comes; nil: as a whole. The error
// is the provider's own (llm.AsError), for callers that keep what came before it.
func (f *Feature) Ask(ctx context.Context, q *Question, emit func(string) error) (llm.Result, error) {
	ctx, cancel := context.WithTimeout(llm.WithTrace(ctx, q.trace), f.Timeout)
	defer cancel()
	if emit == nil {
		return q.provider.Generate(ctx, q.request)
	}
	return q.provider.Stream(ctx, q.request, emit)
}
