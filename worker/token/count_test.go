package token_test

import (
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/tiktoken-go/tokenizer"

	"kijko/tests/gosource"
	"kijko/worker/token"
)

// reference counts by the encoding's published definition, slowly. It uses the split expression in Go's regexp (which has
// no look-ahead, so one rule is in Go code), and a merge of the lowest rank first.
func reference(t testing.TB) func(string) int {
	t.Helper()
	ranks := vocabulary(t)
	return func(s string) int {
		s = string([]rune(s)) // an invalid byte is U+FFFD
		total := 0
		for s != "" {
			m := published.FindStringSubmatchIndex(s)
			e := m[1]
			if m[2] >= 0 && e < len(s) { // \s+(?!\S)
				if _, n := utf8.DecodeLastRuneInString(s[:e]); n < e {
					e -= n
				}
			}
			total += merged(ranks, s[:e])
			s = s[e:]
		}
		return total
	}
}

var published = regexp.MustCompile(strings.NewReplacer("\n", "", `\s`, `[\t-\r \x{85}\p{Z}]`).Replace(`^(?:
[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
\p{N}{1,3}|
 ?[^\t-\r \x{85}\p{Z}\p{L}\p{N}]+[\r\n/]*|
\s*[\r\n]+|
(\s+))`))

// vocabulary reads the ranks from the library, which decodes each id.
var vocabulary = func() func(testing.TB) map[string]int {
	load := sync.OnceValues(func() (map[string]int, error) {
		codec, err := tokenizer.Get(tokenizer.O200kBase)
		if err != nil {
			return nil, err
		}
		ranks := make(map[string]int, 200_000)
		for id := range 200_000 {
			if text, err := codec.Decode([]uint{uint(id)}); err == nil {
				ranks[text] = id
			}
		}
		return ranks, nil
	})
	return func(t testing.TB) map[string]int {
		ranks, err := load()
		require.NoError(t, err)
		return ranks
	}
}()

func merged(ranks map[string]int, piece string) int {
	if _, whole := ranks[piece]; whole {
		return 1
	}
	ends := make([]int, len(piece)+1)
	for i := range ends {
		ends[i] = i
	}
	for len(ends) > 2 {
		low, at := 1<<30, -1
		for i := range len(ends) - 2 {
			if r, ok := ranks[piece[ends[i]:ends[i+2]]]; ok && r < low {
				low, at = r, i
			}
		}
		if at < 0 {
			break
		}
		ends = slices.Delete(ends, at+1, at+2)
	}
	return len(ends) - 1
}

// sources returns up to limit bytes of files with the extension under GOROOT, in path order, every nth file.
func sources(t testing.TB, limit, nth int, exts ...string) []string {
	t.Helper()
	var texts []string
	seen, size := 0, 0
	err := filepath.WalkDir(gosource.Folder(), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || size >= limit {
			return err
		}
		for _, e := range exts {
			if strings.HasSuffix(p, e) {
				if seen++; seen%nth == 0 {
					b, err := os.ReadFile(p)
					if err != nil {
						return err
					}
					texts = append(texts, string(b))
					size += len(b)
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, texts)
	return texts
}

func TestCount(t *testing.T) {
	t.Parallel()
	ref := reference(t)

	t.Run("MixesOfWhiteSpaceCountAsInTheReference", func(t *testing.T) {
		t.Parallel()
		// The file was made with tiktoken 1.0.22 of npm, which is OpenAI's own code: texts of white space, marks,
		// contractions, U+007F.
		data, err := os.ReadFile("testdata/counts.json")
		require.NoError(t, err)
		var vectors [][2]any
		require.NoError(t, json.Unmarshal(data, &vectors))
		require.Greater(t, len(vectors), 400)
		for _, v := range vectors {
			text, _ := v[0].(string)
			require.EqualValues(t, v[1], token.Count(text), "%q", text)
			require.Equal(t, token.Count(text), ref(text), "%q: our own definition agrees", text)
		}
		require.Equal(t, 4, token.Count("alpha\n\t\nbeta\n"), "a line of blanks is no token of its own")
	})

	t.Run("KnownTextsHaveTheirPublishedCounts", func(t *testing.T) {
		t.Parallel()
		for text, want := range map[string]int{"": 0, "hello world": 2, "a": 1, "<|endoftext|>": 7, "tiktoken is great!": 6} {
			require.Equal(t, want, token.Count(text), "%q", text)
		}
	})

	t.Run("SourceFilesCountAsDefined", func(t *testing.T) {
		t.Parallel()
		for _, s := range sources(t, 1<<20/share, 29, ".go", ".s", ".md", ".txt", ".html", ".json", ".c", ".h") {
			require.Equal(t, ref(s), token.Count(s), "%.80q", s)
		}
	})

	t.Run("EdgesOfTheSplitCountAsDefined", func(t *testing.T) {
		t.Parallel()
		for _, s := range []string{
			" ", "  ", "   x", "\n", "\r\n", " \n x", "\t\tx", "a \n\n  b", "x  ", "\u00a0x", "\u2028y", "\u0085z",
			"don't DON'T we'LL I'Ve you'RE it'ſ 'S's", "ABCdef", "ABC", "Dž", "ǅabc", "日本語のテキスト", "e\u0301\u0301x", "\u0301", " \u0301a",
			"A\u0301B", "A\u0301", "AʰB", "Aʰb", "ʰ", "1234567", "١٢٣٤", "Ⅳ½", "//\n//\n", " //\r\n/", "((foo", "\x00\x00a", "\xff\xfe", "a\xffb", "\xed\xa0\x80",
			"\xe2\x82", "🙂🙂", " 🙂", "𝒜𝒷", "𐐀𐐨", "x\u200dx", "_foo_bar", "$x", "#!/bin/sh", "\ufeffpackage", "'", "a'", "a'l", "a'lL",
		} {
			require.Equal(t, ref(s), token.Count(s), "%q", s)
		}
	})

	t.Run("EveryCharacterSplitsAsDefined", func(t *testing.T) {
		t.Parallel()
		var b strings.Builder
		for r := rune(0); r <= utf8.MaxRune; r++ {
			if r > 0x800 && r%share != 0 || !utf8.ValidRune(r) || r > 0x2000 && r < 0xA000 && r%16 != 0 || r > 0xAC00 && r < 0xD7A0 && r%64 != 0 || r > 0x10000 && r < 0x1F000 && r%8 != 0 || r > 0x20000 && r < 0xE0000 || r > 0xE0200 {
				continue
			}
			b.WriteString("aA")
			b.WriteRune(r)
			b.WriteString("b 1")
			b.WriteRune(r)
			b.WriteString(". ")
			if r%512 == 504 {
				require.Equal(t, ref(b.String()), token.Count(b.String()), "before %U", r)
				b.Reset()
			}
		}
	})

	t.Run("RandomTextCountsAsDefined", func(t *testing.T) {
		t.Parallel()
		rnd := rand.New(rand.NewPCG(1, 2))
		alphabets := [][]string{
			{"a", "B", "1", " ", "\n", "'", "s", "/", "(", "\t", "\r", "é", "É", "ʰ", "\u0301", "字", "\u00a0", "½", "ſ", "K", "_"},
			{"A", "B", "a", "b", "\u0301", "ʰ", "字", "'ll", "'S"},
			{" ", "  ", "\n", "\r", "\t", "\u2003", "x", ".", "/"},
		}
		for range 2000 / share {
			var b strings.Builder
			set := alphabets[rnd.IntN(len(alphabets))]
			for range rnd.IntN(60) {
				b.WriteString(set[rnd.IntN(len(set))])
			}
			require.Equal(t, ref(b.String()), token.Count(b.String()), "%q", b.String())
			raw := make([]byte, rnd.IntN(80))
			for i := range raw {
				raw[i] = byte(rnd.UintN(256))
			}
			require.Equal(t, ref(string(raw)), token.Count(string(raw)), "%q", raw)
		}
	})

	t.Run("UnbrokenPiecesAreExactUpToTheLimit", func(t *testing.T) {
		t.Parallel()
		for _, unit := range []string{"a", "xyz", "-", " ", "字", "=/"} {
			for _, n := range []int{17, 63, 64, 65, 200, 300, 4000 / share} {
				s := strings.Repeat(unit, n)
				require.Equal(t, ref(s), token.Count(s), "%q times %d", unit, n)
			}
		}
	})

	t.Run("AHugeUnbrokenPieceCostsLinearTime", func(t *testing.T) {
		t.Parallel()
		small, large := strings.Repeat("abcdefgh", 1<<12/share), strings.Repeat("abcdefgh", 1<<15/share)
		start := time.Now()
		n := token.Count(small)
		first := time.Since(start)
		start = time.Now()
		m := token.Count(large)
		require.InDelta(t, 8*n, m, 16)
		require.Less(t, time.Since(start), 64*first+time.Second, "eight times the text took far more than eight times the time")
		odd := strings.Repeat("字", token.MaxPiece)
		require.Positive(t, token.Count(odd))
	})

	t.Run("ManyCallersGetTheSameCounts", func(t *testing.T) {
		t.Parallel()
		texts := sources(t, 1<<18/share, 97, ".go")
		want := make([]int, len(texts))
		for i, s := range texts {
			want[i] = ref(s)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i, s := range texts {
					if token.Count(s) != want[i] {
						t.Errorf("text %d differs", i)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	n, tokens := token.Prefix("", 5)
	require.Zero(t, n+tokens)
	for _, s := range []string{"hello big world", strings.Repeat("abc", 900), strings.Repeat("字", 500), strings.Repeat("-", 800), "a\xff\xfeb c", "🙂🙂🙂", strings.Repeat("x y\n", 500)} {
		for _, limit := range []int{1, 2, 3, 100} {
			rest, all := s, 0
			for rest != "" {
				n, tokens := token.Prefix(rest, limit)
				require.Positive(t, n)
				require.Equal(t, token.Count(rest[:n]), tokens)
				if n > utf8.UTFMax {
					require.LessOrEqual(t, tokens, limit)
				}
				rest = rest[n:]
				all += n
			}
			require.Equal(t, len(s), all)
		}
	}
	n, tokens = token.Prefix("one two three", 2)
	require.Equal(t, "one two", "one two three"[:n])
	require.Equal(t, 2, tokens)
}

func FuzzCount(f *testing.F) {
	for _, s := range []string{"package main\n", "It's 12345 £ 字\u0301", "\xff\x00 \r\n", "ABCdef'LL  //\n"} {
		f.Add(s)
	}
	ref := reference(f)
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) < token.MaxPiece {
			require.Equal(t, ref(s), token.Count(s))
		}
	})
}

func BenchmarkCount(b *testing.B) {
	text := strings.Join(sources(b, 4<<20, 5, ".go"), "")
	lib, err := tokenizer.Get(tokenizer.O200kBase)
	require.NoError(b, err)
	b.Run("kijko", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			token.Count(text)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, _ = lib.Count(text)
		}
	})
}
