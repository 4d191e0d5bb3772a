package outbox

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	requestTime = 20 * time.Second
	// maxAnswer is how many bytes of an answer are read.
	maxAnswer = 4 << 20
)

// Client sends requests to one neighbor. Its address is the operator's, so it may be private. Redirects are not followed: a request carries
// credentials and texts.
type Client struct {
	base   string
	header http.Header
	http   *http.Client
}

// NewClient makes a client for the address, with headers for each request.
func NewClient(address string, header http.Header) *Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10}
	return &Client{base: strings.TrimRight(address, "/"), header: header, http: &http.Client{Timeout: requestTime, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Answer is what a neighbor answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request. The error says nothing about the status.
func (c *Client) Do(ctx context.Context, method, path, contentType string, body []byte) (Answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(string(body)))
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	r.Header.Set("User-Agent", "Kijko/1")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return Answer{answer.StatusCode, answer.Header, raw}, nil
}

// OK reports whether the status is one of success.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

// Fault is the error of an answer without success. A request that is refused for what it holds is not repeated. A refused credential and
// an unknown address are: the operator can repair them within the patience of the outbox. The body of an answer may repeat what was sent,
// so no error holds it.
func (a Answer) Fault(what string) error {
	err := fmt.Errorf("%s: answer %d", what, a.Status)
	switch {
	case a.Status == http.StatusRequestEntityTooLarge, a.Status == http.StatusUnprocessableEntity:
		return Refused(err)
	case a.Status == http.StatusTooManyRequests, a.Status == http.StatusServiceUnavailable:
		return Busy(err, retryAfter(a.Header.Get("Retry-After")))
	}
	return err
}

func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e6 {
		return time.Duration(seconds * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// IsAddress reports whether the text is an http or https address without credentials in it.
func IsAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && u.User == nil && (u.Scheme == "http" || u.Scheme == "https")
}
