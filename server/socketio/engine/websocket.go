package engine

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
)

// wire is a WebSocket. Frames are written directly to the connection, several with one system call. The library reads, and answers pings.
type wire struct {
	conn    *websocket.Conn
	net     net.Conn
	opt     Options
	end     []byte        // the close frame, once the session has ended
	written chan struct{} // closed when the close frame is written, or will never be
	once    sync.Once
}

func newWire(conn *websocket.Conn, opt Options) *wire {
	w := &wire{conn: conn, net: conn.NetConn(), opt: opt, written: make(chan struct{})}
	if inner, ok := w.net.(interface{ UnsafeConn() net.Conn }); ok {
		w.net = inner.UnsafeConn()
	}
	conn.SetReadLimit(int64(opt.MaxPayload))
	return w
}

const (
	opText   = 0x81
	opBinary = 0x82
	opClose  = 0x88
)

// appendHeader appends the header of an unmasked, unfragmented frame with n bytes.
func appendHeader(dst []byte, op byte, n int) []byte {
	switch {
	case n < 126:
		return append(dst, op, byte(n))
	case n < 1<<16:
		return append(dst, op, 126, byte(n>>8), byte(n))
	}
	return append(dst, op, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// closeFrame encodes code and reason. Control frames hold at most 125 bytes. Codes that must not be sent become 1000.
func closeFrame(code int, reason string) []byte {
	if code < 1000 || code == websocket.CloseNoStatusReceived || code == websocket.CloseAbnormalClosure {
		code = closeDone
	}
	reason = reason[:min(len(reason), 123)]
	frame := appendHeader(nil, opClose, len(reason)+2)
	return append(append(frame, byte(code>>8), byte(code)), reason...)
}

// send writes packets, each as one frame: text with its digit, binary without.
func (w *wire) send(packets []packet) error {
	room := 0
	for _, p := range packets {
		room += 12 + len(p.Head)
	}
	headers := make([]byte, 0, room)
	buffers := make(net.Buffers, 0, 2*len(packets))
	for _, p := range packets {
		begin := len(headers)
		if p.Binary {
			headers = appendHeader(headers, opBinary, len(p.Data))
		} else {
			headers = append(append(appendHeader(headers, opText, 1+len(p.Head)+len(p.Data)), p.kind), p.Head...)
		}
		buffers = append(buffers, headers[begin:len(headers):len(headers)], p.Data)
	}
	_ = w.net.SetWriteDeadline(time.Now().Add(w.opt.WriteTimeout))
	_, err := buffers.WriteTo(w.net)
	return err
}

// refuse closes a WebSocket that belongs to no session.
func (w *wire) refuse(code int, reason string) {
	_ = w.net.SetWriteDeadline(time.Now().Add(w.opt.CloseTimeout))
	_, _ = w.net.Write(closeFrame(code, reason))
	w.drain()
}

// drain gives the peer a moment for its part of the closing handshake. Closing with unread bytes would reset the connection and lose the
// close frame.
func (w *wire) drain() {
	_ = w.net.SetReadDeadline(time.Now().Add(w.opt.CloseTimeout))
	_, _ = io.CopyN(io.Discard, w.net, 1<<20)
	_ = w.net.Close()
}

// done marks the end of writing.
func (w *wire) done() { w.once.Do(func() { close(w.written) }) }

// write sends the queued packets until the queue is empty, and the close frame when the session has ended.
func (s *Session) write(w *wire) {
	for {
		s.mu.Lock()
		packets := s.queue.take()
		end := s.ended
		if len(packets) == 0 && !end {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if len(packets) == 0 {
			_ = w.net.SetWriteDeadline(time.Now().Add(w.opt.CloseTimeout))
			_, _ = w.net.Write(w.end)
			// The peer answers with its own close frame. It has a limited time to do so.
			_ = w.net.SetReadDeadline(time.Now().Add(w.opt.CloseTimeout))
			w.done()
			return
		}
		if err := w.send(packets); err != nil {
			s.lost(w)
			return
		}
	}
}

// lost ends a session whose connection no longer works: no close frame can be sent.
func (s *Session) lost(w *wire) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = true // and stays true: no further writer
	s.queue.drop()
	w.done()
	_ = w.net.Close()
	s.shut(websocket.CloseAbnormalClosure, "connection lost", true)
}

// listen reads until the connection ends.
func (s *Session) listen(w *wire) {
	w.conn.SetCloseHandler(func(code int, _ string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.shut(code, "", true)
		return nil
	})
	said := false // the peer's close frame has been read: no more frames come
	for {
		kind, raw, err := w.conn.ReadMessage()
		if err != nil {
			said = s.unreadable(w, err)
			break
		}
		p, err := parseFrame(kind, raw)
		if err != nil {
			code := closeProtocol
			if kind == websocket.TextMessage && !utf8.Valid(raw) {
				code = websocket.CloseInvalidFramePayloadData
			}
			s.fail(code, "protocol error")
			break
		}
		if !s.take(p) {
			break
		}
	}
	<-w.written
	if !said {
		w.drain()
	}
	_ = w.net.Close()
}

// parseFrame reads one frame. Binary frames need no mark here.
func parseFrame(kind int, raw []byte) (packet, error) {
	if kind == websocket.BinaryMessage {
		return packet{message, Message{Data: raw, Binary: true}}, nil
	}
	p, err := parse(raw)
	if err == nil && p.Binary {
		err = errPacket
	}
	return p, err
}

// unreadable handles a failed read. It reports whether it was the peer's close frame.
func (s *Session) unreadable(w *wire, err error) bool {
	var closed *websocket.CloseError
	var broken *net.OpError
	switch {
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return true // the close handler has answered it
	case errors.Is(err, websocket.ErrReadLimit):
		s.fail(closeTooBig, "message too big")
	case errors.As(err, &closed), errors.As(err, &broken), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		s.lost(w)
	default:
		s.fail(websocket.CloseProtocolError, "")
	}
	return false
}

// upgradeSession accepts a WebSocket for a session that polls. The old transport continues until the new one has taken over.
func (s *Server) upgradeSession(c *fiber.Ctx, session *Session) error {
	_ = s.upgrader.Upgrade(c.Context(), func(conn *websocket.Conn) {
		w := newWire(conn, s.opt)
		if !session.beginUpgrade(w) {
			w.refuse(closeProtocol, "no upgrade is possible")
			return
		}
		defer s.lives.Done()
		if session.probe(w) {
			session.listen(w)
			return
		}
		session.mu.Lock()
		if session.upgrading == w {
			session.dropUpgrade()
		}
		session.mu.Unlock()
		_ = w.net.Close()
	})
	return nil
}

// beginUpgrade allows one WebSocket at a time.
func (s *Session) beginUpgrade(w *wire) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.ws != nil || s.upgrading != nil {
		return false
	}
	s.srv.lives.Add(1) // the session is not ended, so it counts itself and the sum is above zero
	s.upgrading = w
	s.upgradeT = time.AfterFunc(s.srv.opt.UpgradeTimeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.upgrading == w {
			s.dropUpgrade()
		}
	})
	return true
}

// dropUpgrade drops a WebSocket that has not taken over; polling continues. The caller holds the lock.
func (s *Session) dropUpgrade() {
	if s.upgrading == nil {
		return
	}
	s.upgradeT.Stop()
	_ = s.upgrading.net.Close()
	s.upgrading, s.probed = nil, false
}

// probe waits for the client's probe and then for its decision. The waiting poll ends in between, so that no packets are on their way over
// two transports.
func (s *Session) probe(w *wire) bool {
	if !w.hears("2probe") || w.send([]packet{{pong, Message{Data: []byte("probe")}}}) != nil {
		return false
	}
	s.mu.Lock()
	if s.upgrading != w {
		s.mu.Unlock()
		return false
	}
	s.probed = true
	s.wakePoll()
	s.mu.Unlock()
	if !w.hears("5") {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.upgrading != w {
		return false
	}
	s.upgradeT.Stop()
	s.upgrading, s.probed, s.ws = nil, false, w
	s.wakePoll()
	if len(s.queue.packets) > 0 {
		s.wake()
	}
	return true
}

func (w *wire) hears(text string) bool {
	kind, raw, err := w.conn.ReadMessage()
	return err == nil && kind == websocket.TextMessage && string(raw) == text
}
