package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/server/api"
)

// store puts the questions of sockets to Postgres, as the role of the server, through the shared pool.
type store struct {
	pool    *pgxpool.Pool
	node    string
	perUser int
	perOrg  int
}

// refusal is why a socket may not be: the close code and its reason.
type refusal struct {
	code   int
	reason string
}

func (r *refusal) Error() string { return r.reason }

var (
	errHidden   = &refusal{closeNotFound, "Project not found"}
	errTooMany  = &refusal{closeLimited, "Too many connections"}
	errRevoked  = &refusal{closeRevoked, "Session revoked"}
	errExpired  = &refusal{closeUnauthorized, "Token expired"}
	errNoMember = &refusal{closeForbidden, "Forbidden"}
)

// refusalOf translates what private.enter says.
func refusalOf(code string) *refusal {
	switch code {
	case "SESSION_REVOKED":
		return errRevoked
	case "SESSION_EXPIRED":
		return errExpired
	case "hidden":
		return errHidden
	}
	return errNoMember
}

// beginning is what a socket is told first.
type beginning struct {
	orgID   string
	head    int64
	pending []int64 // places of events that the snapshot contains and that have no number yet
	removed int64   // highest id that retention removed from the room
	frames  []snapshotPart
	missed  []missed
}

type snapshotPart struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

type missed struct {
	id   int64
	kind string
	data []byte
	at   time.Time
}

const (
	sqlEnter = `select private.enter($1, $2, $3, $4, $5, $6)`
	sqlOpen  = `select private.open_socket($1, $2, $3, $4, $5)`
	sqlRole  = `select set_config('role', 'authenticated', true)`
	sqlBegin = `select organization_id::text, head, pending, removed_until, frames::text, id, type, data, created_at
		from private.begin_watching($1, $2, $3, $4)`
)

type watch struct {
	socketID  string // counted as a new socket; "" for one that is open
	caller    *api.Caller
	projectID string
	cursor    *int64 // nil: nothing is replayed
	until     int64  // replay no further than this
	requestID string
	ip        string
}

// begin asks everything about a socket's beginning in one round trip, as the caller. A refusal is a *refusal.
func (s *store) begin(ctx context.Context, w watch) (*beginning, error) {
	batch := &pgx.Batch{}
	batch.Queue(sqlEnter, w.caller.UserID, w.caller.SessionID, nullable(w.caller.OrgHint), w.caller.Claims, w.requestID, w.ip)
	if w.socketID != "" {
		batch.Queue(sqlOpen, s.node, w.socketID, w.projectID, s.perUser, s.perOrg)
	}
	batch.Queue(sqlRole)
	batch.Queue(sqlBegin, w.projectID, w.cursor, w.until, maxReplay+1)
	results := s.pool.SendBatch(ctx, batch)
	b, err := readBeginning(results, w.socketID != "")
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, asRefusal(err)
	}
	return b, nil
}

func readBeginning(results pgx.BatchResults, counted bool) (*beginning, error) {
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	allowed := true
	if counted {
		if err := results.QueryRow().Scan(&allowed); err != nil {
			return nil, err
		}
	}
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var b *beginning
	for rows.Next() {
		var next beginning
		var org, frames, kind, data *string
		var id *int64
		var at *time.Time
		if err := rows.Scan(&org, &next.head, &next.pending, &next.removed, &frames, &id, &kind, &data, &at); err != nil {
			return nil, err
		}
		if b == nil {
			b = &next
			if org != nil {
				b.orgID = *org
			}
			if frames != nil {
				if err := json.Unmarshal([]byte(*frames), &b.frames); err != nil {
					return nil, fmt.Errorf("reading the snapshot: %w", err)
				}
			}
		}
		if id != nil {
			b.missed = append(b.missed, missed{id: *id, kind: *kind, data: []byte(*data), at: *at})
		}
	}
	switch {
	case rows.Err() != nil:
		return nil, rows.Err()
	case !allowed:
		return nil, errTooMany
	case b == nil:
		return nil, errHidden
	}
	return b, nil
}

// claim is one socket's right, as recheck asks for it.
type claim struct {
	user, session, org, project string
}

// recheck asks for each claim whether it still holds: nil or a *refusal at each place.
func (s *store) recheck(ctx context.Context, claims []claim) ([]*refusal, error) {
	users, sessions, orgs, projects := make([]string, len(claims)), make([]string, len(claims)), make([]*string, len(claims)), make([]*string, len(claims))
	for i, c := range claims {
		users[i], sessions[i] = c.user, c.session
		if c.org != "" {
			orgs[i] = &claims[i].org
		}
		if c.project != "" {
			projects[i] = &claims[i].project
		}
	}
	var answers []string
	err := s.pool.QueryRow(ctx, `select private.recheck_sockets($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])`,
		users, sessions, orgs, projects).Scan(&answers)
	if err != nil {
		return nil, fmt.Errorf("asking whether sockets may stay: %w", err)
	}
	out := make([]*refusal, len(claims))
	for i := range out {
		if i >= len(answers) {
			return nil, errors.New("asking whether sockets may stay: too few answers")
		}
		if answers[i] != "ok" {
			out[i] = refusalOf(answers[i])
		}
	}
	return out, nil
}

// forget frees the places of closed sockets.
func (s *store) forget(ctx context.Context, ids []string) error {
	_, err := s.pool.Exec(ctx, `select private.close_sockets($1::uuid[])`, ids)
	return err
}

type held struct{ id, user, org, project string }

// beat tells the database that this node lives and which sockets it holds.
func (s *store) beat(ctx context.Context, sockets []held) error {
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
	_, err := s.pool.Exec(ctx, `select private.beat_node($1, $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[])`, s.node, ids, users, orgs, projects)
	return err
}

func (s *store) leave(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `select private.leave_node($1)`, s.node)
	return err
}

// asRefusal recognises the refusals of private.enter.
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
