package integrations

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/worker/public"
)

// Credentials of a connector; its authType decides which fields are used.
type Credentials struct {
	APIKey     string `json:"apiKey,omitempty"`
	HeaderName string `json:"headerName,omitempty"`
	Username   string `json:"username,omitempty"`
	Password   string `json:"password,omitempty"`
}

// Secrets are the sealed part of a connector.
type Secrets struct {
	Headers     map[string]string `json:"headers,omitempty"`
	Credentials *Credentials      `json:"credentials,omitempty"`
}

// IsEmpty reports that there is nothing to seal.
func (s Secrets) IsEmpty() bool { return len(s.Headers) == 0 && s.Credentials == nil }

// Server is an MCP server to test.
type Server struct {
	URL     string
	Auth    string // none, api_key, oauth, basic
	Secrets Secrets
	Timeout time.Duration
}

// Handshake is the result of a test.
type Handshake struct {
	OK      bool
	Latency time.Duration
	Tools   int
	// Names are those of the first tools.
	Names []string
	// Version is the server's own, as it says.
	Version string
	// Protocol is the protocol version that client and server agreed on.
	Protocol string
	// Message describes the failure.
	Message string
	// Forbidden: an address on the way was one that the guard refuses.
	Forbidden bool
	Calls     []Call
}

// maxTools bounds how many tools of a server are counted, and maxNames how many are named.
const (
	maxTools = 10_000
	maxNames = 1_000
)

// header returns the headers of each request to the server.
func (s Server) header() http.Header {
	h := http.Header{}
	for name, value := range s.Secrets.Headers {
		h.Set(name, value)
	}
	c := s.Secrets.Credentials
	if c == nil {
		return h
	}
	switch {
	case s.Auth == "basic" && (c.Username != "" || c.Password != ""):
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password)))
	case s.Auth == "api_key" && c.APIKey != "" && c.HeaderName != "":
		h.Set(c.HeaderName, c.APIKey)
	case (s.Auth == "api_key" || s.Auth == "oauth") && c.APIKey != "":
		h.Set("Authorization", "Bearer "+c.APIKey)
	}
	return h
}

// Test connects to the server and counts its tools. The SDK's client asks for the newest protocol first and falls back by itself. The SDK
// keeps the transport of 2024 (a stream and a second address) apart; Test tries it only when the server knows no other.
func (g *Guard) Test(ctx context.Context, s Server) Handshake {
	began := time.Now()
	target, err := url.Parse(s.URL)
	if err != nil {
		return Handshake{Message: "The address is not valid."}
	}
	if err := g.Check(ctx, s.URL); err != nil {
		return Handshake{Forbidden: true, Message: "This address is not one that may be contacted."}
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	seen := &witness{}
	client := g.follower(target, s.header())
	client.Transport = &watched{next: client.Transport, seen: seen}
	var h Handshake
	session, err := connect(ctx, &mcp.StreamableClientTransport{Endpoint: s.URL, HTTPClient: client, MaxRetries: -1, DisableStandaloneSSE: true})
	if status := seen.status.Load(); err != nil && ctx.Err() == nil && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusBadRequest) {
		if old, again := connect(ctx, &mcp.SSEClientTransport{Endpoint: s.URL, HTTPClient: client}); again == nil {
			session, err = old, nil
		}
	}
	note(&h.Calls, "handshake", err == nil, began)
	if err == nil {
		h.Protocol = session.InitializeResult().ProtocolVersion
		if server := session.InitializeResult().ServerInfo; server != nil {
			h.Version = server.Version
		}
		listed := time.Now()
		h.Tools, h.Names, err = count(ctx, session)
		note(&h.Calls, "tools/list", err == nil, listed)
		// A server that never answers the closing request must not block this call.
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			_ = session.Close()
		}()
		select {
		case <-closed:
		case <-time.After(time.Second):
		}
	}
	h.Latency = time.Since(began)
	if err == nil {
		h.OK = true
		return h
	}
	h.Forbidden = errors.Is(err, public.ErrAddress) || seen.forbidden.Load()
	switch status := int(seen.status.Load()); {
	case h.Forbidden:
		h.Message = "The server leads to an address that may not be contacted."
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		h.Message = "The server did not answer in time."
	case seen.redirected.Load():
		h.Message = "The server redirects too often."
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		h.Message = "The server does not accept the credentials (" + http.StatusText(status) + ")."
	case status >= 300:
		h.Message = "The server answered " + strings.TrimSpace(http.StatusText(status)) + "."
	case status != 0:
		h.Message = "The server does not speak MCP."
	default:
		h.Message = "The server could not be reached."
	}
	return h
}

func connect(ctx context.Context, transport mcp.Transport) (*mcp.ClientSession, error) {
	client := mcp.NewClient(&mcp.Implementation{Name: "kijko", Version: "1"}, &mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{},
		Logger: slog.New(slog.DiscardHandler)})
	type result struct {
		session *mcp.ClientSession
		err     error
	}
	done := make(chan result, 1)
	go func() {
		session, err := client.Connect(ctx, transport, nil)
		done <- result{session, err}
	}()
	select {
	case r := <-done:
		return r.session, r.err
	case <-ctx.Done():
		// The SDK's own wait ends with the context too; this call does not wait for it.
		go func() {
			if r := <-done; r.err == nil {
				_ = r.session.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// count returns 0 for a server that declares that it has no tools.
func count(ctx context.Context, session *mcp.ClientSession) (n int, names []string, err error) {
	if c := session.InitializeResult().Capabilities; c == nil || c.Tools == nil {
		return 0, nil, nil
	}
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return n, names, err
		}
		if len(names) < maxNames {
			names = append(names, tool.Name)
		}
		if n++; n >= maxTools {
			break
		}
	}
	return n, names, nil
}

// witness remembers the facts that the SDK's errors leave out.
type witness struct {
	status                atomic.Int64
	forbidden, redirected atomic.Bool
}

type watched struct {
	next http.RoundTripper
	seen *witness
}

func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := w.next.RoundTrip(r)
	if err != nil {
		if errors.Is(err, public.ErrAddress) {
			w.seen.forbidden.Store(true)
		}
		return nil, err
	}
	w.seen.status.Store(int64(answer.StatusCode))
	w.seen.redirected.Store(answer.StatusCode >= 300 && answer.StatusCode < 400)
	return answer, nil
}
