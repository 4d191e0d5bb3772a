package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/server/realtime"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// crowd is a group of writers with transactions of random length, a third of them rolled back, into several rooms. It records the committed
// events.
type crowd struct {
	rooms []string

	mu        sync.Mutex
	committed map[string][]string // keys by room
	wrote     atomic.Int64
}

// write makes n transactions over conn. When the database goes away, the write is lost, or its outcome is unknown. It is retried under
// another key.
func (c *crowd) write(ctx context.Context, dsn string, writer, n int) {
	random := rand.New(rand.NewPCG(uint64(writer), 5))
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}()
	for j := 0; j < n && ctx.Err() == nil; j++ {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, dsn); err != nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
		}
		c.transaction(ctx, conn, random, writer, j)
	}
}

func (c *crowd) transaction(ctx context.Context, conn *pgx.Conn, random *rand.Rand, writer, n int) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return
	}
	if random.IntN(2) == 0 {
		_, err = tx.Exec(ctx, `select set_config('app.wakes', 'on', true)`)
	}
	told := map[string]string{}
	for k := range 1 + random.IntN(3) {
		room := c.rooms[random.IntN(len(c.rooms))]
		key := fmt.Sprintf("%d/%d/%d", writer, n, k)
		if err == nil {
			_, err = tx.Exec(ctx, `select private.emit($1, 'note', jsonb_build_object('key', $2::text), null)`, room, key)
		}
		told[key] = room
		time.Sleep(time.Duration(random.IntN(4)) * time.Millisecond)
	}
	if err != nil || random.IntN(3) == 0 {
		_ = tx.Rollback(ctx)
		return
	}
	if tx.Commit(ctx) != nil {
		return
	}
	c.wrote.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, room := range told {
		c.committed[room] = append(c.committed[room], key)
	}
}

// subscriber is a client that stays in its rooms as long as it can, on any server. It resumes each room from the largest id that it has of
// it.
type subscriber struct {
	own, others []string // rooms that a connection begins in, and those that it joins
	keys        map[string][]string
	seen        map[string]bool
	last        map[string]int64 // by room
	faults      []string
}

func newSubscriber(start int64, own []string, others ...string) *subscriber {
	s := &subscriber{own: own, others: others, keys: map[string][]string{}, seen: map[string]bool{}, last: map[string]int64{}}
	for _, room := range slices.Concat(own, others) {
		s.last[room] = start
	}
	return s
}

// take records a frame. Across connections delivery is at least once, so a known id is dropped, as a client does.
func (s *subscriber) take(f wire) {
	if f.Type != "note" || s.seen[f.ID] {
		return
	}
	var id int64
	if _, err := fmt.Sscan(f.ID, &id); err != nil || id <= s.last[f.Room] {
		s.faults = append(s.faults, fmt.Sprintf("%s: %q after %d", f.Room, f.ID, s.last[f.Room]))
	}
	s.seen[f.ID], s.last[f.Room] = true, id
	var data struct{ Key string }
	_ = json.Unmarshal(f.Data, &data)
	s.keys[f.Room] = append(s.keys[f.Room], data.Key)
}

// session connects, joins, follows for a while and drops the connection without a close frame. done: it received everything up to the end.
func (s *subscriber) session(n *node, token string, frames int, whole bool) (done bool) {
	cursor := s.last[s.own[0]]
	for _, room := range s.own {
		cursor = min(cursor, s.last[room])
	}
	w, _, err := n.tryOpen("", dial{path: "/ws", query: fmt.Sprintf("token=%s&lastEventId=%d", token, cursor)})
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return false
	}
	defer func() { _ = w.conn.Close() }()
	if !s.read(w, "resumed", 0) {
		return false
	}
	for _, room := range s.others {
		if !s.ask(w, fmt.Sprintf(`{"action":"join","room":%q,"lastEventId":"%d"}`, room, s.last[room]), "resumed") {
			return false
		}
	}
	if whole {
		return s.ask(w, `{"action":"ping"}`, "pong")
	}
	s.read(w, "", frames)
	return false
}

func (s *subscriber) ask(w *watcher, frame, answer string) bool {
	return w.conn.WriteMessage(websocket.TextMessage, []byte(frame)) == nil && s.read(w, answer, 0)
}

// read takes frames up to one of a name, or so many of them; false: the connection ended first.
func (s *subscriber) read(w *watcher, name string, n int) bool {
	for got := 0; name != "" || got < n; got++ {
		select {
		case f, ok := <-w.frames:
			if !ok {
				return false
			}
			s.take(f)
			if f.Type == name {
				return true
			}
		case <-time.After(200 * time.Millisecond):
			if name == "" { // the writers have ended
				return true
			}
		}
	}
	return true
}

// check compares the events of a subscriber with the committed ones.
func (s *subscriber) check(t *testing.T, c *crowd) {
	t.Helper()
	require.Empty(t, s.faults)
	for _, room := range slices.Concat(s.own, s.others) {
		require.ElementsMatch(t, c.committed[room], s.keys[room], "every committed event of %s, once", room)
	}
}

// Many writers and many subscribers that disconnect and resume, on two servers of which one is killed: every subscriber has every committed
// event of its rooms, once, in order.
func TestRealtimeNothingIsLost(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	const writers, each, subscribers = 16, 12, 50
	ann := l.actor()
	rooms := []string{"user:" + ann.user, "org:" + ann.org}
	for range 4 {
		rooms = append(rooms, "project:"+ann.project("private"))
	}
	a, b := l.node(), l.process()
	a.reached()
	start := a.Stats().LastEventID
	c := &crowd{rooms: rooms, committed: map[string][]string{}}
	var writing, reading sync.WaitGroup
	for i := range writers {
		writing.Go(func() { c.write(context.Background(), l.db.Owner(), i, each) })
	}
	quiet := make(chan struct{})
	everybody := make([]*subscriber, subscribers)
	token := ann.token()
	for i := range everybody {
		everybody[i] = newSubscriber(start, rooms[:2], rooms[2+i%4])
		reading.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 6))
			servers := []*node{a, b}
			for at := i; ; at++ {
				whole := false
				select {
				case <-quiet: // committed events are replayed to a connection that opens after quiet
					whole = true
				default:
				}
				if everybody[i].session(servers[at%2], token, 1+random.IntN(25), whole) {
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool { return c.wrote.Load() >= writers*each/4 }, time.Minute, 5*time.Millisecond, "the writers do not get on")
	b.stop()
	writing.Wait()
	a.reached()
	close(quiet)
	reading.Wait()
	require.Greater(t, c.wrote.Load(), int64(writers*each/3))
	for _, s := range everybody {
		s.check(t, c)
	}
}

// Many clients that reconnect at once with their last id receive everything once. The database answers less than one query a room, not one
// a client. Some of the clients may not return; each is sent the reason.
func TestRealtimeManyComeBackAtOnce(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	owner := l.actor()
	project := owner.project("shared")
	others := testdb.Value[[]string](l.db, `with made as (insert into public.projects (organization_id, user_id, name, privacy)
		select $1, $2, 'Project ' || i, 'shared' from generate_series(1, 40) i returning id) select array_agg(id::text) from made`, owner.org, owner.user)
	people := []*actor{owner}
	for range 9 {
		p := l.actor()
		p.joins(owner, "member")
		people = append(people, p)
	}
	revoked, outsider := people[8], l.actor()
	l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, revoked.session)
	n.reached()
	start := n.Stats().LastEventID
	told := map[string][]string{} // keys by room
	say := func(room, key, audience string, users ...string) {
		l.db.Exec(`select private.emit($1, 'note', jsonb_build_object('key', $2::text), $3, $4, $5, p_users => $6)`, room, key, owner.org, project, audience, users)
	}
	for i := range 10 {
		say("org:"+owner.org, fmt.Sprint("org", i), "project")
		say("project:"+project, fmt.Sprint("project", i), "room")
	}
	say("org:"+owner.org, "for one", "users", people[3].user)
	n.reached()

	const each = 16
	var coming sync.WaitGroup
	before := n.pool.Stat().AcquireCount()
	clients := make([]*subscriber, each*len(people))
	codes := make([]int, len(clients))
	for i := range clients {
		p := people[i%len(people)]
		token := p.token()
		clients[i] = newSubscriber(start+int64(i/len(people)), []string{"user:" + p.user, "org:" + p.org}, "project:"+project, "project:"+others[i%len(others)])
		coming.Go(func() {
			if clients[i].session(n, token, 0, true) {
				return
			}
			w, _, err := n.tryOpen("", dial{path: "/ws", query: "token=" + token})
			if err == nil {
				<-w.ended
				codes[i] = w.err.Code
			}
		})
	}
	stranger := n.watch(outsider, project, "lastEventId=0")
	coming.Wait()
	asked := n.pool.Stat().AcquireCount() - before
	code, _ := stranger.closed()
	require.Equal(t, 4004, code)
	rooms := len(people) + 2 + len(others)
	require.Less(t, asked, int64(rooms), "%d clients in %d rooms", len(clients), rooms)
	for room := range map[string]bool{"org:" + owner.org: true, "project:" + project: true} {
		rows := owner.selects(`select data ->> 'key', id::text from public.events where room = $1 and id > $2 and type = 'note' and audience <> 'users'`, room, start)
		for key, id := range rows {
			told[room] = append(told[room], id+" "+key)
		}
		require.Len(t, told[room], 10)
	}
	for i, s := range clients {
		p := people[i%len(people)]
		if p == revoked {
			require.Equal(t, 4010, codes[i])
			require.Empty(t, s.seen)
			continue
		}
		require.Empty(t, s.faults)
		for room, all := range told {
			var want []string
			for _, row := range all {
				var id int64
				var key string
				_, err := fmt.Sscan(row, &id, &key)
				require.NoError(t, err)
				if id > start+int64(i/len(people)) {
					want = append(want, key)
				}
			}
			if room == "org:"+owner.org && p == people[3] {
				want = append(want, "for one")
			}
			require.ElementsMatch(t, want, s.keys[room], "client %d", i)
		}
	}
}

// Postgres stops and starts again: the listeners reconnect by themselves, and sockets that stayed open miss no event.
func TestRealtimeTheDatabaseRestarts(t *testing.T) {
	t.Parallel()
	l := liveOn(t, testdb.Alone(t))
	ann := l.actor()
	rooms := []string{"user:" + ann.user, "org:" + ann.org}
	n := l.node()
	n.reached()
	c := &crowd{rooms: rooms, committed: map[string][]string{}}
	w := n.inRooms(ann)
	var writing sync.WaitGroup
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	for i := range 4 {
		writing.Go(func() { c.write(ctx, l.db.Owner(), i, 1<<30) })
	}
	wrote := func(more int64) {
		until := c.wrote.Load() + more
		require.Eventually(t, func() bool { return c.wrote.Load() >= until }, time.Minute, 5*time.Millisecond)
	}
	wrote(20)
	for range 2 {
		l.db.Restart()
		wrote(20)
	}
	enough()
	writing.Wait()
	n.reached()
	s := newSubscriber(0, rooms)
	for _, f := range w.barrier() {
		s.take(f)
	}
	require.Empty(t, s.faults)
	// A writer whose commit met the broken connection may not know the outcome, so more events may have arrived than the writers recorded.
	for _, room := range rooms {
		for _, key := range c.committed[room] {
			require.Contains(t, s.keys[room], key)
		}
		require.Len(t, s.keys[room], len(slices.Compact(slices.Sorted(slices.Values(s.keys[room])))), "nothing twice")
	}
	require.Eventually(t, func() bool { return n.Check().Probe(context.Background()).Status == "healthy" }, stack.Patience, 20*time.Millisecond)
	w.join("project:" + ann.project("private"))
}

// deafMember is a client that joins rooms and then never reads.
func (n *node) deafMember(t testing.TB, a *actor, rooms ...string) net.Conn {
	t.Helper()
	conn := n.deafOn(t, "/ws", a)
	for _, room := range rooms {
		frame := fmt.Sprintf(`{"action":"join","room":%q}`, room)
		// Masked with zeros, which is a mask.
		_, err := conn.Write(append([]byte{0x81, 0x80 | byte(len(frame)), 0, 0, 0, 0}, frame...))
		require.NoError(t, err)
	}
	return conn
}

// Two hundred sockets, of which half leave during a broadcast, and ten that never read: all others receive every frame, and the server's
// memory is bounded.
func TestRealtimeBroadcast(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node(func(o *realtime.Options) { o.WriteTimeout = 2 * time.Second })
	ann := l.actor()
	project, flood := ann.project("private"), ann.project("private")
	n.reached()
	for range 10 {
		defer func(conn net.Conn) { _ = conn.Close() }(n.deafMember(t, ann, "project:"+project, "project:"+flood))
	}
	const sockets, events, size = 200, 40, 100_000
	watchers := make([]*watcher, sockets)
	var opening sync.WaitGroup
	for i := range watchers {
		opening.Go(func() { watchers[i], _, _ = n.tryOpen("", dial{path: "/ws", query: "token=" + ann.token()}) })
	}
	opening.Wait()
	for _, w := range watchers {
		require.NotNil(t, w)
		w.expect("hello")
		w.join("project:" + project)
	}
	n.counted(sockets + 10)
	require.Eventually(t, func() bool { return n.Stats().Memberships >= 3*sockets+40 }, stack.Patience, 10*time.Millisecond)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got := make([]int, sockets)
	var reading sync.WaitGroup
	for i, w := range watchers {
		reading.Go(func() {
			for f := range w.frames {
				if f.Type != "ingestion_error" {
					continue
				}
				var data struct{ I int }
				if json.Unmarshal(f.Data, &data) != nil || data.I != got[i] {
					return
				}
				if got[i]++; got[i] == events || i%2 == 0 && got[i] == events/3 {
					_ = w.conn.Close()
				}
			}
		})
	}
	text := randomText(size)
	for i := range events {
		for range 3 {
			l.emit(flood, "error", `{"text": "`+text+`"}`)
		}
		l.emit(project, "error", fmt.Sprintf(`{"i": %d}`, i))
	}
	reading.Wait()
	for i := range got {
		if i%2 == 1 {
			require.Equal(t, events, got[i], "socket %d has every frame, in order", i)
		} else {
			require.GreaterOrEqual(t, got[i], events/3)
		}
	}
	require.Eventually(t, func() bool { return n.Stats().Closed[4009] == 10 }, stack.Patience, 10*time.Millisecond, "who never reads is cut off")
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Each of the 10 sockets may hold a queue of 1 MiB; ten times as much was written.
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(40<<20))
	n.counted(0)
}

// Malicious frames: each gets an error, or a close with a reason, and the server continues.
func TestRealtimeHostileFrames(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann := l.actor()
	n.reached()
	hostile := []string{`[]`, `[[[]]]`, `7`, `"x"`, `null`, `{"action":[]}`, `{"action":"join","room":{}}`, `{"action":"join","room":"` + strings.Repeat("x", 10_000) + `"}`,
		`{"action":"leave","room":"nowhere"}`, `{"action":"resume","lastEventId":"1","rooms":[1]}`, `{"action":"resume","lastEventId":"1","rooms":` + "[" + strings.Repeat(`"a",`, 60) + `"a"]}`,
		`{"action":"resume","lastEventId":"` + strings.Repeat("9", 39) + `"}`, `{"action":"join","room":"project:\u0000"}`, `{"action":"ping","action":"join"}`,
		`{"action":"authenticate","token":"` + strings.Repeat("a.", 5000) + `"}`, strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000)}
	for i := 0; i < len(hostile); i += 15 {
		w := n.inRooms(ann)
		for _, frame := range hostile[i:min(i+15, len(hostile))] {
			w.say(frame)
			f := w.expect("error")
			require.NotEmpty(t, f.Code, frame[:min(len(frame), 60)])
			require.Less(t, len(f.raw), 1000, "what is echoed is short")
			time.Sleep(40 * time.Millisecond)
		}
		w.say(`{"action":"ping"}`)
		w.expect("pong")
		_ = w.conn.Close()
	}
	for name, c := range map[string]struct {
		kind int
		text []byte
		code int
	}{
		"AMegabyte": {websocket.TextMessage, []byte(strings.Repeat("x", 1<<20)), 1009}, "Binary": {websocket.BinaryMessage, []byte{0, 1}, 1003},
		"BadUTF8": {websocket.TextMessage, []byte{'"', 0xc3, 0x28, '"'}, 1007},
	} {
		w := n.inRooms(ann)
		_ = w.conn.WriteMessage(c.kind, c.text)
		code, _ := w.closed()
		require.Equal(t, c.code, code, name)
	}
	t.Run("TenThousandJoins", func(t *testing.T) {
		before := testdb.Value[int64](l.db, `select sum(xact_commit)::bigint from pg_stat_database where datname = current_database()`)
		w := n.inRooms(ann)
		for i := range 10_000 {
			if w.conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"action":"join","room":"project:00000000-0000-4000-8000-%012d"}`, i)) != nil {
				break
			}
		}
		code, reason := w.closed()
		require.Equal(t, 4029, code, reason)
		after := testdb.Value[int64](l.db, `select sum(xact_commit)::bigint from pg_stat_database where datname = current_database()`)
		require.Less(t, after-before, int64(200), "a flood costs the database a handful of questions")
	})
	require.Eventually(t, func() bool { return n.Stats().Sockets == 0 }, stack.Patience, 10*time.Millisecond)
	response, err := http.Get("http://" + n.addr + "/docs/realtime")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	_ = response.Body.Close()
}
