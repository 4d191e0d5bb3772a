package realtime

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// replay holds the events that a connection missed, and the rooms for which they are unknown.
type replay struct {
	head   int64
	events []*Event
	rooms  []string            // the rooms that the events come from
	resync map[string][]string // rooms by reason
	cursor int64
	part   map[int64]bool // events that came through the ingestion view
}

// The reasons of resync_required, in the order in which they are sent.
var resyncReasons = []string{"invalid_cursor", "expired", "too_many"}

// gather combines the missed events of the answer: all rooms in one order, at most maxReplay events.
func (b *beginning) gather(cursor int64, valid bool) *replay {
	r := &replay{head: b.head, cursor: cursor, resync: map[string][]string{}, part: map[int64]bool{}}
	total := 0
	for i, answer := range b.rooms {
		reason := ""
		switch {
		case !answer.admitted:
			continue
		case !valid || cursor > b.headOf(i):
			reason = "invalid_cursor"
		case cursor < answer.removed:
			reason = "expired"
		case answer.tooMany || total+len(answer.missed) > maxReplay:
			reason = "too_many"
		}
		if reason != "" {
			r.resync[reason] = append(r.resync[reason], answer.room)
			continue
		}
		total += len(answer.missed)
		r.rooms = append(r.rooms, answer.room)
		for _, e := range answer.missed {
			if part, seen := r.part[e.ID]; !seen || part {
				r.part[e.ID] = kindOf(answer.room) == kindIngestion
			}
			r.events = append(r.events, e)
		}
	}
	slices.SortStableFunc(r.events, func(a, b *Event) int { return cmp.Compare(a.ID, b.ID) })
	return r
}

// readRows fills events that name a row with the row's data, and leaves out those whose row is gone.
func (s *Server) readRows(ctx context.Context, events []*Event) ([]*Event, error) {
	var ids []int64
	for _, e := range events {
		if isRead(e.Type) {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) == 0 {
		return events, nil
	}
	rows, err := s.store.resolve(ctx, ids)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(events, func(e *Event) bool {
		if isRead(e.Type) {
			e.Data = rows[e.ID]
		}
		return e.Data == nil
	}), nil
}

// headOf returns the head of the log at the time a room was authorized.
func (b *beginning) headOf(i int) int64 {
	if b.later > 0 && i == len(b.rooms)-1 {
		return b.later
	}
	return b.head
}

// tellReplay sends the missed events, or says why that is impossible.
func (c *Conn) tellReplay(r *replay, ref string, now time.Time) {
	for _, reason := range resyncReasons {
		if rooms := r.resync[reason]; len(rooms) > 0 {
			c.send(controlFrame("resync_required", map[string]any{"reason": reason, "rooms": rooms, "lastEventId": formatID(r.head)}, ref, now), false)
		}
	}
	if len(r.resync) > 0 && len(r.rooms) == 0 {
		return
	}
	told := 0
	for i, e := range r.events {
		if i > 0 && r.events[i-1].ID == e.ID { // the event is in both rooms on one log
			continue
		}
		if c.wasTold(e) {
			continue
		}
		f := e.frame(r.part[e.ID])
		if f.series != "" {
			c.gate.note(f.series, now)
		}
		c.send(f, true)
		c.noticeEnd(e.Type, now)
		told++
	}
	for _, room := range r.rooms {
		if m := c.place(room); m != nil {
			m.from = min(m.from, r.cursor)
		}
	}
	c.send(controlFrame("resumed", map[string]any{"replayed": told, "lastEventId": formatID(c.newest())}, ref, now), true)
}

// wasTold reports whether this connection received an event through another room on the same log.
func (c *Conn) wasTold(e *Event) bool {
	for _, m := range c.rooms {
		if m.source == e.Room && (!m.part || isIngestion(e.Type)) && m.told(e.ID) {
			return true
		}
	}
	return false
}

// newest returns the highest event id that was sent to this connection.
func (c *Conn) newest() (head int64) {
	for _, m := range c.rooms {
		head = max(head, m.head)
	}
	return head
}

// Resume replays events that this connection did not receive: events of the rooms (none named: of all) above the cursor and below the
// position at which the connection joined the room. Live events are never sent twice.
func (c *Conn) Resume(cursorText string, rooms []string, ref string) {
	cursor, _ := parseCursor(cursorText)
	c.mu.Lock()
	caller := c.caller
	w := watch{caller: caller, limit: maxReplay + 1, requestID: c.requestID, ip: c.ip}
	for _, m := range c.rooms {
		if m.state == inside && (rooms == nil || slices.Contains(rooms, m.name)) {
			w.rooms = append(w.rooms, ask{room: m.name, cursor: &cursor, until: m.from})
		}
	}
	if c.kind == Project {
		w.snapshot = c.target
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), c.srv.opt.OpenTimeout)
	defer cancel()
	b, err := c.srv.store.begin(ctx, w)
	if err != nil {
		c.refuse(err, "a socket could not resume")
		return
	}
	if c.kind == Project && len(b.rooms) > 0 && !b.rooms[0].admitted {
		c.refuse(errHidden, "")
		return
	}
	r := b.gather(cursor, true)
	isStated := c.kind == Project && len(r.resync) > 0
	if isStated {
		if err := c.tellOnce(ctx, b); err != nil {
			c.refuse(err, "a socket could not resume")
			return
		}
	}
	if r.events, err = c.srv.readRows(ctx, r.events); err != nil {
		c.refuse(err, "a socket could not resume")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != live {
		return
	}
	now := c.srv.now()
	c.tellReplay(r, ref, now)
	if isStated {
		c.restate(b, now)
	}
	c.arm()
}
