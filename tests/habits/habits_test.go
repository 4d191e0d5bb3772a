package habits

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/skills"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

type habit struct {
	ID, SkillID, ScheduleCron, ScheduleDescription, Timezone, NextRunAt, LastRunAt, LastErrorMessage, UpdatedAt string
	RunCount, ConsecutiveFailures                                                                               int
	IsActive                                                                                                    bool
	Config                                                                                                      map[string]any
	Skill                                                                                                       *skills.Skill
}

type habitPage struct {
	Habits                []habit
	Total, Page, PageSize int
	HasMore               bool
}

// newHabit schedules a skill (by its path) and gives the habit's path.
func newHabit(t *testing.T, p *client.Person, skillPath string, members ...any) string {
	t.Helper()
	body := map[string]any{"skillId": strings.TrimPrefix(skillPath, "/skills/"), "scheduleCron": "0 9 * * *"}
	for i := 0; i+1 < len(members); i += 2 {
		body[members[i].(string)] = members[i+1]
	}
	return "/habits/" + p.In(t).Do("POST", "/habits", body).Want(201).String("id")
}

// withModel is a server on which the local model answers, once the server has reported it.
func withModel(t *testing.T) *stack.Stack {
	t.Helper()
	s := stack.New(t, func(c *config.Config) { c.AnthropicKey, c.GoogleKey, c.LocalModel = "", "", "on" })
	require.Eventually(t, func() bool {
		return testdb.Holds(s.DB, "select private.is_provider_configured('anthropic', null)")
	}, 10*time.Second, 10*time.Millisecond, "the server tells the database what it offers")
	return s
}

func TestHabits(t *testing.T) {
	t.Parallel()
	s := withModel(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	own := skills.Create(t, anna, "Release notes")
	ownID := strings.TrimPrefix(own, "/skills/")

	t.Run("ANewHabitHasItsDefaults", func(t *testing.T) {
		h := client.JSON[habit](anna.In(t).Do("POST", "/habits", map[string]any{"skillId": ownID, "scheduleCron": "  0  9 * *  1-5 "}).Want(201))
		require.Equal(t, "0 9 * * 1-5", h.ScheduleCron)
		require.Equal(t, "UTC", h.Timezone)
		require.True(t, h.IsActive)
		require.Empty(t, h.Config)
		require.Empty(t, h.ScheduleDescription)
		next, err := time.Parse(time.RFC3339, h.NextRunAt)
		require.NoError(t, err)
		require.True(t, next.After(time.Now()) && next.Hour() == 9 && next.Weekday() >= time.Monday && next.Weekday() <= time.Friday, h.NextRunAt)
		require.Equal(t, h, client.JSON[habit](anna.Get("/habits/"+h.ID).Want(200)))
		anna.Do("DELETE", "/habits/"+h.ID, nil).Want(200)
	})
	t.Run("EachRuleIsNamed", func(t *testing.T) {
		hidden := skills.Create(t, stan, "Secret of Stan")
		path := newHabit(t, anna, own)
		for _, c := range []struct {
			body        string
			status      int
			code, field string
		}{
			{`{"skillId": null}`, 400, "VALIDATION_ERROR", "skillId"},
			{`{"skillId": "x"}`, 404, "SKILL_NOT_FOUND", "skillId"},
			{fmt.Sprintf(`{"skillId": %q}`, uuid.NewString()), 404, "SKILL_NOT_FOUND", "skillId"},
			{fmt.Sprintf(`{"skillId": %q}`, strings.TrimPrefix(hidden, "/skills/")), 404, "SKILL_NOT_FOUND", "skillId"},
			{`{"scheduleCron": null}`, 400, "VALIDATION_ERROR", "scheduleCron"},
			{`{"scheduleCron": 5}`, 400, "VALIDATION_ERROR", "scheduleCron"},
			{`{"scheduleCron": ""}`, 400, "INVALID_CRON", "scheduleCron"},
			{`{"scheduleCron": "@daily"}`, 400, "INVALID_CRON", "scheduleCron"},
			{`{"scheduleCron": "0 9 * * MON"}`, 400, "INVALID_CRON", "scheduleCron"},
			{`{"scheduleCron": "0 0 31 2 *"}`, 400, "INVALID_CRON", "scheduleCron"},
			{fmt.Sprintf(`{"scheduleCron": "0 9 * * 1%s"}`, strings.Repeat(",1", 60)), 400, "INVALID_CRON", "scheduleCron"},
			{fmt.Sprintf(`{"scheduleCron": "%s"}`, strings.Repeat(" *", 200_000)), 400, "INVALID_CRON", "scheduleCron"},
			{`{"timezone": ""}`, 400, "INVALID_TIMEZONE", "timezone"},
			{`{"timezone": "europe/amsterdam"}`, 400, "INVALID_TIMEZONE", "timezone"},
			{`{"timezone": "XYZ5"}`, 400, "INVALID_TIMEZONE", "timezone"},
			{`{"timezone": 1}`, 400, "VALIDATION_ERROR", "timezone"},
			{fmt.Sprintf(`{"scheduleDescription": %q}`, strings.Repeat("ü", 256)), 400, "VALIDATION_ERROR", "scheduleDescription"},
			{`{"scheduleDescription": "a\u0000b"}`, 400, "VALIDATION_ERROR", ""},
			{`{"config": []}`, 400, "VALIDATION_ERROR", "config"},
			{`{"config": "x"}`, 400, "VALIDATION_ERROR", "config"},
			{fmt.Sprintf(`{"config": {"a": %q}}`, strings.Repeat("x", 70_000)), 400, "VALIDATION_ERROR", "config"},
			{fmt.Sprintf(`{"config": {"a": [%s1]}}`, strings.Repeat("1e390,", 5000)), 400, "VALIDATION_ERROR", ""},
			{`{"config": {"a": 1e400000}}`, 400, "VALIDATION_ERROR", ""},
			{`{"isActive": null}`, 400, "VALIDATION_ERROR", "isActive"},
			{`{"isActive": "yes"}`, 400, "VALIDATION_ERROR", "isActive"},
		} {
			whole := strings.Replace(c.body, "{", fmt.Sprintf(`{"skillId": %q, "scheduleCron": "0 9 * * *", `, ownID), 1)
			if strings.Contains(c.body, "skillId") || strings.Contains(c.body, "scheduleCron") {
				whole = strings.Replace(c.body, "{", `{"config": {}, `, 1)
				if !strings.Contains(c.body, "skillId") {
					whole = strings.Replace(whole, "{", fmt.Sprintf(`{"skillId": %q, `, ownID), 1)
				} else {
					whole = strings.Replace(whole, "{", `{"scheduleCron": "0 9 * * *", `, 1)
				}
			}
			r := anna.In(t).Do("POST", "/habits", whole).Problem(c.status, c.code)
			if c.field != "" {
				r.Field(c.field)
			}
			if !strings.Contains(c.body, "skillId") {
				r = anna.In(t).Do("PATCH", path, c.body).Problem(c.status, c.code)
				if c.field != "" {
					r.Field(c.field)
				}
			}
		}
		require.Equal(t, "Invalid hour value (0-23)", anna.Do("PUT", path, `{"scheduleCron": "0 24 * * *"}`).String("message"))
		anna.In(t).Do("POST", "/habits", `{`).Problem(400, "VALIDATION_ERROR")
		anna.In(t).Do("POST", "/habits", `{"config": {"a": "`+strings.Repeat("x", 1<<20)+`"}}`).Problem(413, "PAYLOAD_TOO_LARGE")
		anna.Do("DELETE", path, nil).Want(200)
	})
	t.Run("PutAndPatchAreOne", func(t *testing.T) {
		path := newHabit(t, anna, own, "scheduleDescription", "Mornings")
		for _, method := range []string{"PUT", "PATCH"} {
			before := client.JSON[habit](anna.Get(path))
			after := client.JSON[habit](anna.In(t).Do(method, path, map[string]any{"timezone": "Asia/Kathmandu", "config": map[string]any{"by": method}}).Want(200))
			require.Equal(t, "Asia/Kathmandu", after.Timezone)
			require.Equal(t, map[string]any{"by": method}, after.Config)
			require.Equal(t, "Mornings", after.ScheduleDescription)
			require.NotEqual(t, before.UpdatedAt, after.UpdatedAt)
			require.True(t, strings.HasSuffix(after.NextRunAt, "03:15:00.000Z"), after.NextRunAt)
		}
		anna.In(t).Do("PUT", path, client.JSON[map[string]any](anna.Get(path))).Want(200)
		h := client.JSON[habit](anna.In(t).Do("PATCH", path, map[string]any{"scheduleCron": "*/30 * * * *", "skillId": uuid.NewString(), "runCount": 5}).Want(200))
		require.Equal(t, "Every 30 minutes", h.ScheduleDescription)
		require.Equal(t, ownID, h.SkillID)
		require.Zero(t, h.RunCount)
		anna.Do("DELETE", path, nil).Want(200)
		anna.In(t).Do("DELETE", path, nil).Problem(404, "HABIT_NOT_FOUND")
	})
	t.Run("SwitchesPlan", func(t *testing.T) {
		path := newHabit(t, anna, own)
		off := client.JSON[habit](anna.In(t).Do("POST", path+"/deactivate", nil).Want(200))
		require.False(t, off.IsActive)
		require.Empty(t, off.NextRunAt)
		s.DB.Exec("update public.habits set consecutive_failures = 2, last_error_message = 'broke' where id = $1", off.ID)
		require.Equal(t, 2, client.JSON[habit](anna.Get(path)).ConsecutiveFailures)
		for _, way := range []func() client.Response{
			func() client.Response { return anna.Do("POST", path+"/activate", nil) },
			func() client.Response { return anna.Do("POST", path+"/reset-errors", nil) },
			func() client.Response {
				anna.Do("PATCH", path, `{"isActive": false}`).Want(200)
				return anna.Do("PATCH", path, `{"isActive": true}`)
			},
		} {
			s.DB.Exec("update public.habits set consecutive_failures = 2, last_error_message = 'broke' where id = $1", off.ID)
			on := client.JSON[habit](way().Want(200))
			require.True(t, on.IsActive)
			require.NotEmpty(t, on.NextRunAt)
			require.Zero(t, on.ConsecutiveFailures)
			require.Empty(t, on.LastErrorMessage)
		}
		anna.Do("DELETE", path, nil).Want(200)
	})
	t.Run("StrangersAndNobodyFindNothing", func(t *testing.T) {
		path := newHabit(t, anna, own)
		for _, call := range []string{"GET ", "GET /full", "PUT ", "PATCH ", "DELETE ", "POST /activate", "POST /deactivate", "POST /run-now", "POST /reset-errors", "GET /executions"} {
			method, at, _ := strings.Cut(call, " ")
			var body any
			if method == "PUT" || method == "PATCH" {
				body = map[string]any{"isActive": false}
			}
			stan.In(t).Do(method, path+at, body).Problem(404, "HABIT_NOT_FOUND").Field("")
			anna.In(t).Do(method, "/habits/not-a-uuid"+at, body).Problem(404, "HABIT_NOT_FOUND")
			anna.In(t).Do(method, "/habits/"+uuid.NewString()+at, body).Problem(404, "HABIT_NOT_FOUND")
			s.As("").In(t).Do(method, path+at, body).Problem(401, "UNAUTHENTICATED")
		}
		require.Zero(t, client.JSON[habitPage](stan.Get("/habits")).Total)
		anna.In(t).Do("POST", "/habits/stats", nil).Problem(405, "METHOD_NOT_ALLOWED")
		anna.Do("DELETE", path, nil).Want(200)
	})
	t.Run("CronIsExplained", func(t *testing.T) {
		check := func(body string) client.Response { return anna.In(t).Do("POST", "/habits/validate-cron", body) }
		r := check(`{"cron": "30 2 * * *", "timezone": "Europe/Amsterdam", "after": "2026-03-28T12:00:00Z"}`).Want(200)
		require.Equal(t, "At 2:30 AM", r.String("description"))
		require.Equal(t, []any{"2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z", "2026-03-31T00:30:00.000Z", "2026-04-01T00:30:00.000Z", "2026-04-02T00:30:00.000Z"}, r.Value("nextRuns"))
		require.Equal(t, "Every 5 minutes", check(`{"expression": "*/5 * * * *"}`).Want(200).String("description"))
		for _, nothing := range []string{``, `{}`, `{"cron": null}`, `{"cron": 5}`, `{"cron": ["* * * * *"]}`, `{"cron": ""}`} {
			require.Equal(t, "Cron expression must have exactly 5 parts (minute hour day month weekday)", check(nothing).Want(200).String("error"))
		}
		require.Equal(t, "Cron expression never runs", check(`{"cron": "0 0 31 4,6 *"}`).Want(200).String("error"))
		check(`{"cron": "* * * * *", "timezone": "Local"}`).Problem(400, "INVALID_TIMEZONE").Field("timezone")
		check(`{"cron": "* * * * *", "timezone": ""}`).Problem(400, "INVALID_TIMEZONE").Field("timezone")
		for _, after := range []string{"soon", "2026-13-01T00:00:00Z", "2026-01-01", "0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z", "2016-12-31T23:59:60Z"} {
			r := check(fmt.Sprintf(`{"cron": "* * * * *", "after": %q}`, after))
			if r.Status != 200 {
				r.Problem(400, "VALIDATION_ERROR").Field("after")
			}
			require.Equal(t, after == "2026-01-01" || after == "2016-12-31T23:59:60Z", r.Status == 200, "%s: %s", after, r.Body)
		}
		s.As("").In(t).Do("POST", "/habits/validate-cron", `{}`).Problem(401, "UNAUTHENTICATED")
	})
	t.Run("RunNow", func(t *testing.T) {
		path := newHabit(t, anna, own, "isActive", false, "config", map[string]any{"commits": "a1"})
		r := anna.In(t).Do("POST", path+"/run-now", nil).Want(202)
		require.Equal(t, "queued", r.String("status"))
		require.Equal(t, `Habit "0 9 * * *" queued for immediate execution`, r.String("message"))
		runs := anna.In(t).Get(path + "/executions").Want(200)
		require.Equal(t, 1.0, runs.Value("total"))
		run := runs.Value("executions").([]any)[0].(map[string]any)
		require.Equal(t, r.String("executionId"), run["id"])
		require.Equal(t, "habit", run["executionType"])
		require.Equal(t, map[string]any{"commits": "a1"}, run["input"])
		h := client.JSON[habit](anna.Get(path))
		require.Equal(t, 1, h.RunCount)
		require.Equal(t, run["executedAt"], h.LastRunAt)
		require.Empty(t, h.NextRunAt)
		anna.In(t).Do("POST", path+"/run-now", nil).Want(202)
		require.Len(t, anna.Get(path+"/executions?limit=1&offset=1").Value("executions"), 1)
		require.Len(t, anna.Get(path+"/executions?limit=1000").Value("executions"), 2)
		anna.In(t).Get(path+"/executions?limit=0").Problem(400, "VALIDATION_ERROR").Field("limit")
		anna.In(t).Get(path+"/executions?offset=-1").Problem(400, "VALIDATION_ERROR").Field("offset")

		anna.Do("PATCH", own, `{"isActive": false}`).Want(200)
		anna.In(t).Do("POST", path+"/run-now", nil).Problem(409, "SKILL_INACTIVE")
		anna.Do("PATCH", own, `{"isActive": true}`).Want(200)
		s.DB.Exec(`update public.subscriptions set overrides = '{"api_calls": 0}' where organization_id = $1`, anna.OrgID)
		anna.In(t).Do("POST", path+"/run-now", nil).Problem(429, "QUOTA_EXCEEDED")
		s.DB.Exec(`update public.subscriptions set overrides = '{}' where organization_id = $1`, anna.OrgID)
		require.Equal(t, 2, client.JSON[habit](anna.Get(path)).RunCount, "what was refused left nothing")
		anna.Do("DELETE", path, nil).Want(200)
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from public.skill_executions where reference_id = $1", h.ID), "executions stay")
	})
}

func TestHabitLists(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan := s.SignUp("Anna"), s.SignUp("Stan")
	own, shown := skills.Create(t, anna, "Own one"), skills.Create(t, stan, "Shown by Stan")
	skills.Publish(t, stan, shown)

	ids := map[string]string{}
	for _, h := range []struct{ name, skill, cron string }{
		{"december", own, "0 9 31 12 *"}, {"minute", own, "* * * * *"}, {"off", own, "* * * * *"}, {"shown", shown, "0 0 1 1 *"}, {"off too", own, "0 0 1 1 *"},
	} {
		ids[strings.TrimPrefix(newHabit(t, anna, h.skill, "scheduleCron", h.cron, "isActive", !strings.HasPrefix(h.name, "off")), "/habits/")] = h.name
	}
	order := func(query string) (names []string) {
		for _, h := range client.JSON[habitPage](anna.In(t).Get("/habits" + query).Want(200)).Habits {
			names = append(names, ids[h.ID])
		}
		return names
	}
	soonest := []string{"minute", "december", "shown"}

	require.Equal(t, append(soonest, "off", "off too"), order(""))
	require.Equal(t, soonest, order("?isActive=true"))
	require.Equal(t, []string{"off", "off too"}, order("?isActive=false"))
	require.Equal(t, []string{"shown"}, order("?skillId="+strings.TrimPrefix(shown, "/skills/")))
	require.Empty(t, order("?skillId=x"))
	require.Empty(t, order("?page=9223372036854775807&pageSize=9223372036854775807"))
	require.Equal(t, []string{"shown", "off"}, order("?page=2&pageSize=2"))
	page := client.JSON[habitPage](anna.Get("/habits?page=2&pageSize=2"))
	require.Equal(t, habitPage{Total: 5, Page: 2, PageSize: 2, HasMore: true}, habitPage{Total: page.Total, Page: page.Page, PageSize: page.PageSize, HasMore: page.HasMore})
	require.Equal(t, 100, client.JSON[habitPage](anna.Get("/habits?pageSize=500")).PageSize)
	for _, bad := range []string{"page=0", "pageSize=0", "page=x", "pageSize=1.5", "isActive=maybe"} {
		name, _, _ := strings.Cut(bad, "=")
		anna.In(t).Get("/habits?"+bad).Problem(400, "VALIDATION_ERROR").Field(name)
	}

	full := anna.In(t).Get("/habits/" + keyOf(ids, "shown") + "/full").Want(200)
	require.Equal(t, "Shown by Stan", full.String("skill.name"))
	s.DB.Exec("update public.habits set run_count = 3, consecutive_failures = 1 where id = $1", keyOf(ids, "off"))
	stats := anna.In(t).Get("/habits/stats").Want(200)
	require.Equal(t, []any{5.0, 3.0, 3.0, 1.0}, []any{stats.Value("totalHabits"), stats.Value("activeHabits"), stats.Value("totalRuns"), stats.Value("failedHabits")})
	upcoming := stats.Value("upcomingRuns").([]any)
	require.Len(t, upcoming, 3)
	require.Equal(t, "Shown by Stan", upcoming[2].(map[string]any)["skillName"])
	require.Equal(t, keyOf(ids, "minute"), upcoming[0].(map[string]any)["habitId"])

	// Stan makes the skill private again. Anna's habit on it stays, and shows its skill as unknown.
	stan.In(t).Do("POST", shown+"/unpublish", nil).Want(200)
	anna.In(t).Get("/habits/"+keyOf(ids, "shown")+"/full").Problem(404, "SKILL_NOT_FOUND")
	anna.In(t).Do("POST", "/habits/"+keyOf(ids, "shown")+"/run-now", nil).Problem(404, "SKILL_NOT_FOUND")
	h := client.JSON[habitPage](anna.Get("/habits?skillId=" + strings.TrimPrefix(shown, "/skills/"))).Habits[0]
	require.Equal(t, skills.Skill{ID: strings.TrimPrefix(shown, "/skills/"), UserID: anna.ID, Name: "Unknown Skill", Category: "custom", Model: "claude-3-5-sonnet-20241022",
		OutputFormat: "markdown", Parameters: map[string]any{}, CreatedAt: h.Skill.CreatedAt, UpdatedAt: h.Skill.UpdatedAt}, *h.Skill)
	require.Equal(t, h.UpdatedAt, h.Skill.UpdatedAt)
	require.Equal(t, "Unknown Skill", anna.Get("/habits/stats").Value("upcomingRuns").([]any)[2].(map[string]any)["skillName"])
	anna.In(t).Do("DELETE", own, nil).Want(200)
	require.Equal(t, []string{"shown"}, order(""), "a skill takes its habits along")
	require.Equal(t, client.JSON[map[string]any](stan.Get("/habits/stats")), map[string]any{"totalHabits": 0.0, "activeHabits": 0.0, "totalRuns": 0.0, "failedHabits": 0.0, "upcomingRuns": []any{}})
}

func keyOf(ids map[string]string, name string) string {
	for id, n := range ids {
		if n == name {
			return id
		}
	}
	return ""
}

// Any number of workers and pg_cron schedule. Here three connections ask without a pause, while two workers ask each second.
func TestAHundredHabitsDueAtOnceRunOnce(t *testing.T) {
	t.Parallel()
	s := withModel(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	for _, p := range []*client.Person{anna, ben} {
		path := skills.Create(t, p, "Due at once")
		s.DB.Exec(`insert into public.habits (user_id, organization_id, skill_id, schedule_cron, config)
			select $1, $2, $3, '0 9 1 1 *', '{"commits": "a1"}' from generate_series(1, 50)`, p.ID, p.OrgID, strings.TrimPrefix(path, "/skills/"))
	}
	worker.Start(t, s)
	worker.Start(t, s)
	s.DB.Exec("update public.habits set next_run_at = now() - interval '3 hours'")

	ctx, stop := context.WithCancel(t.Context())
	var schedulers sync.WaitGroup
	for range 3 {
		schedulers.Go(func() {
			pool := s.DB.Pool("kijko_worker")
			for ctx.Err() == nil {
				if _, err := pool.Exec(ctx, "select private.dispatch_habits(p_limit => 7), private.run_due(1)"); err != nil && ctx.Err() == nil {
					t.Errorf("a scheduler failed: %v", err)
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool {
		return testdb.Holds(s.DB, "select count(*) filter (where status = 'completed') >= 100 from public.skill_executions")
	}, 30*time.Second, 20*time.Millisecond, "all run")
	stop()
	schedulers.Wait()
	require.Equal(t, 100, testdb.Value[int](s.DB, "select count(*) from public.skill_executions"))
	require.Equal(t, 100, testdb.Value[int](s.DB, `select count(*) from public.habits where run_count = 1 and next_run_at > now() and is_active
		and consecutive_failures = 0 and last_run_at is not null`))
	require.Equal(t, 50, client.JSON[habitPage](anna.Get("/habits")).Total)
}

func TestADueHabitRunsWithinSecondsAndThreeFailuresEndIt(t *testing.T) {
	t.Parallel()
	s := withModel(t)
	worker.Start(t, s)
	anna := s.SignUp("Anna")
	see := func(path string) habit { return client.JSON[habit](anna.Get(path)) }

	path := newHabit(t, anna, skills.Create(t, anna, "Each minute"), "scheduleCron", "* * * * *", "config", map[string]any{"commits": "a1"})
	s.DB.Exec("update public.habits set next_run_at = now() where id = $1", strings.TrimPrefix(path, "/habits/"))
	require.Eventually(t, func() bool { return see(path).RunCount > 0 }, 15*time.Second, 20*time.Millisecond, "it is dispatched")
	require.Eventually(t, func() bool {
		runs, _ := anna.Get(path + "/executions").Value("executions").([]any)
		return len(runs) > 0 && runs[0].(map[string]any)["status"] == "completed"
	}, 15*time.Second, 20*time.Millisecond, "and done")
	require.True(t, see(path).IsActive)

	// The config lacks a required input.
	required := "/skills/" + anna.Do("POST", "/skills", map[string]any{"name": "Needs a topic", "promptTemplate": "Write something nice about {{topic}}",
		"inputSchema": []any{map[string]any{"name": "topic", "type": "string", "required": true}}}).Want(201).String("id")
	path = newHabit(t, anna, required)
	for n := 1; n <= 3; n++ {
		anna.In(t).Do("POST", path+"/run-now", nil).Want(202)
		require.Eventually(t, func() bool { return see(path).ConsecutiveFailures == n }, 15*time.Second, 20*time.Millisecond, "failure %d is counted", n)
		h := see(path)
		require.NotEmpty(t, h.LastErrorMessage)
		require.Equal(t, n < 3, h.IsActive)
		require.Equal(t, n < 3, h.NextRunAt != "")
	}
	require.Equal(t, 1.0, anna.Get("/habits/stats").Want(200).Value("failedHabits"))
	anna.In(t).Do("POST", path+"/reset-errors", nil).Want(200)
	require.True(t, see(path).IsActive)
}

// Schedulers and people change the same rows: a habit, and the counter of its organization.
func TestRunNowAndDispatchDoNotFailEachOther(t *testing.T) {
	t.Parallel()
	s := withModel(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	var paths []string
	for _, p := range []*client.Person{anna, ben} {
		skill := skills.Create(t, p, "Busy")
		for range 8 {
			paths = append(paths, newHabit(t, p, skill))
		}
		p.Do("POST", paths[len(paths)-1]+"/run-now", nil).Want(202)
	}
	ctx, stop := context.WithCancel(t.Context())
	var schedulers, people sync.WaitGroup
	for range 2 {
		schedulers.Go(func() {
			pool := s.DB.Pool("kijko_worker")
			for day := 1; ctx.Err() == nil; day++ {
				if _, err := pool.Exec(ctx, "select private.dispatch_habits(now() + make_interval(days => $1), 5)", day); err != nil && ctx.Err() == nil {
					t.Errorf("a scheduler failed: %v", err)
					return
				}
			}
		})
	}
	for i, path := range paths {
		people.Go(func() {
			p := anna
			if i >= 8 {
				p = ben
			}
			for range 5 {
				if r, err := p.Try("POST", path+"/run-now", nil); err != nil || r.Status != 202 {
					t.Errorf("run-now: %v %d %s", err, r.Status, r.Body)
					return
				}
			}
		})
	}
	people.Wait()
	stop()
	schedulers.Wait()
	require.Equal(t, testdb.Value[int](s.DB, "select count(*) from public.skill_executions"), testdb.Value[int](s.DB, "select sum(run_count) from public.habits"))
}
