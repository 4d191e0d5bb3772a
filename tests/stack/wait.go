package stack

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// Patience is how long a test waits for an event that takes milliseconds on an idle machine.
const Patience = 15 * time.Second

// Count is the number that a query gives.
func Count(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}

// Eventually waits for a condition, and fails the test with these words when it stays false. The condition runs in the test's own goroutine,
// where it may end the test.
func Eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for end := time.Now().Add(20 * time.Second); !f(); <-ticks.C {
		require.True(t, time.Now().Before(end), "never happened: %s", what)
	}
}
