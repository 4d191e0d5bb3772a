package reflexes

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// A member in another case is an unknown one, to the schema, to Go and to Postgres alike. It is ignored where unknown members are ignored.
// It neither changes a call nor exempts a known member from its checks.
func TestMembersInAnotherCaseAreUnknown(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	l := newReflexLab(t, stack.Models(models))
	anna := l.anna
	for _, c := range []struct {
		path, body string
		status     int
		code       string
	}{
		{"/reflexes", `{"triggerType":"event","triggerConfig":{"eventName":"e"},"conditions":{"expression":"&& bad"},"Conditions":{"expression":"a == 1"}}`, 400, "INVALID_CONDITIONS"},
		{"/reflexes", `{"triggerType":"event","triggerConfig":{"eventName":"e"},"Conditions":{"expression":"&& bad"}}`, 201, ""},
		{"/reflexes", `{"triggerType":"event","triggerConfig":{"eventName":"e"},"conditions":{"expression":"a == 1","Expression":"&& bad"}}`, 201, ""},
		{"/reflexes", `{"triggerType":"event","triggerConfig":{"eventName":"e"},"conditions":{"filters":[{"field":"a","operator":"regex","value":"(","Value":"ok"}]}}`, 400, "INVALID_CONDITIONS"},
		{"/reflexes", `{"triggerType":"email","triggerConfig":{"subjectPattern":"/(/"},"TriggerConfig":{"subjectPattern":"ok"}}`, 400, "INVALID_TRIGGER_CONFIG"},
		{"/reflexes", `{"triggerType":"email","triggerConfig":{"subjectPattern":"/(/","SubjectPattern":"ok"}}`, 400, "INVALID_TRIGGER_CONFIG"},
		{"/reflexes", `{"triggerType":"email","triggerConfig":{"bodyPattern":"ok","BODYPATTERN":"/(/"}}`, 201, ""},
		{"/reflexes", `{"triggerType":"email","TriggerType":"webhook","triggerConfig":{"subjectPattern":"/(/"}}`, 400, "INVALID_TRIGGER_CONFIG"},
		{"/ai/messages", `{"messages":[{"role":"user","content":"ok","Content":5}]}`, 200, ""},
		{"/ai/messages", `{"messages":[{"role":"user","content":"ok"}],"Messages":7}`, 400, "VALIDATION_ERROR"},
		{"/ai/messages", `{"messages":[{"role":"user","content":"ok"}],"parameters":{"Max_Tokens":"x"}}`, 200, ""},
		{"/ai/messages", `{"messages":[{"role":"user","content":"ok"}],"parameters":{"Stop_Sequences":7}}`, 200, ""},
		{"/ai/messages", `{"messages":[{"role":"user","content":"ok"}],"parameters":{"max_tokens":10,"MAX_TOKENS":99999,"Temperature":9}}`, 200, ""},
		{"/ai/messages", `{"Messages":[{"role":"user","content":"ok"}]}`, 400, "VALIDATION_ERROR"},
		{"/ai/messages", `{"messages":[{"role":"user","Content":"ok"}]}`, 400, "VALIDATION_ERROR"},
		{"/ai/generate", `{"prompt":"ok","Prompt":5}`, 400, "VALIDATION_ERROR"},
		{"/ai/generate", `{"Prompt":"ok"}`, 400, "VALIDATION_ERROR"},
		{"/reflexes/00000000-0000-4000-8000-000000000000/test", `{"samplePayload":{},"SamplePayload":7}`, 404, "REFLEX_NOT_FOUND"},
		{"/skills/playbook", `{"content":"---\nname: [\n---\nx","Content":"fine"}`, 400, ""},
	} {
		body := c.body
		if c.path == "/reflexes" {
			body = fmt.Sprintf(`{"skillId":%q,%s`, l.skill, body[1:])
		}
		if c.path == "/ai/messages" {
			body = fmt.Sprintf(`{"model":%q,%s`, llmtest.Sonnet, body[1:])
		}
		l.DB.Exec("delete from private.rate_counters where key like 'ai|%'")
		r := anna.Do("POST", c.path, body)
		require.Equal(t, c.status, r.Status, "%s %s: %s", c.path, c.body, r.Body)
		if c.code != "" {
			r.Problem(c.status, c.code)
		}
	}
	for _, call := range models.Calls() {
		if call.Provider == "anthropic" {
			require.Contains(t, []any{4096., 10.}, call.Body["max_tokens"])
			require.Equal(t, 1., call.Body["temperature"])
		}
		require.Equal(t, "ok", call.Text)
	}

	hooked := anna.Do("POST", "/reflexes", fmt.Sprintf(`{"skillId":%q,"triggerType":"webhook","triggerConfig":{},"TriggerType":"email"}`, l.skill)).Want(201)
	require.Regexp(t, `^whsec_[0-9a-f]{32}$`, anna.Get("/reflexes/"+hooked.String("id")+"/webhook-info").Want(200).String("secret"))
}

func TestEventsAreReadByTheirExactNames(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	other := l.add("event", map[string]any{"eventName": "other"}).String("id")
	right := l.add("event", map[string]any{"eventName": "right"}).String("id")
	two := l.add("event", map[string]any{"eventName": "e"}, map[string]any{"conditions": map[string]any{"expression": "a == 2"}}).String("id")
	for _, c := range []struct {
		body  string
		fires string
	}{
		{`{"eventName":"other","EventName":"right","payload":{"a":1}}`, other},
		{`{"eventName":"right","EVENTNAME":7,"payload":{"a":1},"TriggerType":"email"}`, right},
		{`{"eventName":"e","payload":{"a":1},"Payload":{"a":2}}`, ""},
		{`{"eventName":"e","payload":{"a":2},"Payload":{"a":1}}`, two},
		{`{"eventName":"e","payload":{"a":1,"A":2}}`, ""},
		// Of members with one name the last counts: it is checked, matched and stored.
		{`{"eventName":"other","eventName":"right","payload":{"a":1}}`, right},
		{`{"eventName":"e","payload":{"a":2},"payload":{"a":1}}`, ""},
		{`{"eventName":"e","payload":{"a":1},"payload":{"a":2}}`, two},
		{`{"eventName":"e","payload":{"a":2},"p\u0061yload":{"b":1}}`, ""},
		{`{"eventName":"e","payload":{"a":1,"\u0061":2}}`, two},
	} {
		before := map[string]int{other: l.runs(other), right: l.runs(right), two: l.runs(two)}
		l.anna.Do("POST", "/events", c.body).Want(202)
		for id, n := range before {
			if id == c.fires {
				n++
			}
			require.Equal(t, n, l.runs(id), c.body)
		}
	}
	require.JSONEq(t, `{"a": 2}`, testdb.Value[string](l.DB,
		"select (input -> 'payload')::text from public.skill_executions where reference_id = $1 order by executed_at desc, id limit 1", two))
}
