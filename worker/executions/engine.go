package executions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/lease"
	"kijko/worker/llm"
)

// Lease times: a lease is renewed three times before it would expire. With the sweeper's 5 s the runs of a dead worker continue within 30
// s.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 4 * time.Second
)

// Channel is the channel on which the database notifies that a running execution was canceled. The payload is the id of the execution.
const Channel = "kijko_cancelled"

// Providers returns a model provider by name (*llm.Set is one).
type Providers interface {
	For(name string) (llm.Provider, error)
}

// Config configures an Engine. Pool and Providers are required.
type Config struct {
	// Pool belongs to kijko_worker.
	Pool *pgxpool.Pool
	// Process tells other workers that this one lives; nil: only the times of its leases do.
	Process   *lease.Process
	Providers Providers
	// Unseal opens an organization's own key for a provider. Nil: runs that need such a key fail.
	Unseal func(organizationID uuid.UUID, provider, sealed string) (string, error)
	// Policy is the retry policy for providers; default llm.DefaultPolicy.
	Policy *llm.Policy
	// Connections is how many connections of the pool the runs use at a time; default 3.
	Connections int
	// Patience is how long calls may go on after shutdown began, before their runs are handed to another worker; default 5 s.
	Patience time.Duration
	Log      *slog.Logger
}

// Engine works runs. Make it with New.
type Engine struct {
	c      Config
	policy llm.Policy
	places chan struct{}
	leases *lease.Keeper
}

var errStopping = errors.New("executions: the worker stops")

// New checks the configuration.
func New(c Config) (*Engine, error) {
	if c.Pool == nil || c.Providers == nil {
		return nil, errors.New("executions: Pool and Providers are required")
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
	e := &Engine{c: c, policy: policy, places: make(chan struct{}, c.Connections)}
	// While the database cannot be reached the calls go on. Their results are dropped if another worker took the runs over.
	e.leases = lease.New(lease.Options{For: leaseFor, Every: renewEvery, Renew: e.renew, Process: c.Process, Log: c.Log})
	return e, nil
}

// Take leases up to n waiting runs and returns the work of each; seen is how many jobs it looked at.
func (e *Engine) Take(ctx context.Context, n int) (works []func(context.Context), seen int, err error) {
	tasks, seen, err := e.take(ctx, n)
	if err != nil {
		return nil, 0, err
	}
	for _, t := range tasks {
		// The lease is held from here on, so Hold renews it even when the goroutine of the run starts late.
		working, release := e.leases.Add(context.WithoutCancel(ctx), lease.Lease{ID: t.ID, Token: t.Token})
		works = append(works, func(ctx context.Context) {
			defer release()
			e.work(ctx, working, t)
		})
	}
	return works, seen, nil
}

// Cancelled aborts the model call of a run, if this process has it. It is called with the payload of each notification on Channel.
func (e *Engine) Cancelled(payload string) {
	if id, err := uuid.Parse(payload); err == nil {
		e.leases.Lose(id)
	}
}

// Hold renews the leases of all runs of this process until ctx ends, and ends the runs that lost their lease. Start it before the first
// run and stop it after the last.
func (e *Engine) Hold(ctx context.Context) { e.leases.Run(ctx) }

// renew does not count against the connections of the runs: a lease must not expire because results are waiting to be written.
func (e *Engine) renew(ctx context.Context, held []lease.Lease, _ bool) ([]lease.Lease, error) {
	ids, tokens, byID := make([]uuid.UUID, 0, len(held)), make([]uuid.UUID, 0, len(held)), map[uuid.UUID][]lease.Lease{}
	for _, l := range held {
		ids, tokens, byID[l.ID] = append(ids, l.ID), append(tokens, l.Token), append(byID[l.ID], l)
	}
	rows, err := e.c.Pool.Query(ctx, "select private.renew_executions($1, $2, $3)", ids, tokens, int(leaseFor/time.Second))
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	lost, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	var gone []lease.Lease
	for _, id := range lost {
		gone = append(gone, byID[id]...)
	}
	return gone, nil
}
