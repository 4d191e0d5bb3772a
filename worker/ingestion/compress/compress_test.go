package compress_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"kijko/tests/gosource"
	"kijko/worker/ingestion/compress"
	"kijko/worker/ingestion/compress/check"
	"kijko/worker/ingestion/parse"
)

func settings(change func(*compress.Settings)) compress.Settings {
	s := compress.Default()
	if change != nil {
		change(&s)
	}
	return s
}

var (
	low     = settings(func(s *compress.Settings) { s.OptimizationLevel = compress.Low })
	medium  = settings(nil)
	high    = settings(func(s *compress.Settings) { s.OptimizationLevel = compress.High })
	nothing = settings(func(s *compress.Settings) {
		s.OptimizationLevel, s.PreserveStructure, s.PreserveTypes, s.PreserveExports = compress.High, false, false, false
	})
	docs = settings(func(s *compress.Settings) { s.PreserveDocs = true })
)

// body is a function's body of n lines.
func body(n int, line string) string { return strings.Repeat(line+"\n", n) }

// TestTheTable: the table of contract 60, 3.5, row by row.
func TestTheTable(t *testing.T) {
	t.Parallel()
	c := check.New()
	t.Cleanup(c.Parser.Close)
	long := strings.Repeat("forty characters of a text that is long ", 8)
	goFile := "// Package shop sells.\npackage shop\n\n// Sum adds.\nfunc Sum(a, b int) int {\n\t// A remark.\n" + body(13, "\ta += b // twice") + "\treturn a\n}\n\nfunc small(a int) int {\n\treturn a + 100000\n}\n\n" +
		"type state struct {\n\tname string\n\tprices []int\n\tcount int\n}\n\nvar table = map[string]int{\n\t\"one\": 1,\n\t\"two\": 2,\n\t\"three\": 3,\n\t\"four\": 4,\n}\n\nconst text = \"" + long + "\"\n"
	tsFile := "import { x } from './x'\n\n/** Adds. */\nexport function sum(a: number): number {\n  // a remark\n" + body(14, "  a += x") + "  return a\n}\n\nfunction hidden(a: number) {\n  return sum(a) + 100000\n}\n\n" +
		"export interface Line {\n  price: number\n  amount: number\n  title: string\n  vat: number\n}\n\nexport class Basket {\n  private lines: Line[] = []\n  add(l: Line) {\n    this.lines.push(l)\n    return this.lines\n  }\n}\n\nexport { hidden as shown }\nexport * from './more'\n"
	pyFile := "\"\"\"Sells.\"\"\"\nimport os\n\n\ndef total(a, b):\n    \"\"\"Adds.\"\"\"\n    # a remark\n" + body(13, "    a += b") + "    return a\n\n\ndef _hidden(a):\n    return total(a, 1) + 100000\n\n\nclass Basket:\n    \"\"\"Holds lines.\"\"\"\n\n    def _check(self):\n        return self.lines is not None\n\n    def add(self, line):\n        self.lines.append(line)\n        return self\n"
	for _, row := range []struct {
		name, path, text string
		settings         compress.Settings
		has, not         []string
	}{
		{"low keeps bodies", "a.go", goFile, low, []string{"a += b", "return a + 100000", "\"three\": 3"}, []string{"// A remark", "// Sum adds", "// twice", "Package shop"}},
		{"low shortens literals", "a.go", goFile, low, []string{"forty characters of a text", "characters]\""}, []string{long}},
		{"medium elides long bodies", "a.go", goFile, medium, []string{"func Sum(a, b int) int { /* [15 lines] */ }", "return a + 100000"}, []string{"a += b"}},
		{"docs stay where they are wanted", "a.go", goFile, docs, []string{"// Sum adds", "// Package shop sells."}, []string{"// A remark"}},
		{"high elides all bodies", "a.go", goFile, high, []string{"func small(a int) int { /* [1 line] */ }", "prices []int", "var table = map[string]int{ /* [4 lines] */ }"}, []string{"100000", "\"three\""}},
		{"high drops what is not exported", "a.go", goFile, nothing, []string{"func Sum(a, b int) int"}, []string{"small", "state", "table", "text"}},
		{"TypeScript: medium", "a.ts", tsFile, medium, []string{"export function sum(a: number): number { /* [16 lines] */ }", "100000", "// imports: ./x(x)"}, []string{"Adds", "a remark"}},
		{"TypeScript: docs", "a.ts", tsFile, docs, []string{"/** Adds. */"}, []string{"a remark"}},
		{"TypeScript: high", "a.ts", tsFile, high, []string{"price: number", "export { hidden as shown }", "private lines: Line[]"}, []string{"100000", "push"}},
		{"TypeScript: nothing kept", "a.ts", tsFile, nothing, []string{"export function sum", "export class Basket", "export interface Line { /* [4 lines] */ }"}, []string{"hidden as shown", "./more", "price", "private lines"}},
		{"Python: medium", "a.py", pyFile, medium, []string{"def total(a, b):\n    ...  # [", "100000", "import os"}, []string{"a += b", "a remark", "Holds lines", "Sells"}},
		{"Python: docs", "a.py", pyFile, docs, []string{"\"\"\"Adds.\"\"\"\n", "\"\"\"Holds lines.\"\"\"", "\"\"\"Sells.\"\"\""}, []string{"a += b", "a remark"}},
		{"Python: nothing kept", "a.py", pyFile, nothing, []string{"def total(a, b)", "class Basket", "def add(self, line)"}, []string{"_hidden", "_check"}},
		{"a language without a parser loses comments", "a.kt", "// a remark\nfun f(): String {\n  /* another */\n  return \"// no remark\"\n}\n" + body(30, "val a = listOf(1, 2, 3) // here too"), medium, []string{"\"// no remark\"", "val a = listOf"}, []string{"a remark", "another", "here too"}},
		{"all values of one variable go", "a.go", "package a\n\nvar closed = []struct {\n\tprefix string\n\treads bool\n}{\n" + body(20, "\t{prefix: \"/auth/\", reads: true},") + "}\n", high, []string{"var closed = []struct { /* [2 lines] */ }{ /* [20 lines] */ }"}, []string{"/auth/"}},
		{"so does YAML, but not in its texts", "a.yaml", "# a remark\na:\n  b: |\n    # a text\n  # another remark\n  c: 1\n" + body(30, "# and another"), medium, []string{"# a text", "c: 1"}, []string{"a remark", "another"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			r, broken, err := c.File(context.Background(), row.path, row.text, row.settings)
			require.NoError(t, err)
			require.Empty(t, broken, r.Text)
			require.Empty(t, r.Reason)
			for _, s := range row.has {
				require.Contains(t, r.Text, s)
			}
			for _, s := range row.not {
				require.NotContains(t, r.Text, s)
			}
		})
	}
}

// TestMarkersStay: a text that is compressed again keeps the numbers of lines that were left out first.
func TestMarkersStay(t *testing.T) {
	t.Parallel()
	c := check.New()
	t.Cleanup(c.Parser.Close)
	text := "package a\n\nvar list = []int{\n" + body(20, "\t1,") + "}\n\n" + strings.Repeat("func Sum(a, b int) int {\n"+body(13, "\ta += b // twice")+"\treturn a\n}\n\n", 9)
	once, broken, err := c.File(context.Background(), "a.go", text, high)
	require.NoError(t, err)
	require.Empty(t, broken)
	require.Contains(t, once.Text, "{ /* [14 lines] */ }")
	require.Contains(t, once.Text, "var list = []int{ /* [20 lines] */ }")
	twice, _, err := c.File(context.Background(), "a.go", once.Text, high)
	require.NoError(t, err)
	require.Equal(t, once.Text, twice.Text)
}

// TestWhatIsNotSmallerStays: with the reason in the words of the contract.
func TestWhatIsNotSmallerStays(t *testing.T) {
	t.Parallel()
	c := check.New()
	t.Cleanup(c.Parser.Close)
	for _, row := range []struct {
		path, text string
		reason     compress.Reason
	}{
		{"a.go", "package a\n\nfunc A() {}\n", "Smaller than 64 tokens"},
		{"a.txt", strings.Repeat("word ", 200) + "end\n", "Compression does not reduce it"},
		{"a.go", "", "Smaller than 64 tokens"},
	} {
		r, broken, err := c.File(context.Background(), row.path, row.text, medium)
		require.NoError(t, err)
		require.Empty(t, broken)
		require.Equal(t, row.reason, r.Reason)
		require.Equal(t, row.text, r.Text)
		require.Equal(t, r.Original, r.Tokens)
	}
}

// TestKeysTellTextsApart: settings that make the same text have one key.
func TestKeysTellTextsApart(t *testing.T) {
	t.Parallel()
	require.Equal(t, "hypervisa/1 medium", medium.Key())
	flags := settings(func(s *compress.Settings) { s.PreserveStructure, s.PreserveTypes = false, false })
	require.Equal(t, medium.Key(), flags.Key(), "level medium has no use for them")
	require.Equal(t, "hypervisa/1 high structure types exports", high.Key())
	require.Equal(t, "hypervisa/1 medium docs", docs.Key())
	standard := settings(func(s *compress.Settings) { s.Method, s.OptimizationLevel = compress.Standard, compress.High })
	require.Equal(t, "standard/1", standard.Key())
}

// TestPromisesHoldForRealSources: every 40th file of Go's own sources at each level. Packages of five languages are held against the same
// promises by go run ./tests/bench compression DIR (docs/compression.md).
func TestPromisesHoldForRealSources(t *testing.T) {
	t.Parallel()
	c := check.New()
	t.Cleanup(c.Parser.Close)
	root := gosource.Folder()
	seen, done := 0, 0
	require.NoError(t, filepath.WalkDir(filepath.Join(root, "net"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		if seen++; seen%40 != 0 {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, s := range []compress.Settings{low, medium, docs, high, nothing} {
			r, broken, err := c.File(context.Background(), filepath.Base(path), string(raw), s)
			require.NoError(t, err)
			require.Empty(t, broken, "%s, %s", path, s.Key())
			if r.Reason == "" {
				done++
			}
		}
		return nil
	}))
	require.Greater(t, done, 20)
}

// TestHostileTextsAreLinear: a text of four times the size takes about four times the processor time, or as long as the few parses that
// compressing makes: the error recovery of a grammar is not linear. Below two seconds caches decide.
func TestHostileTextsAreLinear(t *testing.T) {
	t.Parallel()
	p := parse.New()
	t.Cleanup(p.Close)
	c := compress.New(p)
	linear := func(path, part string, size int) {
		t.Helper()
		compressing := func(size int) time.Duration {
			return processorTime(t, func() error {
				_, err := c.File(context.Background(), path, strings.Repeat(part, size/len(part)), nothing)
				return err
			})
		}
		small, large := compressing(size/4), compressing(size)
		bound := max(2*time.Second, 9*small)
		if large >= bound {
			bound = max(bound, mostParses*processorTime(t, func() error {
				_, err := p.Syntax(context.Background(), path, strings.Repeat(part, size/len(part)), parse.Options{})
				return err
			}))
		}
		require.Less(t, large, bound, "%q in %s: %s at a quarter", part, path, small)
	}
	for _, part := range []string{"/**/", "// a\n", "# a\n", "a /*b*/ ", "\"\\\\\" ", "`${`", "func a(){}\n", "def a():\n \"\"\"b\"\"\"\n", "export {a};\n", "{", "(", "class A{private a;};\n", "\"\"\"\n", "<!--", "[1 line]\n", "# [1 line]\n",
		"exports.a = exports.b = ", "x = [\n", "private\n", "@a\n", "#if a\n", "    "} {
		for _, path := range []string{"a.ts", "a.py"} {
			linear(path, part, 8<<10)
		}
		for _, path := range []string{"a.kt", "a.html"} {
			linear(path, part, 32<<10)
		}
	}
	// The largest file that an ingestion takes, of ordinary code.
	const code = "// Get reads.\nfunc (s *store) Get(id string) (row, error) {\n\tfor {\n\t\treturn s.find(id, \"a text\")\n\t}\n}\n\nvar list = []int{\n\t1,\n\t2,\n}\n\n"
	linear("a.go", code, parse.DefaultMaxBytes)
	linear("a.py", "def _get(a):\n    # a remark\n    return a + 1\n\n\n_list = [\n    1,\n    2,\n]\n", parse.DefaultMaxBytes)
	linear("a.ts", "/** Gets. */\nfunction get(a: number) {\n  return [a, 1]\n}\nexport const list = {\n  a: 1,\n  b: 2,\n}\n", parse.DefaultMaxBytes)
}

// mostParses is more than the parses of one text.
const mostParses = 12

// processorTime is what a call takes on the thread of this test: other tests run beside it.
func processorTime(t *testing.T, call func() error) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() time.Duration {
		var u unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began := now()
	require.NoError(t, call())
	return now() - began
}
