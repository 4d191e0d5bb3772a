package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"kijko/server/api"
	"kijko/worker/exactjson"
)

// page is the answer of GET /realtime/events.
type page struct {
	Events      []json.RawMessage `json:"events"`
	LastEventID string            `json:"lastEventId"`
	HasMore     bool              `json:"hasMore"`
	Resync      []string          `json:"resync"`
}

// pageRequest holds the parameters, which the OpenAPI document has validated.
type pageRequest struct {
	Room  []string `json:"room"`
	After *string  `json:"after"`
	Limit int      `json:"limit"`
	Wait  int      `json:"wait"`
}

const (
	defaultPage = 100
	// A room with many events that the caller may not see is read at most once per minRelook. A lost wake-up costs at most maxRelook.
	minRelook = 100 * time.Millisecond
	maxRelook = 3 * time.Second
)

// listEvents answers GET /realtime/events: catch-up without a socket (contract 30, 6.5). It checks the credential itself, because it
// accepts connection tokens too.
func (s *Server) listEvents(call *api.Call) error {
	ctx := call.Context()
	cred, err := s.bearer(ctx, call)
	if err != nil {
		return err
	}
	call.Caller = cred.caller
	q := pageRequest{Limit: defaultPage}
	if err := exactjson.Unmarshal(call.Params, &q); err != nil {
		return fmt.Errorf("reading the parameters: %w", err)
	}
	rooms, err := s.pageRooms(ctx, call, cred, q.Room)
	if err != nil {
		return err
	}
	w := watch{caller: cred.caller, limit: q.Limit + 1, requestID: call.RequestID, ip: call.ClientIP}
	var after int64
	for _, room := range rooms {
		next := ask{room: room, until: math.MaxInt64}
		if q.After != nil {
			after, _ = parseCursor(*q.After)
			next.cursor = &after
		}
		w.rooms = append(w.rooms, next)
	}
	if q.After == nil || q.Wait == 0 {
		p, err := s.page(ctx, w, &after, q.Limit)
		if err != nil {
			return err
		}
		return call.JSON(p)
	}
	if !s.polls.enter(cred.caller.UserID) {
		return api.NewProblem(http.StatusTooManyRequests, "RATE_LIMITED", "Too many requests are waiting for events.", "")
	}
	defer s.polls.leave(cred.caller.UserID)
	p, err := s.await(ctx, w, &after, q)
	if err != nil {
		return err
	}
	return call.JSON(p)
}

// bearer checks the credential of a request.
func (s *Server) bearer(ctx context.Context, call *api.Call) (credential, error) {
	if call.Caller != nil { // an API key, which the edge has checked
		return credential{caller: call.Caller}, nil
	}
	scheme, token, _ := strings.Cut(string(call.Ctx.Request().Header.Peek(fiber.HeaderAuthorization)), " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return credential{}, api.NewProblem(http.StatusUnauthorized, "UNAUTHENTICATED", "Please sign in.", "")
	}
	cred, err := s.verify(ctx, strings.TrimSpace(token))
	if err != nil {
		return credential{}, asProblem(err)
	}
	return cred, nil
}

// asProblem translates a socket's close code into an HTTP problem.
func asProblem(err error) error {
	var refused *refusal
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.code {
	case CloseRevoked:
		return api.NewProblem(http.StatusUnauthorized, "SESSION_REVOKED", "This session has ended. Please sign in again.", "")
	case CloseForbidden:
		if rules[refused.reason] != nil {
			return api.NewProblem(http.StatusForbidden, refused.reason, "A rule of your organization does not let this session in.", "")
		}
		return api.NewProblem(http.StatusForbidden, "FORBIDDEN", "This credential is not for this.", "")
	}
	return api.NewProblem(http.StatusUnauthorized, "UNAUTHENTICATED", "Please sign in.", "")
}

// pageRooms returns the requested rooms, or the caller's own.
func (s *Server) pageRooms(ctx context.Context, call *api.Call, cred credential, given []string) ([]string, error) {
	var rooms []string
	for _, name := range given {
		room, ok := parseRoom(name)
		if !ok {
			return nil, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "A room is called kind:id.", "room")
		}
		if cred.project != "" && (projectOf(room) != cred.project || kindOf(room) == kindContext) {
			return nil, errRoomForbidden()
		}
		if !slices.Contains(rooms, room) {
			rooms = append(rooms, room)
		}
	}
	switch {
	case len(rooms) > 0:
		return rooms, nil
	case cred.project != "":
		return []string{kindProject + ":" + cred.project}, nil
	}
	own := kindUser + ":" + cred.caller.UserID
	org := cred.caller.OrgHint
	if org == "" {
		b, err := s.ask(ctx, watch{caller: cred.caller, rooms: []ask{{room: own}}, limit: 1, requestID: call.RequestID, ip: call.ClientIP})
		if err != nil {
			return nil, err
		}
		org = b.orgID
	}
	if org == "" {
		return []string{own}, nil
	}
	return []string{own, kindOrg + ":" + org}, nil
}

func errRoomForbidden() error {
	return api.NewProblem(http.StatusForbidden, "ROOM_FORBIDDEN", "You cannot be in that room.", "room")
}

func (s *Server) ask(ctx context.Context, w watch) (*beginning, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.OpenTimeout)
	defer cancel()
	b, err := s.store.begin(ctx, w)
	return b, asProblem(api.FromDatabase(err))
}

// page reads once. When it finds no events, it moves after to the watermark.
func (s *Server) page(ctx context.Context, w watch, after *int64, limit int) (*page, error) {
	b, err := s.ask(ctx, w)
	if err != nil {
		return nil, err
	}
	p := &page{Events: []json.RawMessage{}, Resync: []string{}, LastEventID: formatID(b.head)}
	var events []*Event
	part := map[int64]bool{}
	for _, answer := range b.rooms {
		if !answer.admitted {
			return nil, errRoomForbidden()
		}
		if w.rooms[0].cursor != nil && (*after < answer.removed || *after > b.head) {
			p.Resync = append(p.Resync, answer.room)
			continue
		}
		for _, e := range answer.missed {
			isPart, seen := part[e.ID]
			part[e.ID] = kindOf(answer.room) == kindIngestion && (!seen || isPart)
			if !seen {
				events = append(events, e)
			}
		}
	}
	slices.SortFunc(events, func(a, b *Event) int { return cmp.Compare(a.ID, b.ID) })
	if len(events) > limit {
		events, p.HasMore = events[:limit], true
		p.LastEventID = formatID(events[limit-1].ID)
	}
	if events, err = s.readRows(ctx, events); err != nil {
		return nil, api.FromDatabase(err)
	}
	for _, e := range events {
		p.Events = append(p.Events, General.payload(e.frame(part[e.ID])))
	}
	if len(p.Events) == 0 && len(p.Resync) == 0 && !p.HasMore && w.rooms[0].cursor != nil {
		*after = b.head
	}
	return p, nil
}

// await reads again after each event in one of the rooms, until there is something to return or the time is over.
func (s *Server) await(ctx context.Context, w watch, after *int64, q pageRequest) (*page, error) {
	woken := make(chan struct{}, 1)
	for _, r := range w.rooms {
		defer s.Watch(sourceOf(r.room), func(e Event) {
			if e.ID != 0 {
				select {
				case woken <- struct{}{}:
				default:
				}
			}
		})()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(q.Wait)*time.Second+s.opt.OpenTimeout)
	defer cancel()
	end := time.NewTimer(time.Duration(q.Wait) * time.Second)
	defer end.Stop()
	for {
		p, err := s.page(ctx, w, after, q.Limit)
		if err != nil || len(p.Events) > 0 || len(p.Resync) > 0 || p.HasMore {
			return p, err
		}
		select {
		case <-end.C:
			return p, nil
		case <-s.drained:
			return p, nil
		case <-time.After(maxRelook):
		case <-woken:
			if pause(ctx, minRelook) != nil {
				return p, nil
			}
		}
	}
}

// polls counts the waiting requests per user.
type polls struct {
	mu      sync.Mutex
	waiting map[string]int
}

const maxPolls = 10

func (p *polls) enter(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = map[string]int{}
	}
	if p.waiting[user] >= maxPolls {
		return false
	}
	p.waiting[user]++
	return true
}

func (p *polls) leave(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[user]--; p.waiting[user] == 0 {
		delete(p.waiting, user)
	}
}
