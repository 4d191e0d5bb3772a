//go:build !race

package secret_test

import "time"

// hostileSize is the length of hostile texts. hostileLimit is the processor time for each: three times the longest time measured.
const (
	hostileSize  = 64 << 10
	hostileLimit = 250 * time.Millisecond
)

// fewValues is how many values of each kind are tried in each form.
const fewValues = 20
