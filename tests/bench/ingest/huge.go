package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kijko/tests/bench/origin"
)

// The shapes of huge are the largest that the contract admits, and oversized ones that must not crash a worker.
var shapes = []struct {
	name, what string
	want       string // outcome, or the code of the failure
	fill       func(origin.Put) error
}{
	{"files", "100,000 files", "completed", manyFiles(100_000)},
	{"bytes", "1 GB of source", "completed", copies(1_000_000_000)},
	{"one", "one file of 500 MB among others", "completed", oneLarge(500_000_000)},
	{"toomany", "100,001 files", "REPO_FETCH_FAILED", manyFiles(100_001)},
}

// huge ingests each shape once and prints time, memory and outcome.
func huge(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "kijko-bench-ingest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	host := origin.Serve(filepath.Join(dir, "repos"))
	defer host.Close()
	self, err := build(ctx, dir)
	if err != nil {
		return err
	}
	for _, s := range shapes {
		if wanted := os.Args[2:]; len(wanted) > 0 && !slices.Contains(wanted, s.name) {
			continue
		}
		size, err := origin.Commit(ctx, dir, s.name, s.fill)
		if err != nil {
			return err
		}
		d, err := database(ctx, s.name)
		if err != nil {
			return err
		}
		o, err := d.run(ctx, self, dir, host.URL)
		d.close(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("huge: %s (%.0f MB): %s %s %q after %.0f s (processor: worker %.0f s, Postgres %.0f s), peak memory %d MB\n", s.what, float64(size)/1e6,
			o.outcome, o.code, o.message, o.seconds, o.worker.Seconds(), o.postgres.Seconds(), o.peak>>20)
		fmt.Printf("      %d files, %d left out, %.1f MB, %d tokens, %d chunks\n", o.files, o.errors, float64(o.bytes)/1e6, o.tokens, o.chunks)
		if s.want != o.outcome && s.want != o.code {
			return fmt.Errorf("%s: expected %s", s.what, s.want)
		}
	}
	return nil
}

func manyFiles(n int) func(origin.Put) error {
	return func(put origin.Put) error {
		for i := range n {
			text := fmt.Sprintf("package p%d\n\n// F%d adds what belongs to %d.\nfunc F%d(a, b int) int {\n\treturn a*%d + b - F%d(b, a)\n}\n", i/100, i, i, i, i, i/2)
			if err := put(fmt.Sprintf("d%03d/p%03d/f%06d.go", i/1000, i/100%10, i), len(text), strings.NewReader(text)); err != nil {
				return err
			}
		}
		return nil
	}
}

// copies adds the standard library several times, each time with other names, so that no file is a duplicate.
func copies(total int) func(origin.Put) error {
	return func(put origin.Put) error {
		done := errors.New("enough")
		for i := 0; ; i++ {
			err := standardLibrary(func(path string, n int, content io.Reader) error {
				if total <= 0 {
					return done
				}
				text, err := io.ReadAll(content)
				if err != nil {
					return err
				}
				text = rename(text, fmt.Sprintf("V%d", i))
				total -= len(text)
				return put(fmt.Sprintf("copy%02d/%s", i, path), len(text), bytes.NewReader(text))
			})
			if errors.Is(err, done) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// rename appends a suffix to every word that begins with a capital.
func rename(text []byte, suffix string) []byte {
	var out bytes.Buffer
	letter := func(c byte) bool { return c == '_' || 'a' <= c|32 && c|32 <= 'z' || '0' <= c && c <= '9' }
	for i := 0; i < len(text); {
		end := i + 1
		for letter(text[i]) && end < len(text) && letter(text[end]) {
			end++
		}
		out.Write(text[i:end])
		if 'A' <= text[i] && text[i] <= 'Z' {
			out.WriteString(suffix)
		}
		i = end
	}
	return out.Bytes()
}

func oneLarge(size int) func(origin.Put) error {
	return func(put origin.Put) error {
		return errors.Join(manyFiles(100)(put), put("data/readings.sql", size, &readings{}))
	}
}

// readings are statements without end.
type readings struct {
	count int
	rest  []byte
}

func (r *readings) Read(p []byte) (int, error) {
	for len(r.rest) < len(p) {
		r.rest = fmt.Appendf(r.rest, "insert into readings (id, station, value) values (%d, 'station %d', %d);\n", r.count, r.count%997, r.count*7919%10007)
		r.count++
	}
	n := copy(p, r.rest)
	r.rest = append(r.rest[:0], r.rest[n:]...)
	return n, nil
}
