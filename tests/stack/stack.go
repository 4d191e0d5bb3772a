// Package stack starts the server in this process for black-box tests: on a database of its own and on a port of its own.
package stack

import (
	"context"
	"encoding/base64"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/app"
	"kijko/server/config"
	"kijko/server/openapi"
	"kijko/tests/client"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
	"kijko/worker/telemetry"
	"kijko/worker/vies"
)

// Stack is a running server, and an anonymous client of it.
type Stack struct {
	*client.Client
	DB     *testdb.DB
	App    *app.App
	Config config.Config
	stop   func()
	once   sync.Once
}

// Option changes the settings before the start.
type Option func(*config.Config)

// RealRates keeps the limits of the sign-in routes as the contract has them; without it they are raised.
func RealRates(c *config.Config) { c.AuthRates = 1 }

// Models makes the installation use a double of the model providers.
func Models(models *llmtest.Server) Option {
	return func(c *config.Config) {
		c.AnthropicKey, c.AnthropicURL, c.GoogleKey, c.GoogleURL = llmtest.Key, models.URL, llmtest.Key, models.URL
	}
}

// New starts a server on a fresh database.
func New(t testing.TB, options ...Option) *Stack {
	t.Helper()
	return On(t, testdb.New(t), options...)
}

// On starts a server on a database; several servers on one database are replicas. The server trusts forwarded addresses of the test.
func On(t testing.TB, db *testdb.DB, options ...Option) *Stack {
	t.Helper()
	cfg := Settings(t, db, options...)
	tracing, err := telemetry.Start(context.Background(), cfg.Telemetry(), "kijko-test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a, err := app.New(context.Background(), cfg, app.Options{Tracing: tracing, Observe: func(op *openapi.Operation, status int, body []byte) {
		if err := op.CheckAnswer(status, body); err != nil {
			t.Errorf("an answer is not what the document says: %v", err)
		}
	}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	s := &Stack{Client: client.New(t, a.URL()), DB: db, App: a, Config: cfg}
	s.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server stopped with %v", err)
		}
		tracing.Close()
	}
	t.Cleanup(s.Close)
	return s
}

// Settings are those of a development server on db, changed by the options.
func Settings(t testing.TB, db *testdb.DB, options ...Option) config.Config {
	t.Helper()
	cfg, err := config.Load()
	require.NoError(t, err)
	cfg.Debug, cfg.Addr, cfg.DataDir, cfg.PublicURL = true, "127.0.0.1:0", t.TempDir(), "http://kijko.test"
	cfg.Database, cfg.DatabaseDirect, cfg.DatabaseWorker = db.DSN("kijko_server"), db.DSN("kijko_server"), db.DSN("kijko_worker")
	cfg.AuthRates, cfg.PerCaller, cfg.TrustedProxies = 1e6, 0, "127.0.0.1"
	cfg.EncryptionKey = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	cfg.VIESMode = vies.Offline
	for _, option := range options {
		option(&cfg)
	}
	return cfg
}

// Close stops the server, as the end of the test does.
func (s *Stack) Close() { s.once.Do(s.stop) }
