package socketio

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"kijko/server/realtime"
	"kijko/server/socketio/engine"
)

// place is a namespace connection: one client in one namespace. It is the sink of its realtime connection.
type place struct {
	client    *client
	namespace string
	head      string // of its events
	offsets   bool   // events carry their ids, and the client may resume
	conn      *realtime.Conn

	// Set by open before the first frame.
	kind     realtime.Kind
	target   string // its project or context
	demanded string // a room that must admit the client
	resumes  bool   // a cursor was given: the missed events are replayed after hello

	mu        sync.Mutex
	state     placeState
	held      []heldFrame // frames after hello, until it is known whether the client keeps its sid
	recovers  *memory
	former    *place // the place that still uses the private id that this one takes over
	pid, sid  string
	user      string
	from      string
	rooms     []string
	surplus   []string // rooms to leave again
	refused   *refusal // the refusal that answers CONNECT
	final     bool     // the client does not reconnect automatically
	reports   bool     // it is the connection of agents
	answering string   // id of the acknowledgement that answers the current action
}

type heldFrame struct {
	frame  *realtime.Frame
	replay bool
}

// refusal is the close code and reason of a connection that was closed before it began.
type refusal struct {
	code   int
	reason string
}

type placeState uint8

const (
	connecting placeState = iota
	connected
	over
)

// open checks the credential. The answer comes through Send or Close.
func (p *place) open(where address, cred credential) {
	o := realtime.Opening{Kind: realtime.General}
	if cred.Token != nil {
		o.Token = *cred.Token
	}
	switch {
	case where.isProject:
		o.Kind, o.Target, o.Agents = realtime.Project, where.project, true
	case cred.ContextID != "":
		o.Kind, o.Target = realtime.Context, strings.ToLower(cred.ContextID)
	}
	if !where.isProject && cred.ProjectID != "" {
		p.demanded = "project:" + strings.ToLower(cred.ProjectID)
		o.Rooms = append(o.Rooms, p.demanded)
	}
	if cred.Snapshot != nil {
		o.Snapshot = "false"
		if *cred.Snapshot {
			o.Snapshot = "true"
		}
	}
	if cursor := firstOf(cred.Offset, cred.LastEventID); cursor != nil {
		o.Cursor, o.HasCursor = *cursor, true
	}
	if p.offsets {
		if m, owner, ok := p.client.srv.recall(cred.PID); ok && m.namespace == p.namespace && m.kind == o.Kind && m.target == o.Target {
			p.recovers, p.former, p.pid = &m, owner, cred.PID
			o.Rooms = append(o.Rooms, m.rooms...)
			if !o.HasCursor {
				o.Cursor, o.HasCursor = m.from, true
			}
		}
	}
	p.kind, p.target, p.resumes = o.Kind, o.Target, o.HasCursor
	p.conn.Open(o)
	for _, room := range p.begun() {
		p.conn.Leave(room, "")
	}
}

// begun returns the rooms that the client had left before it lost its transport, and that every connection begins in.
func (p *place) begun() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == connecting {
		p.state, p.refused = over, &refusal{realtime.CloseInternal, "internal error"} // cannot happen: an opening is either accepted or refused
	}
	surplus := p.surplus
	p.surplus = nil
	return surplus
}

func firstOf(values ...*string) *string {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}

// Send sends a frame. The caller holds the connection's lock.
func (p *place) Send(f *realtime.Frame, replay bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case over:
		return true
	case connecting:
		p.held = append(p.held, heldFrame{f, replay})
		if p.resumes && !decides(f) {
			return true
		}
		return p.welcome(f)
	}
	return p.tell(f, replay)
}

// decides reports whether a frame shows the outcome of a replay.
func decides(f *realtime.Frame) bool {
	return !f.Control || f.Name == "resumed" || f.Name == "resync_required"
}

// welcome answers CONNECT, with the old sid if everything could be restored, and sends the held frames.
func (p *place) welcome(last *realtime.Frame) bool {
	var hello struct {
		ConnectionID, UserID, LastEventID string
		Rooms                             []string
	}
	_ = json.Unmarshal(p.held[0].frame.Data, &hello)
	if p.demanded != "" && !slices.Contains(hello.Rooms, p.demanded) {
		p.state, p.refused = over, &refusal{realtime.CloseNotFound, "Project not found"}
		return true
	}
	p.state, p.sid, p.user, p.rooms, p.from = connected, hello.ConnectionID, hello.UserID, hello.Rooms, hello.LastEventID
	switch {
	case p.recovers == nil || p.recovers.user != p.user:
		p.pid = ""
	case last.Name == "resync_required":
		p.pid = ""
		p.supersede()
	default:
		p.sid, p.reports = p.recovers.sid, p.recovers.reports
		p.surplus = slices.DeleteFunc(slices.Clone(p.rooms), func(room string) bool { return slices.Contains(p.recovers.rooms, room) })
		p.supersede()
	}
	answer := map[string]string{"sid": p.sid}
	if p.offsets {
		if p.pid == "" {
			p.pid = newID()
		}
		p.client.srv.assume(p.pid, p)
		answer["pid"] = p.pid
	}
	p.client.send(packetConnect, p.namespace, encode(answer))
	held := p.held
	p.held, p.recovers, p.former = nil, nil, nil
	for _, h := range held {
		if !p.tell(h.frame, h.replay) {
			return false
		}
	}
	return true
}

// supersede ends the old transport, which the client has lost but this server still considers open.
func (p *place) supersede() {
	if p.former != nil {
		go p.former.client.session.Close(realtime.CloseDone, "continued over another connection")
	}
}

// tell sends a frame in Socket.IO's encoding.
func (p *place) tell(f *realtime.Frame, replay bool) bool {
	if f.Control {
		p.notice(f)
		if p.answer(f) {
			return true
		}
	}
	m := engine.Message{Head: p.head, Data: p.encoded(f), Free: replay}
	if series := f.Series(); series != "" {
		m.Series = p.namespace + " " + series
	}
	return p.client.session.Send(m)
}

// encoded returns the event's array. All places with the same event names share it.
func (p *place) encoded(f *realtime.Frame) []byte {
	name, key, offset := f.Name, "sio", f.ID
	switch {
	case f.Name == "error" && f.Control && p.kind != realtime.General:
		name = "protocol_error" // not to be confused with an ingestion's error
	case f.Name == "error" && !f.Control && p.kind == realtime.General:
		name, key = "ingestion_error", "sio general"
	}
	if !p.offsets {
		offset, key = 0, key+" plain"
	}
	if f.Control {
		return encodeEvent(name, f.Data, 0)
	}
	return f.Encoded(key, func(f *realtime.Frame) []byte { return encodeEvent(name, f.Data, offset) })
}

// notice keeps the list of rooms up to date, for a reconnect.
func (p *place) notice(f *realtime.Frame) {
	var data struct{ Room string }
	switch f.Name {
	case "room_joined":
		if json.Unmarshal(f.Data, &data) == nil && !slices.Contains(p.rooms, data.Room) {
			p.rooms = append(p.rooms, data.Room)
		}
	case "room_left":
		if json.Unmarshal(f.Data, &data) == nil {
			p.rooms = slices.DeleteFunc(p.rooms, func(room string) bool { return room == data.Room })
		}
	}
}

// Ping does nothing: Engine.IO has a heartbeat of its own.
func (p *place) Ping() {}

// Close ends the place. The caller holds the connection's lock.
func (p *place) Close(code int, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case connecting:
		p.state, p.refused, p.held = over, &refusal{code, reason}, nil
	case connected:
		p.state = over
		p.client.session.Send(engine.Message{Head: p.head, Data: encodeEvent("closing", encode(map[string]any{"code": code, "reason": reason}), 0), Free: true})
		if !isFinal(code) {
			p.client.session.Close(code, reason)
			return
		}
		p.final = true
		p.client.send(packetDisconnect, p.namespace, nil)
		go p.end()
	}
}

// isFinal reports whether the client should not reconnect after this close code.
func isFinal(code int) bool {
	switch code {
	case realtime.CloseDone, realtime.CloseForbidden, realtime.CloseNotFound, realtime.CloseRevoked, realtime.CloseLimited:
		return true
	}
	return false
}

// answerRefusal answers CONNECT with an error. If the client should retry, it ends the transport instead.
func (p *place) answerRefusal() {
	p.mu.Lock()
	r := p.refused
	p.final = p.final || r != nil
	p.mu.Unlock()
	if r == nil {
		return // it was admitted, and has ended since
	}
	c := p.client
	switch r.code {
	case realtime.CloseUnauthorized:
		if r.reason == "Missing token" {
			c.refuse(p.namespace, r.reason, codeNoToken, "")
			return
		}
		c.refuse(p.namespace, r.reason, codeToken, "")
	case realtime.CloseRevoked:
		c.refuse(p.namespace, r.reason, codeToken, "")
	case realtime.CloseForbidden, realtime.CloseNotFound:
		c.refuse(p.namespace, "Access denied", codeDenied, r.reason)
	case realtime.CloseLimited:
		c.refuse(p.namespace, r.reason, codeLimited, "")
	default:
		c.session.Close(r.code, r.reason)
	}
}

// end removes the place from its client.
func (p *place) end() {
	p.client.acting.Lock()
	defer p.client.acting.Unlock()
	p.client.leave(p)
}

// finish ends the place at the client's request.
func (p *place) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.final = over, true
}

func (p *place) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == over
}

// remember returns the state that a reconnecting client gets back.
func (p *place) remember() memory {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.memory()
}

func (p *place) memory() memory {
	return memory{user: p.user, namespace: p.namespace, sid: p.sid, kind: p.kind, target: p.target, rooms: slices.Clone(p.rooms), from: p.from,
		reports: p.reports}
}

// legacy returns the state of an ended place, and whether a client may resume it.
func (p *place) legacy() (pid string, m memory, returns bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = over
	return p.pid, p.memory(), !p.final
}
