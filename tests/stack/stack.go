// Package stack starts the server in this process for black-box tests: on a database of its own and on a port of its own.
package stack

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/config"
	"kijko/server/identity"
	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/testdb"
)

// Stack is a running server.
type Stack struct {
	*client.Client
	DB       *testdb.DB
	Identity *identity.Identity
	t        testing.TB
	stop     func()
	once     sync.Once
}

// Option changes the settings before the start.
type Option func(*config.Config)

// RealRates keeps the limits of the sign-in routes as the contract has them; otherwise they are out of the way.
func RealRates(c *config.Config) { c.AuthRates = 1 }

// New starts a server on a fresh database.
func New(t testing.TB, options ...Option) *Stack {
	t.Helper()
	return On(t, testdb.New(t), options...)
}

// On starts a server on a database; several servers on one database are replicas.
func On(t testing.TB, db *testdb.DB, options ...Option) *Stack {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg, err := config.Load()
	require.NoError(t, err)
	cfg.Debug, cfg.PublicURL, cfg.AuthRates, cfg.TrustedProxies = true, "http://kijko.test", 1e6, "127.0.0.1"
	for _, option := range options {
		option(&cfg)
	}
	document, err := openapi.Load()
	require.NoError(t, err)
	identity.ScaleRates(document, cfg.AuthRates)

	pool := db.Pool("kijko_server")
	exec := api.NewExecutor(pool, nil)
	id, err := identity.Assemble(ctx, cfg, pool, exec, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	proxies, err := auth.ParseProxies(cfg.TrustedProxies)
	require.NoError(t, err)
	app, err := api.New(api.Deps{Document: document, Exec: exec, Auth: id, Handlers: handlers(document, id), Mount: id.Mount, Origins: cfg.Origins,
		Version: cfg.Version, ClientIP: func(peer string, forwarded []string) string {
			addr, err := netip.ParseAddr(peer)
			if err != nil {
				return peer
			}
			return auth.ClientAddr(addr, strings.Join(forwarded, ","), proxies).String()
		}})
	require.NoError(t, err)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() { _ = app.Listener(listener) })
	running.Go(func() { id.Run(ctx) })
	s := &Stack{Client: client.New(t, "http://"+listener.Addr().String()), DB: db, Identity: id, t: t}
	s.stop = func() {
		require.NoError(t, app.Shutdown())
		cancel()
		running.Wait()
		id.Close()
		pool.Close()
	}
	t.Cleanup(s.Close)
	return s
}

// Close stops the server, as the end of the test does.
func (s *Stack) Close() { s.once.Do(s.stop) }

// handlers are those of identity; operations of other features that need more than the edge are refused by name here.
func handlers(document *openapi.Document, id *identity.Identity) map[string]api.Handler {
	all := id.Handlers()
	for _, op := range document.Operations {
		if op.Function == "" && all[op.ID] == nil && !strings.HasPrefix(op.ID, "health") {
			all[op.ID] = func(*api.Call) error {
				return api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", "This part is not started in this test.", "")
			}
		}
	}
	return all
}
