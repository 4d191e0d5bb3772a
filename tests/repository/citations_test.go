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

// Code, SQL and documents cite the contract as "contract 20, 6.2" or "30-realtime 6.1". Each citation leads to a heading of docs/contract.
func TestCitationsOfTheContractLeadToHeadings(t *testing.T) {
	t.Parallel()
	heading := regexp.MustCompile(`(?m)^#{2,4} (\d+(?:\.\d+)*)[. ]`)
	headings := map[string]map[string]bool{} // by document, number
	files, err := filepath.Glob("../../docs/contract/[0-9]0-*.md")
	require.NoError(t, err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		number := filepath.Base(file)[:2]
		headings[number] = map[string]bool{}
		for _, m := range heading.FindAllSubmatch(raw, -1) {
			headings[number][strings.TrimSuffix(string(m[1]), ".")] = true
		}
	}
	require.Greater(t, len(headings["30"]), 20)
	cited := regexp.MustCompile(`(?:contract |\b)([1-6]0)(?:-[a-z]+(?:-[a-z]+)*)?(?:\.md)?,? (?:sections? )?(\d+(?:\.\d+)*)\b`)
	found := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir() && (strings.HasPrefix(name, ".") && name != ".." || name == "node_modules" || name == "bin" || path == "../../docs/contract" || path == "../../supabase"):
			return filepath.SkipDir
		case entry.IsDir(), !strings.Contains(" .go .sql .yaml .md .sh ", " "+filepath.Ext(name)+" "), path == "../../db/schema.sql":
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range cited.FindAllStringSubmatch(string(raw), -1) {
			if !strings.HasPrefix(m[0], "contract ") && !strings.Contains(m[0], "-") {
				continue // "10, 5" is any pair of numbers
			}
			found++
			section := m[2]
			for !headings[m[1]][section] && strings.Count(section, ".") > 1 {
				section = section[:strings.LastIndexByte(section, '.')] // a paragraph of that section
			}
			assert.True(t, headings[m[1]][section], "%s cites %q, which is no heading of docs/contract/%s-*.md", path, m[0], m[1])
		}
		return nil
	}))
	require.Greater(t, found, 100)
}
