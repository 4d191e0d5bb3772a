// Package llmtest is a server that follows the published schemas of Anthropic's Messages API and of Google's generateContent, for tests of
// all code that calls a model. It checks every request against the schema (an unknown member or a wrong type fails the test), records it,
// and answers as the test configures it:
//
//	models := llmtest.New(t)                                   // models.Config() are the settings that lead to it
//	models.Next(llmtest.Fail(429, "slow down"), llmtest.Answer("fine"))
//	models.Always(func(c llmtest.Call) llmtest.Reply { return llmtest.Answer("You said " + c.Text) })
//
// It is safe for concurrent use and ends with the test, which also releases held requests.
package llmtest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"kijko/worker/llm"
)

// Key is the installation's key in the settings of Config.
const Key = "sk-test-installation-0123456789"

// Sonnet is a model that the double offers, by its full name.
const Sonnet = "claude-3-5-sonnet-20241022"

// Call is one request as it arrived.
type Call struct {
	Provider string
	Model    string
	Key      string
	Stream   bool
	System   string
	// Text is the last turn's text; Roles are the turns in order.
	Text   string
	Texts  []string
	Roles  []string
	Images int
	// Body is the request as it was written.
	Body map[string]any
}

// Reply is the server's answer to a call. The zero value answers "" at once.
type Reply struct {
	// Status other than 0 and 200 is a failure with Message.
	Status  int
	Message string
	// RetryAfter is sent as the header of that name.
	RetryAfter string
	// Reason is a machine-readable reason in the details of Google's errors.
	Reason string

	// Pieces are streamed one by one; a whole answer is all of them together.
	Pieces []string
	// Blocks makes each piece a text block of its own (Anthropic).
	Blocks bool
	// StopReason is the provider's own word; empty is the usual end.
	StopReason string
	// Input and Output are the token counts that it claims; 0 means 10 and 5.
	Input, Output int
	// Thoughts are the claimed tokens of thinking, ToolUse the claimed tokens that tools have read (Google). Cached are part of the input
	// (Anthropic). Google counts thoughts separately; Anthropic includes them in the output.
	Thoughts, ToolUse, Cached int
	// NoUsage leaves the tokens out (Google).
	NoUsage bool

	// Delay comes before the answer, Pause before each piece.
	Delay, Pause time.Duration
	// Hold never answers, or with Pieces stops after them, until the client disconnects.
	Hold bool
	// Break closes the connection: before the answer, or with Pieces after them.
	Break bool
	// StreamError ends a stream after the pieces with an error event of this type (Anthropic) or status (Google).
	StreamError string
	// Comments puts comment lines into a stream, as gateways do to keep it open.
	Comments bool
	// Raw is sent instead of anything else.
	Raw string
}

// Answer is a successful answer in these pieces.
func Answer(pieces ...string) Reply { return Reply{Pieces: pieces} }

// Fail is an error answer with this status.
func Fail(status int, message string) Reply { return Reply{Status: status, Message: message} }

// Silence accepts the request and never answers.
func Silence() Reply { return Reply{Hold: true} }

// Half is a stream that breaks off after the pieces; a whole answer breaks off at once.
func Half(pieces ...string) Reply { return Reply{Pieces: pieces, Break: true} }

// Tokens returns the reply with these token counts.
func (r Reply) Tokens(input, output int) Reply {
	r.Input, r.Output = input, output
	return r
}

// After returns the reply with a delay.
func (r Reply) After(d time.Duration) Reply {
	r.Delay = d
	return r
}

// Server is the double.
type Server struct {
	URL string

	t      testing.TB
	http   *httptest.Server
	closed chan struct{}

	mu       sync.Mutex
	queue    []Reply
	always   func(Call) Reply
	calls    []Call
	aborted  int
	inFlight int
	most     int
}

// New starts a server.
func New(t testing.TB) *Server {
	s := &Server{t: t, closed: make(chan struct{}), always: func(c Call) Reply { return Answer("You ", "said: ", c.Text) }}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/messages", s.anthropic)
	mux.HandleFunc("POST /v1beta/models/{call}", s.google)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("llmtest: %s %s is no address of a provider", r.Method, r.URL.Path)
		http.NotFound(w, r)
	})
	s.http = httptest.NewServer(mux)
	s.URL = s.http.URL
	t.Cleanup(func() {
		close(s.closed)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

// Config returns the settings of an installation that calls this server with Key.
func (s *Server) Config() llm.Config {
	return llm.Config{AnthropicKey: Key, AnthropicURL: s.URL, GoogleKey: Key, GoogleURL: s.URL}
}

// Next queues replies, one per call. When they are used up, Always answers.
func (s *Server) Next(replies ...Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, replies...)
}

// Always answers the calls that have no queued reply. It is called from many goroutines.
func (s *Server) Always(answer func(Call) Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always = answer
}

// Calls are all requests so far, in the order in which they arrived.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Aborted counts the requests whose client went away before the answer was complete.
func (s *Server) Aborted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aborted
}

// InFlight counts the requests that are being answered, now and at most.
func (s *Server) InFlight() (now, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight, s.most
}

// take records a call and chooses its reply.
func (s *Server) take(c Call) (r Reply, done func()) {
	s.mu.Lock()
	s.calls = append(s.calls, c)
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	always := s.always
	queued := len(s.queue) > 0
	if queued {
		r, s.queue = s.queue[0], s.queue[1:]
	}
	s.mu.Unlock()
	if !queued {
		r = always(c)
	}
	if r.Input == 0 && r.Output == 0 {
		r.Input, r.Output = 10, 5
	}
	return r, func() {
		s.mu.Lock()
		s.inFlight--
		s.mu.Unlock()
	}
}

// wait waits for d. It returns false if the client disconnects or the test ends first. Below zero it waits until then.
func (s *Server) wait(r *http.Request, d time.Duration) bool {
	var timer <-chan time.Time
	if d >= 0 {
		timer = time.After(d)
	}
	select {
	case <-timer:
		return true
	case <-r.Context().Done():
		s.mu.Lock()
		s.aborted++
		s.mu.Unlock()
	case <-s.closed:
	}
	return false
}

// begin does the part of a reply that comes before the answer. It returns false if nothing else follows.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, reply Reply) bool {
	switch {
	case reply.Delay > 0 && !s.wait(r, reply.Delay):
		return false
	case len(reply.Pieces) > 0:
	case reply.Hold:
		s.wait(r, -1)
		return false
	case reply.Break:
		cut(w)
		return false
	}
	if reply.RetryAfter != "" {
		w.Header().Set("Retry-After", reply.RetryAfter)
	}
	return true
}

// cut ends the connection without another byte.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}
