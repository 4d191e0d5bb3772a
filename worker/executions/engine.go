package executions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/llm"
)

// Lease times: renewed three times before it would run out. With the sweeper's 5 s a dead worker's runs go on within 30 s.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 4 * time.Second
)

// hardLimit is how long a run may take from its first start; the sweeper says the same to whoever does not keep to it.
const hardLimit = 300 * time.Second

// Channel is where the database says that a running execution was cancelled; the payload is its id.
const Channel = "kijko_cancelled"

// Providers gives a model provider by name (*llm.Set is one).
type Providers interface {
	For(name string) (llm.Provider, error)
}

// Config is what an Engine needs. Pool and Providers are required.
type Config struct {
	// Pool belongs to kijko_worker.
	Pool      *pgxpool.Pool
	Providers Providers
	// Unseal opens an organization's own key for a provider; nil: such runs fail.
	Unseal func(organizationID uuid.UUID, provider, sealed string) (string, error)
	// Policy is how a provider is asked again; default llm.DefaultPolicy.
	Policy *llm.Policy
	// Connections is how many connections of the pool runs use at a time; default 3.
	Connections int
	// Patience is what running calls get at shutdown before their runs are handed to another worker; default 5 s.
	Patience time.Duration
	Log      *slog.Logger
}

// Engine does runs. Make it with New.
type Engine struct {
	c      Config
	policy llm.Policy
	places chan struct{}

	mu      sync.Mutex
	running map[uuid.UUID]*held
}

// held is a lease of this process.
type held struct {
	token uuid.UUID
	lose  context.CancelCauseFunc
}

var (
	errLost     = errors.New("execute: the lease is gone")
	errStopping = errors.New("execute: the worker stops")
)

// New checks the configuration.
func New(c Config) (*Engine, error) {
	if c.Pool == nil || c.Providers == nil {
		return nil, errors.New("execute: Pool and Providers are required")
	}
	if c.Connections <= 0 {
		c.Connections = 3
	}
	if c.Patience <= 0 {
		c.Patience = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	policy := llm.DefaultPolicy()
	if c.Policy != nil {
		policy = *c.Policy
	}
	return &Engine{c: c, policy: policy, places: make(chan struct{}, c.Connections), running: map[uuid.UUID]*held{}}, nil
}

// Running is how many runs are in work.
func (e *Engine) Running() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.running)
}

// Take leases up to n waiting runs and gives the work of each; seen is how many jobs it looked at.
func (e *Engine) Take(ctx context.Context, n int) (works []func(context.Context), seen int, err error) {
	tasks, seen, err := e.take(ctx, n)
	if err != nil {
		return nil, 0, err
	}
	for _, t := range tasks {
		// Held from here on, so that Hold renews it however late its goroutine begins.
		working, lose := context.WithCancelCause(context.WithoutCancel(ctx))
		e.mu.Lock()
		e.running[t.ID] = &held{token: t.Token, lose: lose}
		e.mu.Unlock()
		works = append(works, func(ctx context.Context) {
			defer e.forget(t, lose)
			e.work(ctx, working, lose, t)
		})
	}
	return works, seen, nil
}

func (e *Engine) forget(t *task, lose context.CancelCauseFunc) {
	lose(nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	// It may have been taken anew by this very process.
	if h := e.running[t.ID]; h != nil && h.token == t.Token {
		delete(e.running, t.ID)
	}
}

// Cancelled aborts the model call of a run, if this process has it. Called with what is notified on Channel.
func (e *Engine) Cancelled(payload string) {
	id, err := uuid.Parse(payload)
	if err != nil {
		return
	}
	e.lost(id)
}

func (e *Engine) lost(ids ...uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range ids {
		if h := e.running[id]; h != nil {
			h.lose(errLost)
		}
	}
}

// Hold keeps the leases of all runs of this process until ctx ends, and tells those that lost theirs. Start it before any work and end
// it after.
func (e *Engine) Hold(ctx context.Context) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		// While the database cannot be reached the calls go on: their results are dropped if somebody else took the runs over.
		if err := e.renew(ctx); err != nil && ctx.Err() == nil {
			e.c.Log.Warn("leases of executions could not be renewed", "error", err)
		}
	}
}

func (e *Engine) renew(ctx context.Context) error {
	e.mu.Lock()
	ids, tokens := make([]uuid.UUID, 0, len(e.running)), make([]uuid.UUID, 0, len(e.running))
	for id, h := range e.running {
		ids, tokens = append(ids, id), append(tokens, h.token)
	}
	e.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	// Beside the places of the runs: a lease must not run out because results are waiting to be written.
	rows, err := e.c.Pool.Query(ctx, "select private.renew_executions($1, $2, $3)", ids, tokens, int(leaseFor/time.Second))
	if err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	defer rows.Close()
	var lost []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return fmt.Errorf("renew: %w", err)
		}
		lost = append(lost, id)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("renew: %w", err)
	}
	e.lost(lost...)
	return nil
}
