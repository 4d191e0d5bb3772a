package parse_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/gosource"
	"kijko/worker/ingestion/parse"
)

type source struct{ path, text string }

// sources returns up to limit bytes of files below GOROOT/src, every nth with one of the extensions.
func sources(t testing.TB, limit, nth int, exts ...string) []source {
	t.Helper()
	var all []source
	root := gosource.Folder()
	seen, size := 0, 0
	require.NoError(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
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
					rel, _ := filepath.Rel(root, p)
					all = append(all, source{filepath.ToSlash(rel), string(b)})
					size += len(b)
				}
			}
		}
		return nil
	}))
	require.NotEmpty(t, all)
	return all
}

func BenchmarkParse(b *testing.B) {
	files := sources(b, 4<<20, 5, ".go")
	p := parse.New()
	defer p.Close()
	var size int64
	for _, f := range files {
		size += int64(len(f.text))
	}
	b.SetBytes(size)
	for b.Loop() {
		for _, f := range files {
			if _, err := p.Parse(context.Background(), f.path, f.text, parse.Options{}); err != nil {
				b.Log(err)
			}
		}
	}
}
