package embed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"kijko/worker/exactjson"
	"kijko/worker/llm"
)

// Bounds of one request: the provider refuses more than 2,048 texts or 300,000 tokens, and this leaves room for its other way of counting.
const (
	MaxTexts  = 128
	MaxTokens = 100_000
)

// provider is the embeddings operation of OpenAI, which many other servers have too. It is one POST; OpenAI's own library would have moved
// eight other modules and brought a second implementation of WebSockets for it.
type provider struct {
	url, key string
	client   *http.Client
}

// maxAnswer is some three times the size of the largest expected answer.
const maxAnswer = 64 << 20

func newProvider(c Config) *provider {
	p := &provider{url: strings.TrimSuffix(c.URL, "/") + "/embeddings", key: c.Key, client: c.Client}
	if p.client == nil {
		p.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return p
}

type remote struct {
	*provider
	model      string
	dimensions int
}

func (r *remote) Model() string   { return r.model }
func (r *remote) Dimensions() int { return r.dimensions }

// Embed makes one request for each MaxTexts texts.
func (r *remote) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, 0, len(texts))
	for len(texts) > 0 {
		n := min(len(texts), MaxTexts)
		vectors, err := r.ask(ctx, texts[:n])
		if err != nil {
			return nil, err
		}
		out, texts = append(out, vectors...), texts[n:]
	}
	return out, nil
}

type answer struct {
	Data []struct {
		Index     int       `json:"index"`
		Embedding []float32 `json:"embedding"`
	} `json:"data"`
}

func (r *remote) ask(ctx context.Context, texts []string) ([][]float32, error) {
	body, err := json.Marshal(map[string]any{"model": r.model, "input": texts, "encoding_format": "float"})
	if err != nil {
		return nil, fmt.Errorf("embed: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("embed: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+r.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, r.refused(response)
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, r.failed(ctx, err)
	}
	var a answer
	if err := exactjson.Unmarshal(raw, &a); err != nil {
		return nil, misunderstood()
	}
	vectors := make([][]float32, len(texts))
	for _, d := range a.Data {
		if d.Index < 0 || d.Index >= len(texts) || len(d.Embedding) != r.dimensions || vectors[d.Index] != nil {
			return nil, misunderstood()
		}
		normalize(d.Embedding)
		vectors[d.Index] = d.Embedding
	}
	if len(a.Data) != len(texts) {
		return nil, misunderstood()
	}
	return vectors, nil
}

func misunderstood() error {
	return &llm.Error{Code: llm.APIError, Message: "The embedding provider sent an answer that is no set of embeddings."}
}

func (r *remote) failed(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		return &llm.Error{Code: llm.Timeout, Message: "The embedding provider did not answer in time."}
	}
	return &llm.Error{Code: llm.NetworkError, Message: "The embedding provider cannot be reached."}
}

// maxMessage bounds the provider's own sentence.
const maxMessage = 500

// refused translates an error answer. The provider's sentence is shown, without the key should it repeat it.
func (r *remote) refused(response *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // an error that breaks off counts as that error
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	e := &llm.Error{Status: response.StatusCode, Message: fmt.Sprintf("The embedding provider answered with status %d.", response.StatusCode)}
	if exactjson.Unmarshal(raw, &said) == nil && said.Error.Message != "" {
		text := strings.Join(strings.Fields(strings.ReplaceAll(strings.ToValidUTF8(said.Error.Message, ""), r.key, "[key]")), " ")
		e.Message = "The embedding provider says: " + text[:min(len(text), maxMessage)]
		e.Message = strings.ToValidUTF8(e.Message, "")
	}
	switch response.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Code, e.Message = llm.InvalidAPIKey, "The embedding provider refuses the API key. Please check the configuration."
	case http.StatusTooManyRequests:
		e.Code, e.RetryAfter = llm.RateLimited, retryAfter(response.Header.Get("Retry-After"))
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		e.Code = llm.BadRequest
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.Code = llm.ServiceUnavailable
	default:
		e.Code = llm.APIError
	}
	return e
}

func retryAfter(header string) time.Duration {
	if d, err := time.ParseDuration(header + "s"); err == nil && d > 0 && d < time.Hour {
		return d
	}
	return 0
}
