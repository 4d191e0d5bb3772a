package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/server/api"
)

// store runs the sockets' queries in Postgres, as the role of the server, through the shared pool.
type store struct {
	pool    *pgxpool.Pool
	node    string
	perUser int
	perOrg  int
	limits  db.Limits
	// asks bounds how many connections run separate queries about their rooms at a time: the pool serves the requests first.
	asks chan struct{}
}

func newStore(pool *pgxpool.Pool, perUser, perOrg int) *store {
	return &store{pool: pool, node: uuid.NewString(), perUser: perUser, perOrg: perOrg, limits: db.LimitsOf(pool),
		asks: make(chan struct{}, max(1, int(pool.Config().MaxConns)/8))}
}

// refusal is why a socket is refused: the close code and its reason.
type refusal struct {
	code   int
	reason string
}

func (r *refusal) Error() string { return r.reason }

var (
	errHidden    = &refusal{CloseNotFound, "Project not found"}
	errNoContext = &refusal{CloseNotFound, "Context not found"}
	errTooMany   = &refusal{CloseLimited, "Too many connections"}
	errRevoked   = &refusal{CloseRevoked, "Session revoked"}
	errExpired   = &refusal{CloseUnauthorized, "Token expired"}
	errNoMember  = &refusal{CloseForbidden, "Forbidden"}
)

// isRefusal reports whether a close code means that the credential, or the target that it was for, was refused.
func isRefusal(code int) bool {
	return code == CloseUnauthorized || code == CloseForbidden || code == CloseNotFound || code == CloseRevoked
}

// refusalOf translates the refusal code of the database.
func refusalOf(code string) *refusal {
	switch code {
	case "SESSION_REVOKED":
		return errRevoked
	case "SESSION_EXPIRED":
		return errExpired
	case "hidden":
		return errHidden
	}
	if held := rules[code]; held != nil {
		return held
	}
	return errNoMember
}

// rules are refusals by a rule of an organization. A client that knows the code can send its user to the page that resolves it.
var rules = map[string]*refusal{
	"IP_NOT_ALLOWED":            {CloseForbidden, "IP_NOT_ALLOWED"},
	"TWO_FACTOR_SETUP_REQUIRED": {CloseForbidden, "TWO_FACTOR_SETUP_REQUIRED"},
	"PASSWORD_EXPIRED":          {CloseForbidden, "PASSWORD_EXPIRED"},
}

// ask is a room to join, and the cursor from which its events were missed.
type ask struct {
	room   string
	cursor *int64 // nil: nothing is replayed
	until  int64  // no further than this
}

// watch is the query about a connection's rooms.
type watch struct {
	socketID  string // counted as a new socket on arrival; "" for one that is open, or none
	project   string // the project under which the socket is counted
	caller    *api.Caller
	rooms     []ask
	snapshot  string // project whose run is reported; "": none
	limit     int    // events per room
	requestID string
	ip        string
}

// beginning is the answer to a watch.
type beginning struct {
	orgID   string
	head    int64
	pending []int64 // positions of events that the snapshot contains and that have no number yet
	frames  []snapshotPart
	rooms   []roomAnswer // in the order of the query
	later   int64        // head when the last room was read, if that was later; else 0
}

type roomAnswer struct {
	room     string
	admitted bool
	tooMany  bool  // there were more events than were read
	removed  int64 // highest id that retention removed from the room
	missed   []*Event
}

type snapshotPart struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
	// RunID and Later belong to a completion: its run, and the state for a user who received the completion before.
	RunID string        `json:"runId"`
	Later *snapshotPart `json:"later"`
}

const (
	sqlEnter = `select private.enter_socket($1, $2, $3, $4, $5, $6)`
	sqlRole  = `select set_config('role', 'authenticated', true)`
	sqlWatch = `select organization_id::text, head, room, is_admitted, removed_until, pending, frames::text, id, type, data, audience,
		actor_user_id::text, conflation_key, created_at
		from private.watch_rooms($1::text[], $2::bigint[], $3::bigint[], $4, $5)`
)

// begin reads everything about the rooms of a connection in one round trip, as the caller. A refusal is returned as a *refusal. Connections
// that join rooms are batched instead (arrivals).
func (s *store) begin(ctx context.Context, w watch) (*beginning, error) {
	names, cursors, untils := make([]string, len(w.rooms)), make([]*int64, len(w.rooms)), make([]int64, len(w.rooms))
	for i, r := range w.rooms {
		names[i], cursors[i], untils[i] = r.room, r.cursor, r.until
	}
	select {
	case s.asks <- struct{}{}:
		defer func() { <-s.asks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	batch := db.Limited(s.limits.ForReads())
	batch.Queue(sqlEnter, w.caller.UserID, w.caller.SessionID, nullable(w.caller.OrgHint), w.caller.Claims, w.requestID, w.ip)
	batch.Queue(sqlRole)
	batch.Queue(sqlWatch, names, cursors, untils, w.limit, nullable(w.snapshot))
	results := s.pool.SendBatch(ctx, batch)
	b, err := readBeginning(results)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, asRefusal(err)
	}
	return b, nil
}

func readBeginning(results pgx.BatchResults) (*beginning, error) {
	for range 3 { // the results of setting limits, entering, and taking the role
		if _, err := results.Exec(); err != nil {
			return nil, err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	b := &beginning{}
	for rows.Next() {
		if err := b.read(rows); err != nil {
			return nil, err
		}
	}
	return b, rows.Err()
}

// read takes one row: a room, with or without an event.
func (b *beginning) read(rows pgx.Rows) error {
	var org, room, frames, kind, data, audience, actor, series *string
	var admitted bool
	var removed, id *int64
	var at *time.Time
	if err := rows.Scan(&org, &b.head, &room, &admitted, &removed, &b.pending, &frames, &id, &kind, &data, &audience, &actor, &series, &at); err != nil {
		return err
	}
	if len(b.rooms) == 0 {
		b.orgID = text(org)
		if frames != nil {
			if err := json.Unmarshal([]byte(*frames), &b.frames); err != nil {
				return fmt.Errorf("reading the snapshot: %w", err)
			}
		}
	}
	if n := len(b.rooms); n == 0 || b.rooms[n-1].room != text(room) {
		answer := roomAnswer{room: text(room), admitted: admitted}
		if removed != nil {
			answer.removed = *removed
		}
		b.rooms = append(b.rooms, answer)
	}
	if id != nil {
		r := &b.rooms[len(b.rooms)-1]
		r.missed = append(r.missed, &Event{ID: *id, Room: sourceOf(r.room), Type: text(kind), Data: []byte(text(data)), Audience: text(audience),
			ActorID: text(actor), ConflationKey: text(series), CreatedAt: *at})
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// claim is one right, as recheck queries it.
type claim struct {
	user, session, org, project string
}

// columns splits claims into columns for unnesting.
func columns(claims []claim) (users, sessions []string, orgs, projects []*string) {
	users, sessions = make([]string, len(claims)), make([]string, len(claims))
	orgs, projects = make([]*string, len(claims)), make([]*string, len(claims))
	for i, c := range claims {
		users[i], sessions[i] = c.user, c.session
		if c.org != "" {
			orgs[i] = &claims[i].org
		}
		if c.project != "" {
			projects[i] = &claims[i].project
		}
	}
	return users, sessions, orgs, projects
}

// recheck checks for each claim whether it still holds. The result at each position is nil or a *refusal.
func (s *store) recheck(ctx context.Context, claims []claim) ([]*refusal, error) {
	answers, err := s.each(ctx, "recheck_sockets", claims)
	if err != nil {
		return nil, fmt.Errorf("asking whether sockets may stay: %w", err)
	}
	out := make([]*refusal, len(claims))
	for i := range out {
		if answers[i] != "ok" {
			out[i] = refusalOf(answers[i])
		}
	}
	return out, nil
}

// viewers queries for each claim what it sees of its project.
func (s *store) viewers(ctx context.Context, claims []claim) ([]verdict, error) {
	answers, err := s.each(ctx, "authorize_viewers", claims)
	if err != nil {
		return nil, fmt.Errorf("asking what people see: %w", err)
	}
	out := make([]verdict, len(claims))
	for i := range out {
		switch answers[i] {
		case "all":
			out[i] = readsActivity
		case "some":
			out[i] = seesProject
		}
	}
	return out, nil
}

func (s *store) each(ctx context.Context, function string, claims []claim) ([]string, error) {
	users, sessions, orgs, projects := columns(claims)
	var answers []string
	err := db.Rows(ctx, s.pool, s.limits.ForReads(), `select private.`+function+`($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])`,
		[]any{users, sessions, orgs, projects}, func(rows pgx.Rows) (err error) {
			answers, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]string])
			return err
		})
	if err == nil && len(answers) != len(claims) {
		err = fmt.Errorf("%d answers to %d questions", len(answers), len(claims))
	}
	return answers, err
}

// resolve reads the data of events that name a row. An id without a result means that the row is gone.
func (s *store) resolve(ctx context.Context, ids []int64) (map[int64][]byte, error) {
	out := make(map[int64][]byte, len(ids))
	var id int64
	var data string
	err := db.Rows(ctx, s.pool, s.limits.ForReads(), `select id, data from private.resolve_events($1)`, []any{ids}, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&id, &data}, func() error {
			out[id] = []byte(data)
			return nil
		})
		return err
	})
	return out, err
}

// forget deletes the database entries of closed sockets.
func (s *store) forget(ctx context.Context, ids []string) error {
	return db.Exec(ctx, s.pool, `select private.close_sockets($1::uuid[])`, ids)
}

type held struct{ id, user, org, project string }

// beat reports to the database that this node is alive, which sockets it holds, and which users are in which context.
func (s *store) beat(ctx context.Context, sockets []held, people []pair, watchers map[string]int) error {
	n := len(sockets)
	ids, users, orgs, projects := make([]string, n), make([]string, n), make([]*string, n), make([]*string, n)
	for i, h := range sockets {
		ids[i], users[i] = h.id, h.user
		if h.org != "" {
			orgs[i] = &sockets[i].org
		}
		if h.project != "" {
			projects[i] = &sockets[i].project
		}
	}
	batch := db.Limited(s.limits)
	batch.Queue(`select private.beat_node($1, $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[])`, s.node, ids, users, orgs, projects)
	contexts, persons := split(people)
	watched, counts := counted(watchers)
	batch.Queue(`select private.keep_presence($1, $2::uuid[], $3::uuid[], $4::uuid[], $5)`, s.node, contexts, persons, watched, counts)
	return s.pool.SendBatch(ctx, batch).Close()
}

func split(people []pair) (contexts, users []string) {
	contexts, users = make([]string, len(people)), make([]string, len(people))
	for i, p := range people {
		contexts[i], users[i] = p.context, p.user
	}
	return contexts, users
}

func counted(watchers map[string]int) (projects []string, counts []int32) {
	projects, counts = make([]string, 0, len(watchers)), make([]int32, 0, len(watchers))
	for project, n := range watchers {
		projects, counts = append(projects, project), append(counts, int32(min(n, 1<<30)))
	}
	return projects, counts
}

// report reports the changes since the last report. It returns when presence is to be settled next, in seconds; nil: there is no need.
func (s *store) report(ctx context.Context, people []pair, present []bool, watchers map[string]int) (*float64, error) {
	contexts, users := split(people)
	projects, counts := counted(watchers)
	batch := db.Limited(s.limits)
	batch.Queue(`select private.note_watchers($1, $2::uuid[], $3)`, s.node, projects, counts)
	batch.Queue(`select private.note_presence($1, $2::uuid[], $3::uuid[], $4)`, s.node, contexts, users, present)
	results := s.pool.SendBatch(ctx, batch)
	var next *float64
	_, err := results.Exec() // the result of setting limits
	if err == nil {
		_, err = results.Exec()
	}
	if err == nil {
		err = results.QueryRow().Scan(&next)
	}
	return next, errors.Join(err, results.Close())
}

// settle publishes presence to the rooms where it is due.
func (s *store) settle(ctx context.Context) (*float64, error) {
	var next *float64
	err := db.Row(ctx, s.pool, `select private.settle_presence()`, nil, &next)
	return next, err
}

// tellCompletion reports whether the completion still has to be sent to the user. It is sent once, by any process.
func (s *store) tellCompletion(ctx context.Context, user, project, run string) (first bool, err error) {
	err = s.pool.QueryRow(ctx, `select private.notify_completion($1, $2, $3)`, user, project, run).Scan(&first)
	return first, err
}

// refuse writes refused attempts to the access log.
func (s *store) refuse(ctx context.Context, entries []refused) error {
	raw, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	return db.Exec(ctx, s.pool, `select private.log_refusals($1)`, raw)
}

func (s *store) leave(ctx context.Context) error {
	return db.Exec(ctx, s.pool, `select private.leave_node($1)`, s.node)
}

// asRefusal recognizes the database's refusals.
func asRefusal(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 || pg.Code[:3] != "PT4" {
		return err
	}
	var detail struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal([]byte(pg.Detail), &detail)
	return refusalOf(detail.Code)
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}
