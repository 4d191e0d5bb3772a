package integrations

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"kijko/worker/seal"
)

// Delivery is one attempt to send an event to a webhook, as the database hands it out.
type Delivery struct {
	ID        string `json:"id"`
	Token     string `json:"token"`
	WebhookID string `json:"webhookId"`
	Type      string `json:"type"`
	URL       string `json:"url"`
	Body      string `json:"body"`
	Sealed    string `json:"sealed"`
}

// Result is the result of an attempt, for private.finish_delivery.
type Result struct {
	ID    string `json:"id"`
	Token string `json:"token"`
	OK    bool   `json:"ok"`
	// Status and Body are null if there was no answer.
	Status *int    `json:"status"`
	Body   *string `json:"body"`
}

const (
	// deliveryTime is the longest time for one attempt.
	deliveryTime = 10 * time.Second
	// maxShown is how many bytes of an answer are kept.
	maxShown = 2048
)

// Sign is the value of X-Kijko-Signature.
func Sign(secret []byte, at time.Time, body string) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, t+"."+body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Deliver sends one attempt: success is a 2xx within ten seconds. Redirects are not followed.
func (g *Guard) Deliver(ctx context.Context, box *seal.Box, d Delivery) Result {
	result := Result{ID: d.ID, Token: d.Token}
	ctx, cancel := context.WithTimeout(ctx, deliveryTime)
	defer cancel()
	secret, err := box.Open(seal.OutgoingWebhook(d.WebhookID), d.Sealed)
	if err != nil {
		return result
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, strings.NewReader(d.Body))
	if err != nil {
		return result
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Kijko-Webhook/1")
	r.Header.Set("X-Kijko-Event", d.Type)
	r.Header.Set("X-Kijko-Delivery", d.ID)
	r.Header.Set("X-Kijko-Signature", Sign(secret, time.Now(), d.Body))
	answer, err := g.client.Do(r)
	if err != nil {
		return result
	}
	defer func() { _ = answer.Body.Close() }()
	// An answer that never ends counts as one that did not come in time.
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxShown+utf8.UTFMax))
	shown := storable(raw)
	result.Status, result.Body = &answer.StatusCode, &shown
	result.OK = err == nil && answer.StatusCode >= 200 && answer.StatusCode < 300
	return result
}

// storable is the first 2 KB as text that Postgres holds: valid, without NUL, not cut within a character.
func storable(raw []byte) string {
	text := strings.ReplaceAll(strings.ToValidUTF8(string(raw), "\ufffd"), "\x00", "\ufffd")
	if len(text) <= maxShown {
		return text
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
