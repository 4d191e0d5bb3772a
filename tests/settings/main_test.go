package settings

import "time"

const (
	// waiting bounds the wait for an event; no test waits for it to pass.
	waiting = 20 * time.Second
	tick    = 20 * time.Millisecond
)
