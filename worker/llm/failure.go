package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Code is the errorCode of contract 20, section 6.6.
type Code string

// The codes that a call can end with.
const (
	InvalidAPIKey         Code = "INVALID_API_KEY"
	RateLimited           Code = "RATE_LIMITED"
	ServiceUnavailable    Code = "SERVICE_UNAVAILABLE"
	BadRequest            Code = "BAD_REQUEST"
	APIError              Code = "API_ERROR"
	NetworkError          Code = "NETWORK_ERROR"
	Timeout               Code = "TIMEOUT"
	UnknownError          Code = "UNKNOWN_ERROR"
	ModelNotSupported     Code = "MODEL_NOT_SUPPORTED"
	ProviderNotConfigured Code = "PROVIDER_NOT_CONFIGURED"
)

// maxMessage bounds how much of a provider's sentence is kept.
const maxMessage = 4000

// Error is a failed call with a reason that may be shown to the user.
type Error struct {
	Code Code
	// Message is fit for the user: the provider's own sentence or ours. It holds no key and no header.
	Message string
	// Status is the provider's HTTP status; 0 when there was no answer.
	Status int
	// RetryAfter is the wait that the provider asks for; 0 if it did not say.
	RetryAfter time.Duration
	// Usage is the usage that the provider had counted before the call failed, if it said so. It has to be paid.
	Usage *Usage

	cause error
}

// Error gives code and message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap gives the technical cause for the log, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Retryable says whether the same request may succeed a moment later (contract 20, section 6.2).
func (e *Error) Retryable() bool {
	switch e.Status {
	case 0:
		return e.Code == NetworkError || e.Code == Timeout
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout, 529:
		return true
	}
	// The answer began without an error and broke off.
	return e.Status < 300 && (e.Code == NetworkError || e.Code == Timeout)
}

// AsError finds the Error in an error's chain.
func AsError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

func notConfigured() *Error {
	return &Error{Code: ProviderNotConfigured, Message: "No key for this model's provider is configured."}
}

// ofStatus is the table of section 6.6.
func ofStatus(status int, message string) *Error {
	e := &Error{Status: status}
	switch status {
	case http.StatusUnauthorized:
		e.Code, e.Message = InvalidAPIKey, "The provider refuses the API key. Please check the configuration."
	case http.StatusTooManyRequests:
		e.Code, e.Message = RateLimited, "The provider's rate limit is exceeded. Please try again later."
	case http.StatusServiceUnavailable, 529:
		e.Code, e.Message = ServiceUnavailable, "The provider is temporarily unavailable. Please try again later."
	case http.StatusBadRequest:
		e.Code, e.Message = BadRequest, or(message, "The provider refuses the request.")
	default:
		e.Code, e.Message = APIError, or(message, fmt.Sprintf("The provider answered with status %d.", status))
	}
	return e
}

// ofTransport makes the error of a call without an answer, or with half of one.
func ofTransport(ctx context.Context, err error) error {
	var network net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil, errors.As(err, &network) && network.Timeout():
		return &Error{Code: Timeout, Message: "The provider did not answer in time.", cause: err}
	case errors.Is(err, errTooLarge):
		return &Error{Code: APIError, Message: "The provider's answer is too large.", Status: http.StatusBadGateway, cause: errTooLarge}
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &Error{Code: NetworkError, Message: "The provider could not be reached.", cause: err}
	}
	return notUnderstood(err)
}

// failed makes the error of a call. The status of the answer has precedence over its body, in whatever form the body is.
func failed(ctx context.Context, err error, x *exchange, key string) error {
	if x.status >= 300 {
		said := errorIn(x.head, true)
		if said == nil {
			said = &refusal{}
		}
		status := x.status
		if status == http.StatusBadRequest && said.status == http.StatusUnauthorized {
			status = said.status // Google answers 400 to an unknown key
		}
		return said.as(status).finish(x, key)
	}
	if x.within != nil {
		if said := errorIn(x.within, false); said != nil {
			return said.as(said.status).finish(x, key)
		}
		return notUnderstood(err)
	}
	err = ofTransport(ctx, err)
	e, ok := AsError(err)
	switch {
	case !ok:
		return err
	case e.Code == UnknownError && !x.stream:
		if e := hollow(x, key); e != nil {
			return e
		}
	}
	return e.finish(x, key)
}

// hollow is the error of a whole answer without content: the answer is an error all the same, is empty, or breaks off. Nil means that
// the answer has content.
func hollow(x *exchange, key string) *Error {
	head := bytes.TrimSpace(x.head)
	if said := errorIn(head, false); said != nil {
		return said.as(said.status).finish(x, key)
	}
	if len(head) == 0 || head[0] == '{' && len(x.head) < maxRefusal && cutShort(head) {
		return brokeOff()
	}
	return nil
}

// cutShort reports whether a text is the beginning of JSON. A text that could never become JSON is not cut short.
func cutShort(raw []byte) bool {
	return errors.Is(json.NewDecoder(bytes.NewReader(raw)).Decode(new(json.RawMessage)), io.ErrUnexpectedEOF)
}

// as makes the Error of the refusal under a status; 0 means that the status is unknown.
func (r *refusal) as(status int) *Error {
	if status == 0 {
		status = http.StatusInternalServerError
	}
	e := ofStatus(status, r.message)
	e.RetryAfter = retryDelay(r.details)
	return e
}

func notUnderstood(err error) *Error {
	return &Error{Code: UnknownError, Message: "The provider's answer could not be understood.", cause: err}
}

func brokeOff() *Error {
	return &Error{Code: NetworkError, Message: "The provider's answer broke off.", cause: io.ErrUnexpectedEOF}
}

// blocked makes the error of an answer that the provider withheld.
func blocked(reason string) *Error {
	return &Error{Code: BadRequest, Message: "The provider blocked the answer: " + reason + ".", Status: http.StatusOK}
}

// finish adds the data of the exchange, and removes the key from the message.
func (e *Error) finish(x *exchange, key string) *Error {
	if e.RetryAfter == 0 {
		e.RetryAfter = x.retryAfter
	}
	if key != "" {
		e.Message = strings.ReplaceAll(e.Message, key, "[key]")
	}
	e.Message = strings.ToValidUTF8(strings.ReplaceAll(e.Message, "\x00", ""), "")
	if len(e.Message) > maxMessage {
		e.Message = strings.ToValidUTF8(e.Message[:maxMessage], "")
	}
	return e
}
