package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"kijko/server/api"
)

// Options are the protocol's usual numbers. A zero value means the usual number.
type Options struct {
	PingInterval   time.Duration // 25 s
	PingTimeout    time.Duration // 20 s
	UpgradeTimeout time.Duration // 10 s
	WriteTimeout   time.Duration // 10 s
	CloseTimeout   time.Duration // 2 s: for the client's part of a closing handshake
	Linger         time.Duration // 5 s: how long an ended session waits for the GET that fetches its last packets
	MaxPayload     int           // 1 MB: bytes of one body or frame from the client

	MaxSessions       int // 10,000 in this process
	SessionsPerIP     int // 200
	MaxQueuedMessages int // 256
	MaxQueuedBytes    int // 1 MiB
}

func (o Options) withDefaults() Options {
	for value, def := range map[*time.Duration]time.Duration{&o.PingInterval: 25 * time.Second, &o.PingTimeout: 20 * time.Second,
		&o.UpgradeTimeout: 10 * time.Second, &o.WriteTimeout: 10 * time.Second, &o.CloseTimeout: 2 * time.Second, &o.Linger: 5 * time.Second} {
		if *value == 0 {
			*value = def
		}
	}
	for value, def := range map[*int]int{&o.MaxPayload: 1_000_000, &o.MaxSessions: 10_000, &o.SessionsPerIP: 200, &o.MaxQueuedMessages: 256,
		&o.MaxQueuedBytes: 1 << 20} {
		if *value == 0 {
			*value = def
		}
	}
	return o
}

// Receiver handles the messages of a session's client. Received is called by one goroutine at a time. Closed is called once, after the last
// Received has returned or while it runs; nothing can be sent afterwards.
type Receiver interface {
	Received(m Message)
	Closed(code int, reason string)
}

// Request is a copy of the data of a session's first request.
type Request struct {
	IP    string
	Query map[string]string // the given parameters out of Deps.Query
}

// Deps are the dependencies of a Server.
type Deps struct {
	// Accept makes the receiver of a new session. It must not wait.
	Accept func(s *Session, r Request) Receiver
	// Query names the parameters that are passed to Accept. Values over 200 bytes are dropped. Nothing else is kept of a request.
	Query []string
	// Foreign is called for requests from pages of other sites. May be nil.
	Foreign func(ip, origin string)
	// Admit checks a new session before it is made: an error refuses it (a rate limit, for example). nil: all are accepted.
	Admit func(ip string) error
	// AllowOrigin reports whether a page of origin may connect to a server with the Host header host. A request without Origin may always
	// connect.
	AllowOrigin func(origin, host string) bool
	// ClientIP evaluates X-Forwarded-For; nil: the peer's address.
	ClientIP func(c *fiber.Ctx) string
	Log      *slog.Logger
	Options  Options
}

// Server holds the sessions of this process.
type Server struct {
	deps     Deps
	opt      Options
	log      *slog.Logger
	upgrader *websocket.FastHTTPUpgrader

	mu       sync.Mutex
	sessions map[string]*Session // includes ended sessions whose last packets may still be fetched
	open     int
	perIP    map[string]int
	draining bool
	lives    sync.WaitGroup
}

// New makes a Server. It starts no goroutine; its sessions do.
func New(deps Deps) (*Server, error) {
	if deps.Accept == nil {
		return nil, errors.New("engine: Deps.Accept is missing")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.ClientIP == nil {
		deps.ClientIP = func(c *fiber.Ctx) string { return c.Context().RemoteIP().String() }
	}
	return &Server{
		deps: deps, opt: deps.Options.withDefaults(), log: deps.Log, sessions: map[string]*Session{}, perIP: map[string]int{},
		upgrader: &websocket.FastHTTPUpgrader{
			ReadBufferSize: 1024, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{}, CheckOrigin: func(*fasthttp.RequestCtx) bool { return true },
		},
	}, nil
}

// The refusals of Engine.IO.
const (
	codeTransport   = 0
	codeSession     = 1
	codeMethod      = 2
	codeBadRequest  = 3
	codeForbidden   = 4
	codeUnsupported = 5
)

var messages = [...]string{"Transport unknown", "Session ID unknown", "Bad handshake method", "Bad request", "Forbidden",
	"Unsupported protocol version"}

func refuse(c *fiber.Ctx, code int) error {
	status := http.StatusBadRequest
	if code == codeForbidden {
		status = http.StatusForbidden
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(status).JSON(struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{code, messages[code]})
}

// Serve answers one request of the Engine.IO path.
func (s *Server) Serve(c *fiber.Ctx) error {
	query := c.Context().QueryArgs()
	transport := string(query.Peek("transport"))
	upgrades := websocket.FastHTTPIsWebSocketUpgrade(c.Context())
	origin := string(c.Request().Header.Peek(fiber.HeaderOrigin))
	switch {
	case transport != "polling" && transport != "websocket":
		return refuse(c, codeTransport)
	case origin != "" && !s.deps.AllowOrigin(origin, string(c.Context().Host())):
		if s.deps.Foreign != nil {
			s.deps.Foreign(s.deps.ClientIP(c), origin)
		}
		return refuse(c, codeForbidden)
	case string(query.Peek("EIO")) != "4":
		return refuse(c, codeUnsupported)
	case (transport == "websocket") != upgrades, upgrades && api.CheckUpgrade(c) != nil:
		return refuse(c, codeBadRequest)
	}
	if query.Has("sid") {
		session := s.find(string(query.Peek("sid")))
		switch {
		case session == nil:
			return refuse(c, codeSession)
		case upgrades:
			return s.upgradeSession(c, session)
		case c.Method() == http.MethodGet:
			return session.servePoll(c)
		case c.Method() == http.MethodPost:
			return session.servePost(c)
		}
		return refuse(c, codeBadRequest)
	}
	if c.Method() != http.MethodGet {
		return refuse(c, codeMethod)
	}
	return s.handshake(c, upgrades)
}

const maxQueryValue = 200

// handshake begins a session.
func (s *Server) handshake(c *fiber.Ctx, upgrades bool) error {
	ip := s.deps.ClientIP(c)
	if s.deps.Admit != nil {
		if err := s.deps.Admit(ip); err != nil {
			return err
		}
	}
	request := Request{IP: ip, Query: map[string]string{}}
	for _, name := range s.deps.Query {
		if value := c.Context().QueryArgs().Peek(name); len(value) > 0 && len(value) <= maxQueryValue {
			request.Query[name] = string(value)
		}
	}
	if upgrades {
		_ = s.upgrader.Upgrade(c.Context(), func(conn *websocket.Conn) {
			w := newWire(conn, s.opt)
			session, err := s.begin(request, w)
			if err != nil {
				w.refuse(closeTryLater, "try again later")
				return
			}
			session.listen(w)
			s.lives.Done()
		})
		return nil
	}
	session, err := s.begin(request, nil)
	if err != nil {
		return err
	}
	return session.servePoll(c)
}

// begin registers a session and queues its first packet. The caller of a session over a WebSocket calls lives.Done when its reading ended.
func (s *Server) begin(r Request, w *wire) (*Session, error) {
	session := &Session{srv: s, id: rand.Text(), ip: r.IP, ws: w,
		queue: queue{maxPackets: s.opt.MaxQueuedMessages, maxBytes: s.opt.MaxQueuedBytes}}
	s.mu.Lock()
	switch {
	case s.draining:
		s.mu.Unlock()
		return nil, unavailable("This server is being restarted. Please connect again.")
	case s.open >= s.opt.MaxSessions:
		s.mu.Unlock()
		return nil, unavailable("This server has no room for more connections. Please try again later.")
	case s.perIP[r.IP] >= s.opt.SessionsPerIP:
		s.mu.Unlock()
		p := api.NewProblem(http.StatusTooManyRequests, "RATE_LIMITED", "Too many connections from this address.", "")
		p.Header = map[string]string{fiber.HeaderRetryAfter: "30"}
		return nil, p
	}
	s.sessions[session.id] = session
	s.open++
	s.perIP[r.IP]++
	s.lives.Add(1) // until Closed has returned
	if w != nil {
		s.lives.Add(1)
	}
	s.mu.Unlock()

	upgrades := `["websocket"]`
	if w != nil {
		upgrades = "[]"
	}
	hello := fmt.Appendf(nil, `{"sid":%q,"upgrades":%s,"pingInterval":%d,"pingTimeout":%d,"maxPayload":%d}`, session.id, upgrades,
		s.opt.PingInterval.Milliseconds(), s.opt.PingTimeout.Milliseconds(), s.opt.MaxPayload)
	session.start(hello, r)
	return session, nil
}

func unavailable(text string) error {
	p := api.NewProblem(http.StatusServiceUnavailable, "SERVICE_UNAVAILABLE", text, "")
	p.Header = map[string]string{fiber.HeaderRetryAfter: "1"}
	return p
}

func (s *Server) find(id string) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// forget removes a session's id.
func (s *Server) forget(session *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, session.id)
}

// release frees the slot of an ended session.
func (s *Server) release(ip string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.perIP[ip]--; s.perIP[ip] <= 0 {
		delete(s.perIP, ip)
	}
}

// Size returns the number of open sessions.
func (s *Server) Size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Drain refuses new sessions, ends the open ones with 1012, and returns when their goroutines have ended, or with ctx.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	sessions := make([]*Session, 0, len(s.sessions))
	for _, session := range s.sessions {
		sessions = append(sessions, session)
	}
	s.mu.Unlock()
	for _, session := range sessions {
		session.Close(closeRestart, "service restart")
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
