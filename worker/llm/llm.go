package llm

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"kijko/worker/exactjson"
)

// The providers by name, as the database knows them (db/code/models).
const (
	Anthropic = "anthropic"
	Google    = "google"
	Local     = "local"
)

// DefaultMaxTokens is how many tokens a request without max_tokens may produce.
const DefaultMaxTokens = 4096

// Role is the author of a turn.
type Role string

// The two roles of a conversation.
const (
	User      Role = "user"
	Assistant Role = "assistant"
)

// Request is a request to a model.
type Request struct {
	// Model is the id that the provider is called with (private.resolve_model, `called`).
	Model    string
	System   string
	Messages []Message
	Parameters
	// WithoutSampling leaves temperature, top_p and top_k out, because the model refuses them (private.takes_sampling).
	WithoutSampling bool
	// Key pays for the request; empty means the installation's own key.
	Key string
}

// Message is one turn.
type Message struct {
	Role  Role
	Parts []Part
}

// Part is text, or an image where Image is not nil.
type Part struct {
	Text  string
	Image *Image
}

// Image is an image for the model.
type Image struct {
	// MediaType is image/png, image/jpeg, image/gif or image/webp.
	MediaType string
	Data      []byte
}

// Prompt is the usual conversation: one turn of the user.
func Prompt(text string) []Message { return []Message{{Role: User, Parts: []Part{{Text: text}}}} }

// Parameters are those of contract 20, section 1.2, by the same names. A missing parameter means the provider's default.
type Parameters struct {
	Temperature   *float64 `json:"temperature,omitempty"`
	MaxTokens     *int     `json:"max_tokens,omitempty"`
	TopP          *float64 `json:"top_p,omitempty"`
	TopK          *int     `json:"top_k,omitempty"`
	StopSequences []string `json:"stop_sequences,omitempty"`
}

// UnmarshalJSON accepts whole numbers in every JSON spelling: 40, 40.0 and 4e1 are the same, for the schema and for Postgres as well.
func (p *Parameters) UnmarshalJSON(data []byte) error {
	type plain Parameters
	numbers := struct {
		*plain
		MaxTokens *float64 `json:"max_tokens"`
		TopK      *float64 `json:"top_k"`
	}{plain: (*plain)(p)}
	if err := exactjson.Unmarshal(data, &numbers); err != nil {
		return err
	}
	for whole, n := range map[**int]*float64{&p.MaxTokens: numbers.MaxTokens, &p.TopK: numbers.TopK} {
		if n != nil {
			*whole = new(int(max(0, min(*n, math.MaxInt32))))
		}
	}
	return nil
}

func (p Parameters) maxTokens() int {
	if p.MaxTokens != nil {
		return *p.MaxTokens
	}
	return DefaultMaxTokens
}

// Usage is the token count of the provider.
type Usage struct {
	Input  int64
	Output int64
}

// maxCount is more than any model reads or writes at once. The sum of two such counts fits into the database column.
const maxCount = 1 << 30

// count limits a number that a provider claims to a sane range.
func count[N int32 | int64](n N) int64 { return min(max(int64(n), 0), maxCount) }

func (u Usage) bounded() Usage { return Usage{min(u.Input, maxCount-1), min(u.Output, maxCount-1)} }

// grow merges later numbers of one answer. Numbers only ever grow, and a number missing from a later count was in an earlier one.
func (u *Usage) grow(to Usage) {
	u.Input, u.Output = max(u.Input, to.Input), max(u.Output, to.Output)
}

// Result is an answer.
type Result struct {
	// ID is the provider's own name of the answer.
	ID string
	// Text is the whole text; for a stream it is the concatenation of the passed-on pieces.
	Text string
	// StopReason is end_turn, max_tokens, stop_sequence or a word of the provider's own.
	StopReason string
	// Model is the model that answered, by the provider's name.
	Model string
	Usage Usage
	// Details are parts of the usage, where the provider names them.
	Details Details
}

// Details are tokens that Usage includes: read from the provider's cache, written to it, and spent on thinking.
type Details struct{ CacheRead, CacheWritten, Reasoning int64 }

func (d *Details) grow(to Details) {
	d.CacheRead, d.CacheWritten, d.Reasoning = max(d.CacheRead, to.CacheRead), max(d.CacheWritten, to.CacheWritten), max(d.Reasoning, to.Reasoning)
}

// Provider answers requests. The error is an *Error, or the context's error when the context was canceled. With an error, the result holds
// at most the usage counted until then.
type Provider interface {
	Generate(ctx context.Context, r Request) (Result, error)
	// Stream passes the text on as it arrives. An error of emit ends the call and is returned.
	Stream(ctx context.Context, r Request, emit func(text string) error) (Result, error)
}

// Config configures the providers and their addresses.
type Config struct {
	// Keys of the installation. Without one a request needs a key of its own.
	AnthropicKey, GoogleKey string
	// Base URLs; empty means the provider's public one.
	AnthropicURL, GoogleURL string
	// Local switches the local model on; LocalDelay is how long it pretends to think.
	Local      bool
	LocalDelay time.Duration
	// Texts records prompts and answers in spans.
	Texts bool
	// Transport is used instead of Go's default one.
	Transport http.RoundTripper
}

// The providers' public addresses.
const (
	AnthropicURL = "https://api.anthropic.com"
	GoogleURL    = "https://generativelanguage.googleapis.com"
)

// Set is the providers of an installation.
type Set struct {
	providers map[string]Provider
	offers    map[string]bool
	prices    *Prices
}

// New makes the clients. It makes no connection.
func New(c Config) (*Set, error) {
	if c.Transport == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if !ok {
			return nil, fmt.Errorf("llm: the default transport was replaced by a %T", http.DefaultTransport)
		}
		t = t.Clone()
		// One worker has hundreds of calls in flight, all to the same two hosts.
		t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = 64, 0
		c.Transport = t
	}
	client := &http.Client{Transport: &observer{next: c.Transport},
		// A redirected request would carry the key to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	prices := &Prices{}
	traced := func(name string, p Provider) Provider {
		return traced{name: name, next: p, prices: prices, texts: c.Texts}
	}
	s := &Set{prices: prices, offers: map[string]bool{Anthropic: c.AnthropicKey != "", Google: c.GoogleKey != "", Local: c.Local},
		providers: map[string]Provider{
			Anthropic: traced(Anthropic, newAnthropic(client, or(c.AnthropicURL, AnthropicURL), c.AnthropicKey)),
			Google:    traced(Google, newGoogle(client, or(c.GoogleURL, GoogleURL), c.GoogleKey)),
		}}
	if c.Local {
		s.providers[Local] = traced(Local, local{delay: c.LocalDelay})
	}
	return s, nil
}

// For returns a provider by name (the `answers` of private.route_model), or an *Error with the reason why there is none.
func (s *Set) For(name string) (Provider, error) {
	if p := s.providers[name]; p != nil {
		return p, nil
	}
	if name == Local || name == "" {
		return nil, notConfigured()
	}
	return nil, &Error{Code: ModelNotSupported, Message: "No provider of this installation has this model."}
}

// Prices are those that the spans of the set's calls use.
func (s *Set) Prices() *Prices { return s.prices }

// Offers returns the providers of the installation, for private.declare_installation('providers', ...).
func (s *Set) Offers() map[string]bool { return s.offers }

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
