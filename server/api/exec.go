package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/server/openapi"
)

// Caller is the caller that the credential names. private.enter checks what the caller may do.
type Caller struct {
	UserID    string
	SessionID string
	// OrgHint selects the organization; empty means the session's or the user's default one.
	OrgHint string
	// Claims are handed to Postgres as request.jwt.claims.
	Claims    string
	ExpiresAt time.Time
	// Key is set when the credential is an API key; SessionID is then the key's id.
	Key *Key
}

// Key is the part of an API key that never changes. private.enter_key checks whether the key is still valid.
type Key struct {
	ID    string
	Hash  []byte // SHA-256 of the whole key
	Scope string
}

// Service marks calls of the service itself: they run as service_role.
var Service = &Caller{}

// Answer is the answer of an operation.
type Answer struct {
	// Status is 0 unless the SQL function chose one.
	Status  int
	Headers map[string]string
	// Body is JSON, or nil when the function answered null.
	Body []byte
}

// Waker is notified after commit that a transaction left events or jobs.
type Waker interface {
	Wake(events, jobs bool)
}

// Executor runs SQL functions as a caller, in one round trip each.
type Executor struct {
	pool   *pgxpool.Pool
	waker  Waker
	warned func(r *Request)
	places *places
	enters [2]entering
	// whole limits a call on this side as well: a database that stops answering enforces no limit, and handlers call without a deadline.
	whole time.Duration
	// named is false behind a pooler that does not support prepared statements.
	named bool
	// standbys answer reads; nil: there are none.
	standbys *Standbys
}

// UseStandbys sends reads to standbys. It is called before the first call.
func (x *Executor) UseStandbys(s *Standbys) { x.standbys = s }

// acquire bounds the wait for a slot and a connection, so that a missing database causes a quick 503 and not a queue. For a read, this wait
// and the wait for a lock together stay below three seconds.
var acquire = [2]time.Duration{kindRead: 2 * time.Second, kindWrite: 3 * time.Second}

// entering are the statements before a call, which also set its limits. Each of these texts is prepared once per connection.
type entering struct{ user, free, key, anonymous string }

func newEntering(limits db.Limits, readOnly string) entering {
	// The limits come first, because entering itself may wait for a locked table.
	before := "select " + limits.SQL() + ", set_config('transaction_read_only', '" + readOnly + "', true), "
	// The device comes before as well: entering or the call writes it when it records a sign-in.
	const user = "set_config('app.device', $7, true), private.enter($1, $2, $3, $4, $5, $6), set_config('role', 'authenticated', true)"
	return entering{user: before + user, free: before + "set_config('app.unrestricted', 'on', true), " + user,
		key:       before + "set_config('app.device', $5, true), private.enter_key($1, $2, $3, $4), set_config('role', 'authenticated', true)",
		anonymous: before + "set_config('app.device', $4, true), private.enter_anonymous($1, $2), set_config('role', $3, true)"}
}

// NewExecutor makes an Executor. waker may be nil.
func NewExecutor(pool *pgxpool.Pool, waker Waker) *Executor {
	config, limits := pool.Config(), db.LimitsOf(pool)
	return &Executor{pool: pool, waker: waker, places: newPlaces(int(config.MaxConns), db.Readers(pool)),
		enters: [2]entering{kindRead: newEntering(limits.ForReads(), "on"), kindWrite: newEntering(limits, "off")},
		whole:  limits.Whole(),
		named:  config.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement}
}

// OnWarning registers f. It is called after commit with a request from an address that the allow-list of the caller's organization warns of.
// f must not block.
func (x *Executor) OnWarning(f func(r *Request)) { x.warned = f }

const (
	// outcome is read by the statement of the call itself: the settings that the function left for the edge.
	outcome = `current_setting('response.status', true), current_setting('response.headers', true),
		current_setting('app.emitted', true), current_setting('app.enqueued', true), current_setting('app.warned', true)`
)

// CallSQL returns the statement that calls an operation's function. Each function has its own text, and thus its own prepared statement and
// plan.
func CallSQL(function string) string { return "select api." + function + "($1), " + outcome }

// KeyedSQL returns the same statement under an Idempotency-Key.
func KeyedSQL(function string) string {
	return "select private.call_idempotent('" + function + "', $1, $2, $3), " + outcome
}

// ServerSQL calls a function of schema private that only the server may call (identity). It runs in the server's role.
func ServerSQL(function string) string { return "select private." + function + "($1), " + outcome }

// Runner makes calls; *Executor is one.
type Runner interface {
	Run(ctx context.Context, r *Request) (Answer, error)
}

// Serve calls a function of schema private that only the server may call, with p as its only argument. r has the other data: request id,
// address, payer, whether it only reads.
func Serve(ctx context.Context, runner Runner, r Request, function string, p any) (Answer, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", function, err)
	}
	r.AsServer, r.SQL, r.Args = true, ServerSQL(function), []any{raw}
	return runner.Run(ctx, &r)
}

// ProcedureSQL calls a function of schema private that callers may run themselves. call includes the arguments.
func ProcedureSQL(call string) string { return "select private." + call + ", " + outcome }

// Request is one call.
type Request struct {
	Caller    *Caller // nil: anonymous
	SQL       string
	Args      []any
	ReadOnly  bool
	RequestID string
	ClientIP  string
	// Needs is the scope that an API key needs for the call. A caller without a key has all scopes.
	Needs string
	// Device is the client's description of itself, as JSON; see Call.Device.
	Device string
	// AsServer keeps the server's role instead of anon; used with ServerSQL.
	AsServer bool
	// Unrestricted accepts a session that does not meet its organization's demands (openapi.Operation).
	Unrestricted bool
	// Within is the longest time of the statement, if it may take longer than the limit of the pool.
	Within time.Duration
	// Payer is charged for the call's use of connections, instead of the caller (or, without a caller, the address).
	Payer *Caller
}

func (r *Request) kind() int {
	if r.ReadOnly {
		return kindRead
	}
	return kindWrite
}

// payers returns the accounts that the call is charged to.
func (r *Request) payers() (person, organization accountKey) {
	payer := r.Caller
	if r.Payer != nil {
		payer = r.Payer
	}
	switch {
	case payer != nil && payer != Service:
		return accountKey{'u', payer.UserID}, accountKey{'o', payer.OrgHint}
	case payer == nil && r.ClientIP != "":
		return accountKey{'a', addressKey(r.ClientIP)}, accountKey{}
	}
	return accountKey{kind: 's'}, accountKey{}
}

// needs returns the default scope of a call that names none: reading or writing.
func (r *Request) needs() string {
	switch {
	case r.Needs != "":
		return r.Needs
	case r.ReadOnly:
		return openapi.ScopeRead
	}
	return openapi.ScopeWrite
}

// Waiting returns how many calls wait for a slot now.
func (x *Executor) Waiting() int {
	x.places.mu.Lock()
	defer x.places.mu.Unlock()
	return x.places.waiting
}

// timing holds the durations of a call, for Server-Timing.
type timing struct{ pool, db time.Duration }

// Run executes the call. A lost race (for a unique key, or with a delete of the row that the work belongs to) is retried once: on the
// second attempt the function's own check refuses it properly. A read whose connection had died is also retried once. A call that failed
// with a serialization failure or a deadlock has met no business rule yet, and is retried a few times.
func (x *Executor) Run(ctx context.Context, r *Request) (Answer, error) {
	a, _, err := x.run(ctx, r)
	return a, err
}

func (x *Executor) run(ctx context.Context, r *Request) (Answer, timing, error) {
	if x.standbys != nil && r.ReadOnly && r.Within == 0 {
		if a, t, ok := x.standbys.run(ctx, r); ok {
			return a, t, nil
		}
	}
	a, t, err := x.once(ctx, r)
	if err != nil && isLost(err) {
		// The cause that ended this connection has mostly ended the idle ones too. The second attempt must not take one of those.
		x.pool.Reset()
	}
	for left := attempts(err, r.ReadOnly); left > 0 && attempts(err, r.ReadOnly) > 0; left-- {
		a, t, err = x.once(ctx, r)
	}
	return a, t, FromDatabase(err)
}

// attempts returns how often a call that failed with err is retried.
func attempts(err error, readOnly bool) int {
	if err == nil {
		return 0
	}
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01"):
		return 5
	// 23503: the parent row was deleted meanwhile; the second attempt finds it missing.
	case pg != nil && (pg.Code == "23505" || pg.Code == "23503"),
		readOnly && isLost(err), pg == nil && pgconn.SafeToRetry(err):
		return 1
	}
	return 0
}

// isLost reports whether the connection was lost during the call: Postgres ended it, or the network did.
func isLost(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "57P01" || pg.Code == "57P02"
	}
	return isClosed(err) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (x *Executor) once(ctx context.Context, r *Request) (Answer, timing, error) {
	return x.onceAt(ctx, r, nil)
}

// onceAt makes the call once. At a standby it also gives the position that the answer includes.
func (x *Executor) onceAt(ctx context.Context, r *Request, at **int64) (Answer, timing, error) {
	var t timing
	began := time.Now()
	acquireCtx, cancel := context.WithTimeout(ctx, acquire[r.kind()])
	defer cancel()
	person, organization := r.payers()
	place, err := x.places.take(acquireCtx, person, organization, r.SQL, r.kind())
	if err != nil {
		return Answer{}, t, err
	}
	ran := false
	defer func() { x.places.leave(place, ran) }()
	conn, err := x.pool.Acquire(acquireCtx)
	t.pool = time.Since(began)
	if err != nil {
		return Answer{}, t, fmt.Errorf("acquiring a connection: %w", err)
	}
	defer conn.Release()

	ctx, hangUp := context.WithTimeout(ctx, x.whole+r.Within)
	defer hangUp()
	began = time.Now()
	enter, args := x.enter(r)
	if x.named {
		if err := prepare(ctx, conn.Conn(), enter, r.SQL); err != nil {
			return Answer{}, t, err
		}
	}
	ran = true
	batch := &pgx.Batch{}
	batch.Queue(enter, args...)
	batch.Queue(r.SQL, r.Args...)
	results := conn.SendBatch(ctx, batch)
	answer, woken, err := read(results, at)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	t.db = time.Since(began)
	if err != nil {
		return Answer{}, t, err
	}
	if woken.warned && r.Caller != nil && x.warned != nil {
		x.warned(r)
	}
	if x.waker != nil && (woken.events || woken.jobs) {
		x.waker.Wake(woken.events, woken.jobs)
	}
	return answer, t, nil
}

// enter returns the statement before the call: it sets limits, caller and permissions.
func (x *Executor) enter(r *Request) (string, []any) {
	e := &x.enters[r.kind()]
	if r.Within > 0 {
		limits := db.LimitsOf(x.pool)
		limits.Statement = r.Within
		long := newEntering(limits, "off")
		e = &long
	}
	switch {
	case r.Caller == Service:
		return e.anonymous, []any{r.RequestID, r.ClientIP, "service_role", r.Device}
	case r.Caller != nil && r.Caller.Key != nil:
		return e.key, []any{r.Caller.Key.Hash, r.needs(), r.RequestID, r.ClientIP, r.Device}
	case r.Caller != nil && r.Unrestricted:
		return e.free, []any{r.Caller.UserID, r.Caller.SessionID, nullable(r.Caller.OrgHint), r.Caller.Claims, r.RequestID, r.ClientIP, r.Device}
	case r.Caller != nil:
		return e.user, []any{r.Caller.UserID, r.Caller.SessionID, nullable(r.Caller.OrgHint), r.Caller.Claims, r.RequestID, r.ClientIP, r.Device}
	case r.AsServer:
		return e.anonymous, []any{r.RequestID, r.ClientIP, "none", r.Device}
	}
	return e.anonymous, []any{r.RequestID, r.ClientIP, "anon", r.Device}
}

// prepare prepares the statements of a call on the connection, once. pgx's own cache drops a statement after any error of it, and a refusal
// is an error: each refusal would cost the next caller two round trips.
func prepare(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Prepare(ctx, sql, sql); err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
	}
	return nil
}

// woken is what a call left behind: events, jobs, and a caller at an address that the organization's allow-list warns of.
type woken struct{ events, jobs, warned bool }

func read(results pgx.BatchResults, at **int64) (Answer, woken, error) {
	var a Answer
	var w woken
	if at != nil {
		if err := scanPlace(results, at); err != nil {
			return a, w, err
		}
	} else if _, err := results.Exec(); err != nil {
		return a, w, err
	}
	rows, err := results.Query()
	if err != nil {
		return a, w, err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		if body := raw[0]; body != nil {
			// The binary form of jsonb is a version byte and then the text.
			if len(body) > 0 && body[0] == 1 {
				body = body[1:]
			}
			a.Body = append(make([]byte, 0, len(body)), body...)
		}
		a.Status, _ = strconv.Atoi(string(raw[1]))
		if len(raw[2]) > 0 {
			if err := json.Unmarshal(raw[2], &a.Headers); err != nil {
				return a, w, fmt.Errorf("response.headers: %w", err)
			}
		}
		w = woken{events: string(raw[3]) == "on", jobs: string(raw[4]) == "on", warned: string(raw[5]) == "on"}
	}
	return a, w, rows.Err()
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}
