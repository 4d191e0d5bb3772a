// Package integrations answers the operations of contract 40, section 8, that make outgoing calls: consent at providers and their callback,
// verification of keys, tests of MCP servers, tests of webhooks. Postgres authorizes each of them before any outgoing call.
package integrations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Settings are the dependencies of New.
type Settings struct {
	Exec      Executor
	Box       *seal.Box // nil: secrets cannot be sealed, so no integration can be connected
	Providers *integrations.Providers
	Guard     *integrations.Guard
	// Callback is the address that providers redirect users to, and Client the page that users go on to.
	Callback, Client string
	// Origins are the sites that a redirectUri may name, in addition to the client's own site.
	Origins api.Origins
}

// Feature is integrations' part of the edge.
type Feature struct {
	Settings
	// tests bounds the concurrent tests against external servers.
	tests *semaphore.Weighted
}

// maxTests is how many connectors and webhooks are tested at once in this process. Each test may take 15 seconds.
const maxTests = 32

// timeout bounds the database calls of one request.
const timeout = 15 * time.Second

// New makes a Feature.
func New(s Settings) *Feature { return &Feature{Settings: s, tests: semaphore.NewWeighted(maxTests)} }

// Handlers returns the operations that this package answers, by operationId.
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

// Close does nothing; the interface of features demands it.
func (f *Feature) Close() error { return nil }

// ask runs a function of schema private as the caller, for data that is needed before an outgoing call. It does not use the request's
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

// server runs a function that only the server may call. It writes even for a GET, because the callback uses its state up.
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

// needBox refuses a request when secrets cannot be sealed.
func (f *Feature) needBox() error {
	if f.Box != nil {
		return nil
	}
	return api.NoEncryptionKey("credentials", "")
}

// place waits for a slot for a test. The returned function releases it and must be called once.
func (f *Feature) place(c *api.Call) (func(), error) {
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
	defer cancel()
	if err := f.tests.Acquire(ctx, 1); err != nil {
		return nil, api.Unavailable("SERVICE_UNAVAILABLE", "Too many servers are being tested at the moment. Please try again.", err)
	}
	return func() { f.tests.Release(1) }, nil
}

// members is a JSON object of a body or of parameters, with its values undecoded.
type members map[string]json.RawMessage

func (m members) set(name string, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // cannot happen: values are texts, numbers and maps of them
	}
	m[name] = raw
}

// params returns the parameters of the call, to be extended.
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
