package stripe

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func client(t *testing.T, base string) *Client {
	t.Helper()
	c, err := New(Config{Secret: "sk_test_x", URL: base, Timeout: 300 * time.Millisecond, AllowPrivate: true}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return c
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	for _, want := range []struct {
		name   string
		status int
		body   string
		Answer
	}{
		{"an object", 200, `{"id": "cus_1"}`, Answer{Outcome: OK, Status: 200, Body: json.RawMessage(`{"id": "cus_1"}`)}},
		{"a refused card", 402, `{"error": {"type": "card_error", "code": "card_declined", "decline_code": "lost_card"}}`, Answer{Outcome: Card, Status: 402, Code: "card_declined", DeclineCode: "lost_card"}},
		{"a bad request", 400, `{"error": {"type": "invalid_request_error", "code": "parameter_unknown"}}`, Answer{Outcome: Refused, Status: 400, Code: "parameter_unknown"}},
		{"a key that is at work", 409, `{"error": {"type": "idempotency_error", "code": "idempotency_key_in_use"}}`, Answer{Outcome: Doubt, Status: 409, Code: "idempotency_key_in_use"}},
		{"a limit", 429, `{"error": {"type": "invalid_request_error", "code": "rate_limit"}}`, Answer{Outcome: Refused, Status: 429, Code: "rate_limit"}},
		{"a fault of Stripe", 500, `{"error": {"type": "api_error"}}`, Answer{Outcome: Failed, Status: 500}},
		{"HTML with a fault", 502, `<html>`, Answer{Outcome: Doubt, Status: 502}},
		{"HTML with a success", 200, `<html>`, Answer{Outcome: Doubt, Status: 200}},
		{"JSON that is no object", 200, `[]`, Answer{Outcome: Doubt, Status: 200}},
		{"JSON of another kind with a fault", 403, `{"message": "blocked"}`, Answer{Outcome: Doubt, Status: 403}},
		{"nothing", 0, ``, Answer{Outcome: Doubt}},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if want.status == 0 {
				select {
				case <-release:
				case <-r.Context().Done():
				}
				return
			}
			w.WriteHeader(want.status)
			_, _ = io.WriteString(w, want.body)
		}))
		t.Cleanup(server.Close)
		got, err := client(t, server.URL).Do(t.Context(), Request{Method: "POST", Path: "/v1/customers", Key: "k"})
		require.NoError(t, err)
		got.At = time.Time{}
		require.Equal(t, want.Answer, got, want.name)
	}
	got, err := client(t, "http://127.0.0.1:1").Do(t.Context(), Request{Method: "POST", Path: "/v1/customers", Key: "k"})
	require.NoError(t, err)
	require.Equal(t, Unsent, got.Outcome)
}

func TestParametersAreWrittenAsFormsInOneOrder(t *testing.T) {
	t.Parallel()
	var asked *http.Request
	var form string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		asked, form = r, string(raw)
		_, _ = io.WriteString(w, `{}`)
	}))
	defer server.Close()
	c := client(t, server.URL)
	params := json.RawMessage(`{"name": "", "none": null, "n": 12345678901234567890, "items": [{"id": "si_1", "price": "p"}], "a": {"c": true, "b": "é&"}, "empty": {}, "list": []}`)
	_, err := c.Do(t.Context(), Request{Method: "POST", Path: "/v1/x", Params: params, Key: "key-1"})
	require.NoError(t, err)
	require.Equal(t, "a[b]=%C3%A9%26&a[c]=true&items[0][id]=si_1&items[0][price]=p&n=12345678901234567890&name=", form)
	require.Equal(t, "key-1 2023-10-16 Bearer sk_test_x", asked.Header.Get("Idempotency-Key")+" "+asked.Header.Get("Stripe-Version")+" "+asked.Header.Get("Authorization"))
	_, err = c.Do(t.Context(), Request{Method: "GET", Path: "/v1/x", Params: json.RawMessage(`{"limit": 3}`)})
	require.NoError(t, err)
	require.Equal(t, "limit=3 ", asked.URL.RawQuery+" "+asked.Header.Get("Idempotency-Key"))
	for _, path := range []string{"/v2/x", "/v1/../x", "/v1/x?y", "v1/x", "/v1/x#y"} {
		_, err = c.Do(t.Context(), Request{Method: "GET", Path: path})
		require.Error(t, err, path)
	}
}

func TestAnswersOfASecondAreToldApart(t *testing.T) {
	t.Parallel()
	theirs := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	date := theirs.Format(http.TimeFormat)
	for ours, want := range map[time.Duration]time.Duration{-time.Hour: 0, 300 * time.Millisecond: 300 * time.Millisecond, time.Hour: time.Second} {
		require.Equal(t, theirs.Add(want), byTheirClock(theirs.Add(ours), date))
	}
	require.Equal(t, theirs, byTheirClock(theirs, "no date"))
}

func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for fault, cfg := range map[string]Config{"STRIPE_SECRET_KEY": {Secret: "whsec_1"}, "STRIPE_PUBLISHABLE_KEY": {Secret: "sk_test_1", Publishable: "sk_test_1"},
		"STRIPE_API_BASE": {Secret: "sk_test_1", URL: "http://stripe.example"}} {
		_, err := New(cfg, nil)
		require.ErrorContains(t, err, fault)
	}
	for _, base := range []string{"stripe", "ftp://a", "https://a/v1"} {
		_, err := New(Config{URL: base}, nil)
		require.ErrorContains(t, err, "STRIPE_API_BASE")
	}
	c, err := New(Config{}, nil)
	require.NoError(t, err)
	require.Nil(t, c)
	c, err = New(Config{Secret: "sk_test_1", URL: "https://127.0.0.1:1"}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	a, err := c.Do(t.Context(), Request{Method: "GET", Path: "/v1/x"})
	require.NoError(t, err)
	require.Equal(t, Unsent, a.Outcome, "private addresses are for development")
}
