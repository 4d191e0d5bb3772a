package api_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestSpansSayHowRequestsEnd(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	b := setup(t, nil)
	for _, c := range []struct {
		method, path string
		status       int64
		code         codes.Code
	}{
		{"GET", "/echo/x", 200, codes.Unset}, {"POST", "/echo/x", 201, codes.Unset}, {"GET", "/echo/x?page=0", 400, codes.Unset},
		{"GET", "/refuse", 409, codes.Unset}, {"POST", "/broken", 500, codes.Error},
	} {
		seen := len(spans.Ended())
		require.EqualValues(t, c.status, b.do(t, c.method, "/api/v1"+c.path, "").status)
		require.Eventually(t, func() bool { return len(spans.Ended()) > seen }, 5*time.Second, time.Millisecond)
		span := spans.Ended()[seen]
		require.Equal(t, c.code, span.Status().Code, c.path)
		said := map[string]any{}
		for _, a := range span.Attributes() {
			said[string(a.Key)] = a.Value.AsInterface()
		}
		require.Equal(t, c.status, said["http.response.status_code"], c.path)
	}
}
