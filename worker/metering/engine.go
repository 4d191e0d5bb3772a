package metering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/lease"
)

const (
	// batchSize is how many events one request holds, some 250 bytes each.
	batchSize = 500
	// leaseFor is how long a batch belongs to a worker. sendFor, within it, is how long the worker goes on sending.
	leaseFor = 30 * time.Second
	sendFor  = 20 * time.Second
	// maxWait is the longest pause after failures.
	maxWait = 5 * time.Minute
)

// Engine sends what waits. To may be nil: then no unit is copied.
type Engine struct {
	Pool *pgxpool.Pool
	To   *Client
	Log  *slog.Logger
	// Process tells other workers that this one lives; nil: only the time of the lease does.
	Process *lease.Process

	owner    uuid.UUID
	declared atomic.Bool
}

// New makes an Engine.
func New(pool *pgxpool.Pool, to *Client, log *slog.Logger) *Engine {
	return &Engine{Pool: pool, To: to, Log: log, owner: uuid.New()}
}

// Run sends all that waits, and returns when nothing does or the receiver does not take it. Call it now and then. The first call declares
// whether units are copied.
func (e *Engine) Run(ctx context.Context) error {
	if !e.declared.Load() {
		if _, err := e.Pool.Exec(ctx, "select private.declare_metering($1)", e.To != nil); err != nil {
			return fmt.Errorf("declare metering: %w", err)
		}
		e.declared.Store(true)
	}
	for e.To != nil && ctx.Err() == nil {
		again, err := e.batch(ctx)
		if err != nil || !again {
			return err
		}
	}
	return nil
}

// batch sends one batch; again is true when it was accepted and more may wait.
func (e *Engine) batch(ctx context.Context) (again bool, err error) {
	// One token for all batches: a batch that could not be ended is taken again at once.
	e.owner = e.Process.Keep(e.owner)
	units, err := e.take(ctx)
	if err != nil || len(units) == 0 {
		return false, err
	}
	sending, cancel := context.WithTimeout(ctx, sendFor)
	defer cancel()
	o := outcome{sent: []int64{}, refused: []int64{}}
	failed := e.send(sending, units, &o)
	// What was accepted is recorded also at shutdown.
	writing, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	var fault *string
	var wait time.Duration
	if failed != nil && ctx.Err() == nil {
		text := failed.Error()
		fault, wait = &text, e.wait(writing)
		e.Log.Warn("units were not sent to OpenMeter and will be sent again", "error", failed, "waiting", wait)
	}
	if len(o.refused) > 0 {
		e.Log.Error("OpenMeter refuses units; they are kept in private.metering_events", "count", len(o.refused), "reason", o.reason)
	}
	err = db.Retry(writing, 3, nil, func(ctx context.Context) error {
		_, err := e.Pool.Exec(ctx, "select private.finish_metering($1, $2, $3, $4, $5, $6)", e.owner, o.sent, o.refused, o.reason, fault, wait.Seconds())
		return err
	})
	if err != nil {
		return false, fmt.Errorf("record sent units: %w", err)
	}
	return failed == nil, nil
}

func (e *Engine) take(ctx context.Context) ([]unit, error) {
	rows, err := e.Pool.Query(ctx, "select seq, id, organization_id, metric, amount, total, occurred_at from private.take_metering($1, $2, $3)",
		e.owner, int(leaseFor/time.Second), batchSize)
	if err != nil {
		return nil, fmt.Errorf("take units: %w", err)
	}
	units, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unit])
	if err != nil {
		return nil, fmt.Errorf("take units: %w", err)
	}
	return units, nil
}

type outcome struct {
	sent, refused []int64
	reason        string
}

// send sends units and notes what became of them. A refused request is sent in halves, down to the event that is refused.
func (e *Engine) send(ctx context.Context, units []unit, o *outcome) error {
	err := e.To.post(ctx, units)
	var refused *refusal
	switch {
	case err == nil:
		for _, u := range units {
			o.sent = append(o.sent, u.Seq)
		}
		return nil
	case !errors.As(err, &refused):
		return err
	case len(units) == 1:
		o.refused, o.reason = append(o.refused, units[0].Seq), refused.text
		return nil
	}
	half := len(units) / 2
	if err := e.send(ctx, units[:half], o); err != nil {
		return err
	}
	return e.send(ctx, units[half:], o)
}

// wait doubles from one second with each failure in a row.
func (e *Engine) wait(ctx context.Context) time.Duration {
	var failures int
	if err := e.Pool.QueryRow(ctx, "select private.metering_failures()").Scan(&failures); err != nil {
		return maxWait
	}
	return min(time.Second<<min(failures, 10), maxWait)
}
