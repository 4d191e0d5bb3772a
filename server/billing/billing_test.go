package billing

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASlowRegisterLeavesTimeToTheDatabase(t *testing.T) {
	t.Parallel()
	request, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	ctx, done := inTime(request)
	defer done()
	whole, _ := request.Deadline()
	asked, ok := ctx.Deadline()
	require.True(t, ok)
	require.Greater(t, whole.Sub(asked), 4*time.Minute)
	ctx, done = inTime(context.Background())
	defer done()
	_, ok = ctx.Deadline()
	require.False(t, ok)
}
