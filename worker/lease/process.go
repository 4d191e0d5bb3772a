package lease

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A worker takes over the leases of another one whose lock has been free for grace. A worker whose session broke gets a new lock within
// winBack, or ends its work: so the two never work at the same lease. look is how often a worker proves its session and looks at the others.
const (
	look    = 250 * time.Millisecond
	winBack = 700 * time.Millisecond
	grace   = time.Second
	// pause is the time between two attempts to connect.
	pause = 50 * time.Millisecond
	// openTime and lookTime are how long an answer may take: on a busy machine the database is slow, not away.
	openTime = 3 * time.Second
	lookTime = 10 * time.Second
)

// Process is what other workers know of this one: an identity that the tokens of its leases begin with, and an advisory lock that Postgres frees
// when the process dies (db/code/jobs/workers.sql). A nil Process is a worker that is not known: its leases end by their time alone.
type Process struct {
	connect func(ctx context.Context) (*pgx.Conn, error)
	// takenOver is called after the leases of another worker were ended.
	takenOver func(ctx context.Context)
	log       *slog.Logger

	mu sync.Mutex
	is *identity
	// overdue runs when the lock of a session that broke is not won back. failed is why the last session could not be opened.
	overdue *time.Timer
	failed  error
}

// identity is one name of this process. After the process has given it up, it takes another one: other workers may have the leases of the old.
type identity struct {
	id int64
	// holds ends with ErrLost when the identity is given up.
	holds context.Context
	lose  context.CancelCauseFunc
	// isKnown says that the identity was registered, stands that a session has its lock.
	isKnown, stands bool
}

// NewProcess makes a Process. connect opens a connection that no pooler shares between transactions. takenOver may be nil.
func NewProcess(connect func(ctx context.Context) (*pgx.Conn, error), takenOver func(ctx context.Context), log *slog.Logger) *Process {
	return &Process{connect: connect, takenOver: takenOver, log: log, is: newIdentity()}
}

func newIdentity() *identity {
	b := uuid.Must(uuid.NewRandom())
	b[6] = b[6]&0x0f | 0x80 // version 8 (RFC 9562), so that no random token has the prefix of a worker
	i := &identity{id: int64(binary.BigEndian.Uint64(b[:8]))}
	i.holds, i.lose = context.WithCancelCause(context.Background())
	return i
}

func (p *Process) identity() *identity {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.is
}

// ID is the identity for functions of the database that make tokens; nil: none.
func (p *Process) ID() *int64 {
	if p == nil {
		return nil
	}
	return new(p.identity().id)
}

// Token is a fresh token of a lease.
func (p *Process) Token() uuid.UUID {
	t := uuid.New()
	if p != nil {
		binary.BigEndian.PutUint64(t[:8], uint64(p.identity().id))
	}
	return t
}

// Keep gives the token back while it names this process, and a fresh one otherwise.
func (p *Process) Keep(token uuid.UUID) uuid.UUID {
	if p == nil || binary.BigEndian.Uint64(token[:8]) == uint64(p.identity().id) {
		return token
	}
	return p.Token()
}

// Context ends with ErrLost when the process may have lost the lease with this token, because it has lost its lock. Call release at the end.
func (p *Process) Context(ctx context.Context, token uuid.UUID) (working context.Context, release func()) {
	working, lose := context.WithCancelCause(ctx)
	if p == nil || token[6]>>4 != 8 {
		return working, func() { lose(nil) }
	}
	i := p.identity()
	if binary.BigEndian.Uint64(token[:8]) != uint64(i.id) {
		lose(ErrLost)
	}
	stop := context.AfterFunc(i.holds, func() { lose(ErrLost) })
	return working, func() {
		stop()
		lose(nil)
	}
}

// Run holds the lock until ctx ends, and ends the leases of workers that died.
func (p *Process) Run(ctx context.Context) {
	defer p.settle()
	for ctx.Err() == nil {
		i := p.identity()
		stood, err := p.hold(ctx, i)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errShared):
			p.giveUp(i)
			p.log.Warn("a pooler shares the worker's session, so its work is taken over after 15 s only: set the address of Postgres itself", "error", err)
			return
		case errors.Is(err, errTakenOver):
			p.log.Warn("the worker's leases were ended by another worker", "error", err)
			p.giveUp(i)
		case stood && !isSilence(err):
			p.log.Warn("the worker's session broke", "error", err)
			p.mu.Lock()
			p.overdue = time.AfterFunc(winBack, func() { p.decide(i, isRestart(err)) })
			p.mu.Unlock()
		case !stood:
			p.mu.Lock()
			p.failed = err
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// settle stops the timer of a session that broke.
func (p *Process) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overdue != nil {
		p.overdue.Stop()
	}
}

// decide runs when the lock was not won back in time. Other workers are about to take the work over, so it ends here. While Postgres itself
// stops or starts no worker can, and the leases outlast a short restart: then the work goes on.
func (p *Process) decide(i *identity, isRestarting bool) {
	p.mu.Lock()
	isCurrent := p.is == i && !i.stands
	if isCurrent && isRestarting && (isRestart(p.failed) || errors.Is(p.failed, syscall.ECONNREFUSED) || errors.Is(p.failed, syscall.ENOENT)) {
		p.overdue = time.AfterFunc(winBack, func() { p.decide(i, true) })
		isCurrent = false
	}
	p.mu.Unlock()
	if isCurrent {
		p.log.Warn("the worker lost its lock, and ends its work for others to take over")
		p.giveUp(i)
	}
}

var (
	errTakenOver = errors.New("lease: this worker has been taken over")
	errShared    = errors.New("lease: the session changes")
)

// stand notes that the identity has its lock, unless the process gave the identity up meanwhile.
func (p *Process) stand(i *identity, stands bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.is != i {
		return false
	}
	i.isKnown, i.stands = true, stands
	if p.overdue != nil {
		p.overdue.Stop()
	}
	return true
}

// hold opens a session and proves its lock until the session breaks; stood reports whether it had the lock.
func (p *Process) hold(ctx context.Context, i *identity) (stood bool, err error) {
	opening, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	conn, err := p.connect(opening)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	key, isRegistered := newKey(), false
	if err := conn.QueryRow(opening, "select private.register_worker($1, $2, $3)", i.id, key, i.isKnown).Scan(&isRegistered); err != nil {
		return false, err
	}
	leave := func() error {
		leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, err := conn.Exec(leaving, "select private.leave_worker($1)", i.id)
		return err
	}
	switch {
	case !isRegistered:
		return false, errTakenOver
	case !p.stand(i, true):
		return false, errors.Join(errTakenOver, leave())
	}
	defer p.stand(i, false)
	for {
		var taken int
		looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
		err := conn.QueryRow(looking, "select private.watch_workers($1, $2, $3)", i.id, key, grace.Seconds()).Scan(&taken)
		cancel()
		switch {
		case err != nil:
			return true, err
		case ctx.Err() != nil:
			// All work has come back: nothing of this worker is left to take over.
			return true, leave()
		case taken == -1:
			return true, errTakenOver
		case taken == -2:
			return true, errors.Join(errShared, leave())
		case taken > 0:
			p.log.Warn("the leases of workers that died were ended", "workers", taken)
			if p.takenOver != nil {
				go p.takenOver(ctx)
			}
		}
		// A read that waits learns of the end of the connection at once.
		waiting, stop := context.WithTimeout(ctx, look)
		_, err = conn.WaitForNotification(waiting)
		isOver := waiting.Err() != nil
		stop()
		if err != nil && !isOver {
			return true, err
		}
	}
}

// giveUp ends all work under the identity and takes another one.
func (p *Process) giveUp(i *identity) {
	p.mu.Lock()
	p.is = newIdentity()
	p.mu.Unlock()
	i.lose(ErrLost)
}

// isSilence: the database does not answer. The session is likely to stand, and the other workers wait for the end of the leases.
func isSilence(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err)
}

// isRestart: Postgres says that it stops or starts, or the host refuses connections. Locks from before a restart prove nothing to others.
func isRestart(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "57P01" || pg.Code == "57P02" || pg.Code == "57P03"
	}
	return false
}

func newKey() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return int64(binary.BigEndian.Uint64(b[:]))
}
