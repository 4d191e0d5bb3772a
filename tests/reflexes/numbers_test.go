package reflexes

import (
	_ "embed"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// An id of 64 bits passes through a reflex unchanged: into its conditions, its run, its prompt, and back to its owner.
func TestWholeNumbersKeepTheirDigits(t *testing.T) {
	t.Parallel()
	models := llmtest.New(t)
	l := newReflexLab(t, stack.Models(models))
	worker.Start(t, l.Stack)
	const id, next = "1152921506151679042", "1152921506151679043"
	reflex := func(conditions string) string {
		return l.anna.Do("POST", "/reflexes", fmt.Sprintf(`{"skillId":%q,"triggerType":"event","triggerConfig":{"eventName":"e"},"conditions":%s}`, l.skill, conditions)).
			Want(201).String("id")
	}
	filter := func(operator, value string) string {
		return fmt.Sprintf(`{"filters":[{"field":"a.id","operator":%q,"value":%s}]}`, operator, value)
	}
	wanted := map[string]bool{}
	for _, c := range []struct {
		conditions string
		fires      bool
	}{
		{filter("equals", id), true}, {filter("equals", `"`+id+`"`), true}, {filter("equals", next), false}, {filter("equals", "1152921506151679000"), false},
		{filter("not_equals", next), true}, {filter("in", "["+next+"]"), false}, {filter("in", "["+next+","+id+"]"), true}, {filter("gt", id), false},
		{filter("lt", next), true}, {filter("gte", next), false}, {filter("contains", `"9042"`), true}, {filter("regex", `"042$"`), true},
		{`{"expression":"a.id == ` + id + `"}`, true}, {`{"expression":"a.id == ` + next + `"}`, false}, {`{"expression":"a.id < ` + next + `"}`, true},
	} {
		wanted[reflex(c.conditions)] = c.fires
	}
	stored := reflex(filter("in", "["+next+"]"))
	require.Contains(t, string(l.anna.Get("/reflexes/"+stored).Want(200).Body), next)
	l.anna.Do("POST", "/events", `{"eventName":"e","payload":{"action":`+id+`,"a":{"id":`+id+`},"list":[`+next+`.0,1e3,1.0,-0,0.5]}}`).Want(202)
	fired := 0
	for one, want := range wanted {
		n := l.runs(one)
		require.Equal(t, want, n == 1, "%s", l.anna.Get("/reflexes/"+one).Body)
		fired += n
	}
	stack.Eventually(t, "all runs end", func() bool { return len(models.Calls()) == fired })
	for _, call := range models.Calls() {
		require.Contains(t, call.Text, "Tell me about "+id+" and {")
		require.Contains(t, call.Text, `"a":{"id":`+id+`}`)
		require.Contains(t, call.Text, `"list":[`+next+`,1000,1,0,0.5]`)
	}
	tested := l.anna.Do("POST", "/reflexes/"+stored+"/test", `{"samplePayload":{"a":{"id":`+id+`}}}`).Want(200)
	require.Equal(t, false, tested.Value("conditionsMatch"))
	run := l.anna.Get("/executions?limit=1").Want(200)
	require.Contains(t, string(run.Body), id)

	skill := testdb.Value[string](l.DB, `insert into public.skills (user_id, organization_id, name, prompt_template, input_schema)
		values ($1, $2, 'Numbers', '{{n}} of {{d}} and more and more', '[{"name": "n", "type": "number"}, {"name": "d", "type": "number", "default": 9007199254740993}]') returning id::text`,
		l.anna.ID, l.anna.OrgID)
	l.anna.Do("POST", "/skills/"+skill+"/execute", `{"input":{"n":`+id+`}}`).Want(200)
	calls := models.Calls()
	require.Equal(t, id+" of 9007199254740993 and more and more", calls[len(calls)-1].Text)
	require.Contains(t, string(l.anna.Get("/skills/"+skill+"/export").Want(200).Body), "9007199254740993")
}
