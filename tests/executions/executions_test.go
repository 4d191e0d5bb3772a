package executions

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/server/executions"
	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

const topic = `{"input": {"topic": "trees"}}`

func TestExecutions(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	anna, boris := l.anna, l.SignUp("Boris")
	worker.Start(t, l.Stack)
	skill := l.skill(anna, "Writer", `input_schema='[{"name": "topic", "type": "string", "required": true}]'`)
	run := "/skills/" + skill + "/run"
	execute := "/skills/" + skill + "/execute"

	t.Run("OneRunFromStartToEnd", func(t *testing.T) {
		l.models.Next(llmtest.Answer("Trees ", "are nice.").Tokens(600, 1500))
		used := l.used(anna)
		r := anna.In(t).Do("POST", execute, topic).Want(200)
		require.Equal(t, "completed", r.String("status"))
		require.Equal(t, "Trees are nice.", r.String("output"))
		require.Equal(t, 2100.0, r.Value("tokensUsed"))
		require.NotNil(t, r.Value("durationMs"))
		require.Nil(t, r.Value("error"))
		require.NotEmpty(t, r.Header.Get("X-RateLimit-Remaining"), "a counted request says what is left")
		require.Equal(t, used+1, l.used(anna))
		e := anna.In(t).Get("/executions/" + r.String("executionId")).Want(200)
		require.Equal(t, "Trees are nice.", e.String("output"))
		require.Equal(t, "manual", e.String("executionType"))
		require.Equal(t, 2.0, e.Value("costCents"))
		require.Equal(t, "trees", e.Value("input.topic"))
		require.Equal(t, "Writer", anna.In(t).Get("/executions/"+r.String("executionId")+"/full").Want(200).String("skill.name"))
		require.Equal(t, "Write something nice about trees", l.models.Calls()[len(l.models.Calls())-1].Text)
		require.Equal(t, 1, l.count("select execution_count from public.skills where id = $1", skill))
	})
	t.Run("AValueThatHoldsAPlaceholderStaysLiteral", func(t *testing.T) {
		anna.In(t).Do("POST", execute, map[string]any{"input": map[string]any{"topic": "{{other}} {{topic}} $& \\1", "other": "nothing"}}).Want(200)
		require.Equal(t, "Write something nice about {{other}} {{topic}} $& \\1", l.models.Calls()[len(l.models.Calls())-1].Text)
	})
	t.Run("AModelThatFailsIsNoFailedRequest", func(t *testing.T) {
		l.models.Next(llmtest.Fail(400, "too strange"))
		r := anna.In(t).Do("POST", execute, topic).Want(200)
		require.Equal(t, "failed", r.String("status"))
		require.Contains(t, r.String("error"), "too strange")
		require.Nil(t, r.Value("output"))
		e := anna.In(t).Get("/executions/" + r.String("executionId")).Want(200)
		require.Equal(t, "BAD_REQUEST", e.String("errorCode"))
		again := anna.In(t).Do("POST", "/executions/"+r.String("executionId")+"/retry", nil).Want(202)
		require.NotEqual(t, r.String("executionId"), again.String("newExecutionId"))
		l.status(anna, again.String("newExecutionId"), "completed")
	})
	t.Run("NothingKeepsACallerWaitingWhoDoesNotWantTo", func(t *testing.T) {
		l.models.Next(llmtest.Answer("later").After(50 * time.Millisecond))
		r := anna.With("Prefer", "respond-async, wait=10").In(t).Do("POST", execute, topic).Want(202)
		require.Equal(t, "pending", r.String("status"))
		require.Equal(t, "respond-async", r.Header.Get("Preference-Applied"))
		require.Equal(t, "later", l.status(anna, r.String("executionId"), "completed").String("output"))
	})
	t.Run("TheSameKeyIsTheSameRun", func(t *testing.T) {
		keyed := anna.With("Idempotency-Key", "once").In(t)
		first := keyed.Do("POST", execute, topic).Want(200)
		second := keyed.Do("POST", execute, topic).Want(200)
		require.JSONEq(t, string(first.Body), string(second.Body))
	})
	t.Run("RunHasAFormOfItsOwn", func(t *testing.T) {
		l.models.Next(llmtest.Answer("Ten words.").Tokens(10, 5))
		r := anna.In(t).Do("POST", run, `{"inputs": {"topic": "words"}}`).Want(200)
		require.Equal(t, "completed", r.String("status"))
		require.Equal(t, map[string]any{"inputTokens": 10.0, "outputTokens": 5.0, "totalTokens": 15.0}, r.Value("usage"))
		require.Equal(t, 0.0, r.Value("costCents"))
		require.NotNil(t, r.Value("durationMs"))
	})
	t.Run("RefusalsComeBeforeAnythingIsPaid", func(t *testing.T) {
		used, rows := l.used(anna), l.count("select count(*) from public.skill_executions")
		a := anna.In(t)
		a.Do("POST", "/skills/no-uuid/execute", topic).Problem(404, "SKILL_NOT_FOUND")
		a.Do("POST", execute, `{"input": {"topic": 5}}`).Problem(400, "INVALID_INPUT").Field("input.topic")
		a.Do("POST", execute, nil).Problem(400, "INVALID_INPUT").Field("input.topic")
		a.Do("POST", run, `{"inputs": {}}`).Problem(400, "INVALID_INPUT").Field("input.topic")
		a.Do("POST", execute, `{"input": "text"}`).Problem(400, "VALIDATION_ERROR").Field("input")
		a.Do("POST", execute, `{"executionType": "cron"}`).Problem(400, "VALIDATION_ERROR").Field("executionType")
		a.Do("POST", execute, `{"executionType": "habit", "referenceId": "x"}`).Problem(400, "INVALID_REFERENCE").Field("referenceId")
		a.Do("POST", execute, `{"skillId": "`+anna.ID+`"}`).Problem(400, "VALIDATION_ERROR").Field("skillId")
		boris.In(t).Do("POST", execute, topic).Problem(404, "SKILL_NOT_FOUND")
		boris.In(t).Do("POST", run, topic).Problem(404, "SKILL_NOT_FOUND")
		boris.In(t).Do("POST", "/skills/"+skill+"/test", topic).Problem(404, "SKILL_NOT_FOUND")
		require.Equal(t, used, l.used(anna))
		require.Equal(t, rows, l.count("select count(*) from public.skill_executions"))
	})
	t.Run("NobodySeesOrTouchesAnothersRuns", func(t *testing.T) {
		id := anna.In(t).Get("/executions/recent?limit=1").Want(200)
		var rows []struct{ ID string }
		id.Into(&rows)
		b := boris.In(t)
		b.Get("/executions/"+rows[0].ID).Problem(404, "EXECUTION_NOT_FOUND")
		b.Get("/executions/"+rows[0].ID+"/full").Problem(404, "EXECUTION_NOT_FOUND")
		b.Do("POST", "/executions/"+rows[0].ID+"/cancel", nil).Problem(404, "EXECUTION_NOT_FOUND")
		b.Do("POST", "/executions/"+rows[0].ID+"/retry", nil).Problem(404, "EXECUTION_NOT_FOUND")
		require.Equal(t, 0.0, b.Get("/executions?skillId="+skill).Want(200).Value("total"))
		require.Equal(t, "[]", string(b.Get("/executions/running").Want(200).Body))
		require.Equal(t, "[]", b.Get("/executions/export").Want(200).String("data"))
		require.Equal(t, 0.0, b.Do("DELETE", "/executions/cleanup?olderThanDays=1", nil).Want(200).Value("deletedCount"))
		l.As("").In(t).Get("/executions").Problem(401, "UNAUTHENTICATED")
		anna.In(t).Get("/executions/no-uuid").Problem(404, "EXECUTION_NOT_FOUND")
	})
	t.Run("ListsAndExportsAreTheSameRuns", func(t *testing.T) {
		a := anna.In(t)
		page := a.Get("/executions?limit=2&offset=2").Want(200)
		require.Equal(t, 2.0, page.Value("page"))
		require.Equal(t, true, page.Value("hasMore"))
		alias := a.Get("/skill-executions?limit=2&offset=2").Want(200)
		require.JSONEq(t, string(page.Body), string(alias.Body))
		require.Equal(t, 100.0, a.Get("/executions?limit=1000").Want(200).Value("pageSize"))
		a.Get("/executions?limit=0").Problem(400, "VALIDATION_ERROR").Field("limit")
		a.Get("/executions?status=done").Problem(400, "VALIDATION_ERROR").Field("status")
		a.Get("/executions?startDate=soon").Problem(400, "VALIDATION_ERROR").Field("startDate")
		a.Get("/executions/export?format=xml").Problem(400, "VALIDATION_ERROR").Field("format")
		exported := a.Get("/executions/export?limit=1&status=completed").Want(200)
		require.Equal(t, "executions-"+time.Now().UTC().Format("2006-01-02")+".json", exported.String("filename"))
		var all []any
		require.NoError(t, json.Unmarshal([]byte(exported.String("data")), &all))
		var indented bytes.Buffer
		require.NoError(t, json.Indent(&indented, []byte(exported.String("data")), "", "  "))
		require.Equal(t, indented.String(), exported.String("data"), "indented by two spaces")
		require.Len(t, all, int(a.Get("/executions?status=completed").Want(200).Value("total").(float64)))
		lines := strings.Split(a.Get("/executions/export?format=csv&status=failed").Want(200).String("data"), "\n")
		require.Equal(t, "id,skillId,skillName,executionType,status,tokensUsed,durationMs,costCents,executedAt,completedAt", lines[0])
		require.Len(t, lines, 2)
		require.Contains(t, lines[1], `,"Writer","manual","failed","",`)
	})
	t.Run("OldRunsAreCleanedUp", func(t *testing.T) {
		l.DB.Exec("alter table public.skill_executions disable trigger user")
		l.DB.Exec("update public.skill_executions set executed_at = now() - interval '91 days' where user_id = $1 and status = 'failed'", anna.ID)
		l.DB.Exec("alter table public.skill_executions enable trigger user")
		a := anna.In(t)
		a.Do("DELETE", "/executions/cleanup?olderThanDays=0", nil).Problem(400, "VALIDATION_ERROR").Field("olderThanDays")
		require.Equal(t, 1.0, a.Do("DELETE", "/executions/cleanup", nil).Want(200).Value("deletedCount"))
		require.Equal(t, 0.0, a.Get("/executions?status=failed").Want(200).Value("total"))
	})
}

func TestExecutionTests(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	a := l.anna
	skill := l.skill(a, "Writer", "is_active=false", `parameters='{"temperature": 0.5}'`)

	t.Run("APromptIsTried", func(t *testing.T) {
		l.models.Next(llmtest.Answer("Hello.").Tokens(10, 5))
		r := a.In(t).Do("POST", "/skills/test", map[string]any{"promptTemplate": "Greet {{who}}", "systemPrompt": "Be brief", "input": map[string]any{"who": "Ann"}}).Want(200)
		require.Regexp(t, "^test-[0-9a-f-]{36}$", r.String("executionId"))
		require.Equal(t, "completed", r.String("status"))
		require.Equal(t, "Hello.", r.String("output"))
		require.Equal(t, 15.0, r.Value("tokensUsed"))
		call := l.models.Calls()[0]
		require.Equal(t, "Greet Ann", call.Text)
		require.Equal(t, "Be brief", call.System)
		require.Equal(t, 0.7, call.Body["temperature"])
		require.Equal(t, 4096.0, call.Body["max_tokens"])
	})
	t.Run("ASkillIsTriedActiveOrNot", func(t *testing.T) {
		l.models.Next(llmtest.Answer("Nice."), llmtest.Fail(401, "no"))
		require.Equal(t, "Nice.", a.In(t).Do("POST", "/skills/"+skill+"/test", topic).Want(200).String("output"))
		r := a.In(t).Do("POST", "/skills/"+skill+"/test", topic).Want(200)
		require.Equal(t, "failed", r.String("status"))
		require.NotContains(t, r.String("error"), llmtest.Key)
	})
	t.Run("ADryRunIsATest", func(t *testing.T) {
		l.models.Next(llmtest.Answer("Dry.").Tokens(10000, 1000), llmtest.Answer("Dr", "y."))
		r := a.In(t).Do("POST", "/skills/"+skill+"/run", `{"inputs": {"topic": "x"}, "dryRun": true}`).Want(200)
		require.Regexp(t, "^test-", r.String("executionId"))
		require.Equal(t, 5.0, r.Value("costCents"))
		require.Equal(t, 11000.0, r.Value("usage.totalTokens"))
		names, text, result := story(readAlong(t.Context(), t, a, "/skills/"+skill+"/run", `{"inputs": {"topic": "x"}, "dryRun": true}`))
		require.Equal(t, []string{"status", "text", "done"}, names)
		require.Equal(t, "Dry.", text)
		require.Equal(t, "Dry.", result["output"])
		a.In(t).Do("POST", "/skills/"+skill+"/run", `{"inputs": {"topic": "x"}}`).Problem(409, "SKILL_INACTIVE")
	})
	t.Run("ARepeatHasTheFirstAnswer", func(t *testing.T) {
		used, calls := l.used(a), len(l.models.Calls())
		keyed := a.With("Idempotency-Key", "tried").In(t)
		l.models.Next(llmtest.Answer("Once.").After(300 * time.Millisecond))
		var group sync.WaitGroup
		answers := make([]string, 4)
		for i := range answers {
			group.Go(func() { answers[i] = string(keyed.Do("POST", "/skills/"+skill+"/test", topic).Want(200).Body) })
		}
		group.Wait()
		require.Contains(t, answers[0], "Once.")
		for _, answer := range answers {
			require.JSONEq(t, answers[0], answer)
		}
		dry := `{"inputs": {"topic": "x"}, "dryRun": true}`
		keyed = a.With("Idempotency-Key", "dry").In(t)
		l.models.Next(llmtest.Answer("Dry", "."))
		names, text, first := story(readAlong(t.Context(), t, a, "/skills/"+skill+"/run", dry, "dry"))
		require.Equal(t, "Dry.", text)
		require.Equal(t, "done", names[len(names)-1])
		require.Equal(t, first["executionId"], keyed.Do("POST", "/skills/"+skill+"/run", dry).Want(200).String("executionId"))
		_, text, again := story(readAlong(t.Context(), t, a, "/skills/"+skill+"/run", dry, "dry"))
		require.Equal(t, []any{"Dry.", first}, []any{text, again})
		require.Equal(t, calls+2, len(l.models.Calls()))
		require.Equal(t, used+2, l.used(a))
	})
	t.Run("AModelThatNobodyHasFails", func(t *testing.T) {
		r := a.In(t).Do("POST", "/skills/test", map[string]any{"promptTemplate": "x", "model": "gpt-4-turbo"}).Want(200)
		require.Equal(t, "failed", r.String("status"))
		require.Contains(t, r.String("error"), "gpt-4-turbo")
	})
	t.Run("BadInput", func(t *testing.T) {
		b := a.In(t)
		b.Do("POST", "/skills/test", nil).Problem(400, "VALIDATION_ERROR")
		b.Do("POST", "/skills/test", map[string]any{"promptTemplate": ""}).Problem(400, "VALIDATION_ERROR").Field("promptTemplate")
		b.Do("POST", "/skills/test", map[string]any{"promptTemplate": strings.Repeat("x", 10001)}).Problem(400, "VALIDATION_ERROR").Field("promptTemplate")
		b.Do("POST", "/skills/test", map[string]any{"promptTemplate": "x", "model": "llama"}).Problem(400, "VALIDATION_ERROR").Field("model")
		b.Do("POST", "/skills/test", map[string]any{"promptTemplate": "x", "parameters": map[string]any{"top_p": 0}}).Problem(400, "VALIDATION_ERROR").Field("parameters.top_p")
		b.Do("POST", "/skills/test", `{"promptTemplate": "x\u0000"}`).Problem(400, "VALIDATION_ERROR")
		b.Do("POST", "/skills/test", map[string]any{"promptTemplate": strings.Repeat("{{x}}", 2000), "input": map[string]any{"x": strings.Repeat("y", 1000)}}).Problem(400, "INVALID_INPUT")
	})
	require.Zero(t, l.count("select count(*) from public.skill_executions"), "a test leaves no run")
	require.Equal(t, 8, l.used(a), "and costs its unit")
}

func TestExecutionStreams(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	worker.Start(t, l.Stack)
	skill := l.skill(l.anna, "Writer")
	run := "/skills/" + skill + "/run"
	const inputs = `{"inputs": {"topic": "trees"}}`

	t.Run("TextsTogetherAreTheOutput", func(t *testing.T) {
		long := strings.Repeat("wörds \"and\"\n", 2000)
		l.models.Next(llmtest.Reply{Pieces: []string{"Once ", "upon ", long, "end"}, Pause: 20 * time.Millisecond})
		names, text, result := story(readAlong(t.Context(), t, l.anna, run, inputs))
		require.Equal(t, []string{"status", "text", "done"}, names)
		require.Equal(t, "Once upon "+long+"end", text)
		require.Equal(t, "completed", result["status"])
		require.Equal(t, text, result["output"])
		require.NotNil(t, result["usage"])
	})
	t.Run("AFailureIsAnEndToo", func(t *testing.T) {
		l.models.Next(llmtest.Fail(400, "too strange"))
		names, text, result := story(readAlong(t.Context(), t, l.anna, run, inputs))
		require.Equal(t, "done", names[len(names)-1])
		require.Empty(t, text)
		require.Equal(t, "failed", result["status"])
		require.Contains(t, result["error"], "too strange")
	})
	t.Run("SoIsACancellation", func(t *testing.T) {
		l.models.Next(llmtest.Reply{Pieces: []string{"Once"}, Hold: true})
		stream := readAlong(t.Context(), t, l.anna, run, inputs)
		for e := range stream {
			if e.Name == "text" {
				break
			}
		}
		id := testdb.Value[string](l.DB, "select id::text from public.skill_executions where status = 'running'")
		l.anna.In(t).Do("POST", "/executions/"+id+"/cancel", nil).Want(200)
		_, _, result := story(stream)
		require.Equal(t, "cancelled", result["status"])
		require.Equal(t, "Cancelled by user", result["error"])
	})
	t.Run("WhoGoesAwayCancelsNothing", func(t *testing.T) {
		release := make(chan struct{})
		l.models.Always(func(llmtest.Call) llmtest.Reply { <-release; return llmtest.Answer("all of it") })
		ctx, cancel := context.WithCancel(t.Context())
		stream := readAlong(ctx, t, l.anna, run, inputs)
		require.Equal(t, "status", (<-stream).Name)
		id := testdb.Value[string](l.DB, "select id::text from public.skill_executions where status = 'running'")
		cancel()
		close(release)
		require.Equal(t, "all of it", l.status(l.anna, id, "completed").String("output"))
	})
}

func TestExecutionLimits(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t, func(c *config.Config) { c.ExecutionWait = 200 * time.Millisecond })
	anna := l.anna
	skill := l.skill(anna, "Writer")
	execute := "/skills/" + skill + "/execute"

	t.Run("WhenTheWaitIsOverTheRunGoesOn", func(t *testing.T) {
		stop := worker.Start(t, l.Stack)
		l.models.Next(llmtest.Silence())
		r := anna.In(t).Do("POST", execute, topic).Want(200)
		require.Equal(t, "running", r.String("status"))
		require.Nil(t, r.Value("output"))
		id := r.String("executionId")
		running := client.JSON[[]map[string]any](anna.In(t).Get("/executions/running").Want(200))
		require.Len(t, running, 1)
		require.Equal(t, id, running[0]["id"])
		anna.In(t).Do("POST", "/executions/"+id+"/retry", nil).Problem(409, "CANNOT_RETRY")
		anna.In(t).Do("POST", "/executions/"+id+"/cancel", nil).Want(200)
		cancelled := time.Now()
		require.Eventually(t, func() bool { return l.models.Aborted() == 1 }, 10*time.Second, time.Millisecond, "the model call is aborted")
		require.Less(t, time.Since(cancelled), time.Second)
		anna.In(t).Do("POST", "/executions/"+id+"/cancel", nil).Problem(409, "CANNOT_CANCEL")
		require.Equal(t, "Cancelled by user", anna.In(t).Get("/executions/"+id).Want(200).String("errorMessage"))
		stop()
	})
	t.Run("OfFiftyAtOnceOnlyWhatIsLeftRuns", func(t *testing.T) {
		used, rows := l.used(anna), l.count("select count(*) from public.skill_executions")
		l.DB.Exec("update public.subscriptions set overrides = jsonb_build_object('api_calls', $2::integer) where organization_id = $1", anna.OrgID, used+2)
		hasty := anna.With("Prefer", "respond-async")
		begun := 0
		for _, r := range client.AtOnce(t, 50, func(int) (client.Response, error) { return hasty.Try("POST", execute, topic) }) {
			if r.Status == 202 {
				begun++
				continue
			}
			r.Problem(429, "QUOTA_EXCEEDED")
			require.NotEmpty(t, r.Header.Get("Retry-After"))
		}
		require.Equal(t, 2, begun)
		require.Equal(t, rows+2, l.count("select count(*) from public.skill_executions"))
		require.Equal(t, used+2, l.used(anna))
		anna.In(t).Do("POST", "/skills/"+skill+"/test", topic).Problem(429, "QUOTA_EXCEEDED")
		l.DB.Exec("update public.subscriptions set overrides = '{}' where organization_id = $1", anna.OrgID)
	})
	t.Run("ADeactivatedSkillRunsByNoWay", func(t *testing.T) {
		waiting := anna.With("Prefer", "respond-async").In(t).Do("POST", execute, topic).Want(202).String("executionId")
		failed := testdb.Value[string](l.DB, "select id::text from public.skill_executions where status = 'cancelled'")
		l.DB.Exec("update public.skills set is_active = false where id = $1", skill)
		calls := len(l.models.Calls())
		a := anna.In(t)
		a.Do("POST", execute, topic).Problem(409, "SKILL_INACTIVE")
		a.Do("POST", "/skills/"+skill+"/run", topic).Problem(409, "SKILL_INACTIVE")
		a.Do("POST", "/executions/"+failed+"/retry", nil).Problem(409, "SKILL_INACTIVE")
		worker.Start(t, l.Stack)
		require.Equal(t, "SKILL_INACTIVE", l.status(anna, waiting, "failed").String("errorCode"), "not even one that waits already")
		require.Len(t, l.models.Calls(), calls)
	})
}

func TestExecutionsWithoutAProvider(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	l.DB.Exec("update private.installation set value = '{}' where key = 'providers'")
	skill := l.skill(l.anna, "Writer")
	for _, path := range []string{"/skills/" + skill + "/execute", "/skills/" + skill + "/run", "/skills/" + skill + "/test"} {
		require.Equal(t, "anthropic", l.anna.Do("POST", path, topic).Problem(503, "PROVIDER_NOT_CONFIGURED").String("details.provider"))
	}
	l.anna.Do("POST", "/skills/test", map[string]any{"promptTemplate": "x"}).Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Zero(t, l.used(l.anna))
	require.Zero(t, l.count("select count(*) from public.skill_executions"))
}

func TestTwoHundredModelCallsInOneWorkerOnFifteenConnections(t *testing.T) {
	t.Parallel()
	const runs = 200
	l := newSkillLab(t, func(c *config.Config) { c.Executions = runs })
	release := make(chan struct{})
	l.models.Always(func(llmtest.Call) llmtest.Reply { <-release; return llmtest.Answer("done") })
	skill := l.skill(l.anna, "Writer")
	l.DB.Exec("select private.start_execution($1, $2, $3, 'manual', null, '{}') from generate_series(1, 200)", skill, l.anna.ID, l.anna.OrgID)
	worker.Start(t, l.Stack)
	require.Eventually(t, func() bool { return len(l.models.Calls()) == runs }, 30*time.Second, 20*time.Millisecond, "all are in flight")
	require.Equal(t, runs, l.count("select count(*) from public.skill_executions where status = 'running'"))
	connections := func() int {
		return l.count("select count(*) from pg_stat_activity where datname = current_database() and usename = 'kijko_worker'")
	}
	require.LessOrEqual(t, connections(), 15)
	require.Zero(t, l.count("select count(*) from pg_stat_activity where datname = current_database() and usename = 'kijko_worker' and state like 'idle in transaction%' and query like '%execution%'"))
	close(release)
	most := 0
	require.Eventually(t, func() bool {
		most = max(most, connections())
		return l.count("select count(*) from public.skill_executions where status = 'completed'") == runs
	}, 30*time.Second, 5*time.Millisecond)
	require.LessOrEqual(t, most, 15)
	require.Equal(t, runs, l.used(l.anna))
	require.Equal(t, runs, l.count("select execution_count from public.skills where id = $1", skill))
}

func TestAServerThatStopsAnswersWhoWaitsForARun(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	worker.Start(t, l.Stack)
	l.models.Always(func(llmtest.Call) llmtest.Reply { return llmtest.Silence() })
	skill := l.skill(l.anna, "Writer")
	answered := make(chan client.Response, 1)
	go func() {
		r, err := l.anna.Try("POST", "/skills/"+skill+"/execute", topic)
		if err == nil {
			answered <- r
		}
	}()
	require.Eventually(t, func() bool { return len(l.models.Calls()) == 1 }, 10*time.Second, 5*time.Millisecond)
	l.Close()
	select {
	case r := <-answered:
		require.Equal(t, "running", r.Want(200).String("status"))
	case <-time.After(10 * time.Second):
		require.Fail(t, "nobody answered")
	}
}

// The stream of a run stays open a little longer than the run may take, so that its reader receives the end.
func TestAStreamOutlivesTheLimitOfARun(t *testing.T) {
	t.Parallel()
	seconds := testdb.Value[int](testdb.New(t), "select extract(epoch from private.execution_limit())::int")
	require.Less(t, time.Duration(seconds)*time.Second, executions.StreamLimit)
}
