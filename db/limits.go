package db

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"weak"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Limits bound a transaction in the database itself, even when the process that began it dies. They travel with the first statement of each
// transaction: as start-up parameters a pooler would refuse them, and as settings of the session a pooler in transaction mode would pass
// them to other clients. They hold from the end of that statement, LockWait from where it is set.
type Limits struct {
	// Statement is the longest time of a statement.
	Statement time.Duration
	// LockWait is the longest wait for one lock. A table that a migration holds costs its callers at most this.
	LockWait time.Duration
	// Idle ends a transaction whose client sends no statement for this long.
	Idle time.Duration
}

const (
	defaultStatement = 15 * time.Second
	// Writes wait for one another in normal operation, and reads only for a change of a table itself.
	writeLockWait = 5 * time.Second
	readLockWait  = 800 * time.Millisecond
	defaultIdle   = 30 * time.Second
)

// ForReads are the limits of a transaction that only reads.
func (l Limits) ForReads() Limits {
	l.LockWait = min(l.LockWait, readLockWait)
	return l
}

// Whole is the longest time of a transaction of one statement while the database answers at all: longer means that the connection to it is
// dead.
func (l Limits) Whole() time.Duration { return l.LockWait + l.Statement + time.Second }

// SQL is the columns of a select that set the limits until the end of the transaction.
func (l Limits) SQL() string { return l.columns(true) }

func (l Limits) columns(local bool) string {
	return fmt.Sprintf("set_config('lock_timeout', '%[1]d', %[4]t), set_config('statement_timeout', '%[2]d', %[4]t), "+
		"set_config('idle_in_transaction_session_timeout', '%[3]d', %[4]t)", l.LockWait.Milliseconds(), l.Statement.Milliseconds(), l.Idle.Milliseconds(), local)
}

// Hold sets the limits for the life of a connection that is not shared: that of a listener, or of the worker, which no pooler in
// transaction mode stands in front of. They are sent after connecting, because a pooler in session mode refuses start-up parameters as
// well.
func (l Limits) Hold(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "select "+l.columns(false))
	return err
}

// Connect opens a connection outside of any pool, under limits.
func Connect(ctx context.Context, dsn string, l Limits) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if err := l.Hold(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

// DefaultLimits are those of requests, and of connections that listen and number events.
func DefaultLimits() Limits { return limits(0) }

// WorkerLimits leave time for background work; a job's transaction stays open for as long as a short job may take.
func WorkerLimits() Limits {
	return Limits{Statement: 10 * time.Minute, LockWait: time.Minute, Idle: 15 * time.Minute}
}

func limits(statement time.Duration) Limits {
	if statement <= 0 {
		statement = defaultStatement
	}
	return Limits{Statement: statement, LockWait: min(statement, writeLockWait), Idle: defaultIdle}
}

// limited remembers the limits that pools were opened with.
var limited sync.Map // weak.Pointer[pgxpool.Pool] -> Limits

func keepLimits(pool *pgxpool.Pool, l Limits) {
	key := weak.Make(pool)
	limited.Store(key, l)
	runtime.AddCleanup(pool, func(key weak.Pointer[pgxpool.Pool]) { limited.Delete(key) }, key)
}

// LimitsOf returns the limits of a pool's transactions: those that OpenPool was given, or the defaults.
func LimitsOf(pool *pgxpool.Pool) Limits {
	if l, ok := limited.Load(weak.Make(pool)); ok {
		return l.(Limits)
	}
	return DefaultLimits()
}

// Limited begins a batch whose transaction has limits. Its first result belongs to the limits, not to the caller's statements.
func Limited(l Limits) *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue("select " + l.SQL())
	return batch
}

// Exec runs one statement under the limits of the pool, in one round trip.
func Exec(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) error {
	batch := Limited(LimitsOf(pool))
	batch.Queue(sql, args...)
	return pool.SendBatch(ctx, batch).Close()
}

// Row runs one statement under the limits of the pool, in one round trip, and scans its only row.
func Row(ctx context.Context, pool *pgxpool.Pool, sql string, args []any, into ...any) error {
	return Rows(ctx, pool, LimitsOf(pool), sql, args, func(rows pgx.Rows) error {
		_, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, row.Scan(into...) })
		return err
	})
}

// Rows runs one statement under limits, in one round trip, and passes its rows to read. read closes them.
func Rows(ctx context.Context, pool *pgxpool.Pool, l Limits, sql string, args []any, read func(pgx.Rows) error) (err error) {
	batch := Limited(l)
	batch.Queue(sql, args...)
	results := pool.SendBatch(ctx, batch)
	defer func() {
		if closeErr := results.Close(); err == nil {
			err = closeErr
		}
	}()
	if _, err := results.Exec(); err != nil {
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	return read(rows)
}
