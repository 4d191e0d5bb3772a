//go:build peers

package upgrades

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// The walk of docs/operations.md, Upgrades: set up, then servers, then workers, with the processes of the release before at work meanwhile.
func TestAnInstallationUpgradesUnderLoad(t *testing.T) {
	t.Parallel()
	before, today := build(t, checkout(t, release(t))), build(t, "../..")
	i := install(t)
	i.setUp(before)
	old := i.server(before)
	oldWorker := i.start(before, "worker")

	// Both tenants have data of the release before.
	anna, stan := signUp(t, old, "Anna"), signUp(t, old, "Stan")
	for name, p := range map[string]*person{"Anna": anna, "Stan": stan} {
		p.want(t, old, 201, "POST", "/projects", object{"name": name + "'s project"})
		p.want(t, old, 201, "POST", "/skills", object{"name": name + "'s skill", "promptTemplate": "Say hello to {{name}} in one friendly sentence."})
		i.export(p, old, old)
	}
	// A job that waits for a worker over the upgrade.
	oldWorker.stop()
	waits := i.ask(anna, old)

	var mu sync.Mutex
	serving := []*process{old}
	serve := func(all ...*process) { mu.Lock(); serving = all; mu.Unlock() }
	end, failed := make(chan struct{}), make(chan error, 1)
	var made []string
	go func() {
		var err error
		made, err = load(anna, func() []*process { mu.Lock(); defer mu.Unlock(); return serving }, end)
		failed <- err
	}()
	called := i.functions()
	i.setUp(today)
	require.Empty(t, missing(called, i.functions()), "the release before calls functions that this one removes or changes; keep them until the release after it")

	current := i.server(today)
	serve(old, current)
	for _, p := range []*person{anna, stan} {
		for _, server := range []*process{old, current} {
			for _, path := range []string{"/projects", "/skills", "/notifications", "/auth/me", "/data/exports"} {
				p.want(t, server, 200, "GET", path, nil)
			}
		}
	}
	worker := i.start(today, "worker")
	i.ready(anna, current, waits)
	i.export(stan, old, current)
	// The other way round: a worker of the release before does what a server of today asks for.
	worker.stop()
	oldWorker = i.start(before, "worker")
	i.export(stan, current, old)
	oldWorker.stop()
	i.start(today, "worker")

	// Events of one server reach the log that the other reads.
	for name, servers := range map[string][2]*process{"Heard by today's": {old, current}, "Heard by the one before": {current, old}} {
		from := stan.want(t, servers[1], 200, "GET", "/realtime/events", nil)["lastEventId"]
		stan.want(t, servers[0], 201, "POST", "/projects", object{"name": name})
		stack.Eventually(t, "the event is read through the other server", func() bool {
			events, _ := stan.want(t, servers[1], 200, "GET", fmt.Sprintf("/realtime/events?after=%v", from), nil)["events"].([]any)
			return len(events) > 0
		})
	}

	// The rolling restart: the last server of the release before ends, and each of today's is replaced.
	second := i.server(today)
	serve(current, second)
	old.stop()
	third := i.server(today)
	serve(second, third)
	current.stop()
	close(end)
	require.NoError(t, <-failed)
	require.NotEmpty(t, made)
	require.Equal(t, len(made), testdb.Value[int](i.db, "select count(*) from public.skills where name like 'Skill %'"), "no acknowledged skill is lost, and none is there twice")
	require.Equal(t, 2, testdb.Value[int](i.db, "select count(*) from public.skills where name like '%''s skill'"))
	t.Logf("%d skills were made during the upgrade", len(made))
}

// ask queues an export of personal data, and gives its id.
func (i *installation) ask(p *person, server *process) string {
	i.t.Helper()
	id, _ := p.want(i.t, server, 201, "POST", "/data/export", object{"type": "full"})["id"].(string)
	require.NotEmpty(i.t, id)
	return id
}

// ready waits for the file of an export.
func (i *installation) ready(p *person, server *process, id string) {
	i.t.Helper()
	stack.Eventually(i.t, "the export is ready", func() bool {
		status := p.want(i.t, server, 200, "GET", "/data/exports/"+id, nil)["status"]
		require.NotEqual(i.t, "failed", status)
		return status == "ready"
	})
}

func (i *installation) export(p *person, asked, read *process) {
	i.t.Helper()
	i.ready(p, read, i.ask(p, asked))
}

// functions are those that a server or worker may call, with their results. An argument that has a default may be left out, so a function
// stands here once for each number of arguments with which it can be called.
func (i *installation) functions() map[string]string {
	i.t.Helper()
	return testdb.Value[map[string]string](i.db, `select jsonb_object_agg(format('%s.%s(%s)', n.nspname, p.proname, (select string_agg(x.type, ', ' order by x.at)
			from (select at, format_type(p.proargtypes[at - 1], null) as type from generate_series(1, c.given) at) x)), pg_get_function_result(p.oid))
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace, generate_series((p.pronargs - p.pronargdefaults)::int, p.pronargs::int) c (given)
		where n.nspname in ('api', 'private', 'jobs') and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype
			and (has_function_privilege('kijko_server', p.oid, 'execute') or has_function_privilege('kijko_worker', p.oid, 'execute')
				or has_function_privilege('authenticated', p.oid, 'execute') or has_function_privilege('anon', p.oid, 'execute'))`)
}

// missing names the calls of before that are gone or have another result.
func missing(before, after map[string]string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if result, there := after[name]; !there {
			names = append(names, name+" is gone")
		} else if result != before[name] {
			names = append(names, fmt.Sprintf("%s gives %s in place of %s", name, result, before[name]))
		}
	}
	return names
}
