package realtime

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/auth"
	"kijko/server/realtime"
	"kijko/server/socketio"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func TestSocketIOConnect(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	g := l.gateway()
	ann, ben := l.actor(), l.actor()
	project, foreign := ann.project("private"), ben.project("private")
	bound, err := l.issuer.MintConnection(auth.Connection{UserID: ann.user, SessionID: ann.session, OrgID: ann.org, ProjectID: project})
	require.NoError(t, err)
	gone := &actor{live: l, user: ann.user, org: ann.org, session: ann.signIn()}
	l.db.Exec(`delete from private.sessions where id = $1`, gone.session)

	t.Run("TheDefaultNamespace", func(t *testing.T) {
		v := g.visit(t, "")
		answer := v.enter("", client.Object{"token": ann.token()})
		require.Len(t, answer, 2)
		require.NotEmpty(t, answer["pid"])
		hello, offset := v.wants("", "hello")
		require.Empty(t, offset, "no event of the log")
		require.Equal(t, answer["sid"], hello["connectionId"])
		require.Equal(t, []any{"user:" + ann.user, "org:" + ann.org}, hello["rooms"])
	})
	t.Run("WithoutRecovery", func(t *testing.T) {
		v := g.visit(t, "")
		require.Len(t, v.enter("/api/projects/"+project, client.Object{"token": ann.token(), "recovery": false, "snapshot": true}), 1)
		l.emit(project, "phase_started", `{"phase": "parsing"}`)
		_, offset := v.wants("/api/projects/"+project+",", "phase_started")
		require.Empty(t, offset)
	})
	t.Run("EachSpellingOfAProject", func(t *testing.T) {
		v := g.visit(t, "&projectId="+project)
		var spaces []string
		for _, prefix := range []string{"/api/projects", "/api/v1/projects"} {
			for _, id := range []string{"", "/" + project} {
				for _, end := range []string{"", "/ws", "/progress"} {
					spaces = append(spaces, prefix+id+end)
				}
			}
		}
		for _, space := range spaces {
			v.enter(space, client.Object{"token": bound.Raw})
			hello, _ := v.wants(space+",", "hello")
			require.Equal(t, []any{"ingestion:" + project}, hello["rooms"])
		}
		l.emit(project, "error", `{"errorCode": "X"}`)
		for range spaces {
			name, data, offset := v.told(v.packet("42"))
			require.Equal(t, "error", name, "the name is free here")
			require.Equal(t, "X", data["errorCode"])
			require.NotEmpty(t, offset)
		}
	})
	t.Run("AProjectBesideTheDefault", func(t *testing.T) {
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.token(), "projectId": strings.ToUpper(project)})
		hello, _ := v.wants("", "hello")
		require.Contains(t, hello["rooms"], "project:"+project)
		l.emit(project, "error", `{"errorCode": "X"}`)
		data, _ := v.wants("", "ingestion_error")
		require.Equal(t, "X", data["errorCode"], "`error` is what a rejected action gets here")
	})
	t.Run("AContext", func(t *testing.T) {
		v := g.visit(t, "&contextId="+project)
		v.enter("", client.Object{"token": ann.token()})
		hello, _ := v.wants("", "hello")
		require.Equal(t, []any{"context:" + project}, hello["rooms"])
		v.say(`42["nonsense"]`)
		data, _ := v.wants("", "protocol_error")
		require.Equal(t, "UNKNOWN_ACTION", data["code"])
	})

	refused := []struct {
		name, space, auth, code, message string
	}{
		{"UnknownNamespace", "/random", "", "", "Invalid namespace"},
		{"NoCredential", "", "", "NO_TOKEN", "Missing token"},
		{"NoToken", "", `{"other":1}`, "NO_TOKEN", "Missing token"},
		{"ATokenThatIsNull", "", `{"token":null}`, "NO_TOKEN", "Missing token"},
		{"ATokenThatIsNoText", "", `{"token":5}`, "INVALID_TOKEN", ""},
		{"Rubbish", "", `{"token":"rubbish"}`, "INVALID_TOKEN", "Invalid token"},
		{"Expired", "", `{"token":"` + ann.tokenFor(-time.Minute) + `"}`, "INVALID_TOKEN", "Token expired"},
		{"Revoked", "", `{"token":"` + gone.token() + `"}`, "INVALID_TOKEN", "Session revoked"},
		{"NoProject", "/api/projects", `{"token":"` + ann.token() + `"}`, "NO_PROJECT_ID", ""},
		{"ForeignProject", "/api/projects/" + foreign, `{"token":"` + ann.token() + `"}`, "ACCESS_DENIED", "Access denied"},
		{"UnknownProject", "/api/projects/" + uuid.NewString(), `{"token":"` + ann.token() + `"}`, "ACCESS_DENIED", "Access denied"},
		{"NoUUID", "/api/projects/x/ws", `{"token":"` + ann.token() + `"}`, "ACCESS_DENIED", "Access denied"},
		{"ForeignProjectBesideTheDefault", "", `{"token":"` + ann.token() + `","projectId":"` + foreign + `"}`, "ACCESS_DENIED", "Access denied"},
		{"ForeignContext", "", `{"token":"` + ann.token() + `","contextId":"` + foreign + `"}`, "ACCESS_DENIED", "Access denied"},
		{"ABoundTokenElsewhere", "", `{"token":"` + bound.Raw + `"}`, "ACCESS_DENIED", "Access denied"},
	}
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			v := g.visit(t, "")
			space := c.space
			if space != "" {
				space += ","
			}
			v.say("40" + space + c.auth)
			answer := v.object("44" + space)
			if c.message != "" {
				require.Equal(t, c.message, answer["message"])
			}
			if c.code == "" {
				require.Len(t, answer, 1)
			} else {
				require.Equal(t, c.code, answer["data"].(map[string]any)["code"])
			}
			v.say("40" + space + `{"token":"` + ann.token() + `"}`) // the session lives on
			v.until("4")
		})
	}
	t.Run("NobodyConnects", func(t *testing.T) {
		g := l.gateway(func(_ *realtime.Options, o *socketio.Options) { o.ConnectTimeout = 300 * time.Millisecond })
		code, _ := g.visit(t, "").closed()
		require.Equal(t, 4000, code)
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.token()})
		v.say("41")
		code, _ = v.closed()
		require.Equal(t, 4000, code)
	})
}

func TestSocketIOProtocol(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	g := l.gateway()
	ann := l.actor()
	project := ann.project("private")
	space := "/api/projects/" + project

	t.Run("NamespacesAreIndependent", func(t *testing.T) {
		v := g.visit(t, "")
		first, second := v.enter("", client.Object{"token": ann.token()}), v.enter(space, client.Object{"token": ann.token()})
		require.NotEqual(t, first["sid"], second["sid"])
		v.say("41"+space+",", "42"+space+`,["ping"]`) // packets still in flight are no fault
		require.Equal(t, true, v.ack("", `["ping"]`)["ok"])
		require.Eventually(t, func() bool { return g.realtime.Stats().Sockets == 1 }, stack.Patience, time.Millisecond)
		v.enter(space, client.Object{"token": ann.token()})
		require.Equal(t, true, v.ack(space+",", `["ping"]`)["ok"])
	})
	for name, packets := range map[string][]string{
		"NotASocketIOPacket":         {"4abc"},
		"AnEventFirst":               {`42["ping"]`},
		"AnAcknowledgementFirst":     {`431[]`},
		"AnEventElsewhere":           {"40", `42/random,["ping"]`},
		"ConnectTwice":               {"40" + `{"token":"` + ann.token() + `"}`, "40" + `{"token":"` + ann.token() + `"}`},
		"AReservedName":              {"40", `42["disconnect"]`},
		"AnEventThatIsNoArray":       {"40", `42{"a":1}`},
		"ABinaryEvent":               {"40", `451-["a",{"_placeholder":true,"num":0}]`},
		"AnErrorFromTheClient":       {`44{"message":"no"}`},
		"ADigitTooMany":              {`4299999999999999999["a"]`},
		"TheWrongDirection":          {"2"},
		"AHandshakeFromTheClient":    {`0{"sid":"x"}`},
		"AnUnreadableCredential":     {`40{"token"`},
		"ACredentialThatIsNoObject":  {`40["token"]`},
		"ANameWithoutEnd":            {"40/" + strings.Repeat("n", 300)},
		"ManyFailures":               repeat(`40/random`, 30),
		"ManyNamespacesThatAreNone":  numbered("40/random%d", 150),
		"ManyAcknowledgementsAtOnce": append([]string{"40" + `{"token":"` + ann.token() + `"}`}, repeat("431[]", 200)...),
	} {
		t.Run(name, func(t *testing.T) {
			v := g.visit(t, "")
			for _, text := range packets {
				if !v.try(text) {
					break
				}
			}
			code, reason := v.closed()
			require.Contains(t, []int{4000, 4029}, code, reason)
		})
	}
	t.Run("Binary", func(t *testing.T) {
		v := g.visit(t, "")
		require.NoError(t, v.conn.WriteMessage(websocket.BinaryMessage, []byte{1, 2, 3}))
		code, _ := v.closed()
		require.Equal(t, 1003, code)
	})
	t.Run("APacketTooLarge", func(t *testing.T) {
		v := g.visit(t, "")
		v.say(`40{"token":"` + strings.Repeat("t", 17<<10) + `"}`)
		code, _ := v.closed()
		require.Equal(t, 1009, code)
		v = g.visit(t, "")
		_ = v.try("4" + strings.Repeat("x", 2<<20))
		code, _ = v.closed()
		require.Equal(t, 1009, code)
	})
	t.Run("NobodyIsLeft", func(t *testing.T) {
		require.Eventually(t, func() bool { return g.realtime.Stats().Sockets == 0 && g.socketio.Sessions() == 0 }, stack.Patience, 5*time.Millisecond)
	})
}

func repeat(text string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = text
	}
	return out
}

func numbered(format string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

func TestSocketIOActions(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	g := l.gateway()
	ann, ben := l.actor(), l.actor()
	project, foreign := ann.project("private"), ben.project("private")
	room := "project:" + project

	t.Run("JoinAndLeave", func(t *testing.T) {
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.token()})
		require.Equal(t, map[string]any{"ok": true, "room": room}, v.ack("", `["join","`+room+`"]`))
		l.emit(project, "phase_started", `{"phase": "parsing"}`)
		data, offset := v.wants("", "phase_started")
		require.Equal(t, "parsing", data["phase"])
		require.Equal(t, true, v.ack("", `["leave",{"room":"`+room+`"}]`)["ok"])
		l.emit(project, "phase_started", `{"phase": "chunking"}`)
		g.reached()
		v.say(`42["ping"]`)
		require.Len(t, v.until(`42["pong"`), 1, "who left is told nothing")

		before := testdb.Value[string](l.db, `select ($1::bigint - 1)::text`, offset)
		require.Equal(t, true, v.ack("", `["join",{"room":"`+room+`","lastEventId":"`+before+`"}]`)["ok"])
		require.Len(t, v.until(`42["resumed"`), 3, "two events again")
	})
	t.Run("WithoutAnAcknowledgement", func(t *testing.T) {
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.token()})
		v.say(`42["join","`+room+`"]`, `42["join","project:`+foreign+`"]`)
		data, _ := v.wants("", "room_joined")
		require.Equal(t, room, data["room"])
		data, _ = v.wants("", "error")
		require.Equal(t, "ROOM_FORBIDDEN", data["code"])
	})
	t.Run("Refusals", func(t *testing.T) {
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.token()})
		for event, code := range map[string]string{
			`["join","project:` + foreign + `"]`: "ROOM_FORBIDDEN",
			`["join","user:` + ben.user + `"]`:   "ROOM_FORBIDDEN",
			`["join","invalid-format"]`:          "INVALID_ROOM",
			`["join"]`:                           "INVALID_ROOM",
			`["join",5]`:                         "INVALID_MESSAGE",
			`["join",{"room":[]}]`:               "INVALID_MESSAGE",
			`["join",{"room":"` + room + `","lastEventId":"later"}]`: "INVALID_CURSOR",
			`["resume"]`: "INVALID_CURSOR",
			`["resume","99999999999999999999999999999999999999"]`:        "RESYNC_REQUIRED",
			`["authenticate","rubbish"]`:                                 "INVALID_TOKEN",
			`["authenticate",{"token":"` + ann.tokenFor(-1) + `"}]`:      "INVALID_TOKEN",
			`["nonsense","x"]`:                                           "UNKNOWN_ACTION",
			`["resume",{"lastEventId":"1","rooms":[` + rooms(60) + `]}]`: "INVALID_MESSAGE",
		} {
			answer := v.ack("", event)
			require.Equal(t, false, answer["ok"], event)
			require.Equal(t, code, answer["code"], event)
			require.NotEmpty(t, answer["message"], event)
		}
	})
	t.Run("Resume", func(t *testing.T) {
		v := g.visit(t, "")
		v.enter("/api/projects/"+project, client.Object{"token": ann.token(), "snapshot": false})
		space := "/api/projects/" + project + ","
		hello, _ := v.wants(space, "hello")
		answer := v.ack(space, `["resume",{"lastEventId":"`+hello["lastEventId"].(string)+`"}]`)
		require.Equal(t, map[string]any{"ok": true, "replayed": 0.0, "lastEventId": hello["lastEventId"]}, answer)
		require.Equal(t, "ROOM_FIXED", v.ack(space, `["join","`+room+`"]`)["code"])
	})
	t.Run("TooFast", func(t *testing.T) {
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.token()})
		for range 22 {
			v.say(`427["ping"]`)
		}
		require.Contains(t, strings.Join(v.until(`437[{"ok":false`), "\n"), `437[{"ok":false,"code":"RATE_LIMITED"`)
		for range 4 {
			_ = v.try(`427["ping"]`)
		}
		require.Contains(t, strings.Join(v.until("41"), "\n"), `42["closing",{"code":4029,"reason":"Rate limited"}]`)
	})
}

func rooms(n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = `"project:` + uuid.NewString() + `"`
	}
	return strings.Join(out, ",")
}

// reached waits until the gateway has dispatched everything that was committed.
func (g *gateway) reached() { (&node{Server: g.realtime, live: g.live}).reached() }

func TestSocketIORecovery(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	g := l.gateway()
	ann, ben := l.actor(), l.actor()
	project := ann.project("private")
	space := "/api/projects/" + project
	emit := func(phases ...string) {
		for _, phase := range phases {
			l.emit(project, "phase_started", `{"phase": "`+phase+`"}`)
		}
	}

	t.Run("TheSameNameRoomsAndWhatWasMissed", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter("", client.Object{"token": ann.token()})
		v.ack("", `["join","project:`+project+`"]`)
		emit("parsing")
		_, offset := v.wants("", "phase_started")
		_ = v.conn.Close()
		emit("chunking", "optimization")
		g.reached()

		v = g.visit(t, "")
		again := v.enter("", client.Object{"token": ann.token(), "pid": first["pid"], "offset": offset})
		require.Equal(t, first, again)
		hello, _ := v.wants("", "hello")
		require.Contains(t, hello["rooms"], "project:"+project)
		emit("indexing")
		last := offset
		for _, phase := range []string{"chunking", "optimization", "indexing"} {
			data, offset := v.wants("", "phase_started")
			require.Equal(t, phase, data["phase"])
			require.NotEqual(t, last, offset)
			last = offset
		}
	})
	t.Run("WhatWasLeftStaysLeft", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter("", client.Object{"token": ann.token()})
		v.ack("", `["leave","org:`+ann.org+`"]`)
		_ = v.conn.Close()
		v = g.visit(t, "")
		require.Equal(t, first, v.enter("", client.Object{"token": ann.token(), "pid": first["pid"]}))
		data, _ := v.wants("", "room_left")
		require.Equal(t, "org:"+ann.org, data["room"])
	})
	t.Run("ANameBelongsToItsContext", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter("", client.Object{"token": ann.token()})
		_ = v.conn.Close()
		v = g.visit(t, "")
		require.NotEqual(t, first["sid"], v.enter("", client.Object{"token": ann.token(), "pid": first["pid"], "contextId": project})["sid"])
	})
	t.Run("NothingWasToldYet", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter(space, client.Object{"token": ann.token()})
		v.wants(space+",", "hello")
		_ = v.conn.Close()
		require.Eventually(t, func() bool { return g.realtime.Stats().Sockets == 0 }, stack.Patience, time.Millisecond)
		emit("parsing")
		v = g.visit(t, "")
		require.Equal(t, first, v.enter(space, client.Object{"token": ann.token(), "pid": first["pid"]}))
		data, _ := v.wants(space+",", "phase_started")
		require.Equal(t, "parsing", data["phase"])
	})
	t.Run("ATransportThatNobodyMissed", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter(space, client.Object{"token": ann.token()})
		w := g.visit(t, "")
		require.Equal(t, first, w.enter(space, client.Object{"token": ann.token(), "pid": first["pid"], "offset": "0"}))
		code, _ := v.closed()
		require.Equal(t, 1000, code)
		emit("parsing")
		w.wants(space+",", "phase_started")
	})
	t.Run("SomebodyElsesNameIsNotGiven", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter("", client.Object{"token": ann.token()})
		w := g.visit(t, "")
		other := w.enter("", client.Object{"token": ben.token(), "pid": first["pid"], "offset": "0"})
		require.NotEqual(t, first["sid"], other["sid"])
		require.NotEqual(t, first["pid"], other["pid"])
		require.Equal(t, true, v.ack("", `["ping"]`)["ok"], "the owner is not disturbed")
		third := w.enter(space+"/ws", client.Object{"token": ann.token(), "pid": first["pid"]})
		require.NotEqual(t, first["pid"], third["pid"], "a name belongs to its namespace")
	})
	t.Run("AFarewellIsForgotten", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter("", client.Object{"token": ann.token()})
		v.say("41")
		require.NotEqual(t, first["sid"], v.enter("", client.Object{"token": ann.token(), "pid": first["pid"]})["sid"])
	})
	t.Run("AnotherProcessGivesANewNameAndWhatWasMissed", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter(space, client.Object{"token": ann.token()})
		emit("parsing")
		_, offset := v.wants(space+",", "phase_started")
		emit("chunking")
		g.reached()
		w := l.gateway().visit(t, "")
		again := w.enter(space, client.Object{"token": ann.token(), "pid": first["pid"], "offset": offset})
		require.NotEqual(t, first["sid"], again["sid"])
		require.NotEqual(t, first["pid"], again["pid"])
		data, _ := w.wants(space+",", "phase_started")
		require.Equal(t, "chunking", data["phase"])
	})
	t.Run("WhatCannotBeReplayedIsNoRecovery", func(t *testing.T) {
		v := g.visit(t, "")
		first := v.enter(space, client.Object{"token": ann.token()})
		v.wants(space+",", "hello")
		_ = v.conn.Close()
		v = g.visit(t, "")
		again := v.enter(space, client.Object{"token": ann.token(), "pid": first["pid"], "offset": "not ours"})
		require.NotEqual(t, first["sid"], again["sid"])
		data, _ := v.wants(space+",", "resync_required")
		require.Equal(t, "invalid_cursor", data["reason"])
	})
	t.Run("NotForEver", func(t *testing.T) {
		g := l.gateway(func(_ *realtime.Options, o *socketio.Options) { o.RecoveryTime = 20 * time.Millisecond })
		v := g.visit(t, "")
		first := v.enter(space, client.Object{"token": ann.token()})
		_ = v.conn.Close()
		require.Eventually(t, func() bool { return g.socketio.Sessions() == 0 }, stack.Patience, time.Millisecond)
		require.Eventually(t, func() bool {
			v := g.visit(t, "")
			again := v.enter(space, client.Object{"token": ann.token(), "pid": first["pid"]})
			v.say("41" + space + ",")
			return again["sid"] != first["sid"]
		}, stack.Patience, 30*time.Millisecond)
	})
	t.Run("ByHand", func(t *testing.T) {
		v := g.visit(t, "")
		v.enter(space, client.Object{"token": ann.token(), "lastEventId": "0"})
		v.wants(space+",", "resumed")
	})
}

func TestSocketIOEnds(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	g := l.gateway(func(o *realtime.Options, _ *socketio.Options) {
		o.RefreshBefore, o.RefreshAgain = 5*time.Minute, time.Minute
	})

	t.Run("ExpiredEndsTheTransport", func(t *testing.T) {
		ann := l.actor()
		v := g.visit(t, "")
		first := v.enter("", client.Object{"token": ann.tokenFor(3 * time.Second)})
		v.wants("", "token_refresh_required")
		data, _ := v.wants("", "closing")
		require.Equal(t, "Token expired", data["reason"])
		code, _ := v.closed()
		require.Equal(t, 4001, code)
		again := g.visit(t, "").enter("", client.Object{"token": ann.token(), "pid": first["pid"]})
		require.Equal(t, first, again, "with a new token everything is as before")
	})
	t.Run("RenewedLivesOn", func(t *testing.T) {
		ann := l.actor()
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.tokenFor(time.Minute)})
		v.wants("", "token_refresh_required")
		answer := v.ack("", `["authenticate",{"token":"`+ann.token()+`"}]`)
		require.Equal(t, true, answer["ok"])
		require.Equal(t, ann.user, answer["userId"])
		v.say(`421["authenticate","` + l.actor().token() + `"]`)
		code, reason := v.closed()
		require.Equal(t, 4001, code)
		require.Equal(t, "Token subject changed", reason)
	})
	t.Run("RevokedIsDisconnected", func(t *testing.T) {
		ann := l.actor()
		project := ann.project("private")
		v := g.visit(t, "")
		first := v.enter("", client.Object{"token": ann.token()})
		v.enter("/api/projects/"+project, client.Object{"token": ann.token()})
		l.db.Exec(`delete from private.sessions where id = $1`, ann.session)
		got := strings.Join(append(v.until("41"), v.until("41")...), "\n")
		require.Contains(t, got, `42["closing",{"code":4010,"reason":"Session revoked"}]`)
		require.Contains(t, got, "41/api/projects/"+project+",")
		v.say("42" + `["ping"]`) // a straggler
		ann.session = ann.signIn()
		require.NotEqual(t, first["sid"], v.enter("", client.Object{"token": ann.token(), "pid": first["pid"]})["sid"], "a new session is a new beginning")
	})
	t.Run("DeletedIsDisconnected", func(t *testing.T) {
		ann := l.actor()
		project := ann.project("private")
		v := g.visit(t, "")
		v.enter("", client.Object{"token": ann.token()})
		v.ack("", `["join","project:`+project+`"]`)
		v.enter("/api/projects/"+project, client.Object{"token": ann.token()})
		l.db.Exec(`delete from public.projects where id = $1`, project)
		left, out := false, false
		for !left || !out {
			text := v.next()
			left = left || strings.HasPrefix(text, `42["room_left"`) && strings.Contains(text, "deleted")
			out = out || text == "41/api/projects/"+project+","
		}
		require.Equal(t, true, v.ack("", `["ping"]`)["ok"])
	})
	t.Run("WhoDoesNotFetchIsCutOff", func(t *testing.T) {
		ann := l.actor()
		project := ann.project("private")
		g := l.gateway(func(_ *realtime.Options, o *socketio.Options) { o.Engine.MaxQueuedMessages = 10 })
		_, body, _ := g.exchange(t, "GET", "?EIO=4&transport=polling", "")
		query := "?EIO=4&transport=polling&sid=" + strings.Split(body, `"`)[3]
		status, _, _ := g.exchange(t, "POST", query, `40/api/projects/`+project+`,{"token":"`+ann.token()+`"}`)
		require.Equal(t, 200, status)
		_, body, _ = g.exchange(t, "GET", query, "")
		require.Contains(t, body, "\x1e42/api/projects/"+project+`,["hello"`)
		for range 12 {
			l.emit(project, "phase_started", `{"phase": "parsing"}`)
		}
		require.Eventually(t, func() bool {
			return g.realtime.Stats().Closed[realtime.CloseSlow] == 1 && g.realtime.Stats().Sockets == 0
		},
			stack.Patience, 5*time.Millisecond)
		_, body, _ = g.exchange(t, "GET", query, "")
		require.Equal(t, "1", body)
	})
	t.Run("ARestart", func(t *testing.T) {
		ann := l.actor()
		g := l.gateway()
		v, idle := g.visit(t, ""), g.visit(t, "")
		v.enter("", client.Object{"token": ann.token()})
		g.stop()
		code, _ := v.closed()
		require.Equal(t, 1012, code)
		code, _ = idle.closed()
		require.Equal(t, 1012, code)
		require.Zero(t, g.realtime.Stats().Sockets)
	})
}

// Polling goes through the whole edge: CORS with credentials, the preflight, and refusals in both forms.
func TestSocketIOPolling(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	g := l.gateway(func(o *realtime.Options, _ *socketio.Options) { o.HandshakesPerMinute = 3 })
	const query = "?EIO=4&transport=polling"
	status, _, header := g.exchange(t, "OPTIONS", query, "", "Origin", gatewaySite, "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "content-type")
	require.Equal(t, 204, status)
	require.Equal(t, gatewaySite, header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", header.Get("Access-Control-Allow-Credentials"))
	require.Contains(t, header.Get("Access-Control-Allow-Headers"), "Content-Type")

	status, body, header := g.exchange(t, "GET", query, "", "Origin", gatewaySite)
	require.Equal(t, 200, status)
	require.Equal(t, gatewaySite, header.Get("Access-Control-Allow-Origin"))
	session := query + "&sid=" + strings.Split(body, `"`)[3]
	status, _, header = g.exchange(t, "POST", session, "40", "Origin", "https://evil.example")
	require.Equal(t, 403, status)
	require.Empty(t, header.Get("Access-Control-Allow-Origin"))
	require.Eventually(t, func() bool {
		return testdb.Value[int](l.db, `select count(*) from private.realtime_refusals where reason = 'Origin not allowed'`) == 1
	}, stack.Patience, 20*time.Millisecond, "the access log has it")
	status, _, _ = g.exchange(t, "OPTIONS", query, "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	require.Equal(t, 204, status)

	ann := l.actor()
	status, body, _ = g.exchange(t, "POST", session, `40{"token":"`+ann.token()+`"}`, "Origin", gatewaySite)
	require.Equal(t, 200, status, body)
	_, body, _ = g.exchange(t, "GET", session, "")
	require.True(t, strings.HasPrefix(body, `40{"pid":`), body)
	status, _, _ = g.exchange(t, "POST", session, `421["join","org:`+ann.org+`"]`)
	require.Equal(t, 200, status)
	_, body, _ = g.exchange(t, "GET", session, "")
	require.Equal(t, `431[{"ok":true,"room":"org:`+ann.org+`"}]`, body)

	status, body, _ = g.exchange(t, "POST", session, "4"+strings.Repeat("x", 1_000_000))
	require.Equal(t, 413, status)
	require.Contains(t, body, "PAYLOAD_TOO_LARGE")
	for range 2 {
		status, _, _ = g.exchange(t, "GET", query, "")
		require.Equal(t, 200, status)
	}
	status, body, header = g.exchange(t, "GET", query, "")
	require.Equal(t, 429, status)
	require.Contains(t, body, "RATE_LIMITED")
	require.NotEmpty(t, header.Get("Retry-After"))
}

// Hostile clients are answered or disconnected, and leave nothing behind. Not in parallel: the test measures the memory of the whole
// process.
func TestSocketIOHostile(t *testing.T) {
	l := newLive(t)
	g := l.gateway()
	ann := l.actor()
	project := ann.project("private")
	bystander := g.visit(t, "")
	bystander.enter("/api/projects/"+project, client.Object{"token": ann.token()})
	bystander.wants("/api/projects/"+project+",", "hello")
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)

	for name, packet := range map[string]func(i int) string{
		"TenThousandJoins":       func(i int) string { return fmt.Sprintf(`42%d["join","project:%s"]`, i, uuid.NewString()) },
		"TenThousandNamespaces":  func(i int) string { return fmt.Sprintf(`40/api/projects/%s,{"token":"x"}`, uuid.NewString()) },
		"TenThousandMalformed":   func(i int) string { return strings.Repeat("[", i+1) },
		"TenThousandLargeEvents": func(int) string { return `42["x","` + strings.Repeat("y", 15<<10) + `"]` },
		"DeeplyNested":           func(int) string { return `42["join",` + strings.Repeat("[", 8000) + strings.Repeat("]", 8000) + `]` },
		"TenThousandResumes":     func(int) string { return `421["resume","0"]` },
	} {
		t.Run(name, func(t *testing.T) {
			v := g.visit(t, "")
			v.enter("", client.Object{"token": ann.token()})
			for i := range 10_000 {
				if !v.try(packet(i)) {
					break
				}
			}
			code, reason := v.closed()
			require.Contains(t, []int{4000, 4029, 1006}, code, reason)
		})
	}
	require.Eventually(t, func() bool { return g.realtime.Stats().Sockets == 1 && g.socketio.Sessions() == 1 }, stack.Patience, 5*time.Millisecond)
	l.emit(project, "phase_started", `{"phase": "parsing"}`)
	bystander.wants("/api/projects/"+project+",", "phase_started")
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(32<<20))
}
