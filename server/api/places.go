package api

import (
	"context"
	"slices"
	"sync"
	"time"
)

// places are the slots for database calls. They decide which call may use a connection of the pool next, so that one tenant's calls never
// keep other tenants waiting.
//
// Accounting. Each call is charged to a user (an anonymous call: to an address) and to the organization that the user acts in, with the
// time that it held its slot. The next free slot goes to the call whose dearer account has used the least. So many tokens of a user, many
// organizations of a user and many users of an organization are one share each. An account that was idle starts at the current clock of the
// others, with neither credit nor debt from earlier. Within an account the calls of each operation wait in a separate queue (line), and the
// line that used the least is next: calls that hang on a locked table do not hold up calls that need another table.
//
// Grades. A running call cannot be interrupted, so with a fair order alone a quick call would wait for the end of slow ones. Calls
// therefore have three grades by the recent durations of their line: quick, slow, endless. Slow and endless calls may take only a part of
// the slots. A call that turns out to be slower than expected changes its grade while it runs, and frees its quick slot. One tenant never
// fills a grade above quick: one extra slot of the grade is reserved for an account without a call in it. So a quick call always finds a
// slot within moments, and a slow call does not have to wait for a single other account.
//
// When all recent calls belong to one tenant, its slow calls may take all slots that are not reserved for quick ones.
//
// Reads and writes are counted separately: a read keeps a processor busy, while a write mostly waits for the disk, and many share one
// flush. The grades follow from durations. A network between server and database would lengthen them, so the quickest recent duration is
// subtracted.
//
// Everything is bounded: the calls in all, the waiting calls of one account and in all (a call of the account with the most waiting calls
// gives way), and the stored accounts and lines, which are dropped after some seconds without a call.
type places struct {
	mu       sync.Mutex
	free     int // connections that calls may still take
	clock    time.Duration
	kinds    [2]kind
	waiting  int
	accounts [2]map[accountKey]*account // of the current period and of the previous one
	turned   time.Time
	latest   accountKey // the tenant of the latest call
	mixed    time.Time  // when a call came from another tenant than the call before
	alone    bool       // mixed was long ago
	timer    *time.Timer
	due      time.Time // when the timer fires; zero: it is not set
}

const (
	quick = iota
	slow
	endless
	grades
)

// limits are the durations from which a call counts as slow and as endless; writes may wait for a disk.
var gradeLimits = [2][grades - 1]time.Duration{{10 * time.Millisecond, 400 * time.Millisecond}, {100 * time.Millisecond, time.Second}}

const (
	kindRead = iota
	kindWrite
)

const (
	// memory is how long accounts and lines without a call are kept, at least.
	memory = 10 * time.Second
	// maxWaitingOf and maxWaiting bound the calls that wait for a slot: of one account, and in all.
	maxWaitingOf, maxWaiting = 512, 4096
	// maxAccounts ends a period early.
	maxAccounts = 20_000
)

// kind holds the slots of reads, or of writes.
type kind struct {
	places   int // calls at a time; half of them remain for quick ones
	slow     int // calls of each grade above quick
	most     int // connections, including calls that turned out to be slower than expected
	limits   [grades - 1]time.Duration
	running  []*ticket // in order of their start
	count    [grades]int
	lines    []*line // those with waiting calls
	quickest [2]time.Duration
}

// accountKey names an account: 'u' a user, 'o' an organization, 'a' an address, 's' the service itself.
type accountKey struct {
	kind byte
	id   string
}

type account struct {
	key     accountKey
	used    time.Duration // the charged time, on the clock of the places
	running [2][grades]int
	calls   int // running and waiting
	waiting int
	lines   map[lineKey]*line // of a user, not of an organization
	served  time.Duration     // the used time of the line that was served last
	// expected is the expected duration of a user's calls, by kind. It is used for a line without recent calls.
	expected [2]time.Duration
	at       time.Time // when the last of them ended
}

type lineKey struct {
	organization accountKey
	sql          string
	kind         int
}

// line is the queue for the calls of one operation by one user in one organization.
type line struct {
	person, organization *account // organization may be nil
	sql                  string
	kind                 int
	used                 time.Duration
	expected             time.Duration
	known                bool // a call has run recently
	at                   time.Time
	queue                []*ticket
}

// ticket is one call.
type ticket struct {
	line    *line
	grade   int
	charged time.Duration
	began   time.Time
	// granted is closed when a waiting call has got its slot, or has to give way (then the line is nil).
	granted chan struct{}
	held    bool
}

// newPlaces divides a pool of a size. reads is how many read-only calls should run at once.
func newPlaces(size, reads int) *places {
	// Queries that do not use the slots (sockets, health, the sessions' last use) find a connection even while calls hang.
	connections := size - size/16
	p := &places{free: connections, turned: time.Now()}
	p.accounts[0], p.accounts[1] = map[accountKey]*account{}, map[accountKey]*account{}
	// Neither reads nor writes can take all connections, and both leave some in reserve when all slots hang.
	most := connections - connections/8
	writes := max(1, most-1)
	reads = min(reads, writes)
	p.kinds[kindRead] = kind{places: reads, slow: max(1, reads/2), most: max(reads, connections/2), limits: gradeLimits[kindRead]}
	p.kinds[kindWrite] = kind{places: writes, slow: max(1, writes/2), most: most, limits: gradeLimits[kindWrite]}
	return p
}

// take waits for a slot. The caller returns it with leave.
func (p *places) take(ctx context.Context, person, organization accountKey, sql string, kind int) (*ticket, error) {
	p.mu.Lock()
	now := time.Now()
	p.notice(now, person, organization)
	p.settle(now)
	p.dispatch(now)
	l := p.lineOf(now, person, organization, sql, kind)
	t := &ticket{line: l}
	if len(l.queue) == 0 && p.mayStart(l) {
		p.enter(l)
		p.start(t, now)
		p.mu.Unlock()
		return t, nil
	}
	if !p.makeRoom(l) {
		p.mu.Unlock()
		return nil, busy(nil)
	}
	p.enter(l)
	t.granted = make(chan struct{})
	if len(l.queue) == 0 {
		k := &p.kinds[kind]
		k.lines = append(k.lines, l)
	}
	l.queue = append(l.queue, t)
	p.count(l, 1)
	p.arm(now)
	p.mu.Unlock()

	select {
	case <-t.granted:
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case t.line == nil:
		return nil, busy(nil)
	case t.held && ctx.Err() == nil:
		return t, nil
	case t.held:
		p.finish(t, time.Now(), false)
	default:
		p.withdraw(t)
	}
	return nil, busy(ctx.Err())
}

// notice records whether several tenants call at the same time. Calls of the service itself belong to no tenant.
func (p *places) notice(now time.Time, person, organization accountKey) {
	tenant := organization
	if tenant.id == "" {
		tenant = person
	}
	if tenant != p.latest && tenant.kind != 's' {
		if p.latest.kind != 0 {
			p.mixed = now
		}
		p.latest = tenant
	}
	p.alone = now.Sub(p.mixed) > memory
}

// leave returns a slot. learned says that the call has run, so that its duration updates the expectation of its line.
func (p *places) leave(t *ticket, learned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish(t, time.Now(), learned)
}

func busy(cause error) *Problem {
	return Unavailable("SERVICE_UNAVAILABLE", "Too many requests are waiting at the moment. Please try again.", cause)
}

// lineOf finds or makes the line of a call, and its accounts.
func (p *places) lineOf(now time.Time, person, organization accountKey, sql string, kind int) *line {
	if now.Sub(p.turned) > memory || len(p.accounts[0]) > maxAccounts {
		p.turn(now)
	}
	a := p.accountOf(person)
	key := lineKey{organization, sql, kind}
	l := a.lines[key]
	if l == nil {
		l = &line{person: a, sql: sql, kind: kind}
		a.lines[key] = l
	}
	if organization.id != "" {
		// The organization may have been dropped while the user was not.
		l.organization = p.accountOf(organization)
	}
	if now.Sub(l.at) > memory {
		// A new line of a user whose calls are slow starts as slow too. Otherwise new operations and organizations would always find quick
		// slots.
		k := &p.kinds[kind]
		if now.Sub(a.at) > memory {
			a.expected = [2]time.Duration{}
		}
		l.known, l.expected = false, min(a.expected[kind], k.base()+k.limits[quick])
	}
	l.at = now
	return l
}

func (p *places) accountOf(key accountKey) *account {
	a := p.accounts[0][key]
	if a != nil {
		return a
	}
	if a = p.accounts[1][key]; a == nil {
		a = &account{key: key, lines: map[lineKey]*line{}}
	}
	p.accounts[0][key] = a
	return a
}

// turn drops accounts and lines that had no call for a whole period, and the quickest duration before it.
func (p *places) turn(now time.Time) {
	for key, a := range p.accounts[1] {
		if a.calls > 0 {
			p.accounts[0][key] = a
		}
	}
	p.accounts[1], p.accounts[0] = p.accounts[0], map[accountKey]*account{}
	for _, a := range p.accounts[1] {
		for key, l := range a.lines {
			if len(l.queue) == 0 && now.Sub(l.at) > memory {
				delete(a.lines, key)
			}
		}
	}
	for i := range p.kinds {
		k := &p.kinds[i]
		k.quickest[1], k.quickest[0] = k.quickest[0], 0
	}
	p.turned = now
}

// enter registers a call with its accounts. Idle accounts start at the current clock.
func (p *places) enter(l *line) {
	if l.person.calls == 0 {
		l.person.used = max(l.person.used, p.clock)
	}
	l.person.calls++
	if l.organization != nil {
		if l.organization.calls == 0 {
			l.organization.used = max(l.organization.used, p.clock)
		}
		l.organization.calls++
	}
	if len(l.queue) == 0 {
		l.used = max(l.used, l.person.served)
	}
}

func (l *line) accounts(each func(*account)) {
	each(l.person)
	if l.organization != nil {
		each(l.organization)
	}
}

// count updates the number of waiting calls.
func (p *places) count(l *line, n int) {
	p.waiting += n
	l.accounts(func(a *account) { a.waiting += n })
}

// base returns the least duration of a call, from the quickest recent ones.
func (k *kind) base() time.Duration {
	switch {
	case k.quickest[0] == 0:
		return k.quickest[1]
	case k.quickest[1] == 0:
		return k.quickest[0]
	}
	return min(k.quickest[0], k.quickest[1])
}

func (k *kind) gradeOf(took time.Duration) int {
	took -= k.base()
	for g, limit := range k.limits {
		if took < limit {
			return g
		}
	}
	return endless
}

// gradeOf returns the expected grade of a line's next call. If more calls of its operation hang than there are slow slots, all further
// calls of the operation are expected to hang as well, for every caller.
func (p *places) gradeOf(l *line) int {
	k := &p.kinds[l.kind]
	g := k.gradeOf(l.expected)
	if g == endless || k.count[slow]+k.count[endless] <= k.slow {
		return g
	}
	hanging := 0
	for _, t := range k.running {
		if t.grade > quick && t.line.sql == l.sql {
			hanging++
		}
	}
	if hanging > k.slow {
		return endless
	}
	return g
}

// mayStart reports whether the next call of a line would find a slot now.
func (p *places) mayStart(l *line) bool {
	k := &p.kinds[l.kind]
	busy := len(k.running)
	if p.free == 0 || busy >= k.most {
		return false
	}
	g := p.gradeOf(l)
	if g == quick {
		return busy < k.places || k.count[quick] < max(1, k.places/2)
	}
	if k.count[g] < k.slow || p.alone {
		return busy < k.places
	}
	first := true
	l.accounts(func(a *account) { first = first && a.running[l.kind][g] == 0 })
	return first && k.count[g] == k.slow
}

// start gives a call its slot, and charges it with its expected duration.
func (p *places) start(t *ticket, now time.Time) {
	l := t.line
	k := &p.kinds[l.kind]
	t.grade, t.began, t.charged, t.held = p.gradeOf(l), now, l.expected, true
	p.clock = max(p.clock, l.dearer())
	l.person.served = l.used
	p.charge(l, t.charged)
	p.free--
	k.running = append(k.running, t)
	p.shift(t, t.grade, 1)
}

// shift adds a running call to a grade, or removes it.
func (p *places) shift(t *ticket, grade, n int) {
	p.kinds[t.line.kind].count[grade] += n
	t.line.accounts(func(a *account) { a.running[t.line.kind][grade] += n })
}

func (p *places) charge(l *line, d time.Duration) {
	l.used += d
	l.accounts(func(a *account) { a.used += d })
}

// finish ends a call and starts waiting ones.
func (p *places) finish(t *ticket, now time.Time, learned bool) {
	l := t.line
	k := &p.kinds[l.kind]
	took := now.Sub(t.began)
	if i := slices.Index(k.running, t); i >= 0 {
		k.running = slices.Delete(k.running, i, i+1)
	}
	p.shift(t, t.grade, -1)
	p.free++
	p.charge(l, took-t.charged)
	l.accounts(func(a *account) { a.calls-- })
	if learned {
		if k.quickest[0] == 0 || took < k.quickest[0] {
			k.quickest[0] = took
		}
		// The exact duration of an endless call does not matter.
		took = min(took, 2*k.limits[len(k.limits)-1])
		learn(&l.person.expected[l.kind], took)
		if l.known {
			learn(&l.expected, took)
		} else {
			l.known, l.expected = true, took
		}
		l.at, l.person.at = now, now
	}
	p.settle(now)
	p.dispatch(now)
}

// learn moves an expectation up quickly and down slowly.
func learn(expected *time.Duration, took time.Duration) {
	if took > *expected {
		*expected = (*expected + took) / 2
	} else {
		*expected -= (*expected - took) / 8
	}
}

// settle moves running calls to the grade that matches their duration so far.
func (p *places) settle(now time.Time) {
	for i := range p.kinds {
		for _, t := range p.kinds[i].running {
			took := now.Sub(t.began)
			if g := p.kinds[i].gradeOf(took); g > t.grade {
				p.shift(t, t.grade, -1)
				t.grade = g
				p.shift(t, g, 1)
				t.line.expected, t.line.at = max(t.line.expected, took), now
			}
		}
	}
}

// dispatch starts waiting calls while one of them finds a slot.
func (p *places) dispatch(now time.Time) {
	for p.waiting > 0 && p.free > 0 {
		var next *line
		for i := range p.kinds {
			for _, l := range p.kinds[i].lines {
				if (next == nil || l.before(next)) && p.mayStart(l) {
					next = l
				}
			}
		}
		if next == nil {
			break
		}
		t := next.queue[0]
		p.unqueue(t, 0)
		p.start(t, now)
		close(t.granted)
	}
	p.arm(now)
}

func (l *line) dearer() time.Duration {
	if l.organization == nil {
		return l.person.used
	}
	return max(l.person.used, l.organization.used)
}

// before reports which line is next: first by the dearer account, then by the user's time in the organization, then by the line's own time.
func (l *line) before(o *line) bool {
	if a, b := l.dearer(), o.dearer(); a != b {
		return a < b
	}
	if l.person.used != o.person.used {
		return l.person.used < o.person.used
	}
	return l.used < o.used
}

// unqueue removes a waiting call from its line.
func (p *places) unqueue(t *ticket, at int) {
	l := t.line
	l.queue = slices.Delete(l.queue, at, at+1)
	p.count(l, -1)
	if len(l.queue) == 0 {
		k := &p.kinds[l.kind]
		i := slices.Index(k.lines, l)
		k.lines[i] = k.lines[len(k.lines)-1]
		k.lines[len(k.lines)-1] = nil
		k.lines = k.lines[:len(k.lines)-1]
	}
}

// withdraw ends a call that did not get its slot.
func (p *places) withdraw(t *ticket) {
	p.unqueue(t, slices.Index(t.line.queue, t))
	t.line.accounts(func(a *account) { a.calls-- })
}

// makeRoom reports whether one more call of a line may wait. When the queue is full, the newest call of the account with the most waiting
// calls gives way to a call of an account with fewer.
func (p *places) makeRoom(l *line) bool {
	if l.person.waiting >= maxWaitingOf || l.organization != nil && l.organization.waiting >= 2*maxWaitingOf {
		return false
	}
	if p.waiting < maxWaiting {
		return true
	}
	var most *line
	for i := range p.kinds {
		for _, o := range p.kinds[i].lines {
			if most == nil || o.person.waiting > most.person.waiting || o.person == most.person && len(o.queue) > len(most.queue) {
				most = o
			}
		}
	}
	if most == nil || most.person.waiting <= l.person.waiting+1 {
		return false
	}
	last := most.queue[len(most.queue)-1]
	p.withdraw(last)
	last.line = nil
	close(last.granted)
	return true
}

// arm sets the timer to the moment at which a running call changes its grade, if another call waits for that.
func (p *places) arm(now time.Time) {
	if p.waiting == 0 {
		return
	}
	var next time.Duration
	for i := range p.kinds {
		k := &p.kinds[i]
		if len(k.lines) == 0 {
			continue
		}
		for _, t := range k.running {
			if t.grade == endless {
				continue
			}
			left := t.began.Add(k.base() + k.limits[t.grade]).Sub(now)
			if next == 0 || left < next {
				next = max(left, time.Millisecond)
			}
		}
	}
	// A timer that fires too early does no harm: it is set again then. Setting it at each call would cost more than everything else here.
	due := now.Add(next)
	if next == 0 || !p.due.IsZero() && !due.Before(p.due) {
		return
	}
	p.due = due
	if p.timer == nil {
		p.timer = time.AfterFunc(next, p.look)
	} else {
		p.timer.Reset(next)
	}
}

func (p *places) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.due = time.Time{}
	p.settle(now)
	p.dispatch(now)
}
