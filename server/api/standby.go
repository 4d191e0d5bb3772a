package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"kijko/db"
)

const (
	// standbyTime bounds a read at a standby. After it the same request goes on at the primary, within the time of a request.
	standbyTime = time.Second
	// askEvery is the shortest time between two questions for the primary's position. Reads that arrive meanwhile share the next one.
	askEvery = time.Millisecond
	// probeEvery is how often each standby's identity and lag are read, and how soon a dead one comes back.
	probeEvery = time.Second
	// A standby that was behind is asked only after the position is known, for this long: its answer is less often in vain.
	carefulFor = 100 * time.Millisecond
	// A standby that stays behind is passed over, for twice as long each time.
	firstPause, longestPause = 2 * time.Millisecond, time.Second
)

// Standbys answer reads. A read and a question for the primary's position in its log are sent at once. The answer counts when the standby had
// replayed that position before it read: it then includes every commit that was acknowledged before the request came, by any process (another
// server, a worker, a stream whose header was sent long ago). So the client carries no position, a revoked session ends at once, and a caller
// can forge nothing. In every other case the same request goes on at the primary.
type Standbys struct {
	log      *slog.Logger
	list     []*standby
	primary  *pgxpool.Pool
	position *positions
	next     atomic.Uint32

	served, behind, failed, conflicts atomic.Uint64
}

// standby is one of them.
type standby struct {
	exec *Executor
	name string

	mu     sync.Mutex
	code   string // why it is not used; empty: it is
	lag    float64
	line   int32 // the timeline that the last probe found right
	pause  time.Duration
	resume time.Time
	// careful is until when the position is awaited before the read.
	careful time.Time
}

// place is a position in the primary's log.
type place struct {
	lsn  int64
	line int32
}

// The insert position includes commits that are visible before they are flushed (synchronous_commit off).
const placeSQL = `pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int`

// OpenStandbys opens pools to the standbys, all lazily. base has the options of the primary's pool.
func OpenStandbys(ctx context.Context, base db.PoolOptions, addresses []string, log *slog.Logger) (_ *Standbys, err error) {
	s := &Standbys{log: log}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	one := base
	one.Size, one.Application = 2, "kijko position"
	if s.primary, err = db.OpenPool(ctx, one); err != nil {
		return nil, err
	}
	s.position = &positions{ask: s.ask}
	for i, address := range addresses {
		o := base
		o.DSN = address
		pool, err := db.OpenPool(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("DATABASE_READ_URLS, number %d: %w", i+1, err)
		}
		exec := NewExecutor(pool, nil)
		exec.enters[kindRead] = exec.enters[kindRead].placed()
		s.list = append(s.list, &standby{exec: exec, name: "standby" + strconv.Itoa(i+1), code: "UNREACHABLE"})
	}
	return s, nil
}

// Close closes the pools.
func (s *Standbys) Close() {
	if s == nil {
		return
	}
	for _, one := range s.list {
		one.exec.pool.Close()
	}
	if s.primary != nil {
		s.primary.Close()
	}
}

// placed returns the statements that first read how far the standby is. PostgreSQL takes a snapshot for each statement, and for those inside
// a volatile function, so what follows sees at least that position. A server that was promoted has none.
func (e entering) placed() entering {
	const at = "select case when pg_is_in_recovery() then (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint end, "
	for _, text := range []*string{&e.user, &e.free, &e.key, &e.anonymous} {
		*text = at + (*text)[len("select "):]
	}
	return e
}

func (s *Standbys) ask() (p place, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), standbyTime)
	defer cancel()
	err = s.primary.QueryRow(ctx, "select ("+placeSQL).Scan(&p.lsn, &p.line)
	return p, err
}

// positions shares the questions for the primary's position. A question that was sent before a read came does not count for it.
type positions struct {
	ask func() (place, error)

	mu      sync.Mutex
	next    *question
	running bool
}

type question struct {
	done chan struct{}
	at   place
	err  error
}

// now returns a question that is sent after this call.
func (p *positions) now() *question {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = &question{done: make(chan struct{})}
	}
	if !p.running {
		p.running = true
		go p.run()
	}
	return p.next
}

func (p *positions) run() {
	for {
		began := time.Now()
		p.mu.Lock()
		q := p.next
		p.next, p.running = nil, q != nil
		p.mu.Unlock()
		if q == nil {
			return
		}
		q.at, q.err = p.ask()
		close(q.done)
		time.Sleep(askEvery - time.Since(began))
	}
}

func (q *question) wait(ctx context.Context) (place, bool) {
	select {
	case <-q.done:
		return q.at, q.err == nil
	case <-ctx.Done():
		return place{}, false
	}
}

// run tries the read at a standby. It is false when the primary has to answer; nothing was lost then but time.
func (s *Standbys) run(ctx context.Context, r *Request) (Answer, timing, bool) {
	one, careful := s.choose(time.Now())
	if one == nil {
		return Answer{}, timing{}, false
	}
	question := s.position.now()
	attempt, cancel := context.WithTimeout(ctx, standbyTime)
	defer cancel()
	if careful {
		if _, ok := question.wait(attempt); !ok {
			return Answer{}, timing{}, false
		}
	}
	for try := range 2 {
		var at *int64
		answer, spent, err := one.exec.onceAt(attempt, r, &at)
		if err != nil {
			// A refusal too: it may rest on rows that are old.
			s.note(ctx, one, err)
			return Answer{}, spent, false
		}
		if at == nil {
			s.refuse(one, "NOT_A_STANDBY")
			return Answer{}, spent, false
		}
		want, ok := question.wait(attempt)
		if !ok {
			return Answer{}, spent, false
		}
		if one.reached(*at, want) {
			s.served.Add(1)
			return answer, spent, true
		}
		// The position stays what it was, so a standby that is a moment late has it at the second attempt.
		if try == 0 && !careful {
			one.mu.Lock()
			one.careful = time.Now().Add(carefulFor)
			one.mu.Unlock()
			continue
		}
		break
	}
	s.behind.Add(1)
	one.passOver(time.Now())
	return Answer{}, timing{}, false
}

// choose returns the next standby in turn that is used, or nil, and whether the position is to be awaited first.
func (s *Standbys) choose(now time.Time) (*standby, bool) {
	first := int(s.next.Add(1))
	for i := range s.list {
		one := s.list[(first+i)%len(s.list)]
		one.mu.Lock()
		used, careful := one.code == "" && !now.Before(one.resume), now.Before(one.careful)
		one.mu.Unlock()
		if used {
			return one, careful
		}
	}
	return nil, false
}

// reached reports whether the standby had the position when it read. A position of another timeline cannot be compared.
func (o *standby) reached(at int64, want place) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.code != "" || o.line != want.line || at < want.lsn {
		return false
	}
	o.pause = 0
	return true
}

func (o *standby) passOver(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pause = min(max(2*o.pause, firstPause), longestPause)
	o.resume, o.careful = now.Add(o.pause), now.Add(o.pause+carefulFor)
}

// note decides what an error says of the standby. One that the connection did not survive is not used until a probe succeeds.
func (s *Standbys) note(ctx context.Context, one *standby, err error) {
	var pg *pgconn.PgError
	var refused *Problem
	switch {
	case errors.As(err, &pg) && pg.Code == "40001":
		s.conflicts.Add(1)
	case pg != nil && pg.Code == "57014", ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		// It hangs, or the read is long. A probe tells which.
		one.passOver(time.Now())
	case pg != nil && !strings.HasPrefix(pg.Code, "57P"), errors.As(err, &refused), ctx.Err() != nil, errors.Is(err, context.Canceled):
	default:
		s.failed.Add(1)
		one.exec.pool.Reset()
		s.refuse(one, "UNREACHABLE")
	}
}

// refuse stops the use of a standby, with a code; an empty one starts it again.
func (s *Standbys) refuse(one *standby, code string) {
	one.mu.Lock()
	before := one.code
	one.code = code
	one.mu.Unlock()
	switch {
	case code == before:
	case code == "":
		s.log.Info("reads go to the standby", "standby", one.name)
	default:
		s.log.Warn("reads do not go to the standby", "standby", one.name, "code", code)
	}
}

// Run probes the standbys until ctx ends.
func (s *Standbys) Run(ctx context.Context) {
	if s == nil {
		return
	}
	ticks := time.NewTicker(probeEvery)
	defer ticks.Stop()
	for ctx.Err() == nil {
		s.probe(ctx)
		select {
		case <-ctx.Done():
		case <-ticks.C:
		}
	}
}

// identity is what a probe reads of a server.
type identity struct {
	system    string
	at        place
	recovers  bool
	lag       float64
	reachable bool
}

const (
	primaryIdentity = `select (select system_identifier::text from pg_control_system()), not pg_is_in_recovery(), (` + placeSQL
	standbyIdentity = `select (select system_identifier::text from pg_control_system()), pg_is_in_recovery(),
		coalesce(pg_last_wal_replay_lsn() - '0/0'::pg_lsn, 0)::bigint,
		greatest((select timeline_id from pg_control_checkpoint()), (select min_recovery_end_timeline from pg_control_recovery())),
		coalesce(extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::float8`
)

func identify(ctx context.Context, pool *pgxpool.Pool, sql string) (found identity) {
	ctx, cancel := context.WithTimeout(ctx, probeEvery)
	defer cancel()
	into := []any{&found.system, &found.recovers, &found.at.lsn, &found.at.line}
	if sql == standbyIdentity {
		into = append(into, &found.lag)
	}
	found.reachable = pool.QueryRow(ctx, sql).Scan(into...) == nil
	return found
}

func (s *Standbys) probe(ctx context.Context) {
	primary := identify(ctx, s.primary, primaryIdentity)
	if !primary.reachable {
		return // No position is known then, so no standby is used.
	}
	var wg sync.WaitGroup
	for _, one := range s.list {
		wg.Go(func() {
			found := identify(ctx, one.exec.pool, standbyIdentity)
			if ctx.Err() != nil {
				return
			}
			code := ""
			switch {
			case !found.reachable:
				one.exec.pool.Reset()
				code = "UNREACHABLE"
			case !found.recovers:
				code = "NOT_A_STANDBY"
			case found.system != primary.system:
				code = "OTHER_SYSTEM"
			case found.at.line != primary.at.line:
				code = "OTHER_TIMELINE"
			}
			if found.at.lsn >= primary.at.lsn {
				found.lag = 0
			}
			one.mu.Lock()
			one.lag, one.line = found.lag, primary.at.line
			one.mu.Unlock()
			s.refuse(one, code)
		})
	}
	wg.Wait()
}

// laggard is the lag in seconds from which a standby counts as degraded. Its answers are right or unused at any lag.
const laggard = 30

// Checks shows each standby with its lag. None is critical: the primary answers in its place.
func (s *Standbys) Checks() []Check {
	if s == nil {
		return nil
	}
	checks := make([]Check, len(s.list))
	for i, one := range s.list {
		checks[i] = Check{Name: one.name, Probe: func(context.Context) CheckResult {
			one.mu.Lock()
			defer one.mu.Unlock()
			lag := one.lag
			switch {
			case one.code != "":
				return CheckResult{Status: "degraded", Code: one.code}
			case lag > laggard:
				return CheckResult{Status: "degraded", Code: "BEHIND", AgeSeconds: &lag}
			}
			return CheckResult{Status: "healthy", AgeSeconds: &lag}
		}}
	}
	return checks
}

var (
	standbyReads = prometheus.NewDesc("kijko_standby_reads_total", "Reads that a standby was asked, by outcome: served, behind, conflict or failed.", []string{"outcome"}, nil)
	standbyLag   = prometheus.NewDesc("kijko_standby_lag_seconds", "Age of what a standby has replayed, while it misses something.", []string{"standby"}, nil)
	standbyUsed  = prometheus.NewDesc("kijko_standby_used", "1 while reads go to the standby.", []string{"standby"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Standbys) Describe(ch chan<- *prometheus.Desc) {
	ch <- standbyReads
	ch <- standbyLag
	ch <- standbyUsed
}

// Collect implements prometheus.Collector.
func (s *Standbys) Collect(ch chan<- prometheus.Metric) {
	if s == nil {
		return
	}
	for outcome, n := range map[string]*atomic.Uint64{"served": &s.served, "behind": &s.behind, "conflict": &s.conflicts, "failed": &s.failed} {
		ch <- prometheus.MustNewConstMetric(standbyReads, prometheus.CounterValue, float64(n.Load()), outcome)
	}
	for _, one := range s.list {
		one.mu.Lock()
		lag, used := one.lag, 0.0
		if one.code == "" {
			used = 1
		}
		one.mu.Unlock()
		ch <- prometheus.MustNewConstMetric(standbyLag, prometheus.GaugeValue, lag, one.name)
		ch <- prometheus.MustNewConstMetric(standbyUsed, prometheus.GaugeValue, used, one.name)
	}
}

// Served returns how many reads standbys have answered.
func (s *Standbys) Served() uint64 { return s.served.Load() }

// scanPlace reads the first column of an entering statement: the position of a standby, or nil of a server that is none.
func scanPlace(results pgx.BatchResults, at **int64) error {
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()[0]
		if raw == nil {
			continue
		}
		if rows.FieldDescriptions()[0].Format == pgx.TextFormatCode {
			n, err := strconv.ParseInt(string(raw), 10, 64)
			if err != nil {
				return fmt.Errorf("position of a standby: %w", err)
			}
			*at = &n
			continue
		}
		var n int64
		for _, b := range raw {
			n = n<<8 | int64(b)
		}
		*at = &n
	}
	return rows.Err()
}
