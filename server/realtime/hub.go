package realtime

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"
)

// hub knows which socket is in which room. Sockets come and go from any goroutine; events are dispatched by one.
type hub struct {
	log     *slog.Logger
	recheck func(ctx context.Context, claims []claim) ([]*refusal, error)
	// patience bounds the question behind a removal; then the sockets concerned are closed.
	patience time.Duration

	mu       sync.RWMutex
	rooms    map[string]map[*socket]struct{}
	sessions map[string]map[*socket]struct{}
	users    map[string]map[*socket]struct{}
	all      map[*socket]struct{}
	watches  map[string]map[*watcher]struct{}
}

func newHub(log *slog.Logger, recheck func(context.Context, []claim) ([]*refusal, error)) *hub {
	return &hub{
		log: log, recheck: recheck, patience: 3 * time.Second,
		rooms: map[string]map[*socket]struct{}{}, sessions: map[string]map[*socket]struct{}{},
		users: map[string]map[*socket]struct{}{}, all: map[*socket]struct{}{},
		watches: map[string]map[*watcher]struct{}{},
	}
}

// add registers a socket under its room, user and session. From here on it gets (and holds back) events.
func (h *hub) add(s *socket, room, user, session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[s] = struct{}{}
	put(h.rooms, room, s)
	put(h.users, user, s)
	put(h.sessions, session, s)
}

// rename moves a socket to another session: its credential was renewed by a later sign-in.
func (h *hub) rename(s *socket, from, to string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, open := h.all[s]; open {
		cut(h.sessions, from, s)
		put(h.sessions, to, s)
	}
}

func (h *hub) remove(s *socket, room, user, session string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, s)
	cut(h.rooms, room, s)
	cut(h.users, user, s)
	cut(h.sessions, session, s)
}

func put(index map[string]map[*socket]struct{}, key string, s *socket) {
	if index[key] == nil {
		index[key] = map[*socket]struct{}{}
	}
	index[key][s] = struct{}{}
}

func cut(index map[string]map[*socket]struct{}, key string, s *socket) {
	delete(index[key], s)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// sockets gives a copy of everything that is registered.
func (h *hub) sockets() []*socket {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return keys(h.all)
}

func keys(set map[*socket]struct{}) []*socket {
	out := make([]*socket, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	return out
}

// size is the number of sockets.
func (h *hub) size() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.all)
}

// dispatch hands events to the sockets of their rooms, in order; removals are acted upon in their place. Called by one goroutine.
func (h *hub) dispatch(ctx context.Context, events []*Event) {
	for _, e := range events {
		if e.Type == typeRemoval && e.Audience == "none" {
			h.withdraw(ctx, e)
			continue
		}
		h.deliver(e)
	}
}

func (h *hub) deliver(e *Event) {
	h.notify(e)
	if !isIngestion(e.Type) {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	room := h.rooms[e.Room]
	if len(room) == 0 {
		return
	}
	e.encode()
	for s := range room {
		s.deliver(e)
	}
}

// withdraw acts on a removal: sockets of an ended session are closed, others concerned are judged anew before anything later.
func (h *hub) withdraw(ctx context.Context, e *Event) {
	var r removal
	if err := json.Unmarshal(e.Data, &r); err != nil {
		h.log.Error("a removal cannot be read, all sockets are judged anew", "event", e.ID, "error", err)
		h.judge(ctx, h.sockets(), nil)
		return
	}
	h.mu.RLock()
	var concerned []*socket
	switch r.Kind {
	case "session_revoked":
		concerned = keys(h.sessions[r.SessionID])
	case "membership_ended":
		concerned = keys(h.users[r.UserID])
	default:
		for s := range h.rooms["project:"+r.ProjectID] {
			if r.UserID == "" || s.user == r.UserID {
				concerned = append(concerned, s)
			}
		}
	}
	h.mu.RUnlock()
	switch r.Kind {
	case "session_revoked":
		for _, s := range concerned {
			s.close(errRevoked.code, errRevoked.reason)
		}
	case "project_deleted":
		h.judge(ctx, concerned, &refusal{closeNotFound, "Project deleted"})
	default:
		h.judge(ctx, concerned, nil)
	}
}

// judgeAll asks again for every socket: after an absence.
func (h *hub) judgeAll(ctx context.Context) { h.judge(ctx, h.sockets(), nil) }

const judgedAtOnce = 500

// judge closes the sockets whose users may not watch any more. Equal claims are asked once. instead replaces the reason "not found".
func (h *hub) judge(ctx context.Context, sockets []*socket, instead *refusal) {
	byClaim := make(map[claim][]*socket, len(sockets))
	for _, s := range sockets {
		c := s.claim()
		byClaim[c] = append(byClaim[c], s)
	}
	claims := make([]claim, 0, len(byClaim))
	for c := range byClaim {
		claims = append(claims, c)
	}
	for len(claims) > 0 {
		n := min(len(claims), judgedAtOnce)
		h.ask(ctx, claims[:n], byClaim, instead)
		claims = claims[n:]
	}
}

func (h *hub) ask(ctx context.Context, claims []claim, byClaim map[claim][]*socket, instead *refusal) {
	answers, err := h.insist(ctx, claims)
	if err != nil {
		// No answer is no permission. The client comes back and is judged then.
		h.log.Warn("sockets are closed because nobody can say whether they may stay", "claims", len(claims), "error", err)
	}
	for i, c := range claims {
		var verdict *refusal
		switch {
		case err != nil:
			verdict = &refusal{closeTryLater, "try again later"}
		case answers[i] == nil:
			continue
		case answers[i] == errHidden && instead != nil:
			verdict = instead
		default:
			verdict = answers[i]
		}
		for _, s := range byClaim[c] {
			s.close(verdict.code, verdict.reason)
		}
	}
}

// insist asks until there is an answer or patience ends: a pool whose connections died with the database needs a second attempt.
func (h *hub) insist(ctx context.Context, claims []claim) ([]*refusal, error) {
	ctx, cancel := context.WithTimeout(ctx, h.patience)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		answers, err := h.recheck(ctx, claims)
		if err == nil || pause(ctx, wait) != nil {
			return answers, err
		}
	}
}
