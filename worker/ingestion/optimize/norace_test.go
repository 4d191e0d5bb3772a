//go:build !race

package optimize_test

// share divides the number of real files that are tested.
const share = 1
