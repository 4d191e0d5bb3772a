package realtime

import (
	"slices"
	"sync"
	"time"

	"kijko/server/api"
)

// Close codes (contract 30, 2.4).
const (
	CloseDone         = 1000
	CloseTextOnly     = 1003
	CloseInvalidUTF8  = 1007
	CloseInternal     = 1011
	CloseRestart      = 1012
	CloseTryLater     = 1013
	CloseProtocol     = 4000
	CloseUnauthorized = 4001
	CloseForbidden    = 4003
	CloseNotFound     = 4004
	CloseHeartbeat    = 4008
	CloseSlow         = 4009
	CloseRevoked      = 4010
	CloseLimited      = 4029
)

// Kind of a connection: which rooms it begins with and how its frames look.
type Kind uint8

// The three kinds (contract 30, section 2).
const (
	// Project watches the ingestion of one project and is in no other room.
	Project Kind = iota
	// Context begins in the room of one context.
	Context
	// General begins in the rooms of its user and organization.
	General
)

// Sink carries a connection's frames to the client over a WebSocket or a Socket.IO session. Its methods are called under the connection's
// lock: they must return at once, and must not call the connection.
type Sink interface {
	// Send queues a frame. It returns false when the queue is full; the connection then closes the sink. A replay has a separate limit and
	// does not count as queued.
	Send(f *Frame, replay bool) bool
	// Ping makes the client show that it is alive, when the transport has no heartbeat of its own.
	Ping()
	// Close ends the connection after the queued frames, with a close code and reason of the contract. CloseSlow drops the queued frames.
	// Nothing is sent afterwards.
	Close(code int, reason string)
}

// phase of a connection's life.
type phase uint8

const (
	opening phase = iota // events are held back
	live
	closing // nothing is accepted any more
)

// Conn is one client connection, over any transport. Frames to the client go through deliver (events) or send (all other frames). Both only
// queue.
type Conn struct {
	srv       *Server
	sink      Sink
	id        string
	kind      Kind
	target    string // the project or context that the connection is for
	ip        string
	requestID string
	token     string // shortened, for the access log
	// user is set before the connection is registered and never changes.
	user string
	// agents reports whether a connection of a project also gets the events of its agents.
	agents bool

	mu     sync.Mutex
	phase  phase
	caller *api.Caller // renewed by authenticate
	org    string
	head   int64 // of the log, when the connection began
	stays  bool  // also after the completion of a run
	rooms  []*membership
	gate   gate

	timer    *time.Timer
	armedFor time.Time
	due      deadlines

	messages bucket
	limited  strikes
	rejected strikes
}

// deadlines of a connection; zero: none.
type deadlines struct {
	ping    time.Time
	refresh time.Time // the next warning that the token expires
	expiry  time.Time
	done    time.Time // 30 s after the completion
	auth    time.Time // deadline of the first message
}

func (d *deadlines) earliest() (next time.Time) {
	for _, t := range []time.Time{d.ping, d.refresh, d.expiry, d.done, d.auth} {
		next = earlier(next, t)
	}
	return next
}

// earlier returns the earlier of two times; a zero time means none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// ID returns the connection's id, as sent in hello.
func (c *Conn) ID() string { return c.id }

// User returns the id of the connected user; "" before a credential was accepted.
func (c *Conn) User() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caller == nil {
		return ""
	}
	return c.user
}

// claims returns the rights that this connection depends on: one for each project that it watches, and one for itself.
func (c *Conn) claims() []claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := claim{user: c.user, org: c.org}
	if c.caller != nil {
		own.session = c.caller.SessionID
		if own.org == "" {
			own.org = c.caller.OrgHint
		}
	}
	out := []claim{own}
	for _, m := range c.rooms {
		if project := projectOf(m.name); project != "" {
			next := own
			next.project = project
			if !slices.Contains(out, next) {
				out = append(out, next)
			}
		}
	}
	return out
}

// held returns the connection's entry in the node's report.
func (c *Conn) held() held {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := held{id: c.id, user: c.user, org: c.org}
	if c.kind != General {
		h.project = c.target
	}
	return h
}

// deliver takes an event of a room. It never blocks.
func (m *membership) deliver(e *Event) {
	c := m.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase >= closing || m.state == left || m.part && !isIngestion(e.Type) && !(c.agents && isAgent(e.Type)) || e.about != "" && e.about == c.user {
		return
	}
	if m.state == asked {
		if len(m.held) >= c.srv.opt.MaxQueuedFrames {
			c.shut(CloseSlow, "Slow consumer")
			return
		}
		m.held = append(m.held, e)
		return
	}
	m.accept(e)
	c.arm()
}

// accept passes an event through the throttle, unless this connection already received the event or may not have it.
func (m *membership) accept(e *Event) {
	c := m.conn
	if e.ID != 0 {
		if e.ID <= m.head {
			return
		}
		if m.part && m.twin != nil && m.twin.state == inside && e.ID > m.twin.from {
			return // the membership of the whole room delivers it
		}
		m.head = e.ID
		if i := slices.Index(m.covered, e.Seq); i >= 0 {
			m.covered = slices.Delete(m.covered, i, i+1)
			return
		}
		if !m.part && m.twin != nil && isIngestion(e.Type) && m.twin.told(e.ID) {
			return
		}
	}
	if allowed, known := e.readableBy(c.user, c.org); !known {
		// The verdicts do not cover this user, who changed organization meanwhile. The client reconnects and is authorized then.
		c.shut(CloseTryLater, "try again later")
		return
	} else if !allowed {
		return
	}
	now := c.srv.now()
	if e.ID == 0 {
		c.send(e.frame(false), false)
		return
	}
	if f := e.frame(m.part); c.gate.passes(f) {
		c.send(f, false)
	} else {
		for _, f := range c.gate.offer(f, now) {
			c.send(f, false)
		}
	}
	c.noticeEnd(e.Type, now)
}

// readableBy checks the audience for a user whom the room admitted. It decides what differs between members of a room.
func (e *Event) readableBy(user, org string) (allowed, known bool) {
	switch e.Audience {
	case audienceRoom:
		return true, true
	case audienceUsers:
		return slices.Contains(e.UserIDs, user), true
	case audienceProject:
		if kindOf(e.Room) != kindOrg {
			return true, true // admission to the room already decided it
		}
		v, known := e.verdicts[viewer{user, org}]
		return v >= seesProject, known
	case audienceActivity:
		if e.ActorID == user {
			return true, true
		}
		v, known := e.verdicts[viewer{user, org}]
		return v == readsActivity, known
	}
	return false, true
}

// noticeEnd keeps the time at which a completed run's socket is closed. An event of a new run clears it.
func (c *Conn) noticeEnd(eventType string, now time.Time) {
	if c.kind != Project || c.stays {
		return
	}
	switch eventType {
	case typeComplete:
		c.due.done = now.Add(c.srv.opt.DoneDelay)
	case typePhaseStarted, typeProgress:
		c.due.done = time.Time{}
	}
}

// say queues a control frame.
func (c *Conn) say(name string, data any, ref string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.send(controlFrame(name, data, ref, c.srv.now()), false)
}

func (c *Conn) send(f *Frame, replay bool) {
	if c.phase < closing && !c.sink.Send(f, replay) {
		c.shut(CloseSlow, "Slow consumer")
	}
}

// Close ends the connection: the queued frames are written, then the close frame.
func (c *Conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut(code, reason)
}

func (c *Conn) shut(code int, reason string) {
	if c.phase >= closing {
		return
	}
	if c.phase == opening && isRefusal(code) || code == CloseLimited {
		c.srv.refusals.add(c.id, c.asked(), c.token, reason, c.ip)
	}
	c.phase = closing
	c.forget()
	c.sink.Close(code, reason)
	c.srv.closed(code, c)
}

// asked is the project that the connection was requested for, as the access log records it.
func (c *Conn) asked() string {
	if c.kind == General {
		return ""
	}
	return c.target
}

// forget drops waiting events that will not be sent any more.
func (c *Conn) forget() {
	for _, m := range c.rooms {
		m.held = nil
	}
	c.gate.waiting = nil
	c.timer.Stop()
}

// End is called once by the transport, after the transport has ended. No action may be running or follow.
func (c *Conn) End() {
	c.mu.Lock()
	known := c.caller != nil
	c.phase = closing
	c.forget()
	session := ""
	if known {
		session = c.caller.SessionID
	}
	rooms := c.rooms
	c.rooms = nil
	for _, m := range rooms {
		m.leave()
	}
	c.mu.Unlock()
	if known {
		c.srv.hub.remove(c, rooms, session)
		c.srv.forget(c.id)
	}
	c.srv.lives.Done()
}

// tick does the work that is due and sets the timer again.
func (c *Conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase >= closing {
		return
	}
	now := c.srv.now()
	past := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case past(c.due.auth):
		c.shut(CloseUnauthorized, "Authentication timeout")
		return
	case past(c.due.expiry):
		c.shut(CloseUnauthorized, "Token expired")
		return
	case past(c.due.done):
		c.shut(CloseDone, "done")
		return
	}
	if past(c.due.ping) {
		c.sink.Ping()
		c.due.ping = now.Add(c.srv.opt.PingInterval)
	}
	if past(c.due.refresh) && c.phase == live {
		c.warn(now)
	}
	if c.phase == live {
		for _, f := range c.gate.due(now) {
			c.send(f, false)
		}
	}
	c.armedFor = time.Time{}
	c.arm()
}

// warn says that the token expires, now and once more shortly before.
func (c *Conn) warn(now time.Time) {
	c.send(controlFrame("token_refresh_required", map[string]string{
		"reason": "Token expires soon", "expiresAt": timestamp(c.due.expiry),
	}, "", now), false)
	c.due.refresh = c.due.expiry.Add(-c.srv.opt.RefreshAgain)
	if !c.due.refresh.After(now) {
		c.due.refresh = time.Time{}
	}
}

// expires sets the deadlines that follow from a credential's expiry.
func (c *Conn) expires(at time.Time) {
	c.due.expiry = at
	c.due.refresh = at.Add(-c.srv.opt.RefreshBefore)
}

// arm sets the timer to the earliest deadline, unless the timer already fires earlier.
func (c *Conn) arm() {
	if c.phase >= closing {
		return
	}
	next := earlier(c.due.earliest(), c.gate.next())
	if next.IsZero() || !c.armedFor.IsZero() && !next.Before(c.armedFor) {
		return
	}
	c.armedFor = next
	c.timer.Reset(max(0, next.Sub(c.srv.now())))
}

// place finds the membership of a room.
func (c *Conn) place(room string) *membership {
	for _, m := range c.rooms {
		if m.name == room {
			return m
		}
	}
	return nil
}

// roomNames lists the rooms that the connection is in.
func (c *Conn) roomNames() []string {
	names := make([]string, 0, len(c.rooms))
	for _, m := range c.rooms {
		if m.state == inside {
			names = append(names, m.name)
		}
	}
	return names
}

// enter makes a membership in a room. Its events are held back until admission is decided. The caller must notify the hub afterwards.
func (c *Conn) enter(room string) *membership {
	m := &membership{conn: c, name: room, source: sourceOf(room), part: kindOf(room) == kindIngestion}
	for _, other := range c.rooms {
		if other.source == m.source {
			m.twin, other.twin = other, m
		}
	}
	c.rooms = append(c.rooms, m)
	return m
}

// goLive delivers the held events and stops holding events back.
func (m *membership) goLive() {
	m.state = inside
	m.conn.srv.roster.came(m)
	for _, e := range m.held {
		m.accept(e)
	}
	m.held = nil
}

// leave ends a membership. The caller removes it from the connection's rooms and from the hub.
func (m *membership) leave() {
	if m.state == inside {
		m.conn.srv.roster.went(m)
	}
	m.state, m.held = left, nil
	m.conn.gate.forget(m.name)
	if m.twin != nil {
		m.twin.twin = nil
		m.twin = nil
	}
}

// drop removes memberships from the connection, under its lock. The caller must notify the hub afterwards.
func (c *Conn) drop(gone ...*membership) {
	for _, m := range gone {
		m.leave()
	}
	c.rooms = slices.DeleteFunc(c.rooms, func(m *membership) bool { return slices.Contains(gone, m) })
}

// evict removes the connection from all rooms of a project and sends the reason to the client. If the connection is for one of these rooms,
// it is closed.
func (c *Conn) evict(project, reason string) {
	c.mu.Lock()
	if c.phase >= closing {
		c.mu.Unlock()
		return
	}
	if c.kind != General && c.target == project {
		what := "Project not found"
		switch {
		case reason == leftDeleted:
			what = "Project deleted"
		case c.kind == Context:
			what = "Context not found"
		}
		c.shut(CloseNotFound, what)
		c.mu.Unlock()
		return
	}
	var gone []*membership
	for _, m := range c.rooms {
		if projectOf(m.name) == project {
			gone = append(gone, m)
			if m.state == inside {
				c.send(controlFrame(frameLeft, map[string]string{"room": m.name, "reason": reason}, "", c.srv.now()), false)
			}
		}
	}
	c.drop(gone...)
	c.mu.Unlock()
	c.srv.hub.leave(gone...)
}

// Why the server removed a connection from a room.
const (
	leftRevoked = "access_revoked"
	leftDeleted = "deleted"
)
