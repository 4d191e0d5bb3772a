package realtime

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
)

// socket carries a connection's frames over a WebSocket. One goroutine reads, and one writes while there are frames to write. The
// connection's lock guards the queue.
type socket struct {
	Conn
	form Kind // the encoding of its frames
	net  net.Conn

	queue   queue
	writing bool
	closing bool
	ended   bool
	// farewell says that the peer's close frame was read: the peer sends nothing more. Only the reading goroutine uses it.
	farewell bool
	written  chan struct{} // closed when the close frame is written, or will never be
}

// run serves a socket from beginning to end, in the goroutine that reads.
func (s *Server) run(conn *websocket.Conn, h handshake) {
	sock := s.newSocket(conn.NetConn(), h)
	if !s.start(&sock.Conn, sock, h.ip) {
		_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(CloseRestart, "service restart"), time.Now().Add(s.opt.CloseTimeout))
		return
	}
	defer sock.finish()
	if h.awaits {
		sock.Await()
	} else {
		// Work that happens only once runs in a separate goroutine, so that the reading goroutine keeps a small stack.
		inBackground(func() { sock.Open(h.opening) })
	}
	sock.listen(conn, h.opening)
}

func (s *Server) newSocket(conn net.Conn, h handshake) *socket {
	if inner, ok := conn.(interface{ UnsafeConn() net.Conn }); ok {
		conn = inner.UnsafeConn()
	}
	return &socket{form: h.opening.Kind, net: conn, written: make(chan struct{}),
		queue: queue{maxFrames: s.opt.MaxQueuedFrames, maxBytes: s.opt.MaxQueuedBytes}}
}

// Send queues a frame, under the connection's lock.
func (s *socket) Send(f *Frame, replay bool) bool {
	item := queued{wire: s.form.encode(f), series: f.series}
	if replay {
		s.queue.force(item)
	} else if !s.queue.push(item) {
		return false
	}
	s.startWriter()
	return true
}

// Ping sends a ping; browsers answer it automatically.
func (s *socket) Ping() {
	if s.queue.push(queued{wire: pingWire}) {
		s.startWriter()
	}
}

// Close queues the close frame. For a client that does not keep up, the waiting frames are dropped, so that the close frame is written
// next.
func (s *socket) Close(code int, reason string) {
	if code == CloseSlow {
		s.queue.clear()
	}
	s.closing = true
	s.queue.force(queued{wire: closeWire(code, reason), last: true})
	s.startWriter()
}

// listen reads until the connection ends. Any frame counts as a sign of life.
func (s *socket) listen(conn *websocket.Conn, o Opening) {
	alive := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.closing {
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
			code = CloseDone
		}
		s.Conn.Close(code, "")
		return nil
	})
	alive()
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			s.failed(err)
			return
		}
		alive()
		switch {
		case kind != websocket.TextMessage:
			s.Conn.Close(CloseTextOnly, "text frames only")
		case !utf8.Valid(message):
			s.Conn.Close(CloseInvalidUTF8, "invalid UTF-8")
		default:
			s.handle(message, o)
		}
	}
}

// failed handles a failed read.
func (s *socket) failed(err error) {
	var closed *websocket.CloseError
	var broken *net.OpError
	switch {
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		s.farewell = true // the close handler has answered it
	case errors.As(err, &closed):
		s.cutOff()
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.Conn.Close(CloseHeartbeat, "Heartbeat timeout")
	case errors.Is(err, websocket.ErrReadLimit):
		s.Conn.Close(websocket.CloseMessageTooBig, "message too big")
	case errors.As(err, &broken), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		s.cutOff()
	default:
		// The framing is broken. The library has reported it already; this waits until the peer has had time to read it.
		s.Conn.Close(websocket.CloseProtocolError, "")
	}
}

// finish waits until the close frame is written, gives the peer a moment to read it, and drops the socket.
func (s *socket) finish() {
	<-s.written
	if !s.farewell {
		_ = s.net.SetReadDeadline(time.Now().Add(s.srv.opt.CloseTimeout))
		// Closing with unread bytes would reset the connection and lose the close frame.
		_, _ = io.CopyN(io.Discard, s.net, 1<<20)
	}
	_ = s.net.Close()
	s.End()
}

func (s *socket) startWriter() {
	if !s.writing && !s.ended {
		s.writing = true
		go s.write()
	}
}

// write sends the queued frames, several with one system call, until the queue is empty.
func (s *socket) write() {
	for {
		s.mu.Lock()
		items := s.queue.take()
		if len(items) == 0 {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()

		_ = s.net.SetWriteDeadline(time.Now().Add(s.srv.opt.WriteTimeout))
		if err := send(s.net, items); err != nil {
			s.cutOff()
			return
		}
		if items[len(items)-1].last {
			// The peer answers with its own close frame. It has a limited time to do so.
			_ = s.net.SetReadDeadline(time.Now().Add(s.srv.opt.CloseTimeout))
			s.mu.Lock()
			s.end()
			s.mu.Unlock()
			return
		}
	}
}

// send writes frames. It is nearly always one frame, which needs no list.
func send(to net.Conn, items []queued) error {
	if len(items) == 1 {
		_, err := to.Write(items[0].wire)
		return err
	}
	buffers := make(net.Buffers, len(items))
	for i, item := range items {
		buffers[i] = item.wire
	}
	_, err := buffers.WriteTo(to)
	return err
}

// cutOff ends a socket whose connection no longer works: no close frame can be sent.
func (s *socket) cutOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = closing
	s.closing = true
	s.forget()
	s.queue.clear()
	_ = s.net.Close()
	s.end()
}

// end is called by the writer, the reader or both. Nothing is written after it.
func (s *socket) end() {
	if !s.ended {
		s.ended = true
		close(s.written)
	}
}
