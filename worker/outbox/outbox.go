// Package outbox sends deliveries to neighbors: other systems of the operator that are told what happened here. Rows of private.outbox are
// written in the transaction of the event (db/code/outbox). This package leases them, gives each to its neighbor and records the result.
//
// A neighbor may get a delivery twice: after the death of a worker, and after an answer that was lost. So Send asks the neighbor first what
// it has, where the attempt is not the first one, unless the neighbor itself recognizes a repeat.
package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/lease"
)

// Delivery is a row of the outbox, as the database hands it out.
type Delivery struct {
	ID       uuid.UUID `json:"id"`
	Token    uuid.UUID `json:"token"`
	Neighbor string    `json:"neighbor"`
	// Kind names the shape of Payload: ingestion, execution or message.
	Kind string `json:"kind"`
	// Series are deliveries that go out one after the other. Reference is what the neighbor calls the series; "" before Keep was called.
	Series    uuid.UUID       `json:"series"`
	Reference string          `json:"reference"`
	Attempt   int             `json:"attempt"`
	Payload   json.RawMessage `json:"payload"`

	// Keep stores the reference for further attempts and deliveries of the series.
	Keep func(ctx context.Context, reference string) error `json:"-"`
}

// IsRepeat reports whether an earlier attempt may have arrived.
func (d Delivery) IsRepeat() bool { return d.Attempt > 1 }

// Neighbor receives deliveries. It is safe for concurrent use.
type Neighbor interface {
	// Name is the neighbor's name in private.outbox.
	Name() string
	// Send delivers, or fails with an error that Refused or Busy made where it is known what an attempt after this one can do.
	Send(ctx context.Context, d Delivery) error
	// Ping reports whether the neighbor answers.
	Ping(ctx context.Context) error
	Close()
}

type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

// Refused marks an error that no further attempt can cure.
func Refused(err error) error { return refused{err} }

type busy struct {
	error
	after time.Duration
}

func (b busy) Unwrap() error { return b.error }

// Busy marks the error of a neighbor that asks to wait.
func Busy(err error, after time.Duration) error { return busy{err, after} }

// leaseTime is how long a worker has for one delivery. It is longer than sendTime.
const (
	leaseTime = 2 * time.Minute
	sendTime  = time.Minute
)

// Engine takes and sends deliveries.
type Engine struct {
	pool      *pgxpool.Pool
	process   *lease.Process
	neighbors map[string]Neighbor
	log       *slog.Logger
}

// New makes an Engine. A delivery to a neighbor that is not among these is tried again later: another worker may know it.
func New(pool *pgxpool.Pool, process *lease.Process, neighbors []Neighbor, log *slog.Logger) *Engine {
	e := &Engine{pool: pool, process: process, neighbors: map[string]Neighbor{}, log: log}
	for _, n := range neighbors {
		e.neighbors[n.Name()] = n
	}
	return e
}

// Take leases waiting deliveries.
func (e *Engine) Take(ctx context.Context, n int) (works []func(context.Context), seen int, err error) {
	rows, err := e.pool.Query(ctx, "select private.take_outbox($1, $2, $3)", n, int(leaseTime.Seconds()), e.process.ID())
	if err != nil {
		return nil, 0, fmt.Errorf("take deliveries: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, 0, fmt.Errorf("take deliveries: %w", err)
	}
	for _, raw := range found {
		if raw == nil {
			continue
		}
		var d Delivery
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, 0, fmt.Errorf("read a delivery: %w", err)
		}
		d.Keep = func(ctx context.Context, reference string) error { return e.keep(ctx, d.ID, d.Token, reference) }
		works = append(works, func(ctx context.Context) { e.deliver(ctx, d) })
	}
	return works, len(found), nil
}

// deliver finishes an attempt that has begun also at shutdown: an interrupted one would leave open whether it arrived.
func (e *Engine) deliver(ctx context.Context, d Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTime)
	defer cancel()
	ctx, release := e.process.Context(ctx, d.Token)
	defer release()
	err := e.send(ctx, d)
	result := map[string]any{"id": d.ID, "token": d.Token, "ok": err == nil}
	if err != nil {
		var wait busy
		if errors.As(err, &wait) {
			result["after"] = wait.after.Seconds()
		}
		result["refused"], result["error"] = errors.As(err, new(refused)), err.Error()
		e.log.Warn("a neighbor did not take a delivery", "neighbor", d.Neighbor, "delivery", d.ID, "attempt", d.Attempt, "error", err)
	}
	if _, err := e.pool.Exec(ctx, "select private.finish_outbox($1)", result); err != nil {
		// The lease ends, and the delivery is sent again.
		e.log.Error("the result of a delivery could not be kept", "delivery", d.ID, "error", err)
	}
}

func (e *Engine) send(ctx context.Context, d Delivery) error {
	neighbor := e.neighbors[d.Neighbor]
	if neighbor == nil {
		return errors.New("this worker is not configured for " + d.Neighbor)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	return neighbor.Send(ctx, d)
}

func (e *Engine) keep(ctx context.Context, id, token uuid.UUID, reference string) error {
	var kept bool
	if err := e.pool.QueryRow(ctx, "select private.keep_outbox_reference($1, $2, $3)", id, token, reference).Scan(&kept); err != nil {
		return fmt.Errorf("keep a reference: %w", err)
	}
	if !kept {
		return errors.New("the lease of the delivery is lost")
	}
	return nil
}
