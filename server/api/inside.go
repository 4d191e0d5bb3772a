package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"kijko/server/openapi"
)

// Inside calls operations for the caller of a request, without a connection. It is for handlers that speak another protocol (MCP): the
// operation validates its input, holds scope and role, takes rate limits and units, and counts itself, as over HTTP. An Inside may outlive
// the Call that it was made of, and may be used by several goroutines.
type Inside struct {
	app                         *App
	caller                      *Caller
	requestID, clientIP, device string
	agent                       string
	peer                        net.Addr
}

// Inside returns the caller of a call, for calls of other operations.
func (c *Call) Inside() *Inside {
	return &Inside{app: c.app, caller: c.Caller, requestID: strings.Clone(c.RequestID), clientIP: strings.Clone(c.ClientIP), device: strings.Clone(c.Device),
		agent: string(c.Ctx.Request().Header.UserAgent()), peer: c.Ctx.Context().RemoteAddr()}
}

// Operation is a call of an operation.
type Operation struct {
	ID    string
	Path  map[string]string
	Query url.Values
	Body  any // JSON; nil: none
	// Header are further headers: Prefer.
	Header map[string]string
	// Free says that a unit was taken already for the work that this call is part of.
	Free bool
}

// Result is the answer of an operation.
type Result struct {
	Status int
	Body   []byte
	header *fasthttp.ResponseHeader
}

// Header returns a header of the answer.
func (r *Result) Header(name string) string { return string(r.header.Peek(name)) }

// Decode reads the JSON of the answer.
func (r *Result) Decode(into any) error { return json.Unmarshal(r.Body, into) }

// insideKey is the user value under which a request finds the Inside call that it is.
type insideKey struct{}

type insideCall struct {
	*Inside
	ctx     context.Context
	free    bool
	refused *Problem
}

// insideOf returns the Inside call that a request is; nil: it came over the network.
func insideOf(c *fiber.Ctx) *insideCall {
	in, _ := c.Context().UserValue(insideKey{}).(*insideCall)
	return in
}

// Do calls an operation. A refusal is returned as *Problem.
func (i *Inside) Do(ctx context.Context, o Operation) (*Result, error) {
	op := i.app.byID[o.ID]
	if op == nil || op.Access != openapi.User {
		return nil, fmt.Errorf("operation %s cannot be called from inside", o.ID)
	}
	request := &fasthttp.RequestCtx{}
	request.Init(&fasthttp.Request{}, i.peer, nil)
	header := &request.Request.Header
	header.SetMethod(op.Method)
	header.SetHost("inside")
	header.SetRequestURI(addressOf(op, o))
	header.SetUserAgent(i.agent)
	header.Set("X-Request-ID", i.requestID)
	for name, value := range o.Header {
		header.Set(name, value)
	}
	if o.Body != nil {
		raw, err := rawJSON(o.Body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.ID, err)
		}
		header.SetContentType(fiber.MIMEApplicationJSON)
		request.Request.SetBody(raw)
	}
	in := &insideCall{Inside: i, ctx: ctx, free: o.Free}
	request.SetUserValue(insideKey{}, in)
	c := i.app.AcquireCtx(request)
	defer i.app.ReleaseCtx(c)
	if err := i.app.serve(c); err != nil {
		return nil, err
	}
	if in.refused != nil {
		return nil, in.refused
	}
	r := &Result{Status: request.Response.StatusCode(), Body: request.Response.Body(), header: &request.Response.Header}
	if r.Status >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s answered %d", o.ID, r.Status)
	}
	return r, nil
}

func addressOf(op *openapi.Operation, o Operation) string {
	segments := strings.Split(op.Path, "/")
	for i, segment := range segments {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			segments[i] = url.PathEscape(o.Path[strings.TrimSuffix(name, "}")])
			if segments[i] == "" {
				segments[i] = "-" // an empty segment would name another operation
			}
		}
	}
	address := openapi.Prefix + strings.Join(segments, "/")
	if len(o.Query) > 0 {
		address += "?" + o.Query.Encode()
	}
	return address
}
