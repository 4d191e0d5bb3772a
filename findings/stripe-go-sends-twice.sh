#!/bin/sh
# stripe-go v76.25.0 with MaxNetworkRetries 0: a POST whose connection is cut arrives twice. Go's net/http takes the Idempotency-Key header, which
# stripe-go sets by itself, for a request that may be repeated, and sends it again on another connection when a reused one ends without an
# answer. The key is the same, so Stripe does the work once. A count of requests sees two.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'M'
module finding

go 1.24
M
cat > main.go <<'M'
package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"
)

func main() {
	var keys []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
			return
		}
		fmt.Fprint(w, `{"id": "cus_1", "object": "customer"}`)
	}))
	defer server.Close()
	backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{URL: stripe.String(server.URL), MaxNetworkRetries: stripe.Int64(0),
		HTTPClient: &http.Client{Transport: &http.Transport{}}, LeveledLogger: &stripe.LeveledLogger{}})
	api := client.New("sk_test_x", &stripe.Backends{API: backend, Uploads: backend, Connect: backend})
	// The connection is used once before, and is reused by the next request.
	if _, err := api.Customers.Get("cus_1", nil); err != nil {
		panic(err)
	}
	_, err := api.Customers.New(&stripe.CustomerParams{Name: stripe.String("Anna")})
	fmt.Printf("requests that arrived: %d; the same key: %v; error at the end: %v\n", len(keys), len(keys) == 2 && keys[0] == keys[1], err != nil)
	if len(keys) != 2 || keys[0] != keys[1] || err == nil {
		os.Exit(1)
	}
}
M
go get github.com/stripe/stripe-go/v76@v76.25.0 >/dev/null 2>&1
echo "stripe-go v76.25.0, $(go env GOVERSION)"
echo "One POST with MaxNetworkRetries 0 over a connection that is cut:"
go run .
