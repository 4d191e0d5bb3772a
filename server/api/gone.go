package api

import (
	"context"
	"net"
	"syscall"
	"time"
)

// Present returns a context that ends with the parent, and as soon as the client has closed its connection. It is for handlers that wait
// for expensive outside work. stop must be called before the handler returns (or, for a stream, before its last byte).
//
// fasthttp does not look at a connection while a handler runs. Present peeks at the next byte of the connection without consuming it. When
// the client has closed the connection, the peek reports the end. A client that already sends its next request hides its closing; then
// Present does not notice it.
func (c *Call) Present(parent context.Context) (ctx context.Context, stop func()) {
	return present(parent, c.Ctx.Context().Conn())
}

func present(parent context.Context, conn net.Conn) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	raw, ok := rawConn(conn)
	// Until stop, only the peek reads the connection. The read deadline of the request is cleared.
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
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes the peek; a closed connection needs no waking
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
