package executions

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// readAll reads a stream and gives the data of its last event.
func (l *skillLab) readAll(path, body string) map[string]any {
	l.t.Helper()
	var last event
	for e := range readAlong(l.t.Context(), l.t, l.anna, path, body) {
		last = e
	}
	require.Equal(l.t, "done", last.Name, "%v", last.Data)
	return last.Data
}

// A model that refuses temperature, top_p and top_k is sent none of them, in every way to call it. The double fails the test otherwise.
func TestModelsWithoutSampling(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	worker.Start(t, l.Stack)
	l.DB.Exec(`insert into public.model_successors (model, called) values ('claude-sonnet-4-6', 'claude-sonnet-5');
		insert into public.model_aliases (alias, model) values ('best', 'claude-opus-4-20250514');
		insert into public.model_prices (model, input_cents, output_cents) values ('claude-opus-4-8', 500, 2500);
		insert into public.model_successors (model, called) values ('claude-opus-4-20250514', 'claude-opus-4-8')`)
	parameters := `{"temperature": 0.4, "top_p": 0.5, "top_k": 3, "max_tokens": 77, "stop_sequences": ["x"]}`
	for _, c := range []struct{ model, called string }{{"claude-sonnet-5", "claude-sonnet-5"}, {"claude-opus-4-7", "claude-opus-4-7"}, {llmtest.Sonnet, "claude-sonnet-5"},
		{"claude", "claude-sonnet-5"}, {"best", "claude-opus-4-8"}} {
		skill := l.skill(l.anna, "Of "+c.model, "model='"+c.model+"'", "parameters='"+parameters+"'")
		habit := l.anna.Do("POST", "/habits", map[string]any{"skillId": skill, "scheduleCron": "0 9 * * *"}).Want(201).String("id")
		l.anna.Do("POST", "/reflexes", map[string]any{"skillId": skill, "triggerType": "event", "triggerConfig": map[string]any{"eventName": c.model}}).Want(201)
		body := fmt.Sprintf(`{"model": %q, "messages": [{"role": "user", "content": "Hello"}], "parameters": %s}`, c.model, parameters)
		for name, ask := range map[string]func(){
			"a run":          func() { l.anna.Do("POST", "/skills/"+skill+"/execute", topic).Want(200) },
			"a streamed run": func() { l.readAll("/skills/"+skill+"/run", topic) },
			"a dry run": func() {
				l.anna.Do("POST", "/skills/"+skill+"/run", `{"input": {"topic": "x"}, "dryRun": true}`).Want(200)
			},
			"a test": func() { l.anna.Do("POST", "/skills/"+skill+"/test", topic).Want(200) },
			"a wizard's test": func() {
				l.anna.Do("POST", "/skills/test", fmt.Sprintf(`{"model": %q, "promptTemplate": "Write twenty characters and more"}`, c.model)).Want(200)
			},
			"a habit": func() {
				l.status(l.anna, l.anna.Do("POST", "/habits/"+habit+"/run-now", nil).Want(202).String("executionId"), "completed")
			},
			"a reflex": func() {
				fired := client.JSON[struct{ ExecutionIDs []string }](
					l.anna.Do("POST", "/events", map[string]any{"eventName": c.model, "payload": map[string]any{}}).Want(202))
				l.status(l.anna, fired.ExecutionIDs[0], "completed")
			},
			"the gateway":          func() { l.anna.Do("POST", "/ai/messages", body).Want(200) },
			"the gateway's stream": func() { l.readAll("/ai/messages", body) },
			"a question": func() {
				l.anna.Do("POST", "/ai/generate", fmt.Sprintf(`{"prompt": "x", "model": %q}`, c.model)).Want(200)
			},
		} {
			before := len(l.models.Calls())
			ask()
			calls := l.models.Calls()
			require.Len(t, calls, before+1, name)
			require.Equal(t, c.called, calls[before].Model, name)
			for _, absent := range []string{"temperature", "top_p", "top_k"} {
				require.NotContains(t, calls[before].Body, absent, name)
			}
			if name != "a wizard's test" && name != "a question" {
				require.Subset(t, calls[before].Body, map[string]any{"max_tokens": 77., "stop_sequences": []any{"x"}}, name)
			}
		}
	}
	// A model that accepts them is sent them as before.
	old := l.skill(l.anna, "Old", "model='claude-opus-4-6'", "parameters='"+parameters+"'")
	l.anna.Do("POST", "/skills/"+old+"/execute", topic).Want(200)
	calls := l.models.Calls()
	require.Subset(t, calls[len(calls)-1].Body, map[string]any{"temperature": 0.4, "top_p": 0.5, "top_k": 3.})
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from public.skill_executions where error_code is not null"))
}

// Thinking tokens of a model are in the tokens of a run, in its cost and in the gateway's answer.
func TestThinkingIsPaidFor(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	worker.Start(t, l.Stack)
	skill := l.skill(l.anna, "Thinker", "model='gemini-pro'")
	thought := llmtest.Reply{Pieces: []string{"Hm."}, Input: 900, ToolUse: 100, Output: 1000, Thoughts: 98_000}
	question := `{"model": "gemini", "messages": [{"role": "user", "content": "x"}]}`
	usage := map[string]any{"inputTokens": 1000., "outputTokens": 99_000., "totalTokens": 100_000.}
	l.models.Next(thought, thought, thought, thought)
	require.Equal(t, usage, l.anna.Do("POST", "/ai/messages", question).Want(200).Value("usage"))
	require.Equal(t, usage, l.readAll("/ai/messages", question)["response"].(map[string]any)["usage"])
	l.anna.Do("POST", "/skills/"+skill+"/run", topic).Want(200)
	require.Equal(t, 149., l.readAll("/skills/"+skill+"/run", topic)["result"].(map[string]any)["costCents"])
	require.Equal(t, "1000 99000 149,1000 99000 149", testdb.Value[string](l.DB,
		"select string_agg(concat_ws(' ', prompt_tokens, completion_tokens, cost_cents), ',') from public.skill_executions"))
	l.models.Next(thought)
	dry := l.anna.Do("POST", "/skills/"+skill+"/run", `{"input": {"topic": "x"}, "dryRun": true}`).Want(200)
	require.Equal(t, []any{1000., 99_000., 149.}, []any{dry.Value("usage.inputTokens"), dry.Value("usage.outputTokens"), dry.Value("costCents")})

	l.models.Next(llmtest.Reply{StopReason: "MAX_TOKENS", Input: 6, Thoughts: 4090})
	r := l.anna.Do("POST", "/skills/"+skill+"/execute", topic).Want(200)
	require.Equal(t, []any{"completed", 4096.}, []any{r.Value("status"), r.Value("tokensUsed")}, "an answer that was thought to death")
	l.models.Next(llmtest.Reply{StopReason: "SAFETY", Input: 6, Output: 4, Thoughts: 90})
	failed := l.anna.Do("POST", "/skills/"+skill+"/execute", topic).Want(200)
	require.Equal(t, "failed", failed.String("status"))
	require.Equal(t, 100, testdb.Value[int](l.DB, "select prompt_tokens + completion_tokens from public.skill_executions where id = $1", failed.String("executionId")))
}

// One call costs the same by every name of the model.
func TestSuccessorsHaveTheirOwnPrice(t *testing.T) {
	t.Parallel()
	l := newSkillLab(t)
	worker.Start(t, l.Stack)
	for model, cents := range map[string]float64{"claude-3-5-haiku-20241022": 600, "claude-3-haiku": 600, "claude-haiku-4-5-20251001": 600,
		"claude-3-opus-20240229": 3000, "claude-opus-4-6": 3000, llmtest.Sonnet: 1800, "gpt-4": 1800, "gemini": 1800} {
		skill := l.skill(l.anna, "Of "+model, "model='"+model+"'")
		l.models.Next(llmtest.Answer("x").Tokens(1_000_000, 1_000_000))
		run := l.anna.Do("POST", "/skills/"+skill+"/run", topic).Want(200)
		require.Equal(t, cents, run.Value("costCents"), "%s: %s", model, run.Body)
	}
}
