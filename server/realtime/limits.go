package realtime

import (
	"net/netip"
	"sync"
	"time"

	"kijko/server/auth"
)

// windows counts attempts per key in a sliding window, in this process. The previous fixed window counts with the share of it that is still
// inside, as the contract counts handshakes (contract 30, 7.5). golang.org/x/time/rate, which package api uses, is a token bucket that
// allows a full burst directly after another. Memory is bounded: beyond maxKeys all further keys share one count, so a flood from many
// addresses limits itself.
type windows struct {
	limit   int
	per     time.Duration
	maxKeys int

	mu                sync.Mutex
	start             time.Time
	current, previous map[string]int
}

func newWindows(limit int, per time.Duration) *windows {
	return &windows{limit: limit, per: per, maxKeys: 100_000, current: map[string]int{}, previous: map[string]int{}}
}

// take counts an attempt and reports whether it is within the limit. If not, it returns how long to wait.
func (w *windows) take(key string, now time.Time) (bool, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if start := now.Truncate(w.per); !start.Equal(w.start) {
		w.previous = map[string]int{}
		if start.Sub(w.start) == w.per {
			w.previous = w.current
		}
		w.start, w.current = start, map[string]int{}
	}
	if _, known := w.current[key]; !known && len(w.current) >= w.maxKeys {
		key = ""
	}
	w.current[key]++
	share := 1 - float64(now.Sub(w.start))/float64(w.per)
	if float64(w.current[key])+float64(w.previous[key])*share <= float64(w.limit) {
		return true, 0
	}
	return false, w.start.Add(w.per).Sub(now)
}

// bucket is the message rate of one socket: rate tokens a second, at most burst.
type bucket struct {
	tokens float64
	at     time.Time
}

// take removes a token. When there is none, it returns how long until the next.
func (b *bucket) take(rate, burst float64, now time.Time) (bool, time.Duration) {
	if b.at.IsZero() {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate)
	}
	b.at = now
	if b.tokens < 1 {
		return false, time.Duration((1 - b.tokens) / rate * float64(time.Second))
	}
	b.tokens--
	return true, 0
}

// strikes counts rejected actions within a minute.
type strikes struct {
	n     int
	since time.Time
}

// add counts one rejected action and returns how many there are within the minute.
func (s *strikes) add(now time.Time) int {
	if now.Sub(s.since) > time.Minute {
		s.n, s.since = 0, now
	}
	s.n++
	return s.n
}

// addressKey returns the part of an address that is counted. An IPv6 client owns at least a /64, and could use another address of it for
// each attempt.
func addressKey(address string) string {
	if addr, err := netip.ParseAddr(address); err == nil {
		return auth.RateKey(addr)
	}
	return address
}
