package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/server/realtime"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// The rules of 30-realtime 6.1, on real transactions.

func TestRealtimeOrder(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	ann := l.actor()
	ctx := context.Background()

	t.Run("EmittedInOneOrderCommittedInTheOther", func(t *testing.T) {
		n := l.node()
		project := ann.project("private")
		w := n.watch(ann, project, "")
		w.expect("hello")
		early, late := l.begin(), l.begin()
		_, err := early.Exec(ctx, emitSQL, project, "error", `{"who": "early"}`)
		require.NoError(t, err)
		_, err = late.Exec(ctx, emitSQL, project, "error", `{"who": "late"}`)
		require.NoError(t, err)
		require.NoError(t, late.Commit(ctx))
		first := w.expect("error")
		require.Equal(t, "late", first.field(t, "who"), "nobody waits for the transaction that is open")
		require.NoError(t, early.Commit(ctx))
		second := w.expect("error")
		require.Equal(t, "early", second.field(t, "who"))
		require.Less(t, number(t, first.ID), number(t, second.ID))
	})

	t.Run("TwoTransactionsOnOneRowEndWithItsLastValue", func(t *testing.T) {
		n := l.node()
		project := ann.project("private")
		run := l.run(project)
		n.reached()
		w := n.watch(ann, project, "snapshot=false")
		w.expect("hello")
		older, newer := l.begin(), l.begin()
		// The older transaction has its id (and a snapshot of its own) before the newer one begins to write.
		_, err := older.Exec(ctx, `select pg_current_xact_id()`)
		require.NoError(t, err)
		_, err = newer.Exec(ctx, `update public.ingestion_runs set percent = 10 where id = $1`, run)
		require.NoError(t, err)
		require.NoError(t, newer.Commit(ctx))
		_, err = older.Exec(ctx, `update public.ingestion_runs set percent = 20 where id = $1`, run)
		require.NoError(t, err)
		require.NoError(t, older.Commit(ctx))
		var last wire
		for last.ID == "" || last.field(t, "progressPercent") != 20.0 {
			f := w.expect("progress_update")
			if last.ID != "" {
				require.Less(t, number(t, last.ID), number(t, f.ID))
			}
			last = f
		}
		require.Empty(t, w.barrier())
	})

	t.Run("AnOpenWriterDelaysOnlyItsOwnEvents", func(t *testing.T) {
		n := l.node()
		project := ann.project("private")
		w := n.watch(ann, project, "")
		w.expect("hello")
		with, without := l.begin(), l.begin()
		_, err := with.Exec(ctx, emitSQL, project, "error", `{"who": "open"}`)
		require.NoError(t, err)
		_, err = without.Exec(ctx, `update public.users set timezone = 'Europe/Amsterdam' where id = $1`, ann.user)
		require.NoError(t, err)
		for i := range 20 {
			began := time.Now()
			l.emit(project, "error", fmt.Sprintf(`{"who": "%d"}`, i))
			require.Equal(t, strconv.Itoa(i), w.expect("error").field(t, "who"))
			require.Less(t, time.Since(began), 5*time.Second)
		}
		require.NoError(t, without.Rollback(ctx))
		require.NoError(t, with.Commit(ctx))
		require.Equal(t, "open", w.expect("error").field(t, "who"))
	})

	t.Run("AHungSequencerHoldsNoLock", func(t *testing.T) {
		n := l.node()
		project := ann.project("private")
		w := n.watch(ann, project, "")
		w.expect("hello")
		// A process that numbered events and then hangs: its statement has ended, so its lock is released.
		hung := l.db.Connect("kijko_server")
		_, err := hung.Exec(ctx, `select private.sequence_events()`)
		require.NoError(t, err)
		l.emit(project, "error", `{}`)
		w.expect("error")
	})
}

func number(t testing.TB, id string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(id, 10, 64)
	require.NoError(t, err)
	return n
}

// Many writers run transactions of random length, a third of them rolled back. Readers disconnect and resume all the time, on two servers
// of which one is restarted. Each reader receives each committed event exactly once and in order.
func TestRealtimeManyWriters(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	ctx := context.Background()
	ann := l.actor()
	project := ann.project("private")
	a, b := l.node(), l.node()
	const writers, each = 16, 40

	var mu sync.Mutex
	committed := map[string]bool{}
	lastOf := map[int]int{}
	var writing sync.WaitGroup
	for i := range writers {
		conn := l.db.Connect("postgres")
		writing.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for j := range each {
				key := fmt.Sprintf("%d/%d", i, j)
				if writeOne(ctx, t, conn, random, project, key) {
					mu.Lock()
					committed[key], lastOf[i] = true, j
					mu.Unlock()
				}
			}
		})
	}

	type reading struct {
		ids  []int64
		keys []string
	}
	read := func(start *node, stop <-chan struct{}) reading {
		var r reading
		cursor, at := "0", start
		other := map[*node]*node{a: b, b: a}
		for {
			// Events committed before stop are replayed to a socket that opens after it.
			last := false
			select {
			case <-stop:
				last = true
			default:
			}
			w, _, err := at.tryOpen(project, dial{query: "token=" + ann.token() + "&lastEventId=" + cursor})
			if err != nil {
				at = other[at]
				continue
			}
			ended := consume(w, last, stop, func(f wire) {
				r.ids = append(r.ids, number(t, f.ID))
				r.keys = append(r.keys, f.field(t, "key").(string))
				cursor = f.ID
			})
			_ = w.conn.Close()
			if ended {
				return r
			}
			at = other[at]
		}
	}
	stop := make(chan struct{})
	results := make([]reading, 2)
	var readingDone sync.WaitGroup
	readingDone.Go(func() { results[0] = read(a, stop) })
	readingDone.Go(func() { results[1] = read(b, stop) })
	time.Sleep(100 * time.Millisecond)
	b.stop() // stop in the middle
	writing.Wait()
	a.reached()
	close(stop)
	readingDone.Wait()

	require.NotEmpty(t, committed)
	for _, r := range results {
		require.Empty(t, missing(committed, r.keys), "committed and never delivered")
		seen := map[string]bool{}
		lastBy := map[string]int{}
		for i, key := range r.keys {
			require.True(t, committed[key], "%s was rolled back", key)
			require.False(t, seen[key], "%s came twice", key)
			seen[key] = true
			if i > 0 {
				require.Less(t, r.ids[i-1], r.ids[i])
			}
			var writer string
			var n int
			_, err := fmt.Sscanf(key, "%d/%d", new(int), &n)
			require.NoError(t, err)
			writer = key[:len(key)-len(strconv.Itoa(n))-1]
			if last, ok := lastBy[writer]; ok {
				require.Less(t, last, n, "one writer's transactions follow one another")
			}
			lastBy[writer] = n
		}
	}
}

func missing(want map[string]bool, got []string) []string {
	have := map[string]bool{}
	for _, key := range got {
		have[key] = true
	}
	var out []string
	for key := range want {
		if !have[key] {
			out = append(out, key)
		}
	}
	return out
}

// writeOne emits one event in a transaction of random length and reports whether it was committed.
func writeOne(ctx context.Context, t *testing.T, conn *pgx.Conn, random *rand.Rand, project, key string) bool {
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Errorf("begin: %v", err)
		return false
	}
	if random.IntN(2) == 0 {
		_, err = tx.Exec(ctx, `select set_config('app.wakes', 'on', true)`)
	}
	if err == nil {
		_, err = tx.Exec(ctx, emitSQL, project, "error", `{"key": "`+key+`"}`)
	}
	if err != nil {
		t.Errorf("emit: %v", err)
		return false
	}
	time.Sleep(time.Duration(random.IntN(15)) * time.Millisecond)
	if random.IntN(3) == 0 {
		_ = tx.Rollback(ctx)
		return false
	}
	if err := tx.Commit(ctx); err != nil {
		t.Errorf("commit: %v", err)
		return false
	}
	return true
}

// consume takes 30 events, or fewer when the socket ends or stop is closed. The last time it takes everything that is replayed.
func consume(w *watcher, last bool, stop <-chan struct{}, take func(wire)) (complete bool) {
	if last {
		stop = nil
	}
	for n := 0; last || n < 30; {
		select {
		case f, ok := <-w.frames:
			switch {
			case !ok:
				return false
			case f.Type == "resumed" && last:
				return true
			case f.Type == "error":
				take(f)
				n++
			}
		case <-stop:
			return false
		}
	}
	return false
}

func TestRealtimeLostWakeUps(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	ann := l.actor()
	project := ann.project("private")

	t.Run("WithoutAnyNotificationEventsComeWithinFiveSeconds", func(t *testing.T) {
		n := l.node(func(o *realtime.Options) { o.Deaf = true })
		n.Waker().Mute(true)
		w := n.watch(ann, project, "")
		w.expect("hello")
		for range 3 {
			began := time.Now()
			l.emit(project, "error", `{}`)
			w.expect("error")
			require.Less(t, time.Since(began), 5*time.Second)
		}
		other := n.watch(ann, project, "")
		other.expect("hello")
		began := time.Now()
		l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, ann.session)
		for _, s := range []*watcher{w, other} {
			code, reason := s.closed()
			require.Equal(t, 4010, code)
			require.Equal(t, "Session revoked", reason)
		}
		require.Less(t, time.Since(began), 5*time.Second)
		ann.session = ann.signIn()
	})

	t.Run("TheListenersBackendIsTerminated", func(t *testing.T) {
		n := l.node()
		w := n.watch(ann, project, "")
		w.expect("hello")
		for i := range 30 {
			if i%10 == 5 {
				l.db.Exec(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
					and usename = 'kijko_server' and pid <> pg_backend_pid()`)
			}
			l.emit(project, "error", fmt.Sprintf(`{"i": %d}`, i))
		}
		for i := range 30 {
			require.EqualValues(t, i, w.expect("error").field(t, "i"))
		}
		require.Eventually(t, func() bool { return n.Check().Probe(context.Background()).Status == "healthy" }, stack.Patience, 50*time.Millisecond)
	})
}

func TestRealtimeRemovals(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()

	// Each case: which actor watches which project, what takes the access away, and what the watcher is sent.
	type scene struct {
		owner, guest *actor
		project      string
	}
	cases := []struct {
		name   string
		lose   string
		args   func(scene) []any
		code   int
		reason string
	}{
		{"ProjectMadePrivate", `update public.projects set privacy = 'private' where id = $1`,
			func(s scene) []any { return []any{s.project} }, 4004, "Project not found"},
		{"ProjectDeleted", `delete from public.projects where id = $1`,
			func(s scene) []any { return []any{s.project} }, 4004, "Project deleted"},
		{"RemovedFromTheOrganization", `delete from public.memberships where user_id = $1 and organization_id = $2`,
			func(s scene) []any { return []any{s.guest.user, s.owner.org} }, 4010, "Session revoked"},
		{"Deactivated", `update public.memberships set status = 'inactive' where user_id = $1 and organization_id = $2`,
			func(s scene) []any { return []any{s.guest.user, s.owner.org} }, 4010, "Session revoked"},
		{"SessionRevoked", `update private.sessions set revoked_at = now() where id = $1`,
			func(s scene) []any { return []any{s.guest.session} }, 4010, "Session revoked"},
		{"SessionDeleted", `delete from private.sessions where id = $1`,
			func(s scene) []any { return []any{s.guest.session} }, 4010, "Session revoked"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := scene{owner: l.actor(), guest: l.actor()}
			s.guest.joins(s.owner, "member")
			s.project = s.owner.project("shared")
			w := n.watch(s.guest, s.project, "")
			w.expect("hello")
			l.emit(s.project, "error", `{"when": "before"}`)
			require.Equal(t, "before", w.expect("error").field(t, "when"))

			// The removal and a later event are committed before any socket is notified of either.
			tx := l.begin()
			_, err := tx.Exec(context.Background(), `select set_config('app.wakes', 'on', true)`)
			require.NoError(t, err)
			_, err = tx.Exec(context.Background(), c.lose, c.args(s)...)
			require.NoError(t, err)
			require.NoError(t, tx.Commit(context.Background()))
			l.emit(s.project, "error", `{"when": "after"}`)

			code, reason := w.closed()
			require.Equal(t, c.code, code, reason)
			require.Equal(t, c.reason, reason)
			for _, f := range w.rest() {
				require.NotContains(t, string(f.Data), "after", "no event after the removal is delivered")
			}
		})
	}

	t.Run("WhoMayStillWatchStays", func(t *testing.T) {
		owner, guest := l.actor(), l.actor()
		guest.joins(owner, "member")
		project := owner.project("shared")
		mine, theirs := n.watch(owner, project, ""), n.watch(guest, project, "")
		mine.expect("hello")
		theirs.expect("hello")
		l.db.Exec(`update public.projects set privacy = 'private' where id = $1`, project)
		code, _ := theirs.closed()
		require.Equal(t, 4004, code)
		l.emit(project, "error", `{}`)
		mine.expect("error")
		l.db.Exec(`update public.memberships set role = 'admin' where user_id = $1 and organization_id = $2`, guest.user, owner.org)
		n.watch(guest, project, "").expect("hello")
		admin := n.watch(guest, project, "")
		admin.expect("hello")
		l.db.Exec(`update public.memberships set role = 'member' where user_id = $1 and organization_id = $2`, guest.user, owner.org)
		code, _ = admin.closed()
		require.Equal(t, 4004, code, "an administrator who is one no longer sees no private projects of others")
	})

	t.Run("NoAnswerIsNoPermission", func(t *testing.T) {
		m := l.node()
		owner := l.actor()
		project := owner.project("shared")
		w := m.watch(owner, project, "")
		w.expect("hello")
		l.db.Exec(`revoke execute on function private.recheck_sockets from kijko_server`)
		l.db.Exec(`update public.projects set privacy = 'private' where id = $1`, project)
		code, _ := w.closed()
		require.Equal(t, 1013, code)
		l.db.Exec(`grant execute on function private.recheck_sockets to kijko_server`)
		m.watch(owner, project, "").expect("hello")
	})
}

// A server that shuts down during the query about a removal has no answer. Its sockets are closed with the code of a restart, not of an outage.
func TestRealtimeEndsInTheMiddleOfAQuestion(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	owner := l.actor()
	project := owner.project("shared")
	w := n.watch(owner, project, "")
	w.expect("hello")
	l.db.Exec(`alter function private.recheck_sockets rename to recheck_sockets_in_time`)
	l.db.Exec(`create function private.recheck_sockets(uuid[], uuid[], uuid[], uuid[]) returns text[] language sql as 'select array[pg_sleep(60)::text]'`)
	l.db.Exec(`grant execute on function private.recheck_sockets to kijko_server`)
	l.db.Exec(`update public.projects set privacy = 'private' where id = $1`, project)
	require.Eventually(t, func() bool {
		return testdb.Value[bool](l.db, `select exists (select from pg_stat_activity where wait_event = 'PgSleep' and query like '%recheck_sockets%'
			and datname = current_database())`)
	}, stack.Patience, 10*time.Millisecond)
	n.stop()
	code, _ := w.closed()
	require.Equal(t, 1012, code)
}

// The events that sockets received are exactly those that a SELECT as that person shows.
func TestRealtimeAgreesWithRowLevelSecurity(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	random := rand.New(rand.NewPCG(7, 7))
	owner := l.actor()
	people := []*actor{owner}
	for _, role := range []string{"member", "admin", "viewer"} {
		p := l.actor()
		p.joins(owner, role)
		people = append(people, p)
	}
	guest := l.actor()
	people = append(people, guest, l.actor())
	projects := []string{owner.project("shared"), owner.project("private"), people[1].project("private")}
	l.db.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
		values ($1, $2, $3, 'guest@example.nl', 'viewer', now())`, owner.org, projects[1], guest.user)

	type pair struct {
		who     *actor
		project string
	}
	open := map[pair]*watcher{}
	for _, p := range people {
		for _, project := range projects {
			w := n.watch(p, project, "lastEventId=0")
			select {
			case f, ok := <-w.frames:
				if ok {
					require.Equal(t, "hello", f.Type)
					open[pair{p, project}] = w
				}
			case <-time.After(stack.Patience):
				require.FailNow(t, "neither hello nor close")
			}
		}
	}
	require.Greater(t, len(open), 8)
	require.Less(t, len(open), len(people)*len(projects))
	for range 120 {
		project := projects[random.IntN(len(projects))]
		audience := []string{"room", "project", "users", "activity"}[random.IntN(4)]
		actorID := people[random.IntN(len(people))].user
		l.db.Exec(`select set_config('app.user_id', $4, true), private.emit('project:' || $1::text, 'error', '{}', $2, $1::text::uuid, $3,
			p_users => array[$5::uuid])`, project, owner.org, audience, actorID, people[random.IntN(len(people))].user)
	}
	n.reached()
	check := func(p pair, frames []wire) {
		got := map[string]bool{}
		for _, f := range frames {
			if f.Type == "error" {
				got[f.ID] = true
			}
		}
		visible := p.who.selects(`select id::text, audience from public.events where room = 'project:' || $1::text and type = 'error'`, p.project)
		require.NotEmpty(t, visible)
		for id, audience := range visible {
			// The activity log is sent to readers of the context's room, which is another socket.
			if audience != "activity" {
				require.True(t, got[id], "%s of audience %s was not delivered", id, audience)
			}
		}
		for id := range got {
			require.Contains(t, visible, id, "delivered what the person may not see")
		}
	}
	for p, w := range open {
		check(p, w.barrier())
	}
	// The same when all sockets reconnect at once.
	var coming sync.WaitGroup
	again := map[pair][]wire{}
	var mu sync.Mutex
	for p := range open {
		token := p.who.token()
		coming.Go(func() {
			w, _, err := n.tryOpen(p.project, dial{query: "lastEventId=0&token=" + token})
			if err != nil {
				return
			}
			var frames []wire
			for f := range w.frames {
				if frames = append(frames, f); f.Type == "resumed" {
					break
				}
			}
			mu.Lock()
			defer mu.Unlock()
			again[p] = frames
		})
	}
	coming.Wait()
	require.Len(t, again, len(open))
	for p, frames := range again {
		check(p, frames)
	}
}

// selects runs a query of (id, audience) as the actor, under row-level security.
func (a *actor) selects(sql string, args ...any) map[string]string {
	a.live.t.Helper()
	ctx := context.Background()
	tx := a.live.begin()
	defer func() { _ = tx.Rollback(ctx) }()
	_, err := tx.Exec(ctx, `select private.enter($1, $2, $3, '', '', '')`, a.user, a.session, a.org)
	require.NoError(a.live.t, err)
	_, err = tx.Exec(ctx, `set local role authenticated`)
	require.NoError(a.live.t, err)
	rows, err := tx.Query(ctx, sql, args...)
	require.NoError(a.live.t, err)
	out := map[string]string{}
	var id, audience string
	_, err = pgx.ForEachRow(rows, []any{&id, &audience}, func() error {
		out[id] = audience
		return nil
	})
	require.NoError(a.live.t, err)
	return out
}

func TestRealtimeSubscribersCostNoReads(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node(func(o *realtime.Options) { o.Poll, o.Tick = time.Hour, time.Hour })
	ann := l.actor()
	project := ann.project("private")
	var watchers []*watcher
	for range 50 {
		w := n.watch(ann, project, "")
		w.expect("hello")
		watchers = append(watchers, w)
	}
	calls := func() int64 {
		return testdb.Value[int64](l.db, `select coalesce(sum(xact_commit), 0)::bigint from pg_stat_database where datname = current_database()`)
	}
	l.db.Exec(`select pg_stat_clear_snapshot()`)
	before := calls()
	for range 5 {
		l.emit(project, "error", `{}`)
	}
	for _, w := range watchers {
		for range 5 {
			w.expect("error")
		}
	}
	// A few transactions an event (write, number, notify, read), none a subscriber: 250 frames were delivered.
	require.Less(t, calls()-before, int64(100))
}

func TestRealtimeSockets(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	ann := l.actor()
	project := ann.project("private")

	t.Run("HalfOfTwoHundredLeaveAndTheOthersMissNothing", func(t *testing.T) {
		n := l.node()
		watchers := make([]*watcher, 200)
		query := "token=" + ann.token()
		var opening sync.WaitGroup
		for i := range watchers {
			opening.Go(func() { watchers[i], _, _ = n.tryOpen(project, dial{query: query}) })
		}
		opening.Wait()
		for _, w := range watchers {
			require.NotNil(t, w)
			w.expect("hello")
		}
		n.counted(200)
		var leaving sync.WaitGroup
		leaving.Go(func() {
			for i, w := range watchers {
				if i%2 == 0 {
					_ = w.conn.Close()
				}
			}
		})
		for i := range 20 {
			l.emit(project, "error", fmt.Sprintf(`{"i": %d}`, i))
		}
		leaving.Wait()
		for i, w := range watchers {
			if i%2 == 1 {
				for j := range 20 {
					require.EqualValues(t, j, w.expect("error").field(t, "i"))
				}
			}
		}
		n.counted(100)
		require.Eventually(t, func() bool {
			return testdb.Value[int64](l.db, `select count(*) from private.realtime_sockets`) == 100
		}, stack.Patience, 20*time.Millisecond, "the database knows who left")
	})

	t.Run("ASlowSocketIsCutAndDelaysNobody", func(t *testing.T) {
		n := l.node(func(o *realtime.Options) { o.WriteTimeout = 3 * time.Second })
		project := ann.project("private")
		quick := n.watch(ann, project, "")
		quick.expect("hello")
		slow := n.deafSocket(t, ann, project)
		defer func() { _ = slow.Close() }()
		n.counted(2)
		text := json.RawMessage(`{"errorMessage": "` + randomText(100_000) + `"}`)
		for range 120 {
			l.emit(project, "error", string(text))
			quick.expect("error")
		}
		require.Eventually(t, func() bool { return n.Stats().Closed[4009] == 1 }, stack.Patience, 10*time.Millisecond)
		n.counted(1)
		l.emit(project, "error", `{}`)
		quick.expect("error")
	})

	t.Run("WhoeverHasSaidFarewellIsClosedAtOnce", func(t *testing.T) {
		n := l.node(func(o *realtime.Options) { o.CloseTimeout = time.Hour })
		w := n.watch(ann, project, "")
		w.expect("hello")
		require.NoError(t, w.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second)))
		code, _ := w.closed()
		require.Equal(t, 1000, code)
		n.counted(0)
	})

	t.Run("RunEndsAndTellsEverybody", func(t *testing.T) {
		n := l.node()
		w := n.watch(ann, project, "")
		w.expect("hello")
		n.stop()
		code, _ := w.closed()
		require.Equal(t, 1012, code)
	})
}
