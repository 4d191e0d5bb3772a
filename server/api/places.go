package api

import (
	"context"
	"slices"
	"sync"
	"time"
)

// places decide which call may use a connection of the pool next, so that one tenant's calls never keep the others waiting.
//
// Who pays. Each call is charged to a person (anonymous ones: to an address) and to the organization they act in, with the time that it
// held its place. The next free place goes to the call whose dearer account has used the least: many tokens of a person, many
// organizations of a person and many people of an organization are one share each. An account that was idle begins where the others are,
// neither with savings nor with debts of long ago. Within an account the calls of each operation stand in a line of their own, and the
// line that used the least is next: what hangs on a locked table does not hold up what needs another one.
//
// Who waits for whom. A call cannot be interrupted, so a fair order alone would have a quick call wait for the end of slow ones. Calls are
// therefore of three grades by what their line took of late: quick, slow, endless. Slow and endless ones may take a part of the places only; a
// call that turns out to be slower than was thought changes its grade while it runs, and frees its quick place. One tenant never fills
// a grade above the first: one more place of it is for an account that has none there. So a quick call always finds a place within
// moments, and a slow one does not have to wait for a single other account.
//
// Where all calls of late are one tenant's, the slow ones may take all places, as long as quick ones have theirs.
//
// Reads and writes are counted apart: a read keeps a processor busy, while a write mostly waits for the disk, and many share one flush.
// The grades follow from times, which a network between server and database would make longer; the quickest call of late is taken off.
//
// Everything is bounded: the calls in all, the waiting calls of one account and in all (the account that waits most gives way), and what is
// remembered, which is forgotten after some seconds without a call.
type places struct {
	mu       sync.Mutex
	free     int // connections that calls may still take
	clock    time.Duration
	kinds    [2]kind
	waiting  int
	accounts [2]map[accountKey]*account // this period's and the last one's
	turned   time.Time
	latest   accountKey // the tenant of the latest call
	mixed    time.Time  // when a call of another tenant than the one before came
	alone    bool       // that was long ago
	timer    *time.Timer
	due      time.Time // when the timer rings; zero: it does not
}

const (
	quick = iota
	slow
	endless
	grades
)

// limits are the times from which a call counts as slow and as endless; writes may wait for a disk.
var gradeLimits = [2][grades - 1]time.Duration{{10 * time.Millisecond, 400 * time.Millisecond}, {100 * time.Millisecond, time.Second}}

const (
	kindRead = iota
	kindWrite
)

const (
	// memory is how long accounts and lines without a call are remembered, at least.
	memory = 10 * time.Second
	// maxWaitingOf and maxWaiting bound the calls that wait for a place: of one account, and in all.
	maxWaitingOf, maxWaiting = 512, 4096
	// maxAccounts ends a period early.
	maxAccounts = 20_000
)

// kind is what reads, or writes, may take.
type kind struct {
	places   int // calls at a time; half of them remain for quick ones
	slow     int // calls of each grade above quick
	most     int // connections, with calls that turned out to be slower than was thought
	limits   [grades - 1]time.Duration
	running  []*ticket // in the order of their beginning
	count    [grades]int
	lines    []*line // those with waiting calls
	quickest [2]time.Duration
}

// accountKey names an account: 'u' a person, 'o' an organization, 'a' an address, 's' the service itself.
type accountKey struct {
	kind byte
	id   string
}

type account struct {
	key     accountKey
	used    time.Duration // what was charged, on the clock of the places
	running [2][grades]int
	calls   int // running and waiting
	waiting int
	lines   map[lineKey]*line // of a person, not of an organization
	served  time.Duration     // what the line that was served last had used
	// expected is what calls of a person take, by kind: what is thought of a line of theirs that is not known.
	expected [2]time.Duration
	at       time.Time // when the last of them ended
}

type lineKey struct {
	organization accountKey
	sql          string
	kind         int
}

// line is the calls of one operation by one person in one organization.
type line struct {
	person, organization *account // organization may be nil
	sql                  string
	kind                 int
	used                 time.Duration
	expected             time.Duration
	known                bool // a call has run of late
	at                   time.Time
	queue                []*ticket
}

// ticket is one call.
type ticket struct {
	line    *line
	grade   int
	charged time.Duration
	began   time.Time
	// granted is closed when a waiting call has got its place, or has to give way (then the line is nil).
	granted chan struct{}
	held    bool
}

// newPlaces shares out a pool of a size; reads is how many calls that only read should run at once.
func newPlaces(size, reads int) *places {
	// What goes past the places (sockets, health, the sessions' last use) finds a connection even while calls hang.
	connections := size - size/16
	p := &places{free: connections, turned: time.Now()}
	p.accounts[0], p.accounts[1] = map[accountKey]*account{}, map[accountKey]*account{}
	// Neither reads nor writes can take all connections, and both leave some to go on with when all places hang.
	most := connections - connections/8
	writes := max(1, most-1)
	reads = min(reads, writes)
	p.kinds[kindRead] = kind{places: reads, slow: max(1, reads/2), most: max(reads, connections/2), limits: gradeLimits[kindRead]}
	p.kinds[kindWrite] = kind{places: writes, slow: max(1, writes/2), most: most, limits: gradeLimits[kindWrite]}
	return p
}

// take waits for a place. The caller gives it back with leave.
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
		return nil, crowded(nil)
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
		return nil, crowded(nil)
	case t.held && ctx.Err() == nil:
		return t, nil
	case t.held:
		p.finish(t, time.Now(), false)
	default:
		p.withdraw(t)
	}
	return nil, crowded(ctx.Err())
}

// notice notes whether tenants call side by side. What the service does by itself is nobody's.
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

// leave gives a place back. learned says that the call has run, so that its time tells something about its line.
func (p *places) leave(t *ticket, learned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish(t, time.Now(), learned)
}

func crowded(cause error) *Problem {
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
		// The organization may have been forgotten, the person not.
		l.organization = p.accountOf(organization)
	}
	if now.Sub(l.at) > memory {
		// Whose calls are slow begins with slow ones elsewhere too, or new operations and organizations would always find quick places.
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

// turn forgets accounts and lines that had no call for a whole period, and what was quickest before it.
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

// enter makes a call known to its accounts. Idle ones join where the clock is.
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

// count notes waiting calls that came or went.
func (p *places) count(l *line, n int) {
	p.waiting += n
	l.accounts(func(a *account) { a.waiting += n })
}

// base is what a call takes at least, by the quickest ones of late.
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

// gradeOf is what the next call of a line is thought to be. While more calls of the same operation hang than may be slow at a time, the rest
// of them is thought to hang as well, whoever calls.
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

// mayStart says whether the next call of a line would find a place now.
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

// start gives a call its place, and charges it with what it will probably take.
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

// shift counts a running call in a grade, or no more.
func (p *places) shift(t *ticket, grade, n int) {
	p.kinds[t.line.kind].count[grade] += n
	t.line.accounts(func(a *account) { a.running[t.line.kind][grade] += n })
}

func (p *places) charge(l *line, d time.Duration) {
	l.used += d
	l.accounts(func(a *account) { a.used += d })
}

// finish ends a call and lets others in.
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
		// How long an endless one took does not matter.
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

// learn moves an expectation up quickly and down bit by bit.
func learn(expected *time.Duration, took time.Duration) {
	if took > *expected {
		*expected = (*expected + took) / 2
	} else {
		*expected -= (*expected - took) / 8
	}
}

// settle moves running calls to the grade that their time has come to.
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

// dispatch starts waiting calls as long as one finds a place.
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

// before says whose turn it is: the accounts' by the dearer one, the person's in the organization, the line's of the person.
func (l *line) before(o *line) bool {
	if a, b := l.dearer(), o.dearer(); a != b {
		return a < b
	}
	if l.person.used != o.person.used {
		return l.person.used < o.person.used
	}
	return l.used < o.used
}

// unqueue takes a waiting call out of its line.
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

// withdraw ends a call that did not get its place.
func (p *places) withdraw(t *ticket) {
	p.unqueue(t, slices.Index(t.line.queue, t))
	t.line.accounts(func(a *account) { a.calls-- })
}

// makeRoom says whether one more call of a line may wait. Where no more may wait in all, the newest call of the account that waits most
// gives way to one that waits less.
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

// arm looks again when a running call will have changed its grade, where somebody waits for that.
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
	// Too early does no harm: it is armed again then. Setting it at each call would cost more than all else here.
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
