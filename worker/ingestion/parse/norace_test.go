//go:build !race

package parse

// hostileSize is the length of hostile texts.
const hostileSize = 1 << 18
