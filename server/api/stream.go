package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Times of event streams: how often a quiet one sends a keep-alive comment, and how long a client may take to accept what is sent.
const (
	keepAlive    = 15 * time.Second
	sendDeadline = 30 * time.Second
)

// EventStream is an answer of server-sent events. Its methods may be called by several goroutines.
type EventStream struct {
	conn net.Conn

	mu     sync.Mutex
	w      *bufio.Writer
	err    error
	cancel context.CancelFunc
}

// Send writes one event. An error means that the client is gone; later calls return it again.
func (s *EventStream) Send(event string, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return s.write("event: " + event + "\ndata: " + string(raw) + "\n\n")
}

// Write sends events that are encoded already, whole ones at a time. It is for protocols that number their events themselves.
func (s *EventStream) Write(events []byte) (int, error) {
	if err := s.write(string(events)); err != nil {
		return 0, err
	}
	return len(events), nil
}

func (s *EventStream) write(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if s.conn != nil {
		// The server's own write deadline was set for the beginning of the answer. A stream may last, but each piece has a deadline.
		_ = s.conn.SetWriteDeadline(time.Now().Add(sendDeadline))
	}
	if _, s.err = s.w.WriteString(text); s.err == nil {
		s.err = s.w.Flush()
	}
	if s.err != nil {
		s.cancel()
	}
	return s.err
}

// alive writes a comment at intervals, which also detects a closed connection.
func (s *EventStream) alive(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if s.write(": alive\n\n") != nil {
				return
			}
		}
	}
}

// Events answers with a stream of events. run works beside and after the handler, so it may use neither the Call nor anything of Fiber's,
// and the handler returns at once what Events returns. Its context ends when the client goes away or the server stops, and keeps the values
// of the call's context. When run returns, the stream ends.
func (c *Call) Events(run func(ctx context.Context, s *EventStream)) error {
	app, requestID := c.app, c.RequestID
	if app.streams.ctx.Err() != nil {
		return Unavailable("SERVICE_UNAVAILABLE", "The server is stopping. Please try again.", app.streams.ctx.Err())
	}
	c.Ctx.Set(fiber.HeaderContentType, "text/event-stream; charset=utf-8")
	c.Ctx.Set(fiber.HeaderCacheControl, "no-store")
	// Proxies that buffer answers would make a stream pointless.
	c.Ctx.Set("X-Accel-Buffering", "no")
	c.Ctx.Status(http.StatusOK)
	request := c.Ctx.Context()
	conn := request.Conn()
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context()))
	unhook := context.AfterFunc(app.streams.ctx, cancel)
	app.streams.wg.Add(1)
	write := func(w *bufio.Writer) {
		defer app.streams.wg.Done()
		defer unhook()
		defer cancel()
		here, leave := present(ctx, conn)
		defer leave()
		s := &EventStream{conn: conn, w: w, cancel: cancel}
		var keeping sync.WaitGroup
		quiet, hush := context.WithCancel(here)
		keeping.Go(func() { s.alive(quiet, app.streams.keepAlive) })
		// The writer goes back to a pool when this function ends.
		defer keeping.Wait()
		defer hush()
		defer func() {
			if v := recover(); v != nil {
				app.deps.Log.Error("stream failed", "request_id", requestID, "error", fmt.Sprintf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		run(here, s)
	}
	if request.Request.Header.IsHTTP11() {
		request.SetBodyStreamWriter(write)
		return nil
	}
	unchunked(ctx, request, write)
	return nil
}

// unchunked lets write make the body of an answer that ends with the connection: HTTP/1.0 has no chunks, and fasthttp sends a body of
// unknown length only in chunks. write runs in any case: when the server stops before the connection is handed over, without a reader.
func unchunked(ctx context.Context, request *fasthttp.RequestCtx, write func(*bufio.Writer)) {
	request.Response.Header.SetConnectionClose()
	taken, written := make(chan net.Conn, 1), make(chan struct{})
	go func() {
		defer close(written)
		select {
		case conn := <-taken:
			w := bufio.NewWriter(conn)
			_, _ = w.Write(request.Response.Header.Header())
			write(w)
			_ = w.Flush()
		case <-ctx.Done():
			write(bufio.NewWriter(io.Discard))
		}
	}()
	request.HijackSetNoResponse(true)
	request.Hijack(func(conn net.Conn) {
		taken <- conn
		<-written
	})
}

// streams are the open event streams of an App.
type streams struct {
	ctx       context.Context
	end       context.CancelFunc
	wg        sync.WaitGroup
	keepAlive time.Duration
}

func newStreams(every time.Duration) *streams {
	s := &streams{keepAlive: every}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// ShutdownWithContext stops like Fiber's: it accepts no new connections, and busy ones have until ctx ends. Streams that last longer are
// then ended through their contexts.
func (a *App) ShutdownWithContext(ctx context.Context) error {
	err := a.App.ShutdownWithContext(ctx)
	a.streams.end()
	a.streams.wg.Wait()
	return err
}
