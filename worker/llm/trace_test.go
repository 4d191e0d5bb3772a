package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"

	"kijko/worker/llm"
	"kijko/worker/llm/llmtest"
	"kijko/worker/telemetry"
	"kijko/worker/telemetry/otlptest"
)

// traced has a double of the providers, and receivers of both kinds. The tracer is global: its tests do not run in parallel.
type traced struct {
	models              *llmtest.Server
	set                 *llm.Set
	collector, langfuse *otlptest.Server
	// close sends all spans.
	close func()
}

func newTraced(t *testing.T, texts bool) *traced {
	t.Helper()
	b := &traced{models: llmtest.New(t), collector: otlptest.New(t), langfuse: otlptest.New(t)}
	before := otel.GetTracerProvider()
	tracing, err := telemetry.Start(t.Context(), telemetry.Config{Collector: b.collector.URL, Version: "1.2.3",
		Langfuse: &telemetry.Langfuse{URL: b.langfuse.URL, PublicKey: "pk", SecretKey: "sk"}}, "kijko-test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	b.close = tracing.Close
	t.Cleanup(func() {
		tracing.Close()
		otel.SetTracerProvider(before)
	})
	c := b.models.Config()
	c.Texts = texts
	b.set, err = llm.New(c)
	require.NoError(t, err)
	b.set.Prices().Set(map[string]llm.Price{"claude-x": {InputCents: 300, OutputCents: 1500}, "": {InputCents: 100, OutputCents: 200}})
	return b
}

func (b *traced) provider(t *testing.T, name string) llm.Provider {
	t.Helper()
	p, err := b.set.For(name)
	require.NoError(t, err)
	return p
}

func ofAnna(ctx context.Context) context.Context {
	return llm.WithTrace(ctx, llm.Trace{Name: "skill", UserID: "anna", OrganizationID: "engines", SessionID: "run-1"})
}

func keep(string) error { return nil }

const secretText = "the crown jewels"

func TestACallIsASpanWithUserUsageAndCost(t *testing.T) {
	b := newTraced(t, false)
	b.models.Next(llmtest.Reply{Pieces: []string{"It says " + secretText}, Input: 1000, Output: 20, Cached: 300})
	_, err := b.provider(t, llm.Anthropic).Generate(ofAnna(t.Context()), llm.Request{Model: "claude-x", System: secretText, Messages: llm.Prompt(secretText),
		Parameters: llm.Parameters{Temperature: ptr(0.5), TopK: ptr(3), MaxTokens: ptr(100), StopSequences: []string{secretText}}})
	require.NoError(t, err)
	b.close()
	span := b.collector.Spans()[0]
	require.Equal(t, "chat claude-x", span.Name)
	require.Equal(t, map[string]any{"gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude-x",
		"gen_ai.request.max_tokens": int64(100), "gen_ai.request.temperature": 0.5, "gen_ai.request.top_k": int64(3),
		"gen_ai.response.id": "msg_test", "gen_ai.response.model": "claude-x", "gen_ai.response.finish_reasons": []any{"end_turn"},
		"gen_ai.usage.input_tokens": int64(1000), "gen_ai.usage.output_tokens": int64(20), "gen_ai.usage.cache_read.input_tokens": int64(150),
		"gen_ai.usage.cache_creation.input_tokens": int64(150), "gen_ai.conversation.id": "run-1", "session.id": "run-1", "user.id": "anna",
		"kijko.organization.id": "engines", "kijko.work": "skill", "kijko.outermost": true, "kijko.cost.input_microcents": int64(300_000),
		"kijko.cost.output_microcents": int64(30_000)}, span.Attributes)
	shown := b.langfuse.Spans()[0]
	require.Equal(t, span.SpanID, shown.SpanID)
	for key, want := range map[string]any{"langfuse.observation.type": "generation", "langfuse.observation.model.name": "claude-x", "user.id": "anna", "session.id": "run-1",
		"langfuse.trace.name": "skill", "langfuse.trace.metadata.organization_id": "engines", "langfuse.release": "1.2.3", "langfuse.internal.as_root": true} {
		require.Equal(t, want, shown.Attributes[key], key)
	}
	require.JSONEq(t, `{"max_tokens": 100, "temperature": 0.5, "top_k": 3}`, shown.Text("langfuse.observation.model.parameters"))
	require.JSONEq(t, `{"input": 700, "cache_read_input_tokens": 150, "cache_creation_input_tokens": 150, "output": 20, "total": 1020}`, shown.Text("langfuse.observation.usage_details"))
	require.JSONEq(t, `{"input": 0.003, "output": 0.0003, "total": 0.0033}`, shown.Text("langfuse.observation.cost_details"))
	for _, server := range []*otlptest.Server{b.collector, b.langfuse} {
		for _, r := range server.Requests() {
			require.NotContains(t, string(r.Body), secretText, "texts are not sent unless the operator says so")
			require.NotContains(t, string(r.Body), llmtest.Key)
		}
	}
}

func TestTextsAreSentWhereTheOperatorSaysSo(t *testing.T) {
	b := newTraced(t, true)
	b.models.Next(llmtest.Answer("Fi", "ne."))
	r := llm.Request{Model: "claude-x", System: "Be brief.", Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Image: &llm.Image{MediaType: "image/png", Data: []byte("png")}}, {Text: "How <are> you?"}}}}}
	_, err := b.provider(t, llm.Anthropic).Stream(ofAnna(t.Context()), r, keep)
	require.NoError(t, err)
	long := llm.Request{Model: "claude-x", Messages: llm.Prompt(strings.Repeat("é", 100_000))}
	_, err = b.provider(t, llm.Anthropic).Generate(ofAnna(t.Context()), long)
	require.NoError(t, err)
	b.close()
	first, second := b.collector.Spans()[0], b.collector.Spans()[1]
	require.JSONEq(t, `[{"type": "text", "content": "Be brief."}]`, first.Text("gen_ai.system_instructions"))
	require.JSONEq(t, `[{"role": "user", "parts": [{"type": "image"}, {"type": "text", "content": "How <are> you?"}]}]`, first.Text("gen_ai.input.messages"))
	require.JSONEq(t, `[{"role": "assistant", "parts": [{"type": "text", "content": "Fine."}], "finish_reason": "end_turn"}]`, first.Text("gen_ai.output.messages"))
	require.Equal(t, true, first.Attributes["gen_ai.request.stream"])
	require.IsType(t, 0.1, first.Attributes["gen_ai.response.time_to_first_chunk"])
	require.Less(t, len(second.Text("gen_ai.input.messages")), 64<<10+100, "texts are cut")
	require.True(t, json.Valid([]byte(second.Text("gen_ai.input.messages"))))
	shown := b.langfuse.Spans()[0]
	require.JSONEq(t, `[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "[image]\nHow <are> you?"}]`, shown.Text("langfuse.observation.input"))
	require.Equal(t, "Fine.", shown.Text("langfuse.observation.output"))
	require.Empty(t, shown.Text("gen_ai.input.messages"), "once is enough")
	var at time.Time
	require.NoError(t, json.Unmarshal([]byte(shown.Text("langfuse.observation.completion_start_time")), &at))
	require.WithinDuration(t, time.Now(), at, time.Hour)
}

func TestAStreamThatIsGivenUpCountsWhatItCost(t *testing.T) {
	b := newTraced(t, true)
	for name, model := range both {
		b.models.Next(llmtest.Reply{Pieces: []string{"One", "two"}, Input: 40, Output: 9, Hold: true})
		ctx, cancel := context.WithCancel(ofAnna(t.Context()))
		heard := 0
		_, err := b.provider(t, name).Stream(ctx, llm.Request{Model: model, Messages: llm.Prompt("x")}, func(string) error {
			if heard++; heard == 2 {
				cancel()
			}
			return nil
		})
		require.ErrorIs(t, err, context.Canceled)
		cancel()
	}
	b.close()
	spans := b.langfuse.Spans()
	require.Len(t, spans, 2)
	for _, span := range spans {
		require.Equal(t, []any{"CANCELED", "WARNING", "CANCELED"}, []any{span.Failed, span.Attributes["langfuse.observation.level"], span.Attributes["error.type"]})
		if span.Attributes["gen_ai.provider.name"] == "anthropic" {
			require.Equal(t, int64(40), span.Attributes["gen_ai.usage.input_tokens"])
			require.Equal(t, "Onetwo", span.Text("langfuse.observation.output"))
		} else {
			require.Equal(t, "gcp.gemini", span.Attributes["gen_ai.provider.name"])
		}
	}
}

func TestAllAttemptsOfACallAreOneTrace(t *testing.T) {
	b := newTraced(t, false)
	b.models.Next(llmtest.Fail(529, "Overloaded: "+secretText), llmtest.Fail(500, "broken"), llmtest.Answer("ok"))
	policy := llm.DefaultPolicy()
	policy.Delay = func(int) time.Duration { return 0 }
	_, err := policy.Generate(ofAnna(t.Context()), time.Now(), b.provider(t, llm.Anthropic), llm.Request{Model: "claude-x", Messages: llm.Prompt("x")})
	require.NoError(t, err)
	b.models.Next(llmtest.Fail(400, "not about "+secretText))
	_, err = policy.Generate(t.Context(), time.Now(), b.provider(t, llm.Anthropic), llm.Request{Model: "claude-x", Messages: llm.Prompt("x")})
	require.Error(t, err)
	b.close()
	spans := b.langfuse.Spans()
	require.Len(t, spans, 6)
	work := spans[3]
	require.Equal(t, []any{"skill", "", "span", true}, []any{work.Name, work.ParentID, work.Attributes["langfuse.observation.type"], work.Attributes["langfuse.internal.as_root"]})
	for i, want := range []string{"SERVICE_UNAVAILABLE", "API_ERROR", ""} {
		require.Equal(t, []any{work.TraceID, work.SpanID, want, nil}, []any{spans[i].TraceID, spans[i].ParentID, spans[i].Failed, spans[i].Attributes["langfuse.internal.as_root"]})
	}
	require.Equal(t, []any{"model call", "BAD_REQUEST", "ERROR"}, []any{spans[5].Name, spans[5].Failed, spans[5].Attributes["langfuse.observation.level"]})
	for _, r := range append(b.langfuse.Requests(), b.collector.Requests()...) {
		require.NotContains(t, string(r.Body), secretText, "a provider's sentence may repeat the prompt")
	}
}

func TestWithoutPricesThereIsNoCost(t *testing.T) {
	b := newTraced(t, false)
	other, err := llm.New(b.models.Config())
	require.NoError(t, err)
	unpriced, err := other.For(llm.Anthropic)
	require.NoError(t, err)
	for _, p := range []llm.Provider{unpriced, b.provider(t, llm.Anthropic)} {
		_, err := p.Generate(t.Context(), llm.Request{Model: "claude-unknown", Messages: llm.Prompt("x")})
		require.NoError(t, err)
	}
	b.close()
	spans := b.collector.Spans()
	require.NotContains(t, spans[0].Attributes, "kijko.cost.input_microcents")
	require.Equal(t, int64(10*100), spans[1].Attributes["kijko.cost.input_microcents"], "an unknown model costs what the default one costs")
	require.NotContains(t, spans[1].Attributes, "user.id")
}

type panicking struct{ llm.Provider }

func (panicking) Generate(context.Context, llm.Request) (llm.Result, error) { panic(errors.New("x")) }

func TestAPanicEndsItsSpan(t *testing.T) {
	b := newTraced(t, false)
	require.Panics(t, func() {
		_, _ = llm.DefaultPolicy().Generate(t.Context(), time.Now(), panicking{}, llm.Request{Model: "claude-x", Messages: llm.Prompt("x")})
	})
	b.close()
	require.Len(t, b.collector.Spans(), 1)
}
