package api

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Check is one dependency. Probe answers within its context or counts as failed. Its result holds no secret, host or error text.
type Check struct {
	Name     string
	Critical bool
	Probe    func(ctx context.Context) CheckResult
}

// CheckResult is the result of a probe. Status is healthy, degraded, unhealthy, unconfigured or disabled.
type CheckResult struct {
	Status        string   `json:"status"`
	LatencyMS     float64  `json:"latencyMs"`
	Code          string   `json:"code,omitempty"`
	Pending       *int64   `json:"pending,omitempty"`
	OldestSeconds *float64 `json:"oldestSeconds,omitempty"`
	AgeSeconds    *float64 `json:"ageSeconds,omitempty"`
}

const (
	probeTimeout  = 2 * time.Second
	probeLifetime = 5 * time.Second
)

type health struct {
	version  string
	checks   []Check
	draining atomic.Bool

	mu   sync.Mutex
	at   time.Time
	last report
}

type report struct {
	Status     string                 `json:"status"`
	Version    string                 `json:"version"`
	DurationMS *float64               `json:"durationMs,omitempty"` // of readiness
	Checks     map[string]CheckResult `json:"checks"`
	ready      bool
}

func newHealth(version string, checks []Check) *health {
	return &health{version: version, checks: checks}
}

// Drain makes the readiness probe answer 503, so that load balancers stop sending; requests are still answered.
func (a *App) Drain() { a.health.draining.Store(true) }

func (h *health) probe(ctx context.Context) report {
	r := report{Status: "healthy", Version: h.version, Checks: map[string]CheckResult{}, ready: true}
	results := make([]CheckResult, len(h.checks))
	var wg sync.WaitGroup
	for i, check := range h.checks {
		wg.Go(func() { results[i] = probeOne(ctx, check) })
	}
	wg.Wait()
	for i, check := range h.checks {
		r.Checks[check.Name] = results[i]
		switch results[i].Status {
		case "unhealthy":
			if check.Critical {
				r.Status, r.ready = "unhealthy", false
			} else if r.Status == "healthy" {
				r.Status = "degraded"
			}
		case "degraded":
			if r.Status == "healthy" {
				r.Status = "degraded"
			}
		}
	}
	return r
}

func probeOne(ctx context.Context, check Check) CheckResult {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	began := time.Now()
	done := make(chan CheckResult, 1)
	go func() { done <- check.Probe(ctx) }()
	select {
	case result := <-done:
		result.LatencyMS = millis(time.Since(began))
		return result
	case <-ctx.Done():
		return CheckResult{Status: "unhealthy", Code: "TIMEOUT", LatencyMS: millis(time.Since(began))}
	}
}

// cached returns a report that is at most 5 s old, so that calls of the public route cannot load the dependencies.
func (h *health) cached(ctx context.Context) report {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) > probeLifetime {
		h.last, h.at = h.probe(ctx), time.Now()
	}
	return h.last
}

func (a *App) publicHandler(operation string) Handler {
	switch operation {
	case "greet":
		return func(c *Call) error { return c.JSON(a.greeting()) }
	case "health":
		return func(c *Call) error { return c.JSON(a.health.cached(c.Context())) }
	case "healthLive":
		return func(c *Call) error { return c.JSON(map[string]string{"status": "healthy", "version": a.deps.Version}) }
	case "healthReady":
		return func(c *Call) error {
			began := time.Now()
			r := a.health.probe(c.Context())
			took := millis(time.Since(began))
			r.DurationMS = &took
			if a.health.draining.Load() {
				r.Status, r.ready = "unhealthy", false
			}
			if r.ready {
				return c.JSON(r)
			}
			return c.app.replyStatus(c, http.StatusServiceUnavailable, r)
		}
	}
	return nil
}

// checkCollector shows the checks to a scraper, at most five seconds old like the public route.
type checkCollector struct {
	health                *health
	level, pending, waits *prometheus.Desc
}

func newCheckCollector(h *health) *checkCollector {
	return &checkCollector{health: h,
		level:   prometheus.NewDesc("kijko_check_level", "State of a part: 0 healthy or not set up, 1 degraded, 2 unhealthy.", []string{"check"}, nil),
		pending: prometheus.NewDesc("kijko_check_pending", "Work of a part that waits: jobs, deliveries, units.", []string{"check"}, nil),
		waits:   prometheus.NewDesc("kijko_check_oldest_seconds", "Age of the oldest work of a part that waits.", []string{"check"}, nil)}
}

func (c *checkCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.level
	ch <- c.pending
	ch <- c.waits
}

func (c *checkCollector) Collect(ch chan<- prometheus.Metric) {
	for name, check := range c.health.cached(context.Background()).Checks {
		level := map[string]float64{"degraded": 1, "unhealthy": 2}[check.Status]
		ch <- prometheus.MustNewConstMetric(c.level, prometheus.GaugeValue, level, name)
		if check.Pending != nil {
			ch <- prometheus.MustNewConstMetric(c.pending, prometheus.GaugeValue, float64(*check.Pending), name)
		}
		if check.OldestSeconds != nil {
			ch <- prometheus.MustNewConstMetric(c.waits, prometheus.GaugeValue, *check.OldestSeconds, name)
		}
	}
}
