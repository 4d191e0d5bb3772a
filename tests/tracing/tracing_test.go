package tracing

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
	"kijko/worker/telemetry/otlptest"
)

// lab is a server and a worker with a double of the models, a collector and a project at Langfuse. The tracer is global: one lab a process.
type lab struct {
	*stack.Stack
	t                   *testing.T
	models              *llmtest.Server
	collector, langfuse *otlptest.Server
	anna                *client.Person
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, models: llmtest.New(t), collector: otlptest.New(t), langfuse: otlptest.New(t)}
	l.Stack = stack.New(t, stack.Models(l.models), func(c *config.Config) {
		c.Tracing, c.LangfuseURL, c.LangfusePublicKey, c.LangfuseSecretKey, c.LangfuseEnvironment = l.collector.URL, l.langfuse.URL, "pk-lf-1", "sk-lf-1", "staging"
		c.LocalModel = "off"
		c.MetricsToken = strings.Repeat("m", 32)
	})
	l.anna = l.SignUp("Anna")
	stack.Eventually(t, "the server tells the database what it offers", func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from private.installation where key = 'providers')")
	})
	return l
}

// call waits for the next span at Langfuse that is work for something, with a cost or a failure.
func (l *lab) call(work string, seen int) otlptest.Span {
	l.t.Helper()
	var found otlptest.Span
	l.langfuse.Wait(work, func(spans []otlptest.Span) bool {
		n := 0
		for _, s := range spans {
			if s.Text("langfuse.trace.name") == work && s.Text("langfuse.observation.type") == "generation" {
				if n++; n > seen {
					found = s
					return true
				}
			}
		}
		return false
	})
	return found
}

const words = "the crown jewels"

func said() map[string]any {
	return map[string]any{"model": llmtest.Sonnet, "messages": []map[string]string{{"role": "user", "content": words}}}
}

// Anna asks models in every way that there is. Langfuse sees each call, with her id, her organization and the cost, and reads none of her words.
func TestEachCallOfAModelIsTraced(t *testing.T) {
	l := newLab(t)
	worker.Start(t, l.Stack)
	// The prices are read beside the start.
	seen := 0
	require.Eventually(t, func() bool {
		l.anna.Do("POST", "/ai/messages", said()).Want(200)
		seen++
		return l.call("createMessage", seen-1).Text("langfuse.observation.cost_details") != ""
	}, time.Minute, time.Millisecond)

	of := func(work, session string, span otlptest.Span) {
		t.Helper()
		require.Equal(t, []string{work, l.anna.ID, l.anna.OrgID, "staging"}, []string{span.Text("langfuse.trace.name"), span.Text("user.id"),
			span.Text("langfuse.trace.metadata.organization_id"), span.Text("langfuse.environment")})
		if session != "" {
			require.Equal(t, session, span.Text("session.id"))
		}
	}
	l.models.Next(llmtest.Answer("Something "+words).Tokens(1000, 100))
	l.anna.Do("POST", "/ai/messages", said()).Want(200)
	span := l.call("createMessage", seen)
	of("createMessage", "", span)
	require.NotEmpty(t, span.Text("session.id"))
	require.JSONEq(t, `{"input": 1000, "output": 100, "total": 1100}`, span.Text("langfuse.observation.usage_details"))
	require.JSONEq(t, `{"input": 0.003, "output": 0.0015, "total": 0.0045}`, span.Text("langfuse.observation.cost_details"), "3 and 15 dollars a million")

	l.anna.Do("POST", "/ai/generate", map[string]any{"prompt": words}).Want(200)
	of("generateContent", "", l.call("generateContent", 0))

	skill := testdb.Value[string](l.DB, "insert into public.skills (user_id, organization_id, name, prompt_template) values ($1, $2, 'Writer', 'Write about {{topic}}') returning id::text",
		l.anna.ID, l.anna.OrgID)
	topic := map[string]any{"input": map[string]any{"topic": words}}
	run := l.anna.Do("POST", "/skills/"+skill+"/execute", topic).Want(200)
	of("skill", run.String("executionId"), l.call("skill", 0))
	test := l.anna.Do("POST", "/skills/"+skill+"/test", topic).Want(200)
	of("skill test", test.String("executionId"), l.call("skill test", 0))

	project := l.anna.Do("POST", "/projects", map[string]any{"name": "Billing", "id": uuid.NewString()}).Want(201).String("project.id")
	hash := sha256.Sum256([]byte(words))
	l.DB.Exec(`insert into public.content_blobs (organization_id, project_id, hash, content) values ($1, $2, $3, $4)`, l.anna.OrgID, project, hash[:], []byte(words))
	l.DB.Exec(`insert into public.context_files (organization_id, project_id, path, number, hash, origin, language, bytes, tokens) values ($1, $2, 'README.md', 1, $3, 'file', 'markdown', $4, 1)`,
		l.anna.OrgID, project, hash[:], len(words))
	l.DB.Exec(`insert into public.context_ingestions (organization_id, project_id, number, status) values ($1, $2, 1, 'ready')`, l.anna.OrgID, project)
	l.anna.Do("POST", "/contexts/"+project+"/summary/regenerate", nil).Want(200)
	l.langfuse.Wait("her summary", func(spans []otlptest.Span) bool {
		for _, s := range spans {
			if s.Text("langfuse.trace.name") == "summary" && s.Text("user.id") == l.anna.ID && s.Text("session.id") == project {
				return true
			}
		}
		return false
	})

	t.Run("AStreamThatSheLeaves", func(t *testing.T) {
		l.models.Next(llmtest.Reply{Pieces: []string{"One", "two"}, Input: 40, Output: 9, Hold: true})
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		body := `{"model": "` + llmtest.Sonnet + `", "messages": [{"role": "user", "content": "` + words + `"}]}`
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.BaseURL+"/api/v1/ai/messages", strings.NewReader(body))
		require.NoError(t, err)
		for name, value := range map[string]string{"Authorization": "Bearer " + l.anna.Token, "Content-Type": "application/json", "Accept": "text/event-stream"} {
			r.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		_, err = io.ReadFull(answer.Body, make([]byte, 20))
		require.NoError(t, err)
		leave()
		span := l.call("createMessage", seen+1)
		require.Equal(t, []any{"CANCELED", "WARNING", int64(40)}, []any{span.Failed, span.Text("langfuse.observation.level"), span.Attributes["gen_ai.usage.input_tokens"]})
		of("createMessage", "", span)
	})
	t.Run("AFailure", func(t *testing.T) {
		l.models.Next(llmtest.Fail(400, "not about "+words))
		l.anna.Do("POST", "/ai/messages", said()).Problem(400, "BAD_REQUEST")
		require.Equal(t, "BAD_REQUEST", l.call("createMessage", seen+2).Failed)
	})
	t.Run("NoWordOfHersAndNoKeyIsSent", func(t *testing.T) {
		for _, server := range []*otlptest.Server{l.collector, l.langfuse} {
			for _, r := range server.Requests() {
				for _, secret := range []string{words, llmtest.Key, l.anna.Token, l.anna.Email} {
					require.NotContains(t, string(r.Body), secret)
				}
			}
		}
		require.NotContains(t, l.collector.Requests()[0].Header.Get("Authorization"), "Basic")
	})
	t.Run("TheCollectorGetsRequestsToo", func(t *testing.T) {
		l.collector.Wait("a request with its call", func(spans []otlptest.Span) bool {
			requests := map[string]bool{}
			for _, s := range spans {
				if s.Scope == "kijko/server" && s.Name == "createMessage" {
					requests[s.SpanID] = true
				}
			}
			for _, s := range spans {
				if strings.HasPrefix(s.Name, "chat ") && requests[s.ParentID] {
					return true
				}
			}
			return false
		})
		for _, s := range l.langfuse.Spans() {
			require.Equal(t, "kijko/worker/llm", s.Scope)
		}
	})
	t.Run("HealthAndMetrics", func(t *testing.T) {
		require.Equal(t, "healthy", l.Get("//health/ready").Value("checks.tracing.status"))
		metrics := l.As(l.Config.MetricsToken).Get("//metrics")
		require.Contains(t, string(metrics.Body), `kijko_spans_total{outcome="sent",receiver="langfuse"}`)
		require.Contains(t, string(metrics.Body), `kijko_spans_total{outcome="dropped",receiver="collector"} 0`)
	})
	t.Run("WhileNoReceiverAnswersRequestsGoOn", func(t *testing.T) {
		for _, server := range []*otlptest.Server{l.collector, l.langfuse} {
			server.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
		}
		l.anna.Do("POST", "/ai/messages", said()).Want(200)
		require.Eventually(t, func() bool { return l.Get("//health/ready").Value("checks.tracing.code") == "RECEIVER_FAILS" }, time.Minute, 100*time.Millisecond)
		require.Equal(t, 200, l.Get("//health/ready").Status)
	})
}
