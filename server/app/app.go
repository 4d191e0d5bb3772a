// Package app assembles the server: database pool, identity, realtime, Socket.IO, uploads and the HTTP edge. The program, the development
// mode and the tests all use it.
//
// New opens everything lazily: the server starts even if a database or an identity provider is unavailable. Run serves until its context
// ends and then stops in order: readiness turns to 503, sockets are closed with 1012, running requests finish, and Run waits for its
// goroutines.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/chat"
	"kijko/server/config"
	"kijko/server/contexts"
	"kijko/server/identity"
	"kijko/server/keys"
	"kijko/server/mcp"
	"kijko/server/notifications"
	"kijko/server/openapi"
	"kijko/server/realtime"
	"kijko/server/reflexes"
	"kijko/server/socketio"
	"kijko/worker/graph"
	"kijko/worker/llm"
	"kijko/worker/outbox"
	"kijko/worker/seal"
	"kijko/worker/telemetry"
)

// Options are the options that are not settings.
type Options struct {
	Log *slog.Logger
	// Greeting is added to the answer of `GET /` (development names its demo repository there).
	Greeting map[string]any
	// Listener is the listener to use, for a caller that opened the port before; nil: cfg.Addr.
	Listener net.Listener
	// Mailbox receives the mails of an installation without a mail server and shows them; nil: no mail is sent then.
	Mailbox Mailbox
	// Tracing sends the traces of this process; nil: none are sent. The caller closes it after Run.
	Tracing *telemetry.Tracing
	// Observe is called with every answer; tests check it against the document.
	Observe func(op *openapi.Operation, status int, body []byte)
	// Realtime replaces the contract's numbers; tests shorten waits.
	Realtime realtime.Options
	SocketIO socketio.Options
}

// Mailbox shows the received mails (*dev.Mailbox is one).
type Mailbox interface{ Routes(app *fiber.App) }

// App is a server that has not been started, or is running.
type App struct {
	cfg      config.Config
	log      *slog.Logger
	pool     *pgxpool.Pool
	standbys *api.Standbys // nil: none
	api      *api.App
	registry *prometheus.Registry
	identity *identity.Identity
	realtime *realtime.Server
	socketio *socketio.Server
	features []feature
	files    *storageProbe
	models   *llm.Set
	graph    graph.Backend // nil: graphs are in Postgres alone
	others   []outbox.Neighbor
	presence *presence
	reflexes *reflexes.Feature
	contexts *contexts.Feature
	mcp      *mcp.Feature
	chat     *chat.Feature
	keys     *keys.Keys
	box      *seal.Box // nil: no ENCRYPTION_KEY
	listener net.Listener
	mails    bool
	metrics  *metricsServer // nil: none
}

// feature is a part with Go code that the edge mounts.
type feature interface {
	Handlers() map[string]api.Handler
	Close() error
}

// drainer is a feature with long requests: Drain is called before the server waits for them.
type drainer interface{ Drain() }

// waker passes wake-ups on to realtime, which is made after the executor.
type waker struct{ to api.Waker }

func (w *waker) Wake(events, jobs bool) {
	if w.to != nil {
		w.to.Wake(events, jobs)
	}
}

// New assembles a server and listens on the configured address, so that a caller may choose port 0.
func New(ctx context.Context, cfg config.Config, o Options) (_ *App, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &App{cfg: cfg, log: o.Log, listener: o.Listener, mails: cfg.SMTPHost != "" || o.Mailbox != nil}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	reach := db.PoolOptions{DSN: cfg.Database, Size: cfg.DatabasePool, Unnamed: !cfg.DatabaseNames,
		Traced: cfg.Tracing != "", Timeout: cfg.Timeout, Application: "kijko server"}
	a.pool, err = db.OpenPool(ctx, reach)
	if err != nil {
		return nil, err
	}
	wakes := &waker{}
	exec := api.NewExecutor(a.pool, wakes)
	if len(cfg.DatabaseReads) > 0 {
		if a.standbys, err = api.OpenStandbys(ctx, reach, cfg.DatabaseReads, o.Log); err != nil {
			return nil, err
		}
		exec.UseStandbys(a.standbys)
	}
	encryption, err := cfg.EncryptionKeys()
	if err != nil {
		return nil, err
	}
	if len(encryption) > 0 {
		if a.box, err = seal.New(encryption...); err != nil {
			return nil, err
		}
	}
	a.keys = keys.New(exec, a.box, o.Log)
	if a.identity, err = identity.Assemble(ctx, cfg, a.pool, exec, o.Log); err != nil {
		return nil, err
	}
	clientIP, err := clientAddress(cfg.TrustedProxies)
	if err != nil {
		return nil, err
	}
	if o.Realtime.SocketsPerUser == 0 {
		o.Realtime.SocketsPerUser = cfg.SocketsMax
	}
	addressOf := func(c *fiber.Ctx) string { return clientIP(c.Context().RemoteIP().String(), forwarded(c)) }
	a.realtime, err = realtime.New(realtime.Deps{Pool: a.pool, ListenDSN: cfg.DatabaseDirect, Auth: a.identity, Keys: a.keys, Issuer: a.identity.Issuer(),
		Origins: cfg.SocketOrigins(), ClientIP: addressOf, Log: o.Log, Options: o.Realtime})
	if err != nil {
		return nil, err
	}
	a.socketio, err = socketio.New(socketio.Deps{Realtime: a.realtime, Origins: cfg.SocketOrigins(), ClientIP: addressOf, Log: o.Log,
		Options: o.SocketIO})
	if err != nil {
		return nil, err
	}
	wakes.to = a.realtime.Waker()
	a.presence = newPresence(exec, o.Log)
	if err := a.addFeatures(ctx, exec); err != nil {
		return nil, err
	}
	if err := a.edge(exec, clientIP, o); err != nil {
		return nil, err
	}
	if a.listener == nil {
		if a.listener, err = Listen(cfg.Addr); err != nil {
			return nil, err
		}
	}
	if a.metrics, err = listenMetrics(cfg.MetricsAddr, a.registry); err != nil {
		return nil, err
	}
	return a, nil
}

// Listen opens the address of KIJKO_ADDR.
func Listen(addr string) (net.Listener, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("KIJKO_ADDR %s: %w (is another server running? stop it, or choose another address)", addr, err)
	}
	return listener, nil
}

// edge makes the HTTP app from the document and its handlers.
func (a *App) edge(exec *api.Executor, clientIP func(string, []string) string, o Options) error {
	document, err := openapi.Load()
	if err != nil {
		return err
	}
	document = identity.ScaleRates(document, a.cfg.AuthRates)
	handlers := map[string]api.Handler{}
	for _, f := range a.features {
		for id, handler := range f.Handlers() {
			handlers[id] = handler
		}
	}
	for _, op := range document.Operations {
		if op.Wait != "" && handlers[op.ID] == nil {
			handlers[op.ID] = a.contexts.Waiting(op)
		}
	}
	a.registry = prometheus.NewRegistry()
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		poolCollector(a.pool, exec), socketCollector(a.realtime, a.socketio), spanCollector(o.Tracing), a.standbys)
	a.api, err = api.New(api.Deps{
		Document: document, Exec: exec, Auth: a.identity, Keys: a.keys, Handlers: handlers, Origins: a.cfg.Origins, ClientIP: clientIP,
		Version: a.cfg.Version, Log: o.Log, Registry: a.registry, MetricsToken: a.cfg.MetricsToken, Development: a.cfg.Debug,
		HTTPS: strings.HasPrefix(a.cfg.Origin(), "https://"), PerCaller: a.cfg.PerCaller, ServiceToken: a.cfg.ServiceToken,
		Observe: o.Observe, Visited: a.presence.note, Called: a.reflexes.Called, Timeout: a.cfg.Timeout, Greeting: o.Greeting,
		Checks: append([]api.Check{databaseCheck(a.pool), queueCheck(a.pool), listenerCheck(a.realtime), authCheck(a.identity.Verifier()),
			stripeCheck(a.cfg), a.files.check(), aiCheck(a.models), graphCheck(a.pool, a.graph), tracingCheck(o.Tracing), meteringCheck(a.pool, a.cfg.OpenMeterURL != "")},
			append(neighborChecks(a.pool, a.others), a.standbys.Checks()...)...),
		Mount: func(app *fiber.App) {
			a.identity.Mount(app)
			a.realtime.Routes(app)
			a.socketio.Routes(app)
			a.mcp.Routes(app)
			notifications.Routes(app)
			if o.Mailbox != nil {
				o.Mailbox.Routes(app)
			}
		},
	})
	return err
}

// Addr returns the address that the server listens on.
func (a *App) Addr() string { return a.listener.Addr().String() }

// URL returns the same address as a URL.
func (a *App) URL() string { return "http://" + a.Addr() }

// MetricsURL returns the URL of metrics on a separate listener; empty: there is none.
func (a *App) MetricsURL() string { return a.metrics.url() }

// Standbys returns the standbys, whose numbers tests read; nil: there are none.
func (a *App) Standbys() *api.Standbys { return a.standbys }

// Realtime returns the realtime server, whose numbers tests read.
func (a *App) Realtime() *realtime.Server { return a.realtime }

// Run serves until ctx ends, then stops in order. It closes the App.
func (a *App) Run(ctx context.Context) error {
	defer a.close()
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	var wg sync.WaitGroup
	failed := make(chan error, 3)
	wg.Go(func() {
		if err := a.realtime.Run(background); err != nil && background.Err() == nil {
			failed <- fmt.Errorf("realtime: %w", err)
		}
	})
	wg.Go(func() { a.identity.Run(background) })
	wg.Go(func() { a.keys.Run(background) })
	wg.Go(func() { a.declare(background) })
	wg.Go(func() { tellVersion(background, a.pool, a.log) })
	wg.Go(func() { a.presence.run(background) })
	wg.Go(func() { a.standbys.Run(background) })
	if a.cfg.IsTraced() {
		wg.Go(func() { a.models.Prices().Keep(background, a.pool) })
	}
	// A file store that cannot be used does not stop the start; the log reports it from the beginning.
	wg.Go(func() { _ = a.files.result(background) })
	wg.Go(func() {
		if err := a.api.Listener(a.listener); err != nil {
			failed <- fmt.Errorf("serving: %w", err)
		}
	})
	wg.Go(func() {
		if err := a.metrics.serve(); err != nil {
			failed <- fmt.Errorf("serving metrics: %w", err)
		}
	})

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	a.log.Info("stopping")
	a.api.Drain()
	for _, f := range a.features {
		if d, ok := f.(drainer); ok {
			d.Drain()
		}
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownGrace)
	defer cancel()
	drainErr := errors.Join(ignoreDeadline(a.realtime.Drain(grace)), ignoreDeadline(a.socketio.Drain(grace)))
	shutdownErr := a.api.ShutdownWithContext(grace)
	// If the stop comes at once, serving may not have begun yet, and would begin now.
	_ = a.listener.Close()
	// The last metrics can still be read until then.
	a.metrics.close()
	stopBackground()
	wg.Wait()
	return errors.Join(err, drainErr, ignoreDeadline(shutdownErr))
}

// ignoreDeadline ignores an expired grace period: the remaining connections have been cut, as announced.
func ignoreDeadline(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// Close releases the resources of New, for an App that is not run.
func (a *App) Close() { a.close() }

func (a *App) close() {
	if a.files != nil {
		a.files.close()
	}
	for _, f := range a.features {
		if err := f.Close(); err != nil {
			a.log.Warn("closing a feature", "error", err)
		}
	}
	if a.identity != nil {
		a.identity.Close()
	}
	if a.listener != nil {
		_ = a.listener.Close()
	}
	a.metrics.close()
	a.standbys.Close()
	if a.pool != nil {
		a.pool.Close()
	}
}

// clientAddress evaluates X-Forwarded-For with the trusted proxies.
func clientAddress(proxies string) (func(peer string, forwarded []string) string, error) {
	trusted, err := auth.ParseProxies(proxies)
	if err != nil {
		return nil, fmt.Errorf("TRUSTED_PROXIES: %w", err)
	}
	return func(peer string, forwarded []string) string {
		addr, err := netip.ParseAddr(peer)
		if err != nil {
			return peer
		}
		return auth.ClientAddr(addr, strings.Join(forwarded, ","), trusted).String()
	}, nil
}

func forwarded(c *fiber.Ctx) []string {
	var all []string
	for _, h := range c.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		all = append(all, string(h))
	}
	return all
}

// StopTimeout is how long Run may take after its context ended.
func (a *App) StopTimeout() time.Duration { return a.cfg.ShutdownGrace + 5*time.Second }
