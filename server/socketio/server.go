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

// Options are the protocol's usual numbers. A zero value means the usual number.
type Options struct {
	Engine engine.Options
	// ConnectTimeout is how long a client may stay in no namespace: 45 s.
	ConnectTimeout time.Duration
	// AbsenceTime is how long an agent may be without a connection before it is offline: 10 s.
	AbsenceTime time.Duration
	// RecoveryTime is how long the state of a client that lost its transport is kept: 2 min.
	RecoveryTime time.Duration
}

// Deps are the dependencies of a Server.
type Deps struct {
	Realtime *realtime.Server
	// Origins are the sites whose pages may connect, besides those of this server itself. A request without Origin may always connect.
	Origins api.Origins
	// ClientIP evaluates X-Forwarded-For; nil: the peer's address.
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
	// lost are clients whose transport has ended, by private id.
	lost *expirable.LRU[string, memory]
	// departures are the agents whose connections have ended and may come back.
	departures departures
}

// maxLost bounds the memory for clients that may never reconnect. The oldest are dropped first.
const maxLost = 10_000

// memory is the state that a reconnecting client gets back.
type memory struct {
	user, namespace, sid string
	kind                 realtime.Kind
	target               string // its project or context
	rooms                []string
	// from is the log position at which the connection began, for a client that has not received any event yet.
	from string
	// reports is whether it is the connection of agents.
	reports bool
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
	if deps.Options.AbsenceTime == 0 {
		deps.Options.AbsenceTime = 10 * time.Second
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

// Routes mounts Socket.IO at the path that its clients use, and below the prefixes that a proxy may pass on.
func (s *Server) Routes(app *fiber.App) {
	for _, prefix := range []string{"", "/api", "/api/v1"} {
		app.All(prefix+"/socket.io/", s.engine.Serve)
	}
}

// Handlers answer the operations that describe Socket.IO in the document, by operationId. Routes is mounted before them.
func (s *Server) Handlers() map[string]api.Handler {
	serve := func(call *api.Call) error { return s.engine.Serve(call.Ctx) }
	return map[string]api.Handler{"receiveSocketIO": serve, "sendSocketIO": serve}
}

// Drain ends the open sessions. Call it after realtime was drained, which notifies the clients.
func (s *Server) Drain(ctx context.Context) error {
	err := s.engine.Drain(ctx)
	// Agents whose time runs are left to the end of this process in the database.
	s.departures.stop()
	return err
}

// Sessions returns the number of open Engine.IO sessions.
func (s *Server) Sessions() int { return s.engine.Size() }

// recall returns the memory of a private id, and the place that still uses it: its transport may be lost without this server knowing yet.
func (s *Server) recall(pid string) (m memory, owner *place, ok bool) {
	if pid == "" {
		return memory{}, nil, false
	}
	s.mu.Lock()
	owner = s.live[pid]
	m, ok = s.lost.Get(pid)
	s.mu.Unlock()
	if owner != nil {
		return owner.remember(), owner, true // not under the server's lock: a place calls the server under its own lock
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

// release ends the ownership. The memory is kept if the client may reconnect.
func (s *Server) release(p *place) {
	pid, m, returns := p.legacy()
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid != "" && s.live[pid] == p {
		delete(s.live, pid)
		if returns {
			s.lost.Add(pid, m)
		}
	} else if pid != "" {
		return // Another connection continues this one.
	}
	if m.reports {
		s.departures.after(s.opt.AbsenceTime, func() { s.endAgents(pid, m.sid) })
	}
}

func newID() string { return rand.Text() }
