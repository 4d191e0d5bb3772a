package realtime

// queue holds frames that wait to be written to one socket. It takes memory only while frames wait. Not safe for concurrent use.
type queue struct {
	items []queued
	bytes int
	// free and freeBytes are the part of the above that does not count: a replay may be longer than the queue.
	free, freeBytes int
	// taken and takenBytes are held by the writer: not yet written, so they count.
	taken, takenBytes int

	maxFrames, maxBytes int
}

// queued is one frame as it goes over the wire.
type queued struct {
	wire []byte
	// series is the key under which a newer frame replaces this one; "": no frame replaces it.
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

// force appends a frame outside the limits: the close frame, or a replay, which has a separate limit. Forced frames are in no series, so no
// frame replaces them.
func (q *queue) force(f queued) {
	f.series = ""
	q.items = append(q.items, f)
	q.bytes += len(f.wire)
	q.free++
	q.freeBytes += len(f.wire)
}

// clear drops frames that the writer has not taken.
func (q *queue) clear() { q.items, q.bytes, q.free, q.freeBytes = nil, 0, 0, 0 }

// take hands all frames to the writer; nil when there are none. The queue's memory goes with them.
func (q *queue) take() []queued {
	out := q.items
	q.taken, q.takenBytes = len(out)-q.free, q.bytes-q.freeBytes
	q.clear()
	return out
}
