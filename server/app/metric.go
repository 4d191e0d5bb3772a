package app

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kijko/server/api"
	"kijko/server/realtime"
	"kijko/server/socketio"
	"kijko/worker/telemetry"
)

// gauges reads the numbers at each scrape.
type gauges struct {
	descs []*prometheus.Desc
	read  func() []float64
}

func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range g.descs {
		ch <- d
	}
}

func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	for i, value := range g.read() {
		ch <- prometheus.MustNewConstMetric(g.descs[i], prometheus.GaugeValue, value)
	}
}

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

func poolCollector(pool *pgxpool.Pool, exec *api.Executor) prometheus.Collector {
	return &gauges{
		descs: []*prometheus.Desc{desc("kijko_db_connections", "Open connections."), desc("kijko_db_connections_busy", "Connections in use."),
			desc("kijko_db_wait_seconds", "Time that requests have waited for a connection, in all."),
			desc("kijko_db_calls_waiting", "Calls that wait until it is their turn for a connection.")},
		read: func() []float64 {
			s := pool.Stat()
			return []float64{float64(s.TotalConns()), float64(s.AcquiredConns()), s.AcquireDuration().Seconds(), float64(exec.Waiting())}
		},
	}
}

func socketCollector(server *realtime.Server, clients *socketio.Server) prometheus.Collector {
	return &gauges{
		descs: []*prometheus.Desc{desc("kijko_sockets", "Open connections of realtime: WebSockets, and namespaces of Socket.IO clients."),
			desc("kijko_last_event_id", "Newest event handed to sockets."), desc("kijko_socketio_sessions", "Open sessions of Socket.IO clients.")},
		read: func() []float64 {
			s := server.Stats()
			return []float64{float64(s.Sockets), float64(s.LastEventID), float64(clients.Sessions())}
		},
	}
}

// spans counts what became of the spans of this process, for each receiver.
type spans struct {
	desc    *prometheus.Desc
	tracing *telemetry.Tracing
}

func spanCollector(tracing *telemetry.Tracing) prometheus.Collector {
	return &spans{tracing: tracing, desc: prometheus.NewDesc("kijko_spans_total", "Spans by receiver: sent, dropped because the queue was full, or refused.",
		[]string{"receiver", "outcome"}, nil)}
}

func (s *spans) Describe(ch chan<- *prometheus.Desc) { ch <- s.desc }

func (s *spans) Collect(ch chan<- prometheus.Metric) {
	for _, r := range s.tracing.Receivers() {
		for outcome, n := range map[string]uint64{"sent": r.Sent, "dropped": r.Dropped, "refused": r.Refused} {
			ch <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(n), r.Name, outcome)
		}
	}
}

// metricsServer serves only /metrics, on a separate listener. The nil one serves nothing.
type metricsServer struct {
	listener net.Listener
	server   *http.Server
}

func listenMetrics(address string, registry *prometheus.Registry) (*metricsServer, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("KIJKO_METRICS_ADDR %s: %w", address, err)
	}
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
	return &metricsServer{listener: listener, server: &http.Server{Handler: guarded, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}}, nil
}

func (m *metricsServer) url() string {
	if m == nil {
		return ""
	}
	return "http://" + m.listener.Addr().String() + "/metrics"
}

func (m *metricsServer) serve() error {
	if m == nil {
		return nil
	}
	if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (m *metricsServer) close() {
	if m != nil {
		_ = m.server.Close()
		_ = m.listener.Close()
	}
}
