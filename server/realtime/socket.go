package realtime

import (
	"net"
	"slices"
	"sync"
	"time"

	"kijko/server/api"
)

// Close codes (contract 30, 2.4).
const (
	closeDone         = 1000
	closeTextOnly     = 1003
	closeInvalidUTF8  = 1007
	closeInternal     = 1011
	closeRestart      = 1012
	closeTryLater     = 1013
	closeProtocol     = 4000
	closeUnauthorized = 4001
	closeForbidden    = 4003
	closeNotFound     = 4004
	closeHeartbeat    = 4008
	closeSlow         = 4009
	closeRevoked      = 4010
	closeLimited      = 4029
)

// phase of a socket's life.
type phase uint8

const (
	opening phase = iota // events are held back
	live
	closing // the close frame is queued; nothing is taken any more
	gone
)

// socket is one client. What it is told goes through deliver (events) or say (everything else); both only queue. One goroutine writes
// while there is something to write.
type socket struct {
	srv       *Server
	id        string
	net       net.Conn
	room      string // the room of the log it listens to
	rooms     []string
	project   string
	ip        string
	requestID string
	// user is set before the socket is registered and never changes.
	user string

	mu     sync.Mutex
	phase  phase
	caller *api.Caller // renewed by authenticate
	org    string
	held   []*Event
	// from and head delimit what this connection was told: events with from < id <= head. Later ones come live.
	from, head int64
	covered    []int64 // places of events that the snapshot contained and that had no number yet
	gate       gate
	queue      queue
	writing    bool
	written    chan struct{} // closed when the close frame is out, or will never be

	timer    *time.Timer
	armedFor time.Time
	due      deadlines

	messages bucket
	limited  strikes
	rejected strikes
}

// deadlines of a socket; zero: none.
type deadlines struct {
	ping    time.Time
	refresh time.Time // the next warning that the token expires
	expiry  time.Time
	done    time.Time // 30 s after the completion
	auth    time.Time // until when the first message must have come
}

func (d *deadlines) earliest(more time.Time) time.Time {
	next := more
	for _, t := range []time.Time{d.ping, d.refresh, d.expiry, d.done, d.auth} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}

// claim is the right that this socket stands on.
func (s *socket) claim() claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := claim{user: s.user, org: s.org, project: s.project}
	if s.caller != nil {
		c.session = s.caller.SessionID
		if c.org == "" {
			c.org = s.caller.OrgHint
		}
	}
	return c
}

// deliver takes an event of the socket's room. It never blocks.
func (s *socket) deliver(e *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.may(e) {
		return
	}
	switch s.phase {
	case opening:
		if len(s.held) >= s.srv.opt.MaxQueuedFrames {
			s.overflow()
			return
		}
		s.held = append(s.held, e)
	case live:
		s.accept(e)
		s.arm()
	}
}

// may decides by the audience, for somebody whom the room admitted; what differs between members of a room is decided here.
func (s *socket) may(e *Event) bool {
	switch e.Audience {
	case audienceRoom, audienceProject:
		return true
	case audienceUsers:
		return slices.Contains(e.UserIDs, s.user)
	case audienceActivity:
		return e.ActorID == s.user
	}
	return false
}

// accept passes an event through the throttle, unless this connection was told of it already.
func (s *socket) accept(e *Event) {
	if e.ID <= s.head {
		return
	}
	s.head = e.ID
	if i := slices.Index(s.covered, e.Seq); i >= 0 {
		s.covered = slices.Delete(s.covered, i, i+1)
		return
	}
	now := s.srv.now()
	for _, f := range s.gate.offer(e.frame, now) {
		s.enqueue(f)
	}
	s.noticeEnd(e.Type, now)
}

// noticeEnd keeps the date at which a completed run's socket is closed; any sign of a new run takes it back.
func (s *socket) noticeEnd(eventType string, now time.Time) {
	switch eventType {
	case typeComplete:
		s.due.done = now.Add(s.srv.opt.DoneDelay)
	case typePhaseStarted, typeProgress:
		s.due.done = time.Time{}
	}
}

// say queues a frame that is no event.
func (s *socket) say(f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueue(f)
}

func (s *socket) enqueue(f *frame) {
	if s.phase >= closing {
		return
	}
	if !s.queue.push(f) {
		s.overflow()
		return
	}
	s.startWriter()
}

// overflow cuts off whoever does not keep up: what waits is dropped, so that the close frame is the next thing written.
func (s *socket) overflow() {
	s.queue.clear()
	s.shut(closeSlow, "Slow consumer")
}

// close ends the socket: what is queued is written, then the close frame.
func (s *socket) close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut(code, reason)
}

func (s *socket) shut(code int, reason string) {
	if s.phase >= closing {
		return
	}
	s.phase = closing
	s.held = nil
	s.queue.force(closeFrame(code, reason))
	s.startWriter()
	s.timer.Stop()
	s.srv.closed(code, s)
}

func (s *socket) startWriter() {
	if !s.writing {
		s.writing = true
		go s.write()
	}
}

// write sends what is queued, several frames with one call of the kernel, until nothing is left.
func (s *socket) write() {
	for {
		s.mu.Lock()
		frames := s.queue.take()
		if len(frames) == 0 {
			s.writing = false
			s.mu.Unlock()
			return
		}
		last := s.phase == closing
		s.mu.Unlock()

		buffers := make(net.Buffers, len(frames))
		for i, f := range frames {
			buffers[i] = f.wire
		}
		_ = s.net.SetWriteDeadline(time.Now().Add(s.srv.opt.WriteTimeout))
		if _, err := buffers.WriteTo(s.net); err != nil {
			s.fail()
			return
		}
		if last && frames[len(frames)-1].kind == "close" {
			// The peer answers with its own close frame; it gets a moment, not for ever.
			_ = s.net.SetReadDeadline(time.Now().Add(s.srv.opt.CloseTimeout))
			s.mu.Lock()
			s.end()
			s.mu.Unlock()
			return
		}
	}
}

// fail ends a socket whose connection does not work any more: nothing can be said.
func (s *socket) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = nil
	s.queue.clear()
	s.timer.Stop()
	_ = s.net.Close()
	s.end()
}

// end is reached by the writer, the reader or both; nothing is written after it.
func (s *socket) end() {
	if s.phase != gone {
		s.phase = gone
		close(s.written)
	}
}

// tick does what is due and sets the timer anew.
func (s *socket) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase >= closing {
		return
	}
	now := s.srv.now()
	past := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case past(s.due.auth):
		s.shut(closeUnauthorized, "Authentication timeout")
		return
	case past(s.due.expiry):
		s.shut(closeUnauthorized, "Token expired")
		return
	case past(s.due.done):
		s.shut(closeDone, "done")
		return
	}
	if past(s.due.ping) {
		s.enqueue(pingFrame)
		s.due.ping = now.Add(s.srv.opt.PingInterval)
	}
	if past(s.due.refresh) && s.phase == live {
		s.warn(now)
	}
	if s.phase == live {
		for _, f := range s.gate.due(now) {
			s.enqueue(f)
		}
	}
	s.armedFor = time.Time{}
	s.arm()
}

// warn says that the token expires, now and once more shortly before.
func (s *socket) warn(now time.Time) {
	s.enqueue(controlFrame("token_refresh_required", map[string]string{
		"reason": "Token expires soon", "expiresAt": timestamp(s.due.expiry),
	}, "", now))
	s.due.refresh = s.due.expiry.Add(-s.srv.opt.RefreshAgain)
	if !s.due.refresh.After(now) {
		s.due.refresh = time.Time{}
	}
}

// expires sets the dates that follow from a credential's end.
func (s *socket) expires(at time.Time) {
	s.due.expiry = at
	s.due.refresh = at.Add(-s.srv.opt.RefreshBefore)
}

// arm sets the timer to the earliest date, if it isn't earlier already.
func (s *socket) arm() {
	if s.phase >= closing {
		return
	}
	next := s.due.earliest(s.gate.next())
	if next.IsZero() || !s.armedFor.IsZero() && !next.Before(s.armedFor) {
		return
	}
	s.armedFor = next
	s.timer.Reset(max(0, next.Sub(s.srv.now())))
}
