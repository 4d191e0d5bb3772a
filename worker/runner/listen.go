package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Channel is where enqueuing processes notify after commit. The payload says nothing.
const Channel = "kijko_jobs"

// bells are one buffered place a loop: ringing never blocks, and rings that nobody has heard yet are one.
type bells struct {
	mu  sync.Mutex
	all []chan struct{}
}

func (b *bells) add() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	bell := make(chan struct{}, 1)
	b.all = append(b.all, bell)
	return bell
}

func (b *bells) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, bell := range b.all {
		select {
		case bell <- struct{}{}:
		default:
		}
	}
}

// listen rings the bells for every notification, and once after each (re)connection: what came before was not heard.
func (r *Runner) listen(ctx context.Context) {
	pause := 100 * time.Millisecond
	for ctx.Err() == nil {
		began := time.Now()
		err := r.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			pause = 100 * time.Millisecond
		}
		r.c.Log.Warn("the worker is not woken by notifications at the moment and polls", "error", err, "again_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 10*time.Second)
	}
}

func (r *Runner) listenOnce(ctx context.Context) error {
	conn, err := r.c.Listen(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	for _, channel := range append(slices.Collect(maps.Keys(r.c.Hear)), Channel) {
		if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	r.bells.ring()
	for {
		// A connection that died silently is found by the ping.
		waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
		n, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil && r.c.Hear[n.Channel] != nil:
			r.c.Hear[n.Channel](n.Payload)
		case err == nil:
			r.bells.ring()
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
