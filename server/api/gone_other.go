//go:build !unix

package api

import "syscall"

// awaitClose cannot peek on this platform: a closed connection is noticed at the next write.
func awaitClose(syscall.RawConn) bool { return false }
