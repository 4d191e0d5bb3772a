//go:build race

package secret_test

import "time"

// hostileSize is the length of hostile texts, hostileLimit the processor time for each. The race detector slows the work twentyfold and
// clears the tokenizer's cache.
const (
	hostileSize  = 8 << 10
	hostileLimit = 3 * time.Second
)

// fewValues is how many values of each kind are tried in each form.
const fewValues = 4
