package parse

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A parse that does not return is left behind after its limit; of such parses there are few.
func TestAParseThatDoesNotReturnIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := New(), make(chan struct{})
		stuck := func() (tree, error) {
			<-end
			return tree{hasError: true}, nil
		}
		began := time.Now()
		for range maxLeft {
			_, err := p.within(t.Context(), time.Second, stuck)
			require.ErrorIs(t, err, ErrTimeout)
		}
		require.Equal(t, maxLeft*(time.Second+grace), time.Since(began))

		var waits sync.WaitGroup
		waits.Go(func() {
			got, err := p.within(t.Context(), time.Second, stuck)
			require.NoError(t, err)
			require.True(t, got.hasError, "beyond the bound a caller waits for the result")
		})
		time.Sleep(time.Minute)
		close(end)
		waits.Wait()
		synctest.Wait()
		require.Zero(t, p.left.Load())
	})
}

func TestACancelledParseIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := New(), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		_, err := p.within(ctx, time.Hour, func() (tree, error) {
			<-end
			return tree{}, nil
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, time.Second+grace, time.Since(began))
		close(end)
	})
}
