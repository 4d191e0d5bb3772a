//go:build !race

package secret_test

const hostileSize = 64 << 10
