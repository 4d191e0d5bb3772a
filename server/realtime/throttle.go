package realtime

import "time"

// gate is the throttle of one socket (contract 30, 7.2): of each series at most one frame per interval, the first one at once, the last
// one never lost. Frames leave in the order of their ids, also between two series: a frame waits behind an older one that waits. Not
// safe for concurrent use; the socket's lock guards it.
type gate struct {
	interval time.Duration
	sent     map[string]time.Time // by series; lazily made
	waiting  []*frame             // ascending ids, at most one a series
}

// offer takes a frame of the stream and returns what is to be sent now, in order.
func (g *gate) offer(f *frame, now time.Time) []*frame {
	switch {
	case f.series != "":
		g.drop(f.series)
		g.waiting = append(g.waiting, f)
		return g.due(now)
	case f.kind == typePhaseStarted:
		// A pending update is of the old phase and would come too late; the new phase begins with a quiet clock.
		g.drop(typeProgress)
		delete(g.sent, typeProgress)
		return append(g.flush(now), f)
	default:
		return append(g.flush(now), f)
	}
}

// due takes out what may go now.
func (g *gate) due(now time.Time) []*frame {
	n := 0
	for n < len(g.waiting) && !now.Before(g.dueAt(g.waiting[n])) {
		n++
	}
	return g.take(n, now)
}

// flush takes out everything, due or not.
func (g *gate) flush(now time.Time) []*frame { return g.take(len(g.waiting), now) }

// next is when something becomes due; zero when nothing waits.
func (g *gate) next() time.Time {
	if len(g.waiting) == 0 {
		return time.Time{}
	}
	return g.dueAt(g.waiting[0])
}

// note records that a frame of the series went out past the gate (a snapshot).
func (g *gate) note(series string, now time.Time) {
	if g.sent == nil {
		g.sent = make(map[string]time.Time, 1)
	}
	g.sent[series] = now
}

func (g *gate) dueAt(f *frame) time.Time { return g.sent[f.series].Add(g.interval) }

func (g *gate) take(n int, now time.Time) []*frame {
	if n == 0 {
		return nil
	}
	out := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	for _, f := range out {
		g.note(f.series, now)
	}
	return out
}

func (g *gate) drop(series string) {
	for i, f := range g.waiting {
		if f.series == series {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			return
		}
	}
}
