package lease

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// database is a double: leases by token, and whether it answers.
type database struct {
	mu      sync.Mutex
	away    bool
	gone    []uuid.UUID
	renewed map[uuid.UUID]int
}

func (d *database) renew(_ context.Context, held []Lease, renew bool) (gone []Lease, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, errors.New("no connection")
	}
	for _, l := range held {
		switch {
		case slices.Contains(d.gone, l.Token):
			gone = append(gone, l)
		case renew:
			d.renewed[l.Token]++
		}
	}
	return gone, nil
}

func keeper(t *testing.T, d *database, look time.Duration, expires bool) *Keeper {
	k := New(Options{For: 15 * time.Second, Every: 5 * time.Second, Look: look, Expires: expires, Renew: d.renew, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	t.Cleanup(func() {
		stop()
		<-done
		require.Empty(t, k.held, "every lease was released")
	})
	return k
}

func (d *database) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func TestALeaseIsRenewedUntilItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{renewed: map[uuid.UUID]int{}}
		k := keeper(t, d, 500*time.Millisecond, true)
		l := Lease{uuid.New(), uuid.New()}
		working, release := k.Add(t.Context(), l)
		time.Sleep(time.Minute)
		require.NoError(t, working.Err())
		d.set(func() { require.InDelta(t, 12, d.renewed[l.Token], 1) })
		release()
		time.Sleep(time.Minute)
		d.set(func() { require.InDelta(t, 12, d.renewed[l.Token], 1) })
	})
}

func TestALostLeaseEndsItsWorkAtTheNextLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{renewed: map[uuid.UUID]int{}}
		k := keeper(t, d, 500*time.Millisecond, true)
		mine, other := Lease{uuid.New(), uuid.New()}, Lease{uuid.New(), uuid.New()}
		working, release := k.Add(t.Context(), mine)
		defer release()
		still, free := k.Add(t.Context(), other)
		defer free()
		d.set(func() { d.gone = append(d.gone, mine.Token) })
		time.Sleep(600 * time.Millisecond)
		require.ErrorIs(t, context.Cause(working), ErrLost)
		require.NoError(t, still.Err())
		k.Lose(other.ID)
		require.ErrorIs(t, context.Cause(still), ErrLost)
	})
}

func TestOneProcessMayTakeTheSameWorkAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &database{renewed: map[uuid.UUID]int{}}
		k := keeper(t, d, 0, false)
		id := uuid.New()
		first := Lease{id, uuid.New()}
		lost, release := k.Add(t.Context(), first)
		d.set(func() { d.gone = append(d.gone, first.Token) })
		again, free := k.Add(t.Context(), Lease{id, uuid.New()})
		time.Sleep(6 * time.Second)
		require.ErrorIs(t, context.Cause(lost), ErrLost)
		release()
		require.NoError(t, again.Err(), "the end of the first work leaves the second one its lease")
		free()
	})
}

func TestWhileTheDatabaseIsAway(t *testing.T) {
	for _, c := range []struct {
		name    string
		expires bool
	}{{"WorkThatExpiresEndsWithItsLease", true}, {"WorkThatIsFencedGoesOn", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &database{renewed: map[uuid.UUID]int{}}
				k := keeper(t, d, 500*time.Millisecond, c.expires)
				working, release := k.Add(t.Context(), Lease{uuid.New(), uuid.New()})
				defer release()
				d.set(func() { d.away = true })
				time.Sleep(14 * time.Second)
				require.NoError(t, working.Err(), "its lease still holds")
				time.Sleep(2 * time.Second)
				require.Equal(t, c.expires, working.Err() != nil)
			})
		})
	}
}
