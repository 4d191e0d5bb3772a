package telemetry

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/semconv/v1.26.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
	"go.opentelemetry.io/otel/trace/noop"
)

// ModelScope is the scope of the spans of model calls. Only these go to Langfuse.
const ModelScope = "kijko/worker/llm"

// flushLimit bounds how long a stop waits for the remaining spans.
const flushLimit = 5 * time.Second

// Config names the receivers of spans; without one nothing is traced.
type Config struct {
	// Collector is an OpenTelemetry collector (OTLP over HTTP), which gets all spans; empty: none.
	Collector string
	// Langfuse gets the spans of model calls; nil: none does.
	Langfuse *Langfuse
	Version  string
	// limit replaces exportLimit in tests.
	limit time.Duration
}

// Langfuse is a project at a server of Langfuse.
type Langfuse struct {
	URL, PublicKey, SecretKey string
	// Environment is shown with each trace; empty: Langfuse's own default.
	Environment string
}

// Tracing sends spans. The nil one sends none.
type Tracing struct {
	provider *sdk.TracerProvider
	sinks    []*sink
	flush    time.Duration
}

// Start begins to trace; the service is this program. Nothing that a receiver does can fail or delay the traced work: see sink.
func Start(ctx context.Context, c Config, service string, log *slog.Logger) (*Tracing, error) {
	if c.Collector == "" && c.Langfuse == nil {
		return nil, nil
	}
	t := &Tracing{flush: flushLimit}
	limit := cmp.Or(c.limit, exportLimit)
	add := func(name string, keep func(sdk.ReadOnlySpan) bool, change func(sdk.ReadOnlySpan) sdk.ReadOnlySpan, options ...otlptracehttp.Option) error {
		exporter, err := otlptracehttp.New(ctx, append(options, otlptracehttp.WithTimeout(limit), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: 4 * time.Second, MaxElapsedTime: limit}))...)
		if err == nil {
			t.sinks = append(t.sinks, newSink(name, exporter, keep, change, limit, log))
		}
		return err
	}
	if c.Collector != "" {
		if err := add("collector", nil, nil, otlptracehttp.WithEndpointURL(strings.TrimRight(c.Collector, "/")+"/v1/traces")); err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
		}
	}
	if l := c.Langfuse; l != nil {
		// The headers replace those of OTEL_EXPORTER_OTLP_HEADERS, which may hold the key of another collector.
		err := add("langfuse", ofModels, langfuseOf(l.Environment, c.Version), otlptracehttp.WithEndpointURL(strings.TrimRight(l.URL, "/")+"/api/public/otel/v1/traces"),
			otlptracehttp.WithCompression(otlptracehttp.GzipCompression), otlptracehttp.WithHeaders(map[string]string{
				"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(l.PublicKey+":"+l.SecretKey)), "x-langfuse-ingestion-version": "4"}))
		if err != nil {
			return nil, fmt.Errorf("LANGFUSE_BASE_URL: %w", err)
		}
	}
	options := []sdk.TracerProviderOption{sdk.WithResource(resource.NewSchemaless(semconv.ServiceName(service), semconv.ServiceVersion(c.Version)))}
	for _, s := range t.sinks {
		options = append(options, sdk.WithSpanProcessor(s))
	}
	t.provider = sdk.NewTracerProvider(options...)
	if c.Collector == "" {
		// Requests and statements are not traced for Langfuse, which would not get their spans.
		otel.SetTracerProvider(onlyModels{real: t.provider})
	} else {
		otel.SetTracerProvider(t.provider)
	}
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return t, nil
}

// Close sends the remaining spans to all receivers at once, for at most some seconds. A receiver that is away is no failure of the program.
func (t *Tracing) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.flush)
	defer cancel()
	var group sync.WaitGroup
	for _, s := range t.sinks {
		group.Go(func() { s.close(ctx) })
	}
	group.Wait()
	_ = t.provider.Shutdown(ctx) // the processors are closed already
}

// Receiver tells what became of the spans for one receiver.
type Receiver struct {
	Name string
	// Sent have been accepted; Dropped found the queue full; Refused were not accepted.
	Sent, Dropped, Refused uint64
	// Failing: the newest attempt to send was in vain.
	Failing bool
}

// Receivers returns the state of each receiver.
func (t *Tracing) Receivers() (all []Receiver) {
	if t == nil {
		return nil
	}
	for _, s := range t.sinks {
		all = append(all, s.state())
	}
	return all
}

// onlyModels makes spans of model calls only.
type onlyModels struct {
	embedded.TracerProvider
	real trace.TracerProvider
}

func (o onlyModels) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	if name != ModelScope {
		return noop.NewTracerProvider().Tracer(name, options...)
	}
	return o.real.Tracer(name, options...)
}

func ofModels(span sdk.ReadOnlySpan) bool { return span.InstrumentationScope().Name == ModelScope }
