// Package integrations answers what of contract 40, section 8, touches the outside world: consent at providers and their answer, keys that are
// verified, MCP servers that are tested, webhooks that are tried. Who may do what is judged by Postgres, before anything goes out.
package integrations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/integrations"
	"kijko/worker/seal"
)

// Executor runs calls; *api.Executor is one.
type Executor interface {
	Run(ctx context.Context, r *api.Request) (api.Answer, error)
}

// Settings are what New needs.
type Settings struct {
	Exec      Executor
	Box       *seal.Box // nil: nothing can be sealed, so nothing can be connected
	Providers *integrations.Providers
	Guard     *integrations.Guard
	// Callback is the address that providers send people back to, and Client where people go on.
	Callback, Client string
	// Origins are the sites that a redirectUri may name, besides the client's own.
	Origins api.Origins
}

// Feature is this package, opened.
type Feature struct {
	Settings
	// tests bounds how many strangers' servers are talked to at once.
	tests *semaphore.Weighted
}

// maxTests is how many connectors and webhooks are tested at once in this process; each may take 15 seconds.
const maxTests = 32

// timeout bounds what one request asks of the database.
const timeout = 15 * time.Second

// New opens the package.
func New(s Settings) *Feature { return &Feature{Settings: s, tests: semaphore.NewWeighted(maxTests)} }

// Handlers gives the operations that are answered here, by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"connectIntegration":   f.connect(false),
		"reconnectIntegration": f.connect(true),
		"completeIntegration":  f.callback,
		"createConnector":      f.saveConnector,
		"updateConnector":      f.saveConnector,
		"updateConnectorPut":   f.saveConnector,
		"testConnector":        f.testConnector,
		"setConnectorIcon":     f.setIcon,
		"createWebhook":        f.saveWebhook,
		"updateWebhook":        f.saveWebhook,
		"updateWebhookPut":     f.saveWebhook,
		"testWebhook":          f.testWebhook,
	}
}

// Close is there for the interface of features.
func (f *Feature) Close() error { return nil }

// ask runs a function of schema private as the caller, for what must be known before anything goes out. It is no part of the request's
// Idempotency-Key.
func (f *Feature) ask(c *api.Call, function string, p, into any) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	answer, err := f.Exec.Run(ctx, &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL(function + "($1)"), Args: []any{raw},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Body, into); err != nil {
		return fmt.Errorf("what %s says: %w", function, err)
	}
	return nil
}

// store runs an operation's function under the request's Idempotency-Key.
func (f *Feature) store(c *api.Call, function string, p any) (api.Answer, error) {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	return c.Query(ctx, function, p)
}

// server runs a function that only the server may call. It writes, also for a GET: the callback uses its state up.
func (f *Feature) server(c *api.Call, function string, p, into any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), timeout)
	defer cancel()
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	answer, err := f.Exec.Run(ctx, &api.Request{AsServer: true, Payer: c.Caller, SQL: api.ServerSQL(function), Args: []any{raw}, RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer.Body, into); err != nil {
		return fmt.Errorf("what %s says: %w", function, err)
	}
	return nil
}

// needBox refuses what cannot be sealed.
func (f *Feature) needBox() error {
	if f.Box != nil {
		return nil
	}
	p := api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", "This installation has no encryption key, so it cannot keep credentials.", "")
	p.Details = json.RawMessage(`{"provider":"encryption"}`)
	return p
}

// place waits for one of the places of tests; the way back is to be called once.
func (f *Feature) place(c *api.Call) (func(), error) {
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
	defer cancel()
	if err := f.tests.Acquire(ctx, 1); err != nil {
		return nil, api.Unavailable("SERVICE_UNAVAILABLE", "Too many servers are being tested at the moment. Please try again.", err)
	}
	return func() { f.tests.Release(1) }, nil
}

// members is an object of a body or of parameters as it came.
type members map[string]json.RawMessage

func (m members) set(name string, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // texts, numbers and maps of them
	}
	m[name] = raw
}

// params are the parameters of the call, to add to.
func params(c *api.Call) (members, error) {
	m := members{}
	if err := exactjson.Unmarshal(c.Params, &m); err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	return m, nil
}

func failureOf(err error) *integrations.Failure {
	var f *integrations.Failure
	if errors.As(err, &f) {
		return f
	}
	return nil
}
