package socketio

import (
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"kijko/server/realtime"
	"kijko/server/socketio/engine"
	"kijko/worker/exactjson"
)

const (
	maxPacket     = 16 << 10 // bytes, as a frame of a plain socket
	maxNamespaces = 30       // at the same time
	maxFormer     = 100      // namespaces that were left, or never entered
	maxFailures   = 20       // refused CONNECTs of one client
	// Packets of any kind. The actions of a connection have a separate, lower rate limit.
	packetsASecond = 50
	packetsBurst   = 100
)

// client is one Engine.IO session.
type client struct {
	srv     *Server
	session *engine.Session
	request engine.Request
	limit   *rate.Limiter

	// acting is held while an action of the client runs, and while a place is ended.
	acting   sync.Mutex
	places   map[string]*place
	former   map[string]struct{}
	failures int
	idle     *time.Timer
	closed   bool
}

func (s *Server) accept(session *engine.Session, r engine.Request) engine.Receiver {
	c := &client{srv: s, session: session, request: r, limit: rate.NewLimiter(packetsASecond, packetsBurst),
		places: map[string]*place{}, former: map[string]struct{}{}}
	c.idle = time.AfterFunc(s.opt.ConnectTimeout, c.giveUp)
	return c
}

// giveUp ends a session that is in no namespace.
func (c *client) giveUp() {
	c.acting.Lock()
	defer c.acting.Unlock()
	if len(c.places) == 0 {
		c.session.Close(realtime.CloseProtocol, "no namespace was connected")
	}
}

// Received handles one packet. A packet that no client sends ends the session, as the protocol demands.
func (c *client) Received(m engine.Message) {
	c.acting.Lock()
	defer c.acting.Unlock()
	switch {
	case m.Binary:
		c.session.Close(realtime.CloseTextOnly, "text packets only")
		return
	case len(m.Data) > maxPacket:
		c.session.Close(1009, "message too big")
		return
	case !c.limit.Allow():
		c.session.Close(realtime.CloseLimited, "Rate limited")
		return
	}
	p, err := parsePacket(m.Data)
	if err != nil {
		c.protocolError()
		return
	}
	at := c.places[p.namespace]
	if at != nil && at.isOver() {
		c.leave(at)
		at = nil
	}
	_, left := c.former[p.namespace]
	switch {
	case p.kind == packetConnect && at == nil:
		inBackground(func() { c.connect(p) })
	case p.kind == packetConnect:
		c.protocolError()
	case at == nil && left:
		// The client sent it before it knew that the namespace is closed.
	case at == nil:
		c.protocolError()
	case p.kind == packetDisconnect:
		at.finish()
		c.leave(at)
	case p.kind == packetEvent:
		inBackground(func() { at.act(p) })
	}
}

// inBackground runs work that needs a deep stack in a separate goroutine and waits for it, so that the goroutine that stays with the client
// keeps a small stack.
func inBackground(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	<-done
}

func (c *client) protocolError() { c.session.Close(realtime.CloseProtocol, "protocol error") }

// Closed ends all places of the client. A client that lost its transport may reconnect.
func (c *client) Closed(int, string) {
	c.acting.Lock()
	defer c.acting.Unlock()
	c.closed = true
	for _, p := range c.places {
		c.leave(p)
	}
	c.idle.Stop()
}

// leave ends a place.
func (c *client) leave(p *place) {
	if c.places[p.namespace] != p {
		return
	}
	delete(c.places, p.namespace)
	c.srv.release(p)
	p.conn.End()
	c.forget(p.namespace)
}

// forget records a closed namespace, because packets for it may still be on their way.
func (c *client) forget(namespace string) {
	c.former[namespace] = struct{}{}
	if len(c.former) > maxFormer {
		c.protocolError()
	}
	if len(c.places) == 0 && !c.closed {
		c.idle.Reset(c.srv.opt.ConnectTimeout)
	}
}

// credential is the object of a CONNECT.
type credential struct {
	Token       *string `json:"token"`
	ProjectID   string  `json:"projectId"`
	ContextID   string  `json:"contextId"`
	Snapshot    *bool   `json:"snapshot"`
	LastEventID *string `json:"lastEventId"`
	Recovery    *bool   `json:"recovery"`
	PID         string  `json:"pid"`
	Offset      *string `json:"offset"`
}

// The codes of a refused CONNECT.
const (
	codeNoToken    = "NO_TOKEN"
	codeNoProject  = "NO_PROJECT_ID"
	codeToken      = "INVALID_TOKEN"
	codeDenied     = "ACCESS_DENIED"
	codeLimited    = "RATE_LIMITED"
	codeNamespaces = "TOO_MANY_NAMESPACES"
)

// connect opens a namespace, or answers with the reason of the refusal.
func (c *client) connect(p packet) {
	where, known := parseNamespace(p.namespace)
	var cred credential
	if p.auth != nil && exactjson.Unmarshal(p.auth, &cred) != nil {
		c.refuse(p.namespace, "The credential has a member of the wrong type", codeToken, "")
		return
	}
	if cred.ProjectID == "" {
		cred.ProjectID = c.request.Query["projectId"]
	}
	if cred.ContextID == "" {
		cred.ContextID = c.request.Query["contextId"]
	}
	if where.isProject && where.project == "" {
		where.project = strings.ToLower(cred.ProjectID)
	}
	switch {
	case !known:
		c.refuse(p.namespace, "Invalid namespace", "", "")
		return
	case len(c.places) >= maxNamespaces:
		c.refuse(p.namespace, "Too many namespaces", codeNamespaces, "")
		return
	case where.isProject && where.project == "":
		c.refuse(p.namespace, "Missing project id", codeNoProject, "")
		return
	}
	at := &place{client: c, namespace: p.namespace, head: head(packetEvent, p.namespace), offsets: cred.Recovery == nil || *cred.Recovery}
	if at.conn = c.srv.realtime.NewConn(at, c.request.IP); at.conn == nil {
		c.session.Close(realtime.CloseRestart, "service restart")
		return
	}
	c.idle.Stop()
	c.places[p.namespace] = at
	at.open(where, cred)
	if at.isOver() {
		at.answerRefusal()
		c.leave(at)
	}
}

// refuse answers a CONNECT with an error. Client libraries do not retry it automatically; a client that keeps retrying is disconnected.
func (c *client) refuse(namespace, message, code, reason string) {
	answer := map[string]any{"message": message}
	if code != "" {
		data := map[string]string{"code": code}
		if reason != "" {
			data["reason"] = reason
		}
		answer["data"] = data
	}
	c.send(packetConnectError, namespace, encode(answer))
	c.forget(namespace)
	if c.failures++; c.failures > maxFailures {
		c.protocolError()
	}
}

func (c *client) send(kind byte, namespace string, data []byte) {
	c.session.Send(engine.Message{Head: head(kind, namespace), Data: data})
}

func (c *client) sendAck(namespace, id string, data []byte) {
	c.session.Send(engine.Message{Head: head(packetAck, namespace) + id, Data: data})
}
