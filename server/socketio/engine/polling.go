package engine

import (
	"io"
	"net/http"

	"github.com/gofiber/fiber/v2"
)

// maxPolled is how many packets one answer holds. python-engineio ends the connection at more of them, and a client that resumes would get
// the same too large answer at each reconnect.
const maxPolled = 16

// servePoll answers a GET with the queued packets, or waits for the first one. The heartbeat bounds the wait. Packets that do not fit into
// one answer stay queued for the next GET.
func (s *Session) servePoll(c *fiber.Ctx) error {
	packets, ok := s.poll()
	if !ok {
		return refuse(c, codeBadRequest)
	}
	size := 0
	for _, p := range packets {
		size += p.size()
	}
	c.Set(fiber.HeaderContentType, "text/plain; charset=UTF-8")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Context().SetBody(appendBody(make([]byte, 0, size), packets))
	return nil
}

// poll waits for packets. Two GETs at a time end the session, because it would be undefined which one gets which packets.
func (s *Session) poll() ([]packet, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ws != nil:
		return nil, false
	case s.waiting != nil:
		s.shut(closeProtocol, "two polls at a time", false)
		return nil, false
	}
	if !s.ended && len(s.queue.packets) == 0 && !s.probed {
		waiting := make(chan struct{})
		s.waiting = waiting
		s.mu.Unlock()
		<-waiting
		s.mu.Lock()
		s.waiting = nil
	}
	var packets []packet
	if s.ws == nil {
		packets = s.queue.takePart(maxPolled, s.srv.opt.MaxPayload)
	}
	switch {
	case !s.ended:
	case len(s.queue.packets) == 0:
		s.srv.forget(s)
	case s.linger != nil:
		s.linger.Reset(s.srv.opt.Linger)
	}
	if len(packets) == 0 {
		// The poll ends for an upgrade, or with the session.
		packets = []packet{{noop, Message{}}}
	}
	return packets, true
}

// wakePoll ends the wait of a GET. The caller holds the lock.
func (s *Session) wakePoll() {
	if s.waiting == nil {
		return
	}
	select {
	case <-s.waiting:
	default:
		close(s.waiting)
	}
}

// drained is how much of a refused body is read and discarded. Closing with unread bytes would reset the connection, and the client would
// never see the answer.
const drained = 8 << 20

// servePost takes the packets of a body. Two POSTs at a time end the session: their order would be lost.
func (s *Session) servePost(c *fiber.Ctx) error {
	if !s.beginPost() {
		return refuse(c, codeBadRequest)
	}
	defer s.endPost()
	body, err := readBody(c, s.srv.opt.MaxPayload)
	if err != nil {
		return err
	}
	if parseBody(body, s.take) != nil {
		s.fail(closeProtocol, "protocol error")
		return refuse(c, codeBadRequest)
	}
	c.Set(fiber.HeaderContentType, "text/plain; charset=UTF-8")
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.SendString("ok")
}

func (s *Session) beginPost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended, s.ws != nil:
		return false
	case s.posting:
		s.shut(closeProtocol, "two posts at a time", false)
		return false
	}
	s.posting = true
	return true
}

func (s *Session) endPost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posting = false
}

// readBody reads at most limit bytes, from the stream or from the body that Fiber has already read.
func readBody(c *fiber.Ctx, limit int) ([]byte, error) {
	stream := c.Context().RequestBodyStream()
	refuse := func() error {
		if stream != nil {
			_, _ = io.CopyN(io.Discard, stream, drained)
		}
		c.Context().SetConnectionClose()
		return fiber.NewError(http.StatusRequestEntityTooLarge)
	}
	if c.Request().Header.ContentLength() > limit {
		return nil, refuse()
	}
	if stream == nil {
		body := append([]byte(nil), c.Body()...) // Fiber's buffer is valid only inside the handler
		if len(body) > limit {
			return nil, refuse()
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(stream, int64(limit)+1))
	if err != nil {
		return nil, fiber.NewError(http.StatusBadRequest)
	}
	if len(body) > limit {
		return nil, refuse()
	}
	return body, nil
}
