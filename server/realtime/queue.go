package realtime

// queue holds what waits to be written to one socket. It takes memory only while something waits. Not safe for concurrent use.
type queue struct {
	items []queued
	bytes int
	// free and freeBytes are part of the above and do not count: a replay may be longer than the queue.
	free, freeBytes int
	// taken and takenBytes are with the writer: not yet written, so they count.
	taken, takenBytes int

	maxFrames, maxBytes int
}

// queued is one frame as it goes over the wire.
type queued struct {
	wire []byte
	// series names what a newer frame replaces; "": nothing does.
	series string
	last   bool // the close frame
}

// push appends a frame; a newer one of a series replaces the older one. It reports false when the queue is full.
func (q *queue) push(f queued) bool {
	if f.series != "" {
		for i, old := range q.items {
			if old.series == f.series {
				q.bytes -= len(old.wire)
				q.items = append(q.items[:i], q.items[i+1:]...)
				break
			}
		}
	}
	if len(q.items)-q.free+q.taken >= q.maxFrames || q.bytes-q.freeBytes+q.takenBytes+len(f.wire) > q.maxBytes {
		return false
	}
	q.items = append(q.items, f)
	q.bytes += len(f.wire)
	return true
}

// force appends a frame outside the limits: the close frame, and replays, which are bounded by their own limit. Forced frames are in
// no series, so nothing replaces them.
func (q *queue) force(f queued) {
	f.series = ""
	q.items = append(q.items, f)
	q.bytes += len(f.wire)
	q.free++
	q.freeBytes += len(f.wire)
}

// clear drops what the writer has not taken.
func (q *queue) clear() { q.items, q.bytes, q.free, q.freeBytes = nil, 0, 0, 0 }

// take hands everything to the writer; nil when there is nothing. The memory goes with it.
func (q *queue) take() []queued {
	out := q.items
	q.taken, q.takenBytes = len(out)-q.free, q.bytes-q.freeBytes
	q.clear()
	return out
}
