package ingestion

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch/gittest"
	"kijko/worker/ingestion"
)

// TestSearchFindsWordsOfUnspacedScripts asks the stored terms for parts of runs that have no blanks in them.
func TestSearchFindsWordsOfUnspacedScripts(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	files := map[string]string{}
	for name, comment := range map[string]string{
		"zh.go": "检查库存数量是否足够然后扣减", "ja.go": "注文テーブルの在庫を確認してから引き当てる", "ko.go": "재고수량을 확인하고 차감합니다",
		"th.go": "ตรวจสอบที่อยู่จัดส่งของลูกค้า", "hi.go": "हिन्दी में टिप्पणी", "fr.go": "ve\u0301rifie le stock", "last.go": "所有的黑猫",
	} {
		files[name] = fmt.Sprintf("package p\n\n// %s\nfunc F%d() {}\n", comment, len(name)+len(comment))
	}
	l.git.Create(t, "acme/words", gittest.On("main", gittest.Texts(files)))
	run := l.start(l.project("acme/words"))
	l.work()
	require.Equal(t, "completed", l.outcome(run))
	find := func(query string) []string {
		return value[[]string](l, `select coalesce(array_agg(f.path order by f.path), '{}') from public.chunk_terms t
			join public.chunks c on c.organization_id = t.organization_id and c.run_id = t.run_id and c.id = t.chunk_id
			join public.run_files f on f.organization_id = c.organization_id and f.run_id = c.run_id and f.id = c.file_id
			where t.run_id = $1 and t.terms @@ $2::text::tsquery`, run, query)
	}
	for query, want := range map[string]string{
		"库存数量": "zh.go", "库存": "zh.go", "扣减": "zh.go", "在庫を確認": "ja.go", "テーブル": "ja.go", "ﾃｰﾌﾞﾙ": "ja.go", "확인": "ko.go", "재고": "ko.go",
		"ที่อยู่": "th.go", "ลูกค้า": "th.go", "हिन्दी": "hi.go", "vérifie": "fr.go", "猫": "last.go", "黑猫": "last.go",
	} {
		require.Equal(t, []string{want}, find(ingestion.Query(query, 9)), query)
	}
	require.Empty(t, find(ingestion.Query("存库", 9)))

	// An earlier release stored a run of letters as one word.
	l.exec("update public.chunk_terms set terms = $2::text::tsvector where run_id = $1", run, "检查库存数量是否足够然后扣减:1")
	require.Len(t, find(ingestion.Query("检查库存数量是否足够然后扣减", 20)), len(files))
}

// TestStoredChunksSayWhatTheFilesSay reads chunks of files whose white space, imports and statements other than semicolons carry meaning.
func TestStoredChunksSayWhatTheFilesSay(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	rule := "def allowed(user, items):\n" + strings.Repeat("    # every rule of this company is written down twice, for two departments\n", 8) +
		"    for item in items:\n        if item.owner != user:\n            return False\n"
	billing := "import (\n\t\"example.com/shop/own%d\"\n\t\"example.com/shop/internal/billing/invoices\"\n\t\"example.com/shop/internal/billing/payments\"\n" +
		"\t\"example.com/shop/internal/customers/addresses\"\n\t\"example.com/shop/internal/warehouse/stock\"\n\t\"example.com/shop/internal/warehouse/pickers\"\n)\n"
	procedure := "CREATE PROCEDURE dbo.CancelOrder @id INT\nAS\nBEGIN\n" + strings.Repeat("  UPDATE dbo.Orders SET status = 'cancelled' WHERE id = @id;\n", 160) + "END\nGO\n"
	files := map[string]string{
		"a/rule.py": rule + "    return True\n", "b/rule.py": rule + "        return True\n", "c/rule.py": rule + "    return True\n",
		"orders.sql": "USE shop\nGO\n" + procedure + "CREATE VIEW dbo.OpenOrders AS SELECT 1 AS one\nGO\nCREATE TABLE dbo.After (id INT)\nGO\n",
		"deploy.sh":  "deploy() {\n    cat <<EOF\nservices:\n  web:\n    image: shop\nEOF\n}\n",
	}
	for i := range 4 {
		files[fmt.Sprintf("%c/shop.go", 'a'+i)] = fmt.Sprintf("package shop\n\n"+billing+"\nfunc F%d() {}\n", i, i)
	}
	l.git.Create(t, "acme/says", gittest.On("main", gittest.Texts(files)))
	run := l.start(l.project("acme/says"))
	l.work()
	require.Equal(t, "completed", l.outcome(run))
	content := func(path string) string {
		return value[string](l, `select string_agg(c.content, '' order by c.position) from public.chunks c
			join public.run_files f on f.organization_id = c.organization_id and f.run_id = c.run_id and f.id = c.file_id where c.run_id = $1 and f.path = $2`, run, path)
	}
	require.Equal(t, files["a/rule.py"], content("a/rule.py"))
	require.Equal(t, files["b/rule.py"], content("b/rule.py"), "another rule")
	require.Equal(t, "[same as a/rule.py:1-13]\n", content("c/rule.py"))
	require.Zero(t, value[int](l, "select count(*) from public.chunks where run_id = $1 and content like '[same as%' and reference_of is null", run))
	require.Contains(t, content("deploy.sh"), "services:\n  web:\n    image: shop\nEOF\n")
	for i := range 4 {
		for _, path := range []string{"invoices", "payments", "addresses", "stock", "pickers", fmt.Sprintf("own%d", i)} {
			require.Contains(t, content(fmt.Sprintf("%c/shop.go", 'a'+i)), path)
		}
	}
	require.Equal(t, []string{"dbo.CancelOrder", "dbo.OpenOrders", "dbo.After"}, value[[]string](l, `select array_agg(s->>'name' order by c.position, n)
		from public.chunks c, jsonb_array_elements(c.metadata->'symbols') with ordinality e (s, n) where c.run_id = $1 and s->>'name' like 'dbo.%'`, run))
	require.Equal(t, 1, value[int](l, "select count(*) from public.chunks where run_id = $1 and content like '%UPDATE dbo.Orders%'", run), "a procedure is one unit")
}
