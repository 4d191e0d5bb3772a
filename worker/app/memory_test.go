package app_test

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/app"
)

func TestMemoryIsLimitedUnlessSomebodyDidIt(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "1GiB")
	app.LimitMemory(300)
	require.Equal(t, before, debug.SetMemoryLimit(-1))
	t.Setenv("GOMEMLIMIT", "")
	app.LimitMemory(300)
	require.EqualValues(t, 300<<20, debug.SetMemoryLimit(-1))
}
