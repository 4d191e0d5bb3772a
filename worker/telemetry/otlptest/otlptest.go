// Package otlptest receives spans by OTLP over HTTP, decoded with the protocol's own schema, for tests.
package otlptest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a received span.
type Span struct {
	Name, Scope               string
	TraceID, SpanID, ParentID string
	// Failed is the description of an error status, "" for any other status.
	Failed     string
	Attributes map[string]any
	Resource   map[string]any
}

// Text is an attribute as text; "" when it is absent.
func (s Span) Text(key string) string {
	text, _ := s.Attributes[key].(string)
	return text
}

// Request is a received request.
type Request struct {
	Path   string
	Header http.Header
	// Body is without compression.
	Body  []byte
	Spans []Span
}

// Server is a receiver. It accepts all, until Answer says otherwise.
type Server struct {
	URL string

	t        testing.TB
	mu       sync.Mutex
	requests []Request
	answer   http.HandlerFunc
	arrived  chan struct{}
}

// New starts a receiver until the test ends.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, arrived: make(chan struct{})}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	s.URL = server.URL
	return s
}

// Answer makes f answer each further request; nil: all are accepted. A request is recorded before f is called.
func (s *Server) Answer(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// ServeHTTP is a receiver's answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := read(r)
	if err != nil {
		s.t.Errorf("otlptest: %v", err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, request)
	answer := s.answer
	close(s.arrived)
	s.arrived = make(chan struct{})
	s.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
}

func read(r *http.Request) (request Request, err error) {
	body := r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(r.Body); err != nil {
			return request, err
		}
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return request, err
	}
	var export collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(raw, &export); err != nil {
		return request, fmt.Errorf("a request that is no export of spans: %w", err)
	}
	request = Request{Path: r.URL.Path, Header: r.Header.Clone(), Body: bytes.Clone(raw)}
	for _, resource := range export.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				one := Span{Name: span.GetName(), Scope: scope.GetScope().GetName(), TraceID: fmt.Sprintf("%x", span.GetTraceId()), SpanID: fmt.Sprintf("%x", span.GetSpanId()),
					ParentID: fmt.Sprintf("%x", span.GetParentSpanId()), Attributes: values(span.GetAttributes()), Resource: values(resource.GetResource().GetAttributes())}
				if span.GetStatus().GetCode() == 2 {
					one.Failed = span.GetStatus().GetMessage()
				}
				request.Spans = append(request.Spans, one)
			}
		}
	}
	return request, nil
}

func values(list []*common.KeyValue) map[string]any {
	all := map[string]any{}
	for _, a := range list {
		all[a.GetKey()] = value(a.GetValue())
	}
	return all
}

func value(v *common.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	case *common.AnyValue_IntValue:
		return v.IntValue
	case *common.AnyValue_DoubleValue:
		return v.DoubleValue
	case *common.AnyValue_ArrayValue:
		list := []any{}
		for _, one := range v.ArrayValue.GetValues() {
			list = append(list, value(one))
		}
		return list
	}
	return nil
}

// Requests are all received requests.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Spans are all received spans, in the order of their arrival.
func (s *Server) Spans() (all []Span) {
	for _, r := range s.Requests() {
		all = append(all, r.Spans...)
	}
	return all
}

// patience is how long Wait waits on a busy machine.
const patience = time.Minute

// Wait waits until enough says that the received spans are enough, and returns them.
func (s *Server) Wait(what string, enough func([]Span) bool) []Span {
	s.t.Helper()
	limit := time.After(patience)
	for {
		s.mu.Lock()
		arrived := s.arrived
		s.mu.Unlock()
		spans := s.Spans()
		if enough(spans) {
			return spans
		}
		select {
		case <-arrived:
		case <-limit:
			require.FailNow(s.t, "spans did not arrive", "%s: %d spans %v", what, len(spans), spans)
		}
	}
}
