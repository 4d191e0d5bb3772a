package realtime

import (
	"encoding/json"
	"time"
)

// watcher is a part of this process that follows a room.
type watcher struct{ tell func(Event) }

// Watch calls f for every event of a room of the log ("user:…", "project:…", "org:…", "context:…") that this process hears of from now
// on, kept or ephemeral (ID 0), until stop is called. It asks nobody for permission: the caller shows it to those who may see it. f runs
// in the goroutine that serves all sockets, so it must return at once and must not call Watch or stop; a channel with room and a
// non-blocking send is the usual body. While the database is away nothing comes, and ephemeral events are best effort: whoever waits
// for something has to look by itself now and then.
func (s *Server) Watch(room string, f func(Event)) (stop func()) {
	w := &watcher{tell: f}
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watches[room] == nil {
		h.watches[room] = map[*watcher]struct{}{}
	}
	h.watches[room][w] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watches[room], w)
		if len(h.watches[room]) == 0 {
			delete(h.watches, room)
		}
	}
}

// notify tells the watchers of an event's room.
func (h *hub) notify(e *Event) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for w := range h.watches[e.Room] {
		w.tell(Event{ID: e.ID, Seq: e.Seq, Room: e.Room, Type: e.Type, Data: e.Data, Audience: e.Audience, OrgID: e.OrgID, ProjectID: e.ProjectID,
			ActorID: e.ActorID, ConflationKey: e.ConflationKey, UserIDs: e.UserIDs, CreatedAt: e.CreatedAt})
	}
}

// tell takes an event that is not kept, as private.publish sent it.
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
	h.deliver(&Event{Room: sent.Room, Type: sent.Type, Data: sent.Data, Audience: audienceRoom, CreatedAt: sent.At})
}
