//go:build race

package secret_test

import "time"

// hostileSize is the length of hostile texts, hostileLimit the processor time of each. The race detector slows the work twentyfold and lets
// the tokenizer forget what it remembers.
const (
	hostileSize  = 8 << 10
	hostileLimit = 3 * time.Second
)

// fewValues is how many values of each kind are tried in each form.
const fewValues = 4
