package mcp

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"kijko/server/api"
)

// Settings are the dependencies of a Feature.
type Settings struct {
	Version string
	// Origin is the public origin of the API.
	Origin string
	// Issuer is the authorization server that signs people in for clients; empty: clients bring a key or a token.
	Issuer string
	// Origins are the sites whose pages may call, besides those of this server itself.
	Origins api.Origins
	Log     *slog.Logger
}

const (
	// atOnce bounds the messages of one caller that this process answers at a time.
	atOnce = 16
	// longest bounds one message; a tool that waits ends before.
	longest = 3 * time.Minute
	// runWait is how long run_skill waits for the end of the run. Many clients give up on a call after a minute.
	runWait = 45 * time.Second
	// progressEvery is how often a slow tool says that it still works.
	progressEvery = 5 * time.Second
)

// instructions tell a model how the tools fit together.
const instructions = `Kijko knows code and documents that were ingested into contexts. Start with list_contexts. A context is named by its id or its exact name.
Find text with search_code, declarations with find_symbol, and files with list_files. Read with read_file, only the lines that you need.
walk_graph follows calls, imports and inheritance from a declaration; find_path links two of them. run_skill runs a prompt of the user's library.
ask lets Kijko's own model answer with citations.
Cite what you use as path:line.`

// Feature is the MCP part of the edge.
type Feature struct {
	s      Settings
	server *sdk.Server
	// whole answers with one JSON document, streamed with events.
	whole, streamed http.Handler

	mu   sync.Mutex
	busy map[string]int // messages in progress by user
}

// New makes the feature. It starts nothing.
func New(s Settings) *Feature {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.Origin = strings.TrimSuffix(s.Origin, "/")
	f := &Feature{s: s, busy: map[string]int{}}
	f.server = sdk.NewServer(&sdk.Implementation{Name: "kijko", Title: "Kijko", Version: s.Version}, &sdk.ServerOptions{
		Instructions: instructions,
		// Without sessions nothing is announced later: no lists that change, no logging, no subscriptions.
		Capabilities:      &sdk.ServerCapabilities{Tools: &sdk.ToolCapabilities{}, Resources: &sdk.ResourceCapabilities{}, Prompts: &sdk.PromptCapabilities{}},
		CompletionHandler: f.complete,
		// The SDK's default lets any proxy keep and share a result. Tools are the same for all; everything else is the caller's.
		SetCacheable: func(_ context.Context, r sdk.Request, c *sdk.Cacheable) {
			c.CacheScope = "private"
			if _, ok := r.(*sdk.ListToolsRequest); ok {
				c.CacheScope, c.TTLMs = "public", 60_000
			}
		},
	})
	f.server.AddReceivingMiddleware(f.gate, f.lists)
	f.addTools()
	f.addResources()
	f.server.AddPrompt(&sdk.Prompt{Name: anyPrompt}, f.getPrompt)
	options := sdk.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true}
	options.JSONResponse = true
	f.whole = sdk.NewStreamableHTTPHandler(f.serverOf, &options)
	options.JSONResponse = false
	f.streamed = sdk.NewStreamableHTTPHandler(f.serverOf, &options)
	return f
}

func (f *Feature) serverOf(*http.Request) *sdk.Server { return f.server }

// Handlers returns the operation that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"callMCP": f.serve}
}

// Close has nothing to close.
func (*Feature) Close() error { return nil }
