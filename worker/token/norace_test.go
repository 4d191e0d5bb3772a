//go:build !race

package token_test

// share divides the amount of real files that is looked at.
const share = 1
