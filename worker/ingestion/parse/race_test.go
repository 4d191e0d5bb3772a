//go:build race

package parse

// hostileSize is the length of hostile texts; the race detector slows the work twentyfold.
const hostileSize = 1 << 14
