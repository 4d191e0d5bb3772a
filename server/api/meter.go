package api

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// meters are the request metrics. There is one histogram per operation, resolved once so that a request needs no label look-up.
type meters struct {
	duration *prometheus.HistogramVec
	total    *prometheus.CounterVec
}

type meter struct {
	duration prometheus.Observer
	vec      *prometheus.CounterVec
	op       string
	statuses sync.Map // int -> prometheus.Counter
}

func newMeters(registry prometheus.Registerer) *meters {
	m := &meters{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kijko_http_request_seconds",
			Help: "Time to answer, by operation.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}},
			[]string{"operation"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kijko_http_requests_total",
			Help: "Answers, by operation and status."}, []string{"operation", "status"}),
	}
	if registry != nil {
		registry.MustRegister(m.duration, m.total)
	}
	return m
}

func (m *meters) of(operation string) *meter {
	return &meter{duration: m.duration.WithLabelValues(operation), vec: m.total, op: operation}
}

func (m *meter) observe(status int, took time.Duration) {
	m.duration.Observe(took.Seconds())
	counter, ok := m.statuses.Load(status)
	if !ok {
		counter, _ = m.statuses.LoadOrStore(status, m.vec.WithLabelValues(m.op, strconv.Itoa(status)))
	}
	counter.(prometheus.Counter).Inc()
}
