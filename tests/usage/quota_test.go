package usage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/projects"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func TestQuota(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	const limit, used, callers = 7, 5, 50
	s.DB.Exec("update public.subscriptions set overrides = jsonb_build_object('ingestions', $2::integer) where organization_id = $1", anna.OrgID, limit)
	s.DB.Exec("select private.consume_quota($1, 'ingestions', $2)", anna.OrgID, used)
	paths := make([]string, callers)
	for i := range paths {
		paths[i] = projects.Create(t, anna, fmt.Sprintf("Project %02d", i))
		anna.Do("PUT", paths[i]+"/manual-content", map[string]any{"content": "enough to ingest"}).Want(200)
	}
	now := time.Now().UTC()
	reset := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	counted := func() int {
		return testdb.Value[int](s.DB, "select used from public.usage where organization_id = $1 and metric = 'ingestions' and period = date_trunc('month', now() at time zone 'UTC')", anna.OrgID)
	}

	t.Run("OfFiftyAtOnceOnlyWhatIsLeftIsAdmitted", func(t *testing.T) {
		answers := client.AtOnce(t, callers, func(i int) (client.Response, error) {
			return anna.Try("POST", paths[i]+"/ingest", map[string]any{"skipValidation": true})
		})
		left := map[string]int{}
		refused := 0
		for i, r := range answers {
			require.Equal(t, strconv.Itoa(limit), r.Header.Get("X-RateLimit-Limit"), "%s", r.Body)
			require.Equal(t, strconv.FormatInt(reset.Unix(), 10), r.Header.Get("X-RateLimit-Reset"))
			if r.Status == 202 {
				left[r.Header.Get("X-RateLimit-Remaining")]++
				require.Equal(t, "processing", anna.Get(paths[i]).String("status"))
				continue
			}
			refused++
			r.Problem(429, "QUOTA_EXCEEDED")
			require.Equal(t, "0", r.Header.Get("X-RateLimit-Remaining"))
			after, err := strconv.Atoi(r.Header.Get("Retry-After"))
			require.NoError(t, err)
			require.InDelta(t, time.Until(reset).Seconds(), after, 60)
			require.Equal(t, map[string]any{"metric": "ingestions", "limit": float64(limit), "used": float64(limit), "requested": 1.0, "plan": "free",
				"resetsAt": reset.Format("2006-01-02T15:04:05.000Z")}, r.Value("details"))
		}
		require.Equal(t, map[string]int{"0": 1, "1": 1}, left, "two are admitted, and each is told what it left")
		require.Equal(t, callers-2, refused)
		require.Equal(t, limit, counted())
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from public.ingestion_runs"), "a refused start leaves no run")
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from public.projects where status = 'processing'"))
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from jobs.gue_jobs where job_type = 'ingestion.run'"))
	})
	t.Run("CancellingGivesNothingBack", func(t *testing.T) {
		for _, path := range paths {
			if anna.Get(path).String("status") == "processing" {
				anna.Do("POST", path+"/cancel-ingestion", nil).Want(200)
				anna.Do("POST", path+"/ingest", map[string]any{"skipValidation": true}).Problem(429, "QUOTA_EXCEEDED")
			}
		}
		require.Equal(t, limit, counted())
	})
	t.Run("TheNextMonthIsANewWindow", func(t *testing.T) {
		conn := s.DB.Connect("postgres")
		for i := range limit + 1 {
			_, err := conn.Exec(t.Context(), "select private.consume_quota($1, 'ingestions', 1, $2)", anna.OrgID, reset.Add(time.Duration(i)*time.Second))
			if i < limit {
				require.NoError(t, err)
				continue
			}
			var refusal *pgconn.PgError
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, "PT429", refusal.Code)
		}
		var last *pgconn.PgError
		_, err := conn.Exec(t.Context(), "select private.consume_quota($1, 'ingestions', 1, $2)", anna.OrgID, reset.Add(-time.Second))
		require.ErrorAs(t, err, &last, "the last second of the month is still the old window")
		require.Equal(t, limit, counted(), "and the old window is as it was")
	})
	t.Run("AnUnlimitedPlanIsNotAsked", func(t *testing.T) {
		s.DB.Exec(`update public.subscriptions set overrides = '{"ingestions": -1}' where organization_id = $1`, anna.OrgID)
		r := anna.Do("POST", paths[0]+"/ingest", map[string]any{"skipValidation": true, "forceReprocess": true}).Want(202)
		require.Empty(t, r.Header.Get("X-RateLimit-Limit"))
	})
}

// A busy counter is spread over slots; together they are as exact as one row.
func TestQuotaOfManyWriters(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	db.Exec(`insert into public.users (id, email) values ('00000000-0000-4000-8000-000000000001', 'anna@example.nl')`)
	org := testdb.Value[string](db, "select private.create_organization('Busy', '00000000-0000-4000-8000-000000000001')::text")
	limit := func(n int) {
		db.Exec("update public.subscriptions set overrides = jsonb_build_object('api_calls', $2::integer) where organization_id = $1", org, n)
	}
	const writers = 16
	conns := make([]*pgx.Conn, writers)
	for i := range conns {
		conns[i] = db.Connect("postgres")
	}
	// run lets every writer try n units, each in a transaction of its own, of which every fifth is rolled back. It gives the admitted
	// units.
	run := func(n int) (admitted int) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range n {
					ctx := context.Background()
					tx, err := conns[w].Begin(ctx)
					if !assert.NoError(t, err) {
						return
					}
					_, err = tx.Exec(ctx, "select private.consume_quota($1, 'api_calls', 1)", org)
					var refusal *pgconn.PgError
					// Many callers that use a new counter at once can deadlock: Postgres ends one transaction, and the server retries that
					// call.
					for try := 0; try < 5 && errors.As(err, &refusal) && refusal.Code == "40P01"; try++ {
						assert.NoError(t, tx.Rollback(ctx))
						if tx, err = conns[w].Begin(ctx); assert.NoError(t, err) {
							_, err = tx.Exec(ctx, "select private.consume_quota($1, 'api_calls', 1)", org)
						}
					}
					if err != nil {
						assert.ErrorAs(t, err, &refusal)
						assert.Equal(t, "PT429", refusal.Code, refusal.Message)
						assert.NoError(t, tx.Rollback(ctx))
						continue
					}
					if i%5 == 4 {
						assert.NoError(t, tx.Rollback(ctx))
						continue
					}
					_, err = tx.Exec(ctx, "select pg_sleep(0.0005)")
					assert.NoError(t, errors.Join(err, tx.Commit(ctx)))
					mu.Lock()
					admitted++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return admitted
	}
	used := func() int {
		return testdb.Value[int](db, "select used from public.usage where organization_id = $1 and metric = 'api_calls'", org)
	}

	limit(400)
	require.Equal(t, 400, run(40), "as many as the limit, no more, no fewer")
	require.Equal(t, 400, used())
	slots := testdb.Value[int](db, "select count(*) from public.usage_counters where organization_id = $1 and metric = 'api_calls'", org)
	require.Greater(t, slots, 1, "writers who meet do not wait for one another")
	require.LessOrEqual(t, slots, 32)
	limit(450)
	require.Equal(t, 50, run(10), "a higher limit holds at once")
	limit(100)
	require.Zero(t, run(2), "and so does a lower one")
	limit(-1)
	require.Equal(t, writers*4, run(5), "without a limit everybody passes")
	require.Equal(t, 450+writers*4, used())
	require.Equal(t, used(), testdb.Value[int](db, "select sum(value) from public.usage_trend where organization_id = $1 and metric = 'api_calls'", org))

	db.Exec("update public.plans set api_calls = $1", used()+10)
	db.Exec("update public.subscriptions set overrides = '{}' where organization_id = $1", org)
	require.Equal(t, 10, run(3), "without an agreement of its own the plan's limit holds")
	db.Exec("update public.plans set api_calls = api_calls + 7")
	require.Equal(t, 7, run(3), "another limit of the plan holds at once")
	db.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", org)
	db.Exec("update public.plans set api_calls = api_calls + 1000000 where id = 'enterprise'")
	require.Equal(t, writers, run(1))
	db.Exec("update public.subscriptions set status = 'canceled' where organization_id = $1", org)
	require.Zero(t, run(1), "a cancelled subscription has what is free of charge, at once")
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, boris := s.SignUp("Anna"), s.SignUp("Boris")
	made := func() int {
		return testdb.Value[int](s.DB, "select count(*) from public.projects where organization_id = $1", anna.OrgID)
	}

	t.Run("FiftyTimesAtOnceIsOneEffectAndOneAnswer", func(t *testing.T) {
		keyed := anna.With("Idempotency-Key", "fifty")
		answers := client.AtOnce(t, 50, func(int) (client.Response, error) {
			return keyed.Try("POST", "/projects", map[string]any{"name": "Only once"})
		})
		replayed := 0
		for _, r := range answers {
			r.Want(201)
			require.JSONEq(t, string(answers[0].Body), string(r.Body))
			if r.Header.Get("Idempotency-Replayed") == "true" {
				replayed++
			}
		}
		require.Equal(t, 49, replayed)
		require.Equal(t, 1, made())
	})
	t.Run("AnotherBodyIsAConflict", func(t *testing.T) {
		keyed := anna.With("Idempotency-Key", "fifty")
		keyed.Do("POST", "/projects", map[string]any{"name": "Something else"}).Problem(409, "IDEMPOTENCY_CONFLICT")
		keyed.Do("PUT", "/projects/"+boris.ID, map[string]any{"name": "Only once"}).Problem(409, "IDEMPOTENCY_CONFLICT")
		require.Equal(t, 1, made())
	})
	t.Run("AKeyBelongsToItsPerson", func(t *testing.T) {
		boris.With("Idempotency-Key", "fifty").Do("POST", "/projects", map[string]any{"name": "Only once"}).Want(201)
		require.Equal(t, 1, made())
	})
	t.Run("ARefusalMayBeTriedAgain", func(t *testing.T) {
		path := projects.Create(t, anna, "Without sources")
		keyed := anna.With("Idempotency-Key", "start")
		keyed.Do("POST", path+"/ingest", map[string]any{"skipValidation": true}).Problem(400, "NO_SOURCES")
		anna.Do("PUT", path+"/manual-content", map[string]any{"content": "enough to ingest"}).Want(200)
		first := keyed.Do("POST", path+"/ingest", map[string]any{"skipValidation": true}).Want(202)
		answers := client.AtOnce(t, 10, func(int) (client.Response, error) {
			return keyed.Try("POST", path+"/ingest", map[string]any{"skipValidation": true})
		})
		for _, r := range answers {
			require.Equal(t, first.String("jobId"), r.Want(202).String("jobId"))
		}
		require.Equal(t, 1, testdb.Value[int](s.DB, "select used from public.usage where organization_id = $1 and metric = 'ingestions'", anna.OrgID))
	})
	t.Run("ADayLaterTheKeyIsFree", func(t *testing.T) {
		s.DB.Exec("update private.idempotency_keys set created_at = now() - interval '25 hours' where key = 'fifty'")
		anna.With("Idempotency-Key", "fifty").Do("POST", "/projects", map[string]any{"name": "A day later"}).Want(201)
	})
	t.Run("KeysHaveALength", func(t *testing.T) {
		anna.With("Idempotency-Key", strings.Repeat("k", 256)).Do("POST", "/projects", map[string]any{"name": "Long key"}).
			Problem(400, "VALIDATION_ERROR").Field("Idempotency-Key")
	})
}
