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
	// maxChunk is the contract's limit of one piece, in bytes of UTF-8.
	maxChunk = 4 << 10
	// maxEncoded keeps a piece below what one notification may hold, since quotes and line breaks grow in JSON.
	maxEncoded = 5 << 10
	// sayEvery is how often a run speaks: a database call each, so pieces are gathered.
	sayEvery = 150 * time.Millisecond
	// sayFor is how long one piece is tried while the database is away.
	sayFor = 10 * time.Second
)

// speaker passes the text of a streaming run on. Text is gathered while a piece is under way, so a slow database slows nobody.
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

// say takes a piece of text. An error means that this process has the run no more.
func (s *speaker) say(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lost:
		return lease.ErrLost
	case s.mute:
		return nil
	}
	s.text = append(s.text, storable(text)...)
	s.ring()
	return nil
}

// close says the rest and waits until it is said.
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

// stop ends the speaking. Where the database was away that costs the listeners a while, and the run nothing: they get what they missed with
// its end.
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

// cut gives the longest beginning that is one piece and ends between characters.
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
