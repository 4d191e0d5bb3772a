package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Checks of the request's framing, before an operation is chosen. fasthttp accepts more than RFC 9112 allows, and a proxy in front may read
// the same bytes differently. Fiber and fasthttp answer unreadable requests in plain text.

// framed refuses bytes that two readers could take for two different requests.
func framed(c *fiber.Ctx) error {
	header := &c.Request().Header
	if !bytes.HasPrefix(header.Protocol(), []byte("HTTP/1.")) {
		return unframed(c, versionUnknown())
	}
	hosts := 0
	for lines := header.RawHeaders(); len(lines) > 0; {
		line, rest, _ := bytes.Cut(lines, []byte{'\n'})
		lines = rest
		switch {
		case !bytes.HasSuffix(line, []byte{'\r'}):
			return unframed(c, unreadable("Lines of a request's head end with CR and LF.", nil))
		case line[0] == ' ' || line[0] == '\t':
			return unframed(c, unreadable("A header must not go on over several lines.", nil))
		case len(line) >= 5 && bytes.EqualFold(line[:5], []byte("host:")):
			hosts++
		}
	}
	switch {
	case hosts > 1:
		return unframed(c, unreadable("A request has one Host header.", nil))
	case hosts == 0 && header.IsHTTP11():
		return unframed(c, unreadable("A request of HTTP/1.1 needs a Host header.", nil))
	case bytes.ContainsAny(header.Host(), " \t,/\\?#@\"<>"):
		return unframed(c, unreadable("The Host header is no host.", nil))
	}
	return c.Next()
}

// unframed answers and ends the connection, because the beginning of the next request on it is uncertain.
func unframed(c *fiber.Ctx, p *Problem) error {
	c.Context().SetConnectionClose()
	if n := c.Request().Header.ContentLength(); n > 0 || n == -1 {
		readAway(c.Context().Conn())
	}
	return writeUnserved(c, p)
}

func writeUnserved(c *fiber.Ctx, p *Problem) error {
	id := requestID(c)
	c.Set("X-Request-ID", id)
	return p.write(c, id)
}

func unreadable(message string, cause error) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Message: message, cause: cause}
}

func versionUnknown() *Problem {
	return NewProblem(http.StatusHTTPVersionNotSupported, "HTTP_VERSION_NOT_SUPPORTED", "This server speaks HTTP/1.1 and HTTP/1.0.", "")
}

// known answers methods that Fiber does not know, including lower-case ones: methods are case-sensitive.
func (a *App) known(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if slices.Contains(fiber.DefaultMethods, string(ctx.Method())) {
			next(ctx)
			return
		}
		c := a.AcquireCtx(ctx)
		defer a.ReleaseCtx(c)
		a.protect(c)
		if origin := string(ctx.Request.Header.Peek(fiber.HeaderOrigin)); origin != "" {
			a.admitOrigin(c, origin)
		}
		_ = writeUnserved(c, unreadable("The method of the request is unknown. Methods are written in capital letters, as GET and POST.", nil))
		readBodyAway(c)
	}
}

// fail answers the error of a handler outside the operations.
func (a *App) fail(c *fiber.Ctx, err error) error {
	a.protect(c)
	return writeUnserved(c, problemOf(err))
}

// unreadable answers bytes that are not a request.
func (a *App) unreadable(ctx *fasthttp.RequestCtx, err error) {
	c := a.AcquireCtx(ctx)
	defer a.ReleaseCtx(c)
	a.protect(c)
	p := fromParser(err)
	if p.Status != http.StatusRequestTimeout {
		readAway(ctx.Conn())
	}
	if conn, ok := ctx.Conn().(*connection); ok && conn.origin != "" {
		a.admitOrigin(c, conn.origin)
	}
	_ = writeUnserved(c, p)
}

// fromParser maps fasthttp's errors to answers; fasthttp has no types for most of them.
func fromParser(err error) *Problem {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		return NewProblem(http.StatusRequestHeaderFieldsTooLarge, "HEADERS_TOO_LARGE", "The request's headers are too large.", "")
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "The request is too large.", "")
	case errors.As(err, &timeout) && timeout.Timeout():
		return NewProblem(http.StatusRequestTimeout, "REQUEST_TIMEOUT", "The request took too long to arrive.", "")
	// The text of the request, which the error may quote, comes after this prefix.
	case strings.HasPrefix(err.Error(), "error when reading request headers: unsupported HTTP version"):
		return versionUnknown()
	}
	return unreadable("The request could not be read.", err)
}

// readAway reads and discards what a refused client is still sending. Closing with unread bytes would reset the connection, and the client
// would never see the answer. It is bounded in bytes and time.
func readAway(conn net.Conn) {
	if conn == nil || conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, 1<<20)
}

// Listener serves, and records for each connection the origin of its requests. For a request with an unreadable head fasthttp gives no
// header, and without CORS headers a page cannot read the refusal.
func (a *App) Listener(ln net.Listener) error { return a.App.Listener(listener{ln}) }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn}, nil
}

// connection is read by one goroutine at a time.
type connection struct {
	net.Conn
	origin string
}

// maxOrigin is longer than any origin: a scheme, a host of 253 letters and a port.
const maxOrigin = 300

// Read looks for an Origin header in the arriving bytes. A header that is split between two segments is missed. One in a body does no harm:
// it is compared with the list, and only lets a page read the refusal.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for _, name := range [...]string{"\nOrigin:", "\norigin:"} {
		if _, rest, found := bytes.Cut(p[:n], []byte(name)); found {
			if value, _, whole := bytes.Cut(rest[:min(len(rest), maxOrigin)], []byte{'\n'}); whole && string(bytes.TrimSpace(value)) != c.origin {
				c.origin = string(bytes.TrimSpace(value))
			}
		}
	}
	return n, err
}

// SyscallConn is used to check whether the client is still connected.
func (c *connection) SyscallConn() (syscall.RawConn, error) {
	if raw, ok := c.Conn.(syscall.Conn); ok {
		return raw.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
