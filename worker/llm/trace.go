package llm

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"kijko/worker/telemetry"
)

// Trace says for whom and for what a model is called.
type Trace struct {
	// Name is the work, such as "skill" or "summary".
	Name                   string
	UserID, OrganizationID string
	// SessionID joins the calls of one run or one conversation.
	SessionID string
}

type traceKey struct{}

// WithTrace adds a Trace to the spans of the calls that are made with the context.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

type insideKey struct{}

// startSpan starts a span with the Trace of the context.
func startSpan(ctx context.Context, name string, kind trace.SpanKind, set ...attribute.KeyValue) (context.Context, trace.Span) {
	t, _ := ctx.Value(traceKey{}).(Trace)
	for key, value := range map[attribute.Key]string{telemetry.WorkKey: t.Name, "user.id": t.UserID, telemetry.OrganizationKey: t.OrganizationID,
		"session.id": t.SessionID, "gen_ai.conversation.id": t.SessionID} {
		if value != "" {
			set = append(set, key.String(value))
		}
	}
	if ctx.Value(insideKey{}) == nil {
		set = append(set, telemetry.OutermostKey.Bool(true))
		ctx = context.WithValue(ctx, insideKey{}, true)
	}
	return otel.Tracer(telemetry.ModelScope).Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(set...))
}

// startWork starts the span around all attempts of a call.
func startWork(ctx context.Context) (context.Context, trace.Span) {
	name := "model call"
	if t, _ := ctx.Value(traceKey{}).(Trace); t.Name != "" {
		name = t.Name
	}
	return startSpan(ctx, name, trace.SpanKindInternal)
}

func endWork(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, errorType(err))
	}
	span.End()
}

// errorType is the low-cardinality name of a failure.
func errorType(err error) string {
	if errors.Is(err, context.Canceled) {
		return telemetry.CanceledType
	}
	if e, ok := AsError(err); ok {
		return string(e.Code)
	}
	return string(UnknownError)
}

// errPanicked is the error of a span whose call panics.
var errPanicked = errors.New("llm: the provider's client panicked")

// systems are the providers' names in the semantic conventions, where they differ from ours.
var systems = map[string]string{Google: "gcp.gemini"}

// traced makes a span of each request: for whom, the provider, the result, tokens and cost. Texts are recorded only where texts is set. No key
// is ever recorded, and no message of a provider, which may repeat the text.
type traced struct {
	name   string
	next   Provider
	prices *Prices
	texts  bool
}

func (t traced) Generate(ctx context.Context, r Request) (result Result, err error) {
	ctx, c := t.begin(ctx, r, false)
	err = errPanicked
	defer func() { c.end(result, err) }()
	return t.next.Generate(ctx, r)
}

func (t traced) Stream(ctx context.Context, r Request, emit func(string) error) (result Result, err error) {
	ctx, c := t.begin(ctx, r, true)
	err = errPanicked
	defer func() { c.end(result, err) }()
	return t.next.Stream(ctx, r, c.hear(emit))
}

// call is the span of one request.
type call struct {
	traced
	span  trace.Span
	began time.Time
	model string
	// first is when the first piece of a stream came; heard is the beginning of its text, where texts are recorded.
	first time.Time
	heard []byte
}

func (t traced) begin(ctx context.Context, r Request, stream bool) (context.Context, *call) {
	set := []attribute.KeyValue{attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", or(systems[t.name], t.name)),
		attribute.String("gen_ai.request.model", r.Model), attribute.Int("gen_ai.request.max_tokens", r.maxTokens())}
	ctx, span := startSpan(ctx, "chat "+r.Model, trace.SpanKindClient, set...)
	c := &call{traced: t, span: span, began: time.Now(), model: r.Model}
	if !span.IsRecording() {
		return ctx, c
	}
	if stream {
		span.SetAttributes(attribute.Bool("gen_ai.request.stream", true))
	}
	if !r.WithoutSampling {
		if r.Temperature != nil {
			span.SetAttributes(attribute.Float64("gen_ai.request.temperature", *r.Temperature))
		}
		if r.TopP != nil {
			span.SetAttributes(attribute.Float64("gen_ai.request.top_p", *r.TopP))
		}
		if r.TopK != nil {
			span.SetAttributes(attribute.Int("gen_ai.request.top_k", *r.TopK))
		}
	}
	if len(r.StopSequences) > 0 && t.texts {
		span.SetAttributes(attribute.StringSlice("gen_ai.request.stop_sequences", r.StopSequences))
	}
	if t.texts {
		span.SetAttributes(asked(r)...)
	}
	return ctx, c
}

// hear notes when the first piece comes, and the text.
func (c *call) hear(emit func(string) error) func(string) error {
	if !c.span.IsRecording() {
		return emit
	}
	return func(piece string) error {
		if c.first.IsZero() {
			c.first = time.Now()
		}
		if c.texts && len(c.heard) < maxTraced {
			c.heard = append(c.heard, piece...)
		}
		return emit(piece)
	}
}

func (c *call) end(result Result, err error) {
	defer c.span.End()
	if !c.span.IsRecording() {
		return
	}
	e, known := AsError(err)
	if known && e.Usage != nil {
		result.Usage = *e.Usage
	}
	var set []attribute.KeyValue
	text := func(key attribute.Key, value string) {
		if value != "" {
			set = append(set, key.String(value))
		}
	}
	count := func(key attribute.Key, n int64) {
		if n > 0 {
			set = append(set, key.Int64(n))
		}
	}
	text("gen_ai.response.id", result.ID)
	text("gen_ai.response.model", result.Model)
	if result.StopReason != "" {
		set = append(set, attribute.StringSlice("gen_ai.response.finish_reasons", []string{result.StopReason}))
	}
	if u := result.Usage; err == nil || u != (Usage{}) {
		set = append(set, attribute.Int64("gen_ai.usage.input_tokens", u.Input), attribute.Int64("gen_ai.usage.output_tokens", u.Output))
		if input, output, ok := c.prices.cost(c.model, u); ok {
			set = append(set, telemetry.InputCostKey.Int64(input), telemetry.OutputCostKey.Int64(output))
		}
	}
	count("gen_ai.usage.cache_read.input_tokens", result.Details.CacheRead)
	count("gen_ai.usage.cache_creation.input_tokens", result.Details.CacheWritten)
	count("gen_ai.usage.reasoning.output_tokens", result.Details.Reasoning)
	if !c.first.IsZero() {
		set = append(set, attribute.Float64("gen_ai.response.time_to_first_chunk", c.first.Sub(c.began).Seconds()))
	}
	if c.texts {
		text("gen_ai.output.messages", answered(or(result.Text, string(c.heard)), result.StopReason))
	}
	if err != nil {
		if known {
			count("http.response.status_code", int64(e.Status))
		}
		text("error.type", errorType(err))
		c.span.SetStatus(codes.Error, errorType(err))
	}
	c.span.SetAttributes(set...)
}

// maxTraced bounds the bytes of the texts of a request, and of those of an answer, in a span.
const maxTraced = 64 << 10

// turn and piece are the form of texts in the semantic conventions.
type turn struct {
	Role         string  `json:"role"`
	Parts        []piece `json:"parts"`
	FinishReason string  `json:"finish_reason,omitempty"`
}

type piece struct {
	Type    string `json:"type"`
	Content string `json:"content,omitempty"`
}

// asked are the texts of a request; what exceeds the bound is cut off. Images are only mentioned.
func asked(r Request) (set []attribute.KeyValue) {
	left := maxTraced
	cut := func(text string) string {
		text = clip(text, left)
		left -= len(text)
		return text
	}
	if r.System != "" {
		set = append(set, attribute.String("gen_ai.system_instructions", encode([]piece{{Type: "text", Content: cut(r.System)}})))
	}
	turns := make([]turn, 0, len(r.Messages))
	for _, m := range r.Messages {
		t := turn{Role: string(m.Role)}
		for _, p := range m.Parts {
			if p.Image != nil {
				t.Parts = append(t.Parts, piece{Type: "image"})
				continue
			}
			t.Parts = append(t.Parts, piece{Type: "text", Content: cut(p.Text)})
		}
		turns = append(turns, t)
	}
	return append(set, attribute.String("gen_ai.input.messages", encode(turns)))
}

// answered is the text of an answer, also of one that broke off.
func answered(text, stop string) string {
	if text == "" {
		return ""
	}
	return encode([]turn{{Role: string(Assistant), Parts: []piece{{Type: "text", Content: clip(text, maxTraced)}}, FinishReason: stop}})
}

func encode(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(raw)
}

// clip cuts a text to at most n bytes, between two runes.
func clip(text string, n int) string {
	if len(text) > n {
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
