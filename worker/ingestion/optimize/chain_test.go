package optimize_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tiktoken-go/tokenizer"

	"kijko/tests/gosource"
	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/optimize"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/secret"
	"kijko/worker/token"
)

type source struct{ path, text string }

// sources returns up to limit bytes of files below GOROOT/src in path order, every nth of the readable ones.
func sources(t testing.TB, limit, nth int) []source {
	t.Helper()
	var all []source
	root := gosource.Folder()
	seen, size := 0, 0
	require.NoError(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || size >= limit {
			return err
		}
		switch filepath.Ext(p) {
		case ".go", ".s", ".c", ".h", ".md", ".txt", ".html", ".js", ".css", ".json", ".py", ".mod", ".sh", ".bash":
		default:
			return nil
		}
		if seen++; seen%nth != 0 {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil || len(b) == 0 || len(b) > parse.DefaultMaxBytes {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		all = append(all, source{filepath.ToSlash(rel), strings.ToValidUTF8(string(b), "\uFFFD")})
		size += len(b)
		return nil
	}))
	slices.SortFunc(all, func(a, b source) int { return strings.Compare(a.path, b.path) })
	require.NotEmpty(t, all)
	return all
}

// chunked parses and cuts files.
func chunked(t testing.TB, files []source, s chunk.Strategy) []optimize.File {
	t.Helper()
	p := parse.New()
	defer p.Close()
	out := make([]optimize.File, 0, len(files))
	for _, f := range files {
		out = append(out, one(t, p, f.path, f.text, s))
	}
	return out
}

func one(t testing.TB, p *parse.Parser, path, text string, s chunk.Strategy) optimize.File {
	t.Helper()
	parsed, err := p.Parse(context.Background(), path, text, parse.Options{})
	require.NoError(t, err)
	return file(parsed, path, text, s)
}

func file(f *parse.File, path, text string, s chunk.Strategy) optimize.File {
	return optimize.File{Path: path, Language: f.Language, Layout: f.Layout, Verbatim: f.Verbatim, Imports: f.Imports, Dependencies: f.Dependencies,
		Chunks: chunk.Split(f, path, text, s)}
}

func sealed(t testing.TB, files []optimize.File) *optimize.Plan {
	t.Helper()
	plan := optimize.NewPlan(optimize.Limits{})
	for _, f := range files {
		require.NoError(t, plan.Observe(f))
	}
	plan.Seal()
	return plan
}

// TestStages prints the speed of each stage over part of GOROOT/src; run it with -v. KIJKO_BENCH_MB sets how much.
func TestStages(t *testing.T) {
	if os.Getenv("KIJKO_BENCH_MB") == "" {
		t.Skip("prints figures only: set KIJKO_BENCH_MB=20 and -v")
	}
	files := sources(t, 20<<20, 4)
	size := 0
	for _, f := range files {
		size += len(f.text)
	}
	mb := float64(size) / 1e6
	row := func(name string, from time.Time) {
		s := time.Since(from).Seconds()
		t.Logf("%-22s %7.2f s %8.1f MB/s", name, s, mb/s)
	}
	t.Logf("%d files, %.1f MB", len(files), mb)
	token.Count("warm")
	lib, err := tokenizer.Get(tokenizer.O200kBase)
	require.NoError(t, err)
	at := time.Now()
	for _, f := range files {
		_, _ = lib.Count(f.text)
	}
	row("bare library count", at)
	at = time.Now()
	for _, f := range files {
		token.Count(f.text)
	}
	row("count", at)
	r, err := secret.New()
	require.NoError(t, err)
	whole := time.Now()
	at = whole
	for i, f := range files {
		files[i].text, _ = r.Redact(f.path, f.text)
	}
	row("redact", at)
	p := parse.New()
	defer p.Close()
	at = time.Now()
	parsed := make([]*parse.File, len(files))
	for i, f := range files {
		parsed[i], err = p.Parse(context.Background(), f.path, f.text, parse.Options{})
		require.NoError(t, err)
	}
	row("parse", at)
	at = time.Now()
	out := make([]optimize.File, len(files))
	var q chunk.Quality
	for i, f := range files {
		out[i] = file(parsed[i], f.path, f.text, chunk.Semantic)
		q.Add(out[i].Chunks)
	}
	row("chunk", at)
	at = time.Now()
	plan := sealed(t, out)
	row("observe and seal", at)
	at = time.Now()
	var total optimize.Totals
	for _, f := range out {
		res, err := plan.Apply(f)
		require.NoError(t, err)
		total.Add(&res)
	}
	row("apply", at)
	row("chain", whole)
	t.Logf("coherence %d %%, %d chunks of %d tokens", q.SemanticCoherence(), q.Chunks, q.AvgChunkSize())
	t.Logf("%+v ratio %.3f preserved %d %%", total, total.CompressionRatio(), total.ContextPreserved())
}
