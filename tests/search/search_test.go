package search

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

// lab is a server with a worker and the cast: Anna owns a shared context, Ben is a member of her organization, Stan is a stranger.
type lab struct {
	*stack.Stack
	anna, ben, stan *client.Person
	context         string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	s := stack.New(t)
	l := &lab{Stack: s, anna: s.SignUp("Anna"), ben: s.SignUp("Ben"), stan: s.SignUp("Stan")}
	l.Join(l.anna, l.ben, "member")
	l.context = l.anna.Do("POST", "/projects", map[string]any{"name": "Shop", "privacy": "shared"}).Want(201).String("project.id")
	return l
}

// ingest uploads files and has a worker index them.
func (l *lab) ingest(t *testing.T, files map[string]string) {
	t.Helper()
	list := []map[string]string{}
	for path, content := range files {
		list = append(list, map[string]string{"name": path[strings.LastIndex(path, "/")+1:], "path": path, "type": "text/plain", "content": content})
	}
	l.anna.Do("POST", "/files/upload", map[string]any{"projectId": l.context, "files": list}).Want(200)
	worker.Start(t, l.Stack)
	l.anna.Do("POST", "/projects/"+l.context+"/ingest", map[string]any{"skipValidation": true}).Want(202)
	stack.Eventually(t, "the index", func() bool {
		return testdb.Value[bool](l.DB, "select exists (select from public.project_indexes where project_id = $1 and run_id is not null)", l.context)
	})
}

type chunk struct {
	Path  string
	Lines []struct {
		Number  int
		Text    string
		Matches []struct{ Start, End int }
	}
}

func (l *lab) chunks(p *client.Person, query string) []chunk {
	return client.JSON[[]chunk](p.Get("/contexts/" + l.context + "/chunks/search?q=" + url.QueryEscape(query)).Want(200))
}

func paths(chunks []chunk) []string {
	found := []string{}
	for _, c := range chunks {
		found = append(found, c.Path)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestContentIsFoundByPartsOfNamesAndInScriptsWithoutBlanks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.ingest(t, map[string]string{
		"src/camel.ts":   "export function getUserName(id: string) {\n  return parseURL(id);\n}\n",
		"src/snake.py":   "def get_user_name(identifier):\n    return sha256sum(identifier)\n",
		"src/kebab.css":  ".max-retry-count {\n  color: red;\n}\n",
		"src/upper.go":   "package p\n\nconst MAX_RETRY_COUNT = 5 // of HTTPServer2\n",
		"note/zh.go":     "package note\n\n// 系统检查库存数量是否足够然后扣减。\n",
		"note/ja.go":     "package note\n\n// 注文テーブルの在庫を確認してから引き当てる。\n",
		"note/th.go":     "package note\n\n// ตรวจสอบที่อยู่จัดส่งของลูกค้าก่อนส่ง\n",
		"note/phrase.go": "package note\n\n// The quick brown fox jumps over the lazy dog.\n",
		"note/words.go":  "package note\n\n// The brown dog is quick; a fox is not.\n",
	})
	for query, want := range map[string][]string{
		"user name": {"src/camel.ts", "src/snake.py"}, "getUserName": {"src/camel.ts", "src/snake.py"}, "get_user_name": {"src/camel.ts", "src/snake.py"},
		"NAME": {"src/camel.ts", "src/snake.py"}, "parse url": {"src/camel.ts"}, "retry": {"src/kebab.css", "src/upper.go"}, "max-retry-count": {"src/kebab.css", "src/upper.go"},
		"maxRetryCount": {"src/kebab.css", "src/upper.go"}, "sha256": {"src/snake.py"}, "256": {"src/snake.py"}, "server": {"src/upper.go"}, "http_server": {"src/upper.go"},
		"库存": {"note/zh.go"}, "库存数量": {"note/zh.go"}, "存库": {}, "在庫": {"note/ja.go"}, "テーブル": {"note/ja.go"}, "ﾃｰﾌﾞﾙ": {"note/ja.go"}, "ที่อยู่": {"note/th.go"}, "ลูกค้า": {"note/th.go"},
		"quick fox": {"note/phrase.go", "note/words.go"}, `"quick brown"`: {"note/phrase.go"}, `"brown fox" lazy`: {"note/phrase.go"}, `"fox brown"`: {}, `"数量是否"`: {"note/zh.go"},
		"nothing": {}, "": {}, "   ": {}, "a": {}, `"`: {}, `""`: {}, "'; select pg_sleep(9) --": {}, "& | ! ( ) <-> :* \\": {}, "\u202e\ufeff": {}, strings.Repeat("(", 200): {},
		strings.Repeat("aB", 100): {}, strings.Repeat("字", 200): {}, strings.Repeat(`"a b" `, 33): {},
	} {
		require.Equal(t, want, paths(l.chunks(l.ben, query)), query)
	}
	camel := l.chunks(l.ben, "user")[0]
	for _, c := range l.chunks(l.ben, "user") {
		if c.Path == "src/camel.ts" {
			camel = c
		}
	}
	require.Equal(t, 1, camel.Lines[0].Number)
	require.Equal(t, "User", camel.Lines[0].Text[camel.Lines[0].Matches[0].Start:camel.Lines[0].Matches[0].End])

	require.Equal(t, l.ben.Get("/contexts/"+l.context+"/chunks/search?q=user").Body, l.ben.Get("/context/"+l.context+"/chunks/search?q=user").Body)
	require.Len(t, client.JSON[[]chunk](l.ben.Get("/contexts/"+l.context+"/chunks/search?q=user&limit=1")), 1)
	l.ben.Get("/contexts/"+l.context+"/chunks/search?q=user&limit=101").Problem(400, "VALIDATION_ERROR").Field("limit")
	l.ben.Get("/contexts/"+l.context+"/chunks/search?q="+strings.Repeat("x", 201)).Problem(400, "VALIDATION_ERROR").Field("q")
	l.stan.Get("/contexts/"+l.context+"/chunks/search?q=user").Problem(404, "CONTEXT_NOT_FOUND")
	l.DB.Exec(`insert into public.project_members (organization_id, project_id, user_id, email, role, accepted_at) values ($1, $2, $3, 'ben@example.org', 'auditor', now())`, l.anna.OrgID, l.context, l.ben.ID)
	l.ben.Get("/contexts/"+l.context+"/chunks/search?q=user").Problem(403, "FORBIDDEN")
}

func TestASearchFindsTheFourTypes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, root := range []string{"/contexts/", "/context/"} {
		path := root + l.context + "/search"
		r := l.anna.Get(path + "?q=anna&types=user&limit=5").Want(200)
		require.Len(t, client.JSON[[]any](r), 1, "%s", r.Body)
		require.Equal(t, "[]", string(l.anna.Get(path).Want(200).Body))
		l.anna.Get(path + "?q=a&types=user,file").Want(200)
		l.anna.Get(path + "?q=a&types=user&types=file").Want(200)
		l.anna.Get(path+"?q=a&types=king").Problem(400, "VALIDATION_ERROR").Field("types")
		l.stan.Get(path+"?q=a").Problem(404, "CONTEXT_NOT_FOUND")
	}
}

// TestASearchOfAHundredThousandRowsIsQuick compares a search of a large context with a page of its activity log in the same run: a
// search may cost so many pages and no more. It prints the times.
func TestASearchOfAHundredThousandRowsIsQuick(t *testing.T) {
	l := newLab(t)
	l.DB.Exec(`insert into public.context_files (organization_id, project_id, path, number, hash, origin, bytes, tokens)
		select $1, $2, 'src/module' || n % 100 || '/component_' || n || '.ts', 1, sha256('x'), 'repository', 1000, 250 from generate_series(1, 100000) n`, l.anna.OrgID, l.context)
	l.DB.Exec(`insert into public.project_activity (organization_id, project_id, type, user_id, user_name, user_email, description, created_at)
		select $1, $2, 'view', $3, 'Ben', 'ben@example.org', 'viewed src/module/component_' || n || '.ts', now() - n * interval '1 second' from generate_series(1, 100000) n`, l.anna.OrgID, l.context, l.ben.ID)
	l.DB.Exec(`insert into public.context_changelog (organization_id, project_id, type, user_name, user_email, description, created_at)
		select $1, $2, 'config', 'Anna', 'anna@example.org', 'Updated LSP configuration ' || n, now() - n * interval '1 second' from generate_series(1, 100000) n`, l.anna.OrgID, l.context)
	l.DB.Exec("analyze")
	took := func(path string) float64 {
		times := []float64{}
		for range 5 {
			var token, pool, db float64
			_, err := fmt.Sscanf(l.anna.Get("/contexts/"+l.context+path).Want(200).Header.Get("Server-Timing"), "token;dur=%f, pool;dur=%f, db;dur=%f", &token, &pool, &db)
			require.NoError(t, err)
			times = append(times, db)
		}
		return slices.Min(times)
	}
	page := took("/activity?limit=500")
	for _, path := range []string{"/search?q=component_77777", "/search?q=ts", "/search?q=nothing%20at%20all", "/search?q=%25", "/sources?search=component_77777", "/sources", "/sources?offset=99000", "/files?search=component_77777",
		"/token-usage"} {
		ms := took(path)
		t.Logf("%-40s %6.0f ms, %.1f pages of the log (%.0f ms)", path, ms, ms/page, page)
		require.Less(t, ms, 100*page, path)
	}
}
