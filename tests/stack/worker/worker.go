// Package worker starts a worker in this process beside a stack. It is a package of its own, because tests without a worker need not
// compile the parsers.
package worker

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/worker/app"
)

// Start runs a worker with the settings of the stack. It stops with the test, or earlier by the function that Start returns.
func Start(t testing.TB, s *stack.Stack) (stop func()) {
	t.Helper()
	w, closeWorker, err := app.Assemble(context.Background(), s.Config.Config, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil && ctx.Err() == nil {
				t.Errorf("the worker stopped with %v", err)
			}
			if err := closeWorker(); err != nil {
				t.Errorf("closing the worker: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}
