package realtime

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"
)

// hub knows which connection is in which room. Any goroutine may add or remove connections; one goroutine dispatches events.
type hub struct {
	log *slog.Logger
	ask questions
	// patience bounds the queries after a removal. When it ends, the connections concerned are closed.
	patience time.Duration

	mu       sync.RWMutex
	rooms    map[string]map[*membership]struct{} // by the room of the log
	sessions map[string]map[*Conn]struct{}
	users    map[string]map[*Conn]struct{}
	all      map[*Conn]struct{}
	watches  map[string]map[*watcher]struct{}

	// verdicts by project, accessed only by the dispatching goroutine.
	verdicts map[string]map[viewer]verdict
	output   outputs
}

// questions are the hub's queries to the database, each once per batch.
type questions interface {
	recheck(ctx context.Context, claims []claim) ([]*refusal, error)
	viewers(ctx context.Context, claims []claim) ([]verdict, error)
	resolve(ctx context.Context, ids []int64) (map[int64][]byte, error)
}

func newHub(log *slog.Logger, ask questions) *hub {
	return &hub{
		log: log, ask: ask, patience: 3 * time.Second,
		rooms: map[string]map[*membership]struct{}{}, sessions: map[string]map[*Conn]struct{}{},
		users: map[string]map[*Conn]struct{}{}, all: map[*Conn]struct{}{},
		watches: map[string]map[*watcher]struct{}{}, verdicts: map[string]map[viewer]verdict{},
	}
}

// add registers a connection and its rooms. From then on the connection gets (and holds back) events, and removals find it.
func (h *hub) add(c *Conn, rooms []*membership, session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[c] = struct{}{}
	put(h.users, c.user, c)
	put(h.sessions, session, c)
	for _, m := range rooms {
		put(h.rooms, m.source, m)
	}
}

// join adds memberships of a registered connection.
func (h *hub) join(places ...*membership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range places {
		if _, open := h.all[m.conn]; open {
			put(h.rooms, m.source, m)
		}
	}
}

// leave removes memberships.
func (h *hub) leave(places ...*membership) {
	if len(places) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range places {
		cut(h.rooms, m.source, m)
	}
}

// rename moves a connection to another session, because a later sign-in renewed its credential.
func (h *hub) rename(c *Conn, from, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, open := h.all[c]; open {
		cut(h.sessions, from, c)
		put(h.sessions, to, c)
	}
}

func (h *hub) remove(c *Conn, rooms []*membership, session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, c)
	cut(h.users, c.user, c)
	cut(h.sessions, session, c)
	for _, m := range rooms {
		cut(h.rooms, m.source, m)
	}
}

func put[T comparable](index map[string]map[T]struct{}, key string, value T) {
	if index[key] == nil {
		index[key] = map[T]struct{}{}
	}
	index[key][value] = struct{}{}
}

func cut[T comparable](index map[string]map[T]struct{}, key string, value T) {
	delete(index[key], value)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// conns returns a copy of the list of registered connections.
func (h *hub) conns() []*Conn {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return keys(h.all)
}

func keys[T comparable](set map[T]struct{}) []T {
	out := make([]T, 0, len(set))
	for value := range set {
		out = append(out, value)
	}
	return out
}

// size returns the number of connections, and of their memberships in rooms.
func (h *hub) size() (conns, places int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, members := range h.rooms {
		places += len(members)
	}
	return len(h.all), places
}

// dispatch delivers events to the members of their rooms, in order, and handles removals at their position. One goroutine calls it. When
// this server stops in the middle, queries stay without an answer: dispatch then delivers nothing more, and all connections are closed for
// the restart.
func (h *hub) dispatch(ctx context.Context, events []*Event) {
	h.prepare(ctx, events)
	for _, e := range events {
		if ctx.Err() != nil {
			return
		}
		switch {
		case e.Type == typeRemoval && e.Audience == audienceNone:
			h.withdraw(ctx, e)
		case e.Data != nil:
			h.deliver(e)
		}
	}
}

func (h *hub) deliver(e *Event) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for w := range h.watches[e.Room] {
		w.tell(e.copy())
	}
	for m := range h.rooms[e.Room] {
		m.deliver(e)
	}
}

// withdraw handles a removal. It closes the connections of an ended session. Other connections concerned are authorized again before any
// later event is delivered.
func (h *hub) withdraw(ctx context.Context, e *Event) {
	var r removal
	if err := json.Unmarshal(e.Data, &r); err != nil {
		h.log.Error("a removal cannot be read, all sockets are checked again", "event", e.ID, "error", err)
		h.check(ctx, h.conns(), leftRevoked)
		return
	}
	h.mu.RLock()
	var concerned []*Conn
	switch r.Kind {
	case "session_revoked":
		concerned = keys(h.sessions[r.SessionID])
	case "membership_ended":
		concerned = keys(h.users[r.UserID])
	default:
		seen := map[*Conn]struct{}{}
		for _, kind := range []string{kindProject, kindContext} {
			for m := range h.rooms[kind+":"+r.ProjectID] {
				if r.UserID == "" || m.conn.user == r.UserID {
					seen[m.conn] = struct{}{}
				}
			}
		}
		concerned = keys(seen)
	}
	h.mu.RUnlock()
	switch r.Kind {
	case "session_revoked":
		for _, c := range concerned {
			c.Close(errRevoked.code, errRevoked.reason)
		}
	case "project_deleted":
		h.check(ctx, concerned, leftDeleted)
	default:
		h.check(ctx, concerned, leftRevoked)
	}
}

// authorizeAll authorizes every connection again, after the feed was disconnected.
func (h *hub) authorizeAll(ctx context.Context) {
	h.verdicts = map[string]map[viewer]verdict{}
	h.check(ctx, h.conns(), leftRevoked)
}

const authorizedAtOnce = 500

// check removes connections from rooms that they may no longer be in, and closes connections that may no longer exist. Equal claims are
// queried once. reason is sent to the connections that lose a room.
func (h *hub) check(ctx context.Context, conns []*Conn, reason string) {
	byClaim := make(map[claim][]*Conn, len(conns))
	for _, c := range conns {
		for _, right := range c.claims() {
			byClaim[right] = append(byClaim[right], c)
		}
	}
	claims := keysOf(byClaim)
	for len(claims) > 0 {
		n := min(len(claims), authorizedAtOnce)
		h.verify(ctx, claims[:n], byClaim, reason)
		claims = claims[n:]
	}
}

func keysOf[K comparable, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}

func (h *hub) verify(ctx context.Context, claims []claim, byClaim map[claim][]*Conn, reason string) {
	answers, err := insist(ctx, h.patience, func(ctx context.Context) ([]*refusal, error) { return h.ask.recheck(ctx, claims) })
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		// No answer means no permission. The client reconnects and is authorized then.
		h.log.Warn("sockets are closed because the database did not say whether they may stay", "claims", len(claims), "error", err)
	}
	for i, right := range claims {
		for _, c := range byClaim[right] {
			switch {
			case err != nil:
				c.Close(CloseTryLater, "try again later")
			case answers[i] == nil:
			case answers[i] == errHidden:
				c.evict(right.project, reason)
			default:
				c.Close(answers[i].code, answers[i].reason)
			}
		}
	}
}

// insist repeats a query until there is an answer or patience ends: a pool whose connections died with the database needs a second attempt.
func insist[T any](ctx context.Context, patience time.Duration, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		answer, err := ask(ctx)
		if err == nil || pause(ctx, wait) != nil {
			return answer, err
		}
	}
}
