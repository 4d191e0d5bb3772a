package tests

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch/gittest"
	"kijko/worker/ingest"
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
		require.Equal(t, []string{want}, find(ingest.Query(query, 9)), query)
	}
	require.Empty(t, find(ingest.Query("存库", 9)))

	// What an earlier release stored holds a run of letters as one word.
	l.exec("update public.chunk_terms set terms = $2::text::tsvector where run_id = $1", run, "检查库存数量是否足够然后扣减:1")
	require.Len(t, find(ingest.Query("检查库存数量是否足够然后扣减", 20)), len(files))
}
