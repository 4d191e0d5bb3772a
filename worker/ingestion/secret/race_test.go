//go:build race

package secret_test

// hostileSize is the length of hostile texts: the race detector slows the work twentyfold.
const hostileSize = 8 << 10
