package reflexes

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

type sent struct {
	Matched      int
	ExecutionIDs []string
}

func TestEvents(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	send := func(t *testing.T, body map[string]any) sent {
		t.Helper()
		var s sent
		r := l.anna.In(t).Do("POST", "/events", body).Want(202)
		r.Into(&s)
		require.Len(t, s.ExecutionIDs, s.Matched)
		return s
	}
	push := l.add("event", map[string]any{"eventName": "push"}).String("id")
	github := l.add("event", map[string]any{"eventName": "push", "source": "github"}, map[string]any{"conditions": map[string]any{"expression": "ref == 'main'"}}).String("id")
	off := l.add("event", map[string]any{"eventName": "push"}, map[string]any{"isActive": false}).String("id")
	mail := l.add("email", map[string]any{"fromAddress": "*@example.nl", "subjectPattern": "/^alert/"}).String("id")
	files := l.add("file_change", map[string]any{"paths": []string{"src/**/*.go", "*.md"}, "events": []string{"modify"}}).String("id")

	t.Run("Matching", func(t *testing.T) {
		require.Equal(t, 1, send(t, map[string]any{"eventName": "push", "payload": map[string]any{}}).Matched)
		require.Equal(t, 1, send(t, map[string]any{"eventName": "push", "source": "github", "payload": map[string]any{"ref": "dev"}}).Matched)
		require.Equal(t, 2, send(t, map[string]any{"eventName": "push", "source": "github", "payload": map[string]any{"ref": "MAIN"}}).Matched)
		require.Equal(t, 1, send(t, map[string]any{"eventName": "push", "source": "gitlab", "payload": map[string]any{"ref": "main"}}).Matched)
		require.Zero(t, send(t, map[string]any{"eventName": "Push", "payload": map[string]any{}}).Matched)
		require.Equal(t, 1, send(t, map[string]any{"triggerType": "email", "payload": map[string]any{"from": "Ann@Example.nl", "subject": "ALERT: disk"}}).Matched)
		require.Zero(t, send(t, map[string]any{"triggerType": "email", "payload": map[string]any{"from": "ann@example.com", "subject": "alert"}}).Matched)
		change := func(event, path string) map[string]any {
			return map[string]any{"triggerType": "file_change", "payload": map[string]any{"event": event, "file": map[string]any{"path": path}}}
		}
		require.Equal(t, 1, send(t, change("modify", "src/a/b.go")).Matched)
		require.Equal(t, 1, send(t, change("modify", "docs/README.md")).Matched)
		require.Zero(t, send(t, change("create", "src/a.go")).Matched)
		require.Zero(t, send(t, change("modify", "lib/a.go")).Matched)
		for id, n := range map[string]int{push: 4, github: 1, off: 0, mail: 1, files: 2} {
			require.Equal(t, n, l.runs(id))
		}
		require.JSONEq(t, `{"trigger":"email","payload":{"from":"Ann@Example.nl","subject":"ALERT: disk"}}`,
			testdb.Value[string](l.DB, "select input::text from public.skill_executions where reference_id = $1", mail))
	})
	t.Run("OnlyOnesOwn", func(t *testing.T) {
		stan := l.SignUp("Stan").In(t)
		require.JSONEq(t, `{"matched":0,"executionIds":[]}`, string(stan.Do("POST", "/events", map[string]any{"eventName": "push", "payload": map[string]any{}}).Want(202).Body))
		l.As("").Do("POST", "/events", map[string]any{"eventName": "push", "payload": map[string]any{}}).Problem(401, "UNAUTHENTICATED")
		require.Equal(t, 4, l.runs(push))
	})
	t.Run("Refusals", func(t *testing.T) {
		p := l.SignUp("Eva").In(t)
		for field, body := range map[string]any{"eventName": map[string]any{"payload": map[string]any{}}, "payload": map[string]any{"eventName": "e"}, "triggerType": map[string]any{"triggerType": "webhook", "payload": map[string]any{}}} {
			p.Do("POST", "/events", body).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		p.Do("POST", "/events", map[string]any{"eventName": "  ", "payload": map[string]any{}}).Problem(400, "VALIDATION_ERROR").Field("eventName")
		p.Do("POST", "/events", map[string]any{"eventName": "e", "payload": []any{}}).Problem(400, "VALIDATION_ERROR").Field("payload")
		p.Do("POST", "/events", `{"eventName":"e","payload":{"a":1e999999}}`).Problem(400, "VALIDATION_ERROR")
		p.Do("POST", "/events", `{"eventName":"e","payload":{"a":"\u0000"}}`).Problem(400, "VALIDATION_ERROR")
	})
	t.Run("ARepeatedEventFiresOnce", func(t *testing.T) {
		p := l.anna.In(t).With("Idempotency-Key", "event")
		body := map[string]any{"eventName": "push", "payload": map[string]any{"n": 1}}
		before := l.runs(push)
		first, again := p.Do("POST", "/events", body).Want(202), p.Do("POST", "/events", body).Want(202)
		require.JSONEq(t, string(first.Body), string(again.Body))
		require.Equal(t, before+1, l.runs(push))
		body["payload"] = map[string]any{"n": 2}
		p.Do("POST", "/events", body).Problem(409, "IDEMPOTENCY_CONFLICT")
	})
	t.Run("SixtyAMinute", func(t *testing.T) {
		p := l.SignUp("Tom").In(t)
		for i := range 60 {
			require.Equal(t, 202, p.Do("POST", "/events", map[string]any{"eventName": "e", "payload": map[string]any{}}).Status, fmt.Sprint(i))
		}
		r := p.Do("POST", "/events", map[string]any{"eventName": "e", "payload": map[string]any{}}).Problem(429, "RATE_LIMITED")
		require.Equal(t, "60", r.Header.Get("X-RateLimit-Limit"))
	})
}

// A person's calls fire that person's reflexes afterwards. Calls of others, refused calls and calls that run skills do not.
func TestWatchedCalls(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	boris := l.SignUp("Boris")
	id := l.add("api_call", map[string]any{"endpoint": "/projects*", "method": "POST"}).String("id")
	all := l.add("api_call", map[string]any{"endpoint": "/events", "method": "POST"}).String("id")
	boris.Do("POST", "/projects", map[string]any{"name": "Of Boris"}).Want(201)
	l.anna.Do("POST", "/projects", map[string]any{"name": ""}).Problem(400, "VALIDATION_ERROR")
	l.anna.Get("/projects").Want(200)
	l.anna.Do("POST", "/events", map[string]any{"eventName": "e", "payload": map[string]any{}}).Want(202)
	l.anna.Do("POST", "/projects?x=1&y=a&y=b", map[string]any{"name": "Of Anna", "description": "secret stays, a token does not"}).Want(201)
	stack.Eventually(t, "the call fires", func() bool { return l.runs(id) == 1 })
	l.anna.Do("POST", "/projects/validate-name", map[string]any{"name": "Another"}).Want(200)
	stack.Eventually(t, "a prefix matches", func() bool { return l.runs(id) == 2 })
	require.Zero(t, l.runs(all), "events are never watched")
	require.Equal(t, 2, testdb.Value[int](l.DB, "select count(*)::int from public.skill_executions"))
	var payload struct {
		Method, Endpoint string
		Query, Body      map[string]any
	}
	raw := testdb.Value[string](l.DB, "select (input -> 'payload')::text from public.skill_executions order by executed_at limit 1")
	require.NoError(t, json.Unmarshal([]byte(raw), &payload))
	require.Equal(t, "POST", payload.Method)
	require.Equal(t, "/projects", payload.Endpoint)
	require.Equal(t, map[string]any{"x": "1", "y": []any{"a", "b"}}, payload.Query)
	require.Equal(t, "Of Anna", payload.Body["name"])
}

// A project is ingested again: each differing file fires the owner's reflexes, each reflex at most twenty times a run.
func TestChangedFilesFire(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	project := l.anna.Do("POST", "/projects", map[string]any{"name": "Watched"}).Want(201).String("project.id")
	// The worker starts later, because it would take over these runs.
	run := func(version, files int) {
		l.DB.Exec(`with r as (insert into public.ingestion_runs (organization_id, project_id) values ($1, $2) returning *)
			insert into public.run_files (organization_id, run_id, id, position, source, path, language, category, bytes, tokens, optimized_tokens, hash)
				select r.organization_id, r.id, gen_random_uuid(), i, 'file', 'src/' || i || '.go', 'go', 'code', 10, 5, 4, sha256(('v' || $3::int)::bytea) from r, generate_series(1, $4::int) i`, l.anna.OrgID, project, version, files)
		l.DB.Exec("select private.write_completion(id, '{}') from public.ingestion_runs where project_id = $1 and outcome = 'open'", project)
	}
	run(1, 2)
	changed := l.add("file_change", map[string]any{"paths": []string{"src/**"}}, map[string]any{"conditions": map[string]any{"expression": "file.extension == 'go'"}}).String("id")
	gone := l.add("file_change", map[string]any{"paths": []string{"2.go"}, "events": []string{"delete"}}).String("id")
	other := l.add("file_change", map[string]any{"paths": []string{"*.ts"}}).String("id")
	run(2, 1)
	run(3, 30)
	require.Zero(t, l.runs(changed), "nothing happens within the transaction of the run")
	worker.Start(t, l.Stack)
	stack.Eventually(t, "one change, and twenty of thirty", func() bool { return l.runs(changed) == 21 && l.runs(gone) == 1 })
	var payload struct {
		Event     string
		ProjectID string `json:"projectId"`
		Timestamp string
		File      struct {
			Path, Name, Extension string
			Size                  int
		}
	}
	raw := testdb.Value[string](l.DB, "select (input -> 'payload')::text from public.skill_executions where reference_id = $1 order by executed_at limit 1", changed)
	require.NoError(t, json.Unmarshal([]byte(raw), &payload))
	require.Equal(t, "modify", payload.Event)
	require.Equal(t, project, payload.ProjectID)
	require.Equal(t, "src/1.go 1.go go 10", fmt.Sprint(payload.File.Path, " ", payload.File.Name, " ", payload.File.Extension, " ", payload.File.Size))
	require.Regexp(t, `^\d{4}-.*Z$`, payload.Timestamp)
	stack.Eventually(t, "the batch is done", func() bool {
		return testdb.Value[int](l.DB, "select count(*)::int from jobs.gue_jobs where job_type = 'reflexes.match'") == 0
	})
	require.Equal(t, 21, l.runs(changed))
	require.Equal(t, 1, l.runs(gone))
	require.Zero(t, l.runs(other))
	require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from jobs.dead_letters"))
}
