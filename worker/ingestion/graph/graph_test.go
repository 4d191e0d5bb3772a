package graph_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/graph/measure"
)

// fixture reads a project whose files are in one text, each below a line with its path between dashes. A section whose name is one word is
// an expectation of the test.
func fixture(t *testing.T, name string) (texts map[string]string, expected map[string][]string) {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	texts, expected = map[string]string{}, map[string][]string{}
	for _, part := range strings.Split("\n"+string(data), "\n-- ")[1:] {
		path, text, ok := strings.Cut(part, " --\n")
		require.True(t, ok, path)
		if slices.Contains([]string{"want", "none", "calls", "nodes", "lines"}, path) {
			expected[path] = strings.Split(strings.TrimSpace(text), "\n")
			continue
		}
		texts[path] = text + "\n"
	}
	return texts, expected
}

// TestGraphsOfProjects: each project of testdata has the links that it lists. No link leads to a declaration that the calling file does not
// know, to another language, or out of the project although the target is inside.
func TestGraphsOfProjects(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			t.Parallel()
			texts, expected := fixture(t, name)
			g, err := measure.Texts(context.Background(), texts)
			require.NoError(t, err)
			links := map[string]bool{}
			calls := map[string][]string{}
			for e := range g.Links {
				from, to := &g.Nodes[e.From], &g.Nodes[e.To]
				require.NotEqual(t, e.From, e.To, "a link to itself: %s", from.Qualified)
				links[e.Kind+" "+from.Qualified+" -> "+to.Qualified] = true
				if e.Kind == "calls" {
					require.Contains(t, []string{"file", "function"}, from.Kind, "%s calls", from.Qualified)
					require.Contains(t, []string{"class", "function"}, to.Kind, "%s is called", to.Qualified)
					calls[from.Qualified] = append(calls[from.Qualified], to.Qualified)
				}
			}
			for _, want := range expected["want"] {
				if !links[want] {
					from, _, _ := strings.Cut(strings.SplitN(want, " ", 2)[1], " -> ")
					t.Errorf("missing: %s; it calls %q", want, calls[from])
				}
			}
			for _, none := range expected["none"] {
				require.False(t, links[none], "invented: %s", none)
			}
			for _, line := range expected["calls"] {
				from, n, _ := strings.Cut(line, " ")
				if strconv.Itoa(len(calls[from])) != n {
					t.Errorf("%s calls %d of the project, %s are right: %q", from, len(calls[from]), n, calls[from])
				}
			}
			nodes := map[string][]string{}
			lines := map[string]int{}
			for _, n := range g.Nodes {
				if n.File >= 0 && n.Kind != "file" {
					path, own, _ := strings.Cut(n.Qualified, "#")
					nodes[path+" "+n.Kind] = append(nodes[path+" "+n.Kind], own)
					lines[n.Qualified] = n.Start
				}
			}
			for _, line := range expected["nodes"] {
				parts := strings.Fields(line)
				found := nodes[parts[0]+" "+parts[1]]
				slices.Sort(found)
				require.Equal(t, parts[2:], append([]string{}, found...), line)
			}
			for _, line := range expected["lines"] {
				at, n, _ := strings.Cut(line, " ")
				require.Equal(t, n, fmt.Sprint(lines[at]), "%s is where its body is", at)
			}
			for _, c := range g.Score() {
				require.Zero(t, c.Unreached, "calls of %s to places that the file does not know: %q", c.Language, c.Worst)
				require.Zero(t, c.Foreign, "calls of %s to another language: %q", c.Language, c.Worst)
				require.Zero(t, c.Numbered, "nodes of %s with a number", c.Language)
				require.LessOrEqual(t, 50*c.Outside, c.Own, "imports of %s that lead outside: %q", c.Language, c.Worst)
			}
		})
	}
}

// TestGraphsOfBrokenProjects: files that end in the middle make a graph too, as do imports in circles.
func TestGraphsOfBrokenProjects(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	for _, name := range files {
		texts, _ := fixture(t, name)
		for part := 1; part < 9; part++ {
			cut := map[string]string{}
			for path, text := range texts {
				cut[path] = strings.ToValidUTF8(text[:len(text)*part/9], "")
			}
			_, err := measure.Texts(context.Background(), cut)
			require.NoError(t, err)
		}
	}
	circles := map[string]string{}
	for i := range 30 {
		var script, python, rust strings.Builder
		for k := range 30 {
			fmt.Fprintf(&script, "export * from './m%d';\n", k)
			fmt.Fprintf(&python, "from m%d import *\n", k)
			fmt.Fprintf(&rust, "mod m%d; pub use crate::m%d::*;\n", k, k)
		}
		circles[fmt.Sprintf("js/m%d.js", i)] = script.String() + "nowhere();\n"
		circles[fmt.Sprintf("py/m%d.py", i)] = python.String() + fmt.Sprintf("nowhere()\nclass C%d(C%d): pass\nC%d().x()\n", i, (i+1)%30, i)
		circles[fmt.Sprintf("rs/src/m%d.rs", i)] = rust.String() + "fn f() { nowhere(); }\n"
	}
	circles["rs/Cargo.toml"] = "[package]\nname = \"circles\"\n"
	circles["rs/src/lib.rs"] = circles["rs/src/m0.rs"]
	_, err = measure.Texts(context.Background(), circles)
	require.NoError(t, err)
}
