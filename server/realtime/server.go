package realtime

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/realtime/wake"
)

// Deps are the dependencies of the sockets.
type Deps struct {
	// Pool connects as the server's role. Sockets use it when they open and at removals.
	Pool *pgxpool.Pool
	// ListenDSN is a session-level address for LISTEN and for wake-ups (not a transaction pooler's), as the server's role.
	ListenDSN string
	// Auth checks access tokens. When its errors don't say why a token was refused, its method Verifier() *auth.Verifier is used, if
	// present.
	Auth api.Authenticator
	// Keys checks API keys; nil: none are accepted.
	Keys api.Keys
	// Issuer makes and verifies connection tokens; nil: none are accepted.
	Issuer *auth.Issuer
	// Origins are the sites whose pages may connect, besides those of this server itself. A request without Origin may always connect.
	Origins api.Origins
	// ClientIP evaluates X-Forwarded-For; nil: the peer's address.
	ClientIP func(c *fiber.Ctx) string
	Log      *slog.Logger
	Options  Options
}

// Options are the contract's numbers (30-realtime sections 2, 5 and 7). A zero value means the contract's number.
type Options struct {
	PingInterval, IdleTimeout   time.Duration // 25 s, 60 s
	RefreshBefore, RefreshAgain time.Duration // 5 min, 60 s before a token's end
	AuthTimeout                 time.Duration // 10 s until the first message
	DoneDelay                   time.Duration // 30 s after the completion
	Throttle                    time.Duration // 500 ms
	DrainSpread                 time.Duration // 10 s
	OpenTimeout                 time.Duration // 10 s
	WriteTimeout, CloseTimeout  time.Duration // 10 s, 2 s
	Poll                        time.Duration // 1.5 s: reads of the log without a wake-up
	Tick                        time.Duration // 1 s: numbering without a wake-up
	Beat                        time.Duration // 30 s
	MaxQueuedFrames             int           // 256
	MaxQueuedBytes              int           // 1 MiB
	MaxMessage                  int64         // 16 KiB
	HandshakesPerMinute         int           // 60 per address and per user
	DeniedPerMinute             int           // 20 joins per user
	SocketsPerUser              int           // 30
	SocketsPerOrg               int           // 1000

	// Deaf switches notifications off. Tests use it to prove that notifications are only hints.
	Deaf bool
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	def(&o.PingInterval, 25*time.Second)
	def(&o.IdleTimeout, 60*time.Second)
	def(&o.RefreshBefore, 5*time.Minute)
	def(&o.RefreshAgain, time.Minute)
	def(&o.AuthTimeout, 10*time.Second)
	def(&o.DoneDelay, 30*time.Second)
	def(&o.Throttle, 500*time.Millisecond)
	def(&o.DrainSpread, 10*time.Second)
	def(&o.OpenTimeout, 10*time.Second)
	def(&o.WriteTimeout, 10*time.Second)
	def(&o.CloseTimeout, 2*time.Second)
	def(&o.Poll, 1500*time.Millisecond)
	def(&o.Tick, time.Second)
	def(&o.Beat, 30*time.Second)
	number := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	number(&o.MaxQueuedFrames, 256)
	number(&o.MaxQueuedBytes, 1<<20)
	number(&o.HandshakesPerMinute, 60)
	number(&o.DeniedPerMinute, 20)
	number(&o.SocketsPerUser, 30)
	number(&o.SocketsPerOrg, 1000)
	if o.MaxMessage == 0 {
		o.MaxMessage = 16 << 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Server holds the sockets of this process.
type Server struct {
	deps     Deps
	opt      Options
	log      *slog.Logger
	now      func() time.Time
	store    *store
	hub      *hub
	feed     *feed
	arrivals *arrivals
	waker    *wake.Waker
	upgrader *websocket.FastHTTPUpgrader

	perIP, perUser, denied *windows
	// foreign bounds the log lines about pages of other sites.
	foreign *rate.Limiter

	roster   *roster
	refusals *refusals
	draining atomic.Bool
	drained  chan struct{} // closed when draining begins
	polls    polls
	// livesMu prevents a new socket from beginning while Drain begins to wait for the end of all sockets.
	livesMu sync.Mutex
	lives   sync.WaitGroup

	leftMu sync.Mutex
	left   []string      // ids of closed sockets that are not yet reported to the database
	leave  chan struct{} // capacity 1

	closedMu sync.Mutex
	codes    map[int]int64
}

// New wires a Server. It starts nothing; Run does.
func New(deps Deps) (*Server, error) {
	if deps.Pool == nil || deps.ListenDSN == "" || deps.Auth == nil {
		return nil, errors.New("realtime: a pool, an address to listen at and an authenticator are needed")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.ClientIP == nil {
		deps.ClientIP = func(c *fiber.Ctx) string { return c.Context().RemoteIP().String() }
	}
	opt := deps.Options.withDefaults()
	s := &Server{
		deps: deps, opt: opt, log: deps.Log, now: opt.Now,
		store:    newStore(deps.Pool, opt.SocketsPerUser, opt.SocketsPerOrg),
		waker:    wake.New(deps.ListenDSN, opt.Tick, deps.Log),
		perIP:    newWindows(opt.HandshakesPerMinute, time.Minute),
		perUser:  newWindows(opt.HandshakesPerMinute, time.Minute),
		denied:   newWindows(opt.DeniedPerMinute, time.Minute),
		foreign:  rate.NewLimiter(rate.Every(20*time.Second), 3),
		roster:   newRoster(),
		refusals: &refusals{now: opt.Now},
		leave:    make(chan struct{}, 1),
		drained:  make(chan struct{}),
		codes:    map[int]int64{},
	}
	s.hub = newHub(deps.Log, s.store)
	s.arrivals = &arrivals{store: s.store, timeout: opt.OpenTimeout}
	s.feed = &feed{
		dsn: deps.ListenDSN, log: deps.Log, poll: opt.Poll, deaf: opt.Deaf,
		dispatch: s.hub.dispatch, returned: s.hub.authorizeAll, wake: func() { s.waker.Wake(true, false) },
		ephemeral: s.hub.tell,
	}
	s.feed.last.Store(-1)
	s.upgrader = newUpgrader(s.originAllowed)
	return s, nil
}

// Waker returns the waker, to be notified after each commit that left events or jobs.
func (s *Server) Waker() *wake.Waker { return s.waker }

// Routes mounts the sockets under all their spellings, and the page that shows their frames.
func (s *Server) Routes(app *fiber.App) {
	for _, prefix := range []string{"/api/v1", "/api", ""} {
		app.Get(prefix+"/projects/:projectId/ws", s.serve)
		app.Get(prefix+"/ws", s.serve)
	}
	mountPage(app)
}

// Run reads the log and does the housekeeping until ctx is done. It then closes the open sockets and returns.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.feed.run(ctx) })
	wg.Go(func() { _ = s.waker.Run(ctx) })
	wg.Go(func() { s.housekeep(ctx) })
	wg.Go(func() { s.report(ctx) })
	wg.Wait()
	s.refuseNew() // the log is no longer read
	for _, c := range s.hub.conns() {
		c.Close(CloseRestart, "service restart")
	}
	s.lives.Wait()
	endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.store.leave(endCtx); err != nil {
		s.log.Debug("the database was not told that this node ends; it notices by itself", "error", err)
	}
	return nil
}

// Drain refuses new sockets and closes the open ones, spread over time so that their clients do not all reconnect at once. It returns when
// all sockets have ended, or with ctx.
func (s *Server) Drain(ctx context.Context) error {
	s.refuseNew()
	spread := s.opt.DrainSpread
	if deadline, ok := ctx.Deadline(); ok {
		// Half of the remaining time is kept for closing handshakes.
		spread = min(spread, time.Until(deadline)/2)
	}
	conns := s.hub.conns()
	for i, c := range conns {
		if i > 0 {
			if err := pause(ctx, spread/time.Duration(len(conns))); err != nil {
				break
			}
		}
		c.Close(CloseRestart, "service restart")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.lives.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin counts a socket in, unless the server is draining. lives.Done counts it out.
func (s *Server) begin() bool {
	s.livesMu.Lock()
	defer s.livesMu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.lives.Add(1)
	return true
}

func (s *Server) refuseNew() {
	s.livesMu.Lock()
	defer s.livesMu.Unlock()
	if !s.draining.Swap(true) {
		close(s.drained)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// housekeep sends heartbeats, reports closed sockets and writes the access log. The next beat repairs a failed one.
func (s *Server) housekeep(ctx context.Context) {
	beat := time.NewTicker(s.opt.Beat)
	defer beat.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	s.beat(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			s.beat(ctx)
		case <-second.C:
			s.keepRefusals(ctx)
		case <-s.leave:
			s.leftMu.Lock()
			left := s.left
			s.left = nil
			s.leftMu.Unlock()
			callCtx, cancel := context.WithTimeout(ctx, s.opt.OpenTimeout)
			if err := s.store.forget(callCtx, left); err != nil && ctx.Err() == nil {
				s.log.Warn("closed sockets are counted until the next heartbeat", "sockets", len(left), "error", err)
			}
			cancel()
			if len(left) > 1 { // when many sockets close, more follow
				_ = pause(ctx, lastPause)
			}
		}
	}
}

func (s *Server) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.OpenTimeout)
	defer cancel()
	conns := s.hub.conns()
	list := make([]held, 0, len(conns))
	for _, c := range conns {
		list = append(list, c.held())
	}
	people, watchers := s.roster.everything()
	if err := s.store.beat(ctx, list, people, watchers); err != nil && ctx.Err() == nil {
		s.log.Warn("the heartbeat of the sockets failed", "error", err)
	}
}

// forget queues a closed socket for the database.
func (s *Server) forget(id string) {
	s.leftMu.Lock()
	s.left = append(s.left, id)
	s.leftMu.Unlock()
	select {
	case s.leave <- struct{}{}:
	default:
	}
}

// closed counts why connections end. Called under the connection's lock.
func (s *Server) closed(code int, c *Conn) {
	s.closedMu.Lock()
	s.codes[code]++
	s.closedMu.Unlock()
	s.log.Debug("socket closes", "connection", c.id, "user", c.user, "target", c.target, "code", code)
}

// Stats are the numbers for an operator.
type Stats struct {
	Sockets int
	// Memberships counts the rooms of all connections, once per connection.
	Memberships int
	// Closed counts closed sockets by close code.
	Closed map[int]int64
	// LastEventID is the highest id that was dispatched.
	LastEventID int64
}

// Stats returns the current numbers.
func (s *Server) Stats() Stats {
	sockets, memberships := s.hub.size()
	stats := Stats{Sockets: sockets, Memberships: memberships, Closed: map[int]int64{}, LastEventID: s.feed.last.Load()}
	s.closedMu.Lock()
	defer s.closedMu.Unlock()
	for code, n := range s.codes {
		stats.Closed[code] = n
	}
	return stats
}

// Check returns the probe for the readiness report. It is unhealthy when the log has not been read for a while, and degraded when the log
// is read but no notification is heard.
func (s *Server) Check() api.Check {
	return api.Check{Name: "realtime", Probe: func(context.Context) api.CheckResult {
		read, heard := s.feed.age(time.Now())
		age := read.Seconds()
		switch {
		case read > 4*s.opt.Poll+time.Second:
			return api.CheckResult{Status: "unhealthy", Code: "FEED_STALLED"}
		case heard > 3*pingEvery:
			return api.CheckResult{Status: "degraded", Code: "NOT_NOTIFIED", AgeSeconds: &age}
		}
		return api.CheckResult{Status: "healthy", AgeSeconds: &age}
	}}
}

func (s *Server) originAllowed(ctx *fasthttp.RequestCtx) bool {
	return s.deps.Origins.AllowSocket(string(ctx.Request.Header.Peek(fiber.HeaderOrigin)), string(ctx.Host()))
}
