package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"kijko/db"
)

// Channel is the channel on which enqueuing processes notify after commit. The payload carries no information.
const Channel = "kijko_jobs"

// wakeups hold one buffered channel for each loop. A send never blocks, and several sends before a loop receives count
// as one.
type wakeups struct {
	mu  sync.Mutex
	all []chan struct{}
}

func (w *wakeups) add() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	wakeup := make(chan struct{}, 1)
	w.all = append(w.all, wakeup)
	return wakeup
}

func (w *wakeups) send() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wakeup := range w.all {
		select {
		case wakeup <- struct{}{}:
		default:
		}
	}
}

// listen wakes the loops at every notification, and once after each (re)connection, because earlier notifications were
// not heard.
func (r *Runner) listen(ctx context.Context) {
	db.Follow(ctx, r.c.Listen, r.c.Log, "the worker polls: it is not woken by notifications", r.hear)
}

func (r *Runner) hear(ctx context.Context, conn *pgx.Conn) error {
	for _, channel := range append(slices.Collect(maps.Keys(r.c.Hear)), Channel) {
		if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	r.wakeups.send()
	for {
		// The ping finds a connection that died silently.
		waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
		n, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil && r.c.Hear[n.Channel] != nil:
			r.c.Hear[n.Channel](n.Payload)
		case err == nil:
			r.wakeups.send()
		case ctx.Err() != nil:
			return ctx.Err()
		case waiting.Err() == nil:
			return err
		default:
			if err := conn.Ping(ctx); err != nil {
				return fmt.Errorf("ping: %w", err)
			}
		}
	}
}
