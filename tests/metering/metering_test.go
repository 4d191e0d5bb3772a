package metering

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/projects"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
	"kijko/worker/metering"
)

// lab is a server with an OpenMeter, and Anna. Units are sent when the test says so.
type lab struct {
	*stack.Stack
	t     *testing.T
	meter *openMeter
	anna  *client.Person
	pool  *pgxpool.Pool
	send  *metering.Engine
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, meter: newOpenMeter(t)}
	l.Stack = stack.New(t, stack.Models(llmtest.New(t)), func(c *config.Config) { c.OpenMeterURL, c.OpenMeterKey = l.meter.url, key })
	l.pool = l.DB.Pool("kijko_worker")
	l.send = l.engine()
	require.NoError(t, l.send.Run(t.Context()), "metering begins when a worker starts")
	l.anna = l.SignUp("Anna")
	return l
}

// again is the lab for the next test, with another Anna and nothing that waits.
func (l *lab) again(t *testing.T) *lab {
	t.Helper()
	l.meter.answers(nil)
	require.NoError(t, l.send.Run(t.Context()))
	require.Zero(t, l.waiting())
	next := *l
	next.t, next.anna = t, l.SignUp("Anna")
	require.NoError(t, l.send.Run(t.Context()))
	return &next
}

// One stack for all tests that need no other worker and no other plan.
func TestMetering(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, l *lab)
	}{
		{"OpenMeterCountsWhatThePlanCounts", countsWhatThePlanCounts},
		{"UnitsThatAreGivenBackAreTakenOff", unitsThatAreGivenBack},
		{"AWrongKeyLosesNothing", aWrongKey},
		{"AStoppedSenderHandsItsBatchOn", aStoppedSender},
		{"UnitsWaitWhileOpenMeterIsAway", unitsWait},
		{"OneRefusedEventHoldsUpNoOther", oneRefusedEvent},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, l.again(t)) })
	}
}

// engine is the sender of another worker.
func (l *lab) engine() *metering.Engine {
	l.t.Helper()
	to, err := metering.Open(metering.Config{URL: l.meter.url + "/", Key: key})
	require.NoError(l.t, err)
	return metering.New(l.pool, to, slog.New(slog.DiscardHandler))
}

func (l *lab) consume(metric string, n int) {
	l.t.Helper()
	l.DB.Exec("select private.consume_quota($1, $2, $3)", l.anna.OrgID, metric, n)
}

func (l *lab) waiting() int {
	return testdb.Value[int](l.DB, "select count(*)::int from private.metering_events where refusal is null")
}

// used is what the plan counts.
func (l *lab) used(metric string) float64 {
	return testdb.Value[float64](l.DB, "select coalesce(sum(used), 0)::float8 from public.usage where organization_id = $1 and metric = $2", l.anna.OrgID, metric)
}

// ready is the check of /health/ready once it says so; checks are kept for some seconds.
func (l *lab) ready(status string) client.Response {
	l.t.Helper()
	var r client.Response
	require.Eventually(l.t, func() bool {
		r = l.Get("//health/ready")
		return r.Value("checks.metering.status") == status
	}, time.Minute, 100*time.Millisecond, "metering is %s", status)
	return r
}

// Anna asks a model, stores a text, starts an ingestion, invites a colleague and calls with a key. OpenMeter shows the same numbers.
func countsWhatThePlanCounts(t *testing.T, l *lab) {
	l.DB.Exec("update public.subscriptions set plan_id = 'teams' where organization_id = $1", l.anna.OrgID)
	for range 3 {
		l.anna.Do("POST", "/ai/messages", map[string]any{"model": llmtest.Sonnet, "messages": []map[string]string{{"role": "user", "content": "Hello"}}}).Want(200)
	}
	path := projects.Create(t, l.anna, "Engines")
	l.anna.Do("PUT", path+"/manual-content", map[string]any{"content": "enough to ingest"}).Want(200)
	l.anna.Do("POST", path+"/ingest", map[string]any{"skipValidation": true}).Want(202)
	l.anna.Do("PUT", path+"/manual-content", map[string]any{"content": "less"})
	l.anna.Do("POST", "/team/invitations", map[string]any{"email": "ben@example.nl", "role": "member"})
	require.NotZero(t, l.waiting())
	require.NoError(t, l.send.Run(t.Context()))
	require.Zero(t, l.waiting(), "what was accepted is deleted")

	org := l.anna.OrgID
	require.EqualValues(t, 3, l.meter.sum("api_calls", org))
	require.EqualValues(t, 1, l.meter.sum("ingestions", org))
	require.Equal(t, l.used("api_calls"), l.meter.sum("api_calls", org))
	bytes, changes, seats := 0.0, 0.0, 0.0
	for _, e := range l.meter.events() {
		if e.Subject != org {
			continue
		}
		require.Equal(t, []string{"1.0", "kijko", "application/json"}, []string{e.SpecVersion, e.Source, e.DataContentType})
		require.WithinDuration(t, time.Now(), e.Time, time.Hour)
		switch v := e.value(t); e.Type {
		case "kijko.storage":
			bytes, changes = v.Value, changes+v.Change
		case "kijko.seats":
			seats = v.Value
		}
	}
	stored := l.used("storage")
	require.Equal(t, []float64{stored, stored}, []float64{bytes, changes}, "the newest value, and the sum of the changes")
	require.Equal(t, testdb.Value[float64](l.DB, "select private.seats_used($1)::float8", org), seats)
	for _, r := range l.meter.received() {
		require.Equal(t, []string{"application/cloudevents-batch+json", "Bearer " + key}, []string{r.header.Get("Content-Type"), r.header.Get("Authorization")})
	}
}

// Units that were given back are events with a negative value, and work that was rolled back leaves none.
func unitsThatAreGivenBack(t *testing.T, l *lab) {
	l.DB.Exec("select private.take_units(jsonb_build_object('organizationId', $1::text, 'leaseId', '00000000-0000-0000-0000-000000000001', 'wanted', 10))", l.anna.OrgID)
	l.DB.Exec("select private.settle_units('{\"leases\": [{\"id\": \"00000000-0000-0000-0000-000000000001\", \"left\": 6, \"ends\": true}]}')")
	l.DB.Exec("do $$ begin perform private.consume_quota('" + l.anna.OrgID + "', 'ingestions', 5); raise exception 'no'; exception when raise_exception then null; end $$")
	require.NoError(t, l.send.Run(t.Context()))
	require.EqualValues(t, 4, l.meter.sum("api_calls", l.anna.OrgID))
	require.Equal(t, l.used("api_calls"), l.meter.sum("api_calls", l.anna.OrgID))
	require.Zero(t, l.meter.sum("ingestions", l.anna.OrgID))
}

func TestWithoutOpenMeterNoCopyIsWritten(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	require.NoError(t, metering.New(s.DB.Pool("kijko_worker"), nil, slog.New(slog.DiscardHandler)).Run(t.Context()))
	anna := s.SignUp("Anna")
	s.DB.Exec("select private.consume_quota($1, 'ingestions', 1)", anna.OrgID)
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from private.metering_events"))
	require.Equal(t, "disabled", s.Get("//health/ready").Value("checks.metering.status"))
	require.Equal(t, "disabled", s.Get("//health/ready").Value("checks.tracing.status"))
}

// OpenMeter answers 503 for a while. The units wait, readiness says so, and the next attempts become rarer. Then all arrive, once.
func unitsWait(t *testing.T, l *lab) {
	before := len(l.meter.received())
	l.meter.answers(func([]event) int { return 503 })
	l.consume("ingestions", 2)
	waits := []float64{}
	for range 3 {
		require.NoError(t, l.send.Run(t.Context()))
		waits = append(waits, testdb.Value[float64](l.DB, "select extract(epoch from next_at - clock_timestamp())::float8 from private.metering_state"))
		require.NoError(t, l.send.Run(t.Context()), "it is left alone meanwhile")
		l.DB.Exec("update private.metering_state set next_at = '-infinity'")
	}
	require.Len(t, l.meter.received(), before+3)
	require.Greater(t, waits[1], waits[0])
	require.Greater(t, waits[2], waits[1])
	check := l.ready("degraded")
	require.Equal(t, []any{"OPENMETER_FAILS", 200}, []any{check.Value("checks.metering.code"), check.Status}, "it is no reason to send requests elsewhere")
	l.consume("ingestions", 1)
	l.meter.answers(nil)
	require.NoError(t, l.send.Run(t.Context()))
	require.EqualValues(t, 3, l.meter.sum("ingestions", l.anna.OrgID))
	require.Zero(t, l.waiting())
	l.ready("healthy")
}

// A wrong key is a fault of the settings: nothing is given up.
func aWrongKey(t *testing.T, l *lab) {
	l.consume("ingestions", 1)
	to, err := metering.Open(metering.Config{URL: l.meter.url, Key: "another"})
	require.NoError(t, err)
	require.NoError(t, metering.New(l.pool, to, slog.New(slog.DiscardHandler)).Run(t.Context()))
	all := l.meter.received()
	require.Equal(t, 401, all[len(all)-1].status)
	require.NotContains(t, testdb.Value[string](l.DB, "select error from private.metering_state"), "another")
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*)::int from private.metering_events where metric = 'ingestions'"))
	l.DB.Exec("update private.metering_state set next_at = '-infinity'")
}

// One event that OpenMeter never takes is found and kept aside; the other units of its batch arrive.
func oneRefusedEvent(t *testing.T, l *lab) {
	for range 20 {
		l.consume("ingestions", 1)
	}
	poison := testdb.Value[string](l.DB, "select id::text from private.metering_events where metric = 'ingestions' order by seq offset 12 limit 1")
	l.meter.answers(func(events []event) int {
		for _, e := range events {
			if e.ID == poison {
				return 400
			}
		}
		return 204
	})
	require.NoError(t, l.send.Run(t.Context()))
	require.EqualValues(t, 19, l.meter.sum("ingestions", l.anna.OrgID))
	require.Zero(t, l.waiting())
	require.Equal(t, "OpenMeter refuses with status 400", testdb.Value[string](l.DB, "select refusal from private.metering_events where id::text = $1", poison))
	require.Equal(t, "EVENTS_REFUSED", l.ready("degraded").Value("checks.metering.code"))
	l.consume("ingestions", 1)
	require.NoError(t, l.send.Run(t.Context()))
	require.EqualValues(t, 20, l.meter.sum("ingestions", l.anna.OrgID), "the refused one stays aside")
}

// Many batches, many senders at once: each unit is counted once, and only one batch is on its way at a time.
func TestSendersAtOnceSendNothingTwice(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", l.anna.OrgID)
	const units = 1700
	l.DB.Exec("do $$ begin for i in 1.." + strconv.Itoa(units) + " loop perform private.consume_quota('" + l.anna.OrgID + "', 'ingestions', 1); end loop; end $$")
	var inFlight, most atomic.Int32
	l.meter.answers(func([]event) int {
		if n := inFlight.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer inFlight.Add(-1)
		return 204
	})
	done := make(chan error)
	for range 4 {
		e := l.engine()
		go func() { done <- e.Run(context.WithoutCancel(t.Context())) }()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
	require.NoError(t, l.send.Run(t.Context()))
	require.EqualValues(t, units, l.meter.sum("ingestions", l.anna.OrgID))
	require.Zero(t, l.waiting())
	require.EqualValues(t, 1, most.Load())
	sent := 0
	for _, r := range l.meter.received() {
		require.LessOrEqual(t, len(r.events), 500)
		sent += len(r.events)
	}
	require.Equal(t, len(l.meter.events()), sent, "none was sent twice")
}

// A stop in the middle of a request hands the batch on at once.
func aStoppedSender(t *testing.T, l *lab) {
	l.consume("ingestions", 1)
	ctx, stop := context.WithCancelCause(t.Context())
	l.meter.answers(func([]event) int {
		stop(errors.New("stopped"))
		<-ctx.Done()
		return 503
	})
	require.NoError(t, l.send.Run(ctx))
	l.meter.answers(nil)
	require.NoError(t, l.engine().Run(t.Context()))
	require.EqualValues(t, 1, l.meter.sum("ingestions", l.anna.OrgID))
}

// A worker is killed (kill -9) after OpenMeter has counted a batch and before the worker has heard so. The next one sends the batch again. Work
// goes on meanwhile. Each unit is counted once, and none is missing.
func TestKilledWorkerLosesNoUnitAndCountsNoneTwice(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", l.anna.OrgID)
	path := worker.Program(t)
	process := func() *exec.Cmd {
		cmd := exec.Command(path)
		cmd.Env = append(os.Environ(), "DEBUG=true", "DATABASE_WORKER_URL="+l.DB.DSN("kijko_worker"), "KIJKO_DATA_DIR="+t.TempDir(),
			"ENCRYPTION_KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KIJKO_LOG_LEVEL=error", "OPENMETER_URL="+l.meter.url, "OPENMETER_API_KEY="+key)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() })
		return cmd
	}
	var first *exec.Cmd
	started, killed := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	l.meter.answers(func(events []event) int {
		if once.CompareAndSwap(false, true) {
			<-started
			_ = first.Process.Kill()
			_, _ = first.Process.Wait()
			close(killed)
		}
		return 204 // the batch is counted, though the worker does not get the answer
	})
	for range 30 {
		l.consume("ingestions", 1)
	}
	first = process()
	close(started)
	<-killed
	l.meter.wait("the batch is counted", func() bool { return l.meter.sum("ingestions", l.anna.OrgID) > 0 })
	require.NotZero(t, l.waiting(), "the worker died before it knew")
	for range 5 {
		l.consume("ingestions", 1)
	}
	process()
	l.meter.wait("all are counted", func() bool { return l.meter.sum("ingestions", l.anna.OrgID) >= 35 })
	require.Eventually(t, func() bool { return l.waiting() == 0 }, time.Minute, 20*time.Millisecond)
	require.EqualValues(t, 35, l.meter.sum("ingestions", l.anna.OrgID))
	sent := 0
	for _, r := range l.meter.received() {
		sent += len(r.events)
	}
	require.Greater(t, sent, len(l.meter.events()), "the batch was sent twice, with the same ids")
}
