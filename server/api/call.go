package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/trace"

	"kijko/server/openapi"
	"kijko/worker/exactjson"
)

// Handler answers an operation in Go. It returns an error (a *Problem, or anything problemOf knows) or has written the answer.
type Handler func(*Call) error

// Call is one request to a Go handler, already authenticated, rate-limited and validated.
type Call struct {
	// Ctx is Fiber's context. Its strings are valid only until the handler returns: copy those that outlive it.
	Ctx       *fiber.Ctx
	Op        *openapi.Operation
	Caller    *Caller
	RequestID string
	ClientIP  string
	// Device is the client's description of itself: a Device as JSON.
	Device string
	// Params holds path, query and body as the JSON that SQL functions take.
	Params []byte
	// Body is the validated JSON body; nil for streamed uploads, whose handler reads Stream.
	Body []byte

	app     *App
	span    trace.Span // ended with the request; nil when there is no operation
	pathOf  func(string) string
	keyHash []byte
	key     string
	// units says that a unit of api_calls was taken for this request, which came with an API key.
	units bool
	// code is the error code of the refusal.
	code string
	// inside is set when the request was made by Inside.Do.
	inside *insideCall
}

// peerKey is the context key under which an authentication finds its Call.
type peerKey struct{}

// PeerOf returns address and device of the client that is being authenticated, for the record of sign-ins. Both are empty when the context
// belongs to no request.
func PeerOf(ctx context.Context) (clientIP, device string) {
	if c, ok := ctx.Value(peerKey{}).(*Call); ok {
		return c.ClientIP, c.Device
	}
	return "", ""
}

// Context returns the context of the request, which is canceled at its timeout.
func (c *Call) Context() context.Context { return c.Ctx.UserContext() }

// Path returns a path parameter.
func (c *Call) Path(name string) string { return c.pathOf(name) }

// Stream returns the request body as it arrives, for operations whose body is not JSON.
func (c *Call) Stream() io.Reader {
	if stream := c.Ctx.Context().RequestBodyStream(); stream != nil {
		return stream
	}
	return newBytesReader(c.Ctx.Body())
}

// ReadAll returns the whole raw body, up to the operation's limit.
func (c *Call) ReadAll() ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(c.Stream(), c.Op.MaxBody+1))
	if err != nil {
		return nil, &Problem{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Message: "The request body could not be read.", cause: err}
	}
	if int64(len(raw)) > c.Op.MaxBody {
		return nil, refuseBody(c.Ctx, c.Op)
	}
	return raw, nil
}

// Keyed reports whether the request carries an Idempotency-Key.
func (c *Call) Keyed() bool { return c.key != "" }

// Key returns the request's Idempotency-Key, or "".
func (c *Call) Key() string { return c.key }

// Fingerprint returns the digest of the request under its Idempotency-Key; nil without one.
func (c *Call) Fingerprint() []byte { return c.keyHash }

// SetFingerprint sets the fingerprint of an Idempotency-Key when the body is streamed: the digest of the received bytes.
func (c *Call) SetFingerprint(sum []byte) { c.keyHash = sum }

// Decode reads the validated body into Go values. Member names are compared exactly, as the schema and Postgres do.
func (c *Call) Decode(into any) error { return decode(c.Body, into) }

func decode(raw []byte, into any) error {
	err := exactjson.Unmarshal(raw, into)
	if err == nil {
		return nil
	}
	return (&Problem{Status: http.StatusBadRequest, Code: "VALIDATION_ERROR", Message: "The request body does not have the right form."}).Because(err)
}

// Query runs api.<function> as the caller, under the request's Idempotency-Key if it has one.
func (c *Call) Query(ctx context.Context, function string, p any) (Answer, error) {
	return c.QueryWithin(ctx, 0, function, p)
}

// QueryWithin is Query for the rare operation whose statement may take longer than the limit of requests. 0 is that limit.
func (c *Call) QueryWithin(ctx context.Context, limit time.Duration, function string, p any) (Answer, error) {
	raw, err := rawJSON(p)
	if err != nil {
		return Answer{}, err
	}
	r := c.request(ctx)
	r.SQL, r.Args, r.Within = CallSQL(function), []any{raw}, limit
	if c.key != "" && !c.Op.ReadOnly && c.Caller != nil && c.Caller != Service {
		r.SQL, r.Args = KeyedSQL(function), []any{raw, c.key, c.keyHash}
	}
	return c.app.exec.Run(ctx, r)
}

// Server runs private.<function>, which only the server may call, in the server's role.
func (c *Call) Server(ctx context.Context, function string, p any) (Answer, error) {
	raw, err := rawJSON(p)
	if err != nil {
		return Answer{}, err
	}
	r := c.request(ctx)
	r.Caller, r.Payer, r.AsServer = nil, r.Caller, true
	r.SQL, r.Args = ServerSQL(function), []any{raw}
	return c.app.exec.Run(ctx, r)
}

func (c *Call) request(context.Context) *Request {
	return &Request{Caller: c.Caller, Needs: c.Op.Scope, ReadOnly: c.Op.ReadOnly, Unrestricted: c.Op.Unrestricted, RequestID: c.RequestID, ClientIP: c.ClientIP, Device: c.Device}
}

// Reply writes Postgres's answer.
func (c *Call) Reply(a Answer) error { return c.app.reply(c.Ctx, c.Op, a) }

// JSON writes a value with the operation's success status.
func (c *Call) JSON(value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return c.app.reply(c.Ctx, c.Op, Answer{Body: raw})
}

func rawJSON(p any) ([]byte, error) {
	switch v := p.(type) {
	case []byte:
		return v, nil
	case json.RawMessage:
		return v, nil
	}
	return json.Marshal(p)
}

// params builds the function's argument: path and query parameters at top level, the body undecoded under "body".
func (e *endpoint) params(c *fiber.Ctx, values []string, body []byte) ([]byte, error) {
	buf := make([]byte, 0, 64+len(body))
	buf = append(buf, '{')
	if len(e.op.Params) > 0 {
		// An operation without query parameters ignores the query, whatever it contains.
		var query url.Values
		var err error
		if slices.ContainsFunc(e.op.Params, func(p openapi.Param) bool { return p.In == "query" }) {
			if query, err = parseQuery(c); err != nil {
				return nil, err
			}
		}
		if buf, err = e.op.AppendParams(buf, func(name string) string { return e.pathValue(values, name) }, query); err != nil {
			return nil, err
		}
	}
	if body != nil {
		buf = append(append(buf, `"body":`...), body...)
	} else if buf[len(buf)-1] == ',' {
		buf = buf[:len(buf)-1]
	}
	return append(buf, '}'), nil
}

// fingerprint identifies the request of an Idempotency-Key: the operation's parameters and body.
func fingerprint(p []byte) []byte {
	sum := sha256.Sum256(p)
	return sum[:]
}

// readBody reads at most the operation's limit. Bodies that are not JSON stay in the stream for the handler.
func readBody(c *fiber.Ctx, op *openapi.Operation) ([]byte, error) {
	// A form of another site can send the cookie along, but JSON only after a preflight.
	if op.Cookie == openapi.CookieSession && op.HasBody() && !isJSONExactly(c) {
		return nil, NewProblem(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "The content type must be application/json.", "")
	}
	if c.Request().Header.ContentLength() > int(op.MaxBody) {
		return nil, refuseBody(c, op)
	}
	if !op.HasBody() || (op.BodyType != "application/json" && !isJSON(c)) {
		return nil, nil
	}
	stream := c.Context().RequestBodyStream()
	if stream == nil {
		return op.CheckBody(c.Body())
	}
	limit := op.MaxBody
	if op.BodyType != "application/json" {
		// The operation's limit is for files. A body that is held in memory as a whole has a smaller limit.
		limit = min(limit, openapi.DefaultMaxBody)
	}
	raw, err := io.ReadAll(io.LimitReader(stream, limit+1))
	if err != nil {
		return nil, &Problem{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Message: "The request body could not be read.", cause: err}
	}
	if int64(len(raw)) > limit {
		return nil, refuseBody(c, op)
	}
	return op.CheckBody(raw)
}

// drained is how much of an unread body is read and discarded. Without this, a client that is still sending sees a reset connection instead
// of the answer. Beyond this limit the connection is simply closed.
const drained = 32 << 20

func refuseBody(c *fiber.Ctx, op *openapi.Operation) *Problem {
	if stream := c.Context().RequestBodyStream(); stream != nil {
		_, _ = io.CopyN(io.Discard, stream, drained)
	}
	c.Context().SetConnectionClose()
	return tooLarge(op)
}

// wholly reads a request to its last byte. A request that was refused early (no token, no such route, too many calls) has an unread body.
// The server would take the rest of it for the next request on the connection; behind a proxy, another client could get the answer.
func wholly(c *fiber.Ctx) error {
	err := c.Next()
	readBodyAway(c)
	return err
}

func readBodyAway(c *fiber.Ctx) {
	stream := c.Context().RequestBodyStream()
	if stream == nil || c.Response().ConnectionClose() {
		return
	}
	// The header of a chunked body does not show whether its end was read.
	if c.Request().Header.ContentLength() < 0 {
		c.Context().SetConnectionClose()
	} else if _, unread := io.CopyN(io.Discard, stream, drained); !errors.Is(unread, io.EOF) {
		c.Context().SetConnectionClose()
	}
}

func tooLarge(op *openapi.Operation) *Problem {
	p := NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "The request body is too large.", "")
	p.Details, _ = json.Marshal(map[string]int64{"maxBytes": op.MaxBody})
	return p
}

// millis returns a duration in milliseconds with one decimal, for headers.
func millis(d time.Duration) float64 { return float64(d.Microseconds()/100) / 10 }
