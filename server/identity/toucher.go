package identity

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
)

const (
	flushEvery   = 5 * time.Second
	flushTimeout = 5 * time.Second
	// maxPending bounds the memory while the database is unavailable. Further entries are dropped; the next minute brings them again.
	maxPending = 10_000
)

// Toucher writes last_active_at of sessions and memberships some seconds after their requests, many at once: reads stay read-only, and no
// request waits for it. Best effort: failures are logged and not retried.
type Toucher struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	mu      sync.Mutex
	pending map[string]string // session id -> organization hint
}

// NewToucher makes a Toucher; Run starts its writes.
func NewToucher(pool *pgxpool.Pool, log *slog.Logger) *Toucher {
	return &Toucher{pool: pool, log: log, pending: make(map[string]string)}
}

// Touch records that a session was active. It never blocks on the database.
func (t *Toucher) Touch(sessionID, orgHint string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) < maxPending {
		t.pending[sessionID] = orgHint
	}
}

// Run writes every few seconds until ctx ends, and then the remaining entries.
func (t *Toucher) Run(ctx context.Context) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			t.Flush(ctx)
		case <-ctx.Done():
			t.Flush(context.WithoutCancel(ctx))
			return
		}
	}
}

// Flush writes the recorded entries now.
func (t *Toucher) Flush(ctx context.Context) {
	batch := t.take()
	if len(batch) == 0 {
		return
	}
	sessions, orgs := make([]string, 0, len(batch)), make([]*string, 0, len(batch))
	for session, org := range batch {
		sessions = append(sessions, session)
		if org == "" {
			orgs = append(orgs, nil)
		} else {
			orgs = append(orgs, &org)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := db.Exec(ctx, t.pool, "select private.touch_sessions($1::uuid[], $2::uuid[])", sessions, orgs); err != nil && ctx.Err() == nil {
		t.log.Warn("last activity was not written", "sessions", len(sessions), "error", err)
	}
}

func (t *Toucher) take() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) == 0 {
		return nil
	}
	batch := t.pending
	t.pending = make(map[string]string)
	return batch
}
