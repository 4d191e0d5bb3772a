package llm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxAnswer bounds how much of one answer is read: 8,192 tokens are some 50 KB, and a stream wraps each token in an event.
const maxAnswer = 32 << 20

var errTooLarge = errors.New("llm: the answer is too large")

// maxRefusal bounds how much of an error is read, and how much of an answer is kept in case it is an error.
const maxRefusal = 64 << 10

// exchange records the facts of an answer that the SDKs do not return. The SDKs look for errors in their provider's own form. A gateway
// in front of the provider has another form, or sends a page, and then only the status is certain.
type exchange struct {
	// stream: events are expected.
	stream bool
	// named: event names have a meaning.
	named      bool
	status     int
	retryAfter time.Duration
	// head is the beginning of the answer, for errors and for whole answers.
	head []byte
	// within is the data that came in place of an event of a stream, such as an error.
	within []byte
}

type exchangeKey struct{}

func withExchange(ctx context.Context, stream bool) (context.Context, *exchange) {
	x := &exchange{stream: stream}
	return context.WithValue(ctx, exchangeKey{}, x), x
}

// observer records status, Retry-After and errors in the call's exchange, bounds the answer and rewrites events into the plain form.
type observer struct{ next http.RoundTripper }

func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := o.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		x = &exchange{}
	}
	x.status, x.retryAfter = answer.StatusCode, retryAfter(answer.Header, time.Now())
	if answer.StatusCode >= 300 {
		// An error that breaks off counts as that error.
		x.head, err = io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
		_ = answer.Body.Close()
		if err != nil && r.Context().Err() != nil {
			return nil, r.Context().Err()
		}
		answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(x.head)), int64(len(x.head))
		return answer, nil
	}
	answer.Body = &bounded{ReadCloser: answer.Body, left: maxAnswer, x: x}
	if x.stream {
		answer.Body = newEvents(answer.Body, x)
	}
	return answer, nil
}

type bounded struct {
	io.ReadCloser
	left int64
	x    *exchange
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if !b.x.stream {
		b.x.head = append(b.x.head, p[:min(n, maxRefusal-len(b.x.head))]...)
	}
	return n, err
}

// retryAfter reads the header in both of its forms; 0 if there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		if seconds > 0 && seconds < 1e6 {
			return time.Duration(seconds * float64(time.Second))
		}
		return 0
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// retryDelay reads the wait that Google asks for: google.rpc.RetryInfo in the details of an error.
func retryDelay(details []map[string]any) time.Duration {
	for _, detail := range details {
		if text, ok := detail["retryDelay"].(string); ok {
			if d, err := time.ParseDuration(text); err == nil && d > 0 {
				return d
			}
		}
	}
	return 0
}
