//go:build !race

package optimize_test

// share divides the amount of real files that is looked at.
const share = 1
