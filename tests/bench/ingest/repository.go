package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"kijko/tests/bench/origin"
	"kijko/tests/gosource"
)

// standardLibrary puts the text files of Go's standard library.
func standardLibrary(put origin.Put) error {
	count, limit := 0, 3000
	if n, err := strconv.Atoi(os.Getenv("BENCH_FILES")); err == nil && n > 0 {
		limit = n
	}
	root := gosource.Folder()
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == "vendor") {
			return filepath.SkipDir
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || count >= limit {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !utf8.Valid(data) || len(data) == 0 || len(data) > 1<<20 || bytes.IndexByte(data, 0) >= 0 {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		count++
		return put(filepath.ToSlash(rel), len(data), bytes.NewReader(data))
	})
}
