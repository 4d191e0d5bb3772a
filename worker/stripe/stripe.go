// Package stripe sends requests to Stripe. stripe-go is the transport; answers stay raw, because its structs read the shapes of later versions
// of the API as blanks, and Postgres is the one reader of Stripe's objects. The package says of each failure what is certain: nothing was
// done, or the outcome is in doubt.
package stripe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
	"golang.org/x/sync/semaphore"

	"kijko/worker/public"
)

// Config holds the settings.
type Config struct {
	// Secret is the secret key; empty: this installation takes no payments.
	Secret string
	// Publishable is the key that pages give to Stripe's elements.
	Publishable string
	// URL is in place of Stripe's own address.
	URL string
	// Timeout bounds one request; 0 is 15 s.
	Timeout time.Duration
	// AllowPrivate permits a URL on this machine or in its network, without TLS.
	AllowPrivate bool
}

// Outcome says what is known of a request after it was sent.
type Outcome string

// The outcomes.
const (
	// OK: Stripe did it.
	OK Outcome = "ok"
	// Card: a payment was refused, and nothing changed.
	Card Outcome = "card"
	// Refused: Stripe did not do it.
	Refused Outcome = "refused"
	// Unsent: the request never reached Stripe.
	Unsent Outcome = "unsent"
	// Failed: Stripe reports a fault of its own, and repeats this answer under the same key. What it did has to be looked up.
	Failed Outcome = "failed"
	// Doubt: no answer of Stripe arrived. The request has to be sent again under the same key.
	Doubt Outcome = "doubt"
)

// Request is one request.
type Request struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	// Params are encoded as Stripe's forms: members of objects as a[b], elements of lists as a[0]. "" clears a value, null is not sent.
	Params json.RawMessage `json:"params"`
	// Key is the Idempotency-Key.
	Key string `json:"key"`
}

// Answer is what is known of a request.
type Answer struct {
	Outcome Outcome `json:"outcome"`
	Status  int     `json:"status,omitempty"`
	// Code and DeclineCode are Stripe's words for a refusal.
	Code        string `json:"code,omitempty"`
	DeclineCode string `json:"declineCode,omitempty"`
	// At is the moment of the answer by Stripe's clock.
	At time.Time `json:"at"`
	// Body is Stripe's object as it came.
	Body json.RawMessage `json:"body,omitempty"`
}

// maxAnswer bounds how much of an answer is read.
const maxAnswer = 4 << 20

// maxRequests is how many requests of this process Stripe gets at once. It refuses accounts with more than some dozens a second.
const maxRequests = 16

// Client sends requests.
type Client struct {
	cfg      Config
	backend  stripe.Backend
	requests *semaphore.Weighted
	log      *slog.Logger
}

// New makes a Client; nil without a secret key.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	if cfg.URL == "" {
		cfg.URL = stripe.APIURL
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("STRIPE_API_BASE: must be an http or https URL without a path")
	}
	if u.Scheme == "http" && !cfg.AllowPrivate {
		return nil, errors.New("STRIPE_API_BASE: must be https, so that keys are encrypted; plain http is for development and KIJKO_GIT_ALLOW_PRIVATE")
	}
	if cfg.Secret == "" {
		return nil, nil //nolint:nilnil // an installation without payments has no client
	}
	if !isKey(cfg.Secret, "sk_", "rk_") {
		return nil, errors.New("STRIPE_SECRET_KEY: must begin with sk_ or rk_")
	}
	if cfg.Publishable != "" && !isKey(cfg.Publishable, "pk_") {
		return nil, errors.New("STRIPE_PUBLISHABLE_KEY: must begin with pk_")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	// Requests are never repeated here: the caller has a time limit of its own, and repeats under the key that it stored.
	client := public.Client(cfg.AllowPrivate)
	client.Transport = bounded{client.Transport}
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{URL: stripe.String(strings.TrimRight(cfg.URL, "/")), HTTPClient: client,
		MaxNetworkRetries: stripe.Int64(0), EnableTelemetry: stripe.Bool(false), LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull}})
	return &Client{cfg: cfg, backend: backend, requests: semaphore.NewWeighted(maxRequests), log: log}, nil
}

func isKey(key string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) && len(key) > len(p) })
}

// Publishable returns the key for Stripe's elements.
func (c *Client) Publishable() string { return c.cfg.Publishable }

// Timeout returns how long a request may take.
func (c *Client) Timeout() time.Duration { return c.cfg.Timeout }

// raw keeps an answer undecoded.
type raw struct{ response *stripe.APIResponse }

func (r *raw) SetLastResponse(response *stripe.APIResponse) { r.response = response }

// UnmarshalJSON accepts every object.
func (r *raw) UnmarshalJSON(text []byte) error {
	if !strings.HasPrefix(strings.TrimSpace(string(text)), "{") {
		return errors.New("the answer is no object")
	}
	return nil
}

// Do sends a request, once. A request that fails has an Answer too; the error says only that the request could not be made.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	values, err := encode(r.Params)
	if err != nil {
		return Answer{}, fmt.Errorf("parameters of %s %s: %w", r.Method, r.Path, err)
	}
	if !strings.HasPrefix(r.Path, "/v1/") || strings.ContainsAny(r.Path, "?#") || strings.Contains(r.Path, "..") {
		return Answer{}, fmt.Errorf("%s is no address of Stripe's API", r.Path)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if err := c.requests.Acquire(ctx, 1); err != nil {
		return Answer{Outcome: Unsent, At: time.Now()}, nil
	}
	defer c.requests.Release(1)
	status := 0
	params := &stripe.Params{Context: context.WithValue(ctx, statusKey{}, &status)}
	if r.Method != http.MethodGet {
		params.IdempotencyKey = stripe.String(r.Key)
	}
	body := &raw{}
	began := time.Now()
	err = c.backend.CallRaw(r.Method, r.Path, c.cfg.Secret, values, params, body)
	a := outcomeOf(err, status)
	a.At = time.Now()
	if a.Outcome == OK {
		a.Status, a.Body = body.response.StatusCode, body.response.RawJSON
		a.At = byTheirClock(a.At, body.response.Header.Get("Date"))
		return a, nil
	}
	// Neither texts of Stripe nor bodies are logged: they may hold secrets of clients and names.
	c.log.Warn("Stripe did not do a request", "method", r.Method, "route", route(r.Path), "outcome", string(a.Outcome), "status", a.Status, "code", a.Code,
		"decline", a.DeclineCode, "duration", time.Since(began).Round(time.Millisecond).String())
	return a, nil
}

// route is an address without ids.
func route(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if strings.ContainsAny(part, "0123456789") && part != "v1" {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, "/")
}

// byTheirClock keeps our clock, which tells answers of one second apart, within the second that Stripe's clock shows.
func byTheirClock(ours time.Time, date string) time.Time {
	theirs, err := http.ParseTime(date)
	switch {
	case err != nil:
		return ours
	case ours.Before(theirs):
		return theirs
	case ours.After(theirs.Add(time.Second)):
		return theirs.Add(time.Second)
	}
	return ours
}

// outcomeOf reads an error of stripe-go, which is a *stripe.Error only when Stripe answered with its own JSON.
func outcomeOf(err error, status int) Answer {
	var refusal *stripe.Error
	switch {
	case err == nil:
		return Answer{Outcome: OK}
	case errors.As(err, &refusal):
		a := Answer{Outcome: Refused, Status: refusal.HTTPStatusCode, Code: string(refusal.Code), DeclineCode: string(refusal.DeclineCode)}
		switch {
		case a.Status == http.StatusPaymentRequired:
			a.Outcome = Card
		case a.Status == http.StatusConflict:
			// Another request with the key is at work.
			a.Outcome = Doubt
		case a.Status >= http.StatusInternalServerError:
			a.Outcome = Failed
		}
		return a
	case isUnsent(err):
		return Answer{Outcome: Unsent}
	}
	return Answer{Outcome: Doubt, Status: status}
}

// isUnsent reports whether no connection was made.
func isUnsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, new(*net.DNSError)) || errors.Is(err, public.ErrAddress)
}

type statusKey struct{}

// bounded notes the status and bounds the size of answers.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if status, ok := r.Context().Value(statusKey{}).(*int); ok {
		*status = answer.StatusCode
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxAnswer), answer.Body}
	return answer, nil
}

// encode writes parameters as Stripe's forms, in a stable order: a request that is sent again under its key must be the same.
func encode(params json.RawMessage) (*form.Values, error) {
	values := &form.Values{}
	if len(params) == 0 {
		return values, nil
	}
	decoder := json.NewDecoder(strings.NewReader(string(params)))
	decoder.UseNumber()
	var tree map[string]any
	if err := decoder.Decode(&tree); err != nil {
		return nil, err
	}
	var add func(name string, value any) error
	add = func(name string, value any) error {
		switch v := value.(type) {
		case nil:
		case map[string]any:
			for _, member := range sorted(v) {
				if err := add(name+"["+member+"]", v[member]); err != nil {
					return err
				}
			}
		case []any:
			for i, element := range v {
				if err := add(fmt.Sprintf("%s[%d]", name, i), element); err != nil {
					return err
				}
			}
		case string, json.Number, bool:
			values.Add(name, fmt.Sprint(v))
		default:
			return fmt.Errorf("%s is a %T", name, value)
		}
		return nil
	}
	for _, name := range sorted(tree) {
		if err := add(name, tree[name]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func sorted(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
