package executions_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/executions"
	"kijko/worker/llm"
	"kijko/worker/llm/llmtest"
	"kijko/worker/runner"
)

// bench is a database with a person and a skill, a double of the providers, and the workers that a test starts.
type bench struct {
	t      *testing.T
	db     *testdb.DB
	owner  *pgxpool.Pool
	pool   *pgxpool.Pool
	models *llmtest.Server
	user   uuid.UUID
	org    uuid.UUID
	skill  uuid.UUID
}

func setup(t *testing.T) *bench {
	t.Parallel()
	b := &bench{t: t, db: testdb.New(t), models: llmtest.New(t)}
	b.owner, b.pool = b.db.Pool("postgres"), b.db.Pool("kijko_worker")
	b.user = value[uuid.UUID](b, "insert into public.users (email, first_name) values ('ada@example.org', 'Ada') returning id")
	b.org = value[uuid.UUID](b, "select private.create_organization('Analytical Engines', $1)", b.user)
	b.skill = value[uuid.UUID](b, `insert into public.skills (user_id, organization_id, name, prompt_template)
		values ($1, $2, 'Echo', 'Say this again, please: {{text}}') returning id`, b.user, b.org)
	b.exec(`insert into private.installation (key, value) values ('providers', '{"anthropic": true, "google": true}')`)
	return b
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.owner.Exec(context.Background(), sql, args...)
	require.NoError(b.t, err)
}

func value[T any](b *bench, sql string, args ...any) T {
	b.t.Helper()
	var v T
	require.NoError(b.t, b.owner.QueryRow(context.Background(), sql, args...).Scan(&v))
	return v
}

// start begins a run of the skill.
func (b *bench) start(text string, stream bool) uuid.UUID {
	b.t.Helper()
	return value[uuid.UUID](b, "select id from private.start_execution($1, $2, $3, 'manual', null, jsonb_build_object('text', $4::text), 'refuse', $5)",
		b.skill, b.user, b.org, text, stream)
}

// config is an engine whose providers are the double, with short waits between attempts.
func (b *bench) config() executions.Config {
	b.t.Helper()
	set, err := llm.New(b.models.Config())
	require.NoError(b.t, err)
	policy := llm.DefaultPolicy()
	policy.Delay = func(int) time.Duration { return time.Millisecond }
	level := slog.LevelError
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	return executions.Config{Pool: b.pool, Providers: set, Policy: &policy, Patience: 10 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))}
}

// work runs an engine until stop, or the end of the test.
func (b *bench) work(c executions.Config) (e *executions.Engine, stop func()) {
	b.t.Helper()
	e, err := executions.New(c)
	require.NoError(b.t, err)
	r, err := runner.New(runner.Config{Pool: b.pool, Poll: time.Hour, Hear: map[string]func(string){executions.Channel: e.Cancelled},
		Listen:  func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, b.db.DSN("kijko_worker")) },
		Batches: []runner.Batch{{Name: "executions.run", Queue: "executions", Slots: 20, Take: e.Take}}})
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	holding, release := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { e.Hold(holding) })
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(b.t, <-done)
		release()
		group.Wait()
	})
	b.t.Cleanup(stop)
	return e, stop
}

type row struct {
	Status, Output, Code, Message string
	Prompt, Completion, Cost      *int
	Takes                         int
}

func (b *bench) read(id uuid.UUID) (r row) {
	b.t.Helper()
	require.NoError(b.t, b.owner.QueryRow(context.Background(), `select status, coalesce(output, ''), coalesce(error_code, ''), coalesce(error_message, ''),
		prompt_tokens, completion_tokens, cost_cents, takes from public.skill_executions where id = $1`, id).
		Scan(&r.Status, &r.Output, &r.Code, &r.Message, &r.Prompt, &r.Completion, &r.Cost, &r.Takes))
	return r
}

// await waits for a status.
func (b *bench) await(id uuid.UUID, statuses ...string) (r row) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		r = b.read(id)
		for _, s := range statuses {
			if r.Status == s {
				return true
			}
		}
		return false
	}, 20*time.Second, 5*time.Millisecond, "waiting for %v", statuses)
	return r
}

func (b *bench) end(id uuid.UUID) row {
	b.t.Helper()
	return b.await(id, "completed", "failed", "cancelled")
}

func TestARunIsCalledAndWrittenDown(t *testing.T) {
	b := setup(t)
	b.models.Next(llmtest.Answer("one ", "two\x00").Tokens(600, 1500))
	b.work(b.config())
	r := b.end(b.start("<hello> & \"you\"", false))
	require.Equal(t, row{"completed", "one two", "", "", new(600), new(1500), new(2), 1}, r)
	call := b.models.Calls()[0]
	require.Equal(t, "Say this again, please: <hello> & \"you\"", call.Text)
	require.Equal(t, llmtest.Key, call.Key)
	require.NotContains(t, call.Body, "system")
}

func TestARunThatCannotStartKeepsNobodyWaiting(t *testing.T) {
	b := setup(t)
	mute := b.start("the skill goes before its run begins", false)
	good := b.start("taken with it, in one batch", false)
	b.exec("update public.skill_executions set skill_id = null where id = $1", mute)
	b.work(b.config())
	require.Equal(t, "failed", b.end(mute).Status)
	r := b.end(good)
	require.Equal(t, "completed", r.Status)
	require.Equal(t, 1, r.Takes, "not lost and taken over when its lease ran out")
}

func TestFailures(t *testing.T) {
	b := setup(t)
	c := b.config()
	b.work(c)
	for name, test := range map[string]struct {
		replies       []llmtest.Reply
		code, message string
	}{
		"TheKeyIsRefused":     {[]llmtest.Reply{llmtest.Fail(401, "no such key")}, "INVALID_API_KEY", "API key"},
		"RateLimit":           {[]llmtest.Reply{llmtest.Fail(429, "a"), llmtest.Fail(429, "b"), llmtest.Fail(429, "c"), llmtest.Fail(429, "d")}, "RATE_LIMITED", "rate limit"},
		"Overloaded":          {[]llmtest.Reply{llmtest.Fail(529, "a"), llmtest.Fail(529, "b"), llmtest.Fail(503, "c"), llmtest.Fail(529, "d")}, "SERVICE_UNAVAILABLE", "unavailable"},
		"TheProviderSaysWhy":  {[]llmtest.Reply{llmtest.Fail(400, "the prompt is too strange")}, "BAD_REQUEST", "the prompt is too strange"},
		"AnotherStatus":       {[]llmtest.Reply{llmtest.Fail(403, "not for you")}, "API_ERROR", "not for you"},
		"NoAnswer":            {[]llmtest.Reply{llmtest.Half(), llmtest.Half(), llmtest.Half(), llmtest.Half()}, "NETWORK_ERROR", "provider"},
		"AThirdAttemptAnswer": {[]llmtest.Reply{llmtest.Fail(500, "a"), llmtest.Fail(502, "b"), llmtest.Answer("fine")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b.models.Next(test.replies...)
			r := b.end(b.start("x", false))
			if test.code == "" {
				require.Equal(t, "completed", r.Status)
				return
			}
			require.Equal(t, "failed", r.Status)
			require.Equal(t, test.code, r.Code)
			require.Contains(t, r.Message, test.message)
			require.NotContains(t, r.Message, llmtest.Key)
			require.Nil(t, r.Cost)
		})
	}
}

func TestACancelledRunIsAbortedAtOnce(t *testing.T) {
	b := setup(t)
	b.models.Next(llmtest.Silence())
	b.work(b.config())
	id := b.start("x", false)
	b.await(id, "running")
	require.Eventually(t, func() bool { now, _ := b.models.InFlight(); return now == 1 }, 10*time.Second, time.Millisecond)
	b.exec("update public.skill_executions set status = 'cancelled', error_message = 'Cancelled by user' where id = $1", id)
	cancelled := time.Now()
	require.Eventually(t, func() bool { return b.models.Aborted() == 1 }, 10*time.Second, time.Millisecond)
	require.Less(t, time.Since(cancelled), time.Second)
	require.Equal(t, row{Status: "cancelled", Message: "Cancelled by user", Takes: 1}, b.read(id))
}

// Both providers count while they stream. For a run that is canceled in the middle, the counts until then are written.
func TestACancelledRunHasTheCostOfWhatWasCounted(t *testing.T) {
	b := setup(t)
	for model, completion := range map[string]int{"claude-3-5-sonnet-20241022": 1, "gemini-3-flash-preview": 0} {
		t.Run(model, func(t *testing.T) {
			b := *b
			b.t = t
			b.exec("update public.skills set model = $2 where id = $1", b.skill, model)
			b.models.Next(llmtest.Reply{Pieces: []string{"Once"}, Hold: true}.Tokens(20_000, 500))
			_, stop := b.work(b.config())
			defer stop()
			id := b.start("x", true)
			require.Eventually(t, func() bool {
				return value[bool](&b, "select has_streamed from public.skill_executions where id = $1", id)
			},
				10*time.Second, time.Millisecond)
			b.exec("update public.skill_executions set status = 'cancelled', error_message = 'Cancelled by user' where id = $1", id)
			require.Eventually(t, func() bool { return b.read(id).Cost != nil }, 10*time.Second, time.Millisecond)
			r := b.read(id)
			require.Equal(t, []any{"cancelled", "Cancelled by user", 20_000, completion}, []any{r.Status, r.Message, *r.Prompt, *r.Completion})
			require.Positive(t, *r.Cost)
		})
	}
}

func TestALostRunIsNoticedWithoutANotification(t *testing.T) {
	b := setup(t)
	b.models.Next(llmtest.Silence())
	b.work(b.config())
	id := b.start("x", false)
	b.await(id, "running")
	expiry := value[time.Time](b, "select lease_expires_at from public.skill_executions where id = $1", id)
	require.Eventually(t, func() bool {
		return value[time.Time](b, "select lease_expires_at from public.skill_executions where id = $1", id).After(expiry)
	}, 20*time.Second, 20*time.Millisecond, "the lease is renewed")
	b.exec("update public.skill_executions set lease_token = gen_random_uuid() where id = $1", id)
	require.Eventually(t, func() bool { return b.models.Aborted() == 1 }, 20*time.Second, 10*time.Millisecond, "another worker has it")
	require.Equal(t, "running", b.read(id).Status)
}

func TestTheOrganizationsOwnKeyPays(t *testing.T) {
	b := setup(t)
	b.exec("insert into private.provider_keys (organization_id, provider, sealed_key, last_four, set_by) values ($1, 'anthropic', 'v1.sealed', 'four', $2)", b.org, b.user)
	c := b.config()
	c.Unseal = func(org uuid.UUID, provider, sealed string) (string, error) {
		if org != b.org || provider != llm.Anthropic || sealed != "v1.sealed" {
			return "", errors.New("not sealed for this")
		}
		return "key of the organization", nil
	}
	_, stop := b.work(c)
	require.Equal(t, "completed", b.end(b.start("x", false)).Status)
	require.Equal(t, "key of the organization", b.models.Calls()[0].Key)
	stop()
	c.Unseal = func(uuid.UUID, string, string) (string, error) {
		return "", errors.New("sealed by another installation: v1.sealed")
	}
	_, stop = b.work(c)
	r := b.end(b.start("x", false))
	require.Equal(t, row{Status: "failed", Code: "UNKNOWN_ERROR", Message: "The model could not be called.", Takes: 1}, r)
	stop()
	c.Unseal = nil
	b.work(c)
	require.Equal(t, "UNKNOWN_ERROR", b.end(b.start("x", false)).Code)
	require.Len(t, b.models.Calls(), 1)
}

func TestAStreamingRunSpeaksAsItComes(t *testing.T) {
	b := setup(t)
	long := strings.Repeat("\"é\"\n", 4000)
	b.models.Next(llmtest.Answer("Once upon", " a time ", long, "the end").After(time.Millisecond))
	conn := b.db.Connect("kijko_server")
	_, err := conn.Exec(t.Context(), "listen kijko_ephemeral")
	require.NoError(t, err)
	b.work(b.config())
	id := b.start("x", true)
	r := b.end(id)
	require.Equal(t, "completed", r.Status)
	require.Equal(t, "Once upon a time "+long+"the end", r.Output)
	var text strings.Builder
	for seq := 0; text.Len() < len(r.Output); seq++ {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		n, err := conn.WaitForNotification(ctx)
		cancel()
		require.NoError(t, err, "after %d pieces and %d bytes of %d", seq, text.Len(), len(r.Output))
		var frame struct {
			Room, Type string
			Data       struct {
				ExecutionID uuid.UUID `json:"executionId"`
				Seq         int
				Chunk       string
			}
		}
		require.NoError(t, json.Unmarshal([]byte(n.Payload), &frame))
		require.Equal(t, "user:"+b.user.String(), frame.Room)
		require.Equal(t, "execution_output", frame.Type)
		require.Equal(t, id, frame.Data.ExecutionID)
		require.Equal(t, seq, frame.Data.Seq)
		require.LessOrEqual(t, len(frame.Data.Chunk), 4096)
		text.WriteString(frame.Data.Chunk)
	}
	require.Equal(t, r.Output, text.String())
	require.True(t, value[bool](b, "select has_streamed from public.skill_executions where id = $1", id))
}

func TestAStreamThatBreaksOffIsNotRepeated(t *testing.T) {
	b := setup(t)
	b.models.Next(llmtest.Half("Once"))
	b.work(b.config())
	r := b.end(b.start("x", true))
	require.Equal(t, "NETWORK_ERROR", r.Code)
	require.Len(t, b.models.Calls(), 1)
}

func TestAWorkerThatStopsHandsItsRunsBack(t *testing.T) {
	b := setup(t)
	b.models.Next(llmtest.Silence(), llmtest.Silence())
	c := b.config()
	_, stop := b.work(c)
	ids := []uuid.UUID{b.start("x", false), b.start("y", false)}
	for _, id := range ids {
		b.await(id, "running")
	}
	require.Eventually(t, func() bool { now, _ := b.models.InFlight(); return now == 2 }, 10*time.Second, time.Millisecond)
	stop()
	require.Equal(t, 2, value[int](b, "select count(*) from jobs.gue_jobs where queue = 'executions'"), "for another worker, at once")
	b.work(c)
	for _, id := range ids {
		r := b.end(id)
		require.Equal(t, "completed", r.Status)
		require.Equal(t, 1, r.Takes, "which is no loss")
	}
	require.Equal(t, 2, value[int](b, "select private.units_used($1, 'api_calls', private.usage_period('api_calls', now()))", b.org))
}

func TestAWorkerThatStopsLetsShortCallsComeToTheirEnd(t *testing.T) {
	b := setup(t)
	b.models.Next(llmtest.Answer("in time").After(300 * time.Millisecond))
	c := b.config()
	c.Patience = 20 * time.Second
	_, stop := b.work(c)
	id := b.start("x", false)
	b.await(id, "running")
	require.Eventually(t, func() bool { now, _ := b.models.InFlight(); return now == 1 }, 10*time.Second, time.Millisecond)
	stop()
	require.Equal(t, "in time", b.read(id).Output)
	require.Len(t, b.models.Calls(), 1)
}

func TestResultsSurviveALostConnection(t *testing.T) {
	b := setup(t)
	b.models.Always(func(llmtest.Call) llmtest.Reply {
		b.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'kijko_worker'")
		return llmtest.Answer("paid for")
	})
	b.work(b.config())
	require.Equal(t, "paid for", b.end(b.start("x", false)).Output)
}

// providers is a provider set with one provider: the function.
type providers func(ctx context.Context) (llm.Result, error)

func (p providers) For(string) (llm.Provider, error) { return p, nil }

func (p providers) Generate(ctx context.Context, _ llm.Request) (llm.Result, error) { return p(ctx) }

func (p providers) Stream(ctx context.Context, _ llm.Request, _ func(string) error) (llm.Result, error) {
	return p(ctx)
}

func TestWhateverAProviderDoesIsAResult(t *testing.T) {
	b := setup(t)
	c := b.config()
	for _, test := range []struct {
		p    providers
		want row
	}{
		{func(context.Context) (llm.Result, error) { panic("boom") }, row{Status: "failed", Code: "UNKNOWN_ERROR", Message: "The model could not be called.", Takes: 1}},
		{func(context.Context) (llm.Result, error) {
			return llm.Result{}, &llm.Error{Code: llm.BadRequest, Message: "blocked\x00", Usage: &llm.Usage{Input: 1000, Output: 500}}
		}, row{"failed", "", "BAD_REQUEST", "blocked", new(1000), new(500), new(1), 1}},
	} {
		c.Providers = test.p
		_, stop := b.work(c)
		require.Equal(t, test.want, b.end(b.start("x", false)))
		stop()
	}
	// Its 300 s are over, counted from the first start under another worker.
	c.Providers = providers(func(ctx context.Context) (llm.Result, error) { <-ctx.Done(); return llm.Result{}, ctx.Err() })
	b.work(c)
	id := b.start("x", false)
	b.await(id, "running")
	b.exec("alter table public.skill_executions disable trigger user")
	b.exec(`update public.skill_executions set started_at = clock_timestamp() - interval '299.5 s', lease_token = null, lease_expires_at = now() where id = $1`, id)
	b.exec("alter table public.skill_executions enable trigger user")
	b.exec("select private.sweep_executions()")
	r := b.end(id)
	require.Equal(t, row{Status: "failed", Code: "TIMEOUT", Message: "Skill execution timeout", Takes: 2}, r)
}

func TestAConfigurationNeedsItsParts(t *testing.T) {
	_, err := executions.New(executions.Config{})
	require.ErrorContains(t, err, "Pool and Providers")
	b := setup(t)
	e, err := executions.New(executions.Config{Pool: b.pool, Providers: b.config().Providers})
	require.NoError(t, err)
	e.Cancelled("no id")
	e.Cancelled(uuid.NewString())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = e.Take(ended, 1)
	require.Error(t, err)
}

func TestTwoWorkersShareTheQueue(t *testing.T) {
	b := setup(t)
	const runs = 100
	b.exec("select private.start_execution($1, $2, $3, 'manual', null, '{}') from generate_series(1, 50)", b.skill, b.user, b.org)
	b.work(b.config())
	b.work(b.config())
	b.exec("select private.start_execution($1, $2, $3, 'manual', null, '{}') from generate_series(1, 50)", b.skill, b.user, b.org)
	require.Eventually(t, func() bool {
		return value[int](b, "select count(*) from public.skill_executions where status = 'completed' and takes = 1") == runs
	}, 20*time.Second, 10*time.Millisecond)
	require.Len(t, b.models.Calls(), runs, "each is called once")
	require.Equal(t, runs, value[int](b, "select execution_count from public.skills where id = $1", b.skill))
	require.Zero(t, value[int](b, "select count(*) from jobs.gue_jobs where queue = 'executions'"))
}
