package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/openapi"
)

const root = "../../.."

// repository copies the files that are under version control, or would be.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.Command("git", "ls-files", "-z", "-c", "-o", "--exclude-standard", "db", "server/openapi", "supabase", "tests/pgtap", "tests/tools", "tests/peers", "go.mod", "go.sum")
	list.Dir = root
	out, err := list.Output()
	require.NoError(t, err)
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		raw, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, raw, 0o644))
	}
	return dir
}

func TestAFeatureIsWrittenWhole(t *testing.T) {
	t.Parallel()
	dir := repository(t)
	_, err := run(dir, "shared_replies", "shared_reply")
	require.NoError(t, err)

	// Its document is complete, and names the functions that its SQL makes.
	document, err := openapi.LoadFrom(os.DirFS(filepath.Join(dir, "server", "openapi")))
	require.NoError(t, err)
	functions := map[string]bool{}
	for _, op := range document.Operations {
		if strings.Contains(op.Path, "shared_replies") {
			functions[op.Function] = true
		}
	}
	require.Equal(t, map[string]bool{"create_shared_reply": true, "get_shared_reply": true}, functions)
	require.Equal(t, "SHARED_REPLY_NOT_FOUND", document.NotFound("sharedReplyId"))

	// Its database is set up and passes its own tests and those of the catalog, unchanged.
	cmd := exec.Command("go", "run", "-trimpath", "./tests/tools/suite", "-only", "sql", "-match", "shared_replies,00_lint,isolation")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), ", 0 failed")
	for _, name := range []string{"shared_replies", "00_lint", "isolation"} {
		require.Contains(t, string(out), "pass tests/pgtap/"+name+".sql")
	}
}

func TestNamesThatAreNone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "Notes", "no tes", "../notes", "data"} {
		_, err := run(root, name, "")
		require.Error(t, err, name)
	}
	_, err := run(root, "projects", "")
	require.ErrorContains(t, err, "db/code/projects is there already")
}

var block = regexp.MustCompile("(?s)```(?:sql|yaml)\n(.*?)```")

// The guide docs/adding-a-feature.md shows the files that the command writes.
func TestTheGuideShowsTheExample(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile(filepath.Join(root, "docs", "adding-a-feature.md"))
	require.NoError(t, err)
	var all strings.Builder
	require.NoError(t, fs.WalkDir(example, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := example.ReadFile(path)
		all.Write(raw)
		return err
	}))
	blocks := block.FindAllSubmatch(guide, -1)
	require.GreaterOrEqual(t, len(blocks), 7)
	for _, b := range blocks {
		require.Contains(t, all.String(), strings.TrimSpace(string(b[1])), "the guide shows another text than tests/tools/feature/notes")
	}
}
