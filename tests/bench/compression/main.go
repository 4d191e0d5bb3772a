// Command compression compresses the source files below a folder at each level and prints how many tokens remain, by language. It holds each
// text against the promises of package compress (worker/ingestion/compress/check) and fails if one is broken.
//
//	go run ./tests/bench compression DIR
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"kijko/worker/ingestion/compress"
	"kijko/worker/ingestion/compress/check"
	"kijko/worker/ingestion/parse"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "compression: name a folder of source code")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "compression:", err)
		os.Exit(1)
	}
}

type variant struct {
	name     string
	settings compress.Settings
}

func variants() []variant {
	at := func(l compress.Level, change func(*compress.Settings)) compress.Settings {
		s := compress.Default()
		s.OptimizationLevel = l
		if change != nil {
			change(&s)
		}
		return s
	}
	return []variant{
		{"standard", at(compress.Medium, func(s *compress.Settings) { s.Method = compress.Standard })},
		{"low", at(compress.Low, nil)}, {"medium", at(compress.Medium, nil)},
		{"medium, docs", at(compress.Medium, func(s *compress.Settings) { s.PreserveDocs = true })},
		{"high", at(compress.High, nil)},
		{"high, nothing kept but exports", at(compress.High, func(s *compress.Settings) { s.PreserveStructure, s.PreserveTypes = false, false })},
		{"high, nothing kept", at(compress.High, func(s *compress.Settings) {
			s.PreserveStructure, s.PreserveTypes, s.PreserveExports = false, false, false
		})},
	}
}

type sum struct{ original, tokens, files, whole int }

func run(root string) error {
	ctx := context.Background()
	c := check.New()
	defer c.Parser.Close()
	all := variants()
	sums := map[string][]sum{}
	broken, size := 0, 0
	began := time.Now()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".min.js") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(raw)
		language := parse.Language(path, text)
		if len(raw) == 0 || len(raw) > parse.DefaultMaxBytes || !utf8.ValidString(text) || strings.ContainsRune(text, 0) || !slices.Contains(languages, language) {
			return nil
		}
		size += len(raw)
		if sums[language] == nil {
			sums[language] = make([]sum, len(all))
		}
		rel, _ := filepath.Rel(root, path)
		for i, v := range all {
			r, faults, err := c.File(ctx, filepath.ToSlash(rel), text, v.settings)
			if err != nil {
				return err
			}
			s := &sums[language][i]
			s.files++
			s.original += r.Original
			s.tokens += r.Tokens
			if r.Reason != "" {
				s.whole++
			}
			for _, f := range faults {
				broken++
				fmt.Printf("%s (%s): %s\n", rel, v.name, f)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("%.1f MB in %s, %d times with all checks\n\n| language | files | tokens |", float64(size)/1e6, time.Since(began).Round(time.Second), len(all))
	for _, v := range all {
		fmt.Printf(" %s |", v.name)
	}
	fmt.Print("\n|---|---|---|", strings.Repeat("---|", len(all)), "\n")
	for _, language := range slices.Sorted(maps.Keys(sums)) {
		s := sums[language]
		fmt.Printf("| %s | %d | %d |", language, s[0].files, s[0].original)
		for i := range all {
			fmt.Printf(" %.1f %% |", 100*float64(s[i].tokens)/float64(s[i].original))
		}
		fmt.Println()
	}
	if broken > 0 {
		return fmt.Errorf("%d promises broken", broken)
	}
	if len(sums) == 0 {
		return errors.New("no source code there")
	}
	return nil
}

var languages = []string{"go", "typescript", "tsx", "javascript", "python", "java", "rust", "c", "cpp", "csharp", "php", "ruby", "sql", "kotlin", "swift", "scala", "shell", "css",
	"html", "yaml", "json", "markdown"}
