package realtime

import (
	"slices"
	"time"
)

// gate is the throttle of one connection (contract 30, 7.2). Of each series it passes at most one frame per interval. The first frame
// passes at once, and the last one is never lost. Frames leave in the order of their ids, across all rooms: a client resumes from the
// largest id that it has, so no frame with a smaller id may still be waiting. A frame therefore waits behind an older waiting frame, for
// less than one interval. Frames that begin or end a phase do not wait. Not safe for concurrent use; the connection's lock guards it.
type gate struct {
	interval time.Duration
	sent     map[string]time.Time // by series; made at first use
	waiting  []*Frame             // ascending ids, at most one per series
}

// passes reports that a frame goes at once and changes nothing in the gate. That is nearly always so, and is decided without a list.
func (g *gate) passes(f *Frame) bool {
	return len(g.waiting) == 0 && f.series == "" && f.Name != typePhaseStarted
}

// offer takes a frame of the stream and returns the frames to send now, in order.
func (g *gate) offer(f *Frame, now time.Time) []*Frame {
	switch {
	case f.series != "":
		g.drop(f.series)
	case f.Name == typePhaseStarted:
		// A pending update belongs to the old phase and would come too late. The new phase begins without a running interval.
		g.drop(f.ends)
		delete(g.sent, f.ends)
		return append(g.flush(now), f)
	case f.Name == typeComplete || f.Name == typeError:
		return append(g.flush(now), f)
	case len(g.waiting) == 0:
		return []*Frame{f}
	}
	g.waiting = append(g.waiting, f)
	return g.due(now)
}

// due removes and returns the frames that may go now.
func (g *gate) due(now time.Time) []*Frame {
	n := 0
	for n < len(g.waiting) && !now.Before(g.dueAt(g.waiting[n])) {
		n++
	}
	return g.take(n, now)
}

// flush removes and returns all frames, due or not.
func (g *gate) flush(now time.Time) []*Frame { return g.take(len(g.waiting), now) }

// next returns when a frame becomes due; zero when none waits.
func (g *gate) next() time.Time {
	if len(g.waiting) == 0 {
		return time.Time{}
	}
	return g.dueAt(g.waiting[0])
}

// note records that a frame of the series was sent past the gate (a snapshot, a replay).
func (g *gate) note(series string, now time.Time) {
	if g.sent == nil || len(g.sent) > maxSeries {
		g.sent = make(map[string]time.Time, 1)
	}
	g.sent[series] = now
}

func (g *gate) dueAt(f *Frame) time.Time {
	if f.series == "" {
		return time.Time{}
	}
	return g.sent[f.series].Add(g.interval)
}

func (g *gate) take(n int, now time.Time) []*Frame {
	if n == 0 {
		return nil
	}
	out := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	}
	for _, f := range out {
		if f.series != "" {
			g.note(f.series, now)
		}
	}
	return out
}

// forget drops the waiting frames of a room.
func (g *gate) forget(room string) {
	g.waiting = slices.DeleteFunc(g.waiting, func(f *Frame) bool { return f.Room == room })
}

// maxSeries bounds the memory for rooms that the connection has left.
const maxSeries = 4 * maxRooms

func (g *gate) drop(series string) {
	for i, f := range g.waiting {
		if f.series == series {
			g.waiting = append(g.waiting[:i:i], g.waiting[i+1:]...)
			return
		}
	}
}
