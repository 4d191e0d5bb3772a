package contexts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
)

type diffData struct {
	Files []struct {
		Path, Status, Language   string
		LinesAdded, LinesRemoved int
		TooLarge, Binary         bool
		Hunks                    []struct {
			OldStart, OldLines, NewStart, NewLines int
			Lines                                  []struct {
				Type, Content                string
				OldLineNumber, NewLineNumber int
			}
		}
	}
	Summary                struct{ FilesAdded, FilesRemoved, FilesModified, TotalAdditions, TotalDeletions int }
	FromVersion, ToVersion int
	Truncated              bool
}

func TestADiffShowsWhatChanged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	lines := func(n int, change map[int]string) string {
		var b strings.Builder
		for i := 1; i <= n; i++ {
			line := fmt.Sprintf("line %d", i)
			if changed, ok := change[i]; ok {
				line = changed
			}
			b.WriteString(line + "\n")
		}
		return b.String()
	}
	l.add(t, files{"a.go": lines(20, nil), "new.md": "one\ntwo"})
	l.add(t, files{"a.go": lines(20, map[int]string{10: "changed"}), "big.txt": lines(6000, nil)})
	l.add(t, files{"big.txt": lines(6000, map[int]string{1: "first"})})
	t.Run("a modified file has hunks with three lines around", func(t *testing.T) {
		got := client.JSON[diffData](l.anna.In(t).Get(l.path + "/diff/1/2").Want(200))
		require.Equal(t, []int{1, 2, 1, 0, 1, 6001, 1}, []int{got.FromVersion, got.ToVersion, got.Summary.FilesAdded, got.Summary.FilesRemoved, got.Summary.FilesModified,
			got.Summary.TotalAdditions, got.Summary.TotalDeletions})
		a := got.Files[0]
		require.Equal(t, []any{"a.go", "modified", "go", 1, 1}, []any{a.Path, a.Status, a.Language, a.LinesAdded, a.LinesRemoved})
		h := a.Hunks[0]
		require.Equal(t, []int{7, 7, 7, 7, 8}, []int{h.OldStart, h.OldLines, h.NewStart, h.NewLines, len(h.Lines)})
		require.Equal(t, []any{"deletion", "line 10", 10, 0}, []any{h.Lines[3].Type, h.Lines[3].Content, h.Lines[3].OldLineNumber, h.Lines[3].NewLineNumber})
		require.Equal(t, []any{"addition", "changed", 0, 10}, []any{h.Lines[4].Type, h.Lines[4].Content, h.Lines[4].OldLineNumber, h.Lines[4].NewLineNumber})
		require.Equal(t, []any{"context", 11, 11}, []any{h.Lines[5].Type, h.Lines[5].OldLineNumber, h.Lines[5].NewLineNumber})
		big := got.Files[1]
		require.Equal(t, []any{"big.txt", "added", true, 6000, 0}, []any{big.Path, big.Status, big.TooLarge, big.LinesAdded, len(big.Hunks)}, "a long one has counts only")
	})
	t.Run("an added file begins at nothing, a removed one ends there", func(t *testing.T) {
		got := client.JSON[diffData](l.anna.In(t).Get(l.path + "/diff/0/1").Want(200))
		h := got.Files[1].Hunks[0]
		require.Equal(t, []int{0, 0, 1, 2}, []int{h.OldStart, h.OldLines, h.NewStart, h.NewLines})
		got = client.JSON[diffData](l.anna.In(t).Get(l.path + "/diff/1/0").Want(200))
		require.Equal(t, "removed", got.Files[1].Status)
		h = got.Files[1].Hunks[0]
		require.Equal(t, []int{1, 2, 0, 0}, []int{h.OldStart, h.OldLines, h.NewStart, h.NewLines})
	})
	t.Run("one path is shown in full", func(t *testing.T) {
		got := client.JSON[diffData](l.anna.In(t).Get(l.path + "/diff/0/3?path=big.txt").Want(200))
		require.Len(t, got.Files, 1)
		require.Len(t, got.Files[0].Hunks[0].Lines, 6000)
	})
	t.Run("a version against itself has no files", func(t *testing.T) {
		require.Empty(t, client.JSON[diffData](l.anna.In(t).Get(l.path+"/diff/2/2").Want(200)).Files)
	})
	t.Run("an entry is compared with the version before", func(t *testing.T) {
		got := client.JSON[diffData](l.anna.In(t).Get(l.path + "/changelog/3/diff").Want(200))
		require.Equal(t, []any{2, 3, 1, 1}, []any{got.FromVersion, got.ToVersion, got.Summary.TotalAdditions, got.Summary.TotalDeletions})
	})
	t.Run("what is no version is refused", func(t *testing.T) {
		l.anna.In(t).Get(l.path+"/diff/0/4").Problem(404, "VERSION_NOT_FOUND")
		l.anna.In(t).Get(l.path+"/diff/a/1").Problem(400, "VALIDATION_ERROR").Field("from")
		l.anna.In(t).Get(l.path+"/diff/1/-1").Problem(400, "VALIDATION_ERROR").Field("to")
		l.anna.In(t).Get(l.path+"/changelog/9/diff").Problem(404, "INGESTION_NOT_FOUND")
	})
	t.Run("at most 300 files are shown, and all are counted", func(t *testing.T) {
		many := files{}
		for i := range 320 {
			many[fmt.Sprintf("many/%03d.txt", i)] = lines(2, nil)
		}
		l.add(t, many)
		for i := range 320 {
			many[fmt.Sprintf("many/%03d.txt", i)] = lines(2, map[int]string{1: fmt.Sprint(i)})
		}
		l.add(t, many)
		for range 2 { // the second time from the counts of the first
			got := client.JSON[diffData](l.anna.In(t).Get(l.path + "/diff/4/5").Want(200))
			require.Equal(t, []any{true, 300, 320, 320, 320}, []any{got.Truncated, len(got.Files), got.Summary.FilesModified, got.Summary.TotalAdditions, got.Summary.TotalDeletions})
		}
		require.Equal(t, 640, client.JSON[diffData](l.anna.In(t).Get(l.path+"/diff/3/5").Want(200)).Summary.TotalAdditions)
	})
	t.Run("the changelog has the lines of modified files", func(t *testing.T) {
		entry := l.anna.In(t).Get(l.path + "/changelog/2").Want(200)
		entry.Value("modifiedFiles")
		require.Contains(t, string(entry.Body), `"modifiedFiles":[{"path":"a.go","linesAdded":1,"linesRemoved":1}]`)
		require.Equal(t, []any{true, float64(5)}, []any{l.anna.In(t).Get(l.path + "/changelog?limit=2&type=ingestion").Want(200).Value("hasMore"),
			l.anna.In(t).Get(l.path + "/changelog?limit=2&type=ingestion").Want(200).Value("totalCount")})
	})
}

func TestARollbackIsANewVersion(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.add(t, files{"a.md": "one\n"})
	l.add(t, files{"a.md": "two\n", "b.md": "b\n"})
	preview := l.anna.In(t).Get(l.path + "/rollback/1/preview").Want(200)
	require.Equal(t, []any{float64(1), float64(1), float64(0)}, []any{preview.Value("filesToRestore"), preview.Value("filesToRemove"), preview.Value("filesToReAdd")})
	done := l.anna.In(t).Do("POST", l.path+"/rollback/1", nil).Want(200)
	require.Equal(t, []any{float64(2), float64(3)}, []any{done.Value("backupVersion"), done.Value("newVersion")})
	require.Contains(t, string(done.Body), `"modifiedFiles":[{"path":"a.md","linesAdded":1,"linesRemoved":1}]`)
	require.Contains(t, string(done.Body), `"removedFiles":["b.md"]`)
	require.Empty(t, client.JSON[diffData](l.anna.In(t).Get(l.path+"/diff/1/3").Want(200)).Files, "the new version is the old one")
	l.anna.In(t).Do("POST", l.path+"/rollback/3", nil).Problem(409, "ALREADY_AT_VERSION")
	l.finish(t, files{}) // the index is renewed
	l.anna.In(t).Do("POST", l.path+"/rollback/2", nil).Want(200)
	require.Empty(t, client.JSON[diffData](l.anna.In(t).Get(l.path+"/diff/2/4").Want(200)).Files, "rolling forward is another rollback")
}

func TestCompressionDataShowsNumbersAndPreviews(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	empty := l.anna.In(t).Get(l.path + "/compression").Want(200)
	require.Nil(t, empty.Value("metrics.lastIngestion"))
	l.add(t, files{"a.ts": strings.Repeat("line\n", 300), "b.md": "b"})
	got := l.anna.In(t).Get(l.path + "/compression?include=preview").Want(200)
	require.Equal(t, []any{float64(1), "1"}, []any{got.Value("metrics.totalIngestions"), got.Header.Get("X-Total-Count")})
	var data struct {
		History []struct {
			Preview struct {
				FileName, Language, Content, Summary string
				FileCount                            int
			}
		}
	}
	got.Into(&data)
	require.Equal(t, []any{"a.ts", "typescript", 2, "Added"}, []any{data.History[0].Preview.FileName, data.History[0].Preview.Language, data.History[0].Preview.FileCount,
		data.History[0].Preview.Summary})
	require.Equal(t, 200, strings.Count(l.anna.In(t).Get(l.path+"/ingestions/1/preview").Want(200).String("content"), "line"), "200 lines")
	l.DB.Exec("update public.ingestion_runs set checkpoint = '{}'")
}
