#!/bin/sh
# github.com/modelcontextprotocol/go-sdk: in protocol 2026-07-28 a result without resultType is refused by the clients of Python and TypeScript.
# The SDK adds it to a list that a receiving middleware answers, but not to a prompt that a middleware answers: there only the SDK's own
# method does. The SDK's own client accepts the prompt without it.
set -eu
version=v1.8.0
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat > go.mod <<MOD
module finding
go 1.25
require github.com/modelcontextprotocol/go-sdk $version
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func main() {
	filled := func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{Role: "user", Content: &mcp.TextContent{Text: "Hello."}}}}, nil
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "finding", Version: "1"}, nil)
	server.AddPrompt(&mcp.Prompt{Name: "registered"}, filled)
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			switch r := r.(type) {
			case *mcp.ListPromptsRequest:
				return &mcp.ListPromptsResult{Prompts: []*mcp.Prompt{{Name: "by-middleware"}}}, nil
			case *mcp.GetPromptRequest:
				if r.Params.Name == "by-middleware" {
					return filled(ctx, r)
				}
			}
			return next(ctx, method, r)
		}
	})
	web := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	defer web.Close()
	client, err := mcp.NewClient(&mcp.Implementation{Name: "finding", Version: "1"}, nil).Connect(context.Background(),
		&mcp.StreamableClientTransport{Endpoint: web.URL, DisableStandaloneSSE: true}, nil)
	check(err)
	_, err = client.GetPrompt(context.Background(), &mcp.GetPromptParams{Name: "by-middleware"})
	check(err)
	fmt.Println("protocol of the SDK's own client:", client.InitializeResult().ProtocolVersion, "- it takes the prompt")

	changed := false
	for _, c := range []struct{ method, name, want string }{
		{"prompts/list", "", "complete"}, {"prompts/get", "registered", "complete"}, {"prompts/get", "by-middleware", "absent"},
	} {
		got := resultType(web.URL, c.method, c.name)
		fmt.Printf("%s %s: resultType %s\n", c.method, c.name, got)
		changed = changed || got != c.want
	}
	if changed {
		fmt.Println("the behavior has changed")
		os.Exit(1)
	}
}

func resultType(url, method, name string) string {
	params := map[string]any{"_meta": map[string]any{"io.modelcontextprotocol/protocolVersion": "2026-07-28",
		"io.modelcontextprotocol/clientInfo": map[string]any{"name": "finding", "version": "1"}, "io.modelcontextprotocol/clientCapabilities": map[string]any{}}}
	if name != "" {
		params["name"] = name
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	check(err)
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(string(body)))
	check(err)
	for key, value := range map[string]string{"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": name} {
		if value != "" {
			r.Header.Set(key, value)
		}
	}
	answer, err := http.DefaultClient.Do(r)
	check(err)
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	check(err)
	var message struct{ Result map[string]any }
	check(json.Unmarshal(raw, &message))
	if message.Result == nil {
		check(fmt.Errorf("%s: %s", method, raw))
	}
	if kind, ok := message.Result["resultType"].(string); ok {
		return kind
	}
	return "absent"
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
GO
GOFLAGS=-mod=mod go mod tidy -e >/dev/null 2>&1
echo "go-sdk $version"
GOFLAGS=-mod=mod go run .
