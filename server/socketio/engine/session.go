package engine

import (
	"sync"
	"time"
)

// The close codes of WebSockets that this package gives itself; users of a session give others.
const (
	closeDone      = 1000
	closeRestart   = 1012
	closeTryLater  = 1013
	closeTooBig    = 1009
	closeProtocol  = 4000
	closeHeartbeat = 4008
	closeSlow      = 4009
)

// Session is one client. Everything that is sent to it is only queued; a waiting GET or the writer of its WebSocket takes it.
type Session struct {
	srv *Server
	id  string
	ip  string

	// receiving keeps messages in order where a POST ends while the WebSocket has taken over.
	receiving sync.Mutex
	receiver  Receiver

	mu    sync.Mutex
	ended bool // nothing is taken any more; what is queued may still be fetched
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
	linger   *time.Timer // forgets an ended session that nobody asks for
}

// ID is the session's secret name.
func (s *Session) ID() string { return s.id }

// start queues the first packet, begins the heartbeat and makes the receiver.
func (s *Session) start(hello []byte, r Request) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	s.mu.Lock()
	s.timer = time.AfterFunc(s.srv.opt.PingInterval, s.beat)
	s.push(packet{open, Message{Data: hello, Free: true}})
	s.mu.Unlock()
	s.receiver = s.srv.deps.Accept(s, r)
}

// Send queues a message. A client that does not keep up is cut off, which is reported as false; nobody waits for it.
func (s *Session) Send(m Message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended || s.push(packet{message, m})
}

// push queues a packet and sees to it that somebody takes it. Under the lock.
func (s *Session) push(p packet) bool {
	if !s.queue.push(p) {
		// What waits is dropped, so that the end is the next thing the client sees.
		s.queue.drop()
		s.shut(closeSlow, "Slow consumer", false)
		return false
	}
	s.wake()
	return true
}

// wake gives what is queued to the transport. Under the lock.
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

// beat sends a ping, or finds that the last one was not answered.
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

// Close ends the session: what is queued is delivered, then a WebSocket is closed with the code, a poller is told that it is over.
func (s *Session) Close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut(code, reason, false)
}

// shut ends the session, once. Under the lock.
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

// take acts on a packet from the client. It reports whether reading goes on.
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

// fail ends a session whose client sent what cannot be read.
func (s *Session) fail(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut(code, reason, false)
}
