package peers

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// StripeMockProgram is Stripe's own server for tests. It keeps nothing, and checks requests against Stripe's published description of its API.
var StripeMockProgram = Program{Name: "stripe-mock", Module: "github.com/stripe/stripe-mock", Version: "v0.203.0", status: http.StatusUnauthorized}

// StripeMock is a running one.
type StripeMock struct {
	URL string
	key string
}

// NewStripeMock starts one that takes a key.
func NewStripeMock(t testing.TB, key string) *StripeMock {
	t.Helper()
	// Without an address for HTTPS it opens a fixed port, on all addresses.
	addresses := start(t, StripeMockProgram, 2, nil, func(a []string) []string { return []string{"-http-addr", a[0], "-https-addr", a[1]} }, "/")
	return &StripeMock{URL: "http://" + addresses[0], key: key}
}

// Check sends a request and gives the status: 400 for one that the description does not allow.
func (m *StripeMock) Check(t testing.TB, method, path string, form url.Values) int {
	t.Helper()
	address, body := m.URL+path, form.Encode()
	if method == http.MethodGet {
		address, body = address+"?"+body, ""
	}
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+m.key)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := http.Client{Timeout: 30 * time.Second}
	answer, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}
