package db

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// IsTransient says whether an error passes by itself: transactions in each other's way, a database that starts, stops or is full, no
// connection.
func IsTransient(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true
	}
	switch pg.Code[:2] {
	case "08", "40", "53", "55", "57":
		return true
	}
	return false
}

// Retry repeats a call that may be made twice until it succeeds, fails with a lasting error, or ctx ends; at most so many times, 0 means
// without end. The pauses double from 0.05 to 5 s. again, if not nil, gets each error after which the call is made again.
func Retry(ctx context.Context, times int, again func(error), call func(context.Context) error) error {
	for pause, n := 50*time.Millisecond, 1; ; pause, n = min(2*pause, 5*time.Second), n+1 {
		err := call(ctx)
		if err == nil || ctx.Err() != nil || n == times || !IsTransient(err) {
			return err
		}
		if again != nil {
			again(err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}
