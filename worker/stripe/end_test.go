package stripe

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatHasEndedIsEndedAgain(t *testing.T) {
	t.Parallel()
	for _, want := range []struct {
		name   string
		status int
		body   string
		ends   bool
	}{
		{"it ends", 200, `{"id": "sub_1", "status": "canceled"}`, true},
		{"it is gone", 404, `{"error": {"type": "invalid_request_error", "code": "resource_missing"}}`, true},
		{"it has ended", 400, `{"error": {"type": "invalid_request_error", "code": "resource_missing"}}`, true},
		{"a limit", 429, `{"error": {"type": "invalid_request_error", "code": "rate_limit"}}`, false},
		{"a fault of Stripe", 500, `{"error": {"type": "api_error"}}`, false},
		{"HTML", 502, `<html>`, false},
	} {
		asked, keys := map[string]int{}, map[string]bool{}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked[r.Method+" "+r.URL.Path]++
			keys[r.Header.Get("Idempotency-Key")] = true
			w.WriteHeader(want.status)
			_, _ = io.WriteString(w, want.body)
		}))
		t.Cleanup(server.Close)
		c := client(t, server.URL)
		for _, err := range []error{c.CancelSubscription(t.Context(), "sub_1"), c.DeleteCustomer(t.Context(), "cus_1")} {
			require.Equal(t, want.ends, err == nil, "%s: %v", want.name, err)
		}
		require.NotZero(t, asked["DELETE /v1/subscriptions/sub_1"])
		require.NotZero(t, asked["DELETE /v1/customers/cus_1"])
		require.Len(t, keys, 2, "no answer is repeated under a key")
	}
}
