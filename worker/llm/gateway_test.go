package llm_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"kijko/worker/llm"
	"kijko/worker/llm/llmtest"
)

// Tokens that the model used for thinking and that tools have read are paid for, so both numbers together are the
// provider's total.
func TestUsageIsTheProvidersTotal(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		models.Next(llmtest.Reply{Pieces: []string{"x"}, Input: 1000, Output: 1000, Thoughts: 98_000, ToolUse: 500, Cached: 301})
		result, _, err := ask(t.Context(), llm.Request{})
		require.NoError(t, err)
		want := llm.Usage{Input: 1500, Output: 99_000}
		if models.Calls()[0].Provider == llm.Anthropic {
			want = llm.Usage{Input: 1000, Output: 1000}
		}
		require.Equal(t, want, result.Usage)
		if models.Calls()[0].Provider == llm.Anthropic {
			return
		}
		models.Next(llmtest.Reply{StopReason: "MAX_TOKENS", Input: 6, Thoughts: 4090}, llmtest.Reply{StopReason: "SAFETY", Input: 6, Output: 1, Thoughts: 9})
		result, _, err = ask(t.Context(), llm.Request{})
		require.NoError(t, err)
		require.Equal(t, llm.Usage{Input: 6, Output: 4090}, result.Usage, "an answer that was thought to death")
		_, _, err = ask(t.Context(), llm.Request{})
		require.Equal(t, &llm.Usage{Input: 6, Output: 10}, must(t, err).Usage, "a blocked one")
	})
}

func TestModelsWithoutSampling(t *testing.T) {
	t.Parallel()
	r := llm.Request{WithoutSampling: true, Parameters: llm.Parameters{Temperature: ptr(0.4), TopP: ptr(0.5), TopK: ptr(3), MaxTokens: ptr(10), StopSequences: []string{"x"}}}
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		_, _, err := ask(t.Context(), r)
		require.NoError(t, err)
		call := models.Calls()[0]
		if call.Provider == llm.Google {
			require.Equal(t, map[string]any{"maxOutputTokens": 10., "stopSequences": []any{"x"}}, call.Body["generationConfig"])
			return
		}
		require.Subset(t, call.Body, map[string]any{"max_tokens": 10., "stop_sequences": []any{"x"}})
		for _, absent := range []string{"temperature", "top_p", "top_k"} {
			require.NotContains(t, call.Body, absent)
		}
	})
}

// whole and events are good answers of each provider.
var (
	whole = map[string]string{
		llm.Anthropic: `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"One two"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}`,
		llm.Google:    `{"responseId":"r","candidates":[{"content":{"parts":[{"text":"One two"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5}}`,
	}
	streams = map[string][]string{
		llm.Anthropic: {
			"event: message_start\ndata: {\"type\":\"message_start\",\ndata: \"message\":{\"id\":\"msg_1\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}",
			"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}",
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"One \\\"error\\\"\"}}",
			"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" two\"}}",
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}",
			"event: message_stop\ndata: {\"type\":\"message_stop\"}",
		},
		llm.Google: {
			"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"One \\\"error\\\"\"}]}}],\ndata: \"usageMetadata\":{\"promptTokenCount\":3,\"totalTokenCount\":3}}",
			"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" two\"}]}}]}",
			"data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2,\"totalTokenCount\":5}}",
		},
	}
)

// through calls a provider behind a gateway that answers in a form of its own.
func through(t *testing.T, name string, stream bool, gateway http.HandlerFunc) (llm.Result, []string, error) {
	t.Helper()
	server := httptest.NewServer(gateway)
	defer server.Close()
	p := provider(t, llm.Config{AnthropicURL: server.URL, GoogleURL: server.URL, AnthropicKey: llmtest.Key, GoogleKey: llmtest.Key}, name)
	r := llm.Request{Model: both[name], Messages: llm.Prompt("Hello")}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !stream {
		result, err := p.Generate(ctx, r)
		return result, nil, err
	}
	pieces := []string{}
	result, err := p.Stream(ctx, r, func(text string) error {
		pieces = append(pieces, text)
		return nil
	})
	return result, pieces, err
}

func send(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Gateways and proxies have error formats of their own. The status keeps its meaning (contract 20, section 6.6).
func TestErrorsInAnotherForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		code   llm.Code
		want   string // a part of the message
		retry  bool
	}{
		{429, `{"error":{"message":"too many requests","type":"rate_limit"}}`, llm.RateLimited, "rate limit", true},
		{429, `{"error":{"code":0,"message":"x"}}`, llm.RateLimited, "rate limit", true},
		{429, `{"error":{"code":"rate_limit_exceeded","message":"x"}}`, llm.RateLimited, "rate limit", true},
		{429, `{"error":"slow down"}`, llm.RateLimited, "rate limit", true},
		{429, `{"error":{"code":200,"message":"x"}}`, llm.RateLimited, "rate limit", true},
		{429, `{"error":{"code":500,"message":"x"}}`, llm.RateLimited, "rate limit", true},
		{429, `{"error":null}`, llm.RateLimited, "rate limit", true},
		{429, `{"error":[]}`, llm.RateLimited, "rate limit", true},
		{429, `[{"error":{"code":429,"message":"x"}}]`, llm.RateLimited, "rate limit", true},
		{429, `<html><body>429</body></html>`, llm.RateLimited, "rate limit", true},
		{429, `slow down`, llm.RateLimited, "rate limit", true},
		{429, ``, llm.RateLimited, "rate limit", true},
		{401, `{"error":{"message":"no"}}`, llm.InvalidAPIKey, "API key", false},
		{401, `{"detail":"no"}`, llm.InvalidAPIKey, "API key", false},
		{401, ``, llm.InvalidAPIKey, "API key", false},
		{403, `{"message":"not for you"}`, llm.APIError, "not for you", false},
		{400, `{"error":{"message":"bad thing","code":"invalid"}}`, llm.BadRequest, "bad thing", false},
		{400, `{"detail":"bad thing"}`, llm.BadRequest, "bad thing", false},
		{400, `{"detail":[{"loc":["body"],"msg":"bad thing"}]}`, llm.BadRequest, "refuses the request", false},
		{400, `{"error":{"message":"unknown key","details":[{"reason":"API_KEY_INVALID"}]}}`, llm.InvalidAPIKey, "API key", false},
		{404, `<!doctype html><p>x`, llm.APIError, "status 404", false},
		{500, `{"error":{"message":"oops"}}`, llm.APIError, "oops", true},
		{502, `<html>bad gateway</html>`, llm.APIError, "status 502", true},
		{503, `upstream connect error`, llm.ServiceUnavailable, "unavailable", true},
		{503, `{"error":{"code":429,"message":"x"}}`, llm.ServiceUnavailable, "unavailable", true},
		{504, ``, llm.APIError, "status 504", true},
		{529, `{}`, llm.ServiceUnavailable, "unavailable", true},
	} {
		for name := range both {
			for _, stream := range []bool{false, true} {
				for _, cut := range []bool{false, true} {
					title := fmt.Sprintf("%s stream=%t cut=%t %d %s", name, stream, cut, c.status, c.body)
					_, pieces, err := through(t, name, stream, func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Retry-After", "7")
						if cut {
							w.Header().Set("Content-Length", strconv.Itoa(len(c.body)+100))
						}
						send(c.status, "text/plain", c.body)(w, r)
					})
					e := must(t, err)
					require.Equal(t, []any{c.code, c.status, c.retry, 7 * time.Second},
						[]any{e.Code, map[bool]int{true: 400, false: e.Status}[c.code == llm.InvalidAPIKey && c.status == 400], e.Retryable(), e.RetryAfter}, title)
					require.Contains(t, e.Message, c.want, title)
					require.NotContains(t, e.Message, "<", title)
					require.Empty(t, pieces, title)
				}
			}
		}
	}
}

// These are the same errors within an answer that began with 200.
func TestErrorsWithinAnAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body   string
		code   llm.Code
		status int
		retry  bool
	}{
		{`{"error":{"code":429,"message":"x"}}`, llm.RateLimited, 429, true},
		{`{"error":{"code":"429","message":"x"}}`, llm.RateLimited, 429, true},
		{`{"error":{"message":"x","status":"RESOURCE_EXHAUSTED"}}`, llm.RateLimited, 429, true},
		{`{"type":"error","error":{"type":"overloaded_error","message":"x"}}`, llm.ServiceUnavailable, 529, true},
		{`{"error":{"code":401,"message":"x"}}`, llm.InvalidAPIKey, 401, false},
		{`{"error":{"message":"x"}}`, llm.APIError, 500, true},
		{`{"error":"x"}`, llm.APIError, 500, true},
		{`[{"error":{"code":503,"message":"x"}}]`, llm.ServiceUnavailable, 503, true},
	} {
		for name := range both {
			_, _, err := through(t, name, false, send(200, "application/json", c.body))
			if c.body[0] == '{' {
				require.Equal(t, []any{c.code, c.status, c.retry}, []any{must(t, err).Code, must(t, err).Status, must(t, err).Retryable()}, "%s whole: %s", name, c.body)
			}
			for form, body := range map[string]string{"framed": "data: " + c.body + "\n\n", "bare": c.body, "bare, a line": c.body + "\r\n", "after a comment": ": x\n\n" + c.body + "\n",
				"after an event": streams[name][0] + "\n\n" + c.body + "\n", "framed after an event": streams[name][0] + "\n\ndata: " + c.body + "\n\n"} {
				if form == "framed" && c.body[0] == '[' {
					continue
				}
				_, _, err := through(t, name, true, send(200, "text/event-stream", body))
				require.Equal(t, []any{c.code, c.status, c.retry}, []any{must(t, err).Code, must(t, err).Status, must(t, err).Retryable()}, "%s stream, %s: %s", name, form, c.body)
			}
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	for name := range both {
		for body, want := range map[string]llm.Code{"": llm.NetworkError, " \n": llm.NetworkError, "<html>please sign in</html>": llm.UnknownError} {
			for _, stream := range []bool{false, true} {
				_, pieces, err := through(t, name, stream, send(200, "text/html", body))
				require.Equal(t, want, must(t, err).Code, "%s stream=%t %q", name, stream, body)
				require.Empty(t, pieces)
			}
		}
		all := strings.Join(streams[name], "\n\n") + "\n\n"
		for n := range len(all) - 2 {
			_, _, err := through(t, name, true, send(200, "text/event-stream", all[:n]))
			if err == nil {
				// Only the very last character may be missing.
				require.Greater(t, n, len(all)-4, "%s: %q", name, all[:n])
				continue
			}
			require.Equal(t, []any{llm.NetworkError, true}, []any{must(t, err).Code, must(t, err).Retryable()}, "%s: %q", name, all[:n])
		}
		for n := range len(whole[name]) {
			_, _, err := through(t, name, false, send(200, "application/json", whole[name][:n]))
			require.Equal(t, llm.NetworkError, must(t, err).Code, "%s: %q", name, whole[name][:n])
		}
	}
}

// The standard of event streams allows all of these forms, and the answers of both providers must be read from them.
func TestStreamsInEveryForm(t *testing.T) {
	t.Parallel()
	for name := range both {
		plain := strings.Join(streams[name], "\n\n") + "\n\n"
		for form, body := range map[string]string{
			"plain":               plain,
			"comments":            ": keep-alive\n\n" + strings.ReplaceAll(plain, "\n\n", "\n\n: keep-alive\n\n:\n"),
			"comments in events":  strings.ReplaceAll(plain, "data:", ":x\ndata:"),
			"carriage returns":    strings.ReplaceAll(plain, "\n", "\r\n"),
			"old ends of lines":   strings.ReplaceAll(plain, "\n", "\r"),
			"byte order mark":     "\uFEFF" + plain,
			"no blanks":           strings.ReplaceAll(strings.ReplaceAll(plain, "data: ", "data:"), "event: ", "event:"),
			"names":               strings.ReplaceAll(plain, "data: {\"candidates", "event: message\ndata: {\"candidates"),
			"ids and retries":     "retry: 1000\n\n" + strings.ReplaceAll(plain, "data:", "id: 7\ndata:"),
			"unknown fields":      strings.ReplaceAll(plain, "data: {", "x-trace: 5\nnothing\ndata: {"),
			"empty events":        strings.ReplaceAll(plain, "\n\n", "\n\n\n\ndata\n\ndata:\n\nevent: ping\n\n"),
			"a sign of the end":   plain + "data: [DONE]\n\n",
			"no end of the lines": strings.TrimRight(plain, "\n"),
		} {
			result, pieces, err := through(t, name, true, send(200, "text/event-stream", body))
			require.NoError(t, err, "%s: %s", name, form)
			require.Equal(t, []string{`One "error"`, " two"}, pieces, "%s: %s", name, form)
			require.Equal(t, llm.Usage{Input: 3, Output: 2}, result.Usage, "%s: %s", name, form)
		}
	}
}

func TestCommentsBetweenEvents(t *testing.T) {
	t.Parallel()
	eachProvider(t, func(t *testing.T, models *llmtest.Server, ask func(context.Context, llm.Request) (llm.Result, []string, error)) {
		models.Next(llmtest.Reply{Pieces: []string{"One ", "two"}, Comments: true, Pause: time.Millisecond})
		result, _, err := ask(t.Context(), llm.Request{})
		require.NoError(t, err)
		require.Equal(t, "One two", result.Text)
	})
}

// A piece is passed on when it arrives, not when the next one does.
func TestEventsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	for name := range both {
		for _, end := range []string{"\n", "\r\n", "\r"} {
			said := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for i, event := range streams[name] {
					_, _ = io.WriteString(w, strings.ReplaceAll(event+"\n\n", "\n", end))
					_ = http.NewResponseController(w).Flush()
					if i == len(streams[name])-3 {
						select {
						case <-said:
						case <-r.Context().Done():
						}
					}
				}
			}))
			p := provider(t, llm.Config{AnthropicURL: server.URL, GoogleURL: server.URL, AnthropicKey: llmtest.Key, GoogleKey: llmtest.Key}, name)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			first := true
			_, err := p.Stream(ctx, llm.Request{Model: both[name], Messages: llm.Prompt("Hello")}, func(string) error {
				if first {
					close(said)
				}
				first = false
				return nil
			})
			cancel()
			server.Close()
			require.NoError(t, err, "%s %q", name, end)
		}
	}
}

func TestCountsWithinReason(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][2]string{
		llm.Anthropic: {strings.Replace(whole[llm.Anthropic], `"input_tokens":3,"output_tokens":2`, `"input_tokens":-3,"output_tokens":9000000000000000000`, 1),
			strings.Replace(whole[llm.Anthropic], `"input_tokens":3`, `"input_tokens":9223372036854775807,"cache_read_input_tokens":9223372036854775807`, 1)},
		llm.Google: {strings.Replace(whole[llm.Google], `"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5`, `"promptTokenCount":-3,"candidatesTokenCount":2147483647,"thoughtsTokenCount":2147483647`, 1),
			strings.Replace(whole[llm.Google], `"promptTokenCount":3`, `"promptTokenCount":2147483647,"toolUsePromptTokenCount":2147483647`, 1)},
	} {
		first, _, err := through(t, name, false, send(200, "application/json", answers[0]))
		require.NoError(t, err)
		require.Equal(t, llm.Usage{Output: 1<<30 - 1}, first.Usage, name)
		second, _, err := through(t, name, false, send(200, "application/json", answers[1]))
		require.NoError(t, err)
		require.Equal(t, llm.Usage{Input: 1<<30 - 1, Output: 2}, second.Usage, name)
	}
}

// Spans contain the counted tokens, also of calls that failed.
func TestSpansCountWhatWasPaidFor(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	models := llmtest.New(t)
	models.Next(llmtest.Reply{Pieces: []string{"x"}, Input: 10, Output: 3, Thoughts: 20}, llmtest.Reply{StopReason: "SAFETY", Input: 10, Thoughts: 5})
	p := provider(t, models.Config(), llm.Google)
	for range 2 {
		_, _ = p.Generate(t.Context(), llm.Request{Model: "gemini-x", Messages: llm.Prompt("x")})
	}
	counted := []int64{}
	for _, span := range spans.Ended() {
		for _, a := range span.Attributes() {
			if a.Key == "gen_ai.usage.output_tokens" && span.Name() == "chat gemini-x" {
				counted = append(counted, a.Value.AsInt64())
			}
		}
	}
	require.Equal(t, []int64{23, 5}, counted)
}
