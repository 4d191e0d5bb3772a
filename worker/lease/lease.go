// Package lease keeps the leases under which a worker does long work.
//
// A lease is a mark on a row: a token and an expiry time. The database gives it and takes it back. Every write of the work names the token,
// so work that lost its lease writes nothing (fencing). A Keeper renews the leases of this process and ends the context of work whose lease
// is gone. Invariants: start Run before the first Add and stop it after the last release; Add takes a lease only once.
//
// A Process tells other workers that this one lives, so that they need not wait for the end of its leases when it dies.
package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// ErrLost is the cause of a context whose lease is gone: taken over by another worker, canceled, or expired.
var ErrLost = errors.New("lease: it is gone")

// Lease is a lease that this process holds. The token is new with each take-over; the id names the work.
type Lease struct{ ID, Token uuid.UUID }

// Options configure a Keeper. All except Look, Expires and Process are required.
type Options struct {
	// For is how long a lease lasts, Every how often it is renewed.
	For, Every time.Duration
	// Look is how often the Keeper looks for lost leases between renewals; 0: only with the renewals.
	Look time.Duration
	// Expires ends the work when its lease has expired while the database was unreachable. Otherwise the work goes on, and fencing drops
	// its result.
	Expires bool
	// Renew asks the database for the leases that are gone, and extends the others where renew is true.
	Renew func(ctx context.Context, held []Lease, renew bool) (gone []Lease, err error)
	// Process ends the work when it gives up the identity that the token names; nil: only the lease does.
	Process *Process
	Log     *slog.Logger
}

// Keeper holds the leases of one kind of work. Make it with New.
type Keeper struct {
	o  Options
	mu sync.Mutex
	// Keyed by work and token: one process may take the same work again before its earlier lease is released.
	held map[Lease]*holding
}

type holding struct {
	lose   context.CancelCauseFunc
	expiry time.Time
}

// New makes a Keeper.
func New(o Options) *Keeper {
	if o.Look <= 0 {
		o.Look = o.Every
	}
	return &Keeper{o: o, held: map[Lease]*holding{}}
}

// Add holds a lease from now on. The work runs under the returned context, which ends with ErrLost when the lease is gone. The work calls
// release at its end.
func (k *Keeper) Add(ctx context.Context, l Lease) (working context.Context, release func()) {
	working, leave := k.o.Process.Context(ctx, l.Token)
	working, lose := context.WithCancelCause(working)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[l] = &holding{lose: lose, expiry: time.Now().Add(k.o.For)}
	return working, func() {
		lose(nil)
		leave()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.held, l)
	}
}

// Lose ends the work with this id, as if its lease were gone.
func (k *Keeper) Lose(id uuid.UUID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for l, h := range k.held {
		if l.ID == id {
			h.lose(ErrLost)
		}
	}
}

// Run renews the leases until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	ticker := time.NewTicker(k.o.Look)
	defer ticker.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		leases := k.leases()
		if len(leases) == 0 {
			continue
		}
		asked, renew := time.Now(), time.Since(renewed) >= k.o.Every-k.o.Look/2
		asking, cancel := context.WithTimeout(ctx, k.o.Every)
		gone, err := k.o.Renew(asking, leases, renew)
		cancel()
		switch {
		case err == nil && renew:
			renewed = asked
			k.note(leases, gone, asked.Add(k.o.For))
		case err == nil:
			k.note(nil, gone, time.Time{})
		case ctx.Err() == nil:
			k.o.Log.Warn("leases could not be renewed", "error", err)
			k.expire(leases)
		}
	}
}

func (k *Keeper) leases() []Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	leases := make([]Lease, 0, len(k.held))
	for l := range k.held {
		leases = append(leases, l)
	}
	return leases
}

// note extends the renewed leases and ends the work of the leases that are gone.
func (k *Keeper) note(renewed, gone []Lease, expiry time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range renewed {
		if h := k.held[l]; h != nil {
			h.expiry = expiry
		}
	}
	for _, l := range gone {
		if h := k.held[l]; h != nil {
			h.lose(ErrLost)
		}
	}
}

// expire ends the work whose lease must have expired: another worker may have it by now.
func (k *Keeper) expire(leases []Lease) {
	if !k.o.Expires {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range leases {
		if h := k.held[l]; h != nil && time.Now().After(h.expiry) {
			h.lose(ErrLost)
		}
	}
}
