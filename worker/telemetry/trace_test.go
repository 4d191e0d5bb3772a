package telemetry

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"kijko/worker/telemetry/otlptest"
)

// begin traces to the given receivers until the test ends. The provider is global: these tests do not run in parallel.
func begin(t *testing.T, c Config) *Tracing {
	t.Helper()
	before := otel.GetTracerProvider()
	tracing, err := Start(t.Context(), c, "kijko-test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() {
		tracing.Close()
		otel.SetTracerProvider(before)
	})
	return tracing
}

func span(scope string, set ...attribute.KeyValue) {
	_, s := otel.Tracer(scope).Start(context.Background(), "work")
	s.SetAttributes(set...)
	s.End()
}

func TestNothingIsTracedWithoutAReceiver(t *testing.T) {
	tracing, err := Start(t.Context(), Config{}, "kijko-test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Nil(t, tracing)
	require.Empty(t, tracing.Receivers())
	tracing.Close()
}

func TestEachReceiverGetsItsSpansAndItsOwnKey(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer of-the-collector,X-Team=7")
	collector, langfuse := otlptest.New(t), otlptest.New(t)
	tracing := begin(t, Config{Collector: collector.URL, Version: "1.2.3", Langfuse: &Langfuse{URL: langfuse.URL + "/", PublicKey: "pk-lf-1", SecretKey: "sk-lf-1", Environment: "staging"}})
	span("kijko/server")
	span(ModelScope, attribute.String("gen_ai.operation.name", "chat"))
	tracing.Close()

	require.Len(t, collector.Spans(), 2)
	require.Len(t, langfuse.Spans(), 1)
	require.Equal(t, []Receiver{{Name: "collector", Sent: 2}, {Name: "langfuse", Sent: 1}}, tracing.Receivers())
	first := collector.Requests()[0]
	require.Equal(t, []string{"/v1/traces", "Bearer of-the-collector", "7"}, []string{first.Path, first.Header.Get("Authorization"), first.Header.Get("X-Team")})
	require.Equal(t, "kijko-test", first.Spans[0].Resource["service.name"])
	got := langfuse.Requests()[0]
	require.Equal(t, []string{"/api/public/otel/v1/traces", "Basic " + base64.StdEncoding.EncodeToString([]byte("pk-lf-1:sk-lf-1")), "4", ""},
		[]string{got.Path, got.Header.Get("Authorization"), got.Header.Get("X-Langfuse-Ingestion-Version"), got.Header.Get("X-Team")})
	require.Equal(t, []any{"generation", "staging", "1.2.3"},
		[]any{got.Spans[0].Attributes["langfuse.observation.type"], got.Spans[0].Attributes["langfuse.environment"], got.Spans[0].Attributes["langfuse.release"]})
	require.Empty(t, collector.Spans()[1].Text("langfuse.observation.type"), "the collector gets the standard's names only")
}

func TestLangfuseAloneTracesNoRequests(t *testing.T) {
	langfuse := otlptest.New(t)
	tracing := begin(t, Config{Langfuse: &Langfuse{URL: langfuse.URL, PublicKey: "pk", SecretKey: "sk"}})
	_, s := otel.Tracer("kijko/server").Start(context.Background(), "request")
	require.False(t, s.IsRecording(), "a request pays nothing")
	s.End()
	span(ModelScope)
	tracing.Close()
	require.Len(t, langfuse.Spans(), 1)
}

// The traced work only puts a span into a queue. While the receiver takes a request and answers nothing, the queue fills up, and then spans are
// dropped and counted. A stop does not wait for the receiver.
func TestAReceiverThatHangsCostsItsSpansOnly(t *testing.T) {
	receiver, good := otlptest.New(t), otlptest.New(t)
	receiver.Answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tracing := begin(t, Config{Collector: receiver.URL, Langfuse: &Langfuse{URL: good.URL, PublicKey: "pk", SecretKey: "sk"}, limit: time.Hour})
	tracing.flush = 50 * time.Millisecond
	const spans = maxWaiting + 500
	for range spans {
		span(ModelScope)
		if waiting := tracing.sinks[1].waiting.Load(); waiting > maxWaiting/2 {
			// The good receiver takes them meanwhile.
			require.NoError(t, tracing.sinks[1].ForceFlush(t.Context()))
		}
	}
	require.Equal(t, Receiver{Name: "collector", Dropped: 500}, tracing.Receivers()[0])
	require.NoError(t, tracing.sinks[1].ForceFlush(t.Context()))
	require.Equal(t, Receiver{Name: "langfuse", Sent: spans}, tracing.Receivers()[1], "the other receiver has all")
	tracing.Close()
	require.Eventually(t, func() bool { return tracing.sinks[0].waiting.Load() == 0 }, time.Minute, time.Millisecond, "nothing is left behind")
	require.EqualValues(t, maxWaiting, tracing.Receivers()[0].Refused)
}

func TestTextsThatWaitAreBounded(t *testing.T) {
	receiver := otlptest.New(t)
	receiver.Answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tracing := begin(t, Config{Collector: receiver.URL, limit: time.Hour})
	tracing.flush = 50 * time.Millisecond
	text := strings.Repeat("x", 1<<20)
	for range 40 {
		span(ModelScope, attribute.String("gen_ai.input.messages", text))
	}
	require.EqualValues(t, 40-maxWaitingBytes>>20+1, tracing.Receivers()[0].Dropped, "31 with their names fit into 32 MiB")
	require.LessOrEqual(t, tracing.sinks[0].bytes.Load(), int64(maxWaitingBytes))
}

func TestLargeSpansGoInSeveralRequests(t *testing.T) {
	receiver := otlptest.New(t)
	tracing := begin(t, Config{Collector: receiver.URL})
	text := strings.Repeat("x", 900<<10)
	for range 7 {
		span(ModelScope, attribute.String("gen_ai.input.messages", text))
	}
	span(ModelScope, attribute.String("gen_ai.input.messages", text+text+text))
	tracing.Close()
	require.Len(t, receiver.Spans(), 8)
	for _, r := range receiver.Requests() {
		require.True(t, len(r.Body) <= maxRequest+4096 || len(r.Spans) == 1, "%d bytes", len(r.Body))
	}
}

func TestReceiversThatRefuse(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		tries  int
	}{
		{"a wrong key", 401, 1},
		{"a request that is not understood", 400, 1},
		{"a fault of the server", 500, 1},
	} {
		receiver := otlptest.New(t)
		receiver.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(c.status) })
		var said bytes.Buffer
		before := otel.GetTracerProvider()
		tracing, err := Start(t.Context(), Config{Collector: receiver.URL}, "kijko-test", slog.New(slog.NewTextHandler(&said, nil)))
		require.NoError(t, err)
		span("kijko/server")
		require.NoError(t, tracing.sinks[0].ForceFlush(t.Context()))
		require.Equal(t, []Receiver{{Name: "collector", Refused: 1, Failing: true}}, tracing.Receivers(), c.name)
		require.Len(t, receiver.Requests(), c.tries, c.name)
		receiver.Answer(nil)
		span("kijko/server")
		tracing.Close()
		otel.SetTracerProvider(before)
		require.Equal(t, []Receiver{{Name: "collector", Refused: 1, Sent: 1}}, tracing.Receivers(), c.name)
		require.Equal(t, 1, strings.Count(said.String(), "spans could not be sent"), "%s: %s", c.name, &said)
	}
}

func TestADeadReceiverDoesNotFailAStop(t *testing.T) {
	tracing := begin(t, Config{Collector: "http://127.0.0.1:1"})
	tracing.flush = 50 * time.Millisecond
	span("kijko/server")
	tracing.Close()
	require.Zero(t, tracing.Receivers()[0].Sent)
}

// One text that is not UTF-8 would lose all spans of its request.
func TestBytesThatAreNoTextLoseNoSpan(t *testing.T) {
	receiver := otlptest.New(t)
	tracing := begin(t, Config{Collector: receiver.URL})
	span("kijko/server", attribute.String("a", "\xff"), attribute.StringSlice("b", []string{"x\xfe", "y"}), attribute.String("c", "z\x00"))
	span("kijko/server")
	_, s := otel.Tracer("kijko/server").Start(context.Background(), "odd\xff")
	s.End()
	tracing.Close()
	spans := receiver.Spans()
	require.Len(t, spans, 3)
	require.Equal(t, map[string]any{"a": "\uFFFD", "b": []any{"x\uFFFD", "y"}, "c": "z\x00"}, spans[0].Attributes)
	require.Equal(t, "odd\uFFFD", spans[2].Name)
}

func TestDollarsAreExact(t *testing.T) {
	for microcents, want := range map[int64]string{0: "0", 1: "0.00000001", 100_000_000: "1", 123_456_000: "1.23456", 210_000: "0.0021"} {
		require.Equal(t, want, dollars(microcents).String())
	}
}
