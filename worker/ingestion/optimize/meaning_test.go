package optimize_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/gosource"
	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/optimize"
	"kijko/worker/ingestion/parse"
)

// lab is an optimized project as a reader sees it: the stored chunks, and the sources for comparison.
type lab struct {
	t       testing.TB
	files   map[string]optimize.File
	texts   map[string]string
	results map[string]optimize.Result
}

func optimized(t testing.TB, files []source, s chunk.Strategy) *lab {
	t.Helper()
	slices.SortFunc(files, func(a, b source) int { return strings.Compare(a.path, b.path) })
	l := &lab{t: t, files: map[string]optimize.File{}, texts: map[string]string{}, results: map[string]optimize.Result{}}
	cut := chunked(t, files, s)
	p := sealed(t, cut)
	var total optimize.Totals
	for i, f := range cut {
		r := apply(t, p, f)
		total.Add(&r)
		l.files[f.Path], l.texts[f.Path], l.results[f.Path] = f, files[i].text, r
	}
	return l
}

var markers = regexp.MustCompile(`\[(same|\d+ lines|license) as (?:in )?(.+?):(\d+)(?::(\d+))?-(\d+)(?::(\d+))?\]$`)

// body returns the lines of a stored chunk, without the header of its file.
func (l *lab) body(r *optimize.Result, c *optimize.Chunk) []string {
	content := c.Content
	if r.Header != "" {
		content = strings.TrimPrefix(content, r.Header)
	}
	return slices.Collect(strings.Lines(content))
}

// follow returns the stored lines that a reference leads to, in one step. Columns are those of a marker, 0 without.
func (l *lab) follow(ref optimize.Reference, from, to int) []string {
	l.t.Helper()
	r, known := l.results[ref.Path]
	require.True(l.t, known, "%+v", ref)
	if from+to > 0 {
		lines := slices.Collect(strings.Lines(l.texts[ref.Path]))[ref.StartLine-1 : ref.EndLine]
		if to > 0 {
			lines[len(lines)-1] = lines[len(lines)-1][:to]
		}
		lines[0] = lines[0][max(from, 1)-1:]
		want := strings.Join(lines, "")
		for i := range r.Chunks {
			if c := &r.Chunks[i]; !c.Duplicate && strings.TrimSpace(strings.Join(l.body(&r, c), "")) == strings.TrimSpace(want) {
				return []string{want}
			}
		}
		require.Fail(l.t, "a marker leads to a piece that is stored nowhere", "%+v", ref)
	}
	source := slices.Collect(strings.Lines(l.texts[ref.Path]))[ref.StartLine-1 : ref.EndLine]
	want := nonBlank(source)
	loose := strings.TrimSpace
	if f := l.files[ref.Path]; f.Layout == parse.Exact || f.Layout == parse.Indented {
		loose = func(s string) string { return strings.TrimRight(s, " \t\r\n") }
	}
	for i := range r.Chunks {
		c := &r.Chunks[i]
		if c.Duplicate || c.StartLine > ref.StartLine || c.EndLine < ref.EndLine {
			continue
		}
		stored := l.body(&r, c)
		var full []int // lines that are not blank
		for i, line := range stored {
			if strings.TrimSpace(line) != "" {
				full = append(full, i)
			}
		}
		for at := 0; at+len(want) <= len(full); at++ {
			same := true
			for k, line := range want {
				same = same && loose(stored[full[at+k]]) == loose(line)
			}
			if same {
				from, to := full[at], full[at+len(want)-1]+1
				for i := 0; from > 0 && strings.TrimSpace(source[i]) == "" && strings.TrimSpace(stored[from-1]) == ""; i++ {
					from--
				}
				for i := len(source) - 1; to < len(stored) && strings.TrimSpace(source[i]) == "" && strings.TrimSpace(stored[to]) == ""; i-- {
					to++
				}
				lines := slices.Clone(stored[from:to])
				lines[len(lines)-1] = strings.TrimSuffix(lines[len(lines)-1], "\n") + "\n"
				return lines
			}
		}
	}
	require.Fail(l.t, "a marker leads to lines that are stored nowhere", "%+v", ref)
	return nil
}

// read returns the lines of a file as a reader has them: markers followed once.
func (l *lab) read(path string) []string {
	l.t.Helper()
	r := l.results[path]
	var all []string
	refs := r.References
	for i := range r.Chunks {
		for _, line := range l.body(&r, &r.Chunks[i]) {
			m := markers.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
			if m != nil && len(refs) > 0 && m[2] == refs[0].Path && m[3] == fmt.Sprint(refs[0].StartLine) && m[5] == fmt.Sprint(refs[0].EndLine) {
				from, _ := strconv.Atoi(m[4])
				to, _ := strconv.Atoi(m[6])
				all = append(all, l.follow(refs[0], from, to)...)
				refs = refs[1:]
				continue
			}
			all = append(all, line)
		}
	}
	require.Empty(l.t, refs, "%s: references without a marker", path)
	return slices.Collect(strings.Lines(strings.Join(all, "")))
}

// check compares a file as a reader sees it with its source.
func (l *lab) check(path string) {
	l.t.Helper()
	f, r := l.files[path], l.results[path]
	read := nonBlank(l.read(path))
	verbatim := parse.VerbatimLines(f.Verbatim)
	at, k := 0, 0
	for line := range strings.Lines(l.texts[path]) {
		start := at
		at += len(line)
		front, tail := verbatim.At(start, at-1)
		bare := strings.TrimRight(line, " \t\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		if k < len(read) && strings.TrimSpace(read[k]) == strings.TrimSpace(line) {
			switch {
			case f.Layout == parse.Exact, front != parse.Loose && tail != parse.Loose:
				require.Equal(l.t, strings.TrimRight(line, "\n"), strings.TrimRight(read[k], "\n"), "%s:%d", path, 1+strings.Count(l.texts[path][:start], "\n"))
			case front != parse.Loose || f.Layout == parse.Indented:
				require.Equal(l.t, bare, strings.TrimRight(read[k], " \t\r\n"), path)
			}
			k++
			continue
		}
		if k < len(read) && len(line) > 512 && strings.Contains(read[k], " characters]") {
			k++
			continue
		}
		require.True(l.t, slices.ContainsFunc(f.Dependencies, func(d parse.Dependency) bool {
			return d.StartByte < at && d.EndByte > start && strings.Contains(r.Header, d.Entry)
		}), "%s:%d is lost: %q", path, 1+strings.Count(l.texts[path][:start], "\n"), line)
	}
	require.Equal(l.t, len(read), k, "%s has lines that the source has not: %q", path, read[k:])
}

func (l *lab) checkAll() {
	l.t.Helper()
	for path := range l.results {
		l.check(path)
		if strings.HasSuffix(path, ".go") {
			l.checkGo(path)
		}
	}
}

// checkGo compares the tokens, by Go's own scanner, and the imports.
func (l *lab) checkGo(path string) {
	l.t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, l.texts[path], parser.ImportsOnly)
	if err != nil || strings.Contains(strings.Join(l.read(path), ""), " characters]") {
		return
	}
	type span struct{ from, to int }
	var moved []span
	header := strings.TrimSuffix(strings.TrimPrefix(l.results[path].Header, "imports: "), "\n")
	separator := " "
	if strings.Contains(header, ", ") {
		separator = ", "
	}
	listed := strings.Split(header, separator)
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.IMPORT {
			continue
		}
		from := set.Position(g.Pos()).Offset
		if !slices.ContainsFunc(l.files[path].Dependencies, func(d parse.Dependency) bool { return d.StartByte == from }) ||
			header == "" {
			continue
		}
		gone := true
		for _, s := range g.Specs {
			i, _ := s.(*ast.ImportSpec)
			want := strings.Trim(i.Path.Value, "\"`")
			if i.Name != nil {
				want += " as " + i.Name.Name
			}
			gone = gone && slices.Contains(listed, want)
		}
		if gone {
			moved = append(moved, span{from, set.Position(g.End()).Offset})
		}
	}
	rest, at := "", 0
	for _, m := range moved {
		rest += l.texts[path][at:m.from]
		at = m.to
	}
	rest += l.texts[path][at:]
	require.Equal(l.t, goTokens(rest), goTokens(strings.Join(l.read(path), "")), path)
}

// goTokens returns the tokens of a Go text, semicolons at line ends apart.
func goTokens(text string) (list []string) {
	set := token.NewFileSet()
	var s scanner.Scanner
	s.Init(set.AddFile("", -1, len(text)), []byte(text), nil, 0)
	for {
		_, tok, literal := s.Scan()
		if tok == token.EOF {
			return list
		}
		if tok != token.SEMICOLON || literal == ";" {
			list = append(list, tok.String()+" "+literal)
		}
	}
}

func nonBlank(lines []string) (kept []string) {
	for _, l := range lines {
		if strings.TrimSpace(l) != "" {
			kept = append(kept, l)
		}
	}
	return kept
}

// folder returns the readable files below a folder, every nth, up to a size.
func folder(t testing.TB, root string, limit, nth int) (all []source) {
	t.Helper()
	seen, size := 0, 0
	require.NoError(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || size >= limit {
			return err
		}
		switch filepath.Ext(p) {
		case ".go", ".s", ".c", ".h", ".cc", ".md", ".txt", ".html", ".js", ".mjs", ".ts", ".css", ".json", ".py", ".mod", ".sh", ".bash", ".yml", ".yaml",
			".java", ".rs", ".rb", ".php", ".sql", ".cs", ".toml", ".proto", ".xml", ".kt", ".swift", ".pl", ".lua", ".mk", ".tf":
		default:
			return nil
		}
		if seen++; seen%nth != 0 {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil || len(b) == 0 || len(b) > 1<<18 || slices.Contains(b, 0) {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		all = append(all, source{filepath.ToSlash(rel), strings.ToValidUTF8(string(b), "\uFFFD")})
		size += len(b)
		return nil
	}))
	return all
}

// TestOptimizedFilesSayWhatTheirSourcesSay reads optimized projects back.
func TestOptimizedFilesSayWhatTheirSourcesSay(t *testing.T) {
	t.Parallel()
	nth := 1
	if share > 1 {
		nth = 3
	}
	for name, root := range map[string]string{
		"GoStandardLibrary": gosource.Folder(), "GoNetHTTP": filepath.Join(gosource.Folder(), "net", "http"), "GoRuntime": filepath.Join(gosource.Folder(), "runtime"),
		"ThisProject": filepath.Join("..", ".."),
	} {
		for _, s := range []chunk.Strategy{chunk.Semantic, chunk.Fixed} {
			t.Run(name+string(s), func(t *testing.T) {
				t.Parallel()
				n := nth
				if name == "GoStandardLibrary" {
					n *= 37
				}
				optimized(t, folder(t, root, 1<<20/share, n), s).checkAll()
			})
		}
	}
	// Further repositories, for a look at other languages in bulk.
	if more := os.Getenv("KIJKO_MEANING_FOLDERS"); more != "" {
		for root := range strings.SplitSeq(more, ":") {
			t.Run(filepath.Base(root), func(t *testing.T) { optimized(t, folder(t, root, 64<<20, 1), chunk.Semantic).checkAll() })
		}
	}
}
