package ingestion

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch/gittest"
)

const goFile = `// Package greet greets.
package greet

import (
	"fmt"
	"strings"
)

// Hello says hello.
func Hello(name string) string {
	return fmt.Sprintf("Hello, %s", strings.TrimSpace(name))
}

// Greeter greets people by name.
type Greeter struct{ Name string }

func (g Greeter) Greet() string { return Hello(g.Name) }
`

var smallRepository = gittest.Texts(map[string]string{
	"go.mod":            "module example.org/greet\n\ngo 1.26\n",
	"greet.go":          goFile,
	"copy/greet.go":     goFile,
	"cmd/main.go":       "package main\n\nimport \"example.org/greet/copy\"\n\nfunc main() {\n\tprintln(greet.Hello(\"you\"))\n}\n",
	"web/app.ts":        "import { add } from './math'\n\nexport class App extends Base {\n  run(): number {\n    return add(1, 2)\n  }\n}\n\nclass Base {}\n",
	"web/math.ts":       "export function add(a: number, b: number): number {\n  return a + b\n}\n",
	"tools/run.py":      "import os\nfrom tools.helper import help_me\n\n\ndef main():\n    token = \"ghp_R8s2kQ0vXz7LmN4tYb1CwD6eFh3JpUa9GiKo\"\n    help_me(os.environ, token)\n",
	"tools/helper.py":   "def help_me(env, token):\n    return env\n",
	"README.md":         "# Greet\n\nGreets people.\n\n## Use\n\nCall Hello.\n",
	"node_modules/x.js": "module.exports = 1\n",
	"empty.txt":         "",
})

func TestIngestionOfARepository(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/greet", gittest.On("main", smallRepository))
	project := l.project("acme/greet")
	run := l.start(project)
	l.work()
	require.Equal(t, "completed", l.outcome(run), value[string](l, "select coalesce(error_message, '') from public.ingestion_runs where id = $1", run))

	var progress map[string]any
	data, err := l.call("get_ingestion_progress", project, "{}")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &progress))
	require.Equal(t, run.String(), progress["id"])
	require.EqualValues(t, 100, progress["progressPercent"])
	require.NotEmpty(t, progress["completedAt"])
	require.EqualValues(t, 9, progress["metrics"].(map[string]any)["totalFiles"])
	require.Equal(t, 9, value[int](l, "select count(*) from public.run_files where run_id = $1", run))
}
