// Package executions answers the operations on skills that wait for a model. One group runs a skill and waits for its end or reads along.
// The other group is tests, which call the model from this process and leave no row. Before any model call, the database decides whether it
// may run, with which prompt, and which account pays.
//
// # Concurrency and shutdown
//
// A waiting request holds no connection to the database. realtime's feed reports the ends of runs. As a fallback, the process runs one
// query a second for all its waiting requests. Drain makes waiting requests answer with the current state. Streams and tests end with their
// time limit or with the server's grace period.
package executions

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"kijko/server/api"
	"kijko/server/realtime"
	"kijko/worker/llm"
)

// Providers returns a model provider by name (*llm.Set is one).
type Providers interface {
	For(name string) (llm.Provider, error)
}

// Settings are the dependencies of a Feature. Exec and Providers are required.
type Settings struct {
	Exec      api.Runner
	Providers Providers
	// Watch follows a room (realtime.Server.Watch); nil: ends are found by queries.
	Watch func(room string, f func(realtime.Event)) (stop func())
	// Unseal opens an organization's own key for a provider; nil: tests that need such a key fail.
	Unseal func(organizationID, provider, sealed string) (string, error)
	// Policy is the retry policy of tests towards a provider; nil: the contract's.
	Policy *llm.Policy
	// Wait is how long a request waits for the end of a run, and how long a test may take; default 120 s.
	Wait time.Duration
	// Ask is the interval of the queries for ended runs; default 1 s.
	Ask time.Duration
	Log *slog.Logger
}

// StreamLimit is how long a reader may follow a run: a little more than private.execution_limit; a test compares the two.
const StreamLimit = 330 * time.Second

// Feature is the executions' part of the edge.
type Feature struct {
	s      Settings
	tester *Tester
	waits  *waits
}

// New checks the settings and starts nothing.
func New(s Settings) (*Feature, error) {
	if s.Exec == nil || s.Providers == nil {
		return nil, errors.New("execution: Exec and Providers are required")
	}
	if s.Wait <= 0 {
		s.Wait = 120 * time.Second
	}
	if s.Ask <= 0 {
		s.Ask = time.Second
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	policy := llm.DefaultPolicy()
	if s.Policy != nil {
		policy = *s.Policy
	}
	return &Feature{s: s, waits: newWaits(s),
		tester: &Tester{exec: s.Exec, providers: s.Providers, unseal: s.Unseal, policy: policy, limit: s.Wait, log: s.Log,
			places: make(chan struct{}, testsAtOnce)}}, nil
}

// Tester returns the tester, which calls models for tests of other features.
func (f *Feature) Tester() *Tester { return f.tester }

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"executeSkill": f.execute, "runSkill": f.run, "testSkill": f.testSkill, "testPrompt": f.testPrompt}
}

// Drain makes waiting requests answer with the current state, because the server stops.
func (f *Feature) Drain() { f.waits.drain() }

// Close waits for the goroutine that queries ended runs.
func (f *Feature) Close() error {
	f.waits.close()
	return nil
}

// started is the common part of both answers to a start.
type started struct {
	ExecutionID string `json:"executionId"`
}

// read returns the answer about a run in one of its two forms.
func (f *Feature) read(ctx context.Context, requestID, userID, id, form string) (api.Answer, error) {
	return api.Serve(ctx, f.s.Exec, api.Request{ReadOnly: true, RequestID: requestID}, "read_execution", map[string]string{"id": id, "userId": userID, "form": form})
}
