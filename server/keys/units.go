package keys

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
)

const (
	// The units taken ahead cover about two seconds of recent use, within these bounds. Postgres gives fewer when few are left.
	minWanted, maxWanted = 32, 8192
	// staleAfter is when a lease that could not be renewed is no longer used. After a minute other processes give it back.
	staleAfter = 20 * time.Second
	takeTime   = 5 * time.Second
)

// account holds this process's units of an organization. Guarded by Keys.mu.
type account struct {
	id      string // of the lease
	left    int64
	spent   int64 // since the last flush
	renewed time.Time
	ends    time.Time // a lease counts for one day
	wanted  int64
	// limit and remaining are the plan's numbers, without the units left here.
	limit, remaining int64
	resets           string
	taking           *taking
}

// taking is a running call of private.take_units. All requests that need a unit wait for the same call.
type taking struct {
	done chan struct{}
	err  error
}

type lease struct {
	ID   string `json:"id"`
	Left int64  `json:"left"`
	Ends bool   `json:"ends"`
}

// Take implements api.Keys.
func (k *Keys) Take(ctx context.Context, caller *api.Caller) (map[string]string, error) {
	for {
		k.mu.Lock()
		now := time.Now()
		a := k.accounts[caller.OrgHint]
		if a == nil || a.left > 0 && a.taking == nil && (now.After(a.ends) || now.Sub(a.renewed) > staleAfter) {
			if a != nil {
				k.ending = append(k.ending, lease{a.id, a.left, true})
			}
			a = &account{id: uuid.NewString(), wanted: minWanted}
			k.accounts[caller.OrgHint] = a
		}
		if a.left > 0 {
			a.left--
			a.spent++
			if a.left < a.wanted/4 && a.taking == nil {
				k.startTaking(a, caller)
			}
			headers := a.headers()
			k.mu.Unlock()
			return headers, nil
		}
		t := a.taking
		if t == nil {
			t = k.startTaking(a, caller)
		}
		k.mu.Unlock()
		select {
		case <-t.done:
			if t.err != nil {
				return nil, t.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// headers returns the headers of a counted request; an unlimited plan has none.
func (a *account) headers() map[string]string {
	if a.limit < 0 {
		return nil
	}
	return map[string]string{"X-RateLimit-Limit": strconv.FormatInt(a.limit, 10), "X-RateLimit-Remaining": strconv.FormatInt(a.remaining+a.left, 10),
		"X-RateLimit-Reset": a.resets}
}

// startTaking takes units in the background. It is called with the lock held.
func (k *Keys) startTaking(a *account, caller *api.Caller) *taking {
	t := &taking{done: make(chan struct{})}
	a.taking = t
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), takeTime)
		defer cancel()
		got, err := k.takeUnits(ctx, caller.OrgHint, a.id, a.wanted)
		k.mu.Lock()
		defer k.mu.Unlock()
		a.taking, t.err = nil, err
		if err == nil {
			a.left, a.limit, a.remaining = a.left+got.Units, got.Limit, got.Remaining
			// An organization that needs more units before the next flush is busy. Frequent waits for Postgres would slow its requests
			// down.
			a.wanted = min(4*a.wanted, maxWanted)
			a.resets, a.ends, a.renewed = strconv.FormatInt(int64(got.ResetsAt), 10), unix(got.EndsAt), time.Now()
		}
		close(t.done)
	}()
	return t
}

type granted struct {
	Units, Limit, Remaining int64
	ResetsAt, EndsAt        float64
}

func (k *Keys) takeUnits(ctx context.Context, organizationID, leaseID string, wanted int64) (granted, error) {
	answer, err := k.server(ctx, "take_units", map[string]any{"organizationId": organizationID, "leaseId": leaseID, "wanted": wanted}, "", false)
	if err != nil {
		return granted{}, err
	}
	var got granted
	if err := json.Unmarshal(answer, &got); err != nil {
		return granted{}, fmt.Errorf("private.take_units: %w", err)
	}
	return got, nil
}

// GiveBack implements api.Keys.
func (k *Keys) GiveBack(caller *api.Caller) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// If the organization made no requests for a while, its lease has ended and the unit stays used.
	if a := k.accounts[caller.OrgHint]; a != nil {
		a.left++
		a.spent--
	}
}

// settle reports the unused units to Postgres. An organization without requests since the last flush gets its units back, and so do all at
// the end.
func (k *Keys) settle(ctx context.Context, last bool) {
	k.mu.Lock()
	leases := k.ending
	k.ending = nil
	now := time.Now()
	var renewing []*account
	for org, a := range k.accounts {
		switch {
		case a.taking != nil && !last: // its answer is on the way
		case last || a.spent <= 0 || now.After(a.ends):
			leases = append(leases, lease{a.id, max(a.left, 0), true})
			delete(k.accounts, org)
		default:
			leases = append(leases, lease{a.id, a.left, false})
			renewing = append(renewing, a)
			a.wanted = min(max(minWanted, 4*a.spent), maxWanted)
			a.spent = 0
		}
	}
	k.mu.Unlock()
	if len(leases) == 0 {
		return
	}
	_, err := k.server(ctx, "settle_units", map[string]any{"leases": leases}, "", false)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.log.Warn("units of API calls were not settled; they are tried again", "leases", len(leases), "error", err)
		for _, l := range leases {
			if l.Ends {
				k.ending = append(k.ending, l)
			}
		}
		return
	}
	for _, a := range renewing {
		a.renewed = now
	}
}
