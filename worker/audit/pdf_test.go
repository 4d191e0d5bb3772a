package audit_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"kijko/worker/audit"
)

// pagesOf returns rows in pages of a thousand.
func pagesOf(t *testing.T, rows int, row func(n int) []string) audit.Pages {
	return func(_ context.Context, after json.RawMessage) (audit.Page, error) {
		from := 0
		if after != nil {
			require.NoError(t, json.Unmarshal(after, &from))
		}
		var page [][]string
		for n := from; n < min(from+1000, rows); n++ {
			page = append(page, row(n))
		}
		content, err := json.Marshal(page)
		require.NoError(t, err)
		var next json.RawMessage
		if from+1000 < rows {
			next = json.RawMessage(fmt.Sprint(from + 1000))
		}
		return audit.Page{Content: string(content), After: next}, nil
	}
}

// drawn returns the drawing instructions of a document: its streams, inflated.
func drawn(t *testing.T, document []byte) string {
	t.Helper()
	var all strings.Builder
	for _, part := range regexp.MustCompile(`(?s)stream\n(.*?)\nendstream`).FindAllSubmatch(document, -1) {
		r, err := zlib.NewReader(bytes.NewReader(part[1]))
		if err != nil {
			continue // a font
		}
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		all.Write(text)
	}
	return all.String()
}

// shown is a text as the library writes it: two bytes per letter.
func shown(text string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(text)) {
		b.WriteByte(byte(u >> 8))
		b.WriteByte(byte(u))
	}
	return b.String()
}

func TestAPDFShowsEveryEuropeanName(t *testing.T) {
	t.Parallel()
	names := []string{"Zoë van den IJssel", "Jürgen Müller", "Łukasz Żółć", "Ősz Éva", "Jiří Šťastný", "Ştefan Çağlar", "Ærø Åse", "Αθηνά", "Александър", "Þór Ýmir"}
	var file bytes.Buffer
	require.NoError(t, audit.Write(t.Context(), &file, "pdf", pagesOf(t, len(names)+3, func(n int) []string {
		name := "日本語 Tanaka"
		if n < len(names) {
			name = names[n]
		}
		return []string{"Jan 5, 2026, 03:04:05 PM", name, "a@example.nl", "user", "user.login", "Signed in.\n\x00" + strings.Repeat("word ", 200) + strings.Repeat("x", 5000), "192.0.2.7"}
	})))
	text := drawn(t, file.Bytes())
	for _, name := range names {
		first, _, _ := strings.Cut(name, " ")
		require.Contains(t, text, shown(first), name)
	}
	require.Contains(t, text, shown("??? Tanaka"), "a letter that the font lacks is a question mark, never nothing")
	require.NotContains(t, text, shown("日"))
	require.Contains(t, text, shown("…"), "a long cell is cut")
	require.Contains(t, file.String(), "/MediaBox [0 0 841.89 595.28]", "A4, lying")
	require.Contains(t, text, shown("Page 2 of "), "pages have numbers")
}

func TestAnEmptyPDFSaysSo(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	require.NoError(t, audit.Write(t.Context(), &file, "pdf", pagesOf(t, 0, nil)))
	require.Contains(t, drawn(t, file.Bytes()), shown("No entries."))
}

func TestAFailureIsToldAndEndsTheFile(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"csv", "json", "pdf"} {
		var file bytes.Buffer
		err := audit.Write(t.Context(), &file, format, func(_ context.Context, after json.RawMessage) (audit.Page, error) {
			if after == nil {
				return audit.Page{Content: `[["a"]]`, After: json.RawMessage("1")}, nil
			}
			return audit.Page{}, io.ErrUnexpectedEOF
		})
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, format)
		require.False(t, strings.HasSuffix(file.String(), "]\n") || strings.Contains(file.String(), "%%EOF"), "%s: %s", format, file.String())
	}
	require.Error(t, audit.Write(t.Context(), io.Discard, "xml", nil))
}

func BenchmarkTheLargestPDF(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		var t testing.T
		_ = audit.Write(context.Background(), io.Discard, "pdf", pagesOf(&t, 50000, func(n int) []string {
			return []string{"Jan 5, 2026, 03:04:05 PM", "Jürgen Müller", "juergen@example.nl", "context", "context.updated", fmt.Sprintf("Changed project number %d, which has a rather long name.", n), "192.0.2.7"}
		}))
	}
}
