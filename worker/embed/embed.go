// Package embed makes vectors of texts: with a provider that has the embeddings operation of OpenAI, or with the built-in embedder, which
// needs no provider (contract 60, 10.3).
//
// All vectors have length 1, so that the inner product of two of them is their cosine. An Embedder is safe for concurrent use and starts no
// goroutine that outlives a call.
package embed

import (
	"context"
	"math"
	"net/http"
)

// Embedder makes vectors of texts.
type Embedder interface {
	// Model is the name of the model that really makes the vectors.
	Model() string
	// Dimensions is the length of its vectors.
	Dimensions() int
	// Embed returns one vector for each text, in order. An error is an *llm.Error, or that of ctx.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
}

// Config configures the provider. Without a Key there is none.
type Config struct {
	// URL is the base of the provider's API, such as https://api.openai.com/v1.
	URL, Key string
	// Client is used instead of one of the package's own. It must not follow redirects, because they would take the key to another host.
	Client *http.Client
}

// dimensions of the models that a context can be configured with.
var dimensions = map[string]int{"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}

// Set is what an installation can embed with.
type Set struct{ provider *provider }

// New makes a Set. It makes no connection.
func New(c Config) *Set {
	if c.Key == "" {
		return &Set{}
	}
	return &Set{provider: newProvider(c)}
}

// HasProvider reports whether a provider is configured. Without one all vectors are those of the built-in embedder.
func (s *Set) HasProvider() bool { return s.provider != nil }

// For returns the embedder for a configured model: the provider's, or the built-in one where no provider is configured.
func (s *Set) For(model string) Embedder {
	if n := dimensions[model]; n > 0 && s.provider != nil {
		return &remote{provider: s.provider, model: model, dimensions: n}
	}
	return Hash{}
}

// normalize gives a vector length 1, unless it is zero.
func normalize(v []float32) {
	sum := 0.
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return
	}
	scale := 1 / math.Sqrt(sum)
	for i := range v {
		v[i] = float32(float64(v[i]) * scale)
	}
}
