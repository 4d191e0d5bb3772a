package realtime

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
)

// viewer is a user who looks at a project, acting in an organization.
type viewer struct{ user, org string }

// verdict is what a viewer sees of a project.
type verdict uint8

const (
	seesNothing verdict = iota
	seesProject
	readsActivity // the whole activity log
)

// maxVerdicts bounds the projects whose verdicts are kept. Beyond it, all verdicts are dropped and queried again.
const maxVerdicts = 10_000

// prepare queries, once for the whole batch, what the delivery of its events depends on: the viewers' permissions where some members of the
// room may not have an event, and the rows that events name. Verdicts are kept until the log says that something changed. Changes in the
// batch itself are applied before the query, because they have been committed already.
func (h *hub) prepare(ctx context.Context, events []*Event) {
	for _, e := range events {
		h.outdate(e)
	}
	asked := map[claim]struct{}{}
	var reads []int64
	h.mu.RLock()
	for _, e := range events {
		members := h.rooms[e.Room]
		if isRead(e.Type) && (len(members) > 0 || len(h.watches[e.Room]) > 0) {
			reads = append(reads, e.ID)
		}
		if !dependsOnViewer(e) {
			continue
		}
		for m := range members {
			if c := m.viewerClaim(e.ProjectID); c != (claim{}) {
				if _, known := h.verdicts[e.ProjectID][viewer{c.user, c.org}]; !known {
					asked[c] = struct{}{}
				}
			}
		}
	}
	h.mu.RUnlock()
	h.decide(ctx, keysOf(asked))
	for _, e := range events {
		if dependsOnViewer(e) {
			e.verdicts = h.verdicts[e.ProjectID]
		}
	}
	h.read(ctx, events, reads)
}

func dependsOnViewer(e *Event) bool {
	return e.ProjectID != "" && (e.Audience == audienceActivity || e.Audience == audienceProject && kindOf(e.Room) == kindOrg)
}

// viewerClaim returns the right with which a member of a room looks at a project. It is empty when the connection has no user yet, or no
// more.
func (m *membership) viewerClaim(project string) claim {
	c := m.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caller == nil || c.phase >= closing || m.state == left {
		return claim{}
	}
	right := claim{user: c.user, session: c.caller.SessionID, org: c.org, project: project}
	if right.org == "" {
		right.org = c.caller.OrgHint // the connection is being opened
	}
	return right
}

// decide queries unknown verdicts. Maps that events hold are never changed, but replaced.
func (h *hub) decide(ctx context.Context, claims []claim) {
	if len(h.verdicts) > maxVerdicts {
		h.verdicts = map[string]map[viewer]verdict{}
	}
	for len(claims) > 0 {
		n := min(len(claims), authorizedAtOnce)
		answers, err := insist(ctx, h.patience, func(ctx context.Context) ([]verdict, error) { return h.ask.viewers(ctx, claims[:n]) })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// A connection without a verdict is closed when the event is delivered; its client reconnects.
			h.log.Warn("the database did not say what people see of a project", "claims", len(claims), "error", err)
			return
		}
		fresh := map[string]map[viewer]verdict{}
		for i, c := range claims[:n] {
			if fresh[c.project] == nil {
				if fresh[c.project] = maps.Clone(h.verdicts[c.project]); fresh[c.project] == nil {
					fresh[c.project] = map[viewer]verdict{}
				}
			}
			fresh[c.project][viewer{c.user, c.org}] = answers[i]
		}
		maps.Copy(h.verdicts, fresh)
		claims = claims[n:]
	}
}

// outdate drops verdicts that an event may have changed.
func (h *hub) outdate(e *Event) {
	switch e.Type {
	case typeRemoval:
		if e.ProjectID == "" {
			h.verdicts = map[string]map[viewer]verdict{} // a user's role or membership changed: rare, and soon queried again
			return
		}
		delete(h.verdicts, e.ProjectID)
	case typeMemberNew, typeMemberChange, typeMemberGone:
		delete(h.verdicts, e.ProjectID)
	case typeResource:
		var d struct {
			Resource, ID, Operation string
			ChangedFields           []string
		}
		if json.Unmarshal(e.Data, &d) != nil || d.Resource != kindProject {
			return
		}
		switch {
		case d.ID != e.ProjectID: // many projects at once
			h.verdicts = map[string]map[viewer]verdict{}
		case d.Operation != "updated" || d.ChangedFields == nil || slices.Contains(d.ChangedFields, "privacy") || slices.Contains(d.ChangedFields, "userId"):
			delete(h.verdicts, e.ProjectID)
		}
	}
}

// read fills events that name a row with the row's data. An event whose row is gone loses its data and is not delivered.
func (h *hub) read(ctx context.Context, events []*Event, ids []int64) {
	if len(ids) == 0 {
		return
	}
	rows, err := insist(ctx, h.patience, func(ctx context.Context) (map[int64][]byte, error) { return h.ask.resolve(ctx, ids) })
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		h.log.Warn("rows that events name cannot be read, their readers come back for them", "events", len(ids), "error", err)
	}
	for _, e := range events {
		if !isRead(e.Type) || !slices.Contains(ids, e.ID) {
			continue
		}
		if err != nil {
			h.closeRoom(e.Room)
		}
		e.Data = rows[e.ID]
	}
}

// closeRoom closes all connections in a room that would miss an event.
func (h *hub) closeRoom(room string) {
	h.mu.RLock()
	members := keys(h.rooms[room])
	h.mu.RUnlock()
	for _, m := range members {
		if !m.part {
			m.conn.Close(CloseTryLater, "try again later")
		}
	}
}
