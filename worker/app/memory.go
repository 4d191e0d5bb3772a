package app

import (
	"os"
	"runtime/debug"
)

// LimitMemory applies KIJKO_WORKER_MEMORY_MB: near the limit this process collects garbage more often, instead of growing to twice the
// memory that it needs.
func LimitMemory(megabytes int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(megabytes) << 20)
	}
}
