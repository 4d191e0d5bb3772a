//go:build !race

package secret_test

import "time"

// hostileSize is the length of hostile texts, hostileLimit the processor time of each: three times the worst that was seen.
const (
	hostileSize  = 64 << 10
	hostileLimit = 250 * time.Millisecond
)

// fewValues is how many values of each kind are tried in each form.
const fewValues = 20
