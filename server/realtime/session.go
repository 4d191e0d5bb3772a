package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"time"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/server/auth"
)

// maxReplay is how many events a socket is given again; beyond that the client reads the state anew.
const maxReplay = 1000

// run is a socket's life, in the goroutine that reads.
func (s *Server) run(conn *websocket.Conn, h handshake) {
	if !s.begin() {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closeRestart, "service restart"), time.Now().Add(s.opt.CloseTimeout))
		return
	}
	defer s.lives.Done()
	sock := s.newSocket(conn.NetConn(), h)

	// What happens only once runs in a goroutine of its own, so that the one that stays keeps a small stack.
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		s.open(sock, h)
	}()
	<-opened
	sock.listen(conn, h)
	sock.finish()
}

func (s *Server) newSocket(conn net.Conn, h handshake) *socket {
	if inner, ok := conn.(interface{ UnsafeConn() net.Conn }); ok {
		conn = inner.UnsafeConn()
	}
	sock := &socket{
		srv: s, id: uuid.NewString(), net: conn, project: h.project, room: "project:" + h.project, rooms: []string{"ingestion:" + h.project},
		ip: h.ip, requestID: h.requestID, written: make(chan struct{}),
		gate:  gate{interval: s.opt.Throttle},
		queue: queue{maxFrames: s.opt.MaxQueuedFrames, maxBytes: s.opt.MaxQueuedBytes},
	}
	sock.timer = time.AfterFunc(time.Hour, sock.tick)
	return sock
}

// open judges a credential that came with the handshake, or waits for the first message.
func (s *Server) open(sock *socket, h handshake) {
	switch {
	case h.token != "":
		s.admit(sock, h, h.token)
	case h.awaits:
		sock.mu.Lock()
		sock.due.auth = s.now().Add(s.opt.AuthTimeout)
		sock.arm()
		sock.mu.Unlock()
	default:
		sock.close(closeUnauthorized, "Missing token")
	}
}

// credential is a judged token: who, and for connection tokens the only project it opens.
type credential struct {
	caller  *api.Caller
	project string
}

// verify judges a token; the error is a *refusal, or an outage.
func (s *Server) verify(ctx context.Context, token string) (credential, error) {
	caller, err := s.deps.Auth.Authenticate(ctx, token)
	if err == nil {
		return credential{caller: caller}, nil
	}
	err = s.reason(ctx, token, err)
	if s.deps.Issuer != nil && errors.Is(err, auth.ErrAudience) {
		connection, connectionErr := s.deps.Issuer.VerifyConnection(token)
		if connectionErr == nil {
			return credential{caller: connectionCaller(connection), project: connection.ProjectID}, nil
		}
		err = connectionErr
	}
	return credential{}, tokenRefusal(err)
}

// reason finds out why a token was refused where the authenticator does not say: REST answers all alike, a socket's close code differs.
func (s *Server) reason(ctx context.Context, token string, err error) error {
	source, ok := s.deps.Auth.(interface{ Verifier() *auth.Verifier })
	if !ok || errors.Is(err, auth.ErrInvalidToken) {
		return err
	}
	if _, reason := source.Verifier().Verify(ctx, token); reason != nil {
		return reason
	}
	return err
}

func connectionCaller(c *auth.Connection) *api.Caller {
	claims, err := json.Marshal(map[string]string{"sub": c.UserID, "sid": c.SessionID, "org_id": c.OrgID})
	if err != nil {
		claims = []byte("{}")
	}
	return &api.Caller{UserID: c.UserID, SessionID: c.SessionID, OrgHint: c.OrgID, Claims: string(claims), ExpiresAt: c.ExpiresAt}
}

func tokenRefusal(err error) error {
	var problem *api.Problem
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		return err
	case errors.Is(err, auth.ErrServiceKey):
		return errNoMember
	case errors.Is(err, auth.ErrExpired):
		return errExpired
	case errors.As(err, &problem) && problem.Code == "SESSION_REVOKED":
		return errRevoked
	case errors.As(err, &problem) && problem.Status >= 500:
		return err
	}
	return &refusal{closeUnauthorized, "Invalid token"}
}

// admit opens the socket for a token or closes it.
func (s *Server) admit(sock *socket, h handshake, token string) {
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.OpenTimeout)
	defer cancel()
	err := s.tryAdmit(ctx, sock, h, token)
	var refused *refusal
	switch {
	case err == nil:
	case errors.As(err, &refused):
		sock.close(refused.code, refused.reason)
	default:
		s.log.Warn("a socket could not be opened", "connection", sock.id, "error", err)
		sock.close(closeTryLater, "try again later")
	}
}

func (s *Server) tryAdmit(ctx context.Context, sock *socket, h handshake, token string) error {
	cred, err := s.verify(ctx, token)
	if err != nil {
		return err
	}
	if ok, _ := s.perUser.take(cred.caller.UserID, s.now()); !ok {
		return &refusal{closeLimited, "Rate limited"}
	}
	if id, err := uuid.Parse(h.project); err != nil || id.String() != h.project {
		return errHidden
	}
	if cred.project != "" && cred.project != h.project {
		return errNoMember
	}
	// Registered before anything is asked: an event or a removal that commits after the question finds the socket here.
	sock.mu.Lock()
	sock.user, sock.caller, sock.due.auth = cred.caller.UserID, cred.caller, time.Time{}
	ended := sock.phase >= closing
	sock.mu.Unlock()
	if ended {
		return nil
	}
	s.hub.add(sock, sock.room, sock.user, cred.caller.SessionID)
	if s.draining.Load() { // Drain may have looked for sockets just before this one was to be found
		return &refusal{closeRestart, "service restart"}
	}

	cursor, valid := parseCursor(h.cursor)
	w := watch{
		socketID: sock.id, caller: cred.caller, projectID: h.project, until: math.MaxInt64, requestID: h.requestID, ip: h.ip,
	}
	if h.hasCursor && valid {
		w.cursor = &cursor
	}
	b, err := s.store.begin(ctx, w)
	if err != nil {
		return err
	}
	sock.begin(b, h, cursor, valid)
	return nil
}

// parseCursor reads a decimal string of at most 38 digits; what exceeds 64 bits is above any head.
func parseCursor(text string) (int64, bool) {
	if text == "" || len(text) > 38 {
		return 0, false
	}
	var id int64
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		if id > (math.MaxInt64-9)/10 {
			id = math.MaxInt64
			continue
		}
		id = id*10 + int64(c-'0')
	}
	return id, true
}

// begin tells the socket hello, then what it missed or the state, then what arrived meanwhile.
func (s *socket) begin(b *beginning, h handshake, cursor int64, valid bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != opening {
		return
	}
	now := s.srv.now()
	s.org, s.head, s.from = b.orgID, b.head, b.head
	s.enqueue(s.hello(now))
	s.expires(s.caller.ExpiresAt)
	s.due.ping = now.Add(s.srv.opt.PingInterval)
	if !s.due.refresh.After(now) {
		s.warn(now)
	}
	switch {
	case !h.hasCursor:
		if h.snapshot != "false" {
			s.restate(b, now)
		}
	default:
		resynced := s.replay(b, cursor, valid, "", now)
		if resynced || h.snapshot == "true" {
			s.restate(b, now)
		}
	}
	held := s.held
	s.held, s.phase = nil, min(live, max(s.phase, live))
	for _, e := range held {
		s.accept(e)
	}
	s.arm()
}

func (s *socket) hello(now time.Time) *frame {
	return controlFrame("hello", struct {
		ConnectionID        string   `json:"connectionId"`
		UserID              string   `json:"userId"`
		OrganizationID      string   `json:"organizationId,omitempty"`
		Rooms               []string `json:"rooms"`
		LastEventID         string   `json:"lastEventId"`
		ExpiresAt           string   `json:"expiresAt"`
		HeartbeatIntervalMS int64    `json:"heartbeatIntervalMs"`
		HeartbeatTimeoutMS  int64    `json:"heartbeatTimeoutMs"`
		Protocol            string   `json:"protocol"`
	}{
		s.id, s.user, s.org, s.rooms, formatID(s.head), timestamp(s.caller.ExpiresAt),
		s.srv.opt.PingInterval.Milliseconds(), s.srv.opt.IdleTimeout.Milliseconds(), protocolName,
	}, "", now)
}

// replay gives again what was missed, or says why that is impossible (true).
func (s *socket) replay(b *beginning, cursor int64, valid bool, ref string, now time.Time) (resync bool) {
	reason := ""
	switch {
	case !valid || cursor > b.head:
		reason = "invalid_cursor"
	case cursor < b.removed:
		reason = "expired"
	case len(b.missed) > maxReplay:
		reason = "too_many"
	}
	if reason != "" {
		s.enqueue(controlFrame("resync_required", map[string]any{
			"reason": reason, "rooms": s.rooms, "lastEventId": formatID(b.head),
		}, ref, now))
		return true
	}
	for _, m := range b.missed {
		f := eventFrame(m.kind, m.id, m.at, m.data)
		if f.series != "" {
			s.gate.note(f.series, now)
			f.series = ""
		}
		s.enqueueFree(f)
		s.noticeEnd(m.kind, now)
	}
	s.from = min(s.from, cursor)
	s.enqueueFree(controlFrame("resumed", map[string]any{"replayed": len(b.missed), "lastEventId": formatID(s.head)}, ref, now))
	return false
}

// enqueueFree queues a frame of a replay, which may be longer than the queue.
func (s *socket) enqueueFree(f *frame) {
	if s.phase < closing {
		s.queue.force(f)
		s.startWriter()
	}
}

// restate sends the snapshot. Whatever it contains will not be sent as an event any more.
func (s *socket) restate(b *beginning, now time.Time) {
	s.gate.waiting = nil
	s.head = max(s.head, b.head)
	s.covered = b.pending
	for _, part := range b.frames {
		s.enqueue(snapshotFrame(part.Type, part.Data, now))
		s.noticeEnd(part.Type, now)
		if part.Type == typeProgress {
			s.gate.note(typeProgress, now)
		}
	}
}

// listen reads until the connection ends. Any frame counts as life.
func (s *socket) listen(conn *websocket.Conn, h handshake) {
	alive := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.phase < closing {
			_ = conn.SetReadDeadline(time.Now().Add(s.srv.opt.IdleTimeout))
		}
	}
	conn.SetReadLimit(s.srv.opt.MaxMessage)
	conn.SetPongHandler(func(string) error { alive(); return nil })
	conn.SetPingHandler(func(data string) error {
		alive()
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
	})
	conn.SetCloseHandler(func(code int, _ string) error {
		if code == websocket.CloseNoStatusReceived {
			code = closeDone
		}
		s.close(code, "")
		return nil
	})
	alive()
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			s.ended(err)
			return
		}
		alive()
		switch {
		case kind != websocket.TextMessage:
			s.close(closeTextOnly, "text frames only")
		case !utf8.Valid(message):
			s.close(closeInvalidUTF8, "invalid UTF-8")
		default:
			s.handle(message, h)
		}
	}
}

// ended decides what a failed read means.
func (s *socket) ended(err error) {
	var closed *websocket.CloseError
	var broken *net.OpError
	switch {
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		// The peer's close frame; the close handler has answered it.
	case errors.As(err, &closed):
		s.fail()
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.close(closeHeartbeat, "Heartbeat timeout")
	case errors.Is(err, websocket.ErrReadLimit):
		s.close(websocket.CloseMessageTooBig, "message too big")
	case errors.As(err, &broken), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		s.fail()
	default:
		// Broken framing. The library has said so already; this waits until the peer has had time to read it.
		s.close(websocket.CloseProtocolError, "")
	}
}

// finish waits until the close frame is out, gives the peer a moment to read it, and forgets the socket.
func (s *socket) finish() {
	<-s.written
	_ = s.net.SetReadDeadline(time.Now().Add(s.srv.opt.CloseTimeout))
	// Closing with unread bytes would reset the connection and take the close frame along.
	_, _ = io.CopyN(io.Discard, s.net, 1<<20)
	_ = s.net.Close()
	s.timer.Stop()
	s.mu.Lock()
	caller := s.caller
	s.mu.Unlock()
	if caller != nil {
		s.srv.hub.remove(s, s.room, s.user, caller.SessionID)
		s.srv.forget(s.id)
	}
}
