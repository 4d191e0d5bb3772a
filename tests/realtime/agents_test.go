package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/realtime"
	"kijko/server/socketio"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// An agent in Python reports in its project's namespace; a dashboard in JavaScript sees it in the organization's room, and another agent in
// the same namespace sees it too.
func TestAgentsOfOfficialClients(t *testing.T) {
	t.Parallel()
	programs := installClients(t)
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	project := anna.Do("POST", "/projects", client.Object{"name": "Watched", "type": "repository"}).Want(201).String("project.id")
	namespace := "/api/projects/" + project
	connect := func(language, namespace, token string) *driver {
		d := startDriver(t, programs[language])
		d.do(client.Object{"do": "connect", "url": s.BaseURL, "namespace": namespace, "auth": client.Object{"token": token}, "query": client.Object{}, "transports": []string{"websocket"}})
		return d
	}
	ask := func(d *driver, name string, argument any) map[string]any {
		d.do(client.Object{"do": "emit", "name": name, "args": []any{argument}})
		return d.wait("ack", nil).Args[0].(map[string]any)
	}
	refused := connect("Python", namespace, stan.Token)
	require.Equal(t, "ACCESS_DENIED", refused.wait("connect_error", nil).Data["code"], "a stranger is no agent here")

	dashboard := connect("JavaScript", "/", anna.Token)
	dashboard.message("hello")
	other := connect("Python", namespace, anna.Token)
	other.message("hello")
	bound := anna.Do("POST", "/realtime/token", client.Object{"projectId": project}).Want(200).String("token")
	agent := connect("Python", namespace, bound)
	agent.message("hello")

	require.Equal(t, "AGENT_UNKNOWN", ask(agent, "agent:log", client.Object{"agent": "Planner", "level": "INFO", "msg": "Too early"})["code"])
	require.Equal(t, "VALIDATION_ERROR", ask(agent, "agent:status", client.Object{"name": "Planner", "state": "Busy"})["code"])
	require.Equal(t, "INVALID_MESSAGE", ask(agent, "agent:status", "Planner")["code"])
	require.Equal(t, "UNKNOWN_ACTION", ask(agent, "agent:dance", client.Object{})["code"])
	require.Equal(t, "ROOM_FORBIDDEN", ask(dashboard, "agent:status", client.Object{"name": "Planner", "state": "Idle"})["code"], "agents report in a project's namespace")
	status := map[string]any{"name": "Planner", "state": "Thinking", "load": 40.0, "projectId": project, "userId": anna.ID}
	answer := ask(agent, "agent:status", client.Object{"name": "Planner", "state": "Thinking", "load": 40})
	require.Equal(t, true, answer["ok"])
	delete(answer, "ok")
	require.Equal(t, status, answer, "acknowledged with what is stored")
	for _, d := range []*driver{dashboard, other, agent} {
		r := d.message("agent:status")
		told := r.Args[0].(map[string]any)
		require.Equal(t, true, told["online"])
		require.NotEmpty(t, told["timestamp"])
		delete(told, "online")
		delete(told, "timestamp")
		require.Equal(t, status, told)
		require.NotEmpty(t, r.offset(), "a state is an event of the log")
	}
	require.Equal(t, map[string]any{"ok": true}, ask(agent, "agent:log", client.Object{"agent": "Planner", "level": "INFO", "msg": "Reading"}))
	line := other.message("agent:log").Args[0].(map[string]any)
	require.Equal(t, []any{"INFO", "Planner", "Reading", project}, []any{line["level"], line["agent"], line["msg"], line["projectId"]})
	require.Regexp(t, `^\d\d:\d\d:\d\d$`, line["ts"])
	listed := ask(other, "agent:list", client.Object{})["agents"].([]any)
	require.Len(t, listed, 1)
	require.Equal(t, []any{"Planner", true}, []any{listed[0].(map[string]any)["name"], listed[0].(map[string]any)["online"]})
	require.Empty(t, testdb.Value[string](s.DB, "select coalesce(string_agg(type, ' '), '') from public.events where type = 'agent:log'"), "a line is not kept")
}

// How an agent comes, continues and goes, with the times shortened.
func TestAgentsComeAndGo(t *testing.T) {
	t.Parallel()
	l := newLive(t)
	// Where an agent goes, it is gone at once; where it comes back, it has an hour.
	brisk := l.gateway(func(o *realtime.Options, sio *socketio.Options) {
		sio.AbsenceTime, o.DoneDelay = time.Millisecond, 50*time.Millisecond
	})
	patient := l.gateway(func(_ *realtime.Options, sio *socketio.Options) { sio.AbsenceTime = time.Hour })
	ann := l.actor()
	project := ann.project("private")
	space := "/api/projects/" + project
	watcher := brisk.visit(t, "")
	watcher.enter("", client.Object{"token": ann.token(), "projectId": project})
	enter := func(g *gateway, auth client.Object) (*visitor, map[string]any) {
		v := g.visit(t, "")
		auth["token"] = ann.token()
		return v, v.enter(space, auth)
	}
	report := func(v *visitor, name, state string) {
		require.Equal(t, true, v.ack(space+",", `["agent:status",{"name":"`+name+`","state":"`+state+`","load":7}]`)["ok"])
	}
	// next is the next state in the project's room; each comes in the organization's room as well.
	next := func() (name, state any, online any) {
		data, _ := watcher.wants("", "agent:status")
		again, _ := watcher.wants("", "agent:status")
		require.Equal(t, data, again)
		return data["name"], data["state"], data["online"]
	}
	expect := func(want ...any) {
		t.Helper()
		name, state, online := next()
		require.Equal(t, want, []any{name, state, online})
	}

	t.Run("OfflineAfterAWhile", func(*testing.T) {
		v, _ := enter(brisk, client.Object{})
		report(v, "One", "Working")
		expect("One", "Working", true)
		require.NoError(t, v.conn.Close())
		expect("One", "Idle", false)
		require.Zero(t, testdb.Value[int](l.db, "select count(*)::int from private.agents"))
	})
	t.Run("SilentWhenItReportsAgainInTime", func(*testing.T) {
		v, first := enter(patient, client.Object{})
		report(v, "Two", "Working")
		expect("Two", "Working", true)
		require.NoError(t, v.conn.Close())
		v, _ = enter(brisk, client.Object{}) // of another server process
		report(v, "Two", "Working")
		l.db.Exec("select private.end_agents($1)", first["sid"]) // what the first process does in an hour
		report(v, "Two", "Error")
		expect("Two", "Error", true)
		require.NoError(t, v.conn.Close())
		expect("Two", "Idle", false)
	})
	t.Run("SilentWhenTheConnectionIsRecovered", func(*testing.T) {
		v, answer := enter(patient, client.Object{})
		report(v, "Three", "Thinking")
		expect("Three", "Thinking", true)
		_, offset := v.wants(space+",", "agent:status")
		require.NoError(t, v.conn.Close())
		require.Eventually(t, func() bool { return patient.socketio.Sessions() == 0 }, stack.Patience, 5*time.Millisecond)
		v, again := enter(patient, client.Object{"pid": answer["pid"], "offset": offset})
		require.Equal(t, answer["sid"], again["sid"])
		require.Equal(t, map[string]any{"ok": true}, v.ack(space+",", `["agent:log",{"agent":"Three","level":"INFO","msg":"Still here"}]`), "it need not report again")
		report(v, "Three", "Working")
		expect("Three", "Working", true)
		l.db.Exec("select private.end_agents($1)", answer["sid"])
		expect("Three", "Idle", false)
	})
	t.Run("TheNamespaceStaysAfterACompletedRun", func(*testing.T) {
		v, _ := enter(brisk, client.Object{})
		idle, _ := enter(brisk, client.Object{})
		report(v, "Four", "Working")
		expect("Four", "Working", true)
		l.emit(project, "ingestion_complete", `{"success": true}`)
		idle.until("41" + space) // the namespace of a watcher ends
		report(v, "Four", "Idle")
		expect("Four", "Idle", true)
		require.NoError(t, v.conn.Close())
		expect("Four", "Idle", false)
	})
	t.Run("WithoutAccessItReportsNoMore", func(*testing.T) {
		v, _ := enter(brisk, client.Object{})
		report(v, "Five", "Working")
		expect("Five", "Working", true)
		l.db.Exec("delete from public.projects where id = $1", project)
		v.until("41" + space)
		require.Eventually(t, func() bool { return testdb.Value[int](l.db, "select count(*)::int from private.agents") == 0 }, stack.Patience, 5*time.Millisecond)
	})
}
