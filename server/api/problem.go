package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgconn"

	"kijko/server/openapi"
	"kijko/worker/storage"
)

// Problem is an RFC 9457 answer. Clients see its fields and the request id, never SQL text, hints or stacks.
type Problem struct {
	Status  int
	Code    string
	Message string
	Field   string
	Details json.RawMessage
	// Header carries the headers of the refusal: Retry-After, Allow, WWW-Authenticate.
	Header map[string]string
	// Members are added to the document, for a feature whose contract has more members than RFC 9457.
	Members map[string]any
	// cause is for the log.
	cause error
}

func (p *Problem) Error() string { return p.Code + ": " + p.Message }

// Unwrap returns the cause, which the log shows and the client does not see.
func (p *Problem) Unwrap() error { return p.cause }

// NewProblem makes a refusal from Go code; most refusals come from Postgres (private.refuse).
func NewProblem(status int, code, message, field string) *Problem {
	return &Problem{Status: status, Code: code, Message: message, Field: field}
}

// Unavailable is the answer while a dependency is unavailable. The cause is only logged.
func Unavailable(code, message string, cause error) *Problem {
	return &Problem{Status: http.StatusServiceUnavailable, Code: code, Message: message, cause: cause,
		Header: map[string]string{fiber.HeaderRetryAfter: "1"}}
}

func internal(cause error) *Problem {
	return &Problem{Status: http.StatusInternalServerError, Code: "INTERNAL", cause: cause,
		Message: "Something went wrong on our side. Please try again, and tell us the request id if it stays."}
}

// repeat adds a member with the text, for clients that read no other.
func (p *Problem) repeat(member string) {
	if member == "" {
		return
	}
	members := map[string]any{member: p.Message}
	maps.Copy(members, p.Members)
	p.Members = members
}

// Because returns the problem with a cause, which the log shows and the client does not see.
func (p *Problem) Because(cause error) *Problem {
	p.cause = cause
	return p
}

// ProblemOf returns the answer to an error, for handlers that add to it.
func ProblemOf(err error) *Problem { return problemOf(err) }

// problemOf is the only mapping from errors to answers.
func problemOf(err error) *Problem {
	var p *Problem
	var fault *openapi.Fault
	var pg *pgconn.PgError
	var fe *fiber.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &fault):
		return NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", fault.Message, fault.Field)
	case errors.As(err, &pg):
		return fromPostgres(pg)
	case errors.As(err, &fe):
		return fromFiber(fe)
	case errors.Is(err, storage.ErrUnavailable):
		return Unavailable("STORAGE_UNAVAILABLE", "Files cannot be stored or read at the moment. Please try again.", err)
	case errors.As(err, new(databaseError)) && isConnection(err):
		return Unavailable("SERVICE_UNAVAILABLE", "The database cannot be reached at the moment. Please try again.", err)
	case errors.Is(err, context.Canceled):
		// The client closed the connection, or the server stops: not a server error.
		return Unavailable("SERVICE_UNAVAILABLE", "The request was given up. Please try again.", err)
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable("TIMEOUT", "This took too long and was stopped. Please try again.", err)
	case isNetwork(err):
		return Unavailable("SERVICE_UNAVAILABLE", "Something that this needs cannot be reached at the moment. Please try again.", err)
	}
	return internal(err)
}

// databaseError marks errors of database calls. The end of a connection or a timeout does not show which dependency failed, and errors of
// files look like those of sockets.
type databaseError struct{ error }

func (e databaseError) Unwrap() error { return e.error }

// FromDatabase marks an error of a database call that did not use the Executor.
func FromDatabase(err error) error {
	if err == nil {
		return nil
	}
	return databaseError{err}
}

func fromPostgres(e *pgconn.PgError) *Problem {
	switch {
	case strings.HasPrefix(e.Code, "PT"):
		return fromRefusal(e)
	case e.Code == "23505" || e.Code == "23503":
		return &Problem{Status: http.StatusConflict, Code: "CONFLICT", Message: "This conflicts with what is stored already.", cause: e}
	case e.Code == "55P03":
		return Unavailable("SERVICE_UNAVAILABLE", "What this needs is locked at the moment. Please try again.", e)
	case e.Code == "40001" || e.Code == "40P01":
		return Unavailable("SERVICE_UNAVAILABLE", "Too many changes at once. Please try again.", e)
	case e.Code == "54000":
		return &Problem{Status: http.StatusBadRequest, Code: "VALIDATION_ERROR", Field: "limit",
			Message: "The answer would be too large. Please ask for fewer at once.", cause: e}
	case e.Code == "57014":
		return Unavailable("TIMEOUT", "This took too long and was stopped. Please try again.", e)
	// Shutdown, start-up, out of connections or memory, connection trouble.
	case strings.HasPrefix(e.Code, "57P") || strings.HasPrefix(e.Code, "53") || strings.HasPrefix(e.Code, "08"):
		return Unavailable("SERVICE_UNAVAILABLE", "The database cannot be reached at the moment. Please try again.", e)
	}
	return internal(e)
}

func fromRefusal(e *pgconn.PgError) *Problem {
	status, err := strconv.Atoi(e.Code[2:])
	var detail struct {
		Code, Field string
		Details     json.RawMessage
	}
	if err != nil || status < 400 || json.Unmarshal([]byte(e.Detail), &detail) != nil || detail.Code == "" {
		return internal(e)
	}
	p := &Problem{Status: status, Code: detail.Code, Message: e.Message, Field: detail.Field, Details: detail.Details}
	if status == http.StatusTooManyRequests {
		p.Header = limitHeaders(detail.Details)
	}
	return p
}

// limitHeaders repeats the numbers of a 429 as the headers of the contract (50-billing 5.3). A gauge has no reset.
func limitHeaders(details json.RawMessage) map[string]string {
	var d struct {
		Limit      *int64
		Remaining  int64
		ResetUnix  int64
		RetryAfter int64
		ResetsAt   string
	}
	if json.Unmarshal(details, &d) != nil || d.Limit == nil {
		return nil
	}
	h := map[string]string{"X-RateLimit-Limit": strconv.FormatInt(*d.Limit, 10), "X-RateLimit-Remaining": strconv.FormatInt(d.Remaining, 10)}
	if reset := parseISO(d.ResetsAt); !reset.IsZero() {
		h["X-RateLimit-Reset"] = strconv.FormatInt(reset.Unix(), 10)
		h[fiber.HeaderRetryAfter] = strconv.FormatInt(max(1, secondsUntil(reset)), 10)
	}
	return h
}

func fromFiber(e *fiber.Error) *Problem {
	switch e.Code {
	case http.StatusRequestEntityTooLarge:
		return NewProblem(e.Code, "PAYLOAD_TOO_LARGE", "The request is too large.", "")
	case http.StatusNotFound:
		return notFound()
	}
	if e.Code >= 500 {
		return internal(e)
	}
	return &Problem{Status: http.StatusBadRequest, Code: "BAD_REQUEST", Message: "The request could not be read.", cause: e}
}

func notFound() *Problem {
	return NewProblem(http.StatusNotFound, "NOT_FOUND", "There is nothing at this address.", "")
}

// isConnection reports whether a database error is a connection failure.
func isConnection(err error) bool {
	return isNetwork(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) || pgconn.Timeout(err) || isClosed(err)
}

// isNetwork recognizes connection errors by their types. A bare error number is not one, although its methods make it a net.Error: a full
// disk is such a number as well.
func isNetwork(err error) bool {
	var exchange *url.Error
	return errors.As(err, new(*pgconn.ConnectError)) || errors.As(err, new(*net.OpError)) || errors.As(err, new(*net.DNSError)) ||
		errors.As(err, &exchange) && exchange.Op != "parse"
}

// isClosed recognizes pgx's error for a connection that was lost during use.
func isClosed(err error) bool {
	text := err.Error()
	return strings.Contains(text, "conn closed") || strings.Contains(text, "unexpected EOF") || strings.Contains(text, "closed pool") ||
		strings.HasSuffix(text, "EOF")
}

// write sends the problem.
func (p *Problem) write(c *fiber.Ctx, requestID string) error {
	body := map[string]any{"type": "about:blank", "title": http.StatusText(p.Status), "status": p.Status, "detail": p.Message,
		"code": p.Code, "message": p.Message, "requestId": requestID}
	for name, value := range p.Members {
		body[name] = value
	}
	if p.Field != "" {
		body["field"] = p.Field
	}
	if len(p.Details) > 0 {
		body["details"] = p.Details
	}
	for name, value := range p.Header {
		c.Set(name, value)
	}
	if p.Status == http.StatusUnauthorized {
		c.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "application/problem+json")
	return c.Status(p.Status).Send(raw)
}
