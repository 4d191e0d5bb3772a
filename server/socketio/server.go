package socketio

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/hashicorp/golang-lru/v2/expirable"

	"kijko/server/api"
	"kijko/server/realtime"
	"kijko/server/socketio/engine"
)

// Options are the protocol's customary numbers; zero values mean those.
type Options struct {
	Engine engine.Options
	// ConnectTimeout is how long a client may be in no namespace: 45 s.
	ConnectTimeout time.Duration
	// RecoveryTime is how long a client that lost its transport is remembered: 2 min.
	RecoveryTime time.Duration
}

// Deps is what a Server needs.
type Deps struct {
	Realtime *realtime.Server
	// Origins are the sites whose pages may connect, besides those of this server itself; a request without Origin may.
	Origins api.Origins
	// ClientIP judges X-Forwarded-For; nil: the peer's address.
	ClientIP func(c *fiber.Ctx) string
	Log      *slog.Logger
	Options  Options
}

// Server holds the Socket.IO clients of this process.
type Server struct {
	realtime *realtime.Server
	engine   *engine.Server
	opt      Options
	log      *slog.Logger

	mu   sync.Mutex
	live map[string]*place // by private id
	// lost are clients whose transport is gone, by private id.
	lost *expirable.LRU[string, memory]
}

// maxLost bounds the memory of clients that may never come back; the oldest go first.
const maxLost = 10_000

// memory is what a returning client gets back.
type memory struct {
	user, namespace, sid string
	kind                 realtime.Kind
	target               string // its project or context
	rooms                []string
	// from is where its beginning was, for a client that has not been told any event yet.
	from string
}

// New wires a Server.
func New(deps Deps) (*Server, error) {
	if deps.Realtime == nil {
		return nil, errors.New("socketio: realtime is needed")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Options.ConnectTimeout == 0 {
		deps.Options.ConnectTimeout = 45 * time.Second
	}
	if deps.Options.RecoveryTime == 0 {
		deps.Options.RecoveryTime = 2 * time.Minute
	}
	s := &Server{realtime: deps.Realtime, opt: deps.Options, log: deps.Log, live: map[string]*place{},
		lost: expirable.NewLRU[string, memory](maxLost, nil, deps.Options.RecoveryTime)}
	var err error
	s.engine, err = engine.New(engine.Deps{Accept: s.accept, Query: []string{"projectId", "contextId"},
		Admit: func(ip string) error { return deps.Realtime.Admit(ip, "") }, Foreign: func(ip, origin string) { deps.Realtime.NoteForeign(ip, "", origin) },
		AllowOrigin: deps.Origins.AllowSocket, ClientIP: deps.ClientIP, Log: deps.Log, Options: deps.Options.Engine})
	return s, err
}

// Routes mounts Socket.IO where its clients look for it, and below the prefixes that a proxy may pass alone.
func (s *Server) Routes(app *fiber.App) {
	for _, prefix := range []string{"", "/api", "/api/v1"} {
		app.All(prefix+"/socket.io/", s.engine.Serve)
	}
}

// Handlers answer the operations that describe it in the document, by operationId; Routes stands in front of them.
func (s *Server) Handlers() map[string]api.Handler {
	serve := func(call *api.Call) error { return s.engine.Serve(call.Ctx) }
	return map[string]api.Handler{"receiveSocketIO": serve, "sendSocketIO": serve}
}

// Drain ends what is still open. Call it after realtime was drained, which tells the clients.
func (s *Server) Drain(ctx context.Context) error { return s.engine.Drain(ctx) }

// Sessions is the number of open Engine.IO sessions.
func (s *Server) Sessions() int { return s.engine.Size() }

// recall gives what is remembered of a private id, and who still uses it: a transport may be gone without anybody having noticed here.
func (s *Server) recall(pid string) (m memory, owner *place, ok bool) {
	if pid == "" {
		return memory{}, nil, false
	}
	s.mu.Lock()
	owner = s.live[pid]
	m, ok = s.lost.Get(pid)
	s.mu.Unlock()
	if owner != nil {
		return owner.remember(), owner, true // not under our lock: a place calls here under its own
	}
	return m, nil, ok
}

// assume makes a place the owner of a private id.
func (s *Server) assume(pid string, p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[pid] = p
	s.lost.Remove(pid)
}

// release ends the ownership; the memory is kept where the client may come back.
func (s *Server) release(p *place) {
	pid, m, returns := p.legacy()
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid == "" || s.live[pid] != p {
		return
	}
	delete(s.live, pid)
	if returns {
		s.lost.Add(pid, m)
	}
}

func newID() string { return rand.Text() }
