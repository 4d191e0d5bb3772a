package reflexes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/condition"
	"kijko/worker/seal"
)

const (
	// perMinute is how many genuine deliveries a reflex accepts.
	perMinute = 60
	// failuresPerMinute is how many wrongly signed deliveries one sender may send to one reflex, and how many addresses without a webhook
	// it may try.
	failuresPerMinute = 60
	// recentFor is how long a looked-up secret is kept, to refuse deliveries without another look-up.
	recentFor  = time.Second
	recentKept = 10_000
	// lookups is how many concurrent database queries all senders over their limit may cause together.
	lookups = 2
)

// target is the result of private.open_delivery.
type target struct {
	Method     string          `json:"method"`
	Conditions json.RawMessage `json:"conditions"`
	Sealed     string          `json:"sealed"`
}

// receive answers a delivery. It checks the signature before any limit. Otherwise a sender without the secret could use the limit up and
// block the owner's deliveries, even deliveries from the same address (an external service that sends requests for any user). So a limit of
// failures turns 401 and 404 into 429, and refuses without a query only deliveries that are recognizably not genuine.
func (f *Feature) receive(c *api.Call) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	id, sender := strings.ToLower(strings.Clone(c.Path("reflexId"))), c.AddressKey()
	attempts := sender + "|" + id
	signature := signatureOf(c)
	suspect := f.unknown.Spent(sender) || f.failures.Spent(attempts)
	if suspect && signature == nil {
		return tooManyFailures()
	}
	body, err := c.ReadAll()
	if err != nil {
		return err
	}
	signed := body
	if len(body) == 0 {
		signed = c.Ctx.Request().URI().QueryString()
	}
	if sealed, ok := f.recent.Get(id); ok {
		genuine := f.isGenuine(sealed, signature, signed)
		if genuine && f.genuine.Spent(id) {
			return api.RateLimited(perMinute, 0, time.Now().Add(time.Second))
		}
		if !genuine && f.failures.Spent(attempts) {
			return tooManyFailures()
		}
	}
	t, err := f.find(ctx, c, id, suspect)
	switch {
	case err != nil:
		return err
	case t == nil && !f.unknown.Take(sender):
		return tooManyFailures()
	case t == nil:
		return api.NewProblem(http.StatusNotFound, "REFLEX_NOT_FOUND", fmt.Sprintf("Reflex with ID %s not found", cut(c.Path("reflexId"))), "")
	}
	f.recent.Add(id, t.Sealed)
	switch {
	case f.isGenuine(t.Sealed, signature, signed):
	case !f.failures.Take(attempts):
		return tooManyFailures()
	default:
		return api.NewProblem(http.StatusUnauthorized, "INVALID_SIGNATURE", "The signature of this delivery is missing or wrong.", "")
	}
	if !f.genuine.Take(id) {
		return api.RateLimited(perMinute, 0, time.Now().Add(time.Second))
	}
	payload, text, err := payloadOf(c, t.Method, body, signed)
	if err != nil {
		// It counts like any other delivery.
		if limited := f.count(ctx, c, id); limited != nil {
			return limited
		}
		return err
	}
	matches, fault := f.evaluator.Match(t.Conditions, payload)
	answer, err := f.server(ctx, c, "take_delivery", map[string]any{"id": id, "payload": json.RawMessage(text), "matches": matches,
		"error": fault != nil, "key": deliveryKey(c)})
	if err != nil {
		return err
	}
	if err := limitedBy(answer); err != nil {
		return err
	}
	return c.Reply(answer)
}

func tooManyFailures() error {
	return api.RateLimited(failuresPerMinute, 0, time.Now().Add(time.Minute/failuresPerMinute))
}

// find looks the reflex up; nil means unknown. Senders over their limit share few concurrent look-ups, so that they cannot keep the
// database busy with invented signatures and ids.
func (f *Feature) find(ctx context.Context, c *api.Call, id string, suspect bool) (*target, error) {
	if uuid.Validate(id) != nil || len(id) != 36 {
		return nil, nil
	}
	if suspect {
		if err := f.lookups.Acquire(ctx, 1); err != nil {
			return nil, api.Unavailable("SERVICE_UNAVAILABLE", "Too many deliveries at once. Please try again.", err)
		}
		defer f.lookups.Release(1)
	}
	answer, err := f.server(ctx, c, "open_delivery", map[string]string{"id": id})
	if err != nil || len(answer.Body) == 0 {
		return nil, err
	}
	t := &target{}
	if err := json.Unmarshal(answer.Body, t); err != nil {
		return nil, fmt.Errorf("open_delivery: %w", err)
	}
	return t, nil
}

// count counts a genuine delivery that has no effect.
func (f *Feature) count(ctx context.Context, c *api.Call, id string) error {
	answer, err := f.server(ctx, c, "count_delivery", map[string]string{"id": id})
	if err != nil {
		return err
	}
	return limitedBy(answer)
}

// limitedBy returns the refusal of a delivery beyond its reflex's limit, or nil.
func limitedBy(answer api.Answer) error {
	var l struct{ LimitedUntil *time.Time }
	if err := json.Unmarshal(answer.Body, &l); err != nil || l.LimitedUntil == nil {
		return err
	}
	return api.RateLimited(perMinute, 0, *l.LimitedUntil)
}

// server calls a function of schema private in the server's role. A delivery by GET writes like one by POST.
func (f *Feature) server(ctx context.Context, c *api.Call, function string, p any) (api.Answer, error) {
	return api.Serve(ctx, f.exec, api.Request{RequestID: c.RequestID, ClientIP: c.ClientIP}, function, p)
}

// signatureOf reads the signature; nil if it is missing or malformed.
func signatureOf(c *api.Call) []byte {
	header := c.Ctx.Request().Header.Peek("X-Webhook-Signature")
	if len(header) == 0 {
		header = c.Ctx.Request().Header.Peek("X-Hub-Signature-256")
	}
	return seal.ReadSignature(string(header))
}

// isGenuine checks the signature, in constant time.
func (f *Feature) isGenuine(sealed string, signature, signed []byte) bool {
	if signature == nil || sealed == "" || f.box == nil {
		return false
	}
	secret, err := f.box.Open(seal.ReflexWebhook, sealed)
	if err != nil {
		f.log.Error("the secret of a webhook cannot be opened; was a key removed from ENCRYPTION_KEY?", "error", err)
		return false
	}
	return seal.IsSigned(secret, signature, signed)
}

// invalid returns the refusal of a payload.
func invalid(message string) error {
	return api.NewProblem(http.StatusBadRequest, "INVALID_PAYLOAD", message, "")
}

// payloadOf checks the method and reads the JSON object of a genuine delivery.
func payloadOf(c *api.Call, method string, body, query []byte) (*condition.Payload, []byte, error) {
	if c.Ctx.Method() != method {
		p := api.NewProblem(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "This webhook does not know the method.", "")
		p.Header = map[string]string{"Allow": method}
		return nil, nil, p
	}
	var err error
	if method == http.MethodGet && len(body) == 0 {
		body, err = queryPayload(string(query))
	} else {
		body, err = unwrap(body, string(c.Ctx.Request().Header.ContentType()))
	}
	if err != nil {
		return nil, nil, err
	}
	if err := openapi.CheckText(body); err != nil {
		return nil, nil, invalid(strings.Replace(err.Error(), "request body", "payload", 1))
	}
	payload, err := condition.ParsePayload(body)
	if err != nil {
		return nil, nil, invalid("The payload must be a JSON object.")
	}
	return payload, body, nil
}

// byteOrderMark may precede JSON, and is skipped (RFC 8259, 8.1).
const byteOrderMark = "\uFEFF"

// unwrap removes what senders add around JSON: a byte-order mark, and the form with one member `payload`, which is the default of GitHub's
// webhooks. JSON under the content type of forms, which curl sends by default, is left unchanged.
func unwrap(body []byte, contentType string) ([]byte, error) {
	body = bytes.TrimPrefix(body, []byte(byteOrderMark))
	media, _, _ := strings.Cut(contentType, ";")
	if !strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded") || bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return body, nil
	}
	var payload []string
	for name, value := range fields(string(body)) {
		if name != "payload" || payload != nil {
			return nil, invalid("Of a form only the one member payload is taken. Choose the content type application/json at the sender.")
		}
		payload = []string{value}
	}
	if payload == nil {
		return nil, invalid("The payload must be a JSON object.")
	}
	return []byte(strings.TrimPrefix(payload[0], byteOrderMark)), nil
}

// queryPayload makes an object of texts from a query; repeated names become lists.
func queryPayload(query string) ([]byte, error) {
	values := map[string][]string{}
	for name, value := range fields(query) {
		values[name] = append(values[name], value)
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

// fields reads a query or form as browsers do: `;` and a `%` that begins no escape are text.
func fields(text string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for piece := range strings.SplitSeq(text, "&") {
			name, value, _ := strings.Cut(piece, "=")
			if piece != "" && !yield(unescape(name), unescape(value)) {
				return
			}
		}
	}
}

func unescape(text string) string {
	if !strings.ContainsAny(text, "%+") {
		return text
	}
	plain := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				c = byte(code)
				i += 2
			}
		}
		plain = append(plain, c)
	}
	return string(plain)
}

// deliveryKey returns the digest of the sender's key, or nil.
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
