package repository

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Documents name the test that shows a claim, and the command that gives a figure. Each name and each `go test` command finds its test.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark)\w+)\(`)
	named := regexp.MustCompile(`\b(?:Test|Benchmark)[A-Z]\w+`)
	command := regexp.MustCompile("`go test ([^`]+)`")
	folders := map[string][]string{} // the test functions of each folder
	all := map[string]bool{}
	var documents []string
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(name, ".") && name != ".." || name == "node_modules" || name == "bin" || path == "../../docs/contract"):
			return filepath.SkipDir
		case filepath.Ext(name) == ".md":
			documents = append(documents, path)
		case strings.HasSuffix(name, "_test.go"):
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			for _, m := range function.FindAllStringSubmatch(string(raw), -1) {
				folders[filepath.Dir(path)], all[m[1]] = append(folders[filepath.Dir(path)], m[1]), true
			}
		}
		return nil
	}))
	require.NotEmpty(t, documents)
	commands := 0
	for _, document := range documents {
		raw, err := os.ReadFile(document)
		require.NoError(t, err)
		text := command.ReplaceAllStringFunc(string(raw), func(found string) string {
			words, folder, pattern := strings.Fields(strings.Trim(found, "`")), "", ""
			for i, word := range words {
				switch {
				case strings.HasPrefix(word, "./"):
					folder = filepath.Join("../..", strings.TrimSuffix(word, "/..."))
				case (word == "-run" || word == "-bench") && i+1 < len(words) && words[i+1] != "-":
					pattern = words[i+1]
				}
			}
			matches := regexp.MustCompile(pattern)
			hits := 0
			for of, functions := range folders {
				if of != folder && (!strings.Contains(found, "/...") || !strings.HasPrefix(of, folder+"/")) {
					continue
				}
				for _, one := range functions {
					if matches.MatchString(one) {
						hits++
					}
				}
			}
			assert.Positive(t, hits, "%s: %s runs no test", document, found)
			commands++
			return ""
		})
		for _, name := range named.FindAllString(text, -1) {
			assert.True(t, all[name], "%s names %s, which is no test", document, name)
		}
	}
	require.Greater(t, commands, 5)
}
