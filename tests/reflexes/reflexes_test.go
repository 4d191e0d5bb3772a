package reflexes

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// reflexLab is a stack with a person who has a skill.
type reflexLab struct {
	*stack.Stack
	anna  *client.Person
	skill string
}

func newReflexLab(t *testing.T, options ...stack.Option) *reflexLab {
	t.Helper()
	s := stack.New(t, options...)
	l := &reflexLab{Stack: s, anna: s.SignUp("Anna")}
	l.skill = l.addSkill(l.anna, "Skill of Anna", true)
	stack.Eventually(t, "the server says where it is", func() bool {
		return testdb.Value[int](s.DB, "select count(*)::int from private.installation where key = 'api_url'") == 1
	})
	return l
}

func (l *reflexLab) addSkill(p *client.Person, name string, active bool) string {
	return testdb.Value[string](l.DB, `insert into public.skills (user_id, organization_id, name, prompt_template, is_active)
		values ($1, $2, $3, 'Tell me about {{action}} and {{payload}}', $4) returning id::text`, p.ID, p.OrgID, name, active)
}

func reflexBody(skill, kind string, config any, more ...map[string]any) map[string]any {
	body := map[string]any{"skillId": skill, "triggerType": kind, "triggerConfig": config}
	for _, m := range more {
		for name, value := range m {
			body[name] = value
		}
	}
	return body
}

func (l *reflexLab) add(kind string, config any, more ...map[string]any) client.Response {
	return l.anna.Do("POST", "/reflexes", reflexBody(l.skill, kind, config, more...)).Want(201)
}

func TestReflexes(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	anna := l.anna

	// As the form sends it.
	created := l.add("webhook", map[string]any{"url": "", "secret": "", "method": "POST"}, map[string]any{"isActive": true, "conditions": map[string]any{"filters": []any{}}})
	id, secret := created.String("id"), created.String("triggerConfig.secret")
	require.Regexp(t, `^whsec_[0-9a-f]{32}$`, secret)
	require.Equal(t, "http://kijko.test/webhooks/reflex/"+id, created.String("triggerConfig.url"))
	require.Equal(t, created.String("triggerConfig.url"), created.String("webhookUrl"))
	require.Nil(t, created.Value("conditions"))
	require.Equal(t, byte('4'), id[14], "the id is random")
	path := "/reflexes/" + id

	t.Run("EveryReadShowsTheSecret", func(t *testing.T) {
		p := anna.In(t)
		require.Equal(t, secret, p.Get(path).Want(200).String("triggerConfig.secret"))
		full := p.Get(path + "/full").Want(200)
		require.Equal(t, secret, full.String("triggerConfig.secret"))
		require.Equal(t, "Skill of Anna", full.String("skill.name"))
		require.Contains(t, string(p.Get("/reflexes").Want(200).Body), secret)
		require.Equal(t, secret, p.Do("POST", path+"/deactivate", nil).Want(200).String("triggerConfig.secret"))
		require.Equal(t, secret, p.Do("POST", path+"/activate", nil).Want(200).String("triggerConfig.secret"))
		require.Equal(t, secret, p.Do("POST", path+"/reset-errors", nil).Want(200).String("triggerConfig.secret"))
		require.Equal(t, secret, p.Do("PATCH", path, map[string]any{"triggerConfig": map[string]any{"method": "GET", "secret": "mine"}}).Want(200).String("triggerConfig.secret"))
		require.Equal(t, "GET", p.Do("PUT", path, map[string]any{"triggerType": "event", "skillId": uuid.NewString()}).Want(200).String("triggerConfig.method"))
		skill := p.Get("/skills/" + l.skill + "/full").Want(200)
		require.Contains(t, string(skill.Body), secret)
		require.NotContains(t, string(skill.Body), `"v1.`)
		info := p.Get(path + "/webhook-info").Want(200)
		require.Equal(t, secret, info.String("secret"))
		require.Equal(t, "GET", info.String("method"))
		require.Equal(t, "created", info.String("samplePayload.data.action"))
		require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from private.reflex_secrets where sealed like '%' || $1 || '%'", secret), "it is stored sealed")
	})
	t.Run("SecretsAreRenewed", func(t *testing.T) {
		p := anna.In(t)
		renewed := p.With("Idempotency-Key", "renew").Do("POST", path+"/regenerate-secret", nil).Want(200).String("secret")
		require.NotEqual(t, secret, renewed)
		require.Equal(t, renewed, p.With("Idempotency-Key", "renew").Do("POST", path+"/regenerate-secret", nil).Want(200).String("secret"), "a repeated request makes no other one")
		require.Equal(t, renewed, p.Get(path).Want(200).String("triggerConfig.secret"))
	})
	t.Run("ARepeatedCreationIsOne", func(t *testing.T) {
		p := anna.In(t).With("Idempotency-Key", "create")
		first := p.Do("POST", "/reflexes", reflexBody(l.skill, "webhook", map[string]any{})).Want(201)
		again := p.Do("POST", "/reflexes", reflexBody(l.skill, "webhook", map[string]any{})).Want(201)
		require.JSONEq(t, string(first.Body), string(again.Body))
	})
	t.Run("KeysRotate", func(t *testing.T) {
		// A person's own text that looks like a sealed secret is stored unchanged.
		other := l.add("event", map[string]any{"eventName": "push"}, map[string]any{"conditions": map[string]any{"filters": []any{
			map[string]any{"field": `"secret": "v1.00000000.aaaa"`, "operator": "equals", "value": `"secret": "v1.`}}}})
		require.Contains(t, string(anna.In(t).Get("/reflexes/"+other.String("id")).Want(200).Body), `\"secret\": \"v1.00000000.aaaa\"`)
	})
	t.Run("ConditionsAreCheckedBeforeTheyAreStored", func(t *testing.T) {
		p := anna.In(t)
		event := map[string]any{"eventName": "push"}
		refuse := func(conditions any, field, message string) {
			t.Helper()
			body := reflexBody(l.skill, "event", event, map[string]any{"conditions": conditions})
			for _, r := range []client.Response{p.Do("POST", "/reflexes", body), p.Do("PUT", path, body)} {
				require.Equal(t, message, r.Problem(400, "INVALID_CONDITIONS").Field(field).String("message"))
			}
		}
		filter := func(m map[string]any) any { return map[string]any{"filters": []any{m}} }
		refuse(map[string]any{"expression": "a > 1 && b < 2"}, "conditions.expression", "Unsupported expression format: a > 1 && b < 2")
		refuse(map[string]any{"expression": strings.Repeat("a", 501)}, "conditions.expression", "Expression too long")
		refuse(filter(map[string]any{"field": "a", "operator": "regex", "value": "(?=x)"}), "conditions.filters[0]", "Filter 1: Invalid regular expression: invalid or unsupported Perl syntax")
		refuse(filter(map[string]any{"field": "a", "operator": "regex", "value": "(((a{1,9}){1,10}){1,10})"}), "conditions.filters[0]", "Filter 1: Regular expression repeats itself too often")
		refuse(filter(map[string]any{"field": "a", "operator": "in", "value": "a,b"}), "conditions.filters[0]", "Filter 1: Value must be an array for this operator")
		refuse(filter(map[string]any{"field": "", "operator": "equals", "value": "x"}), "conditions.filters[0]", "Filter 1: Field name is required")
		refuse([]any{}, "conditions", "Conditions must be an object")
		refuse(map[string]any{"matchAll": "yes"}, "conditions.matchAll", "matchAll must be true or false")
		refuse(map[string]any{"filters": 7}, "conditions.filters", "Filters must be an array")
		p.Do("PUT", "/reflexes/"+uuid.NewString(), map[string]any{"conditions": map[string]any{"expression": "&&"}}).Problem(404, "REFLEX_NOT_FOUND")

		two := []any{map[string]any{"field": "a", "operator": "equals", "value": 1}, map[string]any{"field": "b", "operator": "exists"}}
		r := p.Do("PUT", path, map[string]any{"conditions": map[string]any{"filters": two}}).Want(200)
		require.Equal(t, true, r.Value("conditions.matchAll"), "two filters without a choice mean all")
		require.Nil(t, p.Do("PUT", path, map[string]any{"conditions": map[string]any{"filters": []any{}}}).Want(200).Value("conditions"))
	})
	t.Run("TriggersAreChecked", func(t *testing.T) {
		p := anna.In(t)
		for message, body := range map[string]map[string]any{
			"Event name is required":                                        reflexBody(l.skill, "event", map[string]any{}),
			"A trigger configuration is required":                           {"skillId": l.skill, "triggerType": "event"},
			"At least one file path pattern is required":                    reflexBody(l.skill, "file_change", map[string]any{"paths": []string{""}}),
			"API endpoint is required":                                      reflexBody(l.skill, "api_call", map[string]any{}),
			"Method must be POST or GET":                                    reflexBody(l.skill, "webhook", map[string]any{"method": "PUT"}),
			"Use Habits for scheduled triggers":                             reflexBody(l.skill, "schedule", map[string]any{}),
			"subjectPattern: Invalid regular expression: missing closing )": reflexBody(l.skill, "email", map[string]any{"subjectPattern": "/(/"}),
		} {
			require.Equal(t, message, p.Do("POST", "/reflexes", body).Problem(400, "INVALID_TRIGGER_CONFIG").Field("triggerConfig").String("message"))
		}
		p.Do("POST", "/reflexes", reflexBody(l.skill, "sms", map[string]any{})).Problem(400, "VALIDATION_ERROR").Field("triggerType")
		p.Do("POST", "/reflexes", reflexBody(uuid.NewString(), "event", map[string]any{"eventName": "e"})).Problem(404, "SKILL_NOT_FOUND").Field("skillId")
		p.Do("POST", "/reflexes", map[string]any{"triggerType": "event"}).Problem(400, "VALIDATION_ERROR").Field("skillId")
		p.Do("POST", "/reflexes", reflexBody(l.skill, "event", map[string]any{"eventName": "e"}, map[string]any{"isActive": "yes"})).Problem(400, "VALIDATION_ERROR").Field("isActive")
		p.Do("POST", "/reflexes", reflexBody(l.skill, "event", map[string]any{"eventName": "a\x00"})).Problem(400, "VALIDATION_ERROR")
	})
	t.Run("ListsAndNumbers", func(t *testing.T) {
		p := anna.In(t)
		for query, field := range map[string]string{"page=0": "page", "pageSize=0": "pageSize", "page=x": "page", "isActive=maybe": "isActive", "triggerType=sms": "triggerType"} {
			p.Get("/reflexes?"+query).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		require.Equal(t, 100.0, p.Get("/reflexes?pageSize=1000").Want(200).Value("pageSize"))
		require.Equal(t, 0.0, p.Get("/reflexes?skillId=nope").Want(200).Value("total"))
		require.Equal(t, 1.0, p.Get("/reflexes?triggerType=event").Want(200).Value("total"))
		require.Equal(t, 1.0, p.Get("/reflexes/stats").Want(200).Value("triggersByType.event"))
		require.Equal(t, 0.0, p.Get(path+"/executions?limit=5&offset=0").Want(200).Value("total"))
		p.Get(path+"/executions?limit=0").Problem(400, "VALIDATION_ERROR").Field("limit")
		p.Get(path+"/executions?offset=-1").Problem(400, "VALIDATION_ERROR").Field("offset")
	})
	t.Run("OthersFindNothing", func(t *testing.T) {
		stan := l.SignUp("Stan").In(t)
		for _, call := range []struct{ method, path string }{{"GET", ""}, {"GET", "/full"}, {"PUT", ""}, {"PATCH", ""}, {"POST", "/activate"}, {"POST", "/deactivate"},
			{"POST", "/reset-errors"}, {"POST", "/regenerate-secret"}, {"GET", "/webhook-info"}, {"GET", "/executions"}, {"DELETE", ""}} {
			var body any
			if call.method == "PUT" || call.method == "PATCH" {
				body = map[string]any{"isActive": false}
			}
			stan.Do(call.method, path+call.path, body).Problem(404, "REFLEX_NOT_FOUND")
			anna.In(t).Do(call.method, "/reflexes/nope"+call.path, body).Problem(404, "REFLEX_NOT_FOUND")
		}
		stan.Do("POST", "/reflexes", reflexBody(l.skill, "event", map[string]any{"eventName": "e"})).Problem(404, "SKILL_NOT_FOUND").Field("skillId")
		l.As("").Get("/reflexes").Problem(401, "UNAUTHENTICATED")
	})
	t.Run("OnlyWebhooksHaveSecrets", func(t *testing.T) {
		p := anna.In(t)
		event := l.add("event", map[string]any{"eventName": "push"}).String("id")
		p.Get("/reflexes/"+event+"/webhook-info").Problem(409, "NOT_WEBHOOK")
		p.Do("POST", "/reflexes/"+event+"/regenerate-secret", nil).Problem(409, "NOT_WEBHOOK")
		require.JSONEq(t, `{"success":true}`, string(p.Do("DELETE", "/reflexes/"+event, nil).Want(200).Body))
		p.Get("/reflexes/"+event).Problem(404, "REFLEX_NOT_FOUND")
	})
	t.Run("AnInactiveSkill", func(t *testing.T) {
		p := anna.In(t)
		paused := l.addSkill(l.anna, "Paused", false)
		reflex := "/reflexes/" + p.Do("POST", "/reflexes", reflexBody(paused, "event", map[string]any{"eventName": "e"}, map[string]any{"isActive": false})).Want(201).String("id")
		p.Do("POST", reflex+"/activate", nil).Problem(409, "SKILL_INACTIVE")
		p.Do("PATCH", reflex, map[string]any{"isActive": true}).Problem(409, "SKILL_INACTIVE")
		require.Equal(t, true, p.Do("POST", reflex+"/reset-errors", nil).Want(200).Value("isActive"))
	})
}

func TestReflexesAreTried(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	id := l.add("webhook", map[string]any{}, map[string]any{"isActive": false, "conditions": map[string]any{"expression": "action == 'opened'"}}).String("id")
	path := "/reflexes/" + id + "/test"
	used := func() int {
		return testdb.Value[int](l.DB, "select private.units_used($1, 'api_calls', private.usage_period('api_calls', now()))::int", l.anna.OrgID)
	}
	before := used()
	for _, body := range []any{nil, map[string]any{}, map[string]any{"samplePayload": nil}, map[string]any{"samplePayload": map[string]any{"action": "closed"}}} {
		require.JSONEq(t, `{"success":true,"conditionsMatch":false,"error":"Test payload did not match reflex conditions"}`, string(l.anna.Do("POST", path, body).Want(200).Body))
	}
	require.Equal(t, before, used(), "what does not match costs nothing")
	r := l.anna.Do("POST", path, map[string]any{"samplePayload": map[string]any{"action": "OPENED"}}).Want(200)
	require.Equal(t, true, r.Value("success"))
	require.Equal(t, true, r.Value("conditionsMatch"))
	require.NotEmpty(t, r.String("executionResult.output"))
	require.Equal(t, before+1, used(), "what runs costs one unit")
	require.Zero(t, l.runs(id), "and leaves no run")
	require.Equal(t, 0.0, l.anna.Get("/reflexes/"+id).Value("triggerCount"))

	// A retry with the same key gets the same answer, whatever has changed meanwhile: no second call, no second unit.
	keyed := l.anna.With("Idempotency-Key", "try")
	sample := map[string]any{"samplePayload": map[string]any{"action": "opened"}}
	before = used()
	first := keyed.Do("POST", path, sample).Want(200)
	require.NotEmpty(t, first.String("executionResult.output"))
	unmatched := l.anna.With("Idempotency-Key", "in vain").Do("POST", path, nil).Want(200)
	l.DB.Exec("update public.skills set prompt_template = 'Now say something else about {{action}}' where id = $1", l.skill)
	l.DB.Exec("update public.reflexes set conditions = '{\"expression\": \"action != ''opened''\"}' where id = $1", id)
	again := keyed.Do("POST", path, sample).Want(200)
	require.JSONEq(t, string(first.Body), string(again.Body))
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.JSONEq(t, string(unmatched.Body), string(l.anna.With("Idempotency-Key", "in vain").Do("POST", path, nil).Want(200).Body))
	require.Equal(t, before+1, used())
	keyed.Do("POST", path, nil).Problem(409, "IDEMPOTENCY_CONFLICT")

	l.anna.Do("POST", path, map[string]any{"samplePayload": []any{}}).Problem(400, "VALIDATION_ERROR").Field("samplePayload")
	l.DB.Exec(`update public.reflexes set conditions = '{"expression": "a &&"}' where id = $1`, id)
	require.Equal(t, "Expression error: Unsupported expression format: a &&", l.anna.Do("POST", path, nil).Want(200).String("error"))
	l.DB.Exec(`update public.reflexes set conditions = null where id = $1`, id)
	l.DB.Exec(`update public.skills set input_schema = '[{"name": "action", "type": "string", "required": true}]' where id = $1`, l.skill)
	require.JSONEq(t, `{"success":false,"conditionsMatch":true,"error":"action is required"}`, string(l.anna.Do("POST", path, nil).Want(200).Body))
	l.DB.Exec(`update public.skills set input_schema = null, model = 'gpt-4-turbo' where id = $1`, l.skill)
	r = l.anna.Do("POST", path, nil).Want(200)
	require.Equal(t, false, r.Value("success"))
	require.NotEmpty(t, r.String("error"))
	l.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": 0}' where organization_id = $1", l.anna.OrgID)
	l.anna.Do("POST", path, nil).Problem(429, "QUOTA_EXCEEDED")
}

// A server with a new key opens secrets sealed with the old one, as long as it has both.
func TestReflexSecretsOutliveAKey(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	created := l.add("webhook", map[string]any{})
	id, secret := created.String("id"), created.String("triggerConfig.secret")
	newer := func(keys string) stack.Option { return func(c *stackConfig) { c.EncryptionKey = keys } }
	const key = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU="
	both := stack.On(t, l.DB, newer(key+","+l.Config.EncryptionKey))
	require.Equal(t, secret, both.As(l.anna.Token).Get("/reflexes/"+id).Want(200).String("triggerConfig.secret"))
	require.Equal(t, 202, deliver(both.Client, id, secret, `{}`).Status)
	only := stack.On(t, l.DB, newer(key))
	require.NotContains(t, string(only.As(l.anna.Token).Get("/reflexes/"+id).Want(200).Body), secret)
	deliver(only.Client, id, secret, `{}`).Problem(401, "INVALID_SIGNATURE")
	renewed := only.As(l.anna.Token).Do("POST", fmt.Sprintf("/reflexes/%s/regenerate-secret", id), nil).Want(200).String("secret")
	require.Equal(t, 202, deliver(only.Client, id, renewed, `{}`).Status)
}
