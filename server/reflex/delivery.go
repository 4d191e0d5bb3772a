package reflex

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/condition"
)

const (
	// perMinute is how many deliveries a reflex takes.
	perMinute = 60
	// unknownPerMinute is how many addresses without a webhook one sender may try.
	unknownPerMinute = 60
	unknownKept      = 50_000
)

// target is what private.open_delivery gives.
type target struct {
	Allowed    bool            `json:"allowed"`
	Remaining  int             `json:"remaining"`
	ResetAt    time.Time       `json:"resetAt"`
	Method     string          `json:"method"`
	Conditions json.RawMessage `json:"conditions"`
	Sealed     string          `json:"sealed"`
}

// receive answers a delivery. The edge has applied this process's own limit of the reflex; the order of the rest is the contract's: rate,
// size, existence, signature, method, payload.
func (f *Feature) receive(c *api.Call) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	id := c.Path("reflexId")
	t, err := f.find(ctx, c, id)
	if err != nil {
		return err
	}
	if t != nil && !t.Allowed {
		return api.RateLimited(perMinute, 0, t.ResetAt)
	}
	body, err := c.ReadAll()
	if err != nil {
		return err
	}
	if t == nil {
		return api.NewProblem(http.StatusNotFound, "REFLEX_NOT_FOUND", fmt.Sprintf("Reflex with ID %s not found", cut(id)), "")
	}
	signed := body
	if len(body) == 0 {
		signed = c.Ctx.Request().URI().QueryString()
	}
	if !f.isGenuine(c, t.Sealed, signed) {
		return api.NewProblem(http.StatusUnauthorized, "INVALID_SIGNATURE", "The signature of this delivery is missing or wrong.", "")
	}
	if c.Ctx.Method() != t.Method {
		p := api.NewProblem(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "This webhook does not know the method.", "")
		p.Header = map[string]string{"Allow": t.Method}
		return p
	}
	if t.Method == http.MethodGet && len(body) == 0 {
		if body, err = queryPayload(string(signed)); err != nil {
			return err
		}
	}
	return f.take(ctx, c, id, t, body)
}

// find looks the reflex up; nil is an unknown one. Who tries many addresses is stopped here.
func (f *Feature) find(ctx context.Context, c *api.Call, id string) (*target, error) {
	sender := c.AddressKey()
	bucket, ok := f.unknown.Get(sender)
	if ok && bucket.Tokens() < 1 {
		return nil, api.RateLimited(unknownPerMinute, 0, time.Now().Add(time.Minute/unknownPerMinute))
	}
	var body []byte
	if uuid.Validate(id) == nil && len(id) == 36 {
		answer, err := f.server(ctx, c, "open_delivery", map[string]string{"id": id})
		if err != nil {
			return nil, err
		}
		body = answer.Body
	}
	if len(body) == 0 {
		if !ok {
			bucket = rate.NewLimiter(rate.Every(time.Minute/unknownPerMinute), unknownPerMinute)
			f.unknown.Add(strings.Clone(sender), bucket)
		}
		bucket.Allow()
		return nil, nil
	}
	t := &target{}
	if err := json.Unmarshal(body, t); err != nil {
		return nil, fmt.Errorf("open_delivery: %w", err)
	}
	return t, nil
}

// server calls a function of schema private as the server itself. A delivery by GET writes as one by POST does.
func (f *Feature) server(ctx context.Context, c *api.Call, function string, p any) (api.Answer, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return api.Answer{}, err
	}
	return f.exec.Run(ctx, &api.Request{AsServer: true, SQL: api.ServerSQL(function), Args: []any{raw}, RequestID: c.RequestID, ClientIP: c.ClientIP})
}

// isGenuine checks the signature, in constant time.
func (f *Feature) isGenuine(c *api.Call, sealed string, signed []byte) bool {
	header := c.Ctx.Request().Header.Peek("X-Webhook-Signature")
	if len(header) == 0 {
		header = c.Ctx.Request().Header.Peek("X-Hub-Signature-256")
	}
	text := strings.TrimSpace(string(header))
	if rest, ok := strings.CutPrefix(text, "sha256="); ok {
		text = rest
	}
	given, err := hex.DecodeString(text)
	if err != nil || len(given) != sha256.Size || sealed == "" || f.box == nil {
		return false
	}
	secret, err := f.box.Open(Purpose, sealed)
	if err != nil {
		f.log.Error("the secret of a webhook cannot be opened; was a key removed from ENCRYPTION_KEY?", "error", err)
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(signed)
	return hmac.Equal(given, mac.Sum(nil))
}

// invalid is the refusal of a payload.
func invalid(message string) error {
	return api.NewProblem(http.StatusBadRequest, "INVALID_PAYLOAD", message, "")
}

// queryPayload makes an object of texts out of a query; of repeated names lists.
func queryPayload(query string) ([]byte, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, invalid("The query is malformed.")
	}
	object := make(map[string]any, len(values))
	for name, list := range values {
		for _, text := range append(list, name) {
			if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
				return nil, invalid("The query holds what is no text.")
			}
		}
		if object[name] = list; len(list) == 1 {
			object[name] = list[0]
		}
	}
	return json.Marshal(object)
}

// take judges the payload and hands it over.
func (f *Feature) take(ctx context.Context, c *api.Call, id string, t *target, body []byte) error {
	if err := openapi.CheckText(body); err != nil {
		return invalid(strings.Replace(err.Error(), "request body", "payload", 1))
	}
	payload, err := condition.ParsePayload(body)
	if err != nil {
		return invalid("The payload must be a JSON object.")
	}
	matches, fault := f.judge.Match(t.Conditions, payload)
	answer, err := f.server(ctx, c, "take_delivery", map[string]any{"id": id, "payload": json.RawMessage(body), "matches": matches,
		"error": fault != nil, "key": deliveryKey(c)})
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// deliveryKey is the digest of the sender's key, or nil.
func deliveryKey(c *api.Call) *string {
	for _, name := range []string{"Idempotency-Key", "X-GitHub-Delivery"} {
		if key := c.Ctx.Request().Header.Peek(name); len(key) > 0 {
			sum := sha256.Sum256(append([]byte(name+":"), key...))
			digest := hex.EncodeToString(sum[:])
			return &digest
		}
	}
	return nil
}

func cut(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
