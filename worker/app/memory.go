package app

import (
	"os"
	"runtime/debug"
)

// LimitMemory is KIJKO_WORKER_MEMORY_MB: near the limit this process cleans up more often, instead of growing to twice of what it needs.
func LimitMemory(megabytes int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(megabytes) << 20)
	}
}
