package executions

import (
	"context"
	"encoding/json"
	"sync"
	"time"
	"unicode/utf8"

	"kijko/worker/lease"
)

const (
	// maxChunk is the contract's limit for one piece of text, in bytes of UTF-8.
	maxChunk = 4 << 10
	// maxEncoded keeps a piece below the size limit of one notification, since quotes and line breaks grow in JSON.
	maxEncoded = 5 << 10
	// sayEvery is the shortest interval between two pieces of one run. Each piece is a database call, so text is gathered.
	sayEvery = 150 * time.Millisecond
	// sayFor is how long sending one piece is tried while the database is unreachable.
	sayFor = 10 * time.Second
)

// speaker passes on the text of a streaming run. Text is gathered while a piece is being sent, so a slow database does not slow the model
// call.
type speaker struct {
	e    *Engine
	t    *task
	ctx  context.Context
	wake chan struct{}
	done chan struct{}

	mu     sync.Mutex
	text   []byte
	closed bool
	mute   bool
	lost   bool
}

func (e *Engine) speak(ctx context.Context, t *task) *speaker {
	s := &speaker{e: e, t: t, ctx: ctx, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// say takes a piece of text. An error means that this process no longer has the run.
func (s *speaker) say(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost:
		return lease.ErrLost
	case s.mute:
		return nil
	}
	s.text = append(s.text, Text(text)...)
	s.ring()
	return nil
}

// close sends the rest of the text and waits until it is sent.
func (s *speaker) close() {
	s.mu.Lock()
	s.closed = true
	s.ring()
	s.mu.Unlock()
	<-s.done
}

func (s *speaker) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *speaker) run() {
	defer close(s.done)
	for seq := 0; ; {
		s.mu.Lock()
		chunk, closed := cut(s.text), s.closed
		s.text = s.text[len(chunk):]
		s.mu.Unlock()
		switch {
		case len(chunk) > 0:
			ctx, cancel := context.WithTimeout(s.ctx, sayFor)
			held, err := s.e.publish(ctx, s.t, seq, string(chunk))
			cancel()
			if err != nil || !held {
				s.stop(err == nil)
				return
			}
			seq++
			if !closed {
				s.pause()
			}
		case closed:
			return
		default:
			<-s.wake
		}
	}
}

// stop ends the sending. After a database outage the listeners wait for a while, and the run loses nothing: the end of the run brings the
// listeners the text that they missed.
func (s *speaker) stop(lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute, s.lost, s.text = true, lost, nil
}

// pause gathers text for a moment; the end of the run cuts it short.
func (s *speaker) pause() {
	timer := time.NewTimer(sayEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-s.ctx.Done():
			return
		case <-s.wake:
			s.mu.Lock()
			now := s.closed || len(s.text) >= maxChunk
			s.mu.Unlock()
			if now {
				s.ring()
				return
			}
		}
	}
}

// cut returns the longest prefix that fits into one piece and ends between characters.
func cut(text []byte) []byte {
	n := min(len(text), maxChunk)
	for n > 0 && n < len(text) && !utf8.RuneStart(text[n]) {
		n--
	}
	for n > 0 {
		encoded, err := json.Marshal(string(text[:n]))
		if err == nil && len(encoded) <= maxEncoded {
			break
		}
		n /= 2
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
	}
	return text[:n]
}
