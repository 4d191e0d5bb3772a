package engine

import (
	"sync"
	"time"
)

// The close codes of WebSockets that this package itself uses. The importing package uses others.
const (
	closeDone      = 1000
	closeRestart   = 1012
	closeTryLater  = 1013
	closeTooBig    = 1009
	closeProtocol  = 4000
	closeHeartbeat = 4008
	closeSlow      = 4009
)

// Session is one client. Packets to it are only queued; a waiting GET or the writer of its WebSocket takes them.
type Session struct {
	srv *Server
	id  string
	ip  string

	// receiving keeps messages in order when a POST ends while the WebSocket has taken over.
	receiving sync.Mutex
	receiver  Receiver

	mu    sync.Mutex
	ended bool // nothing is queued any more; the queued packets may still be fetched
	queue queue

	ws        *wire // nil: polling
	upgrading *wire // a WebSocket that has not taken over yet
	probed    bool  // its probe was answered: GETs end at once
	writing   bool

	waiting chan struct{} // a GET that waits; closed to wake it
	posting bool

	timer    *time.Timer
	pongDue  time.Time // zero: no ping is unanswered
	upgradeT *time.Timer
	linger   *time.Timer // drops an ended session whose last packets are not fetched
}

// ID returns the session's secret id.
func (s *Session) ID() string { return s.id }

// start queues the first packet, starts the heartbeat and makes the receiver.
func (s *Session) start(hello []byte, r Request) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.mu.Lock()
	s.timer = time.AfterFunc(s.srv.opt.PingInterval, s.beat)
	s.push(packet{open, Message{Data: hello, Free: true}})
	s.mu.Unlock()
	s.receiver = s.srv.deps.Accept(s, r)
}

// Send queues a message. It returns false for a client that does not keep up; that client is disconnected. Send never waits.
func (s *Session) Send(m Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended || s.push(packet{message, m})
}

// push queues a packet and wakes the transport. The caller holds the lock.
func (s *Session) push(p packet) bool {
	if !s.queue.push(p) {
		// The queued packets are dropped, so that the client sees the end next.
		s.queue.drop()
		s.shut(closeSlow, "Slow consumer", false)
		return false
	}
	s.wake()
	return true
}

// wake hands the queued packets to the transport. The caller holds the lock.
func (s *Session) wake() {
	switch {
	case s.ws != nil:
		if !s.writing {
			s.writing = true
			go s.write(s.ws)
		}
	default:
		s.wakePoll()
	}
}

// beat sends a ping, or ends the session when the last ping was not answered.
func (s *Session) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
	case s.pongDue.IsZero():
		s.pongDue = time.Now().Add(s.srv.opt.PingTimeout)
		s.timer.Reset(s.srv.opt.PingTimeout)
		s.push(packet{ping, Message{Free: true}})
	default:
		s.shut(closeHeartbeat, "Heartbeat timeout", false)
	}
}

// Close ends the session. The queued packets are delivered. Then a WebSocket is closed with the code, and a poller gets a close packet.
func (s *Session) Close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut(code, reason, false)
}

// shut ends the session, once. The caller holds the lock.
func (s *Session) shut(code int, reason string, byClient bool) {
	if s.ended {
		return
	}
	s.ended = true
	s.timer.Stop()
	s.srv.release(s.ip)
	s.dropUpgrade()
	go func() {
		s.receiving.Lock() // start may still be making the receiver
		receiver := s.receiver
		s.receiving.Unlock()
		receiver.Closed(code, reason)
		s.srv.lives.Done()
	}()
	if s.ws != nil {
		s.srv.forget(s)
		s.ws.end = closeFrame(code, reason)
		s.wake()
		return
	}
	if byClient {
		s.queue.drop()
		s.queue.push(packet{noop, Message{Free: true}})
	} else {
		s.queue.push(packet{closing, Message{Free: true}})
	}
	s.wakePoll()
	s.linger = time.AfterFunc(s.srv.opt.Linger, func() { s.srv.forget(s) })
}

// take handles a packet from the client. It reports whether reading continues.
func (s *Session) take(p packet) bool {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return false
	}
	switch p.kind {
	case message:
		s.mu.Unlock()
		s.receiver.Received(p.Message)
		s.mu.Lock()
	case pong:
		if !s.pongDue.IsZero() {
			s.pongDue = time.Time{}
			s.timer.Reset(s.srv.opt.PingInterval)
		}
	case closing:
		s.shut(closeDone, "", true)
	}
	defer s.mu.Unlock()
	return !s.ended
}

// fail ends a session whose client sent unreadable data.
func (s *Session) fail(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut(code, reason, false)
}
