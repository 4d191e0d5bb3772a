#!/bin/sh
# Google's Gen AI SDK for Go tells an error's HTTP status by the body alone. Where the body has an `error` object without a numeric `code`,
# as gateways in front of the API send it, APIError.Code is 0 for a 429 and a 401, and neither status nor Retry-After of the response can be
# had from the error. A body without an `error` object keeps the status.
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat > go.mod <<'EOF'
module finding

go 1.26

require google.golang.org/genai v1.77.0
EOF
cat > main.go <<'EOF'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"google.golang.org/genai"
)

func main() {
	changed := false
	for _, c := range []struct {
		status int
		body   string
		code   int
	}{
		{429, `{"error":{"message":"too many requests","type":"rate_limit"}}`, 0},
		{401, `{"error":{"message":"no"}}`, 0},
		{429, `{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED"}}`, 429},
		{429, `{"message":"too many requests"}`, 429},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		client, err := genai.NewClient(context.Background(), &genai.ClientConfig{APIKey: "k", Backend: genai.BackendGeminiAPI,
			HTTPOptions: genai.HTTPOptions{BaseURL: server.URL}})
		if err != nil {
			panic(err)
		}
		_, err = client.Models.GenerateContent(context.Background(), "gemini-x", genai.Text("Hello"), nil)
		server.Close()
		var e genai.APIError
		if !errors.As(err, &e) {
			fmt.Println("no APIError:", err)
			os.Exit(1)
		}
		fmt.Printf("HTTP %d with %s: APIError.Code %d\n", c.status, c.body, e.Code)
		changed = changed || e.Code != c.code
	}
	if changed {
		fmt.Println("the behavior has changed")
		os.Exit(1)
	}
}
EOF
go mod tidy >/dev/null 2>&1
echo "google.golang.org/genai $(go list -m -f '{{.Version}}' google.golang.org/genai), $(go version)"
echo "An error object without a numeric code makes APIError.Code 0, whatever the HTTP status is."
go run .
