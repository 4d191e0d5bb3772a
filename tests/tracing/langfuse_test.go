package tracing

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
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

// sent is the form of what a sender sends to Langfuse: not the values, which differ.
type sent struct {
	Path string `json:"path"`
	// Headers are names; of those that are compared, their values too.
	Headers map[string]string `json:"headers"`
	// Attributes are the kinds of values, by name of the span's observation type and name of the attribute.
	Attributes map[string]map[string]string `json:"attributes"`
}

// formOf tells the form of all requests that a receiver got.
func formOf(s *otlptest.Server) sent {
	form := sent{Headers: map[string]string{}, Attributes: map[string]map[string]string{}}
	for _, r := range s.Requests() {
		form.Path = r.Path
		for _, name := range []string{"Authorization", "X-Langfuse-Ingestion-Version", "Content-Type"} {
			form.Headers[name] = r.Header.Get(name)
		}
		for _, span := range r.Spans {
			kinds := form.Attributes[span.Text("langfuse.observation.type")]
			if kinds == nil {
				kinds = map[string]string{}
				form.Attributes[span.Text("langfuse.observation.type")] = kinds
			}
			for key, value := range span.Attributes {
				kinds[key] = kindOf(value)
			}
		}
	}
	return form
}

// kindOf names the type of a value; a text that is JSON of an object, a list or a text says so, because the server reads it as such.
func kindOf(value any) string {
	text, ok := value.(string)
	if !ok {
		return fmt.Sprintf("%T", value)
	}
	var inner any
	if json.Unmarshal([]byte(text), &inner) == nil {
		switch inner.(type) {
		case map[string]any:
			return "JSON object"
		case []any:
			return "JSON list"
		case string:
			return "JSON text"
		}
	}
	return "string"
}

// recorded is what Langfuse's SDK sent when -peers last ran.
const recorded = "testdata/langfuse-5.0.4.json"

func readRecorded(t *testing.T) (form sent) {
	t.Helper()
	raw, err := os.ReadFile(recorded)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &form))
	return form
}

// send makes the calls that the SDK's sample tells of, with texts.
func send(t *testing.T) *otlptest.Server {
	t.Helper()
	receiver, models := otlptest.New(t), llmtest.New(t)
	before := otel.GetTracerProvider()
	tracing, err := telemetry.Start(t.Context(), telemetry.Config{Version: "1.2.3", Langfuse: &telemetry.Langfuse{URL: receiver.URL, PublicKey: "pk-lf-1", SecretKey: "sk-lf-1",
		Environment: "staging"}}, "kijko-test", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer otel.SetTracerProvider(before)
	c := models.Config()
	c.Texts = true
	set, err := llm.New(c)
	require.NoError(t, err)
	set.Prices().Set(map[string]llm.Price{"claude-x": {InputCents: 300, OutputCents: 1500}})
	p, err := set.For(llm.Anthropic)
	require.NoError(t, err)
	ctx := llm.WithTrace(t.Context(), llm.Trace{Name: "skill", UserID: "anna", OrganizationID: "engines", SessionID: "run-1"})
	temperature, tokens := 0.5, 100
	r := llm.Request{Model: "claude-x", System: "Be brief.", Messages: llm.Prompt("Hello"), Parameters: llm.Parameters{Temperature: &temperature, MaxTokens: &tokens}}
	models.Next(llmtest.Answer("Fine."), llmtest.Fail(400, "no"))
	_, err = llm.DefaultPolicy().Stream(ctx, time.Now(), p, r, func(string) error { return nil })
	require.NoError(t, err)
	_, err = llm.DefaultPolicy().Stream(ctx, time.Now(), p, r, func(string) error { return nil })
	require.Error(t, err)
	tracing.Close()
	return receiver
}

// Langfuse's server does not run here. What its own SDK sends to the same receiver was recorded: we send to the same place, with the same
// headers, and each attribute that we send by a name of Langfuse's has the kind of value that the SDK gives it.
func TestLangfuseGetsWhatItsOwnSDKSends(t *testing.T) {
	want, have := readRecorded(t), formOf(send(t))
	require.Equal(t, want.Path, have.Path)
	require.Equal(t, want.Headers, have.Headers)
	known := map[string]string{}
	for _, kinds := range want.Attributes {
		maps.Copy(known, kinds)
	}
	for kind, attributes := range have.Attributes {
		require.Contains(t, want.Attributes, kind)
		for key, value := range attributes {
			if !strings.HasPrefix(key, "langfuse.") && key != "user.id" && key != "session.id" {
				continue
			}
			switch key {
			case "langfuse.internal.as_root", "langfuse.trace.metadata.organization_id":
				continue // docs/peers/langfuse.md says why
			}
			require.Equal(t, known[key], value, "%s of a %s", key, kind)
		}
	}
	// And nothing that the SDK says of a generation is missing, but for what only it knows.
	var missing []string
	for key := range want.Attributes["generation"] {
		if _, ok := have.Attributes["generation"][key]; !ok && !slices.Contains([]string{"langfuse.internal.is_app_root"}, key) {
			missing = append(missing, key)
		}
	}
	require.Empty(t, missing)
}
