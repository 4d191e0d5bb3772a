package lease_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/lease"
)

// line is the way of one process to Postgres. It can break, and it can swallow what is sent.
type line struct {
	dsn string

	mu       sync.Mutex
	conns    []net.Conn
	isBroken bool
	isSilent atomic.Bool
}

func (l *line) connect(ctx context.Context) (*pgx.Conn, error) {
	c, err := pgx.ParseConfig(l.dsn)
	if err != nil {
		return nil, err
	}
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.isBroken {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		l.conns = append(l.conns, conn)
		return swallowing{conn, l}, nil
	}
	return pgx.ConnectConfig(ctx, c)
}

// cut closes all connections, as a proxy does that goes away; repair lets new ones through.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isBroken = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

func (l *line) repair() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isBroken = false
}

type swallowing struct {
	net.Conn
	line *line
}

func (s swallowing) Write(b []byte) (int, error) {
	if s.line.isSilent.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

type bed struct {
	*testing.T
	db *testdb.DB
}

func newBed(t *testing.T) *bed {
	t.Parallel()
	return &bed{t, testdb.New(t)}
}

// start runs a process; took has the time of each takeover that it made.
func (b *bed) start() (p *lease.Process, l *line, took chan time.Time, stop func()) {
	b.Helper()
	l, took = &line{dsn: b.db.DSN("kijko_worker")}, make(chan time.Time, 100)
	p = lease.NewProcess(l.connect, func(context.Context) { took <- time.Now() }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { p.Run(ctx); close(done) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	b.Cleanup(stop)
	b.until("the process is registered", "select exists (select from jobs.workers where id = $1)", *p.ID())
	return p, l, took, stop
}

// dead registers a worker with a job and ends its session, as kill -9 does. It returns the job.
func (b *bed) dead() (job string) {
	b.Helper()
	p := lease.NewProcess(nil, nil, nil)
	conn, err := pgx.Connect(b.Context(), b.db.DSN("kijko_worker"))
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), "select private.register_worker($1, $2, false)", *p.ID(), *p.ID())
	require.NoError(b, err)
	job = b.job(p.Token())
	require.NoError(b, conn.PgConn().Conn().Close())
	return job
}

// job enqueues a job and leases it.
func (b *bed) job(token uuid.UUID) string {
	b.Helper()
	queue := uuid.NewString()
	b.db.Exec("select private.enqueue('a', '{}', now(), null, $1)", queue)
	return testdb.Value[string](b.db, "select job_id from private.lease_jobs($1, 1, $2, 3600)", queue, token)
}

func (b *bed) holds(job string) bool {
	return testdb.Value[bool](b.db, "select lease is not null and run_at > now() from jobs.stored_jobs where job_id = $1", job)
}

func (b *bed) until(what, sql string, args ...any) {
	b.Helper()
	require.Eventually(b, func() bool { return testdb.Value[bool](b.db, sql, args...) }, time.Minute, 10*time.Millisecond, what)
}

// aTakeover waits until a worker that dies now has been taken over: all that the others would do to one that died earlier is done by then.
func (b *bed) aTakeover() {
	b.Helper()
	job := b.dead()
	require.Eventually(b, func() bool { return !b.holds(job) }, time.Minute, 10*time.Millisecond)
}

func TestTheWorkOfAWorkerThatDiedIsGivenToOthers(t *testing.T) {
	b := newBed(t)
	living, _, took, _ := b.start()
	mine, theirs := b.job(living.Token()), b.dead()
	<-took
	require.False(t, b.holds(theirs))
	require.True(t, testdb.Holds(b.db, "select run_at <= clock_timestamp() from jobs.stored_jobs where job_id = $1", theirs), "it is due at once")
	require.True(t, b.holds(mine), "a living worker keeps its own")
	require.Equal(t, 1, testdb.Value[int](b.db, "select count(*)::int from jobs.workers"))
}

func TestOfManyWorkersOneTakesOver(t *testing.T) {
	b := newBed(t)
	var all []chan time.Time
	for range 4 {
		_, _, took, _ := b.start()
		all = append(all, took)
	}
	b.aTakeover()
	b.aTakeover()
	n := 0
	for _, took := range all {
		n += len(took)
	}
	require.LessOrEqual(t, n, 2, "one takeover each; the last call may still come")
	require.Positive(t, n)
}

func TestASessionThatWasEndedIsWonBack(t *testing.T) {
	b := newBed(t)
	p, _, _, _ := b.start()
	b.start()
	token := p.Token()
	job := b.job(token)
	working, release := p.Context(t.Context(), token)
	defer release()
	key := testdb.Value[int64](b.db, "select lock_key from jobs.workers where id = $1", *p.ID())
	b.db.Exec("select pg_terminate_backend(pid) from jobs.workers where id = $1", *p.ID())
	b.until("the worker has another lock", "select exists (select from jobs.workers where id = $1 and lock_key <> $2)", *p.ID(), key)
	b.aTakeover()
	require.NoError(t, working.Err())
	require.True(t, b.holds(job))
}

func TestAWorkerThatIsCutOffEndsItsWorkBeforeOthersTakeIt(t *testing.T) {
	b := newBed(t)
	p, way, _, _ := b.start()
	_, _, took, _ := b.start()
	token, before := p.Token(), *p.ID()
	job := b.job(token)
	working, release := p.Context(t.Context(), token)
	defer release()
	way.cut()
	<-working.Done()
	ended := time.Now()
	require.ErrorIs(t, context.Cause(working), lease.ErrLost)
	require.True(t, (<-took).After(ended))
	require.False(t, b.holds(job))
	late, free := p.Context(t.Context(), token)
	defer free()
	require.ErrorIs(t, context.Cause(late), lease.ErrLost, "work that begins late finds its lease lost")

	way.repair()
	require.NotEqual(t, before, *p.ID())
	b.until("it comes back with another identity", "select exists (select from jobs.workers where id = $1)", *p.ID())
	token = p.Token()
	require.Equal(t, token, p.Keep(token))
	job = b.job(token)
	b.aTakeover()
	require.True(t, b.holds(job))
}

func TestAWorkerThatIsSilentKeepsItsLeases(t *testing.T) {
	b := newBed(t)
	p, way, _, _ := b.start()
	b.start()
	token := p.Token()
	job := b.job(token)
	working, release := p.Context(t.Context(), token)
	defer release()
	way.isSilent.Store(true)
	b.aTakeover()
	require.NoError(t, working.Err())
	require.True(t, b.holds(job), "until they end by their time")
}

func TestLocksFromBeforeARestartProveNothing(t *testing.T) {
	b := newBed(t)
	b.start()
	p := lease.NewProcess(nil, nil, nil)
	job := b.job(p.Token())
	b.db.Exec("insert into jobs.workers (id, lock_key, pid, server) values ($1, $1, 1, 'another run')", *p.ID())
	b.aTakeover()
	require.True(t, b.holds(job))
}

func TestAWorkerThatStopsLeavesNothing(t *testing.T) {
	b := newBed(t)
	_, _, _, stop := b.start()
	stop()
	require.Zero(t, testdb.Value[int](b.db, "select count(*)::int from jobs.workers"))
}

func TestASharedSessionGivesTheLockUp(t *testing.T) {
	b := newBed(t)
	p, _, _, _ := b.start()
	token := p.Token()
	working, release := p.Context(t.Context(), token)
	defer release()
	b.db.Exec("update jobs.workers set pid = pid + 1")
	<-working.Done()
	b.until("its place is empty", "select not exists (select from jobs.workers)")
	require.NotEqual(t, token, p.Keep(token))
}

func TestAProcessThatIsNotKnownHasRandomTokens(t *testing.T) {
	var none *lease.Process
	require.Nil(t, none.ID())
	token := none.Token()
	require.Equal(t, token, none.Keep(token))
	working, release := none.Context(t.Context(), token)
	require.NoError(t, working.Err())
	release()
	require.Error(t, working.Err())
}
