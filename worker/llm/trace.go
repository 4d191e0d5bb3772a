package llm

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

var tracer = otel.Tracer("kijko/worker/llm")

// traced writes a span for each request: the provider, the result and the token counts. The text is never recorded.
type traced struct {
	name string
	next Provider
}

func (t traced) Generate(ctx context.Context, r Request) (Result, error) {
	ctx, span := t.start(ctx, r)
	result, err := t.next.Generate(ctx, r)
	return end(span, result, err)
}

func (t traced) Stream(ctx context.Context, r Request, emit func(string) error) (Result, error) {
	ctx, span := t.start(ctx, r)
	result, err := t.next.Stream(ctx, r, emit)
	return end(span, result, err)
}

func (t traced) start(ctx context.Context, r Request) (context.Context, trace.Span) {
	return tracer.Start(ctx, "chat "+r.Model, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("gen_ai.operation.name", "chat"), attribute.String("gen_ai.provider.name", t.name),
		attribute.String("gen_ai.request.model", r.Model), attribute.Int("gen_ai.request.max_tokens", r.maxTokens())))
}

func end(span trace.Span, result Result, err error) (Result, error) {
	defer span.End()
	if err == nil {
		span.SetAttributes(attribute.String("gen_ai.response.model", result.Model), attribute.Int64("gen_ai.usage.input_tokens", result.Usage.Input),
			attribute.Int64("gen_ai.usage.output_tokens", result.Usage.Output))
		return result, nil
	}
	code := string(UnknownError)
	if e, ok := AsError(err); ok {
		code = string(e.Code)
		if e.Usage != nil {
			result.Usage = *e.Usage
		}
	}
	if result.Usage != (Usage{}) {
		span.SetAttributes(attribute.Int64("gen_ai.usage.input_tokens", result.Usage.Input), attribute.Int64("gen_ai.usage.output_tokens", result.Usage.Output))
	}
	span.SetAttributes(attribute.String("error.type", code))
	span.SetStatus(codes.Error, code)
	return result, err
}
