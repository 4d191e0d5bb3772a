//go:build unix

package api

import "syscall"

// awaitClose waits until there is something to read or the other side has closed; it returns true for the latter. A read deadline in the
// past ends it.
func awaitClose(raw syscall.RawConn) bool {
	closed := false
	err := raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			return false
		}
		closed = err != nil || n == 0
		return true
	})
	return err == nil && closed
}
