package chat

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/llm/llmtest"
)

// lab is a server with a double of the providers and the cast: Anna owns a shared context with files, Ben is a member of her organization, Stan
// is a stranger.
type lab struct {
	*stack.Stack
	t               *testing.T
	models          *llmtest.Server
	anna, ben, stan *client.Person
	context         string
}

type file struct{ name, content string }

// shop are the files of the context.
var shop = []file{
	{"src/auth.ts", "export class TokenChecker {\n  // Tokens are checked here and nowhere else.\n  checkToken(token: string): boolean {\n    return token.length > 20\n  }\n}\n"},
	{"src/cart.ts", "export class Cart {\n  // A cart holds the lines of an order until it is paid.\n  addLine(article: string, amount: number) {}\n}\n"},
	{"README.md", "# Shop\n\nThe shop sells articles. Tokens guard each request to the cart.\n"},
}

func newLab(t *testing.T, options ...stack.Option) *lab {
	t.Helper()
	l := &lab{t: t, models: llmtest.New(t)}
	l.Stack = stack.New(t, append([]stack.Option{stack.Models(l.models)}, options...)...)
	l.anna, l.ben, l.stan = l.SignUp("Anna"), l.SignUp("Ben"), l.SignUp("Stan")
	l.DB.Exec("update public.subscriptions set plan_id = 'enterprise'")
	l.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", l.anna.OrgID, l.ben.ID)
	l.ben.Client = l.ben.As(l.ben.Do("POST", "/auth/switch-org", map[string]string{"org_id": l.anna.OrgID}).Want(200).Tokens().AccessToken)
	l.context = l.anna.Do("POST", "/projects", map[string]any{"name": "Shop", "privacy": "shared"}).Want(201).String("project.id")
	stack.Eventually(t, "the server tells the database what it offers", func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from private.installation where key = 'providers')")
	})
	return l
}

// ingest fills the context.
func (l *lab) ingest() *lab {
	l.t.Helper()
	stop := worker.Start(l.t, l.Stack)
	defer stop()
	content, body := form(l.t, shop)
	l.anna.With("Content-Type", content).Do("POST", "/contexts/"+l.context+"/sources", body).Want(201)
	return l
}

func form(t *testing.T, files []file) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for _, f := range files {
		part, err := form.CreateFormFile("files", f.name)
		require.NoError(t, err)
		_, err = io.WriteString(part, f.content)
		require.NoError(t, err)
	}
	require.NoError(t, form.Close())
	return form.FormDataContentType(), b.Bytes()
}

func (l *lab) ask(p *client.Person, thread string, body any) client.Response {
	l.t.Helper()
	if text, is := body.(string); is {
		body = map[string]any{"message": text}
	}
	return p.Do("POST", "/contexts/"+thread+"/chat", body)
}

// calmly resets the rate limit, for tests of something else.
func (l *lab) calmly() { l.DB.Exec("delete from private.rate_counters where key like 'chat|%'") }

// used is how many questions an organization has paid for.
func (l *lab) used(p *client.Person) int {
	return testdb.Value[int](l.DB, "select coalesce(sum(used), 0)::int from public.usage_counters where organization_id = $1 and metric = 'oracle_queries'", p.OrgID)
}

func (l *lab) messages(p *client.Person, thread string) []answer {
	l.t.Helper()
	return client.JSON[[]answer](p.Get("/context/" + thread + "/chat").Want(200))
}

func (l *lab) history(p *client.Person, thread string) (all []string) {
	l.t.Helper()
	for _, m := range l.messages(p, thread) {
		all = append(all, m.Role+": "+m.Content)
	}
	return all
}

type citation struct {
	Index                               int
	FileID, Name, Path, Excerpt         string
	IngestionNumber, StartLine, EndLine int
	Score                               float64
}

type answer struct {
	ID, Role, Content, Timestamp, ChatID, UserMessageID, Model string
	Sources                                                    []citation
	Stopped, ModelFallback                                     bool
	Usage                                                      struct{ InputTokens, OutputTokens, TotalTokens int }
}

var (
	passage = regexp.MustCompile(`<passage number="(\d+)" path="([^"]*)"`)
	marker  = regexp.MustCompile(`\[(\d+)\]`)
)

// given are the paths of the passages of a call by their numbers.
func given(c llmtest.Call) map[string]string {
	all := map[string]string{}
	for _, m := range passage.FindAllStringSubmatch(c.Text, -1) {
		all[m[1]] = m[2]
	}
	return all
}

// event is one server-sent event.
type event struct {
	name string
	data map[string]any
}

// open begins a streamed question. The caller closes it, or cancels ctx.
func (l *lab) open(ctx context.Context, p *client.Person, thread string, body any, header ...string) *http.Response {
	l.t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(l.t, err)
	thread, query, _ := strings.Cut(thread, "?")
	r, err := http.NewRequestWithContext(ctx, "POST", l.BaseURL+"/api/v1/contexts/"+thread+"/chat?"+query, bytes.NewReader(raw))
	require.NoError(l.t, err)
	r.Header.Set("Authorization", "Bearer "+p.Token)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(l.t, err)
	l.t.Cleanup(func() { _ = answer.Body.Close() })
	require.Equal(l.t, 200, answer.StatusCode)
	return answer
}

// next reads the next event; ok is false at the end.
func (l *lab) next(lines *bufio.Scanner) (e event, ok bool) {
	l.t.Helper()
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "event":
			e.name = value
		case name == "data":
			require.NoError(l.t, client.CheckEvent("POST", "/contexts/x/chat", e.name, value))
			require.NoError(l.t, json.Unmarshal([]byte(value), &e.data))
		case name == "" && value == "" && e.name != "":
			return e, true
		}
	}
	return e, false
}

func (l *lab) events(p *client.Person, thread string, body any, header ...string) (all []event) {
	l.t.Helper()
	lines := bufio.NewScanner(l.open(l.t.Context(), p, thread, body, header...).Body)
	lines.Buffer(nil, 1<<20)
	for e, ok := l.next(lines); ok; e, ok = l.next(lines) {
		all = append(all, e)
	}
	return all
}

func names(events []event) string {
	var all []string
	for _, e := range events {
		if n := len(all); n == 0 || all[n-1] != e.name {
			all = append(all, e.name)
		}
	}
	return strings.Join(all, " ")
}

func said(events []event) (text string) {
	for _, e := range events {
		if e.name == "text" {
			text += fmt.Sprint(e.data["content"])
		}
	}
	return text
}
