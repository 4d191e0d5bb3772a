// Package mcp tests the server of the Model Context Protocol through the official Go client and over plain HTTP. The official clients of
// Python and TypeScript, and fastmcp, do the same in peers_test.go.
package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// shop is a small program: main calls checkout, which calls total and charge; total calls price.
var shop = map[string]string{
	"shop/main.go":       "package main\n\nimport \"shop/basket\"\n\nfunc main() {\n\tcheckout(basket.New())\n}\n",
	"shop/checkout.go":   "package main\n\n// checkout asks for the money.\nfunc checkout(items []string) error {\n\tamount := total(items)\n\treturn charge(amount)\n}\n\nfunc charge(amount int) error {\n\treturn nil\n}\n",
	"shop/total.go":      "package main\n\nfunc total(items []string) (sum int) {\n\tfor _, item := range items {\n\t\tsum += price(item)\n\t}\n\treturn sum\n}\n\nfunc price(item string) int {\n\treturn len(item)\n}\n",
	"shop/basket/new.go": "package basket\n\n// New makes a basket with marmalade.\nfunc New() []string {\n\treturn []string{\"marmalade\"}\n}\n",
	"shop/a guide.py":    "def guide():\n    return 'how to pay for marmalade'\n",
	"shop/long.py":       strings.Repeat("print('a line about patience and tea')\n", 4000),
	"shop/long_line.py":  "text = '" + strings.Repeat("patience ", 20_000) + "'\n",
}

// lab is a server with a worker, a double of the models and the cast: Anna owns a shared context and skills, Ben is a member of her
// organization, Stan is a stranger with a context of his own.
type lab struct {
	*stack.Stack
	models          *llmtest.Server
	anna, ben, stan *client.Person
	context, secret string // ids of contexts: Anna's Shop, Stan's
	skill           string
	gates           sync.Map // topic to the channel that its calls of a model wait for
}

func newLab(t testing.TB, options ...stack.Option) *lab {
	t.Helper()
	models := llmtest.New(t)
	offered := func(c *config.Config) {
		m := models.Config()
		c.AnthropicKey, c.AnthropicURL, c.GoogleKey, c.GoogleURL, c.LocalModel = m.AnthropicKey, m.AnthropicURL, m.GoogleKey, m.GoogleURL, "off"
	}
	s := stack.New(t, append([]stack.Option{offered}, options...)...)
	l := &lab{Stack: s, models: models, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	l.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", l.anna.OrgID, l.ben.ID)
	l.ben.Client = l.ben.As(l.ben.Do("POST", "/auth/switch-org", map[string]string{"org_id": l.anna.OrgID}).Want(200).Tokens().AccessToken)
	l.context = l.anna.Do("POST", "/projects", map[string]any{"name": "Shop", "privacy": "shared"}).Want(201).String("project.id")
	l.secret = l.stan.Do("POST", "/projects", map[string]any{"name": "Secret"}).Want(201).String("project.id")
	files := []map[string]string{}
	for path, content := range shop {
		files = append(files, map[string]string{"name": path[strings.LastIndex(path, "/")+1:], "path": path, "type": "text/plain", "content": content})
	}
	l.anna.Do("POST", "/files/upload", map[string]any{"projectId": l.context, "files": files}).Want(200)
	worker.Start(t, l.Stack)
	l.anna.Do("POST", "/projects/"+l.context+"/ingest", map[string]any{"skipValidation": true}).Want(202)
	require.Eventually(t, func() bool {
		return testdb.Holds(l.DB, "select exists (select from public.project_indexes where project_id = $1 and run_id is not null)", l.context)
	}, stack.Patience, 10*time.Millisecond, "the index")
	require.Eventually(t, func() bool {
		return testdb.Holds(l.DB, "select exists (select from public.kg_generations where project_id = $1 and is_current and nodes > 0)", l.context)
	}, stack.Patience, 10*time.Millisecond, "the graph")
	require.Eventually(t, func() bool {
		return testdb.Holds(l.DB, "select coalesce((select value ? 'anthropic' from private.installation where key = 'providers'), false)")
	}, stack.Patience, 10*time.Millisecond, "the offer of models")
	l.skill = l.anna.Do("POST", "/skills", map[string]any{"name": "Praise a topic", "description": "Says something nice.", "promptTemplate": "Write something nice about {{topic}}, {{times}} times",
		"inputSchema": []any{map[string]any{"name": "topic", "type": "string", "required": true}, map[string]any{"name": "times", "type": "number", "default": 2}}}).Want(201).String("id")
	return l
}

// key makes an API key of a person with a scope.
func key(t testing.TB, p *client.Person, scope string) string {
	t.Helper()
	return p.In(t).Do("POST", "/security/api-keys", map[string]any{"name": "Assistant " + scope, "expiration": "never", "scopes": []string{scope}}).Want(201).String("key")
}

// bearer adds a credential to the requests of a client.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// assistant is a session of the official Go client.
type assistant struct {
	*sdk.ClientSession
	t *testing.T
}

func connect(t *testing.T, l *lab, credential string, options *sdk.ClientOptions) *assistant {
	t.Helper()
	transport := &sdk.StreamableClientTransport{Endpoint: l.URL() + "/mcp", HTTPClient: &http.Client{Transport: bearer(credential)}, DisableStandaloneSSE: true}
	session, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, options).Connect(t.Context(), transport, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })
	return &assistant{session, t}
}

// URL is the address of the server.
func (l *lab) URL() string { return l.BaseURL }

// call calls a tool and returns its text.
func (a *assistant) call(tool string, arguments map[string]any) string {
	a.t.Helper()
	r, err := a.CallTool(a.t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	require.NoError(a.t, err)
	require.False(a.t, r.IsError, "%s: %s", tool, text(r))
	return text(r)
}

// refused calls a tool and returns the words of its refusal.
func (a *assistant) refused(tool string, arguments map[string]any) string {
	a.t.Helper()
	r, err := a.CallTool(a.t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	require.NoError(a.t, err)
	require.True(a.t, r.IsError, "%s: %s", tool, text(r))
	return text(r)
}

func text(r *sdk.CallToolResult) string {
	var b strings.Builder
	for _, c := range r.Content {
		if t, ok := c.(*sdk.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	return b.String()
}

// post sends a message as it is, and returns the answer.
func post(ctx context.Context, l *lab, credential, body string, header ...string) (*http.Response, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, l.URL()+"/mcp", strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if credential != "" {
		r.Header.Set("Authorization", "Bearer "+credential)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	return answer, raw, err
}

// say is post for the goroutine of the test.
func say(t *testing.T, l *lab, credential, body string, header ...string) (*http.Response, map[string]any) {
	t.Helper()
	answer, raw, err := post(t.Context(), l, credential, body, header...)
	require.NoError(t, err)
	var value map[string]any
	if len(raw) > 0 && !bytes.HasPrefix(raw, []byte("[")) {
		require.NoError(t, json.Unmarshal(raw, &value), "%s", raw)
	}
	return answer, value
}

// toolCall is the message that calls a tool.
func toolCall(id int, tool string, arguments map[string]any) string {
	raw, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": map[string]any{"name": tool, "arguments": arguments}})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func id(prefix string, in string) string {
	_, rest, _ := strings.Cut(in, prefix)
	if len(rest) < 36 {
		return fmt.Sprintf("no id after %q in %q", prefix, in)
	}
	return rest[:36]
}
