package optimize

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// TestWhatGetsLostByMistakeIsCounted damages states as a faulty technique would.
func TestWhatGetsLostByMistakeIsCounted(t *testing.T) {
	t.Parallel()
	p := parse.New()
	defer p.Close()
	plan := NewPlan(Limits{})
	var files []File
	for i, text := range []string{
		"package a\n\nimport (\n\t\"context\"\n\t\"encoding/json\"\n\t\"net/http\"\n\t\"strings\"\n)\n\nfunc F() {\n\ta()\n\tb()\n\tc()\n\td()\n\te()\n}\n",
		"package b\n\nimport (\n\t\"context\"\n\t\"encoding/json\"\n\t\"net/http\"\n\t\"strings\"\n)\n\nfunc G() {\n\ta()\n\tb()\n\tc()\n\td()\n\te()\n}\n",
	} {
		path := string(rune('a'+i)) + ".go"
		f, err := p.Parse(context.Background(), path, text, parse.Options{})
		require.NoError(t, err)
		files = append(files, File{Path: path, Language: f.Language, Layout: f.Layout, Imports: f.Imports, Dependencies: f.Dependencies,
			Chunks: chunk.Split(f, path, text, chunk.Semantic)})
		require.NoError(t, plan.Observe(files[i]))
	}
	plan.Seal()
	lines := newReader(&files[1]).chunk(nil, 0)
	header := "imports: context encoding/json net/http strings\n"
	marker := func(at, n, place int) body {
		m := line{text: "// [marker]\n", source: int32(at), swaps: int32(n), marker: true}
		return body{lines: slices.Replace(slices.Clone(lines), at, at+n, m),
			refs: []Reference{{PatternCompression, 0, "a.go", place, place + n - 1}}}
	}
	without := func(from, to int) body { return body{lines: slices.Delete(slices.Clone(lines), from, to)} }
	tokens := func(from, to int) (n int) {
		for _, l := range lines[from:to] {
			if !l.blank() {
				n += token.Count(l.text)
			}
		}
		return n
	}
	for name, c := range map[string]struct {
		body   body
		header string
		lost   int
	}{
		"NothingIsLost":                    {without(0, 0), "", 0},
		"BlankLinesSayNothing":             {without(1, 2), "", 0},
		"ALineThatIsGone":                  {without(10, 11), "", tokens(10, 11)},
		"ImportsThatAreListed":             {without(2, 8), header, 0},
		"ImportsThatAreListedNowhere":      {without(2, 8), "", tokens(2, 8)},
		"ImportsOfWhichOneIsNotListed":     {without(2, 8), strings.Replace(header, "net/http ", "", 1), tokens(2, 8)},
		"AMarkerToTheSameLines":            {marker(10, 5, 11), "", 0},
		"AMarkerToOtherLines":              {marker(10, 5, 10), "", tokens(10, 15)},
		"AMarkerToImports":                 {marker(3, 4, 4), "", tokens(3, 7)},
		"AMarkerToAFileThatIsUnknown":      {body{lines: marker(10, 5, 11).lines, refs: []Reference{{PatternCompression, 0, "z.go", 11, 15}}}, "", tokens(10, 15)},
		"ADuplicateOfAChunkThatIsUnknown":  {body{duplicate: true, refs: []Reference{{Deduplication, 0, "z.go", 1, 16}}}, "", files[1].Chunks[0].Tokens},
		"ADuplicateOfAChunkThatIsAllThere": {body{duplicate: true, refs: []Reference{{Deduplication, 0, "a.go", 1, 16}}}, "", 0},
	} {
		w := work{p: plan, f: &files[1], source: []body{{lines: lines}}}
		require.Equal(t, c.lost, w.missing(&state{bodies: []body{c.body}, header: c.header}), name)
	}
}
