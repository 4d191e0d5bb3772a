package enrichments

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/embed"
)

const goFile = `package shop

// Cart holds lines.
type Cart struct{ lines []Line }

type Line struct{ Price int }

const limit = 3

func (c *Cart) Total() int {
	sum := 0
	for _, l := range c.lines {
		sum += l.Price
	}
	return sum
}
`

const tsFile = `export class Basket {
  add(line: Line): void {}
}

function hidden() { const inner = 1; return inner }

export const limit = 3
`

// Anna opens the tab of enrichments, runs all of them, changes settings and files, and resets them.
func TestAnnaEnrichesHerContext(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	worker.Start(t, l.Stack)

	empty := l.post("/enrichments/lsp").Want(200)
	require.Equal(t, []any{true, 0., 0.}, []any{empty.Value("languageServer.active"), empty.Value("languageServer.symbols"), empty.Value("overall")}, "an empty context has zeros")

	l.write("shop/cart.go", goFile)
	l.write("web/basket.ts", tsFile)
	l.write("web/node_modules/left/pad.js", "export function pad() {}\n")
	l.write("README.md", "# Shop\n\nSells things.\n")
	l.write("notes.txt", "nothing to parse\n")
	l.ready()
	l.idle()

	status := l.anna.Get("/context/" + l.project + "/enrichments").Want(200)
	lsp := part(t, status, "languageServer")
	require.Equal(t, []any{true, "idle", 60., 3., 5., 8.}, []any{lsp["active"], lsp["status"], lsp["coverage"], lsp["indexedFiles"], lsp["totalFiles"], lsp["symbols"]},
		"after a version the index is built: a pattern excludes at any depth, and a text without a parser has no tree")
	var languages []string
	sum := 0.
	for _, one := range lsp["languages"].([]any) {
		entry := one.(map[string]any)
		languages = append(languages, entry["name"].(string))
		sum += entry["percentage"].(float64)
	}
	require.Equal(t, []string{"Go", "TypeScript", "Markdown"}, languages)
	require.Equal(t, 100., sum)
	require.Equal(t, []any{false, 0.}, values(status, "chromaCode.active", "chromaCode.embeddings"), "embeddings are not in use yet")
	kg := part(t, status, "knowledgeGraph")
	require.Equal(t, []any{true, 75.}, []any{kg["active"], kg["coverage"]}, "three of the four files that no pattern excludes have a parser")
	require.Greater(t, kg["entities"], 10.)
	require.Len(t, kg["topEntities"], 5)
	again := part(t, l.post("/enrichments/kg").Want(200), "knowledgeGraph")
	require.Equal(t, []any{kg["entities"], kg["relationships"], kg["clusters"]}, []any{again["entities"], again["relationships"], again["clusters"]}, "the same files give the same graph")
	require.Equal(t, "Cart class true, Line class true, limit variable false, Cart.Total function true", l.symbols("shop/cart.go"))
	require.Equal(t, "Basket class true, Basket.add function, hidden function false, limit variable true", l.symbols("web/basket.ts"))

	cc := part(t, l.post("/enrichments/cc").Want(200), "chromaCode")
	require.Equal(t, []any{true, 100., 5., 5., 256., "kijko-hash-256", "Semantic (512 tokens)", 100.},
		[]any{cc["active"], cc["coverage"], cc["embeddings"], cc["totalFiles"], cc["dimensions"], cc["model"], cc["chunkStrategy"], cc["progress"]})
	require.Equal(t, "shop/cart.go", l.nearest("cart total of all lines"))
	require.Equal(t, "README.md", l.nearest("sells things"))
	require.Contains(t, l.entries(), "System LSP index updated: 8 symbols in 3 files 8 4")
	require.Contains(t, l.entries(), "Anna Test ChromaCode embeddings generated: 5 files with kijko-hash-256 5 5")

	// A changed file is embedded by the automatic run that follows its version; the others are left alone.
	l.write("shop/cart.go", goFile+"\nfunc Discount() int { return 5 }\n")
	l.ready()
	l.idle()
	require.Contains(t, l.entries(), "System ChromaCode embeddings generated: 5 files with kijko-hash-256 0 1")
	require.Equal(t, 100., l.anna.Get(l.path("/enrichments")).Want(200).Value("chromaCode.coverage"))
	require.Equal(t, "shop/cart.go", l.nearest("discount"))

	l.anna.Do("PUT", l.path("/settings/chromacode"), map[string]any{"chunkStrategy": "sliding", "chunkSize": 64, "overlap": 16, "excludePatterns": []string{"*.txt"}}).Want(200)
	require.Equal(t, []any{0., "Sliding window (64 tokens)"}, values(l.anna.Get(l.path("/enrichments")).Want(200), "chromaCode.coverage", "chromaCode.chunkStrategy"), "another chunking makes embeddings outdated")
	require.Equal(t, 80., l.post("/enrichments/cc").Want(200).Value("chromaCode.coverage"))
	stack.Eventually(t, "embeddings of the old chunking are removed", func() bool {
		return testdb.Value[bool](l.DB, "select count(distinct embedder) = 1 from public.file_embeddings where project_id = $1", l.project)
	})
	require.Positive(t, testdb.Value[int](l.DB, `select count(*) from public.file_embeddings a join public.file_embeddings b using (project_id, file_id)
		where b.chunk_no = a.chunk_no + 1 and b.start_byte < a.end_byte and project_id = $1`, l.project), "windows overlap")

	l.anna.Do("PATCH", "/context/"+l.project+"/settings/lsp", map[string]any{"excludePatterns": []string{"/web/**"}, "maxFileSize": 0}).Want(200)
	require.Equal(t, 40., l.post("/enrichments/lsp").Want(200).Value("languageServer.coverage"))

	reset := l.anna.Do("POST", l.path("/enrichments/reset"), map[string]any{"kinds": []string{"chromaCode"}}).Want(200)
	require.Equal(t, []any{false, 0., true, "text-embedding-3-small"}, values(reset, "chromaCode.active", "chromaCode.embeddings", "languageServer.active", "chromaCode.model"))
	require.Equal(t, []any{false, 0.}, values(l.post("/enrichments/reset").Want(200), "languageServer.active", "languageServer.symbols"))
	stack.Eventually(t, "what was made is removed", func() bool {
		return testdb.Value[int](l.DB, "select (select count(*) from public.symbols) + (select count(*) from public.file_embeddings)") == 0
	})
}

func values(r client.Response, paths ...string) []any {
	var out []any
	for _, p := range paths {
		out = append(out, r.Value(p))
	}
	return out
}

func (l *lab) symbols(path string) string {
	return testdb.Value[string](l.DB, `select string_agg(concat_ws(' ', s.qualified_name, s.kind, s.exported::text), ', ' order by s.start_line, s.position)
		from public.context_files f join public.symbol_files i on i.project_id = f.project_id and i.file_id = f.id
		join public.symbols s on s.project_id = i.project_id and s.hash = i.hash and s.language = i.language where f.project_id = $1 and f.path = $2`, l.project, path)
}

// nearest asks for the nearest chunk, as the server does for Anna.
func (l *lab) nearest(question string) (path string) {
	l.t.Helper()
	vectors, err := embed.Hash{}.Embed(context.Background(), []string{question})
	require.NoError(l.t, err)
	tx, err := l.DB.Pool("postgres").Begin(context.Background())
	require.NoError(l.t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(context.Background(), "select set_config('app.user_id', $1, true), set_config('app.org_id', $2, true), set_config('app.org_role', 'owner', true)", l.anna.ID, l.anna.OrgID)
	require.NoError(l.t, err)
	var content string
	require.NoError(l.t, tx.QueryRow(context.Background(), "select path, content from private.similar_chunks($1, $2, 1)", l.project, vectors[0]).Scan(&path, &content))
	require.NotEmpty(l.t, content)
	return path
}

// A provider of embeddings that fails leaves what there is; one that recovers is used.
func TestAProviderOfEmbeddingsFails(t *testing.T) {
	t.Parallel()
	provider := newEmbedder(t)
	l := newLab(t, provider.option)
	worker.Start(t, l.Stack)
	l.write("a.go", goFile)
	l.write("b.ts", tsFile)
	before := l.post("/enrichments/cc").Want(200)
	require.Equal(t, []any{100., 1536., "text-embedding-3-small"}, values(before, "chromaCode.coverage", "chromaCode.dimensions", "chromaCode.model"))
	require.Equal(t, 2, provider.asked())
	l.post("/enrichments/cc").Want(200)
	require.Equal(t, 2, provider.asked(), "what is embedded is not embedded again")

	l.anna.Do("PUT", l.path("/settings/chromacode"), map[string]any{"embeddingModel": "text-embedding-3-large"}).Want(200)
	l.write("c.md", "# New\n")
	for _, c := range []struct {
		name string
		fail func(w http.ResponseWriter)
		says string
	}{
		{"a wrong key", func(w http.ResponseWriter) { w.WriteHeader(401) }, "refuses the API key"},
		{"a refusal", func(w http.ResponseWriter) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"error": {"message": "sk-embed has no such model"}}`))
		}, "[key] has no such model"},
		{"no embeddings", func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"data": []}`)) }, "no set of embeddings"},
	} {
		provider.failing(c.fail)
		problem := l.post("/enrichments/cc").Problem(502, "ENRICHMENT_FAILED")
		require.Contains(t, problem.String("message"), c.says, c.name)
		require.NotContains(t, string(problem.Body), "sk-embed", c.name)
		now := l.anna.Get(l.path("/enrichments")).Want(200)
		require.Equal(t, []any{true, "failed", 1536.}, values(now, "chromaCode.active", "chromaCode.status", "chromaCode.dimensions"), c.name)
		require.Contains(t, now.String("chromaCode.errorMessage"), c.says)
		require.Equal(t, 2, testdb.Value[int](l.DB, "select count(*) from public.file_embeddings where model = 'text-embedding-3-small'"), "previous data stay in force")
	}
	all := l.post("/enrichments/run").Problem(502, "ENRICHMENT_FAILED")
	require.True(t, strings.HasPrefix(all.String("message"), "ChromaCode embeddings: "), all.String("message"))
	require.Equal(t, []any{true, "idle"}, values(l.anna.Get(l.path("/enrichments")), "languageServer.active", "languageServer.status"), "the others are built all the same")

	provider.failing(nil)
	after := l.post("/enrichments/run").Want(200)
	require.Equal(t, []any{100., 3072., "text-embedding-3-large", "idle"}, values(after, "chromaCode.coverage", "chromaCode.dimensions", "chromaCode.model", "chromaCode.status"))
	require.Nil(t, part(t, after, "chromaCode")["errorMessage"])
}
