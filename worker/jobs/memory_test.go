package jobs_test

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/jobs"
)

func TestMemoryIsLimitedUnlessSomebodyDidIt(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "1GiB")
	jobs.LimitMemory(300)
	require.Equal(t, before, debug.SetMemoryLimit(-1))
	t.Setenv("GOMEMLIMIT", "")
	jobs.LimitMemory(300)
	require.EqualValues(t, 300<<20, debug.SetMemoryLimit(-1))
}
