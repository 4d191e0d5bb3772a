package retrieval

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/server/retrieval"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/embed"
	"kijko/worker/token"
)

// lab is a server with a worker and the cast: Anna owns a shared context, Ben is a member of her organization, Stan is a stranger.
type lab struct {
	*stack.Stack
	t               *testing.T
	anna, ben, stan *client.Person
	context         string
	retriever       *retrieval.Retriever
}

func newLab(t *testing.T) *lab {
	t.Helper()
	s := stack.New(t)
	l := &lab{Stack: s, t: t, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	l.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", l.anna.OrgID, l.ben.ID)
	l.context = l.anna.Do("POST", "/projects", map[string]any{"name": "Shop", "privacy": "shared"}).Want(201).String("project.id")
	l.retriever = &retrieval.Retriever{Exec: api.NewExecutor(l.DB.Pool("kijko_server"), nil), Log: slog.New(slog.DiscardHandler)}
	worker.Start(t, s)
	return l
}

// ingest uploads files and waits until they are the context's.
func (l *lab) ingest(files map[string]string) {
	l.t.Helper()
	list := []map[string]string{}
	for path, content := range files {
		list = append(list, map[string]string{"name": path[strings.LastIndex(path, "/")+1:], "path": path, "type": "text/plain", "content": content})
	}
	l.anna.Do("POST", "/files/upload", map[string]any{"projectId": l.context, "files": list}).Want(200)
	before := l.ready()
	l.anna.Do("POST", "/projects/"+l.context+"/ingest", map[string]any{"skipValidation": true}).Want(202)
	stack.Eventually(l.t, "the version", func() bool { return l.ready() > before })
}

func (l *lab) ready() int {
	return testdb.Value[int](l.DB, "select count(*) from public.context_ingestions where project_id = $1 and status = 'ready'", l.context)
}

// call is a request of a person, as chat makes it.
func (l *lab) call(p *client.Person) *api.Call {
	session := testdb.Value[string](l.DB, "select id from private.sessions where user_id = $1 order by created_at desc limit 1", p.ID)
	app := fiber.New()
	ctx := app.AcquireCtx(&fasthttp.RequestCtx{})
	l.t.Cleanup(func() { app.ReleaseCtx(ctx) })
	return &api.Call{Ctx: ctx, Op: &openapi.Operation{Scope: "read"}, Caller: &api.Caller{UserID: p.ID, SessionID: session, OrgHint: l.anna.OrgID, Claims: `{"sub":"` + p.ID + `"}`}}
}

func (l *lab) ask(p *client.Person, r retrieval.Request) retrieval.Result {
	l.t.Helper()
	r.ContextID = uuid.MustParse(l.context)
	result, err := l.retriever.Retrieve(l.call(p), r)
	require.NoError(l.t, err)
	return result
}

func paths(r retrieval.Result) []string {
	list := []string{}
	for _, p := range r.Passages {
		list = append(list, p.Path)
	}
	return list
}

var shop = map[string]string{
	"shop/cart.go":   "package shop\n\ntype Cart struct{ lines []Line }\n\nfunc (c *Cart) ComputeTotal() int {\n\tsum := 0\n\tfor _, l := range c.lines {\n\t\tsum += l.Price\n\t}\n\treturn sum\n}\n",
	"shop/mail.go":   "package shop\n\nimport \"net/smtp\"\n\nfunc SendInvoiceMail(to string, body []byte) error {\n\treturn smtp.SendMail(\"mail:25\", nil, \"shop@example.org\", []string{to}, body)\n}\n",
	"shop/parse.go":  "package shop\n\nimport \"strconv\"\n\nfunc parseAmount(text string) (int, error) {\n\treturn strconv.Atoi(text)\n}\n",
	"web/basket.ts":  "export class Basket {\n  add(line: Line): void { this.lines.push(line) }\n}\n",
	"docs/Guide.txt": "# Guide\n\nThe shop sells things. Orders are sent on the next day.\n",
	"docs/Terms.txt": "General terms of business.\n",
}

func TestAnnaAsksAboutHerCode(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	require.Empty(t, l.ask(l.anna, retrieval.Request{Question: "anything at all"}).Passages, "an empty context has no passages")
	l.ingest(shop)

	for question, want := range map[string]string{
		"How are the totals of carts computed?":      "shop/cart.go",
		"who sends mails with invoices":              "shop/mail.go",
		"parsing of amounts":                         "shop/parse.go",
		"parse_amount":                               "shop/parse.go",
		"Where is a line added to the basket?":       "web/basket.ts",
		"when are orders sent?":                      "docs/Guide.txt",
		"explain @guide.txt please":                  "docs/Guide.txt",
		"what does @docs/Terms.txt say about totals": "docs/Terms.txt",
	} {
		got := l.ask(l.ben, retrieval.Request{Question: question})
		require.NotEmpty(t, got.Passages, question)
		require.Equal(t, want, got.Passages[0].Path, question)
		require.Equal(t, question, got.Message)
	}
	first := l.ask(l.ben, retrieval.Request{Question: "compute total", Limit: 1}).Passages
	require.Len(t, first, 1)
	require.Equal(t, []any{"cart.go", 1, 1, token.Count(first[0].Text)}, []any{first[0].Name, first[0].IngestionNumber, first[0].StartLine, first[0].Tokens})
	require.Contains(t, first[0].Text, "ComputeTotal")
	require.Greater(t, first[0].Score, 0.)
	require.LessOrEqual(t, first[0].Score, 1.)

	// The budget holds for all passages together; of a first one that is too long the beginning is left.
	whole := l.ask(l.ben, retrieval.Request{Question: "shop"}).Passages
	require.Greater(t, len(whole), 2)
	sum := 0
	for _, p := range l.ask(l.ben, retrieval.Request{Question: "shop", Budget: whole[0].Tokens + 1}).Passages {
		sum += p.Tokens
	}
	require.LessOrEqual(t, sum, whole[0].Tokens+1)
	short := l.ask(l.ben, retrieval.Request{Question: "@shop/cart.go", Budget: 12}).Passages
	require.Len(t, short, 1)
	require.True(t, strings.HasPrefix(shop["shop/cart.go"], short[0].Text) && short[0].Text != "" && short[0].Tokens <= 12, short[0].Text)

	// A skill of the caller is taken out of the question; an unknown one stays text.
	l.ben.Do("POST", "/skills", map[string]any{"name": "Code Review", "promptTemplate": "Review this code with great care."}).Want(201)
	got := l.ask(l.ben, retrieval.Request{Question: "/skill:code review the totals of carts"})
	require.Equal(t, []any{"Review this code with great care.", "the totals of carts"}, []any{got.SkillPrompt, got.Message})
	got = l.ask(l.anna, retrieval.Request{Question: "/skill:code review the totals of carts"})
	require.Equal(t, []any{"", "/skill:code review the totals of carts"}, []any{got.SkillPrompt, got.Message})
	alone, err := l.retriever.Retrieve(l.call(l.ben), retrieval.Request{Question: "hello"})
	require.NoError(t, err)
	require.Equal(t, retrieval.Result{Message: "hello"}, alone, "a chat without a context")

	// Sources.
	id := uuid.MustParse(testdb.Value[string](l.DB, "select id from public.context_files where project_id = $1 and path = 'shop/parse.go'", l.context))
	require.Equal(t, []string{"shop/parse.go"}, paths(l.ask(l.ben, retrieval.Request{Question: "shop", SourceIDs: []uuid.UUID{id}})))
	require.Empty(t, l.ask(l.ben, retrieval.Request{Question: "shop", SourceIDs: []uuid.UUID{}}).Passages)

	// Strangers learn nothing, not even that the context exists.
	for _, r := range []retrieval.Request{{ContextID: uuid.MustParse(l.context), Question: "shop"}, {ContextID: uuid.New(), Question: "shop"}} {
		_, err := l.retriever.Retrieve(l.callOf(l.stan, l.stan.OrgID), r)
		require.ErrorContains(t, err, "This context does not exist.")
	}

	// The second version: its files are counted as those of a first ingestion would be.
	l.ingest(map[string]string{"shop/refund.go": "package shop\n\nfunc refundOrder(order int) error {\n\treturn notify(order)\n}\n"})
	require.Equal(t, "shop/refund.go", l.ask(l.ben, retrieval.Request{Question: "orders are refunded"}).Passages[0].Path)
	require.Equal(t, 2, l.ask(l.ben, retrieval.Request{Question: "refund"}).Passages[0].IngestionNumber)
	require.Equal(t, []string{"shop/refund.go"}, paths(l.ask(l.ben, retrieval.Request{Question: "@Ingestion #2"})))
	require.Zero(t, testdb.Value[int](l.DB, `select count(*) from (
			select u.word, count(*) as n from public.project_indexes i join public.chunk_terms t on t.run_id = i.run_id, unnest(array_append(tsvector_to_array(t.terms), '')) u (word)
			where i.project_id = $1 group by 1) x
		left join private.index_words w on w.word = x.word and w.run_id = (select run_id from public.project_indexes where project_id = $1)
		where abs(x.n - coalesce(w.chunks, 1)) > 1`, l.context), "counts of words are at most one too low")
}

func (l *lab) callOf(p *client.Person, org string) *api.Call {
	c := l.call(p)
	c.Caller.OrgHint = org
	return c
}

// A provider of embeddings embeds the question; without its answer words alone decide.
func TestAQuestionIsEmbeddedByTheEmbedderOfItsContext(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ingest(shop)
	var asked []string
	broken := false
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Input []string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		asked = append(asked, body.Input...)
		if broken {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		v := make([]float64, 1536)
		v[7] = 1
		_ = json.NewEncoder(w).Encode(map[string]any{"data": []any{map[string]any{"index": 0, "embedding": v}}})
	}))
	defer provider.Close()
	l.retriever.Embed = embed.New(embed.Config{URL: provider.URL, Key: "k"})
	require.NotEmpty(t, l.ask(l.anna, retrieval.Request{Question: "the shop"}).Passages)
	require.Empty(t, asked, "a context without embeddings needs no vector")

	v := make([]float32, 1536)
	v[7] = 1
	l.DB.Exec(`insert into public.enrichment_states (organization_id, project_id, kind, is_active, result)
		values ($1, $2, 'chromaCode', true, '{"model": "text-embedding-3-small", "dimensions": 1536, "embedder": "e"}')`, l.anna.OrgID, l.context)
	l.DB.Exec(`insert into public.file_embeddings (organization_id, project_id, file_id, embedder, chunk_no, hash, start_byte, end_byte, start_line, end_line, tokens, model, dimensions, embedding)
		select f.organization_id, f.project_id, f.id, 'e', 0, f.hash, 0, 10, 1, 1, 1, 'text-embedding-3-small', 1536, $2 from public.context_files f
		where f.project_id = $1 and f.path = 'docs/Terms.txt'`, l.context, v)
	got := l.ask(l.anna, retrieval.Request{Question: "something without any common word: zebra"})
	require.Equal(t, []string{"something without any common word: zebra"}, asked)
	require.Equal(t, []string{"docs/Terms.txt"}, paths(got), "what is near in meaning is found without a common word")
	broken = true
	require.NotEmpty(t, l.ask(l.anna, retrieval.Request{Question: "the shop"}).Passages)
	require.Len(t, asked, 2)
}
