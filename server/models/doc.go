// Package models is the gateway to model providers (contract 60, section 14): the browser asks here, and no key ever reaches it. It also takes
// the keys that organizations bring, and encrypts them before they go into the database.
//
// A call is admitted by the database first, which charges its unit and says who answers. Then no connection is held: the provider is
// asked once (the client repeats what is worth repeating), and whoever closes the connection ends the call to the provider. Nothing that
// was asked or answered is stored or logged.
//
// A Feature is safe for concurrent use. It starts no goroutine itself; streams belong to server/api, which ends them when it stops.
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

// perMinute is how many calls one person may make, over all processes and both routes.
const perMinute = 30

// maxAttached bounds the bytes of attachments that one process holds at a time.
const maxAttached = 256 << 20

// Executor runs calls of the database; *api.Executor is one.
type Executor interface {
	api.Runner
	TakeShared(ctx context.Context, key string, r *openapi.Rate) (map[string]string, error)
}

// Settings are what a Feature is made of.
type Settings struct {
	Exec   Executor
	Models *llm.Set
	// Box encrypts and opens the organizations' own keys; without one they cannot be set.
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

// New makes one.
func New(s Settings) *Feature {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Feature{Settings: s, attached: semaphore.NewWeighted(maxAttached)}
}

// Handlers gives the operations that are answered here.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"createMessage": f.createMessage, "generateContent": f.generateContent, "setProviderKey": f.setProviderKey}
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

func badRequest(message, field string) error {
	return judged(api.NewProblem(http.StatusBadRequest, "BAD_REQUEST", message, field), false)
}
