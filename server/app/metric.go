package app

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"kijko/server/realtime"
	"kijko/server/socketio"
)

// gauges reads numbers when somebody scrapes.
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

func poolCollector(pool *pgxpool.Pool) prometheus.Collector {
	return &gauges{
		descs: []*prometheus.Desc{desc("kijko_db_connections", "Open connections."), desc("kijko_db_connections_busy", "Connections in use."),
			desc("kijko_db_wait_seconds", "Time that requests have waited for a connection, in all.")},
		read: func() []float64 {
			s := pool.Stat()
			return []float64{float64(s.TotalConns()), float64(s.AcquiredConns()), s.AcquireDuration().Seconds()}
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
