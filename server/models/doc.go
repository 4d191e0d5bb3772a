// Package models is the gateway to model providers (contract 60, section 14): browsers call it, so no key ever reaches them. It also
// accepts the organizations' own keys, and encrypts them before they are stored in the database.
//
// The database admits a call first: it charges its unit and names the provider. After that the call holds no connection. The provider is
// called once (the client itself retries where that makes sense). When the client closes the connection, the call to the provider ends. No
// question and no answer is stored or logged.
//
// A Feature is safe for concurrent use. It starts no goroutine itself. Streams belong to server/api, which ends them when it stops.
package models

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/llm"
	"kijko/worker/seal"
)

// perMinute is how many calls one user may make, over all processes and both routes.
const perMinute = 30

// maxAttached bounds the bytes of attachments that one process holds at a time.
const maxAttached = 256 << 20

// Executor runs database calls; *api.Executor is one.
type Executor interface {
	api.Runner
	TakeShared(ctx context.Context, key string, r *openapi.Rate) (map[string]string, error)
}

// Settings are the dependencies of a Feature.
type Settings struct {
	Exec   Executor
	Models *llm.Set
	// Box encrypts and opens the organizations' own keys. Without it they cannot be set.
	Box *seal.Box
	// Timeout bounds one call to a provider.
	Timeout time.Duration
	Log     *slog.Logger
}

// Feature is the gateway.
type Feature struct {
	Settings
	attached *semaphore.Weighted
}

// New makes a Feature.
func New(s Settings) *Feature {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Feature{Settings: s, attached: semaphore.NewWeighted(maxAttached)}
}

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"createMessage": f.createMessage, "generateContent": f.generateContent, "setProviderKey": f.setProviderKey}
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

func badRequest(message, field string) error {
	return checked(api.NewProblem(http.StatusBadRequest, "BAD_REQUEST", message, field), false)
}
