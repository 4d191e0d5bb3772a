package realtime

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/auth"
	"kijko/server/auth/authtest"
	"kijko/server/realtime"
	"kijko/tests/testdb"
)

// emitTo writes an event into any room, without the server, by psql.
func (l *live) emitTo(room, eventType, data string) {
	l.t.Helper()
	l.db.Exec(`select private.emit($1, $2, $3::jsonb, null)`, room, eventType, data)
}

func TestRealtimeGeneralSocket(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann, ben := l.actor(), l.actor()
	project, foreign := ann.project("private"), ben.project("shared")

	t.Run("BeginsInTheRoomsOfPersonAndOrganization", func(t *testing.T) {
		for _, path := range []string{"/api/v1/ws", "/api/ws", "/ws"} {
			w := n.open("", dial{query: "token=" + ann.token(), path: path})
			hello := w.expect("hello")
			require.Equal(t, []any{"user:" + ann.user, "org:" + ann.org}, hello.field(t, "rooms"))
			require.Equal(t, ann.org, hello.field(t, "organizationId"))
			_ = w.conn.Close()
			response, body := get(t, n, path, nil)
			require.Equal(t, http.StatusUpgradeRequired, response.StatusCode)
			require.Equal(t, "UPGRADE_REQUIRED", body["code"])
		}
		hintless, err := l.issuer.Mint(auth.Access{UserID: ann.user, SessionID: ann.session})
		require.NoError(t, err)
		w := n.open("", dial{query: "token=" + hintless.Raw, path: "/ws"})
		require.Equal(t, []any{"user:" + ann.user, "org:" + ann.org}, w.expect("hello").field(t, "rooms"), "the organization that REST would use")
		l.emitTo("org:"+ann.org, "note", `{}`)
		require.Equal(t, "org:"+ann.org, w.expect("note").Room)
	})
	t.Run("WithoutAnOrganizationThereIsTheRoomOfThePerson", func(t *testing.T) {
		alone := &actor{live: l, user: testdb.Value[string](l.db, `insert into public.users (email, email_verified_at) values ($1, now()) returning id::text`,
			uuid.NewString()+"@example.nl")}
		alone.session = testdb.Value[string](l.db, `insert into private.sessions (user_id, expires_at, idle_expires_at)
			values ($1, now() + interval '1 day', now() + interval '1 day') returning id::text`, alone.user)
		w := n.connect(alone, "")
		hello := w.expect("hello")
		require.Equal(t, []any{"user:" + alone.user}, hello.field(t, "rooms"))
		require.Nil(t, hello.field(t, "organizationId"))
		l.emitTo("user:"+alone.user, "note", `{}`)
		w.expect("note")
		l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, alone.session)
		code, _ := w.closed()
		require.Equal(t, 4010, code)
		code, _ = n.connect(alone, "").closed()
		require.Equal(t, 4010, code)
	})
	t.Run("ControlFramesAreFlat", func(t *testing.T) {
		w := n.inRooms(ann)
		w.say(`{"action":"ping"}`)
		require.Equal(t, `{"type":"pong"}`, w.next().raw)
		w.say(`not json`)
		require.JSONEq(t, `{"type":"error","code":"INVALID_JSON","message":"invalid JSON"}`, w.next().raw)
		w.say(`{"action":"join","room":"project:` + strings.ToUpper(project) + `","ref":"r"}`)
		require.Equal(t, `{"type":"room_joined","ref":"r","room":"project:`+project+`"}`, w.next().raw)
		w.join("project:" + project) // idempotent
		w.say(`{"action":"leave","room":"project:` + project + `"}`)
		require.Equal(t, `{"type":"room_left","room":"project:`+project+`"}`, w.next().raw)
		w.say(`{"action":"leave","room":"project:` + uuid.NewString() + `"}`)
		w.expect("room_left")
		w.say(`{"action":"leave","room":"user:` + ann.user + `"}`)
		w.expect("room_left")
		l.emitTo("user:"+ann.user, "note", `{}`)
		l.emit(project, "error", `{}`)
		n.reached()
		require.Empty(t, w.barrier(), "of rooms that were left nothing comes, automatic ones included")
	})
	t.Run("EveryRoomCarriesItsOwn", func(t *testing.T) {
		w := n.inRooms(ann, "ingestion:"+project, "context:"+project)
		l.emit(project, "resource_changed", `{"resource": "project_file"}`)
		l.emit(project, "error", `{"errorCode": "X"}`)
		l.emitTo("context:"+project, "ingestion:added", `{}`)
		l.emitTo("org:"+ann.org, "resource_changed", `{"resource": "subscription"}`)
		got := []wire{w.next(), w.next(), w.next()}
		require.Equal(t, []string{"ingestion_error", "ingestion:added", "resource_changed"}, types(got))
		require.Equal(t, []string{"ingestion:" + project, "context:" + project, "org:" + ann.org}, []string{got[0].Room, got[1].Room, got[2].Room})
		require.NotEmpty(t, got[0].ID)
		require.Less(t, number(t, got[0].ID), number(t, got[1].ID))

		w.join("project:" + project)
		l.emit(project, "error", `{}`)
		l.emit(project, "resource_changed", `{"resource": "project_file"}`)
		require.Equal(t, "project:"+project, w.expect("ingestion_error").Room)
		require.Equal(t, "project:"+project, w.expect("resource_changed").Room)
		require.Empty(t, w.barrier(), "what is in two rooms comes once")
		w.say(`{"action":"leave","room":"project:` + project + `"}`)
		w.expect("room_left")
		l.emit(project, "error", `{}`)
		require.Equal(t, "ingestion:"+project, w.expect("ingestion_error").Room)
	})
	t.Run("WhatIsRefusedLooksAlike", func(t *testing.T) {
		w := n.inRooms(ann)
		for room, code := range map[string]string{
			"user:" + ben.user: "ROOM_FORBIDDEN", "org:" + ben.org: "ROOM_FORBIDDEN", "project:" + foreign: "ROOM_FORBIDDEN",
			"project:" + uuid.NewString(): "ROOM_FORBIDDEN", "ingestion:" + foreign: "ROOM_FORBIDDEN", "context:" + foreign: "ROOM_FORBIDDEN",
			"invalid-format": "INVALID_ROOM", "team:" + foreign: "INVALID_ROOM", "": "INVALID_ROOM", "project:x": "INVALID_ROOM",
		} {
			w.say(`{"action":"join","room":"` + room + `"}`)
			f := w.expect("error")
			require.Equal(t, code, f.Code, room)
			require.Contains(t, f.raw, `"cannot join that room"`)
		}
		w.say(`{"action":"join"}`)
		require.Equal(t, "INVALID_ROOM", w.expect("error").Code)
	})
	t.Run("ManyDeniedJoinsEndTheConnection", func(t *testing.T) {
		cem := l.actor()
		w := n.inRooms(cem)
		for range 21 {
			w.say(`{"action":"join","room":"project:` + foreign + `"}`)
			time.Sleep(55 * time.Millisecond)
		}
		code, reason := w.closed()
		// 21 rejected frames within a minute would close the socket as well; the denied joins are counted first.
		require.Equal(t, 4029, code, reason)
	})
	t.Run("AtMostFiftyRooms", func(t *testing.T) {
		cem := l.actor()
		w := n.inRooms(cem)
		for range 48 {
			p := cem.project("private")
			w.join("project:" + p)
			time.Sleep(60 * time.Millisecond) // within the message rate
		}
		w.say(`{"action":"join","room":"project:` + cem.project("private") + `"}`)
		got := w.until("error")
		require.Equal(t, "TOO_MANY_ROOMS", got[len(got)-1].Code)
	})
	t.Run("ATokenForOneProjectOpensNothingElse", func(t *testing.T) {
		bound, err := l.issuer.MintConnection(auth.Connection{UserID: ann.user, SessionID: ann.session, OrgID: ann.org, ProjectID: project})
		require.NoError(t, err)
		for _, query := range []string{"", "&contextId=" + project} {
			code, _ := n.open("", dial{path: "/ws", query: "token=" + bound.Raw + query}).closed()
			require.Equal(t, 4003, code)
		}
		free, err := l.issuer.MintConnection(auth.Connection{UserID: ann.user, SessionID: ann.session, OrgID: ann.org})
		require.NoError(t, err)
		n.open("", dial{path: "/ws", query: "token=" + free.Raw}).expect("hello")
	})
}

func TestRealtimeContextSocket(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann, ben := l.actor(), l.actor()
	project, foreign := ann.project("private"), ben.project("shared")
	n.reached()

	for _, id := range []string{foreign, uuid.NewString(), "nonsense", ""} {
		code, reason := n.connect(ann, "contextId="+id).closed()
		require.Equal(t, 4004, code)
		require.Equal(t, "Context not found", reason)
	}
	w := n.connect(ann, "contextId="+strings.ToUpper(project))
	hello := w.next()
	require.Equal(t, "hello", hello.Event)
	require.Equal(t, []any{"context:" + project}, hello.field(t, "rooms"))
	l.emitTo("context:"+project, "enrichment:progress", `{"type": "chromaCode", "progress": 3, "status": "processing"}`)
	f := w.next()
	require.Equal(t, "enrichment:progress", f.Event)
	require.NotContains(t, f.raw, `"room"`)
	require.NotContains(t, f.raw, `"type":"enrichment`)
	require.NotEmpty(t, f.ID)
	require.NotEmpty(t, f.Timestamp)
	w.say(`{"action":"ping","ref":"p"}`)
	require.Regexp(t, `^\{"event":"pong","timestamp":"[^"]+","ref":"p","data":\{\}\}$`, w.next().raw)
	w.say(`{"action":"join","room":"project:` + project + `"}`)
	require.Equal(t, "project:"+project, w.expect("room_joined").field(t, "room"))
	l.emit(project, "error", `{"errorCode": "X"}`)
	require.Equal(t, "error", w.next().Event)
	w.say(`{"action":"join","room":"org:` + ben.org + `"}`)
	require.Equal(t, "ROOM_FORBIDDEN", w.expect("protocol_error").field(t, "code"))
	l.db.Exec(`delete from public.projects where id = $1`, project)
	code, reason := w.closed()
	require.Equal(t, 4004, code)
	require.Equal(t, "Project deleted", reason)
}

// Per kind of room: no actor sees a frame that the room does not admit, whatever the actor was before.
func TestRealtimeStrangersSeeNothing(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	owner, guest := l.actor(), l.actor()
	guest.joins(owner, "member")
	project := owner.project("shared")
	rooms := []string{"user:" + owner.user, "org:" + owner.org, "project:" + project, "ingestion:" + project, "context:" + project}

	former, dismissed, expired, revoked, other := l.actor(), l.actor(), l.actor(), l.actor(), l.actor()
	for _, a := range []*actor{former, dismissed, expired, revoked} {
		a.joins(owner, "member")
	}
	// A former member of the organization, still signed in to their own organization.
	home := testdb.Value[string](l.db, `select organization_id::text from public.memberships where user_id = $1 and role = 'owner'`, former.user)
	l.db.Exec(`delete from public.memberships where user_id = $1 and organization_id = $2`, former.user, owner.org)
	stale := former.token()
	former.org = home
	former.session = former.signIn()
	l.db.Exec(`update public.memberships set status = 'inactive' where user_id = $1 and organization_id = $2`, dismissed.user, owner.org)
	l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, revoked.session)
	n.reached()

	serviceKey := authtest.Sign(t, jose.HS256, "", []byte(supabaseSecret), map[string]any{"iss": "supabase", "role": "service_role",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	for name, c := range map[string]struct {
		token string
		codes []int
	}{
		"ExpiredToken": {expired.tokenFor(-time.Minute), []int{4001}}, "RevokedSession": {revoked.token(), []int{4010}},
		"FormerMemberWithTheOldToken": {stale, []int{4010}}, "DeactivatedMember": {dismissed.token(), []int{4010}},
		"NoToken": {"", []int{4001}}, "Rubbish": {"e30.e30.e30", []int{4001}}, "ServiceKey": {serviceKey, []int{4003}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/ws?", "/ws?contextId=" + project + "&", "/projects/" + project + "/ws?"} {
				base, query, _ := strings.Cut(path, "?")
				if c.token != "" {
					query += "token=" + c.token
				}
				w := n.open("", dial{path: base, query: query})
				code, reason := w.closed()
				require.Contains(t, c.codes, code, reason)
				require.Empty(t, w.rest())
			}
		})
	}
	admitted := n.inRooms(owner, rooms[2], rooms[4])
	strangers := []*watcher{n.inRooms(former), n.inRooms(other)}
	for _, w := range strangers {
		for _, room := range rooms {
			w.say(`{"action":"join","room":"` + room + `"}`)
			require.Equal(t, "ROOM_FORBIDDEN", w.expect("error").Code)
		}
	}
	member := n.inRooms(guest, rooms[2], rooms[4])
	for _, room := range rooms {
		if !strings.HasPrefix(room, "ingestion:") {
			l.emitTo(room, "secret", `{}`)
		}
	}
	l.db.Exec(`select private.publish('context:' || $1::text, 'whisper', '{}')`, project)
	l.db.Exec(`delete from public.projects where id = $1`, project)
	n.reached()
	require.Contains(t, types(admitted.barrier()), "resource_changed")
	for _, w := range strangers {
		require.Empty(t, w.barrier(), "not even about a deleted row")
	}
	got := types(member.barrier())
	require.Contains(t, got, "secret")
	require.Contains(t, got, "resource_changed", "who could see the project is told of its end")
	require.Contains(t, got, "room_left")
}

// Access that ends while a socket is in a room.
func TestRealtimeEviction(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	owner, guest := l.actor(), l.actor()
	guest.joins(owner, "member")
	for name, c := range map[string]struct{ lose, reason string }{
		"MadePrivate": {`update public.projects set privacy = 'private' where id = $1`, "access_revoked"},
		"Deleted":     {`delete from public.projects where id = $1`, "deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			project := owner.project("shared")
			w := n.inRooms(guest, "project:"+project, "context:"+project, "ingestion:"+project)
			one := n.connect(guest, "contextId="+project)
			one.expect("hello")
			tx := l.begin()
			_, err := tx.Exec(t.Context(), `select set_config('app.wakes', 'on', true)`)
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), c.lose, project)
			require.NoError(t, err)
			require.NoError(t, tx.Commit(t.Context()))
			l.emitTo("project:"+project, "after", `{}`)
			l.emitTo("context:"+project, "after", `{}`)
			l.emitTo("user:"+guest.user, "end", `{}`)
			code, _ := one.closed()
			require.Equal(t, 4004, code)
			left := map[string]string{}
			for _, f := range w.until("end") {
				require.NotEqual(t, "after", f.Type, "nothing behind the removal is delivered")
				if f.Type == "room_left" {
					left[f.Room] = f.Reason
				}
			}
			require.Equal(t, map[string]string{"project:" + project: c.reason, "context:" + project: c.reason, "ingestion:" + project: c.reason}, left)
			w.say(`{"action":"join","room":"project:` + project + `"}`)
			require.Equal(t, "ROOM_FORBIDDEN", w.expect("error").Code)
		})
	}
	t.Run("MemberOfAProjectRemoved", func(t *testing.T) {
		project := owner.project("private")
		out := l.actor()
		l.db.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
			values ($1, $2, $3, 'out@example.nl', 'viewer', now())`, owner.org, project, out.user)
		w := n.inRooms(out, "project:"+project)
		l.db.Exec(`delete from public.project_members where project_id = $1 and user_id = $2`, project, out.user)
		l.emitTo("project:"+project, "after", `{}`)
		n.reached()
		got := w.barrier()
		require.Contains(t, types(got), "room_left")
		require.NotContains(t, types(got), "after")
		l.emitTo("user:"+out.user, "note", `{}`)
		w.expect("note")
	})
}

// One connection changes the organization it acts in.
func TestRealtimeAuthenticate(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann, ben, cem := l.actor(), l.actor(), l.actor()
	cem.joins(ann, "member")
	mine := cem.project("shared") // seen through the organization only
	w := n.inRooms(ann, "project:"+mine)
	theirs := ben.project("shared")
	home := ann.org
	ann.joins(ben, "member")
	n.reached()
	w.barrier()
	w.say(`{"action":"authenticate","token":"` + ann.token() + `","ref":"a"}`)
	got := w.until("authenticated")
	last := got[len(got)-1]
	require.Equal(t, "a", last.Ref)
	require.ElementsMatch(t, []any{"user:" + ann.user, "org:" + ben.org}, last.field(t, "rooms"))
	require.Equal(t, "room_left", got[0].Type)
	require.Equal(t, "project:"+mine, got[0].Room, "a room that the other organization does not see")
	l.emitTo("org:"+home, "before", `{}`)
	l.emitTo("org:"+ben.org, "now", `{}`)
	require.Equal(t, "org:"+ben.org, w.expect("now").Room)
	w.join("project:" + theirs)
	w.say(`{"action":"join","room":"org:` + home + `"}`)
	require.Equal(t, "ROOM_FORBIDDEN", w.expect("error").Code)
	// The connection depends on the session of the newest token.
	l.db.Exec(`update private.sessions set revoked_at = now() where id = $1`, ann.session)
	code, _ := w.closed()
	require.Equal(t, 4010, code)
}

func TestRealtimeRoomsResume(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node()
	ann := l.actor()
	project := ann.project("private")
	n.reached()
	w := n.inRooms(ann)
	cursor := fmt.Sprint(n.Stats().LastEventID)
	l.emitTo("user:"+ann.user, "note", `{"n": 1}`)
	first := w.expect("note")
	l.emit(project, "phase_started", `{"phase": "parsing"}`)
	l.emit(project, "progress_update", progress(1))
	l.emit(project, "progress_update", progress(2))
	l.emit(project, "resource_changed", `{}`)
	l.emitTo("org:"+ann.org, "note", `{"n": 2}`)
	w.expect("note")

	t.Run("AllRoomsInOneOrder", func(t *testing.T) {
		w := n.connect(ann, "lastEventId="+first.ID)
		w.expect("hello")
		got := w.until("resumed")
		require.Equal(t, []string{"note", "resumed"}, types(got))
		w.say(`{"action":"join","room":"project:` + project + `","lastEventId":"` + first.ID + `"}`)
		got = w.until("resumed")
		require.Equal(t, []string{"room_joined", "phase_started", "progress_update", "resource_changed", "resumed"}, types(got))
		w.say(`{"action":"resume","lastEventId":"` + cursor + `","ref":"again"}`)
		got = w.until("resumed")
		require.Equal(t, []string{"note", "resumed"}, types(got), "what was told on this connection is not told again")
		require.Equal(t, "again", got[1].Ref)
		w.say(`{"action":"join","room":"ingestion:` + project + `","lastEventId":"` + first.ID + `"}`)
		require.Equal(t, []string{"room_joined", "resumed"}, types(w.until("resumed")), "nor through another room")
	})
	t.Run("NamedRoomsOnly", func(t *testing.T) {
		w := n.inRooms(ann, "project:"+project)
		w.say(`{"action":"resume","lastEventId":"` + cursor + `","rooms":["user:` + ann.user + `","project:` + uuid.NewString() + `"]}`)
		require.Equal(t, []string{"note", "resumed"}, types(w.until("resumed")))
		w.say(`{"action":"join","room":"project:` + project + `","lastEventId":"` + cursor + `"}`)
		require.Equal(t, []string{"room_joined", "phase_started", "progress_update", "resource_changed", "resumed"}, types(w.until("resumed")), "joining again replays")
	})
	t.Run("RoomsThatCannotBeResumedAreNamed", func(t *testing.T) {
		busy := ann.project("private")
		l.db.Exec(`select private.emit('project:' || $1::text, 'note', '{}', null) from generate_series(1, 1001)`, busy)
		n.reached()
		w := n.inRooms(ann, "project:"+busy)
		w.say(`{"action":"resume","lastEventId":"` + cursor + `"}`)
		f := w.expect("resync_required")
		require.Equal(t, "too_many", f.field(t, "reason"))
		require.Equal(t, []any{"project:" + busy}, f.field(t, "rooms"))
		got := w.until("resumed")
		for _, f := range got {
			require.NotEqual(t, "project:"+busy, f.Room, "the other rooms are replayed")
		}
		w.say(`{"action":"resume","lastEventId":"99999999"}`)
		require.Equal(t, "invalid_cursor", w.expect("resync_required").field(t, "reason"))
		w.say(`{"action":"join","room":"project:` + project + `","lastEventId":"-1"}`)
		require.Equal(t, "INVALID_CURSOR", w.expect("error").Code)
	})
}

// 10.1: a socket gets an event exactly if its person could select it.
func TestRealtimeAudiences(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	n := l.node(func(o *realtime.Options) { o.DeniedPerMinute = 1000 })
	owner := l.actor()
	people := []*actor{owner}
	for _, role := range []string{"member", "admin", "viewer", "member"} {
		p := l.actor()
		p.joins(owner, role)
		people = append(people, p)
	}
	projects := []string{owner.project("shared"), owner.project("private"), people[1].project("private")}
	for i, role := range []string{"manager", "developer", "auditor"} {
		l.db.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at)
			values ($1, $2, $3, $4, $5, now())`, owner.org, projects[i], people[4].user, uuid.NewString()+"@example.nl", role)
	}
	n.reached()
	start := n.Stats().LastEventID
	sockets := map[*actor]*watcher{}
	for _, p := range people {
		w := n.inRooms(p)
		for _, project := range projects {
			w.say(`{"action":"join","room":"context:` + project + `"}`)
			if len(p.selects(`select id::text, name from public.projects where id = $1`, project)) == 1 {
				got := w.until("room_joined")
				require.Equal(t, "context:"+project, got[len(got)-1].Room)
			} else {
				got := w.until("error")
				require.Equal(t, "ROOM_FORBIDDEN", got[len(got)-1].Code)
			}
		}
		sockets[p] = w
	}
	// Presence is sent in addition, when a person joins.
	heard := func(p *actor) []wire {
		return slices.DeleteFunc(sockets[p].barrier(), func(f wire) bool { return f.Type == "user:status" })
	}
	check := func() {
		t.Helper()
		n.reached()
		for _, p := range people {
			got := map[string]bool{}
			last := map[string]int64{}
			for _, f := range heard(p) {
				id, err := strconv.ParseInt(f.ID, 10, 64)
				require.NoError(t, err, "%s is no event", f.raw)
				require.Greater(t, id, last[f.Room], "once, and in order")
				last[f.Room], got[f.ID] = id, true
			}
			rooms := []string{"user:" + p.user, "org:" + p.org}
			for _, project := range projects {
				rooms = append(rooms, "context:"+project)
			}
			visible := p.selects(`select id::text, room from public.events where id > $1 and room = any ($2)`, start, rooms)
			for id, room := range visible {
				require.True(t, got[id], "%s of %s was not delivered", id, room)
			}
			for id := range got {
				require.Contains(t, visible, id, "delivered what the person may not see")
			}
			require.NotEmpty(t, visible)
		}
		start = n.Stats().LastEventID
	}
	say := func() {
		for i, project := range projects {
			l.db.Exec(`select private.emit('org:' || $1::text, 'resource_changed', '{}', $1::text::uuid, $2::text::uuid, 'project')`, owner.org, project)
			l.db.Exec(`select set_config('app.user_id', $3, true), private.emit('context:' || $2::text, 'activity:new', '{}', $1::text::uuid, null, 'activity')`,
				owner.org, project, people[i].user)
			l.db.Exec(`select private.emit('org:' || $1::text, 'note', '{}', $1::text::uuid, null, 'users', p_users => array[$2::uuid])`, owner.org, people[i].user)
		}
	}
	say()
	check()
	say() // from cached decisions
	check()
	// A change of a decision is in the log, and applies from there on.
	l.db.Exec(`update public.project_members set role = 'viewer' where project_id = $1 and user_id = $2`, projects[0], people[4].user)
	say()
	check()
	l.db.Exec(`update public.projects set privacy = 'shared' where id = $1`, projects[1])
	say()
	// No new person is in the context's room, so only the organization's room shows the difference.
	n.reached()
	for _, p := range people {
		sockets[p].barrier()
	}
	start = n.Stats().LastEventID
	l.db.Exec(`select private.emit('org:' || $1::text, 'resource_changed', '{}', $1::text::uuid, $2::text::uuid, 'project')`, owner.org, projects[1])
	n.reached()
	for _, p := range people {
		require.Len(t, heard(p), 1, "everybody sees a shared project")
	}
	start = n.Stats().LastEventID
	l.db.Exec(`update public.memberships set role = 'admin' where user_id = $1 and organization_id = $2`, people[3].user, owner.org)
	l.db.Exec(`select private.emit('org:' || $1::text, 'resource_changed', '{}', $1::text::uuid, $2::text::uuid, 'project')`, owner.org, projects[2])
	n.reached()
	got := heard(people[3])
	// The events about the new role, to the organization and to the person; then, as an administrator, the private project.
	require.Len(t, got, 3)
	require.ElementsMatch(t, []string{"notification", "resource_changed", "resource_changed"}, types(got))
	require.Equal(t, "{}", string(got[2].Data), "an administrator sees private projects")
	for _, p := range []*actor{people[1], people[2], people[4]} {
		seen := heard(p)
		require.Equal(t, len(p.selects(`select id::text, room from public.events where id > $1 and room = any ($2) and (type <> 'notification' or audience = 'room')`, start,
			[]string{"user:" + p.user, "org:" + p.org})), len(seen), "%v", types(seen))
	}
}
