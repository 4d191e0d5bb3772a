package realtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"
)

// action is a frame from the client.
type action struct {
	name   string
	ref    string
	token  string
	cursor string
}

const (
	maxRef          = 64
	maxRejected     = 20 // within a minute
	maxLimited      = 3  // within a minute
	messagesASecond = 10
	messagesBurst   = 20
)

// handle answers one text frame. Whatever is wrong with it is answered, not punished, up to the limits.
func (s *socket) handle(message []byte, h handshake) {
	now := s.srv.now()
	s.mu.Lock()
	ok, wait := s.messages.take(messagesASecond, messagesBurst, now)
	closed, unknown := s.phase >= closing, s.caller == nil
	s.mu.Unlock()
	if closed {
		return
	}
	if !ok {
		s.limit(wait, now)
		return
	}
	a, code, text := parseAction(message)
	switch {
	case code != "":
		s.reject(code, text, a.ref, now)
	case unknown && a.name == "authenticate":
		s.inBackground(func() { s.srv.admit(s, h, a.token) })
	case unknown:
		s.reject("INVALID_MESSAGE", "authenticate first", a.ref, now)
	default:
		s.perform(a, now)
	}
}

func (s *socket) perform(a action, now time.Time) {
	switch a.name {
	case "ping":
		s.say(controlFrame("pong", struct{}{}, a.ref, now))
	case "join", "leave":
		s.reject("ROOM_FIXED", "this connection has exactly one room", a.ref, now)
	case "authenticate":
		s.inBackground(func() { s.renew(a) })
	case "resume":
		s.inBackground(func() { s.resume(a) })
	}
}

// inBackground does what needs a deep stack in a goroutine of its own and waits for it, so that the frames of one client stay in order.
func (s *socket) inBackground(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	<-done
}

// parseAction reads {"action", "ref"?, ...}; code and text say what is wrong.
func parseAction(message []byte) (a action, code, text string) {
	var members map[string]json.RawMessage
	if !json.Valid(message) {
		return a, "INVALID_JSON", "invalid JSON"
	}
	if json.Unmarshal(message, &members) != nil || members == nil {
		return a, "INVALID_MESSAGE", "a frame is a JSON object"
	}
	text = ""
	read := func(name string, into *string) bool {
		raw, given := members[name]
		if !given {
			return true
		}
		if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, into) != nil {
			text = name + " must be a string"
			return false
		}
		return true
	}
	if !read("ref", &a.ref) {
		return a, "INVALID_MESSAGE", text
	}
	if utf8.RuneCountInString(a.ref) > maxRef {
		a.ref = ""
		return a, "INVALID_MESSAGE", "ref has at most 64 characters"
	}
	if !read("action", &a.name) {
		return a, "INVALID_MESSAGE", text
	}
	switch a.name {
	case "":
		return a, "UNKNOWN_ACTION", "action is missing"
	case "ping":
	case "join", "leave":
		var room string
		if !read("room", &room) {
			return a, "INVALID_MESSAGE", text
		}
	case "authenticate":
		if !read("token", &a.token) {
			return a, "INVALID_MESSAGE", text
		}
	case "resume":
		if !read("lastEventId", &a.cursor) {
			return a, "INVALID_CURSOR", "lastEventId must be a decimal string"
		}
		if raw, given := members["rooms"]; given && json.Unmarshal(raw, &[]string{}) != nil {
			return a, "INVALID_MESSAGE", "rooms must be a list of strings"
		}
		if _, valid := parseCursor(a.cursor); !valid {
			return a, "INVALID_CURSOR", "lastEventId must be a decimal string"
		}
	default:
		name := a.name
		if utf8.RuneCountInString(name) > maxRef {
			name = string([]rune(name)[:maxRef])
		}
		return a, "UNKNOWN_ACTION", "unknown action " + name
	}
	return a, "", ""
}

// reject answers a frame that is not understood; too many of them end the connection.
func (s *socket) reject(code, message, ref string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueue(controlFrame("protocol_error", map[string]string{"code": code, "message": message}, ref, now))
	if s.rejected.add(now) > maxRejected {
		s.shut(closeProtocol, "protocol error")
	}
}

// limit answers frames beyond the rate.
func (s *socket) limit(wait time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueue(controlFrame("protocol_error", map[string]any{
		"code": "RATE_LIMITED", "message": "too many frames", "retryAfterMs": max(1, wait.Milliseconds()),
	}, "", now))
	if s.limited.add(now) >= maxLimited {
		s.shut(closeLimited, "Rate limited")
	}
}

// renew takes a new token for the same person. A bad one changes nothing: the old credential works until its end.
func (s *socket) renew(a action) {
	ctx, cancel := context.WithTimeout(context.Background(), s.srv.opt.OpenTimeout)
	defer cancel()
	cred, err := s.srv.verify(ctx, a.token)
	var answers []*refusal
	switch {
	case err != nil:
	case cred.caller.UserID != s.user:
		s.close(closeUnauthorized, "Token subject changed")
		return
	case cred.project != "" && cred.project != s.project:
		err = errNoMember
	default:
		answers, err = s.srv.store.recheck(ctx, []claim{{s.user, cred.caller.SessionID, cred.caller.OrgHint, s.project}})
		if err == nil && answers[0] != nil {
			err = answers[0]
		}
	}
	var refused *refusal
	now := s.srv.now()
	switch {
	case err == nil:
		s.renewed(cred, a.ref, now)
	case errors.As(err, &refused) && (refused.code == closeForbidden || refused.code == closeNotFound):
		s.close(refused.code, refused.reason)
	case errors.As(err, &refused):
		s.reject("INVALID_TOKEN", "the token is not valid", a.ref, now)
	default:
		s.srv.log.Warn("a token could not be renewed", "connection", s.id, "error", err)
		s.reject("INVALID_TOKEN", "the token cannot be judged at the moment, try again", a.ref, now)
	}
}

func (s *socket) renewed(cred credential, ref string, now time.Time) {
	s.mu.Lock()
	old := s.caller
	s.caller = cred.caller
	if cred.caller.OrgHint != "" {
		s.org = cred.caller.OrgHint
	}
	s.expires(cred.caller.ExpiresAt)
	s.enqueue(controlFrame("authenticated", map[string]any{
		"userId": s.user, "expiresAt": timestamp(cred.caller.ExpiresAt), "rooms": s.rooms,
	}, ref, now))
	s.arm()
	s.mu.Unlock()
	s.srv.hub.rename(s, old.SessionID, cred.caller.SessionID)
}

// resume gives again what this connection was not told: events above the cursor and below where the connection began. What came live
// is never sent twice.
func (s *socket) resume(a action) {
	cursor, _ := parseCursor(a.cursor)
	s.mu.Lock()
	caller, from := s.caller, s.from
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.srv.opt.OpenTimeout)
	defer cancel()
	b, err := s.srv.store.begin(ctx, watch{caller: caller, projectID: s.project, cursor: &cursor, until: from, requestID: s.requestID, ip: s.ip})
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		s.close(refused.code, refused.reason)
		return
	case err != nil:
		s.srv.log.Warn("a socket could not resume", "connection", s.id, "error", err)
		s.close(closeTryLater, "try again later")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != live {
		return
	}
	now := s.srv.now()
	if s.replay(b, cursor, true, a.ref, now) {
		s.restate(b, now)
	}
	s.arm()
}
