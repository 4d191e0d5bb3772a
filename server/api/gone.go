package api

import (
	"context"
	"net"
	"syscall"
	"time"
)

// Present gives a context that ends with the parent, and as soon as the client has closed its connection: for handlers that wait for
// somebody whose work costs money. stop must be called before the handler returns (or, of a stream, before its last byte).
//
// fasthttp does not look at a connection while a handler runs. A look at its next byte that takes nothing away tells: there is none and
// never will be when the client has gone. A client that already sends its next request hides its going; then nothing is told.
func (c *Call) Present(parent context.Context) (ctx context.Context, stop func()) {
	return present(parent, c.Ctx.Context().Conn())
}

func present(parent context.Context, conn net.Conn) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	raw, ok := rawConn(conn)
	// Until stop the connection's reading belongs to the look; the deadline of the request's arrival is over.
	if !ok || conn.SetReadDeadline(time.Time{}) != nil {
		return ctx, cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if awaitClose(raw) {
			cancel()
		}
	}()
	return ctx, func() {
		cancel()
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes the look; a closed connection needs no waking
		<-done
		_ = conn.SetReadDeadline(time.Time{})
	}
}

func rawConn(conn net.Conn) (syscall.RawConn, bool) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil, false
	}
	raw, err := c.SyscallConn()
	return raw, err == nil
}
