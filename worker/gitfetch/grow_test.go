package gitfetch_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch"
	"kijko/worker/gitfetch/gittest"
)

// grown reads how many fetches a directory has added to its first one.
func grown(t testing.TB, dir string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "kijko-fetch.json"))
	require.NoError(t, err)
	var state struct{ Grown int }
	require.NoError(t, json.Unmarshal(data, &state))
	return state.Grown
}

func TestAnEarlierCopyGetsOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	files := gittest.Files{}
	for i := range 200 {
		noise := make([]byte, 2000)
		for k := range noise {
			noise[k] = byte('a' + rand.IntN(26))
		}
		files[fmt.Sprintf("f%03d.txt", i)] = gittest.Text(string(noise))
	}
	b.server.Create(t, "ada/app", gittest.On("main", files))
	fetch := func(history bool) *gitfetch.Tree {
		t.Helper()
		tree, err := b.fetcher.Fetch(t.Context(), gitfetch.Request{URL: app, Branch: "main", Dir: b.dir, History: history})
		require.NoError(t, err)
		return tree
	}
	size := func() (sum int64) {
		t.Helper()
		packs, err := filepath.Glob(filepath.Join(b.dir, "objects", "pack", "*.pack"))
		require.NoError(t, err)
		for _, pack := range packs {
			info, err := os.Stat(pack)
			require.NoError(t, err)
			sum += info.Size()
		}
		return sum
	}
	texts := func(tree *gitfetch.Tree) map[string]string {
		t.Helper()
		all := map[string]string{}
		require.NoError(t, tree.Blobs(t.Context(), tree.Files, func(f gitfetch.File, r io.Reader) error {
			data, err := io.ReadAll(r)
			all[f.Path] = string(data)
			return err
		}))
		return all
	}
	fetch(false)
	full := size()
	for n := range 3 {
		b.server.Push(t, "ada/app", gittest.Branch{Name: "main", Commits: []gittest.Commit{{Files: gittest.Files{"f007.txt": gittest.Text(fmt.Sprintf("changed %d\n", n))},
			Delete: []string{fmt.Sprintf("f1%02d.txt", n)}}}})
		tree := fetch(false)
		require.Equal(t, b.server.Head(t, "ada/app", "main"), tree.Commit)
		all := texts(tree)
		require.Len(t, all, 200-n-1)
		require.Equal(t, fmt.Sprintf("changed %d\n", n), all["f007.txt"])
		require.Equal(t, n+1, grown(t, b.dir))
	}
	require.Less(t, size()-full, full/10, "three changes cost less than a tenth of the whole")

	t.Run("AReplacedBranchIsFetchedToo", func(t *testing.T) {
		b.server.Delete(t, "ada/app", "main")
		b.server.Push(t, "ada/app", gittest.On("main", gittest.Texts(map[string]string{"only.txt": "one\n"})))
		require.Equal(t, map[string]string{"only.txt": "one\n"}, texts(fetch(false)))
	})
	t.Run("ADamagedCopyIsReplaced", func(t *testing.T) {
		packs, err := filepath.Glob(filepath.Join(b.dir, "objects", "pack", "*.pack"))
		require.NoError(t, err)
		for _, pack := range packs {
			require.NoError(t, os.Remove(pack))
		}
		b.server.Push(t, "ada/app", gittest.Branch{Name: "main", Commits: []gittest.Commit{{Files: gittest.Texts(map[string]string{"two.txt": "two\n"})}}})
		require.Equal(t, map[string]string{"only.txt": "one\n", "two.txt": "two\n"}, texts(fetch(false)))
	})
	t.Run("HistoryComesAlong", func(t *testing.T) {
		fetch(true)
		b.server.Push(t, "ada/app", gittest.Branch{Name: "main", Commits: []gittest.Commit{{Author: "Ben", Files: gittest.Texts(map[string]string{"two.txt": "three\n"})}}})
		tree := fetch(true)
		require.Positive(t, grown(t, b.dir))
		changes, err := tree.LastChanges(t.Context())
		require.NoError(t, err)
		require.Equal(t, "Ben", changes["two.txt"].Author)
		require.Equal(t, "Ada", changes["only.txt"].Author)
	})
}
