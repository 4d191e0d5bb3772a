package db

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 3 * time.Second
	connectTime = 10 * time.Second
)

// Follow holds one connection of its own until ctx is done, for callers that LISTEN or that must not wait for a busy pool. It connects and
// calls serve. When serve returns, it closes the connection and begins again, after a pause that doubles from 0.1 to 3 s and is spread by
// chance, so that many processes do not come back in one moment. lost is the sentence for the log: the effect of the missing connection.
func Follow(ctx context.Context, connect func(context.Context) (*pgx.Conn, error), log *slog.Logger, lost string, serve func(context.Context, *pgx.Conn) error) {
	backoff := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := follow(ctx, connect, serve)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		log.Warn(lost, "error", err, "retry_in", backoff)
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func follow(ctx context.Context, connect func(context.Context) (*pgx.Conn, error), serve func(context.Context, *pgx.Conn) error) error {
	connecting, cancel := context.WithTimeout(ctx, connectTime)
	conn, err := connect(connecting)
	cancel()
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	return serve(ctx, conn)
}

// To is a connect function for Follow: dsn under these limits.
func To(dsn string, l Limits) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) { return Connect(ctx, dsn, l) }
}
