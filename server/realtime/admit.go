package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/server/auth"
)

// maxReplay is how many missed events are replayed to a connection. A client that missed more must load the current state again.
const maxReplay = 1000

// Opening is what a client requests when it connects.
type Opening struct {
	Kind Kind
	// Target is the project or context, as requested.
	Target string
	Token  string
	// InHeader reports that the token came in the Authorization header, the only place where an API key is accepted.
	InHeader bool
	// Cursor is the largest event id that the client knows. HasCursor is false when the client gave no cursor.
	Cursor    string
	HasCursor bool
	// Snapshot "false" declines the state of the project's run. "true" requests it in addition to a cursor.
	Snapshot string
	// Agent is the client's user agent.
	Agent string
	// Agents asks, for a project, for the events of its agents too.
	Agents bool
	// Rooms are further rooms to join at the beginning. A room that does not admit the client is left out.
	Rooms []string
}

// NewConn makes a connection that is not authorized yet. It returns nil while the server is draining. The transport calls Open first. It
// then calls the other actions one at a time from one goroutine; each may take as long as a database query. When the transport has ended,
// it calls End.
func (s *Server) NewConn(sink Sink, ip string) *Conn {
	c := &Conn{}
	if !s.start(c, sink, ip) {
		return nil
	}
	return c
}

// start initializes c as a connection; c may be embedded in a larger structure.
func (s *Server) start(c *Conn, sink Sink, ip string) bool {
	if !s.begin() {
		return false
	}
	c.srv, c.sink, c.id, c.ip, c.requestID = s, sink, uuid.NewString(), ip, uuid.NewString()
	c.gate.interval = s.opt.Throttle
	c.timer = time.AfterFunc(time.Hour, c.tick)
	return true
}

// Await gives the client some time to send a credential in its first message. The transport then calls Open.
func (c *Conn) Await() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due.auth = c.srv.now().Add(c.srv.opt.AuthTimeout)
	c.arm()
}

// Open checks the credential and joins the rooms. On success the first frame is hello; otherwise the connection is closed with the reason.
func (c *Conn) Open(o Opening) {
	ctx, cancel := context.WithTimeout(context.Background(), c.srv.opt.OpenTimeout)
	defer cancel()
	c.mu.Lock()
	c.kind, c.target, c.token, c.agents = o.Kind, o.Target, shorten(o.Token), o.Agents
	c.mu.Unlock()
	var err error = &refusal{CloseUnauthorized, "Missing token"}
	if o.Token != "" {
		err = c.tryOpen(ctx, o)
	}
	c.refuse(err, "a socket could not be opened")
}

// refuse closes the connection because of a refusal, or because of an outage on the server's side. A nil error does nothing.
func (c *Conn) refuse(err error, what string) {
	var refused *refusal
	switch {
	case err == nil:
	case errors.As(err, &refused):
		c.Close(refused.code, refused.reason)
	default:
		c.srv.log.Warn(what, "connection", c.id, "error", err)
		c.Close(CloseTryLater, "try again later")
	}
}

func (c *Conn) tryOpen(ctx context.Context, o Opening) (err error) {
	s := c.srv
	var cred credential
	if o.InHeader && api.IsKey(o.Token) && s.deps.Keys != nil {
		if cred, err = s.verifyKey(ctx, o.Token, c.ip); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				s.deps.Keys.GiveBack(cred.caller)
				return
			}
			s.deps.Keys.Used(cred.caller, c.ip, o.Agent)
		}()
	} else if cred, err = s.verify(ctx, o.Token); err != nil {
		return err
	}
	if ok, _ := s.perUser.take(cred.caller.UserID, s.now()); !ok {
		return &refusal{CloseLimited, "Rate limited"}
	}
	rooms, err := o.rooms(cred)
	if err != nil {
		return err
	}
	// The connection is registered before any query: an event or a removal that commits after the query finds the connection here.
	c.mu.Lock()
	if c.phase >= closing {
		c.mu.Unlock()
		return nil
	}
	c.user, c.caller, c.due.auth = cred.caller.UserID, cred.caller, time.Time{}
	places := make([]*membership, len(rooms))
	for i, room := range rooms {
		places[i] = c.enter(room)
	}
	c.mu.Unlock()
	s.hub.add(c, places, cred.caller.SessionID)
	if s.draining.Load() { // Drain may have listed the connections just before this one was registered
		return &refusal{CloseRestart, "service restart"}
	}
	return c.begin(ctx, o, rooms)
}

// rooms returns the rooms to join at the beginning. The first one is the main room of a project or context connection.
func (o Opening) rooms(cred credential) ([]string, error) {
	var rooms []string
	switch o.Kind {
	case Project, Context:
		if id, err := uuid.Parse(o.Target); err != nil || id.String() != o.Target {
			return nil, o.hidden()
		}
		kind := kindIngestion
		if o.Kind == Context {
			kind = kindContext
		}
		rooms = []string{kind + ":" + o.Target}
	default:
		rooms = []string{kindUser + ":" + cred.caller.UserID}
		if cred.caller.OrgHint != "" {
			rooms = append(rooms, kindOrg+":"+cred.caller.OrgHint)
		}
	}
	if cred.project != "" && (o.Kind != Project || cred.project != o.Target) {
		return nil, errNoMember
	}
	for _, name := range o.Rooms {
		if room, ok := parseRoom(name); ok && o.Kind != Project && len(rooms) < maxRooms && !slices.Contains(rooms, room) {
			rooms = append(rooms, room)
		}
	}
	return rooms, nil
}

func (o Opening) hidden() *refusal {
	if o.Kind == Context {
		return errNoContext
	}
	return errHidden
}

// begin reads everything in one round trip. When the credential names no organization, a second round trip reads the organization's room.
func (c *Conn) begin(ctx context.Context, o Opening, rooms []string) error {
	cursor, valid := parseCursor(o.Cursor)
	w := watch{socketID: c.id, caller: c.caller, limit: maxReplay + 1, requestID: c.requestID, ip: c.ip}
	if o.Kind != General {
		w.project = o.Target
	}
	if o.Kind == Project {
		w.snapshot = o.Target
	}
	for _, room := range rooms {
		next := ask{room: room, until: math.MaxInt64}
		if o.HasCursor && valid {
			next.cursor = &cursor
		}
		w.rooms = append(w.rooms, next)
	}
	b, err := c.srv.arrivals.begin(ctx, w)
	if err != nil {
		return err
	}
	if o.Kind != General && !b.rooms[0].admitted {
		return o.hidden()
	}
	if own := kindOrg + ":" + b.orgID; o.Kind == General && b.orgID != "" && !slices.Contains(rooms, own) {
		if err := c.alsoBegin(ctx, own, w, b); err != nil {
			return err
		}
	}
	r := b.gather(cursor, valid || !o.HasCursor)
	isStated := o.Kind == Project && o.Snapshot != "false" && (!o.HasCursor || len(r.resync) > 0 || o.Snapshot == "true")
	if isStated {
		if err := c.tellOnce(ctx, b); err != nil {
			return err
		}
	}
	c.welcome(o, b, r, isStated)
	return nil
}

// tellOnce keeps a completion in the snapshot for only the first of a user's sockets. The other sockets get the state after the completion.
// Otherwise a client that reconnects on completion would receive the completion again, and reconnect again.
func (c *Conn) tellOnce(ctx context.Context, b *beginning) error {
	for i, part := range b.frames {
		if part.Later == nil {
			continue
		}
		first, err := c.srv.store.tellCompletion(ctx, c.user, c.target, part.RunID)
		if err != nil {
			return err
		}
		if !first {
			b.frames = slices.Clone(b.frames) // shared with other connections that came at the same time
			b.frames[i] = *part.Later
		}
	}
	return nil
}

// alsoBegin adds the organization's room, which was not known before.
func (c *Conn) alsoBegin(ctx context.Context, room string, w watch, b *beginning) error {
	c.mu.Lock()
	m := c.enter(room)
	c.mu.Unlock()
	c.srv.hub.join(m)
	w.rooms = []ask{{room: room, cursor: w.rooms[0].cursor, until: math.MaxInt64}}
	w.socketID, w.snapshot = "", ""
	more, err := c.srv.arrivals.begin(ctx, w)
	if err != nil {
		return err
	}
	// The organization's events are delivered from its own, later head. The head of the answer stays the earlier one, below which nothing
	// is missing.
	b.rooms = append(b.rooms, more.rooms...)
	b.later = more.head
	return nil
}

// welcome sends hello, then the missed events or the state, then the events that arrived meanwhile.
func (c *Conn) welcome(o Opening, b *beginning, r *replay, isStated bool) {
	c.mu.Lock()
	gone := c.settle(b)
	if c.phase == opening {
		now := c.srv.now()
		c.phase, c.org, c.head = live, b.orgID, b.head
		c.expires(c.caller.ExpiresAt)
		c.send(c.hello(now), false)
		c.due.ping = now.Add(c.srv.opt.PingInterval)
		if !c.due.refresh.After(now) {
			c.warn(now)
		}
		if o.HasCursor {
			c.tellReplay(r, "", now)
		}
		if isStated {
			c.restate(b, now)
		}
		for _, m := range c.rooms {
			if m.state == asked {
				m.goLive()
			}
		}
		c.arm()
	}
	c.mu.Unlock()
	c.srv.hub.leave(gone...)
}

// settle applies admission and head from the answer. It returns the memberships that were not admitted.
func (c *Conn) settle(b *beginning) (gone []*membership) {
	for i, answer := range b.rooms {
		m := c.place(answer.room)
		switch {
		case m == nil:
		case !answer.admitted:
			gone = append(gone, m)
		case m.state == asked:
			m.from, m.head = b.headOf(i), b.headOf(i)
		}
	}
	c.drop(gone...)
	return gone
}

func (c *Conn) hello(now time.Time) *Frame {
	names := make([]string, 0, len(c.rooms))
	for _, m := range c.rooms {
		names = append(names, m.name)
	}
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
		c.id, c.user, c.org, names, formatID(c.head), timestamp(c.caller.ExpiresAt),
		c.srv.opt.PingInterval.Milliseconds(), c.srv.opt.IdleTimeout.Milliseconds(), protocolName,
	}, "", now)
}

// restate sends the snapshot. Events that the snapshot contains are not sent again as events.
func (c *Conn) restate(b *beginning, now time.Time) {
	m := c.rooms[0]
	c.gate.forget(m.name)
	m.head = max(m.head, b.head)
	m.covered = b.pending
	for _, part := range b.frames {
		c.send(snapshotFrame(part.Type, m.name, part.Data, now), false)
		c.noticeEnd(part.Type, now)
		if part.Type == typeProgress {
			c.gate.note(seriesName(typeProgress, m.name), now)
		}
	}
}

// credential is a verified token: its user and, for connection tokens, the only project that it opens.
type credential struct {
	caller  *api.Caller
	project string
}

// verify checks a token. The error is a *refusal, or an outage.
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

// verifyKey checks an API key of a handshake, which costs a unit of the plan. The rooms query later checks that the key is still valid and
// that its member is active.
func (s *Server) verifyKey(ctx context.Context, key, ip string) (credential, error) {
	caller, err := s.deps.Keys.Find(ctx, key, ip)
	if err == nil && !caller.ExpiresAt.After(s.now()) {
		s.deps.Keys.Expired(caller, ip, "")
		return credential{}, errExpired
	}
	if err == nil {
		_, err = s.deps.Keys.Take(ctx, caller)
	}
	if err == nil {
		return credential{caller: caller}, nil
	}
	switch api.ProblemOf(err).Status {
	case http.StatusUnauthorized:
		return credential{}, &refusal{CloseUnauthorized, "Invalid token"}
	case http.StatusTooManyRequests:
		return credential{}, &refusal{CloseLimited, "Rate limited: the plan's API calls are used up"}
	}
	return credential{}, err
}

// reason finds out why a token was refused when the authenticator does not say. REST gives one answer for all reasons, but a socket's close
// code depends on the reason.
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
	return &refusal{CloseUnauthorized, "Invalid token"}
}

// parseCursor reads a decimal string of at most 38 digits. A number that exceeds 64 bits is above any head.
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
