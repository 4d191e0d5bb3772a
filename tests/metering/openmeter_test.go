package metering

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openMeter is a double of OpenMeter's ingestion. As its server does it takes one content type exactly, wants type and subject, and counts an
// event once by source and id.
type openMeter struct {
	url string

	t        testing.TB
	mu       sync.Mutex
	answer   func(events []event) int
	counted  map[string]event
	order    []event
	requests []request
	arrived  chan struct{}
}

type request struct {
	header http.Header
	events []event
	status int
}

type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

func (e event) value(t testing.TB) (v struct{ Value, Change float64 }) {
	t.Helper()
	require.NoError(t, json.Unmarshal(e.Data, &v))
	return v
}

const key = "om-key"

func newOpenMeter(t testing.TB) *openMeter {
	t.Helper()
	m := &openMeter{t: t, counted: map[string]event{}, arrived: make(chan struct{})}
	server := httptest.NewServer(m)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	m.url = server.URL
	return m
}

// Answers makes f choose the status of each request; nil: 204.
func (m *openMeter) answers(f func(events []event) int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = f
}

func (m *openMeter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was killed
	}
	got := request{header: r.Header.Clone(), status: http.StatusNoContent}
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/api/v1/events":
		got.status = http.StatusNotFound
	case r.Header.Get("Authorization") != "Bearer "+key:
		got.status = http.StatusUnauthorized
	case r.Header.Get("Content-Type") != "application/cloudevents-batch+json", json.Unmarshal(raw, &got.events) != nil, len(got.events) == 0:
		got.status = http.StatusBadRequest
	}
	for _, e := range got.events {
		if e.SpecVersion != "1.0" || e.ID == "" || e.Source == "" || e.Type == "" || e.Subject == "" || e.Time.IsZero() {
			got.status = http.StatusBadRequest
		}
	}
	m.mu.Lock()
	answer := m.answer
	m.mu.Unlock()
	if answer != nil && got.status == http.StatusNoContent {
		got.status = answer(got.events)
	}
	m.mu.Lock()
	m.requests = append(m.requests, got)
	if got.status == http.StatusNoContent {
		for _, e := range got.events {
			if _, repeated := m.counted[e.Source+" "+e.ID]; !repeated {
				m.counted[e.Source+" "+e.ID] = e
				m.order = append(m.order, e)
			}
		}
	}
	close(m.arrived)
	m.arrived = make(chan struct{})
	m.mu.Unlock()
	w.WriteHeader(got.status)
}

// sum is what a meter with the aggregation SUM over $.value shows for a subject.
func (m *openMeter) sum(metric, subject string) (total float64) {
	for _, e := range m.events() {
		if e.Type == "kijko."+metric && e.Subject == subject {
			total += e.value(m.t).Value
		}
	}
	return total
}

func (m *openMeter) events() []event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]event(nil), m.order...)
}

func (m *openMeter) received() []request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]request(nil), m.requests...)
}

// wait waits until enough holds; it is asked after each request.
func (m *openMeter) wait(what string, enough func() bool) {
	m.t.Helper()
	limit := time.After(time.Minute)
	for {
		m.mu.Lock()
		arrived := m.arrived
		m.mu.Unlock()
		if enough() {
			return
		}
		select {
		case <-arrived:
		case <-limit:
			require.FailNow(m.t, what)
		}
	}
}
