package embed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/llm"
)

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestWords(t *testing.T) {
	for text, want := range map[string]string{
		"parseURL(max_size)":     "parse url max size",
		"HTTPServer2 x":          "http server",
		"sha256Sum":              "sha 256 sum",
		"größe-über Straße":      "größe über straße",
		"a bb c":                 "bb",
		strings.Repeat("x", 100): "",
		"":                       "",
	} {
		var got []string
		words(text, func(w string) { got = append(got, w) })
		require.Equal(t, want, strings.Join(got, " "), text)
	}
}

func TestTheBuiltInEmbedder(t *testing.T) {
	e := New(Config{}).For("text-embedding-3-small")
	require.Equal(t, []any{"kijko-hash-256", 256}, []any{e.Model(), e.Dimensions()})
	v, err := e.Embed(context.Background(), []string{"func parseToken(text string) Token", "a parser of tokens reads text", "invoice VAT amount due", ""})
	require.NoError(t, err)
	require.InDelta(t, 1, dot(v[0], v[0]), 1e-6)
	require.Greater(t, dot(v[0], v[1]), dot(v[0], v[2])+0.2, "texts that share names are nearer than others")
	require.Equal(t, make([]float32, 256), v[3], "an empty text is near to nothing")
	again, _ := e.Embed(context.Background(), []string{"func parseToken(text string) Token"})
	require.Equal(t, v[0], again[0])
	// Stored vectors must stay comparable: these places may never move.
	var places []string
	for i, x := range again[0] {
		if x > 0.25 || x < -0.25 {
			places = append(places, fmt.Sprintf("%d:%.3f", i, x))
		}
	}
	require.Equal(t, []string{"105:-0.340", "129:0.340", "142:-0.340", "195:-0.340", "212:0.576"}, places)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = e.Embed(gone, []string{"x"})
	require.ErrorIs(t, err, context.Canceled)
}

// vectors answers with a vector of n dimensions for each text, the last text first.
func vectors(n int, texts []string) map[string]any {
	var data []map[string]any
	for i, text := range texts {
		v := make([]float64, n)
		v[len(text)%n] = 3
		data = append(data, map[string]any{"object": "embedding", "index": i, "embedding": v})
	}
	slices.Reverse(data)
	return map[string]any{"object": "list", "data": data, "model": "m", "usage": map[string]int{"prompt_tokens": 1, "total_tokens": 1}}
}

func TestAProvider(t *testing.T) {
	var reply func(w http.ResponseWriter, texts []string)
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		require.Equal(t, "POST /v1/embeddings", r.Method+" "+r.URL.Path)
		require.Equal(t, "Bearer sk-secret", r.Header.Get("Authorization"))
		var body struct {
			Model  string   `json:"model"`
			Input  []string `json:"input"`
			Format string   `json:"encoding_format"`
		}
		require.NoError(t, json.NewDecoder(r.Body).Decode(&body))
		require.Equal(t, []string{"text-embedding-3-large", "float"}, []string{body.Model, body.Format})
		reply(w, body.Input)
	}))
	defer server.Close()
	e := New(Config{URL: server.URL + "/v1/", Key: "sk-secret"}).For("text-embedding-3-large")
	require.Equal(t, []any{"text-embedding-3-large", 3072}, []any{e.Model(), e.Dimensions()})
	ctx := context.Background()

	reply = func(w http.ResponseWriter, texts []string) { _ = json.NewEncoder(w).Encode(vectors(3072, texts)) }
	texts := make([]string, MaxTexts+2)
	for i := range texts {
		texts[i] = strings.Repeat("x", i)
	}
	got, err := e.Embed(ctx, texts)
	require.NoError(t, err)
	require.Equal(t, 2, requests)
	for i, v := range got {
		require.Equal(t, float32(1), v[i], "vectors come in the order of the texts and have length 1")
	}

	for _, c := range []struct {
		name   string
		reply  func(w http.ResponseWriter, texts []string)
		code   llm.Code
		says   string
		repeat bool
	}{
		{"a wrong key", fail(401, `{"error": {"message": "Incorrect API key provided: sk-secret"}}`), llm.InvalidAPIKey, "refuses the API key", false},
		{"too many requests", fail(429, `{"error": {"message": "slow down"}}`), llm.RateLimited, "says: slow down", true},
		{"a bad request", fail(400, `{"error": {"message": "sk-secret\n is long"}}`), llm.BadRequest, "says: [key] is long", false},
		{"a broken server", fail(500, `<html>`), llm.APIError, "status 500", true},
		{"an overloaded server", fail(503, ``), llm.ServiceUnavailable, "status 503", true},
		{"a redirect", fail(302, ``), llm.APIError, "status 302", false},
		{"no JSON", fail(200, `<html>`), llm.APIError, "no set of embeddings", false},
		{"other dimensions", func(w http.ResponseWriter, texts []string) { _ = json.NewEncoder(w).Encode(vectors(5, texts)) }, llm.APIError, "no set of embeddings", false},
		{"too few vectors", func(w http.ResponseWriter, texts []string) { _ = json.NewEncoder(w).Encode(vectors(3072, texts[1:])) }, llm.APIError, "no set of embeddings", false},
		{"a broken connection", func(http.ResponseWriter, []string) { panic(http.ErrAbortHandler) }, llm.NetworkError, "cannot be reached", true},
	} {
		reply = c.reply
		_, err := e.Embed(ctx, []string{"a", "b"})
		var failure *llm.Error
		require.ErrorAs(t, err, &failure, c.name)
		require.Equal(t, c.code, failure.Code, c.name)
		require.Contains(t, failure.Message, c.says, c.name)
		require.NotContains(t, err.Error(), "sk-secret", c.name)
		require.Equal(t, c.repeat, failure.Retryable(), c.name)
	}
}

func fail(status int, body string) func(http.ResponseWriter, []string) {
	return func(w http.ResponseWriter, _ []string) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}
