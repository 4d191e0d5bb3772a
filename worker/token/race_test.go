//go:build race

package token_test

// share divides the number of real files that are tested: the race detector slows the reference tokenizer twentyfold.
const share = 8
