// Package client is a small typed HTTP client for black-box tests. It fails the test on transport errors, and holds every answer
// against the OpenAPI document, so that a test of anything is also a test of the document.
package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
)

// Client calls one server, as one person or anonymously. It is safe for concurrent use. Only the goroutine of the test may fail the test at
// once, so use Try from others.
type Client struct {
	t       testing.TB
	BaseURL string
	Token   string
	header  http.Header
	http    *http.Client
}

// Person is the account that SignUp made.
type Person struct {
	*Client
	ID, OrgID, Email, Password string
	RefreshToken               string
}

// Tokens is TokenResponse of the contract.
type Tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
}

// New makes an anonymous client; baseURL without a path, such as http://127.0.0.1:8000.
func New(t testing.TB, baseURL string) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	t.Cleanup(transport.CloseIdleConnections)
	return &Client{t: t, BaseURL: baseURL, header: http.Header{}, http: &http.Client{Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// As is the same client with a token; "" is anonymous.
func (c *Client) As(token string) *Client {
	other := *c
	other.Token = token
	return &other
}

// With is the same client with a further header on each request.
func (c *Client) With(name, value string) *Client {
	other := *c
	other.header = c.header.Clone()
	other.header.Set(name, value)
	return &other
}

// In is the same client for a subtest, which then fails alone.
func (c *Client) In(t testing.TB) *Client {
	other := *c
	other.t = t
	return &other
}

// At is the same client against another server.
func (c *Client) At(baseURL string) *Client {
	other := *c
	other.BaseURL = baseURL
	return &other
}

var people atomic.Int64

// SignUp makes a person of that name, with an organization of their own, and gives a client that is signed in.
func (c *Client) SignUp(name string) *Person {
	c.t.Helper()
	p := &Person{Email: fmt.Sprintf("%s.%d@example.nl", strings.ToLower(name), people.Add(1)), Password: "Correct-Horse-7"}
	tokens := c.As("").Do("POST", "/auth/signup", map[string]any{
		"email": p.Email, "password": p.Password, "first_name": name, "last_name": "Test"}).Want(201).Tokens()
	p.Client, p.RefreshToken = c.As(tokens.AccessToken), tokens.RefreshToken
	me := p.Get("/auth/me").Want(200)
	p.ID, p.OrgID = me.String("id"), me.String("org_id")
	return p
}

// Get is Do without a body.
func (c *Client) Get(path string) Response {
	c.t.Helper()
	return c.Do(http.MethodGet, path, nil)
}

// Do calls an operation. path is relative to /api/v1 unless it begins with //, which stands for the root. body is nil, a string or
// bytes (sent as they are) or any value (sent as JSON).
func (c *Client) Do(method, path string, body any) Response {
	c.t.Helper()
	r, err := c.Try(method, path, body)
	require.NoError(c.t, err, "%s %s", method, path)
	return r
}

// Try is Do that gives the error instead of failing the test: for goroutines.
func (c *Client) Try(method, path string, body any) (Response, error) {
	raw, err := encode(body)
	if err != nil {
		return Response{}, err
	}
	url := c.BaseURL + openapi.Prefix + path
	if strings.HasPrefix(path, "//") {
		url = c.BaseURL + path[1:]
	}
	request, err := http.NewRequest(method, url, bytes.NewReader(raw))
	if err != nil {
		return Response{}, err
	}
	request.Header = c.header.Clone()
	if request.Header.Get("Content-Type") == "" {
		// Send it always, also without a body, as the frontend does.
		request.Header.Set("Content-Type", "application/json")
	}
	if c.Token != "" {
		request.Header.Set("Authorization", "Bearer "+c.Token)
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return Response{}, err
	}
	r := Response{t: c.t, Status: answer.StatusCode, Header: answer.Header, Body: content, Request: method + " " + path}
	if strings.HasPrefix(path, "//") || method == http.MethodHead || method == http.MethodOptions {
		return r, nil
	}
	return r, r.check(method, path)
}

func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(b), nil
	case []byte:
		return b, nil
	}
	return json.Marshal(body)
}

// check holds the answer against the operation of the document. 304 and 204 have no body.
func (r Response) check(method, path string) error {
	doc, err := openapi.Load()
	if err != nil {
		return err
	}
	path, _, _ = strings.Cut(path, "?")
	op := operation(doc, method, path)
	if op == nil || r.Status == http.StatusNotModified {
		return nil
	}
	for name := range r.Header {
		if !transport(name) && !op.HasHeader(r.Status, name) {
			return fmt.Errorf("%s answers %d with the header %s, which the document does not name (server/openapi, responses)", op.ID, r.Status, name)
		}
	}
	if r.Status < 300 && len(r.Body) > 0 && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return nil // a file
	}
	if r.Status >= 400 && r.Header.Get("Content-Type") == "application/json" && op.ID == "healthReady" {
		return nil
	}
	if err := op.CheckAnswer(r.Status, r.Body); err != nil {
		return fmt.Errorf("the answer is not what the document says: %w", err)
	}
	return nil
}

// CheckEvent holds one event of a stream, which an operation answered, against the document.
func CheckEvent(method, path, name, data string) error {
	doc, err := openapi.Load()
	if err != nil {
		return err
	}
	return operation(doc, method, path).CheckEvent(name, []byte(data))
}

// transport reports whether a header concerns the transport of an answer and carries nothing that a client of the operation reads.
func transport(name string) bool {
	switch name {
	case "Cache-Control", "Connection", "Content-Length", "Content-Type", "Date", "Server", "Server-Timing", "Strict-Transport-Security", "Vary",
		"X-Accel-Buffering", "X-Content-Type-Options", "X-Process-Time":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-")
}

// operation finds the operation of a path; literal segments win over parameters, as in the router.
func operation(doc *openapi.Document, method, path string) *openapi.Operation {
	var best *openapi.Operation
	bestLiterals := -1
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for _, op := range doc.Operations {
		template := strings.Split(strings.Trim(op.Path, "/"), "/")
		if op.Method != method || len(template) != len(segments) {
			continue
		}
		literals := 0
		for i, segment := range template {
			if strings.HasPrefix(segment, "{") {
				continue
			}
			if segment != segments[i] {
				literals = -1
				break
			}
			literals++
		}
		if literals > bestLiterals {
			best, bestLiterals = op, literals
		}
	}
	return best
}
