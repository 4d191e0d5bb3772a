package realtime

import (
	"context"
	"errors"
	"math"
	"slices"
)

// Ping answers a client's ping with a pong.
func (c *Conn) Ping(ref string) { c.say(framePong, struct{}{}, ref) }

// Join joins a room, or says why it is refused. With a cursor, the room's events above it are replayed before the room goes live.
func (c *Conn) Join(name string, cursorText *string, ref string) {
	if c.kind == Project {
		c.Reject("ROOM_FIXED", "this connection has exactly one room", ref, "")
		return
	}
	room, ok := parseRoom(name)
	if !ok {
		c.Reject("INVALID_ROOM", "cannot join that room", ref, name)
		return
	}
	c.mu.Lock()
	m := c.place(room)
	switch {
	case c.phase != live:
		c.mu.Unlock()
		return
	case m != nil:
		c.send(controlFrame(frameJoined, roomData{Room: room}, ref, c.srv.now()), false)
		c.mu.Unlock()
		if cursorText != nil {
			c.Resume(*cursorText, []string{room}, "")
		}
		return
	case len(c.rooms) >= maxRooms:
		c.mu.Unlock()
		c.Reject("TOO_MANY_ROOMS", "a connection may be in at most 50 rooms", ref, room)
		return
	case kindOf(room) == kindUser && targetOf(room) != c.user || kindOf(room) == kindOrg && targetOf(room) != c.org:
		c.mu.Unlock()
		c.deny(room, ref)
		return
	}
	m = c.enter(room)
	w := watch{caller: c.caller, limit: maxReplay + 1, requestID: c.requestID, ip: c.ip, rooms: []ask{{room: room, until: math.MaxInt64}}}
	c.mu.Unlock()
	c.srv.hub.join(m)
	var cursor int64
	if cursorText != nil {
		cursor, _ = parseCursor(*cursorText)
		w.rooms[0].cursor = &cursor
	}
	c.askToJoin(m, w, cursor, ref)
}

func (c *Conn) askToJoin(m *membership, w watch, cursor int64, ref string) {
	ctx, cancel := context.WithTimeout(context.Background(), c.srv.opt.OpenTimeout)
	defer cancel()
	b, err := c.srv.arrivals.begin(ctx, w)
	if err != nil {
		c.refuse(err, "a room could not be joined")
		return
	}
	c.mu.Lock()
	if c.phase != live || m.state == left || !b.rooms[0].admitted {
		denied := c.phase == live
		c.drop(m)
		c.mu.Unlock()
		c.srv.hub.leave(m)
		if denied {
			c.deny(m.name, ref)
		}
		return
	}
	defer c.mu.Unlock()
	now := c.srv.now()
	m.from, m.head = b.head, b.head
	c.send(controlFrame(frameJoined, roomData{Room: m.name}, ref, now), false)
	if w.rooms[0].cursor != nil {
		c.tellReplay(b.gather(cursor, true), "", now)
	}
	m.goLive()
	c.arm()
}

type roomData struct {
	Room string `json:"room"`
}

// deny refuses a room. Existing and unknown rooms are refused alike. A client that keeps trying is closed.
func (c *Conn) deny(room, ref string) {
	c.srv.refusals.add(c.id, projectOf(room), c.token, "Room denied: "+room, c.ip)
	if ok, _ := c.srv.denied.take(c.user, c.srv.now()); !ok {
		c.Close(CloseLimited, "Rate limited")
		return
	}
	c.Reject("ROOM_FORBIDDEN", "cannot join that room", ref, room)
}

// Leave takes the connection out of a room. The connection need not be in it.
func (c *Conn) Leave(name, ref string) {
	if c.kind == Project {
		c.Reject("ROOM_FIXED", "this connection has exactly one room", ref, "")
		return
	}
	room, ok := parseRoom(name)
	if !ok {
		c.Reject("INVALID_ROOM", "there is no such room", ref, name)
		return
	}
	c.mu.Lock()
	m := c.place(room)
	if m != nil {
		c.drop(m)
	}
	c.send(controlFrame(frameLeft, roomData{Room: room}, ref, c.srv.now()), false)
	c.mu.Unlock()
	if m != nil {
		c.srv.hub.leave(m)
	}
}

// Authenticate takes a new token for the same user. An invalid token changes nothing: the old credential works until it expires. Another
// organization adds its own room, and removes the rooms that it does not see.
func (c *Conn) Authenticate(token, ref string) {
	s := c.srv
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.OpenTimeout)
	defer cancel()
	cred, err := s.verify(ctx, token)
	if err == nil && cred.caller.UserID != c.user {
		c.Close(CloseUnauthorized, "Token subject changed")
		return
	}
	if err == nil && cred.project != "" && (c.kind != Project || cred.project != c.target) {
		err = errNoMember
	}
	var b *beginning
	if err == nil {
		b, err = s.store.begin(ctx, c.standing(cred))
	}
	if err == nil && c.kind == Project && !b.rooms[0].admitted {
		err = errHidden
	}
	if err == nil && c.kind == Context && c.loses(b) {
		err = errNoContext
	}
	var refused *refusal
	switch {
	case err == nil:
		c.renewed(ctx, cred, b, ref)
	case errors.As(err, &refused) && (refused.code == CloseForbidden || refused.code == CloseNotFound):
		c.Close(refused.code, refused.reason)
	case errors.As(err, &refused):
		c.Reject("INVALID_TOKEN", "the token is not valid", ref, "")
	default:
		s.log.Warn("a token could not be renewed", "connection", c.id, "error", err)
		c.Reject("INVALID_TOKEN", "the token cannot be checked at the moment, try again", ref, "")
	}
}

// standing makes the query about all rooms of the connection under another credential.
func (c *Conn) standing(cred credential) watch {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := watch{caller: cred.caller, limit: 1, requestID: c.requestID, ip: c.ip}
	for _, m := range c.rooms {
		w.rooms = append(w.rooms, ask{room: m.name})
	}
	if len(w.rooms) == 0 {
		w.rooms = []ask{{room: kindUser + ":" + c.user}} // the answer names the organization
	}
	return w
}

// loses reports whether the context that the connection is for is no longer admitted.
func (c *Conn) loses(b *beginning) bool {
	return slices.ContainsFunc(b.rooms, func(r roomAnswer) bool { return r.room == kindContext+":"+c.target && !r.admitted })
}

func (c *Conn) renewed(ctx context.Context, cred credential, b *beginning, ref string) {
	c.mu.Lock()
	if c.phase != live {
		c.mu.Unlock()
		return
	}
	now := c.srv.now()
	old, oldOrg := c.caller, c.org
	c.caller, c.org, c.token = cred.caller, b.orgID, ""
	var gone []*membership
	for _, answer := range b.rooms {
		if m := c.place(answer.room); m != nil && !answer.admitted {
			gone = append(gone, m)
			if kindOf(m.name) != kindOrg {
				c.send(controlFrame(frameLeft, map[string]string{"room": m.name, "reason": leftRevoked}, "", now), false)
			}
		}
	}
	c.drop(gone...)
	var own *membership
	if room := kindOrg + ":" + c.org; c.kind == General && c.org != "" && c.org != oldOrg && c.place(room) == nil {
		own = c.enter(room)
	}
	c.mu.Unlock()
	c.srv.hub.leave(gone...)
	c.srv.hub.rename(c, old.SessionID, cred.caller.SessionID)
	if own != nil {
		c.moveTo(ctx, own, cred)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expires(cred.caller.ExpiresAt)
	c.send(controlFrame("authenticated", map[string]any{
		"userId": c.user, "expiresAt": timestamp(cred.caller.ExpiresAt), "rooms": c.roomNames(),
	}, ref, c.srv.now()), false)
	c.arm()
}

// moveTo enters the room of the organization that a new credential brought.
func (c *Conn) moveTo(ctx context.Context, own *membership, cred credential) {
	c.srv.hub.join(own)
	b, err := c.srv.store.begin(ctx, watch{caller: cred.caller, limit: 1, requestID: c.requestID, ip: c.ip, rooms: []ask{{room: own.name}}})
	if err != nil {
		c.refuse(err, "the room of an organization could not be entered")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == live && own.state == asked {
		own.from, own.head = b.head, b.head
		own.goLive()
	}
}

// Reject answers an action that is invalid or not possible. Too many of them end the connection.
func (c *Conn) Reject(code, message, ref, room string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.srv.now()
	c.send(controlFrame(frameError, rejection{Code: code, Message: message, Room: cutText(room)}, ref, now), false)
	if c.rejected.add(now) > maxRejected {
		c.shut(CloseProtocol, "protocol error")
	}
}

type rejection struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	Room         string `json:"room,omitempty"`
	RetryAfterMS int64  `json:"retryAfterMs,omitempty"`
}

// Spend counts one message of the client against the rate limit. It returns false after too many; the client has then been notified or
// closed.
func (c *Conn) Spend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase >= closing {
		return false
	}
	now := c.srv.now()
	ok, wait := c.messages.take(messagesASecond, messagesBurst, now)
	if ok {
		return true
	}
	c.send(controlFrame(frameError, rejection{Code: "RATE_LIMITED", Message: "too many frames", RetryAfterMS: max(1, wait.Milliseconds())}, "", now), false)
	if c.limited.add(now) >= maxLimited {
		c.shut(CloseLimited, "Rate limited")
	}
	return false
}

// Opened reports whether a credential was accepted.
func (c *Conn) Opened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.caller != nil
}

const (
	maxRejected     = 20 // within a minute
	maxLimited      = 3  // within a minute
	messagesASecond = 10
	messagesBurst   = 20
)
