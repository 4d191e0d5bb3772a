package optimize_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/optimize"
	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// project is a project of whole texts by path, ascending.
func project(t testing.TB, pairs ...string) []optimize.File {
	t.Helper()
	var files []source
	for i := 0; i < len(pairs); i += 2 {
		files = append(files, source{pairs[i], pairs[i+1]})
	}
	return chunked(t, files, chunk.Semantic)
}

// apply optimizes a file and asserts the properties of every result.
func apply(t testing.TB, p *optimize.Plan, f optimize.File) optimize.Result {
	t.Helper()
	r, err := p.Apply(f)
	require.NoError(t, err)
	var before, after strings.Builder
	for _, c := range f.Chunks {
		before.WriteString(c.Content)
	}
	for _, c := range r.Chunks {
		after.WriteString(c.Content)
		require.NotEmpty(t, c.Content)
		require.Equal(t, token.Count(c.Content), c.Tokens)
	}
	require.Equal(t, token.Count(before.String()), r.OriginalTokens, f.Path)
	require.Equal(t, token.Count(after.String()), r.OptimizedTokens, f.Path)
	sum := 0
	for _, n := range r.Removed {
		require.GreaterOrEqual(t, n, 0)
		sum += n
	}
	require.Equal(t, r.OriginalTokens-r.OptimizedTokens, sum, "the invariant for %s", f.Path)
	for _, ref := range r.References {
		require.True(t, p.Resolvable(ref), "%+v", ref)
	}
	return r
}

func stored(r optimize.Result) string {
	var b strings.Builder
	for _, c := range r.Chunks {
		b.WriteString(c.Content)
	}
	return b.String()
}

const license = "// Copyright 2024 The Example Authors. All rights reserved.\n// Use of this source code is governed by a license\n// that can be found in the LICENSE file of this project.\n\n"

func TestApply(t *testing.T) {
	t.Parallel()

	t.Run("ARepeatedChunkBecomesAReference", func(t *testing.T) {
		t.Parallel()
		body := "package a\n\nfunc Compute(values []int) int {\n\ttotal := 0\n\tfor _, v := range values {\n\t\ttotal += v * v\n\t}\n\treturn total\n}\n"
		files := project(t, "a/x.go", body, "b/x.go", strings.ReplaceAll(body, "\t", "    "), "c/y.go", "package c\n")
		p := sealed(t, files)
		first, second := apply(t, p, files[0]), apply(t, p, files[1])
		require.Equal(t, 1, first.Kept())
		require.Empty(t, first.References)
		require.Zero(t, second.Kept())
		require.Equal(t, "[same as a/x.go:1-9]\n", stored(second))
		require.Equal(t, []optimize.Reference{{Technique: optimize.Deduplication, Order: 0, Path: "a/x.go", StartLine: 1, EndLine: 9}}, second.References)
		require.Positive(t, second.Removed[optimize.Deduplication])
		require.Zero(t, second.LostTokens)
		require.Equal(t, "package c\n", stored(apply(t, p, files[2])), "a body shorter than its marker stays")
	})

	t.Run("LicenseHeadersStayOnce", func(t *testing.T) {
		t.Parallel()
		files := project(t, "a.go", license+"package a\n\nfunc A() {}\n", "b.go", license+"package b\n\nfunc B() {}\n", "c.py", "#!/usr/bin/env python\n# Copyright someone else entirely, with all of the rights there are\n# licensed\nx = 1\n", "d.py", "#!/usr/bin/env python\n# Copyright someone else entirely, with all of the rights there are\n# licensed\ny = 1\n")
		p := sealed(t, files)
		require.Contains(t, stored(apply(t, p, files[0])), "Copyright")
		require.Equal(t, "// [license as in a.go:1-3]\n\npackage b\n\nfunc B() {}\n", stored(apply(t, p, files[1])))
		require.Equal(t, "#!/usr/bin/env python\n# [license as in c.py:2-3]\ny = 1\n", stored(apply(t, p, files[3])))
	})

	t.Run("RepeatedBlocksStayOnce", func(t *testing.T) {
		t.Parallel()
		block := "\tif err := validate(input); err != nil {\n\t\tlog.Printf(\"validation failed: %v\", err)\n\t\tmetrics.Increment(\"failures\")\n\t\treturn fmt.Errorf(\"validate: %w\", err)\n\t}\n\tlog.Printf(\"validated\")\n"
		text := func(name string) string {
			return "package p\n\nfunc " + name + "() error {\n\tstart" + name + "()\n" + block + "\treturn end" + name + "()\n}\n"
		}
		files := project(t, "a.go", text("A"), "b.go", text("B"), "c.go", text("C"))
		p := sealed(t, files)
		require.Contains(t, stored(apply(t, p, files[0])), "metrics.Increment")
		r := apply(t, p, files[2])
		require.Equal(t, "package p\n\nfunc C() error {\n\tstartC()\n// [6 lines as in a.go:5-10]\n\treturn endC()\n}\n", stored(r))
		require.Equal(t, 5, r.References[0].StartLine)
		two := project(t, "a.go", text("A"), "b.go", text("B"))
		require.NotContains(t, stored(apply(t, sealed(t, two), two[1])), "lines as in", "twice is not often enough")
	})

	t.Run("LongLiteralsKeepTheirBeginning", func(t *testing.T) {
		t.Parallel()
		literal := strings.Repeat("iVBORw0KGgo", 100)
		files := project(t, "a.js", "const a = \"data:image/png;base64,"+literal+"\";\nconst b = \""+strings.Repeat("ab", 256)+"\";\n")
		r := apply(t, sealed(t, files), files[0])
		require.Contains(t, stored(r), "const a = \"data:image/png;base64,iVBORw0KGgo")
		require.Contains(t, stored(r), fmt.Sprintf("[+%d characters]\";\n", len("data:image/png;base64,")+len(literal)-64))
		require.Contains(t, stored(r), strings.Repeat("ab", 256), "512 characters are not too long")
		require.Positive(t, r.LostTokens)
		require.Equal(t, r.LostTokens, r.Removed[optimize.PatternCompression])
	})

	t.Run("WhitespaceIsReducedWhereItHasNoMeaning", func(t *testing.T) {
		t.Parallel()
		files := project(t,
			"a.js", "function a() {  \n    if (x) {\n        b();\t\n\n\n\n        c();\n    }\n}\n",
			"a.md", "# T  \n\n\n\n- a\n    - b\n",
			"a.py", "def a():\n    if x:\n        b()   \n\n\n\n    c()\n")
		p := sealed(t, files)
		require.Equal(t, "function a() {\n if (x) {\n  b();\n\n  c();\n }\n}\n", stored(apply(t, p, files[0])))
		require.Equal(t, "# T  \n\n- a\n    - b\n", stored(apply(t, p, files[1])))
		require.Equal(t, "def a():\n    if x:\n        b()\n\n    c()\n", stored(apply(t, p, files[2])))
	})

	t.Run("ImportsBecomeOneList", func(t *testing.T) {
		t.Parallel()
		files := project(t,
			"a.go", "package a\n\nimport (\n\t\"context\"\n\t\"encoding/json\"\n\tm \"math\"\n\n\t\"example.com/x/y\"\n)\n\nfunc A() {}\n",
			"a.ts", "import { a, b } from \"first\";\nimport { c } from \"second\";\nimport { d } from \"third\";\nimport { e } from \"fourth\"; f();\nexport const x = 1;\n")
		p := sealed(t, files)
		r := apply(t, p, files[0])
		require.Equal(t, "imports: context, encoding/json, math as m, example.com/x/y\n", r.Header)
		require.Equal(t, r.Header+"package a\n\nfunc A() {}\n", stored(r))
		require.Positive(t, r.Removed[optimize.Imports])
		r = apply(t, p, files[1])
		require.Equal(t, "imports: first(a, b) second(c) third(d)\nimport { e } from \"fourth\"; f();\nexport const x = 1;\n", stored(r))
	})

	t.Run("NothingIsDoneThatGainsNothing", func(t *testing.T) {
		t.Parallel()
		files := project(t, "a.go", "package a\n\nimport \"a\"\n")
		r := apply(t, sealed(t, files), files[0])
		require.LessOrEqual(t, r.OptimizedTokens, r.OriginalTokens)
		require.Empty(t, r.Header)
	})

	t.Run("FlaggedFilesAreLeftAlone", func(t *testing.T) {
		t.Parallel()
		text := license + "package a\n\n\n\n\nfunc A() {}   \n"
		files := project(t, "a.go", text, "b.go", text)
		files[1].NeverCompress = true
		p := sealed(t, files)
		r := apply(t, p, files[1])
		require.Equal(t, text, stored(r))
		require.Zero(t, r.Removed)
		require.Equal(t, 1, r.Kept())
	})

	t.Run("ChunksWithoutPlaceInTheTextKeepTheInvariant", func(t *testing.T) {
		t.Parallel()
		f := optimize.File{Path: "a.go", Language: "go", Imports: []parse.Import{{Path: "x", StartByte: 0, EndByte: 10}}}
		for i, s := range []string{"alpha beta\n\n\n\ngamma", "alpha beta\n\n\n\ngamma", "delta   \n"} {
			f.Chunks = append(f.Chunks, chunk.Chunk{Order: i, StartByte: -1, EndByte: -1, StartLine: 1, EndLine: 9, Content: s, Tokens: token.Count(s), Hash: chunk.Hash(s)})
		}
		apply(t, sealed(t, []optimize.File{f}), f)
	})
}

func TestPlan(t *testing.T) {
	t.Parallel()

	t.Run("FilesComeInPathOrder", func(t *testing.T) {
		t.Parallel()
		files := project(t, "a.go", "package a\n", "b.go", "package b\n")
		p := optimize.NewPlan(optimize.Limits{})
		require.NoError(t, p.Observe(files[1]))
		require.ErrorIs(t, p.Observe(files[0]), optimize.ErrOrder)
		require.ErrorIs(t, p.Observe(files[1]), optimize.ErrOrder)
		_, err := p.Apply(files[1])
		require.ErrorIs(t, err, optimize.ErrNotReady)
		p.Seal()
		p.Seal()
		require.ErrorIs(t, p.Observe(files[0]), optimize.ErrOrder)
		_, err = p.Apply(files[0])
		require.ErrorIs(t, err, optimize.ErrUnknown)
		require.False(t, p.Resolvable(optimize.Reference{Path: "z"}))
		files[0].Chunks[0].Hash = "?"
		require.Error(t, optimize.NewPlan(optimize.Limits{}).Observe(files[0]))
	})

	t.Run("PastItsLimitsAPlanLeavesThingsAsTheyAre", func(t *testing.T) {
		t.Parallel()
		files := chunked(t, sources(t, 1<<19/share, 60), chunk.Semantic)
		p := optimize.NewPlan(optimize.Limits{MaxChunks: 40, MaxLines: 500, MaxBlocks: 3})
		for _, f := range files {
			require.NoError(t, p.Observe(f))
		}
		p.Seal()
		for _, f := range files {
			apply(t, p, f)
		}
	})
}

func TestInvariantHoldsOnRealFiles(t *testing.T) {
	t.Parallel()
	for _, s := range []chunk.Strategy{chunk.Semantic, chunk.Fixed, chunk.Recursive} {
		t.Run(string(s), func(t *testing.T) {
			t.Parallel()
			files := chunked(t, sources(t, 1<<20/share, 43), s)
			p := sealed(t, files)
			var total optimize.Totals
			for _, f := range files {
				r := apply(t, p, f)
				total.Add(&r)
			}
			sum := 0
			for _, n := range total.Removed {
				sum += n
			}
			require.Positive(t, total.Removed[optimize.PatternCompression])
			require.Positive(t, total.Removed[optimize.Whitespace])
			require.Positive(t, total.Removed[optimize.Imports])
			require.Equal(t, total.OriginalTokens-total.OptimizedTokens, sum)
			require.Equal(t, len(files), total.Files)
			require.Less(t, total.CompressionRatio(), 1.0)
			require.Greater(t, total.ContextPreserved(), 90)
		})
	}
}

func TestAPlanBuiltAgainGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	files := chunked(t, sources(t, 1<<19/share, 47), chunk.Semantic)
	a, b := sealed(t, files), sealed(t, files)
	want := make([]optimize.Result, len(files))
	for i, f := range files {
		want[i] = apply(t, a, f)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := len(files) - 1 - w; i >= 0; i -= 2 { // another order, at the same time
				r, err := b.Apply(files[i])
				if err != nil || fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", want[i]) {
					t.Errorf("%s differs: %v", files[i].Path, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestReferencesShowWhatWasRemoved replaces each marker by the source lines and compares.
func TestReferencesShowWhatWasRemoved(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	texts := map[string]string{}
	var pairs []string
	for i := range 30 {
		var b strings.Builder
		for range 40 {
			k := rnd.IntN(12)
			for l := range 6 {
				fmt.Fprintf(&b, "call%d_%d(argument, other%d)\n", k, l, k)
			}
			if rnd.IntN(3) == 0 {
				fmt.Fprintf(&b, "unique%d()\n", rnd.IntN(1_000_000))
			}
		}
		path := fmt.Sprintf("f%02d.js", i)
		texts[path] = b.String()
		pairs = append(pairs, path, b.String())
	}
	files := project(t, pairs...)
	p := sealed(t, files)
	seen := 0
	for _, f := range files {
		r := apply(t, p, f)
		refs := r.References
		var b strings.Builder
		for l := range strings.Lines(stored(r)) {
			if !strings.Contains(l, " as in ") && !strings.Contains(l, "same as") {
				b.WriteString(l)
				continue
			}
			source := strings.SplitAfter(texts[refs[0].Path], "\n")
			b.WriteString(strings.Join(source[refs[0].StartLine-1:refs[0].EndLine], ""))
			refs = refs[1:]
			seen++
		}
		require.Equal(t, texts[f.Path], b.String(), f.Path)
	}
	require.Greater(t, seen, 100)
}

func TestTotalsWithoutTokens(t *testing.T) {
	t.Parallel()
	var total optimize.Totals
	require.Equal(t, 100, total.ContextPreserved())
	require.InDelta(t, 1.0, total.CompressionRatio(), 0)
	require.Equal(t, "pattern_compression", optimize.PatternCompression.String())
}
