package keys

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// create makes a key of p and gives a client that uses it.
func create(t testing.TB, p *client.Person, scopes ...string) *client.Client {
	t.Helper()
	made := p.Do("POST", "/security/api-keys", map[string]any{"name": "Key of " + strings.Join(scopes, ", "), "expiration": "never", "scopes": scopes}).Want(201)
	return p.As(made.String("key")).In(t)
}

// counted waits until a key's uses have been written.
func counted(t testing.TB, db *testdb.DB, key *client.Client, want int) {
	t.Helper()
	uses := func() int {
		return testdb.Value[int](db, "select usage_count::int from public.api_keys where key_hash = sha256($1::text::bytea)", key.Token)
	}
	require.Eventually(t, func() bool { return uses() >= want }, waiting, tick, "uses were not written")
	require.Equal(t, want, uses())
}

// spent waits until an organization has used so many units and no process holds any of them.
func spent(t testing.TB, db *testdb.DB, org string, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return testdb.Value[int](db, "select count(*)::int from private.unit_leases where organization_id = $1", org) == 0
	}, waiting, tick, "units were not given back")
	require.Equal(t, want, used(db, org))
}

func used(db *testdb.DB, org string) int {
	return testdb.Value[int](db, "select coalesce(sum(used), 0)::int from public.usage where organization_id = $1 and metric = 'api_calls'", org)
}

func TestAKeyActsAsItsOwner(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	made := anna.Do("POST", "/security/api-keys", map[string]any{"name": "  Deploy  ", "expiration": "30", "scopes": []string{"write", "read", "write"}}).Want(201)
	require.Equal(t, "Deploy", made.String("name"))
	require.Equal(t, []any{"read", "write"}, made.Value("scopes"))
	key := made.String("key")
	require.Regexp(t, `^kijko_live_[0-9a-f]{48}$`, key)
	require.Equal(t, key[:20], made.String("keyPrefix"))
	program := s.As(key).In(t)

	require.Equal(t, anna.ID, program.Get("/auth/me").Want(200).String("id"))
	require.Equal(t, anna.OrgID, program.Get("/auth/me").Want(200).String("org_id"))
	project := program.Do("POST", "/projects", map[string]any{"name": "By a program"}).Want(201).String("project.id")
	require.Equal(t, anna.ID, program.Get("/projects/"+project).Want(200).String("userId"))
	program.Do("DELETE", "/projects/"+project, nil).Problem(403, "INSUFFICIENT_SCOPE")
	create(t, anna, "admin").Do("DELETE", "/projects/"+project, nil).Want(200)
	counted(t, s.DB, program, 5)

	listed := client.JSON[[]map[string]any](anna.Get("/security/api-keys").Want(200))
	require.Len(t, listed, 2)
	require.Equal(t, made.String("id"), listed[1]["id"], "the newest comes first")
	require.EqualValues(t, 5, listed[1]["usageCount"])
	require.NotEmpty(t, listed[1]["lastUsedAt"])
	require.NotContains(t, string(anna.Get("/security/api-keys").Body), key)
	trail := testdb.Value[string](s.DB, "select session_id::text from public.audit_log where event_type = 'context.created' and organization_id = $1", anna.OrgID)
	require.Equal(t, made.String("id"), trail, "the trail names the key")
}

func TestABadKeyIsRefused(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	s.Join(anna, ben, "member")
	of := func(p *client.Person) (*client.Client, string) {
		made := p.Do("POST", "/security/api-keys", map[string]any{"name": "A key", "expiration": "60", "scopes": []string{"admin"}}).Want(201)
		c := s.As(made.String("key"))
		c.Get("/auth/me").Want(200)
		return c, made.String("id")
	}
	refused := func(c *client.Client, status int, code string) {
		t.Helper()
		for _, call := range [][2]string{{"GET", "/projects"}, {"POST", "/projects"}, {"POST", "/ai/messages"}, {"GET", "/realtime/events"}, {"POST", "/security/api-keys"}} {
			body := map[string]any{"name": "X"}
			if call[0] == "GET" {
				body = nil
			}
			r := c.In(t).Do(call[0], call[1], body)
			r.Problem(status, code)
			require.Equal(t, status == 401, r.Header.Get("WWW-Authenticate") == "Bearer", call)
		}
	}
	for _, unknown := range []string{"kijko_", "kijko_live_", "kijko_live_" + strings.Repeat("0", 48), "kijko_test_" + strings.Repeat("F", 48), "kijko_live_" + strings.Repeat("0", 4000)} {
		refused(s.As(unknown), 401, "API_KEY_INVALID")
	}

	expired, id := of(anna)
	s.DB.Exec("update public.api_keys set expires_at = now() where id = $1", id)
	refused(expired, 401, "API_KEY_EXPIRED")
	revoked, id := of(anna)
	anna.Do("DELETE", "/security/api-keys/"+id, nil).Want(204)
	refused(revoked, 401, "API_KEY_INVALID")
	anna.Do("DELETE", "/security/api-keys/"+id, nil).Problem(404, "API_KEY_NOT_FOUND")

	program, _ := of(ben)
	s.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
	refused(program, 403, "MEMBERSHIP_INACTIVE")
	s.DB.Exec("update public.memberships set status = 'active' where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
	require.Equal(t, anna.OrgID, program.Get("/auth/me").Want(200).String("org_id"), "reactivated, the same key works again")
	s.DB.Exec("delete from public.memberships where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
	refused(program, 401, "API_KEY_INVALID")

	// One success a key and day, and every refusal of an expired key. An unknown key is recorded for no organization.
	history := func(p *client.Person) string {
		return testdb.Value[string](s.DB, `select coalesce(string_agg(status || coalesce(': ' || reason, '') || ' x' || n, ', ' order by status), '') from (
			select status, reason, count(*) n from private.login_history where user_id = $1 and method = 'api_key' group by 1, 2) x`, p.ID)
	}
	require.Eventually(t, func() bool { return history(anna) == "failed: API key expired x5, success x2" }, waiting, tick, "%v", history(anna))
	require.Eventually(t, func() bool { return history(ben) == "success x1" }, waiting, tick, "%v", history(ben))
}

// The answer to a request with an Idempotency-Key is stored for a day. The API key in it is not.
func TestAKeyThatIsAskedForTwiceIsStoredNowhere(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	body := map[string]any{"name": "Once", "expiration": "never", "scopes": []string{"read"}, "environment": "test"}
	first := anna.With("Idempotency-Key", "one").Do("POST", "/security/api-keys", body).Want(201)
	again := anna.With("Idempotency-Key", "one").Do("POST", "/security/api-keys", body).Want(201)
	require.Equal(t, first.String("key"), again.String("key"))
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.Len(t, client.JSON[[]any](anna.Get("/security/api-keys")), 1)
	s.As(first.String("key")).Get("/auth/me").Want(200)
	require.True(t, strings.HasPrefix(first.String("key"), "kijko_test_"))
	stored := testdb.Value[string](s.DB, "select response::text from private.idempotency_keys where user_id = $1", anna.ID)
	require.NotContains(t, stored, first.String("key")[20:])
	anna.With("Idempotency-Key", "one").Do("POST", "/security/api-keys", map[string]any{"name": "Other", "expiration": "never", "scopes": []string{"read"}}).
		Problem(409, "IDEMPOTENCY_CONFLICT")
	anna.With("Idempotency-Key", "two").Do("POST", "/security/api-keys", map[string]any{"name": "X", "expiration": "never", "scopes": []string{"read"}}).
		Problem(400, "VALIDATION_ERROR").Field("name")
}

func TestRequestsWithKeysCostUnits(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.ExecutionWait = 20 * time.Millisecond }) // there is no worker
	anna := s.SignUp("Anna")
	program := create(t, anna, "write")
	s.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": 1000}' where organization_id = $1", anna.OrgID)

	r := program.Get("/projects").Want(200)
	require.Equal(t, "1000", r.Header.Get("X-RateLimit-Limit"))
	require.Equal(t, "999", r.Header.Get("X-RateLimit-Remaining"))
	require.NotEmpty(t, r.Header.Get("X-RateLimit-Reset"))
	require.Equal(t, "998", program.Get("/projects").Want(200).Header.Get("X-RateLimit-Remaining"))
	program.Get("/projects/00000000-0000-0000-0000-000000000000").Problem(404, "PROJECT_NOT_FOUND")
	program.Do("POST", "/projects", map[string]any{"name": ""}).Problem(400, "VALIDATION_ERROR")
	program.Do("DELETE", "/projects/00000000-0000-0000-0000-000000000000", nil).Problem(403, "INSUFFICIENT_SCOPE")
	keyed := program.With("Idempotency-Key", "k")
	keyed.Do("POST", "/projects", map[string]any{"name": "Keyed"}).Want(201)
	keyed.Do("POST", "/projects", map[string]any{"name": "Keyed"}).Want(201) // a replay
	// A run that a key starts is paid for with the request.
	skill := program.Do("POST", "/skills", map[string]any{"name": "Skill", "promptTemplate": "Say hello to the people of this house"}).Want(201).String("id")
	program.Do("POST", "/skills/"+skill+"/execute", map[string]any{}).Want(200)
	spent(t, s.DB, anna.OrgID, 8)
	counted(t, s.DB, program, 9)
	require.Equal(t, "api", testdb.Value[string](s.DB, "select execution_type from public.skill_executions where user_id = $1", anna.ID))

	// Requests that are free, and callers without a key.
	program.Get("/auth/me").Want(200)
	program.Do("POST", "/security/api-keys", map[string]any{}).Problem(403, "API_KEY_NOT_ALLOWED")
	s.As("kijko_live_"+strings.Repeat("0", 48)).Get("/projects").Problem(401, "API_KEY_INVALID")
	anna.Get("/projects").Want(200)
	require.Empty(t, program.Get("/auth/me").Header.Get("X-RateLimit-Limit"))
	spent(t, s.DB, anna.OrgID, 8)

	s.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": -1}' where organization_id = $1", anna.OrgID)
	require.Empty(t, program.Get("/projects").Want(200).Header.Get("X-RateLimit-Limit"), "without a limit there is nothing to say")
}

// Requests that only test or validate are open to a key that may read, also where they store something.
func TestAReaderTestsAndValidates(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Answer("hello") })
	s := stack.New(t, stack.Models(models))
	anna := s.SignUp("Anna")
	reader := create(t, anna, "read")
	skill := anna.Do("POST", "/skills", map[string]any{"name": "Skill", "promptTemplate": "Say hello to the people of this house"}).Want(201).String("id")
	reader.Do("POST", "/skills/test", map[string]any{"promptTemplate": "Say hello to the people of this house"}).Want(200)
	reader.Do("POST", "/skills/"+skill+"/test", map[string]any{}).Want(200)
	reader.Do("POST", "/habits/validate-cron", map[string]any{"cronExpression": "0 9 * * *"}).Want(200)
	reader.Do("POST", "/projects/validate-name", map[string]any{"name": "Mine"}).Want(200)
	reader.Do("POST", "/skills/"+skill+"/execute", map[string]any{}).Problem(403, "INSUFFICIENT_SCOPE")
	reader.Do("POST", "/events", map[string]any{"eventName": "push", "payload": map[string]any{}}).Problem(403, "INSUFFICIENT_SCOPE")
	spent(t, s.DB, anna.OrgID, 6)
}

// Many requests with keys of one organization reach two servers at once, near the limit. Exactly as many pass as there are units.
func TestOfManyKeysAtTheLimitExactlyAsManyPassAsThereAreUnits(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	other := stack.On(t, s.DB)
	anna := s.SignUp("Anna")
	const limit, callers = 137, 40
	s.DB.Exec("update public.subscriptions set overrides = jsonb_build_object('api_calls', $2::integer) where organization_id = $1", anna.OrgID, limit)
	programs := []*client.Client{create(t, anna, "read"), create(t, anna, "read").At(other.BaseURL)}
	passed, refused := make(chan int, callers), make(chan client.Response, callers)
	for i := range callers {
		go func() {
			n := 0
			for {
				r, err := programs[i%2].Try("GET", "/projects", nil)
				if err != nil || r.Status != http.StatusOK {
					passed <- n
					refused <- r
					return
				}
				n++
			}
		}()
	}
	total := 0
	for range callers {
		total += <-passed
		r := <-refused
		require.Equal(t, 429, r.Status, string(r.Body))
		r.Problem(429, "QUOTA_EXCEEDED")
		require.Equal(t, "api_calls", r.Value("details.metric"))
		require.EqualValues(t, limit, r.Value("details.limit"))
		require.Equal(t, "0", r.Header.Get("X-RateLimit-Remaining"))
		require.NotEmpty(t, r.Header.Get("Retry-After"))
	}
	require.LessOrEqual(t, total, limit)
	// A caller that was refused while another process held the last units may try again.
	for total < limit {
		r := programs[total%2].Get("/projects")
		if r.Status == http.StatusOK {
			total++
		}
	}
	programs[0].Get("/projects").Problem(429, "QUOTA_EXCEEDED")
	programs[1].Get("/projects").Problem(429, "QUOTA_EXCEEDED")
	spent(t, s.DB, anna.OrgID, limit)
}

// A server is killed. Counts written before stay, at most the last moments are lost, and the units that it held are returned.
func TestAKilledServerLosesNoMoreThanAMoment(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	program := create(t, anna, "read")
	victim, at := process(t, s.DB)
	there := program.At(at.BaseURL)
	for range 30 {
		there.Get("/projects").Want(200)
	}
	began := time.Now()
	counted(t, s.DB, program, 30)
	require.Less(t, time.Since(began), 5*time.Second, "counts are written each half second")
	there.Get("/projects").Want(200)
	require.NoError(t, victim.Process.Kill())
	_ = victim.Wait()

	// The surviving server continues counting from there.
	program.Get("/projects").Want(200)
	require.Eventually(t, func() bool {
		n := testdb.Value[int](s.DB, "select usage_count::int from public.api_keys where user_id = $1", anna.ID)
		return n == 31 || n == 32
	}, waiting, tick)
	// A minute later by the clock of the database, the unused units of the dead process are available again.
	s.DB.Exec("update private.unit_leases set renewed_at = renewed_at - interval '1 minute' where organization_id = $1", anna.OrgID)
	s.DB.Exec("select private.reclaim_units()")
	require.Eventually(t, func() bool { n := used(s.DB, anna.OrgID); return n == 31 || n == 32 }, waiting, tick, "%d", used(s.DB, anna.OrgID))
}
