package models

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/llm"
	"kijko/worker/llm/llmtest"
)

// modelGateway is a server with a double of the providers, and Anna.
type modelGateway struct {
	*stack.Stack
	models *llmtest.Server
	anna   *client.Person
}

func newModelGateway(t *testing.T, options ...stack.Option) *modelGateway {
	t.Helper()
	g := &modelGateway{models: llmtest.New(t)}
	g.Stack = stack.New(t, append([]stack.Option{stack.Models(g.models)}, options...)...)
	g.anna = g.SignUp("Anna")
	return g
}

func (g *modelGateway) used(p *client.Person) int {
	return testdb.Value[int](g.DB, "select coalesce(sum(used), 0)::int from public.usage where organization_id = $1 and metric = 'api_calls'", p.OrgID)
}

// calmly resets the counters of the rate limit, for tests of something else.
func (g *modelGateway) calmly() { g.DB.Exec("delete from private.rate_counters where key like 'ai|%'") }

func said(turns ...string) map[string]any {
	messages := []map[string]string{}
	for i, text := range turns {
		messages = append(messages, map[string]string{"role": []string{"user", "assistant"}[i%2], "content": text})
	}
	return map[string]any{"model": llmtest.Sonnet, "messages": messages}
}

func TestModels(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t)
	list := g.anna.Get("/ai/models").Want(200)
	var ids []string
	for _, m := range client.JSON[struct {
		Models []struct{ ID, Name, Description string }
	}](list).Models {
		require.NotEmpty(t, m.Name+m.Description)
		ids = append(ids, m.ID)
	}
	require.Equal(t, []string{"claude-sonnet-4-20250514", llmtest.Sonnet, "claude-3-5-haiku-20241022", "claude-3-opus-20240229"}, ids)
	require.Equal(t, true, list.Value("configured"))
	g.As("").Get("/ai/models").Problem(401, "UNAUTHENTICATED")
	require.Equal(t, "healthy", g.Get("//health").Value("checks.ai.status"))
}

func TestMessages(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t)
	t.Run("AnAnswer", func(t *testing.T) {
		g.models.Next(llmtest.Answer("Something ", "you repeat.").Tokens(12, 7))
		body := said("What is a habit?")
		body["systemPrompt"], body["parameters"] = "Be brief.", map[string]any{"temperature": 0.5, "max_tokens": 100, "unknown": true}
		answer := g.anna.Do("POST", "/ai/messages", body).Want(200)
		require.JSONEq(t, `{"id": "msg_test", "content": "Something you repeat.", "model": "`+llmtest.Sonnet+`", "stopReason": "end_turn",
			"usage": {"inputTokens": 12, "outputTokens": 7, "totalTokens": 19}}`, string(answer.Body))
		require.Equal(t, []string{"1000", "999"}, []string{answer.Header.Get("X-RateLimit-Limit"), answer.Header.Get("X-RateLimit-Remaining")})
		call := g.models.Calls()[0]
		require.Equal(t, []any{"anthropic", "claude-sonnet-4-6", llmtest.Key, "Be brief.", "What is a habit?"},
			[]any{call.Provider, call.Model, call.Key, call.System, call.Text}, "a retired model is called by its successor's id")
		require.Subset(t, call.Body, map[string]any{"temperature": 0.5, "max_tokens": 100.})
		require.Equal(t, 1, g.used(g.anna))
	})
	t.Run("HistoriesOfTheSkillBuilder", func(t *testing.T) {
		g.anna.Do("POST", "/ai/messages", map[string]any{"model": "gpt-4", "messages": []map[string]string{
			{"role": "assistant", "content": "Hello, what shall it do?"}, {"role": "user", "content": " "}, {"role": "assistant", "content": "Well?"},
			{"role": "user", "content": "One."}, {"role": "user", "content": "Two."}, {"role": "assistant", "content": " \n"}, {"role": "user", "content": "Three."},
			{"role": "assistant", "content": "Four."}, {"role": "user", "content": "Five."}}}).Want(200)
		calls := g.models.Calls()
		last := calls[len(calls)-1]
		require.Equal(t, []string{"One.\n\nTwo.\n\nThree.", "Four.", "Five."}, last.Texts)
		require.Equal(t, []string{"user", "assistant", "user"}, last.Roles)
	})
	t.Run("AGeminiModel", func(t *testing.T) {
		body := said("Hello")
		body["model"] = "gemini-pro"
		require.Equal(t, "You said: Hello", g.anna.Do("POST", "/ai/messages", body).Want(200).String("content"))
		calls := g.models.Calls()
		require.Equal(t, []string{"google", "gemini-3-flash-preview"}, []string{calls[len(calls)-1].Provider, calls[len(calls)-1].Model})
	})
	t.Run("BadInput", func(t *testing.T) {
		used, calls := g.used(g.anna), len(g.models.Calls())
		for field, body := range map[string]any{
			"model":                        map[string]any{"messages": []any{}},
			"messages":                     map[string]any{"model": llmtest.Sonnet},
			"messages[0].role":             map[string]any{"model": llmtest.Sonnet, "messages": []any{map[string]any{"role": "system", "content": "x"}}},
			"messages[0].content":          map[string]any{"model": llmtest.Sonnet, "messages": []any{map[string]any{"role": "user"}}},
			"parameters.temperature":       map[string]any{"model": llmtest.Sonnet, "messages": []any{}, "parameters": map[string]any{"temperature": 2}},
			"parameters.max_tokens":        map[string]any{"model": llmtest.Sonnet, "messages": []any{}, "parameters": map[string]any{"max_tokens": 8193}},
			"parameters.top_p":             map[string]any{"model": llmtest.Sonnet, "messages": []any{}, "parameters": map[string]any{"top_p": 0}},
			"parameters.stop_sequences":    map[string]any{"model": llmtest.Sonnet, "messages": []any{}, "parameters": map[string]any{"stop_sequences": make([]string, 9)}},
			"parameters.stop_sequences[0]": map[string]any{"model": llmtest.Sonnet, "messages": []any{}, "parameters": map[string]any{"stop_sequences": []string{""}}},
		} {
			g.anna.Do("POST", "/ai/messages", body).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		many := make([]string, 201)
		g.anna.Do("POST", "/ai/messages", said(many...)).Problem(400, "VALIDATION_ERROR").Field("messages")
		for _, body := range []any{said(), said(" "), map[string]any{"model": llmtest.Sonnet, "messages": []any{map[string]any{"role": "assistant", "content": "Hi"}}}} {
			refused := g.anna.Do("POST", "/ai/messages", body).Problem(400, "BAD_REQUEST")
			require.Equal(t, false, refused.Value("retryable"))
		}
		g.anna.Do("POST", "/ai/messages", said(strings.Repeat("x", 1<<20), "y")).Problem(413, "PAYLOAD_TOO_LARGE")
		g.anna.Do("POST", "/ai/messages", said(strings.Repeat("x", 3<<20))).Problem(413, "PAYLOAD_TOO_LARGE")
		for _, model := range []string{"gpt-4-turbo", "gpt4o", "mistral-large", "gemini-../../x"} {
			body := said("Hello")
			body["model"] = model
			refused := g.anna.Do("POST", "/ai/messages", body).Problem(400, "MODEL_NOT_SUPPORTED").Field("model")
			require.Equal(t, false, refused.Value("retryable"))
		}
		require.Equal(t, used, g.used(g.anna), "what is refused here costs nothing")
		require.Len(t, g.models.Calls(), calls)
		g.As("").Do("POST", "/ai/messages", said("Hello")).Problem(401, "UNAUTHENTICATED")
	})
	t.Run("NothingIsStored", func(t *testing.T) {
		g.calmly()
		g.anna.With("Idempotency-Key", "k").Do("POST", "/ai/messages", said("a question to forget")).Want(200)
		for _, table := range strings.Fields(testdb.Value[string](g.DB, `select string_agg(format('%I.%I', schemaname, tablename), ' ') from pg_tables
			where schemaname in ('public', 'private', 'jobs')`)) {
			require.Zero(t, testdb.Value[int](g.DB, "select count(*)::int from "+table+" t where t::text like '%question to forget%'"), table)
		}
	})
}

// The table of contract 60, section 14.
func TestProviderFailures(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t, func(c *config.Config) { c.ModelTimeout = time.Second })
	for _, c := range []struct {
		reply      llmtest.Reply
		status     int
		code       string
		retryable  bool
		statusCode int
	}{
		{llmtest.Fail(401, "bad key"), 502, "INVALID_API_KEY", false, 401},
		{llmtest.Fail(403, "not yours"), 502, "INVALID_API_KEY", false, 403},
		{llmtest.Reply{Status: 429, RetryAfter: "7"}, 429, "RATE_LIMITED", true, 429},
		{llmtest.Fail(429, ""), 429, "RATE_LIMITED", true, 429},
		{llmtest.Fail(503, ""), 503, "SERVICE_UNAVAILABLE", true, 503},
		{llmtest.Fail(529, ""), 503, "SERVICE_UNAVAILABLE", true, 529},
		{llmtest.Fail(500, "oops"), 502, "API_ERROR", true, 500},
		{llmtest.Fail(400, "too many tokens"), 400, "BAD_REQUEST", false, 400},
		{llmtest.Fail(404, "no such model"), 502, "API_ERROR", false, 404},
		{llmtest.Fail(502, ""), 502, "API_ERROR", false, 502},
		{llmtest.Silence(), 504, "NETWORK_ERROR", true, 504},
		{llmtest.Half(), 504, "NETWORK_ERROR", true, 504},
		{llmtest.Reply{Raw: "{ no JSON"}, 500, "UNKNOWN_ERROR", false, 500},
	} {
		name := fmt.Sprintf("%d %s", c.reply.Status, c.code)
		g.models.Next(c.reply)
		refused := g.anna.Do("POST", "/ai/messages", said("Hello")).Problem(c.status, c.code)
		require.Equal(t, c.retryable, refused.Value("retryable"), name)
		require.InDelta(t, c.statusCode, refused.Value("statusCode"), 0, name)
		switch {
		case c.reply.RetryAfter != "":
			require.Equal(t, c.reply.RetryAfter, refused.Header.Get("Retry-After"))
		case c.status == 429:
			require.NotEmpty(t, refused.Header.Get("Retry-After"))
		}
		require.NotContains(t, string(refused.Body), llmtest.Key)
	}
	require.Len(t, g.models.Calls(), 13, "the gateway does not try again: the client does")
	require.Equal(t, 13, g.used(g.anna), "each call has cost its unit")

	// The same for the other route.
	g.models.Next(llmtest.Fail(401, ""), llmtest.Reply{StopReason: "SAFETY"})
	refused := g.anna.Do("POST", "/ai/generate", map[string]string{"prompt": "Hello"}).Problem(502, "INVALID_API_KEY")
	require.Equal(t, false, refused.Value("retryable"))
	g.anna.Do("POST", "/ai/generate", map[string]string{"prompt": "Hello"}).Problem(400, "BAD_REQUEST")
}

func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.LocalModel = "off" })
	anna := s.SignUp("Anna")
	refused := anna.Do("POST", "/ai/messages", said("Hello")).Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Equal(t, []any{false, "anthropic"}, []any{refused.Value("retryable"), refused.Value("details.provider")})
	refused = anna.Do("POST", "/ai/generate", map[string]string{"prompt": "Hello"}).Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Equal(t, "google", refused.Value("details.provider"))
	require.Equal(t, false, anna.Get("/ai/models").Want(200).Value("configured"))
	require.Equal(t, "unconfigured", s.Get("//health").Value("checks.ai.status"))
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from public.usage where metric = 'api_calls'"))
}

func TestTheLocalModelAnswersOnALaptop(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	require.Equal(t, true, anna.Get("/ai/models").Want(200).Value("configured"))
	answer := anna.Do("POST", "/ai/messages", said("What is a habit?")).Want(200)
	require.Contains(t, answer.String("content"), llm.LocalLabel)
	require.Contains(t, client.JSON[string](anna.Do("POST", "/ai/generate", map[string]string{"prompt": "Hello"}).Want(200)), llm.LocalLabel)
}

// event is one server-sent event.
type serverEvent struct {
	name string
	data map[string]any
}

// streaming asks for events. The caller closes the connection.
func (g *modelGateway) streaming(t *testing.T, ctx context.Context, p *client.Person, body any) *http.Response {
	t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(ctx, "POST", g.BaseURL+"/api/v1/ai/messages", bytes.NewReader(raw))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+p.Token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

func events(t *testing.T, r io.Reader) (all []serverEvent) {
	t.Helper()
	var e serverEvent
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "event":
			e.name = value
		case name == "data":
			require.NoError(t, client.CheckEvent("POST", "/ai/messages", e.name, value))
			require.NoError(t, json.Unmarshal([]byte(value), &e.data))
		case name == "" && value == "" && e.name != "":
			all, e = append(all, e), serverEvent{}
		}
	}
	return all
}

func TestStreaming(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t, func(c *config.Config) { c.ModelTimeout = 2 * time.Second })
	for _, model := range []string{llmtest.Sonnet, "gemini-3-flash-preview"} {
		g.models.Next(llmtest.Answer("One, ", "two, ", "three.").Tokens(3, 4))
		body := said("Count")
		body["model"] = model
		answer := g.streaming(t, t.Context(), g.anna, body)
		require.Equal(t, 200, answer.StatusCode)
		require.Contains(t, answer.Header.Get("Content-Type"), "text/event-stream")
		require.Equal(t, "1000", answer.Header.Get("X-RateLimit-Limit"))
		all := events(t, answer.Body)
		require.Len(t, all, 4)
		for i, text := range []string{"One, ", "two, ", "three."} {
			require.Equal(t, serverEvent{"text", map[string]any{"type": "text", "content": text}}, all[i])
		}
		require.Equal(t, "done", all[3].name)
		response := all[3].data["response"].(map[string]any)
		require.Equal(t, "done", all[3].data["type"])
		require.NotEmpty(t, response["id"])
		delete(response, "id")
		require.Equal(t, map[string]any{"content": "One, two, three.", "model": model, "stopReason": "end_turn",
			"usage": map[string]any{"inputTokens": 3., "outputTokens": 4., "totalTokens": 7.}}, response)
	}
	require.Equal(t, 2, g.used(g.anna), "a streamed call costs one unit too")

	for _, c := range []struct {
		reply     llmtest.Reply
		code      string
		retryable bool
		status    float64
	}{
		{llmtest.Fail(401, ""), "INVALID_API_KEY", false, 401},
		{llmtest.Reply{Pieces: []string{"One"}, StreamError: "overloaded_error"}, "SERVICE_UNAVAILABLE", true, 529},
		{llmtest.Half("One"), "NETWORK_ERROR", true, 504},
		{llmtest.Reply{Pieces: []string{"One"}, Hold: true}, "NETWORK_ERROR", true, 504},
	} {
		g.models.Next(c.reply)
		all := events(t, g.streaming(t, t.Context(), g.anna, said("Count")).Body)
		last := all[len(all)-1]
		require.Len(t, all, len(c.reply.Pieces)+1)
		require.Equal(t, "error", last.name)
		require.NotEmpty(t, last.data["message"])
		delete(last.data, "message")
		require.Equal(t, map[string]any{"code": c.code, "retryable": c.retryable, "statusCode": c.status}, last.data)
	}

	body := said("Count")
	body["model"] = "gpt-4-turbo"
	answer := g.streaming(t, t.Context(), g.anna, body)
	require.Equal(t, 400, answer.StatusCode, "what is refused before the call is refused as usual")
	require.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"))
}

func TestWhoGoesEndsTheCall(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t)
	t.Run("Whole", func(t *testing.T) {
		g.models.Next(llmtest.Silence())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		raw, err := json.Marshal(said("Hello"))
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(ctx, "POST", g.BaseURL+"/api/v1/ai/messages", bytes.NewReader(raw))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+g.anna.Token)
		r.Header.Set("Content-Type", "application/json")
		failed := make(chan error, 1)
		go func() {
			answer, err := http.DefaultClient.Do(r)
			if err == nil {
				_ = answer.Body.Close()
			}
			failed <- err
		}()
		stack.Eventually(t, "the provider is being asked", func() bool { now, _ := g.models.InFlight(); return now == 1 })
		cancel()
		require.Error(t, <-failed)
		stack.Eventually(t, "the call to the provider ends", func() bool { return g.models.Aborted() == 1 })
	})
	t.Run("Streamed", func(t *testing.T) {
		g.models.Next(llmtest.Reply{Pieces: []string{"One"}, Hold: true})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answer := g.streaming(t, ctx, g.anna, said("Hello"))
		line, err := bufio.NewReader(answer.Body).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "event: text\n", line)
		cancel()
		stack.Eventually(t, "the call to the provider ends", func() bool { return g.models.Aborted() == 2 })
	})
	t.Run("TheConnectionIsUsedAgain", func(t *testing.T) {
		for range 3 {
			g.anna.Do("POST", "/ai/messages", said("Hello")).Want(200)
			require.Len(t, events(t, g.streaming(t, t.Context(), g.anna, said("Hello")).Body), 4)
		}
	})
	t.Run("NoConnectionOfTheDatabaseIsHeld", func(t *testing.T) {
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		t.Cleanup(release)
		g.models.Always(func(llmtest.Call) llmtest.Reply { <-held; return llmtest.Answer("fine") })
		people := []*client.Person{g.anna, g.SignUp("Ben"), g.SignUp("Cleo")}
		answers := make(chan error, 60)
		for i := range cap(answers) {
			go func() {
				r, err := people[i%3].Try("POST", "/ai/messages", said("Hello"))
				if err == nil && r.Status != 200 {
					err = fmt.Errorf("%s", r.Body)
				}
				answers <- err
			}()
		}
		g.calmly()
		stack.Eventually(t, "sixty are waiting", func() bool { now, _ := g.models.InFlight(); return now >= 50 })
		stack.Eventually(t, "and no transaction is open", func() bool {
			return testdb.Value[int](g.DB, `select count(*)::int from pg_stat_activity where datname = current_database()
				and usename = 'kijko_server' and xact_start < clock_timestamp() - interval '100 ms'`) == 0
		})
		g.anna.Get("/ai/models").Want(200)
		release()
		refused := 0
		for range cap(answers) {
			if err := <-answers; err != nil {
				require.ErrorContains(t, err, "RATE_LIMITED")
				refused++
			}
		}
		require.LessOrEqual(t, refused, 10)
	})
}

// file is a part of a form.
type formFile struct{ name, kind, content string }

func modelForm(t *testing.T, fields map[string]string, files ...formFile) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, value := range fields {
		require.NoError(t, w.WriteField(name, value))
	}
	for _, f := range files {
		part, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="files"; filename=%q`, f.name)}, "Content-Type": {f.kind}})
		require.NoError(t, err)
		_, err = io.WriteString(part, f.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.Bytes()
}

// png is the smallest picture that is recognized by its content.
const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"

func TestGenerate(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t)
	send := func(t *testing.T, fields map[string]string, files ...formFile) client.Response {
		kind, body := modelForm(t, fields, files...)
		return g.anna.In(t).With("Content-Type", kind).Do("POST", "/ai/generate", body)
	}
	t.Run("JSON", func(t *testing.T) {
		require.Equal(t, "You said: Hello", client.JSON[string](g.anna.Do("POST", "/ai/generate", map[string]string{"prompt": "Hello"}).Want(200)))
		g.anna.Do("POST", "/ai/generate", map[string]string{"prompt": "Hello", "model": "claude"}).Want(200)
		calls := g.models.Calls()
		require.Equal(t, []string{"gemini-3-flash-preview", "claude-sonnet-4-6"}, []string{calls[0].Model, calls[1].Model})
		require.Equal(t, 2, g.used(g.anna))
	})
	t.Run("AFormWithFiles", func(t *testing.T) {
		for _, model := range []string{"gemini", "claude"} {
			answer := send(t, map[string]string{"prompt": "What is this?", "model": model}, formFile{"a.png", "application/octet-stream", png},
				formFile{"../notes.md", "text/markdown", "# Notes\né"}).Want(200)
			require.Contains(t, client.JSON[string](answer), "What is this?\n\n--- notes.md ---\n# Notes\né")
			calls := g.models.Calls()
			require.Equal(t, 1, calls[len(calls)-1].Images)
		}
		send(t, nil, formFile{"a.png", "image/png", png}).Want(200)
		send(t, map[string]string{"prompt": "Just text"}).Want(200)
	})
	t.Run("BadInput", func(t *testing.T) {
		used := g.used(g.anna)
		g.anna.Do("POST", "/ai/generate", map[string]string{"prompt": " "}).Problem(400, "VALIDATION_ERROR").Field("prompt")
		g.anna.Do("POST", "/ai/generate", map[string]string{}).Problem(400, "VALIDATION_ERROR").Field("prompt")
		g.anna.Do("POST", "/ai/generate", map[string]string{"prompt": strings.Repeat("x", 2<<20)}).Problem(413, "PAYLOAD_TOO_LARGE")
		send(t, nil).Problem(400, "VALIDATION_ERROR").Field("prompt")
		send(t, map[string]string{"prompt": "a\x00b"}).Problem(400, "VALIDATION_ERROR").Field("prompt")
		send(t, map[string]string{"prompt": strings.Repeat("x", 2<<20)}).Problem(413, "PAYLOAD_TOO_LARGE").Field("prompt")
		send(t, map[string]string{"prompt": "x"}, formFile{"a.zip", "text/plain", "PK\x03\x04\x00\x00"}).Problem(400, "VALIDATION_ERROR").Field("files[0]")
		send(t, map[string]string{"prompt": "x"}, formFile{"a", "text/plain", "a"}, formFile{"b", "text/plain", ""}).Problem(400, "VALIDATION_ERROR").Field("files[1]")
		send(t, map[string]string{"prompt": "x"}, make([]formFile, 11)...).Problem(400, "VALIDATION_ERROR")
		send(t, map[string]string{"prompt": "x"}, formFile{"a", "text/plain", strings.Repeat("x", 10<<20+1)}).Problem(413, "PAYLOAD_TOO_LARGE").Field("files[0]")
		g.anna.With("Content-Type", "multipart/form-data; boundary=x").Do("POST", "/ai/generate", "--x\r\nbroken").Problem(400, "VALIDATION_ERROR")
		g.anna.With("Content-Type", "text/plain").Do("POST", "/ai/generate", "x").Problem(400, "VALIDATION_ERROR")
		require.Equal(t, used, g.used(g.anna))
	})
}

func TestLimitsOfTheGateway(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t)
	t.Run("ThePlansUnits", func(t *testing.T) {
		ben := g.SignUp("Ben")
		g.DB.Exec(`update public.subscriptions set overrides = '{"api_calls": 5}' where organization_id = $1`, ben.OrgID)
		seen := map[int]int{}
		for _, r := range client.AtOnce(t, 12, func(i int) (client.Response, error) { return ben.Try("POST", "/ai/messages", said("Hello")) }) {
			seen[r.Status]++
			if r.Status == 429 {
				r.Problem(429, "QUOTA_EXCEEDED")
				require.Equal(t, []any{false, "api_calls"}, []any{r.Value("retryable"), r.Value("details.metric")})
				require.Equal(t, []string{"5", "0"}, []string{r.Header.Get("X-RateLimit-Limit"), r.Header.Get("X-RateLimit-Remaining")})
				require.NotEmpty(t, r.Header.Get("Retry-After"))
			}
		}
		require.Equal(t, map[int]int{200: 5, 429: 7}, seen)
		require.Equal(t, 5, g.used(ben))
		answer := g.streaming(t, t.Context(), ben, said("Hello"))
		require.Equal(t, 429, answer.StatusCode, "a stream is refused before it begins")
		require.Len(t, g.models.Calls(), 5)
	})
	t.Run("ThirtyAMinuteOverAllProcessesAndRoutes", func(t *testing.T) {
		replica := stack.On(t, g.DB, stack.Models(g.models))
		seen := map[int]int{}
		for _, r := range client.AtOnce(t, 40, func(i int) (client.Response, error) {
			to := g.anna.Client
			if i%2 == 1 {
				to = to.At(replica.BaseURL)
			}
			if i%4 > 1 {
				return to.Try("POST", "/ai/generate", map[string]string{"prompt": "Hello"})
			}
			return to.Try("POST", "/ai/messages", said("Hello"))
		}) {
			seen[r.Status]++
			if r.Status == 429 {
				r.Problem(429, "RATE_LIMITED")
				require.NotEmpty(t, r.Header.Get("Retry-After"))
				require.Equal(t, "30", r.Header.Get("X-RateLimit-Limit"))
			}
		}
		// A window may end in the middle; its count is then weighted into the next.
		require.GreaterOrEqual(t, seen[429], 1)
		require.LessOrEqual(t, seen[200], 39)
		require.Equal(t, seen[200], g.used(g.anna))
	})
}

func TestKeysOfOrganizations(t *testing.T) {
	t.Parallel()
	g := newModelGateway(t, func(c *config.Config) { c.GoogleKey = "" })
	ben := g.SignUp("Ben")
	const own = "sk-ant-of-anna-0123456789-wxyz"
	key := map[string]string{"key": " " + own + "\n"}
	set := g.anna.Do("PUT", "/ai/provider-keys/anthropic", key).Want(200)
	require.Equal(t, []any{"anthropic", "wxyz", g.anna.ID}, []any{set.Value("provider"), set.Value("lastFour"), set.Value("setBy")})
	list := g.anna.Get("/ai/provider-keys").Want(200)
	require.NotContains(t, string(list.Body)+string(set.Body), own)
	require.Len(t, client.JSON[[]any](list), 1)
	require.Empty(t, client.JSON[[]any](ben.Get("/ai/provider-keys").Want(200)), "of one's own organization only")
	stored := testdb.Value[string](g.DB, "select sealed_key from private.provider_keys")
	require.NotContains(t, stored, own)

	g.anna.Do("POST", "/ai/messages", said("Hello")).Want(200)
	ben.Do("POST", "/ai/messages", said("Hello")).Want(200)
	require.Equal(t, []string{own, llmtest.Key}, []string{g.models.Calls()[0].Key, g.models.Calls()[1].Key})
	require.Equal(t, []int{1, 1}, []int{g.used(g.anna), g.used(ben)})

	// A provider without a key of the installation answers only organizations that have a key of their own.
	gemini := map[string]string{"prompt": "Hello"}
	g.anna.Do("POST", "/ai/generate", gemini).Problem(503, "PROVIDER_NOT_CONFIGURED")
	ben.Do("PUT", "/ai/provider-keys/google", map[string]string{"key": "AIza-of-ben-0123456789"}).Want(200)
	ben.Do("POST", "/ai/generate", gemini).Want(200)
	g.anna.Do("POST", "/ai/generate", gemini).Problem(503, "PROVIDER_NOT_CONFIGURED")

	// A sealed key that is copied to another organization opens nothing.
	g.DB.Exec("insert into private.provider_keys (organization_id, provider, sealed_key, last_four) values ($1, 'anthropic', $2, 'wxyz')", ben.OrgID, stored)
	refused := ben.Do("POST", "/ai/messages", said("Hello")).Problem(502, "INVALID_API_KEY")
	require.Equal(t, []any{"anthropic", false}, []any{refused.Value("details.provider"), refused.Value("retryable")})
	ben.Do("DELETE", "/ai/provider-keys/anthropic", nil).Want(204)
	ben.Do("POST", "/ai/messages", said("Hello")).Want(200)

	for body, field := range map[string]string{`{"key": "short"}`: "key", `{}`: "key", `{"key": "with a blank in the middle"}`: "key", `{"key": "umläut-0123456789"}`: "key",
		`{"key": "                      "}`: "key"} {
		g.anna.Do("PUT", "/ai/provider-keys/google", body).Problem(400, "VALIDATION_ERROR").Field(field)
	}
	g.anna.Do("PUT", "/ai/provider-keys/openai", key).Problem(404, "NOT_FOUND")
	g.anna.Do("DELETE", "/ai/provider-keys/google", nil).Problem(404, "NOT_FOUND")
	g.As("").Get("/ai/provider-keys").Problem(401, "UNAUTHENTICATED")
	stack.Demote(g.DB, ben, "member")
	for _, role := range []string{"member", "viewer"} {
		g.DB.Exec("update public.memberships set role = $1 where user_id = $2", role, ben.ID)
		ben.Do("PUT", "/ai/provider-keys/google", key).Problem(403, "FORBIDDEN")
		ben.Do("DELETE", "/ai/provider-keys/google", nil).Problem(403, "FORBIDDEN")
		ben.Get("/ai/provider-keys").Problem(403, "FORBIDDEN")
		ben.Do("POST", "/ai/messages", said("Hello")).Want(200)
	}
}

func TestKeysNeedAnEncryptionKey(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.EncryptionKey = "" })
	anna := s.SignUp("Anna")
	refused := anna.Do("PUT", "/ai/provider-keys/google", map[string]string{"key": "AIza-of-anna-0123456789"}).Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Equal(t, "encryption", refused.Value("details.provider"))
	s.DB.Exec("insert into private.provider_keys (organization_id, provider, sealed_key, last_four) values ($1, 'anthropic', 'v1.x.y', 'wxyz')", anna.OrgID)
	anna.Do("POST", "/ai/messages", said("Hello")).Problem(502, "INVALID_API_KEY")
}
