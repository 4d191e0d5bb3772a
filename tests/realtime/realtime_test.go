package realtime

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/auth"
	"kijko/server/realtime"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func TestRealtimeCredentials(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node(func(o *realtime.Options) { o.AuthTimeout = 300 * time.Millisecond })
	ann, ben := l.actor(), l.actor()
	project, foreign := ann.project("private"), ben.project("shared")
	bound, err := l.issuer.MintConnection(auth.Connection{UserID: ann.user, SessionID: ann.session, OrgID: ann.org, ProjectID: project})
	require.NoError(t, err)
	other := ann.project("private")
	stranger, err := l.issuer.Mint(auth.Access{UserID: ann.user, SessionID: ann.session, OrgID: ben.org})
	require.NoError(t, err)

	refused := []struct {
		name, project string
		dial          dial
		code          int
		reason        string
	}{
		{"NoneIsMissing", project, dial{}, 4001, "Missing token"},
		{"RubbishIsInvalid", project, dial{query: "token=rubbish"}, 4001, "Invalid token"},
		{"ExpiredIsNamed", project, dial{query: "token=" + ann.tokenFor(-time.Minute)}, 4001, "Token expired"},
		{"FirstOneCounts", project, dial{query: "token=" + ann.token(), header: http.Header{"Authorization": {"Bearer rubbish"}}}, 4001, "Invalid token"},
		{"ForeignProjectIsNotFound", foreign, dial{query: "token=" + ann.token()}, 4004, "Project not found"},
		{"UnknownProjectIsNotFound", uuid.NewString(), dial{query: "token=" + ann.token()}, 4004, "Project not found"},
		{"NoUUIDIsNotFound", "nonsense", dial{query: "token=" + ann.token()}, 4004, "Project not found"},
		{"OrganizationOfOthersIsForbidden", project, dial{query: "token=" + stranger.Raw}, 4003, "Forbidden"},
		{"BoundTokenElsewhereIsForbidden", other, dial{query: "token=" + bound.Raw}, 4003, "Forbidden"},
		{"NoFirstMessageTimesOut", project, dial{protocol: []string{"kijko.v1"}}, 4001, "Authentication timeout"},
	}
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			w := n.open(c.project, c.dial)
			code, reason := w.closed()
			require.Equal(t, c.code, code, reason)
			require.Equal(t, c.reason, reason)
			require.Empty(t, w.rest(), "nothing is told before the credential is checked")
		})
	}

	accepted := []struct {
		name string
		dial dial
	}{
		{"Query", dial{query: "token=" + ann.token()}},
		{"Header", dial{header: http.Header{"Authorization": {"Bearer " + ann.token()}}, query: "token=ignored"}},
		{"Subprotocol", dial{protocol: []string{"kijko.v1", "bearer." + ann.token()}, query: "token=ignored"}},
		{"ConnectionToken", dial{query: "token=" + bound.Raw}},
		{"AliasWithoutVersion", dial{query: "token=" + ann.token(), path: "/api/projects/%s/ws"}},
		{"AliasWithoutBase", dial{query: "token=" + ann.token(), path: "/projects/%s/ws"}},
	}
	for _, c := range accepted {
		t.Run(c.name, func(t *testing.T) {
			w := n.open(project, c.dial)
			w.expect("hello")
			if len(c.dial.protocol) > 0 {
				require.Equal(t, "kijko.v1", w.conn.Subprotocol())
			}
		})
	}

	t.Run("FirstMessage", func(t *testing.T) {
		w := n.open(project, dial{protocol: []string{"kijko.v1"}})
		w.say(`{"action":"ping"}`)
		require.Equal(t, "INVALID_MESSAGE", w.expect("protocol_error").field(t, "code"))
		w.say(`{"action":"authenticate","token":"` + ann.token() + `"}`)
		w.expect("hello")
	})
	t.Run("WrongFirstMessage", func(t *testing.T) {
		w := n.open(project, dial{protocol: []string{"kijko.v1"}})
		w.say(`{"action":"authenticate","token":"rubbish"}`)
		code, reason := w.closed()
		require.Equal(t, 4001, code)
		require.Equal(t, "Invalid token", reason)
	})
	t.Run("RevokedSessionIsNamed", func(t *testing.T) {
		cem := l.actor()
		p := cem.project("private")
		l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, cem.session)
		code, reason := n.watch(cem, p, "").closed()
		require.Equal(t, 4010, code, reason)
	})
	n.counted(len(accepted) + 1)
}

func TestRealtimeHandshake(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	ann := l.actor()
	project := ann.project("private")

	t.Run("PlainGetIsToldToUpgrade", func(t *testing.T) {
		n := l.node()
		for _, path := range []string{"/api/v1/projects/", "/api/projects/", "/projects/"} {
			response, body := get(t, n, path+project+"/ws", nil)
			require.Equal(t, http.StatusUpgradeRequired, response.StatusCode)
			require.Equal(t, "UPGRADE_REQUIRED", body["code"])
			require.Equal(t, "websocket", response.Header.Get("Upgrade"))
		}
	})
	t.Run("MalformedHandshakesAreProblems", func(t *testing.T) {
		n := l.node()
		for _, c := range []struct {
			version, key string
			status       int
			code         string
		}{
			{"12", "dGhlIHNhbXBsZSBub25jZQ==", http.StatusUpgradeRequired, "UPGRADE_REQUIRED"},
			{"", "dGhlIHNhbXBsZSBub25jZQ==", http.StatusUpgradeRequired, "UPGRADE_REQUIRED"},
			{"13", "", http.StatusBadRequest, "BAD_REQUEST"},
			{"13", "x", http.StatusBadRequest, "BAD_REQUEST"},
			{"13", "c2hvcnQ=", http.StatusBadRequest, "BAD_REQUEST"},
		} {
			for _, path := range []string{"/api/v1/projects/" + project + "/ws", "/api/v1/ws"} {
				response, body := get(t, n, path, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
					"Sec-Websocket-Version": {c.version}, "Sec-Websocket-Key": {c.key}})
				require.Equal(t, c.status, response.StatusCode, "%v", c)
				require.Equal(t, c.code, body["code"], "%v", c)
				require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
				if c.status == http.StatusUpgradeRequired {
					require.Equal(t, "13", response.Header.Get("Sec-Websocket-Version"))
				}
			}
		}
	})
	t.Run("ForeignOriginIsRefused", func(t *testing.T) {
		n := l.node()
		_, response, err := n.tryOpen(project, dial{query: "token=" + ann.token(), header: http.Header{"Origin": {"https://evil.example"}}})
		require.Error(t, err)
		require.Equal(t, http.StatusForbidden, response.StatusCode)
		for _, origin := range []string{"https://app.kijko.test", "http://localhost:4173", "http://" + n.addr} {
			w := n.open(project, dial{query: "token=" + ann.token(), header: http.Header{"Origin": {origin}}})
			w.expect("hello")
		}
	})
	t.Run("TooManyHandshakes", func(t *testing.T) {
		n := l.node(func(o *realtime.Options) { o.HandshakesPerMinute = 3 })
		var last *http.Response
		for range 8 {
			_, response, err := n.tryOpen(project, dial{})
			if err != nil {
				last = response
			}
		}
		require.NotNil(t, last, "nobody was refused")
		require.Equal(t, http.StatusTooManyRequests, last.StatusCode)
		require.NotEmpty(t, last.Header.Get("Retry-After"))
	})
	t.Run("TooManySocketsOfOnePersonOverAllServers", func(t *testing.T) {
		two := func(o *realtime.Options) { o.SocketsPerUser = 2 }
		a, b := l.node(two), l.node(two)
		cem := l.actor()
		p := cem.project("private")
		a.watch(cem, p, "").expect("hello")
		second := b.watch(cem, p, "")
		second.expect("hello")
		code, reason := a.watch(cem, p, "").closed()
		require.Equal(t, 4029, code)
		require.Equal(t, "Too many connections", reason)
		_ = second.conn.Close()
		require.Eventually(t, func() bool {
			w := b.watch(cem, p, "")
			select {
			case f, ok := <-w.frames:
				return ok && f.Type == "hello"
			case <-w.ended:
				return false
			}
		}, stack.Patience, 50*time.Millisecond, "a closed socket must free its place")
	})
	t.Run("DrainingServerRefusesAndSaysRestart", func(t *testing.T) {
		n := l.node(func(o *realtime.Options) { o.DrainSpread = 200 * time.Millisecond })
		w := n.watch(ann, project, "")
		w.expect("hello")
		require.NoError(t, n.Drain(context.Background()))
		code, reason := w.closed()
		require.Equal(t, 1012, code)
		require.Equal(t, "service restart", reason)
		_, response, err := n.tryOpen(project, dial{query: "token=" + ann.token()})
		require.Error(t, err)
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	})
}

func TestRealtimeHello(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann := l.actor()
	project := ann.project("private")
	l.emit(project, "phase_started", `{"phase": "parsing"}`)
	n.reached()
	w := n.watch(ann, project, "")
	hello := w.expect("hello")
	require.Equal(t, ann.user, hello.field(t, "userId"))
	require.Equal(t, ann.org, hello.field(t, "organizationId"))
	require.Equal(t, []any{"ingestion:" + project}, hello.field(t, "rooms"))
	require.Equal(t, fmt.Sprint(n.Stats().LastEventID), hello.field(t, "lastEventId"))
	require.Equal(t, "kijko.v1", hello.field(t, "protocol"))
	require.EqualValues(t, 25000, hello.field(t, "heartbeatIntervalMs"))
	require.EqualValues(t, 60000, hello.field(t, "heartbeatTimeoutMs"))
	_, err := uuid.Parse(hello.field(t, "connectionId").(string))
	require.NoError(t, err)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, hello.field(t, "expiresAt"))
}

func TestRealtimeDelivery(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	a, b := l.node(), l.node()
	ann := l.actor()
	project := ann.project("private")
	first, second, elsewhere := a.watch(ann, project, ""), a.watch(ann, project, ""), b.watch(ann, project, "")
	for _, w := range []*watcher{first, second, elsewhere} {
		w.expect("hello")
	}
	l.emit(project, "phase_started", `{"phase": "parsing", "message": "with \"quotes\" and ünicode"}`)
	var id string
	for _, w := range []*watcher{first, second, elsewhere} {
		f := w.expect("phase_started")
		require.Equal(t, "with \"quotes\" and ünicode", f.field(t, "message"))
		require.False(t, f.Snapshot)
		if id == "" {
			id = f.ID
		}
		require.Equal(t, id, f.ID, "one event, one id, on every server")
	}
	_ = first.conn.Close()
	l.emit(project, "error", `{"errorCode": "PARSING_FAILED"}`)
	second.expect("error")
	elsewhere.expect("error")
	require.Empty(t, second.barrier(), "each event comes once")

	// A large event is stored and delivered whole: no notification carries its data.
	l.emit(project, "error", `{"errorMessage": "`+strings.Repeat("x", 200_000)+`"}`)
	require.Len(t, second.expect("error").field(t, "errorMessage"), 200_000)
	// Events that are not about ingestion, and rolled-back ones, are not sent here.
	l.emit(project, "resource_changed", `{"resource": "project"}`)
	tx := l.begin()
	_, err := tx.Exec(context.Background(), emitSQL, project, "error", `{}`)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(context.Background()))
	l.emit(project, "ingestion_complete", `{"success": true}`)
	second.expect("ingestion_complete")
}

func TestRealtimeThrottle(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann := l.actor()
	project := ann.project("private")
	w := n.watch(ann, project, "")
	w.expect("hello")
	conn := l.db.Connect("postgres")
	began := time.Now()
	for i := 1; i <= 50; i++ {
		_, err := conn.Exec(context.Background(), emitSQL, project, "progress_update", progress(i))
		require.NoError(t, err)
		time.Sleep(time.Until(began.Add(time.Duration(i) * 19 * time.Millisecond)))
	}
	var got []wire
	for len(got) == 0 || got[len(got)-1].field(t, "progressPercent") != 50.0 {
		got = append(got, w.expect("progress_update"))
	}
	require.LessOrEqual(t, len(got), 4, "50 writes in a second are at most two frames a second and a trailing one")

	l.emit(project, "progress_update", progress(60))
	l.emit(project, "progress_update", progress(61))
	l.emit(project, "phase_started", `{"phase": "chunking"}`)
	seen := w.until("phase_started")
	require.LessOrEqual(t, len(seen), 2, "the pending update of the old phase is discarded")
	l.emit(project, "progress_update", progress(1))
	require.EqualValues(t, 1, w.expect("progress_update").field(t, "progressPercent"))
	l.emit(project, "progress_update", progress(2))
	l.emit(project, "ingestion_complete", `{"success": true}`)
	require.EqualValues(t, 2, w.expect("progress_update").field(t, "progressPercent"), "a pending update goes out before the end")
	w.expect("ingestion_complete")
}

func TestRealtimeResume(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann := l.actor()
	project := ann.project("private")
	w := n.watch(ann, project, "")
	cursor := w.expect("hello").field(t, "lastEventId").(string)
	l.emit(project, "phase_started", `{"phase": "parsing"}`)
	first := w.expect("phase_started")
	_ = w.conn.Close()
	n.counted(0)
	l.emit(project, "progress_update", progress(10))
	l.emit(project, "progress_update", progress(20))
	l.emit(project, "resource_changed", `{}`)
	l.emit(project, "phase_started", `{"phase": "chunking"}`)
	n.reached()

	t.Run("MissedEventsComeInOrder", func(t *testing.T) {
		w := n.watch(ann, project, "lastEventId="+first.ID)
		w.expect("hello")
		got := w.until("resumed")
		require.Equal(t, []string{"progress_update", "phase_started", "resumed"}, types(got), "of a series only the newest is sent again")
		require.EqualValues(t, 20, got[0].field(t, "progressPercent"))
		require.EqualValues(t, 2, got[2].field(t, "replayed"))
		a, _ := strconv.Atoi(got[0].ID)
		b, _ := strconv.Atoi(got[1].ID)
		require.Less(t, a, b)
		require.NotEmpty(t, got[0].Timestamp)
	})
	t.Run("ResumeOnAnOpenSocketSendsWhatItDidNotGet", func(t *testing.T) {
		w := n.watch(ann, project, "snapshot=false")
		w.expect("hello")
		l.emit(project, "error", `{"errorCode": "X"}`)
		live := w.expect("error")
		w.say(`{"action":"resume","lastEventId":"` + cursor + `","ref":"r1"}`)
		got := w.until("resumed")
		require.Equal(t, []string{"phase_started", "progress_update", "phase_started", "resumed"}, types(got))
		require.Equal(t, "r1", got[3].Ref)
		require.Equal(t, live.ID, got[3].field(t, "lastEventId"))
		w.say(`{"action":"resume","lastEventId":"` + cursor + `"}`)
		require.Len(t, w.until("resumed"), 1, "an id is delivered at most once on one connection")
	})
	t.Run("CursorsThatCannotBeResumed", func(t *testing.T) {
		for query, reason := range map[string]string{
			"lastEventId=999999999":                  "invalid_cursor",
			"lastEventId=" + strings.Repeat("9", 38): "invalid_cursor",
			"lastEventId=-1":                         "invalid_cursor",
			"lastEventId=":                           "invalid_cursor",
			"lastEventId=0x10":                       "invalid_cursor",
		} {
			w := n.watch(ann, project, query)
			w.expect("hello")
			require.Equal(t, reason, w.expect("resync_required").field(t, "reason"), query)
		}
	})
	t.Run("TooManyMissedEventsAreRefetched", func(t *testing.T) {
		busy := ann.project("private")
		l.db.Exec(`select private.emit('project:' || $1::text, 'phase_data', '{}', null, $1::text::uuid) from generate_series(1, 1001)`, busy)
		n.reached()
		w := n.watch(ann, busy, "lastEventId="+cursor)
		w.expect("hello")
		f := w.expect("resync_required")
		require.Equal(t, "too_many", f.field(t, "reason"))
		require.Equal(t, []any{"ingestion:" + busy}, f.field(t, "rooms"))
	})
	t.Run("ALongReplayIsNoSlowConsumer", func(t *testing.T) {
		busy := ann.project("private")
		l.db.Exec(`select private.emit('project:' || $1::text, 'phase_data', '{}', null, $1::text::uuid) from generate_series(1, 1000)`, busy)
		n.reached()
		w := n.watch(ann, busy, "lastEventId="+cursor)
		require.Len(t, w.until("resumed"), 1002)
	})
	t.Run("ExpiredOnlyWhereSomethingWasLost", func(t *testing.T) {
		quiet := ann.project("private")
		l.emit(quiet, "phase_started", `{}`)
		n.reached()
		recent := fmt.Sprint(n.Stats().LastEventID)
		l.db.Exec(`update public.events set created_at = now() - interval '25 hours' where id < $1`, n.Stats().LastEventID)
		l.db.Exec(`select private.prune_events()`)
		w := n.watch(ann, project, "lastEventId="+cursor)
		w.expect("hello")
		require.Equal(t, "expired", w.expect("resync_required").field(t, "reason"))
		w = n.watch(ann, quiet, "lastEventId="+cursor)
		w.expect("hello")
		require.Equal(t, []string{"phase_started", "resumed"}, types(w.until("resumed")), "this room lost nothing")
		w = n.watch(ann, project, "lastEventId="+recent)
		w.expect("hello")
		w.expect("resumed")
	})
}

// run begins an ingestion run as the start call does.
func (l *live) run(project string) string {
	l.t.Helper()
	return testdb.Value[string](l.db, `insert into public.ingestion_runs (organization_id, project_id)
		select organization_id, id from public.projects where id = $1 returning id::text`, project)
}

func TestRealtimeSnapshot(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node(func(o *realtime.Options) { o.DoneDelay = 300 * time.Millisecond })
	ann := l.actor()

	t.Run("WithoutARunNothingIsTold", func(t *testing.T) {
		w := n.watch(ann, ann.project("private"), "")
		w.expect("hello")
		require.Empty(t, w.barrier())
	})
	t.Run("ActiveRunIsRestated", func(t *testing.T) {
		project := ann.project("private")
		run := l.run(project)
		l.db.Exec(`update public.ingestion_runs set percent = 30, message = 'Fetching' where id = $1`, run)
		w := n.watch(ann, project, "")
		w.expect("hello")
		started, update := w.expect("phase_started"), w.expect("progress_update")
		require.True(t, started.Snapshot && update.Snapshot)
		require.Empty(t, started.ID+update.ID)
		require.EqualValues(t, 30, update.field(t, "progressPercent"))
		require.Empty(t, w.barrier(), "what the snapshot contains does not follow as an event")
	})
	t.Run("SnapshotCanBeDeclined", func(t *testing.T) {
		project := ann.project("private")
		l.run(project)
		n.reached()
		w := n.watch(ann, project, "snapshot=false")
		w.expect("hello")
		require.Empty(t, w.barrier())
	})
	t.Run("EventsCommittedButNotNumberedAreContained", func(t *testing.T) {
		quiet := l.node(func(o *realtime.Options) { o.Deaf, o.Tick, o.Poll = true, time.Hour, 20*time.Millisecond })
		n.stop()
		quiet.Waker().Mute(true)
		project := ann.project("private")
		run := l.run(project)
		l.db.Exec(`update public.ingestion_runs set percent = 55, message = 'Fetching' where id = $1`, run)
		require.True(t, testdb.Value[bool](l.db, `select exists (select from private.event_inbox)`))
		w := quiet.watch(ann, project, "")
		w.expect("hello")
		w.expect("phase_started")
		w.expect("progress_update")
		l.db.Exec(`update public.ingestion_runs set phase = 'parsing', percent = 0 where id = $1`, run)
		l.db.Exec(`select private.sequence_events()`)
		f := w.expect("phase_started")
		require.False(t, f.Snapshot)
		require.Equal(t, "parsing", f.field(t, "phase"), "phase_started and progress of the snapshot must not come again")
	})
	n = l.node(func(o *realtime.Options) { o.DoneDelay = 300 * time.Millisecond })
	complete := func(t *testing.T, project string) string {
		run := l.run(project)
		for _, phase := range []string{"parsing", "chunking", "optimization", "indexing"} {
			l.db.Exec(`update public.ingestion_runs set phase = $2, percent = 0 where id = $1`, run, phase)
		}
		l.db.Exec(`update public.ingestion_runs set outcome = 'completed', message = 'Done' where id = $1`, run)
		return run
	}
	t.Run("CompletionMissedWhileAwayIsToldAndTheSocketCloses", func(t *testing.T) {
		project := ann.project("private")
		complete(t, project)
		n.reached()
		w := n.watch(ann, project, "")
		w.expect("hello")
		f := w.expect("ingestion_complete")
		require.True(t, f.Snapshot)
		require.Equal(t, true, f.field(t, "success"))
		code, reason := w.closed()
		require.Equal(t, 1000, code)
		require.Equal(t, "done", reason)
	})
	t.Run("ACompletionIsToldOnceAPersonAndRun", func(t *testing.T) {
		project, ben := ann.project("shared"), l.actor()
		ben.joins(ann, "member")
		other := l.node()
		rests := func(w *watcher) {
			t.Helper()
			w.expect("hello")
			f := w.expect("progress_update")
			require.True(t, f.Snapshot)
			require.Empty(t, f.ID)
			require.Equal(t, "completed", f.field(t, "status"))
			require.EqualValues(t, 100, f.field(t, "progressPercent"))
			require.Equal(t, project, f.field(t, "projectId"))
			require.Empty(t, w.barrier(), "and nothing else")
		}
		for range 2 {
			run := complete(t, project)
			for _, node := range []*node{n, other} {
				node.reached()
			}
			// A socket that declines the snapshot, or has all events, is sent nothing and does not count as informed.
			for _, query := range []string{"snapshot=false", "lastEventId=" + testdb.Value[string](l.db, "select max(id)::text from public.events")} {
				require.NotContains(t, types(n.watch(ann, project, query).barrier()), "ingestion_complete")
			}
			// Tabs that open at the same time, on two servers: one of them is sent the completion.
			told := make(chan string, 8)
			var group sync.WaitGroup
			for i := range cap(told) {
				group.Go(func() {
					w := []*node{n, other}[i%2].watch(ann, project, "")
					w.expect("hello")
					told <- w.next().Type
				})
			}
			group.Wait()
			close(told)
			count := map[string]int{}
			for name := range told {
				count[name]++
			}
			require.Equal(t, map[string]int{"ingestion_complete": 1, "progress_update": 7}, count)
			// A client that reconnects on completion comes to rest, with other servers too.
			rests(n.watch(ann, project, ""))
			rests(other.watch(ann, project, ""))
			rests(l.node().watch(ann, project, "snapshot=true"))
			expired := other.watch(ann, project, "lastEventId="+strings.Repeat("9", 18))
			expired.expect("hello")
			expired.expect("resync_required")
			require.Equal(t, "completed", expired.expect("progress_update").field(t, "status"))
			// Another person has not been sent it yet.
			w := other.watch(ben, project, "")
			w.expect("hello")
			require.Equal(t, run, w.expect("ingestion_complete").field(t, "runId"))
			rests(n.watch(ben, project, ""))
		}
		// Once at rest, the socket stays open.
		w := n.watch(ann, project, "")
		rests(w)
		time.Sleep(500 * time.Millisecond)
		require.Empty(t, w.barrier())
	})
	t.Run("WholeRunLive", func(t *testing.T) {
		project := ann.project("private")
		w := n.watch(ann, project, "")
		w.expect("hello")
		complete(t, project)
		got := w.until("ingestion_complete")
		var phases int
		for _, f := range got {
			if f.Type == "phase_started" {
				phases++
			}
		}
		require.Equal(t, 5, phases)
		code, _ := w.closed()
		require.Equal(t, 1000, code)
	})
	t.Run("ANewRunKeepsTheSocketOpen", func(t *testing.T) {
		project := ann.project("private")
		complete(t, project)
		n.reached()
		w := n.watch(ann, project, "")
		w.expect("hello")
		w.expect("ingestion_complete")
		l.run(project)
		w.expect("phase_started")
		time.Sleep(500 * time.Millisecond)
		require.Empty(t, w.barrier())
	})
	t.Run("AfterAFailureItStaysOpenForTheRecovery", func(t *testing.T) {
		project := ann.project("private")
		run := l.run(project)
		w := n.watch(ann, project, "")
		l.db.Exec(`update public.ingestion_runs set outcome = 'failed', error_code = 'REPO_FETCH_FAILED', error_message = 'No.' where id = $1`, run)
		got := w.until("error")
		require.Equal(t, "REPO_FETCH_FAILED", got[len(got)-1].field(t, "errorCode"))
		fresh := n.watch(ann, project, "")
		require.Equal(t, []string{"hello", "phase_started", "progress_update", "error"}, types(fresh.until("error")))
		time.Sleep(500 * time.Millisecond)
		l.run(project)
		require.Equal(t, "phase_started", w.next().Type, "the recovery arrives on the same socket")
		require.Equal(t, "phase_started", fresh.next().Type)
	})
	t.Run("ACancelledRunIsNotRestated", func(t *testing.T) {
		project := ann.project("private")
		run := l.run(project)
		l.db.Exec(`update public.ingestion_runs set outcome = 'cancelled', error_code = 'USER_CANCELLED', error_message = 'Cancelled.' where id = $1`, run)
		n.reached()
		w := n.watch(ann, project, "")
		w.expect("hello")
		require.Empty(t, w.barrier())
	})
}

func TestRealtimeExpiry(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node(func(o *realtime.Options) { o.RefreshBefore, o.RefreshAgain = 10*time.Minute, 2*time.Second })
	ann, ben := l.actor(), l.actor()
	project := ann.project("private")

	t.Run("WarnedAtOnceAndAgainAndClosedAtTheEnd", func(t *testing.T) {
		w := n.open(project, dial{query: "token=" + ann.tokenFor(4*time.Second)})
		w.expect("hello")
		require.NotEmpty(t, w.expect("token_refresh_required").field(t, "expiresAt"))
		w.expect("token_refresh_required")
		code, reason := w.closed()
		require.Equal(t, 4001, code)
		require.Equal(t, "Token expired", reason)
		require.Empty(t, w.rest())
	})
	t.Run("ARenewedTokenKeepsTheConnection", func(t *testing.T) {
		w := n.open(project, dial{query: "token=" + ann.tokenFor(3*time.Second)})
		hello := w.expect("hello")
		ended, err := time.Parse(time.RFC3339, hello.field(t, "expiresAt").(string))
		require.NoError(t, err)
		w.expect("token_refresh_required")
		ann.session = ann.signIn()
		w.say(`{"action":"authenticate","token":"` + ann.token() + `","ref":"a"}`)
		f := w.expect("authenticated")
		require.Equal(t, ann.user, f.field(t, "userId"))
		require.Equal(t, "a", f.Ref)
		time.Sleep(time.Until(ended) + 200*time.Millisecond)
		require.Empty(t, w.barrier())
		l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, ann.session)
		code, _ := w.closed()
		require.Equal(t, 4010, code, "the socket hangs on the session of its newest token")
		ann.session = ann.signIn()
	})
	t.Run("ABadTokenChangesNothing", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		w.say(`{"action":"authenticate","token":"rubbish"}`)
		require.Equal(t, "INVALID_TOKEN", w.expect("protocol_error").field(t, "code"))
		require.Empty(t, w.barrier())
	})
	t.Run("AnotherPersonsTokenEndsIt", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		w.say(`{"action":"authenticate","token":"` + ben.token() + `"}`)
		code, reason := w.closed()
		require.Equal(t, 4001, code)
		require.Equal(t, "Token subject changed", reason)
	})
	t.Run("AnOrganizationThatIsNotOnesOwnEndsIt", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		foreign, err := l.issuer.Mint(auth.Access{UserID: ann.user, SessionID: ann.session, OrgID: ben.org})
		require.NoError(t, err)
		w.say(`{"action":"authenticate","token":"` + foreign.Raw + `"}`)
		code, _ := w.closed()
		require.Equal(t, 4003, code)
	})
}

func TestRealtimeHeartbeat(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node(func(o *realtime.Options) { o.PingInterval, o.IdleTimeout = 100*time.Millisecond, 400*time.Millisecond })
	ann := l.actor()
	project := ann.project("private")

	t.Run("WhoAnswersStays", func(t *testing.T) {
		w := n.watch(ann, project, "")
		w.expect("hello")
		time.Sleep(900 * time.Millisecond)
		require.Empty(t, w.barrier())
	})
	t.Run("WhoDoesNotIsClosed", func(t *testing.T) {
		dialer := websocket.Dialer{}
		conn, _, err := dialer.Dial("ws://"+n.addr+"/projects/"+project+"/ws?token="+ann.token(), nil)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		conn.SetPingHandler(func(string) error { return nil })
		_ = conn.SetReadDeadline(time.Now().Add(stack.Patience))
		for err == nil {
			_, _, err = conn.ReadMessage()
		}
		require.True(t, websocket.IsCloseError(err, 4008), "%v", err)
	})
}
