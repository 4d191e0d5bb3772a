package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"kijko/server/openapi"
)

// Authenticator turns a Bearer token into a caller. It returns a *Problem (401 UNAUTHENTICATED, 503 AUTH_UNAVAILABLE).
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (*Caller, error)
}

// Deps are the dependencies of the edge. Only Document and Exec are required.
type Deps struct {
	Document *openapi.Document
	Exec     *Executor
	Auth     Authenticator
	// Keys checks API keys; nil: there are none.
	Keys Keys
	// Handlers answer the operations without x-function, by operationId.
	Handlers map[string]Handler
	// Mount registers routes that are not operations of the document: WebSockets, static pages. Called before the operations.
	Mount   func(*fiber.App)
	Checks  []Check
	Origins Origins
	// ClientIP evaluates X-Forwarded-For; the default is the peer's address.
	ClientIP func(peer string, forwarded []string) string
	Version  string
	Log      *slog.Logger
	Registry *prometheus.Registry
	// MetricsToken opens /metrics; empty closes it.
	MetricsToken string
	// HTTPS says that clients reach this server by https, possibly through a proxy.
	HTTPS bool
	// Development keeps a token that was typed into the page at /docs across reloads.
	Development bool
	// PerCaller limits each caller's calls per minute in this process; 0 switches it off.
	PerCaller int
	// ServiceToken opens the operations with x-access service; empty closes them.
	ServiceToken string
	// Visited is called after the answer when a caller used a project; file is the path's fileId.
	Visited func(op *openapi.Operation, caller *Caller, project, file string)
	// Called is called for each call of a caller, before an answer that is no refusal is sent. It must not block, and must copy what it
	// keeps.
	Called func(c *Call)
	// Observe is called with every answer (tests check it against the document).
	Observe func(op *openapi.Operation, status int, body []byte)
	// Greeting is added to the answer of `GET /`.
	Greeting map[string]any
	// Timeout bounds one request; default 15 s.
	Timeout time.Duration
	// KeepAlive is how often a quiet event stream sends a keep-alive comment; default 15 s.
	KeepAlive time.Duration
}

// App is the edge.
type App struct {
	*fiber.App
	deps    Deps
	exec    *Executor
	routes  *routes
	byID    map[string]*openapi.Operation
	caller  *Limiter
	health  *health
	streams *streams
	slow    time.Duration
	tracer  trace.Tracer
	other   *meter
}

// New connects document, handlers and database to an app. It fails when an operation has neither a function nor a handler.
func New(deps Deps) (*App, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Timeout == 0 {
		deps.Timeout = 15 * time.Second
	}
	if deps.KeepAlive == 0 {
		deps.KeepAlive = keepAlive
	}
	a := &App{deps: deps, exec: deps.Exec, routes: &routes{}, byID: map[string]*openapi.Operation{}, streams: newStreams(deps.KeepAlive), slow: time.Second, tracer: otel.Tracer("kijko/server")}
	a.health = newHealth(deps.Version, deps.Checks)
	if deps.Registry != nil {
		deps.Registry.MustRegister(newCheckCollector(a.health))
	}
	if deps.PerCaller > 0 {
		a.caller = newLimiter(&openapi.Rate{Limit: deps.PerCaller, Per: 60, Key: []string{"user"}})
	}
	a.App = fiber.New(fiber.Config{
		AppName: "Kijko", DisableStartupMessage: true, StreamRequestBody: true, DisablePreParseMultipartForm: true, BodyLimit: 64 << 10, ReadBufferSize: 24 << 10,
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 75 * time.Second, ErrorHandler: a.fail,
		DisableDefaultContentType: true, UnescapePath: false, CaseSensitive: true,
	})
	var registry prometheus.Registerer
	if deps.Registry != nil {
		registry = deps.Registry
	}
	meters := newMeters(registry)
	a.other = meters.of("none")
	if err := a.mountOperations(meters); err != nil {
		return nil, err
	}
	a.Use(a.guard, wholly, a.cors, framed)
	server := a.Server()
	server.Handler, server.ErrorHandler = a.known(server.Handler), a.unreadable
	if deps.Mount != nil {
		deps.Mount(a.App)
	}
	a.mountPages()
	a.Use(a.serve)
	return a, nil
}

func (a *App) mountOperations(meters *meters) error {
	for _, op := range a.deps.Document.Operations {
		handler := a.deps.Handlers[op.ID]
		if handler == nil {
			handler = a.publicHandler(op.ID)
		}
		// A handler may run before the function that the document names (it contacts an outside service first).
		if op.Function == "" && handler == nil {
			return fmt.Errorf("api: operation %s needs either x-function or a Go handler", op.ID)
		}
		e := &endpoint{op: op, handler: handler, rate: newLimiter(op.Rate), meter: meters.of(op.ID)}
		if op.Function != "" {
			e.sql, e.keyed = CallSQL(op.Function), KeyedSQL(op.Function)
		}
		a.routes.add(op.Path, e)
		a.byID[op.ID] = op
	}
	return nil
}

// operationPath strips the base path: /api/v1 and its alias /api. Health, MCP and the operations for outside callers also exist
// without a prefix.
func operationPath(path string) (string, bool) {
	const v1, alias = openapi.Prefix, "/api"
	switch {
	case len(path) > len(v1) && path[:len(v1)] == v1 && path[len(v1)] == '/':
		return path[len(v1):], true
	case len(path) > len(alias) && path[:len(alias)] == alias && path[len(alias)] == '/':
		return path[len(alias):], true
	case strings.HasPrefix(path, "/webhooks/"):
		return path, true
	case path == "/mcp" || path == "/health" || path == "/health/live" || path == "/health/ready":
		return path, true
	}
	return "", false
}

// serve answers one request.
func (a *App) serve(c *fiber.Ctx) (err error) {
	began := time.Now()
	id := requestID(c)
	c.Set("X-Request-ID", id)
	call := &Call{Ctx: c, app: a, RequestID: id, inside: insideOf(c)}
	parent := context.Background()
	if in := call.inside; in != nil {
		parent, call.ClientIP, call.Device = in.ctx, in.clientIP, in.device
	} else {
		call.ClientIP, call.Device = a.clientIP(c), deviceJSON(c.Request().Header.UserAgent())
	}
	var e *endpoint
	defer func() {
		if v := recover(); v != nil {
			err = internal(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
		}
		if err != nil {
			err = a.refuse(call, e, err)
		}
		a.finish(call, e, began)
	}()

	path, ok := operationPath(c.Path())
	if !ok {
		return notFound()
	}
	var scratch [4]string
	var values []string
	e, values, err = a.routes.find(c.Method(), path, scratch[:0])
	if err != nil {
		return err
	}
	call.Op, call.pathOf = e.op, func(name string) string { return e.pathValue(values, name) }

	ctx, cancel := context.WithTimeout(parent, a.deps.Timeout)
	if e.handler != nil {
		// Handlers limit their own outside calls. Uploads last as long as bytes keep coming.
		cancel()
		ctx, cancel = context.WithCancel(parent)
	}
	defer cancel()
	ctx, span := a.tracer.Start(ctx, e.op.ID, trace.WithSpanKind(trace.SpanKindServer))
	call.span = span
	if span.IsRecording() {
		span.SetAttributes(attribute.String("http.request.method", e.op.Method), attribute.String("http.route", e.op.Path),
			attribute.String("kijko.request_id", id))
	}
	c.SetUserContext(ctx)

	if err := a.admit(ctx, call, e); err != nil {
		return err
	}
	tokenDone := time.Now()
	if call.Body, err = readBody(c, e.op); err != nil {
		return err
	}
	if call.Params, err = e.params(c, values, call.Body); err != nil {
		return err
	}
	call.key = string(c.Request().Header.Peek("Idempotency-Key"))
	if call.key != "" {
		call.keyHash = fingerprint(call.Params)
	}
	if e.handler != nil {
		return e.handler(call)
	}
	request := &Request{Caller: call.Caller, Needs: e.op.Scope, SQL: e.sql, Args: []any{call.Params}, ReadOnly: e.op.ReadOnly, Unrestricted: e.op.Unrestricted,
		RequestID: id, ClientIP: call.ClientIP, Device: call.Device}
	if call.key != "" && !e.op.ReadOnly && call.Caller != nil && call.Caller != Service {
		request.SQL, request.Args = e.keyed, []any{call.Params, call.key, call.keyHash}
	}
	answer, spent, err := a.exec.run(ctx, request)
	c.Set("Server-Timing", fmt.Sprintf("token;dur=%.1f, pool;dur=%.1f, db;dur=%.1f",
		millis(tokenDone.Sub(began)), millis(spent.pool), millis(spent.db)))
	if err != nil {
		return err
	}
	return a.reply(c, e.op, answer)
}

// admit checks the credential and the rate limits.
func (a *App) admit(ctx context.Context, call *Call, e *endpoint) error {
	err := a.identify(ctx, call, e)
	if err == nil && a.caller != nil && call.Caller != nil && call.Caller != Service && call.inside == nil {
		if err := a.caller.take(call.Caller.UserID); err != nil {
			return err
		}
	}
	if err == nil && call.Caller != nil && call.Caller.Key != nil {
		err = a.admitKey(ctx, call, e)
	}
	if err != nil {
		if e.op.Cookie != openapi.CookieAttribution {
			return err
		}
		// The credential only says who calls, so one that cannot be used is ignored.
		call.Caller = nil
	}
	if e.rate != nil {
		if err := e.rate.take(call.rateKey(e.op.Rate)); err != nil {
			return err
		}
	}
	if e.op.SharedRate != nil {
		person, organization := call.request(ctx).payers()
		headers, err := a.exec.takeShared(ctx, person, organization, call.rateKey(e.op.SharedRate), e.op.SharedRate)
		if err != nil {
			return err
		}
		for name, value := range headers {
			call.Ctx.Set(name, value)
		}
	}
	return nil
}

// identify finds the caller that the credential names.
func (a *App) identify(ctx context.Context, call *Call, e *endpoint) (err error) {
	token, given := bearer(call.Ctx)
	switch {
	case call.inside != nil:
		call.Caller = call.inside.caller
	case e.op.Access == openapi.Service:
		return a.admitService(ctx, call, token)
	case e.op.Access == openapi.Public, e.op.Access == openapi.Handled && !IsKey(token):
	case !given:
		if call.Caller, err = a.byCookie(ctx, call); err == nil && call.Caller == nil && e.op.Access != openapi.Optional {
			return NewProblem(http.StatusUnauthorized, "UNAUTHENTICATED", "Please sign in.", "")
		}
	case IsKey(token) && a.deps.Keys != nil:
		call.Caller, err = a.deps.Keys.Find(ctx, token, call.ClientIP)
	case a.deps.Auth == nil:
		return Unavailable("AUTH_UNAVAILABLE", "Sign-in is not available.", nil)
	default:
		call.Caller, err = a.deps.Auth.Authenticate(context.WithValue(ctx, peerKey{}, call), token)
	}
	return err
}

// admitService accepts the service token. A user with a valid token is refused with 403, not as an unknown caller.
func (a *App) admitService(ctx context.Context, call *Call, token string) error {
	if a.deps.ServiceToken != "" && constantEqual(token, a.deps.ServiceToken) {
		call.Caller = Service
		return nil
	}
	if IsKey(token) && a.deps.Keys != nil {
		caller, err := a.deps.Keys.Find(ctx, token, call.ClientIP)
		if err != nil {
			return err
		}
		// A revoked key gets its own error. Other keys are refused like their users.
		return a.authorizeKey(ctx, call, caller, openapi.ScopeNever)
	}
	if a.deps.Auth != nil && token != "" {
		if _, err := a.deps.Auth.Authenticate(ctx, token); err != nil {
			return err
		}
		return NewProblem(http.StatusForbidden, "FORBIDDEN", "Only the service itself may do this.", "")
	}
	return NewProblem(http.StatusUnauthorized, "UNAUTHENTICATED", "Please sign in.", "")
}

// reply sends the operation's answer. GETs carry an ETag, so that pollers transfer changes only.
func (a *App) reply(c *fiber.Ctx, op *openapi.Operation, answer Answer) error {
	for name, value := range answer.Headers {
		c.Set(name, value)
	}
	status := op.Success
	if answer.Status != 0 {
		status = answer.Status
	}
	if status == http.StatusNoContent {
		c.Status(status)
		a.observe(op, status, nil)
		return nil
	}
	body := answer.Body
	if body == nil {
		body = []byte("null")
	}
	a.observe(op, status, body)
	c.Set(fiber.HeaderContentType, "application/json")
	c.Set(fiber.HeaderCacheControl, "no-store")
	// A condition applies only to a success answer: a readiness of 503 is never "not modified".
	if op.Method == http.MethodGet && status < 300 {
		var tag [20]byte
		etag := string(append(strconv.AppendUint(append(tag[:0], `W/"`...), xxhash.Sum64(body), 36), '"'))
		c.Set(fiber.HeaderETag, etag)
		c.Set(fiber.HeaderCacheControl, "private, no-cache")
		if matchesTag(c, etag) {
			c.Status(http.StatusNotModified)
			return nil
		}
	}
	return c.Status(status).Send(body)
}

func (a *App) observe(op *openapi.Operation, status int, body []byte) {
	if a.deps.Observe != nil {
		a.deps.Observe(op, status, body)
	}
}

// refuse writes the problem and logs errors of the server.
func (a *App) refuse(call *Call, e *endpoint, err error) error {
	p := problemOf(err)
	if e != nil {
		p.repeat(e.op.ProblemMember)
	}
	call.code = p.Code
	if call.inside != nil {
		call.inside.refused = p
	}
	if p.Status >= 500 {
		level := slog.LevelWarn
		if p.Status == http.StatusInternalServerError {
			level = slog.LevelError
		}
		a.deps.Log.Log(context.Background(), level, "request failed", "request_id", call.RequestID, "code", p.Code, "error", fmt.Sprint(causeOf(p)))
	}
	if err := p.write(call.Ctx, call.RequestID); err != nil {
		return err
	}
	if e != nil {
		a.observe(e.op, p.Status, call.Ctx.Response().Body())
	}
	return nil
}

func causeOf(p *Problem) error {
	if p.cause != nil {
		return p.cause
	}
	return errors.New(p.Message)
}

// finish records metrics and logs. Health probes are not logged.
func (a *App) finish(call *Call, e *endpoint, began time.Time) {
	took := time.Since(began)
	status := call.Ctx.Response().StatusCode()
	call.Ctx.Set("X-Process-Time", strconv.FormatInt(took.Milliseconds(), 10)+"ms")
	if call.span != nil {
		call.span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= 500 {
			call.span.SetStatus(codes.Error, "")
		}
		call.span.End()
	}
	m, route := a.other, "none"
	if e != nil {
		m, route = e.meter, e.op.Path
	}
	m.observe(status, took)
	a.finishKey(call, status)
	if a.deps.Called != nil && status < 400 && call.Caller != nil && call.Caller != Service {
		a.deps.Called(call)
	}
	if a.deps.Visited != nil && status < 300 && call.Caller != nil && call.Caller != Service {
		// A context is a project.
		if project := cmp.Or(call.Path("projectId"), call.Path("contextId")); project != "" {
			a.deps.Visited(e.op, call.Caller, strings.Clone(project), strings.Clone(call.Path("fileId")))
		}
	}
	level, message := slog.LevelInfo, "request"
	if took > a.slow {
		level, message = slog.LevelWarn, "slow request"
	}
	if e != nil && e.op.Access == openapi.Public && e.op.Method == http.MethodGet || !a.deps.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("request_id", call.RequestID), slog.String("method", call.Ctx.Method()), slog.String("route", route),
		slog.Int("status", status), slog.Float64("ms", millis(took)))
	if call.Caller != nil && call.Caller != Service {
		attrs = append(attrs, slog.String("user", call.Caller.UserID), slog.String("org", call.Caller.OrgHint))
	}
	a.deps.Log.LogAttrs(context.Background(), level, message, attrs...)
}
