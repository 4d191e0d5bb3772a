package realtime

import (
	"context"
	"sync"
	"time"
)

// pair is a user in a context.
type pair struct{ context, user string }

// roster counts which users are in which context and how many watch a project, in this process. It keeps the changes that were not reported
// to the database yet. Its lock is the innermost.
type roster struct {
	mu       sync.Mutex
	people   map[pair]int
	watchers map[string]int
	// changed since the last report
	changedPeople   map[pair]struct{}
	changedWatchers map[string]struct{}
	wake            chan struct{} // capacity 1
}

func newRoster() *roster {
	return &roster{people: map[pair]int{}, watchers: map[string]int{}, changedPeople: map[pair]struct{}{},
		changedWatchers: map[string]struct{}{}, wake: make(chan struct{}, 1)}
}

func (r *roster) came(m *membership) { r.count(m, 1) }
func (r *roster) went(m *membership) { r.count(m, -1) }

// count is called under the connection's lock.
func (r *roster) count(m *membership, by int) {
	project := projectOf(m.name)
	if project == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case kindOf(m.name) == kindContext:
		p := pair{project, m.conn.user}
		r.people[p] += by
		if r.people[p] == 0 {
			delete(r.people, p)
		}
		if n := r.people[p]; n == 0 || n == 1 && by > 0 {
			r.changedPeople[p] = struct{}{}
		}
	case m.twin != nil && m.twin.state == inside:
		return // one socket counts once, in either or both of the two rooms
	default:
		r.watchers[project] += by
		if r.watchers[project] == 0 {
			delete(r.watchers, project)
		}
		r.changedWatchers[project] = struct{}{}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// reported is how many entries one report holds at most; the rest follows in the next.
const reported = 1000

// changes removes and returns the changes to report to the database.
func (r *roster) changes() (people []pair, present []bool, watchers map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.changedPeople {
		if len(people) == reported {
			break
		}
		people, present = append(people, p), append(present, r.people[p] > 0)
		delete(r.changedPeople, p)
	}
	watchers = map[string]int{}
	for project := range r.changedWatchers {
		if len(watchers) == reported {
			break
		}
		watchers[project] = r.watchers[project]
		delete(r.changedWatchers, project)
	}
	return people, present, watchers
}

// everything returns the full state, which is reported to the database with each heartbeat.
func (r *roster) everything() ([]pair, map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	people := make([]pair, 0, len(r.people))
	for p := range r.people {
		people = append(people, p)
	}
	watchers := make(map[string]int, len(r.watchers))
	for project, n := range r.watchers {
		watchers[project] = n
	}
	return people, watchers
}

// gathered is how long changes of the roster are collected before they are reported: a page that opens three sockets, or a thousand
// clients that reconnect at once, cost one report.
const gathered = 100 * time.Millisecond

// report reports arrivals and departures to the database, and publishes presence to the rooms where it is due. The next heartbeat repairs
// failed reports.
func (s *Server) report(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var next *float64
		var err error
		select {
		case <-ctx.Done():
			return
		case <-s.roster.wake:
			if pause(ctx, gathered) != nil {
				return
			}
			people, present, watchers := s.roster.changes()
			if len(people) == reported || len(watchers) == reported {
				s.roster.again()
			}
			next, err = s.tell(ctx, func(ctx context.Context) (*float64, error) { return s.store.report(ctx, people, present, watchers) })
		case <-timer.C:
			next, err = s.tell(ctx, s.store.settle)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("presence is told late", "error", err)
			timer.Reset(s.opt.Beat)
		case next != nil:
			timer.Reset(max(10*time.Millisecond, time.Duration(*next*float64(time.Second))))
		}
	}
}

func (r *roster) again() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (s *Server) tell(ctx context.Context, ask func(context.Context) (*float64, error)) (*float64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.OpenTimeout)
	defer cancel()
	return ask(ctx)
}
