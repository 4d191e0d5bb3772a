package realtime

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/auth"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// as calls an operation as the actor.
func (n *node) as(a *actor, method, path string, into any) (int, string) {
	n.live.t.Helper()
	return n.with(a.token(), method, path, into)
}

// with calls an operation with a token; code is that of a refusal.
func (n *node) with(token, method, path string, into any) (status int, code string) {
	t := n.live.t
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.addr+"/api/v1"+path, nil)
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var raw json.RawMessage
	require.NoError(t, json.NewDecoder(response.Body).Decode(&raw))
	if response.StatusCode >= 300 {
		var problem struct{ Code, Field string }
		require.NoError(t, json.Unmarshal(raw, &problem))
		return response.StatusCode, problem.Code + " " + problem.Field
	}
	require.NoError(t, json.Unmarshal(raw, into))
	return response.StatusCode, ""
}

type eventPage struct {
	Events      []wire
	LastEventID string
	HasMore     bool
	Resync      []string
}

func (n *node) events(a *actor, query string) eventPage {
	n.live.t.Helper()
	var p eventPage
	status, code := n.as(a, http.MethodGet, "/realtime/events"+query, &p)
	require.Equal(n.live.t, http.StatusOK, status, code)
	return p
}

func TestRealtimeReplayOverREST(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann, ben := l.actor(), l.actor()
	project, foreign := ann.project("private"), ben.project("shared")
	n.reached()
	head := n.events(ann, "")
	require.Empty(t, head.Events)
	require.Equal(t, fmt.Sprint(n.Stats().LastEventID), head.LastEventID)
	require.Empty(t, head.Resync)

	l.emitTo("user:"+ann.user, "note", `{"n": 1}`)
	l.emit(project, "error", `{"n": 2}`)
	l.emitTo("org:"+ann.org, "note", `{"n": 3}`)
	l.emitTo("user:"+ben.user, "note", `{"n": 4}`)
	n.reached()

	t.Run("OwnRoomsByDefault", func(t *testing.T) {
		p := n.events(ann, "?after="+head.LastEventID)
		require.Equal(t, []string{"note", "note"}, types(p.Events))
		require.Equal(t, []string{"user:" + ann.user, "org:" + ann.org}, []string{p.Events[0].Room, p.Events[1].Room})
		require.Equal(t, fmt.Sprint(n.Stats().LastEventID), p.LastEventID, "the watermark passes what is not visible")
		require.Empty(t, n.events(ann, "?after="+p.LastEventID).Events)
	})
	t.Run("NamedRoomsPageByPage", func(t *testing.T) {
		rooms := "&room=project:" + project + "&room=user:" + ann.user + "&room=ingestion:" + project
		first := n.events(ann, "?after="+head.LastEventID+"&limit=1"+rooms)
		require.True(t, first.HasMore)
		require.Equal(t, first.Events[0].ID, first.LastEventID)
		second := n.events(ann, "?after="+first.LastEventID+"&limit=1"+rooms)
		require.Equal(t, "ingestion_error", second.Events[0].Type, "as on the socket with rooms")
		require.Equal(t, "project:"+project, second.Events[0].Room)
		require.False(t, second.HasMore, "an event in two rooms is one")
	})
	t.Run("Refusals", func(t *testing.T) {
		for query, want := range map[string]string{
			"?room=project:" + foreign: "403 ROOM_FORBIDDEN room", "?room=user:" + ben.user: "403 ROOM_FORBIDDEN room",
			"?room=project:" + uuid.NewString(): "403 ROOM_FORBIDDEN room", "?room=nonsense": "400 VALIDATION_ERROR room",
			"?after=-1": "400 VALIDATION_ERROR after", "?after=abc": "400 VALIDATION_ERROR after", "?limit=0": "400 VALIDATION_ERROR limit",
			"?limit=501": "400 VALIDATION_ERROR limit", "?wait=26": "400 VALIDATION_ERROR wait",
		} {
			status, code := n.as(ann, http.MethodGet, "/realtime/events"+query, nil)
			require.Equal(t, want, fmt.Sprint(status, " ", code), query)
		}
		for token, want := range map[string]string{"": "401 UNAUTHENTICATED ", "rubbish": "401 UNAUTHENTICATED ", ann.tokenFor(-time.Minute): "401 UNAUTHENTICATED "} {
			status, code := n.with(token, http.MethodGet, "/realtime/events", nil)
			require.Equal(t, want, fmt.Sprint(status, " ", code))
		}
		gone := l.actor()
		l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, gone.session)
		status, code := n.as(gone, http.MethodGet, "/realtime/events", nil)
		require.Equal(t, "401 SESSION_REVOKED ", fmt.Sprint(status, " ", code))
	})
	t.Run("TokensOfConnections", func(t *testing.T) {
		free, err := l.issuer.MintConnection(auth.Connection{UserID: ann.user, SessionID: ann.session, OrgID: ann.org})
		require.NoError(t, err)
		var p eventPage
		status, _ := n.with(free.Raw, http.MethodGet, "/realtime/events?after="+head.LastEventID, &p)
		require.Equal(t, http.StatusOK, status)
		require.Len(t, p.Events, 2)
		bound, err := l.issuer.MintConnection(auth.Connection{UserID: ann.user, SessionID: ann.session, OrgID: ann.org, ProjectID: project})
		require.NoError(t, err)
		_, _ = n.with(bound.Raw, http.MethodGet, "/realtime/events?after="+head.LastEventID, &p)
		require.Equal(t, []string{"ingestion_error"}, types(p.Events), "its project's room only")
		status, code := n.with(bound.Raw, http.MethodGet, "/realtime/events?room=user:"+ann.user, nil)
		require.Equal(t, "403 ROOM_FORBIDDEN room", fmt.Sprint(status, " ", code))
	})
	t.Run("WaitsUntilSomethingHappens", func(t *testing.T) {
		after := n.events(ann, "").LastEventID
		answered := make(chan eventPage, 1)
		go func() { answered <- n.events(ann, "?wait=20&after="+after) }()
		require.Never(t, func() bool { return len(answered) > 0 }, 150*time.Millisecond, 10*time.Millisecond)
		l.emitTo("user:"+ben.user, "note", `{}`) // ben's event, not visible to the caller
		l.emitTo("user:"+ann.user, "note", `{"n": 5}`)
		select {
		case p := <-answered:
			require.Equal(t, []string{"note"}, types(p.Events))
		case <-time.After(stack.Patience):
			require.FailNow(t, "the waiting request was not answered")
		}
		began := time.Now()
		require.Empty(t, n.events(ann, "?wait=1&after="+n.events(ann, "").LastEventID).Events)
		require.Greater(t, time.Since(began), 900*time.Millisecond)
	})
	t.Run("WhatWasLostIsNamed", func(t *testing.T) {
		p := n.events(ann, "?after=99999999999")
		require.Len(t, p.Resync, 2)
		l.db.Exec(`update public.events set created_at = now() - interval '25 hours' where id < $1`, n.Stats().LastEventID)
		l.db.Exec(`select private.prune_events()`)
		p = n.events(ann, "?after="+head.LastEventID)
		require.ElementsMatch(t, []string{"user:" + ann.user, "org:" + ann.org}, p.Resync)
		require.Equal(t, []string{"project:" + project}, n.events(ann, "?after="+head.LastEventID+"&room=project:"+project).Resync)
	})
}

func TestRealtimePresence(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	a, b := l.node(), l.node()
	ann, ben := l.actor(), l.actor()
	ben.joins(ann, "member")
	project := ann.project("shared")
	watching := a.inRooms(ann, "context:"+project)
	statuses := func(want ...string) {
		t.Helper()
		for _, status := range want {
			f := watching.expect("user:status")
			require.Equal(t, []any{ben.user, status, project}, []any{f.field(t, "userId"), f.field(t, "status"), f.field(t, "contextId")})
			require.Regexp(t, `Z$`, f.field(t, "lastActive"))
			require.Empty(t, f.ID, "it is not kept")
		}
	}
	first := b.connect(ben, "contextId="+project)
	first.expect("hello")
	statuses("online")
	second := a.inRooms(ben, "context:"+project)
	for _, f := range first.barrier() {
		require.NotEqual(t, ben.user, f.field(t, "userId"), "one's own presence is not told")
	}
	l.db.Exec(`update public.project_members set last_active_at = null where project_id = $1`, project)
	_ = first.conn.Close()
	second.say(`{"action":"leave","room":"context:` + project + `"}`)
	second.expect("room_left")
	require.Eventually(t, func() bool {
		return testdb.Holds(l.db, `select left_at is not null from private.realtime_statuses where user_id = $1`, ben.user)
	}, stack.Patience, 20*time.Millisecond)
	// Ten seconds later.
	l.db.Exec(`select private.settle_presence(clock_timestamp() + interval '9 seconds')`)
	require.Empty(t, watching.barrier())
	l.db.Exec(`select private.settle_presence(clock_timestamp() + interval '11 seconds')`)
	statuses("offline")

	t.Run("ADeadServersPeopleAreGone", func(t *testing.T) {
		second.join("context:" + project)
		require.Eventually(t, func() bool {
			return testdb.Holds(l.db, `select exists (select from private.realtime_presence where user_id = $1)`, ben.user)
		}, stack.Patience, 20*time.Millisecond)
		l.db.Exec(`select private.settle_presence(clock_timestamp() + interval '30 seconds')`)
		statuses("online")
		l.db.Exec(`select private.bury_nodes(now() + interval '2 minutes')`)
		l.db.Exec(`select private.settle_presence(clock_timestamp() + interval '3 minutes')`)
		statuses("offline")
	})
}

func TestRealtimeConnections(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	a, b := l.node(), l.node()
	ann, ben, cem := l.actor(), l.actor(), l.actor()
	ben.joins(ann, "member")
	project := ann.project("shared")
	count := func(who *actor) string {
		var answer struct{ ConnectedClients int }
		status, code := a.as(who, http.MethodGet, "/projects/"+project+"/connections", &answer)
		return fmt.Sprint(status, " ", code, answer.ConnectedClients)
	}
	require.Equal(t, "200 0", count(ann))
	w := a.watch(ann, project, "")
	a.inRooms(ben, "project:"+project, "ingestion:"+project)
	b.inRooms(ben, "ingestion:"+project)
	b.inRooms(ann, "context:"+project) // watches the context, not the project
	require.Eventually(t, func() bool { return count(ann) == "200 3" }, stack.Patience, 50*time.Millisecond, "sockets of all servers, each once")
	_ = w.conn.Close()
	require.Eventually(t, func() bool { return count(ann) == "200 2" }, stack.Patience, 50*time.Millisecond)
	b.stop()
	require.Eventually(t, func() bool { return count(ann) == "200 1" }, stack.Patience, 50*time.Millisecond)
	require.Equal(t, "403 FORBIDDEN 0", count(ben))
	require.Equal(t, "404 PROJECT_NOT_FOUND 0", count(cem))
}

func TestRealtimeAccessLog(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann, ben, staff := l.actor(), l.actor(), l.actor()
	l.db.Exec(`update public.users set is_platform_admin = true where id = $1`, staff.user)
	foreign := ben.project("private")
	token := ann.token()
	n.open(foreign, dial{}).closed()
	n.open(foreign, dial{query: "token=short"}).closed()
	n.open(foreign, dial{query: "token=" + token}).closed()
	n.open("%00%ffnonsense"+url.PathEscape("é\n"), dial{query: "token=" + token}).closed()
	_, _, err := n.tryOpen(foreign, dial{header: http.Header{"Origin": {"https://evil.example"}}})
	require.Error(t, err)
	w := n.inRooms(ann)
	w.say(`{"action":"join","room":"project:` + foreign + `"}`)
	w.expect("error")

	type entry struct{ Timestamp, SocketID, ProjectID, Token, Reason, IPAddress string }
	var entries []entry
	read := func(query string) int {
		status, code := n.as(staff, http.MethodGet, "/admin/realtime/access-log"+query, &entries)
		require.Equal(t, http.StatusOK, status, code)
		return len(entries)
	}
	require.Eventually(t, func() bool { return read("") == 6 }, stack.Patience, 50*time.Millisecond, "one entry an attempt")
	var reasons []string
	for _, e := range entries {
		reasons = append(reasons, e.Reason)
		require.NotEmpty(t, e.SocketID)
		require.Equal(t, "127.0.0.1", e.IPAddress)
		require.Regexp(t, `Z$`, e.Timestamp)
	}
	require.Equal(t, []string{"Missing token", "Invalid token", "Project not found", "Project not found", "Origin not allowed", "Room denied: project:" + foreign}, reasons)
	require.Equal(t, []string{"", "***", token[:10] + "..." + token[len(token)-5:]}, []string{entries[0].Token, entries[1].Token, entries[2].Token})
	require.Equal(t, foreign, entries[2].ProjectID)
	require.Equal(t, 2, read("?limit=2"))
	require.Equal(t, "Origin not allowed", entries[0].Reason, "the newest, oldest first")

	t.Run("ForThePlatformOnly", func(t *testing.T) {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			status, code := n.as(ann, method, "/admin/realtime/access-log", nil)
			require.Equal(t, "403 FORBIDDEN ", fmt.Sprint(status, " ", code))
		}
	})
	t.Run("AFloodIsCapped", func(t *testing.T) {
		for range 1500 {
			_, _, err := n.tryOpen(foreign, dial{header: http.Header{"Origin": {"https://evil.example"}}})
			require.Error(t, err)
		}
		time.Sleep(1200 * time.Millisecond)
		require.Less(t, read("?limit=1000"), 1000)
	})
	t.Run("Cleared", func(t *testing.T) {
		var answer struct{ Success bool }
		status, _ := n.as(staff, http.MethodDelete, "/admin/realtime/access-log", &answer)
		require.Equal(t, http.StatusOK, status)
		require.True(t, answer.Success)
		require.Zero(t, read(""))
	})
}
