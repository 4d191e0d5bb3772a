package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gofiber/fiber/v2"
)

// File answers with a file that write makes piece by piece, so that no whole file is in memory. write runs after the handler has returned,
// so it may use neither the Call nor anything of Fiber's. Its context ends when the client goes away or the server stops. If write fails,
// the client sees a truncated answer and never a file that looks complete.
func (c *Call) File(name, contentType string, write func(ctx context.Context, w io.Writer) error) error {
	return c.SizedFile(name, contentType, -1, write)
}

// SizedFile is File for a file whose size is known: the answer has a Content-Length. A negative size is unknown.
func (c *Call) SizedFile(name, contentType string, size int, write func(ctx context.Context, w io.Writer) error) error {
	app, requestID := c.app, c.RequestID
	if app.streams.ctx.Err() != nil {
		return Unavailable("SERVICE_UNAVAILABLE", "The server is stopping. Please try again.", app.streams.ctx.Err())
	}
	c.Ctx.Set(fiber.HeaderContentType, contentType)
	c.Ctx.Set(fiber.HeaderContentDisposition, fmt.Sprintf("attachment; filename=%q", name))
	c.Ctx.Set(fiber.HeaderCacheControl, "no-store")
	c.Ctx.Status(http.StatusOK)
	request := c.Ctx.Context()
	conn := request.Conn()
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context()))
	unhook := context.AfterFunc(app.streams.ctx, cancel)
	app.streams.wg.Add(1)
	run := func(w io.Writer) (err error) {
		defer app.streams.wg.Done()
		defer unhook()
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, io.ErrClosedPipe) {
				app.deps.Log.Error("file broken off", "request_id", requestID, "error", err.Error())
			}
		}()
		return write(ctx, patient{conn: conn, w: w})
	}
	if !request.Request.Header.IsHTTP11() {
		unchunked(ctx, request, func(w *bufio.Writer) { _ = run(w) })
		return nil
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(run(w)) }()
	request.SetBodyStream(&fileBody{PipeReader: r, left: cancel}, size)
	return nil
}

// patient extends the deadline of the connection with each piece: a file may take long, but one piece of it may not.
type patient struct {
	conn net.Conn
	w    io.Writer
}

func (p patient) Write(b []byte) (int, error) {
	if p.conn != nil {
		_ = p.conn.SetWriteDeadline(time.Now().Add(sendDeadline))
	}
	return p.w.Write(b)
}

// fileBody notifies the writer when the reader is gone.
type fileBody struct {
	*io.PipeReader
	left context.CancelFunc
}

func (b *fileBody) Close() error {
	b.left()
	return b.PipeReader.Close()
}
