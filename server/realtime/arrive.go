package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kijko/db"
)

// arrivals batches the queries of connections that join rooms. A single connection is answered at once. Connections that come while a query
// runs share the next query. When a thousand clients reconnect at once, the database thus runs only a few queries: each user is authorized,
// but a room's log is read once, from the smallest cursor, and then cut to each connection's cursor.
type arrivals struct {
	store   *store
	timeout time.Duration

	mu      sync.Mutex
	waiting []*arrival
	serving bool
}

// arrival is one connection's query. Its answer is ready when done is closed.
type arrival struct {
	watch watch
	done  chan struct{}
	b     *beginning
	err   error
}

const (
	arriveAtOnce = 500
	// After a query of many connections comes a pause, longer each time up to the last: when many come, more are on their way.
	firstPause, lastPause = 10 * time.Millisecond, 100 * time.Millisecond
	// sharedReplay is how many events of a room are read for all connections. A client that missed more must load the current state again;
	// its permission for each of these events is then not checked.
	sharedReplay = 5 * maxReplay
)

// begin asks what store.begin asks, batched with other connections. Rooms are read without an upper bound: the head in the
// answer is the bound.
func (a *arrivals) begin(ctx context.Context, w watch) (*beginning, error) {
	for _, id := range []string{w.caller.UserID, w.caller.SessionID, cmp.Or(w.caller.OrgHint, uuid.Nil.String())} {
		if uuid.Validate(id) != nil { // an invalid id would fail the query of the other connections too
			return nil, fmt.Errorf("the caller's %q is no id", id)
		}
	}
	one := &arrival{watch: w, done: make(chan struct{})}
	a.mu.Lock()
	a.waiting = append(a.waiting, one)
	if !a.serving {
		a.serving = true
		go a.serve()
	}
	a.mu.Unlock()
	select {
	case <-one.done:
		return one.b, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve runs queries until no connection waits.
func (a *arrivals) serve() {
	pause := firstPause
	for {
		a.mu.Lock()
		n := min(len(a.waiting), arriveAtOnce)
		batch := a.waiting[:n:n]
		a.waiting = a.waiting[n:]
		if n == 0 {
			a.waiting, a.serving = nil, false
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		a.answer(batch)
		if n > 1 && n < arriveAtOnce {
			time.Sleep(pause)
			pause = min(2*pause, lastPause)
		}
	}
}

func (a *arrivals) answer(batch []*arrival) {
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	q := joinBatch{callers: map[claim]int{}, rooms: map[string]int{}, asked: map[question]struct{}{}, limit: sharedReplay}
	for _, one := range batch {
		q.add(one.watch)
	}
	answer, err := a.store.arrive(ctx, &q)
	if err != nil && pgconn.SafeToRetry(err) { // the database connection died with the database
		answer, err = a.store.arrive(ctx, &q)
	}
	for _, one := range batch {
		if one.err = err; err == nil {
			one.b, one.err = answer.cut(&q, one.watch)
		}
		close(one.done)
	}
}

// joinBatch is the combined query of several connections. Callers and rooms are numbered from 1, as Postgres does.
type joinBatch struct {
	callers map[claim]int
	people  []claim
	rooms   map[string]int
	names   []string
	asked   map[question]struct{}
	limit   int

	places, who []int
	cursors     []*int64
	sockets     []string
	owners      []int
	projects    []*string
}

// question is one caller's query about a room, from a cursor on; -1: there is no cursor.
type question struct {
	caller, place int
	cursor        int64
}

func callerOf(w watch) claim {
	return claim{user: w.caller.UserID, session: w.caller.SessionID, org: w.caller.OrgHint}
}

func (q *joinBatch) add(w watch) {
	who := callerOf(w)
	caller := q.callers[who]
	if caller == 0 {
		q.people = append(q.people, who)
		caller = len(q.people)
		q.callers[who] = caller
	}
	if w.socketID != "" {
		q.sockets, q.owners, q.projects = append(q.sockets, w.socketID), append(q.owners, caller), append(q.projects, optional(w.project))
	}
	for _, r := range w.rooms {
		place := q.rooms[r.room]
		if place == 0 {
			q.names = append(q.names, r.room)
			place = len(q.names)
			q.rooms[r.room] = place
		}
		next := question{caller, place, -1}
		if r.cursor != nil {
			next.cursor = *r.cursor
		}
		if _, known := q.asked[next]; !known {
			q.asked[next] = struct{}{}
			q.places, q.who, q.cursors = append(q.places, place), append(q.who, caller), append(q.cursors, r.cursor)
		}
	}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// joinAnswer is the answer of private.arrive, with the numbers of the joinBatch.
type joinAnswer struct {
	Head          int64
	Organizations []*string
	Refused       []*string
	Opened        []string
	Admitted      [][2]int // room and caller
	States        []struct {
		Place   int
		Pending []int64
		Frames  []snapshotPart
	}

	opened   map[string]bool
	admitted map[[2]int]bool
	tails    map[int]*tail
}

// tail is the end of a room's log, back to the smallest requested cursor.
type tail struct {
	removed int64
	events  []*Event // ascending; shared by all connections, never changed
	narrow  bool     // some members of the room may not receive all of them
	full    bool     // there may be older events
}

const sqlArrive = `select answer::text, place, removed_until, id, type, data, audience, project_id::text, actor_user_id::text, user_ids::text[],
	conflation_key, created_at
	from private.arrive($1, $2, $3, $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8, $9::uuid[], $10, $11, $12, $13, $14)`

// arrive runs the query of a joinBatch in one statement. It runs one more for events that some members may not receive, and one more for events
// that name a row.
func (s *store) arrive(ctx context.Context, q *joinBatch) (*joinAnswer, error) {
	users, sessions, orgs, _ := columns(q.people)
	args := []any{s.node, s.perUser, s.perOrg, users, sessions, orgs, notNil(q.sockets), notNil(q.owners),
		notNil(q.projects), q.names, q.places, q.who, q.cursors, q.limit}
	a := &joinAnswer{opened: map[string]bool{}, admitted: map[[2]int]bool{}, tails: map[int]*tail{}}
	var answer, kind, data, audience, project, actor, series *string
	var place *int
	var removed, id *int64
	var readers []string
	var at *time.Time
	into := []any{&answer, &place, &removed, &id, &kind, &data, &audience, &project, &actor, &readers, &series, &at}
	each := func() error {
		if answer != nil {
			return json.Unmarshal([]byte(*answer), a)
		}
		t := a.tails[*place]
		if t == nil {
			t = &tail{removed: *removed}
			a.tails[*place] = t
		}
		if id != nil {
			t.events = append(t.events, &Event{ID: *id, Room: sourceOf(q.names[*place-1]), Type: text(kind), Data: []byte(text(data)),
				Audience: text(audience), ProjectID: text(project), ActorID: text(actor), UserIDs: readers, ConflationKey: text(series),
				CreatedAt: *at, shared: &frames{}})
		}
		return nil
	}
	err := db.Rows(ctx, s.pool, s.limits.ForReads(), sqlArrive, args, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, into, each)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, id := range a.Opened {
		a.opened[id] = true
	}
	for _, pair := range a.Admitted {
		a.admitted[pair] = true
	}
	return a, s.complete(ctx, q, a)
}

// complete reads what delivery of the events depends on: the users' permissions on projects, and the rows that events name.
func (s *store) complete(ctx context.Context, q *joinBatch, a *joinAnswer) error {
	projects := map[int]map[string]bool{} // the projects that matter, by room
	var reads []int64
	for place, t := range a.tails {
		t.full = len(t.events) >= q.limit
		for _, e := range t.events {
			t.narrow = t.narrow || e.Audience != audienceRoom
			if isRead(e.Type) {
				reads = append(reads, e.ID)
			}
			if dependsOnViewer(e) {
				if projects[place] == nil {
					projects[place] = map[string]bool{}
				}
				projects[place][e.ProjectID] = true
			}
		}
	}
	claims := map[claim]struct{}{}
	for pair := range a.admitted {
		for project := range projects[pair[0]] {
			next := q.people[pair[1]-1]
			next.org, next.project = text(a.Organizations[pair[1]-1]), project
			claims[next] = struct{}{}
		}
	}
	verdicts := map[string]map[viewer]verdict{}
	if list := keysOf(claims); len(list) > 0 {
		answers, err := s.viewers(ctx, list)
		if err != nil {
			return err
		}
		for i, c := range list {
			if verdicts[c.project] == nil {
				verdicts[c.project] = map[viewer]verdict{}
			}
			verdicts[c.project][viewer{c.user, c.org}] = answers[i]
		}
	}
	var rows map[int64][]byte
	if len(reads) > 0 {
		var err error
		if rows, err = s.resolve(ctx, reads); err != nil {
			return err
		}
	}
	for _, t := range a.tails {
		t.events = slices.DeleteFunc(t.events, func(e *Event) bool {
			e.verdicts = verdicts[e.ProjectID]
			if isRead(e.Type) {
				e.Data = rows[e.ID]
			}
			return e.Data == nil
		})
	}
	return nil
}

// cut returns the answer for one connection.
func (a *joinAnswer) cut(q *joinBatch, w watch) (*beginning, error) {
	caller := q.callers[callerOf(w)]
	if code := a.Refused[caller-1]; code != nil {
		return nil, refusalOf(*code)
	}
	if w.socketID != "" && !a.opened[w.socketID] {
		return nil, errTooMany
	}
	b := &beginning{orgID: text(a.Organizations[caller-1]), head: a.Head}
	for _, r := range w.rooms {
		place := q.rooms[r.room]
		answer := roomAnswer{room: r.room, admitted: a.admitted[[2]int{place, caller}]}
		if t := a.tails[place]; answer.admitted && r.cursor != nil && t != nil {
			answer.removed = t.removed
			if *r.cursor >= t.removed && *r.cursor <= a.Head {
				answer.missed, answer.tooMany = t.since(*r.cursor, w.caller.UserID, b.orgID)
			}
		}
		b.rooms = append(b.rooms, answer)
		for _, state := range a.States {
			if state.Place == place && answer.admitted && w.snapshot != "" {
				b.pending, b.frames = state.Pending, state.Frames
			}
		}
	}
	return b, nil
}

// since returns the events that a connection missed after a cursor, or reports that there are too many.
func (t *tail) since(cursor int64, user, org string) (missed []*Event, tooMany bool) {
	at, _ := slices.BinarySearchFunc(t.events, cursor+1, func(e *Event, id int64) int { return cmp.Compare(e.ID, id) })
	if at == 0 && t.full {
		return nil, true
	}
	if missed = t.events[at:]; !t.narrow {
		return missed, false
	}
	mine := make([]*Event, 0, len(missed))
	for _, e := range missed {
		if allowed, _ := e.readableBy(user, org); allowed {
			mine = append(mine, e)
		}
	}
	return mine, false
}

// notNil turns a nil list into an empty one, because Postgres would take nil for null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
