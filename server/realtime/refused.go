package realtime

import (
	"context"
	"sync"
	"time"
)

// refused is one entry of the access log (contract 30, section 12), as the database takes it.
type refused struct {
	Timestamp string `json:"timestamp"`
	SocketID  string `json:"socketId"`
	ProjectID string `json:"projectId,omitempty"`
	Token     string `json:"token,omitempty"`
	Reason    string `json:"reason"`
	IPAddress string `json:"ipAddress"`
}

// refusals gathers entries between two writes. An attacker can fill the log and push other entries out, but causes only one write a second
// with a bounded number of rows, at any rate of attempts.
type refusals struct {
	mu      sync.Mutex
	entries []refused
	now     func() time.Time
}

const maxRefused = 100

func (r *refusals) add(socket, project, token, reason, ip string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) < maxRefused {
		r.entries = append(r.entries, refused{timestamp(r.now()), socket, project, token, reason, ip})
	}
}

func (r *refusals) take() []refused {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.entries
	r.entries = nil
	return out
}

// shorten keeps a part of a token that an operator can compare but that is useless as a credential.
func shorten(token string) string {
	switch {
	case token == "":
		return ""
	case len(token) <= 20:
		return "***"
	}
	return token[:10] + "..." + token[len(token)-5:]
}

// keepRefusals writes the entries of the last second.
func (s *Server) keepRefusals(ctx context.Context) {
	entries := s.refusals.take()
	if len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.OpenTimeout)
	defer cancel()
	if err := s.store.refuse(ctx, entries); err != nil && ctx.Err() == nil {
		s.log.Warn("refused attempts are not in the access log", "attempts", len(entries), "error", err)
	}
}
