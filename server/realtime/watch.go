package realtime

import (
	"encoding/json"
	"sync"
	"time"
	"unicode/utf8"
)

// watcher is a subscriber in this process that follows a room.
type watcher struct{ tell func(Event) }

// Watch calls f for every event of a room of the log ("user:…", "project:…", "org:…", "context:…") that this process hears of from now on,
// kept or ephemeral (ID 0), until stop is called. It checks no permission: the caller must show events only to users who may see them. f
// runs in the goroutine that serves all sockets, so it must return at once and must not call Watch or stop. A channel with room and a
// non-blocking send is the usual body. While the database is away, no events come, and ephemeral events are best effort: a caller that
// waits for something has to query it itself now and then.
func (s *Server) Watch(room string, f func(Event)) (stop func()) {
	w := &watcher{tell: f}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	put(h.watches, room, w)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		cut(h.watches, room, w)
	}
}

// copy returns the event without the parts that sockets share.
func (e *Event) copy() Event {
	return Event{ID: e.ID, Seq: e.Seq, Room: e.Room, Type: e.Type, Data: e.Data, Audience: e.Audience, OrgID: e.OrgID, ProjectID: e.ProjectID,
		ActorID: e.ActorID, ConflationKey: e.ConflationKey, UserIDs: e.UserIDs, CreatedAt: e.CreatedAt}
}

// tell delivers an ephemeral event, as private.publish sent it.
func (h *hub) tell(payload string) {
	var sent struct {
		Room, Type string
		At         time.Time
		Data       json.RawMessage
	}
	if err := json.Unmarshal([]byte(payload), &sent); err != nil {
		h.log.Warn("an ephemeral event cannot be read", "error", err)
		return
	}
	e := &Event{Room: sent.Room, Type: sent.Type, Data: sent.Data, Audience: audienceRoom, CreatedAt: sent.At, shared: &frames{}}
	switch e.Type {
	case typeOutput:
		h.joinOutput(e)
		return
	case typeUserStatus:
		var d struct{ UserID string }
		_ = json.Unmarshal(e.Data, &d)
		e.about = d.UserID
	}
	h.deliver(e)
}

// outputs joins the text of running executions for sockets: at most four frames a second per execution (contract 30, 7.2). Watchers get
// every piece as it comes.
type outputs struct {
	mu    sync.Mutex
	texts map[string]*output
}

type output struct {
	room string
	data outputData
	at   time.Time
}

type outputData struct {
	ExecutionID string `json:"executionId"`
	Seq         int64  `json:"seq"`
	Chunk       string `json:"chunk"`
}

const (
	outputInterval = 250 * time.Millisecond
	maxChunk       = 4 << 10
	maxOutputs     = 10_000
)

func (h *hub) joinOutput(e *Event) {
	h.mu.RLock()
	for w := range h.watches[e.Room] {
		w.tell(e.copy())
	}
	watched := len(h.rooms[e.Room]) > 0
	h.mu.RUnlock()
	var d outputData
	if !watched || json.Unmarshal(e.Data, &d) != nil {
		return
	}
	h.output.mu.Lock()
	defer h.output.mu.Unlock()
	waiting := h.output.texts[d.ExecutionID]
	switch {
	case waiting == nil && len(h.output.texts) >= maxOutputs:
		return
	case waiting == nil:
		// The first piece is sent at once. Later pieces within the interval are joined.
		if h.output.texts == nil {
			h.output.texts = map[string]*output{}
		}
		h.output.texts[d.ExecutionID] = &output{room: e.Room}
		h.send(e)
		time.AfterFunc(outputInterval, func() { h.flushOutput(d.ExecutionID) })
	case waiting.data.Chunk == "":
		waiting.data, waiting.at = d, e.CreatedAt
	case len(waiting.data.Chunk)+len(d.Chunk) > maxChunk || !utf8.ValidString(waiting.data.Chunk):
		h.send(waiting.event())
		waiting.data, waiting.at = d, e.CreatedAt
	default:
		waiting.data.Chunk += d.Chunk
	}
}

func (o *output) event() *Event {
	raw, err := json.Marshal(o.data)
	if err != nil {
		raw = []byte("{}")
	}
	return &Event{Room: o.room, Type: typeOutput, Data: raw, Audience: audienceRoom, CreatedAt: o.at, shared: &frames{}}
}

// flushOutput sends the joined text. It drops the execution when it has been quiet for an interval.
func (h *hub) flushOutput(execution string) {
	h.output.mu.Lock()
	defer h.output.mu.Unlock()
	waiting := h.output.texts[execution]
	if waiting.data.Chunk == "" {
		delete(h.output.texts, execution)
		return
	}
	h.send(waiting.event())
	waiting.data = outputData{}
	time.AfterFunc(outputInterval, func() { h.flushOutput(execution) })
}

// send delivers to sockets only.
func (h *hub) send(e *Event) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for m := range h.rooms[e.Room] {
		m.deliver(e)
	}
}
