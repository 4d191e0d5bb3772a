//go:build race

package optimize_test

// share is the part of the real files that is looked at: the race detector slows the reference tokenizer twentyfold.
const share = 8
