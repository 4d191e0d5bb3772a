package client

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// AtOnce makes n calls, which wait for one another before they are sent.
func AtOnce(t *testing.T, n int, call func(i int) (Response, error)) []Response {
	t.Helper()
	answers, errs := make([]Response, n), make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			answers[i], errs[i] = call(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return answers
}
