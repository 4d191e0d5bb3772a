package chunk_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/gosource"
	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

var strategies = []chunk.Strategy{chunk.Semantic, chunk.Fixed, chunk.Recursive}

func limit(s chunk.Strategy) int {
	return map[chunk.Strategy]int{chunk.Semantic: chunk.UnitTokens, chunk.Fixed: chunk.FixedTokens, chunk.Recursive: chunk.GroupTokens}[s]
}

func parsed(t testing.TB, path, text string) *parse.File {
	t.Helper()
	p := parse.New()
	defer p.Close()
	f, err := p.Parse(context.Background(), path, text, parse.Options{MaxBytes: 1 << 24})
	require.NoError(t, err)
	return f
}

// split cuts a text and asserts the properties of every result.
func split(t testing.TB, path, text string, s chunk.Strategy) []chunk.Chunk {
	t.Helper()
	chunks := chunk.Split(parsed(t, path, text), path, text, s)
	var all strings.Builder
	line := 1
	for i, c := range chunks {
		require.Equal(t, i, c.Order)
		require.Equal(t, all.Len(), c.StartByte)
		all.WriteString(c.Content)
		require.Equal(t, all.Len(), c.EndByte)
		require.NotEmpty(t, c.Content)
		require.Equal(t, token.Count(c.Content), c.Tokens)
		require.LessOrEqual(t, c.Tokens, limit(s), "%s chunk %d", path, i)
		require.Equal(t, line, c.StartLine)
		line += strings.Count(c.Content, "\n")
		require.GreaterOrEqual(t, c.EndLine, c.StartLine)
		require.Len(t, c.Hash, 32)
		require.NotEmpty(t, c.ParentID)
		require.Contains(t, chunk.Types, c.Type)
	}
	require.Equal(t, text, all.String(), "the chunks of %s put together", path)
	return chunks
}

func sources(t testing.TB, limit, nth int) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := gosource.Folder()
	seen, size := 0, 0
	require.NoError(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || size >= limit {
			return err
		}
		if seen++; seen%nth == 0 && d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if len(b) < 1<<20 {
				all[p] = strings.ToValidUTF8(string(b), "?")
				size += len(b)
			}
		}
		return nil
	}))
	return all
}

func TestSplit(t *testing.T) {
	t.Parallel()

	t.Run("RealFilesAreCutWithoutLoss", func(t *testing.T) {
		t.Parallel()
		for path, text := range sources(t, 1<<20, 141) {
			for _, s := range strategies {
				split(t, path, text, s)
			}
		}
	})

	t.Run("RandomCutsOfTextsAreCutWithoutLoss", func(t *testing.T) {
		t.Parallel()
		rnd := rand.New(rand.NewPCG(3, 4))
		words := []string{"func f() {\n", "}\n", "\n", "\n\n", "  x := 1\n", "字字字 ", "a ", "# h\n", "key: v\n", "{\"a\":1}", "🙂", "\t", "\r\n", strings.Repeat("word ", 300), strings.Repeat("zq7", 700)}
		for i := range 70 {
			var b strings.Builder
			for range rnd.IntN(60) {
				b.WriteString(words[rnd.IntN(len(words))])
			}
			for _, s := range strategies {
				split(t, []string{"a.go", "a.md", "a.yaml", "a.json", "a.py", "a", "a.txt"}[i%7], b.String(), s)
			}
		}
	})

	t.Run("TheEmptyTextHasNoChunks", func(t *testing.T) {
		t.Parallel()
		for _, s := range strategies {
			require.Empty(t, split(t, "a.go", "", s))
		}
	})

	t.Run("SmallDeclarationsAreGroupedAndLargeOnesStandAlone", func(t *testing.T) {
		t.Parallel()
		large := "func Large() {\n" + strings.Repeat("\tcall(1, 2)\n", 350) + "}\n"
		text := "package a\n\n// A.\nfunc A() {}\n\nfunc B() {}\n\n" + large + "\nfunc C() {}\n"
		c := split(t, "a.go", text, chunk.Semantic)
		require.Len(t, c, 3)
		require.Equal(t, []string{"A", "B"}, c[0].Names)
		require.Equal(t, []string{"Large"}, c[1].Names)
		require.Equal(t, []string{"C"}, c[2].Names)
		for _, x := range c {
			require.True(t, x.OnBoundaryStart && x.OnBoundaryEnd)
			require.Equal(t, chunk.FunctionGroupings, x.Type)
		}
		require.Equal(t, "A.", c[0].Symbols[0].Doc)
	})

	t.Run("AUnitOverTheLimitIsSplitAtNestedBlocks", func(t *testing.T) {
		t.Parallel()
		var b strings.Builder
		b.WriteString("class Big {\n")
		for i := range 40 {
			fmt.Fprintf(&b, "  /** M%d. */\n  m%d() {\n%s  }\n\n", i, i, strings.Repeat("    this.call(1, 2);\n", 30))
		}
		b.WriteString("}\n")
		c := split(t, "a.ts", b.String(), chunk.Semantic)
		require.Greater(t, len(c), 3)
		for _, x := range c[1:] {
			require.True(t, strings.HasPrefix(strings.TrimSpace(x.Content), "/** M"), "%.40q", x.Content)
			require.True(t, x.OnBoundaryStart)
		}
		require.Equal(t, "Big", c[2].Section)
		require.Equal(t, chunk.SectionID("a.ts", "Big"), c[2].ParentID)
		require.NotEqual(t, chunk.SectionID("b.ts", "Big"), c[2].ParentID)
	})

	t.Run("FixedChunksEndWithLines", func(t *testing.T) {
		t.Parallel()
		text := strings.Repeat("some words on a line\n", 2000)
		c := split(t, "a.go", text, chunk.Fixed)
		for _, x := range c[:len(c)-1] {
			require.True(t, strings.HasSuffix(x.Content, "\n"))
			require.Greater(t, x.Tokens, 990)
		}
		long := split(t, "a.txt", strings.Repeat("no line end here ", 5000), chunk.Fixed)
		require.Greater(t, len(long), 10)
		blob := split(t, "a.txt", strings.Repeat("Qx7", 100_000), chunk.Fixed)
		require.Greater(t, len(blob), 10)
	})

	t.Run("TypesFollowTheFile", func(t *testing.T) {
		t.Parallel()
		for path, want := range map[string]chunk.Type{"a.md": chunk.Documentation, "a.txt": chunk.Documentation, "a.yaml": chunk.Config, "a.json": chunk.Config, ".env": chunk.Config, "a.go": chunk.ModuleBoundaries} {
			require.Equal(t, want, split(t, path, "a: 1\n", chunk.Semantic)[0].Type, path)
		}
		big := "package a\n\n" + strings.Repeat("func f() { g() }\n\n", 400) + "type T struct {\n" + strings.Repeat("\tA int\n", 700) + "}\n"
		c := split(t, "a.go", big, chunk.Semantic)
		require.Equal(t, chunk.FunctionGroupings, c[0].Type)
		require.Equal(t, chunk.ModuleBoundaries, c[len(c)-1].Type)
	})

	t.Run("TheHashIgnoresWhiteSpaceThatSaysNothing", func(t *testing.T) {
		t.Parallel()
		for _, c := range []struct {
			path, a, b string
			same       bool
		}{
			{"a.go", "package a\n\n\tvar x = 1\n", "package a  \r\n\r\n\n    var x = 1", true},
			{"a.go", "package a\n\nvar x = `a\n  b`\n", "package a\n\nvar x = `a\n b`\n", false},
			{"a.go", "package a\n\nvar x = 1\n", "package a\n\nvar x  = 1\n", false},
			{"a.py", "if x:\n    y\n    z\n", "if x:\n    y\nz\n", false},
			{"a.py", "x = 1  \n\n\ny = 2\n", "x = 1\n\ny = 2", true},
			{"a.kt", "fun f() {\n  g()\n}\n", "fun f() {\n    g()\n}\n", false},
			{"a.csv", "a,b \n", "a,b\n", false},
		} {
			a, b := split(t, c.path, c.a, chunk.Semantic), split(t, c.path, c.b, chunk.Semantic)
			require.Equal(t, c.same, a[0].Hash == b[0].Hash, "%q and %q", c.a, c.b)
		}
		require.NotEqual(t, chunk.Hash("a b"), chunk.Hash("ab"))
	})

	t.Run("QualityCountsWhatBeginsAndEndsOnBoundaries", func(t *testing.T) {
		t.Parallel()
		var q chunk.Quality
		require.Equal(t, 100, q.SemanticCoherence())
		require.Zero(t, q.AvgChunkSize())
		q.Add([]chunk.Chunk{{Tokens: 10, OnBoundaryStart: true, OnBoundaryEnd: true, Type: chunk.Config}, {Tokens: 21, OnBoundaryStart: true, Type: chunk.Config}})
		require.Equal(t, 50, q.SemanticCoherence())
		require.Equal(t, 15, q.AvgChunkSize())
		require.Equal(t, chunk.TypeQuality{Chunks: 2, Tokens: 31}, q.ByType[chunk.Config])
	})
}

func FuzzSplit(f *testing.F) {
	f.Add("a.go", "package a\n\nfunc A() {}\n")
	f.Add("a.md", "# a\n\nb\n")
	f.Add("a", "x\r\n\r\ny")
	f.Fuzz(func(t *testing.T, path, text string) {
		text = strings.ToValidUTF8(text, "")
		for _, s := range strategies {
			split(t, path, text, s)
		}
	})
}

func TestCustom(t *testing.T) {
	t.Parallel()
	text := "package a\n\nfunc A() {}\n\nfunc B() {}\n"
	file := parsed(t, "a.go", text)
	ask := func(ctx context.Context, h http.HandlerFunc) ([]chunk.Chunk, error) {
		s := httptest.NewServer(h)
		defer s.Close()
		return chunk.Custom(ctx, s.Client(), chunk.Endpoint{URL: s.URL, Secret: "whsec_x"}, chunk.Request{ProjectID: "p", RunID: "r", Path: "a.go", Text: text, File: file})
	}

	t.Run("ASignedRequestGetsItsChunks", func(t *testing.T) {
		t.Parallel()
		got, err := ask(context.Background(), func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var sent map[string]any
			if json.Unmarshal(body, &sent) != nil || sent["projectId"] != "p" || sent["runId"] != "r" {
				w.WriteHeader(400)
				return
			}
			stamp, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("X-Kijko-Signature"), "t="), ",")
			var unix int64
			_, _ = fmt.Sscan(stamp, &unix)
			if chunk.Sign("whsec_x", time.Unix(unix, 0), body) != r.Header.Get("X-Kijko-Signature") || r.Header.Get("X-Kijko-Delivery") == "" {
				w.WriteHeader(401)
				return
			}
			_, _ = io.WriteString(w, `{"x": [1], "chunks": [{"content": "package a\n\n"}, {"content": "func A() {}\n\n", "metadata": {"type": "config", "k": 1}}, {"content": "unknown", "metadata": null}]}`)
		})
		require.NoError(t, err)
		require.Len(t, got, 3)
		require.Equal(t, 0, got[0].StartByte)
		require.Equal(t, 3, got[1].StartLine)
		require.Equal(t, 4, got[1].EndLine)
		require.Equal(t, chunk.Config, got[1].Type)
		require.Equal(t, []string{"A"}, got[1].Names)
		require.Equal(t, -1, got[2].StartByte)
		require.Equal(t, chunk.FunctionGroupings, got[2].Type)
	})

	t.Run("ASecondTryIsMadeAfterAFailure", func(t *testing.T) {
		t.Parallel()
		var n atomic.Int32
		got, err := ask(context.Background(), func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				w.WriteHeader(503)
				return
			}
			_, _ = io.WriteString(w, `{"chunks": [{"content": "x"}]}`)
		})
		require.NoError(t, err)
		require.Len(t, got, 1)
	})

	t.Run("TwoFailuresAreEnough", func(t *testing.T) {
		t.Parallel()
		var n atomic.Int32
		_, err := ask(context.Background(), func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		})
		require.ErrorIs(t, err, chunk.ErrChunking)
		require.EqualValues(t, 2, n.Load(), "a redirect is not followed")
	})

	t.Run("ACancelledCallEndsAtOnce", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		_, err := ask(ctx, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel()
			<-r.Context().Done()
		})
		require.ErrorIs(t, err, context.Canceled)
	})

	many := func(n int) string {
		return `{"chunks": [` + strings.TrimSuffix(strings.Repeat(`{"content":"a"},`, n), ",") + `]}`
	}
	for name, answer := range map[string]string{
		"NoJson": "hello", "NoObject": "[]", "NoChunks": `{}`, "EmptyChunks": `{"chunks": []}`, "ChunksIsNoArray": `{"chunks": 1}`, "NoContent": `{"chunks": [{}]}`,
		"EmptyContent": `{"chunks": [{"content": ""}]}`, "ContentIsNoString": `{"chunks": [{"content": 1}]}`, "LongContent": `{"chunks": [{"content": "` + strings.Repeat("a", 64<<10+1) + `"}]}`,
		"NulCharacter": `{"chunks": [{"content": "a\u0000"}]}`, "UnknownType": `{"chunks": [{"content": "a", "metadata": {"type": "x"}}]}`, "MetadataIsNoObject": `{"chunks": [{"content": "a", "metadata": 1}]}`,
		"TooManyChunks": many(10_001), "CutOff": `{"chunks": [{"content": "a"}`, "Truncated": `{"chunks": [{"content": "a"}]`, "BadMember": `{"a": }`,
	} {
		t.Run("BadShape/"+name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			_, err := ask(context.Background(), func(w http.ResponseWriter, r *http.Request) {
				n.Add(1)
				_, _ = io.WriteString(w, answer)
			})
			require.ErrorIs(t, err, chunk.ErrChunking)
			require.EqualValues(t, 1, n.Load(), "a bad shape is not asked for twice")
		})
	}

	t.Run("TheMostChunksAreAccepted", func(t *testing.T) {
		t.Parallel()
		got, err := ask(context.Background(), func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, many(10_000)) })
		require.NoError(t, err)
		require.Len(t, got, 10_000)
	})

	t.Run("TheSignatureIsThatOfOutgoingWebhooks", func(t *testing.T) {
		t.Parallel()
		s := chunk.Sign("secret", time.Unix(1700000000, 0), []byte(`{"a":1}`))
		require.True(t, strings.HasPrefix(s, "t=1700000000,v1="))
		raw, err := hex.DecodeString(strings.TrimPrefix(s, "t=1700000000,v1="))
		require.NoError(t, err)
		require.Len(t, raw, 32)
	})
}
