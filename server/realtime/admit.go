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

// maxReplay is how many events a connection is given again; beyond that the client reads the state anew.
const maxReplay = 1000

// Opening is what a client wants at its beginning.
type Opening struct {
	Kind Kind
	// Target is the project or context, as requested.
	Target string
	Token  string
	// InHeader says that the token came in the Authorization header, the one place where an API key is taken.
	InHeader bool
	// Cursor is the largest id that the client knows; HasCursor false: none was given.
	Cursor    string
	HasCursor bool
	// Snapshot "false" declines the state of the project's run; "true" asks for it beside a cursor.
	Snapshot string
	// Agent is the client's user agent.
	Agent string
	// Rooms are further ones to be in from the beginning; where one is not admitted it is left out.
	Rooms []string
}

// NewConn makes a connection that has not been judged. It answers nil while the server is draining. The transport calls Open, and then,
// one at a time and from one goroutine, the other actions; each may take as long as a question to the database. When nothing goes over
// the transport any more it calls End.
func (s *Server) NewConn(sink Sink, ip string) *Conn {
	c := &Conn{}
	if !s.start(c, sink, ip) {
		return nil
	}
	return c
}

// start makes c, which may be a part of something larger, a connection.
func (s *Server) start(c *Conn, sink Sink, ip string) bool {
	if !s.begin() {
		return false
	}
	c.srv, c.sink, c.id, c.ip, c.requestID = s, sink, uuid.NewString(), ip, uuid.NewString()
	c.gate.interval = s.opt.Throttle
	c.timer = time.AfterFunc(time.Hour, c.tick)
	return true
}

// Await gives the client a while to show a credential with its first message; Open is called then.
func (c *Conn) Await() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due.auth = c.srv.now().Add(c.srv.opt.AuthTimeout)
	c.arm()
}

// Open judges the credential and admits to the rooms. The first frame is then hello; otherwise the connection is closed with the reason.
func (c *Conn) Open(o Opening) {
	ctx, cancel := context.WithTimeout(context.Background(), c.srv.opt.OpenTimeout)
	defer cancel()
	c.mu.Lock()
	c.kind, c.target, c.token = o.Kind, o.Target, shorten(o.Token)
	c.mu.Unlock()
	var err error = &refusal{CloseUnauthorized, "Missing token"}
	if o.Token != "" {
		err = c.tryOpen(ctx, o)
	}
	c.refuse(err, "a socket could not be opened")
}

// refuse closes for a reason of the client's, or for an outage of ours; nil: nothing.
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
	// Registered before anything is asked: an event or a removal that commits after the question finds the connection here.
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
	if s.draining.Load() { // Drain may have looked for connections just before this one was to be found
		return &refusal{CloseRestart, "service restart"}
	}
	return c.begin(ctx, o, rooms)
}

// rooms are those of the beginning; the first one is what a project's or context's connection is for.
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

// begin asks for everything in one round trip, and where the credential names no organization for its room in a second one.
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

// tellOnce leaves a completion in the snapshot for the first of a person's sockets, and gives the others the state it left behind: a client
// that comes back on completion would otherwise be told again, and come back again.
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
			b.frames = slices.Clone(b.frames) // shared with others who came at the same time
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
	// Its events are told from its own, later head; that of the answer stays the earlier one, below which nothing is missing.
	b.rooms = append(b.rooms, more.rooms...)
	b.later = more.head
	return nil
}

// welcome tells hello, then what was missed or the state, then what arrived meanwhile.
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

// settle takes admission and head from the answer; it returns the places that were not admitted.
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

// restate sends the snapshot. Whatever it contains will not be sent as an event any more.
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

// verifyKey judges an API key of a handshake, which costs a unit of the plan; that the key lives and its member is active is judged with the rooms.
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
	return &refusal{CloseUnauthorized, "Invalid token"}
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
