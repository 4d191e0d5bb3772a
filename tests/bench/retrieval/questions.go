package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"kijko/worker/ingestion/parse"
)

// wanted is the most questions of a repository.
const wanted = 300

// maxFile is the largest file that is read.
const maxFile = 1 << 20

// source is a file of the repository, without the comments of the functions that are asked for.
type source struct{ path, text string }

// question is the first sentence of a function's comment, without the function's own name: who knows the name needs no search.
type question struct {
	Text string
	Path string
	Line int // of the name, in the text without the comment
	Name string
}

// read returns the files of the newest commit.
func read(ctx context.Context, repository string) ([]source, error) {
	cmd := exec.CommandContext(ctx, "git", "-C", repository, "archive", "--format=tar", "HEAD")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var files []source
	r := tar.NewReader(out)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || h.Size == 0 || h.Size > maxFile {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 {
			files = append(files, source{h.Name, string(data)})
		}
	}
	_, _ = io.Copy(io.Discard, out)
	return files, cmd.Wait()
}

// asked is a function that can be asked for.
type asked struct {
	file     int
	decl     *parse.Decl
	sentence string
	cuts     []parse.Range
	order    [32]byte
}

// questions chooses functions and takes their comments out of the files.
func questions(ctx context.Context, files []source) ([]question, error) {
	p := parse.New()
	defer p.Close()
	var all []asked
	times := map[string]int{}
	for i, f := range files {
		if isTest(f.path) {
			continue
		}
		parsed, err := p.Parse(ctx, f.path, f.text, parse.Options{})
		if err != nil || !parsed.Structured || parsed.Generated || parsed.Category != parse.Code {
			continue
		}
		var visit func([]parse.Decl)
		visit = func(decls []parse.Decl) {
			for n := range decls {
				d := &decls[n]
				visit(d.Children)
				if d.Kind != parse.Function && d.Kind != parse.Method || d.Doc == "" || d.Name == "" {
					continue
				}
				a := asked{file: i, decl: d, sentence: sentence(d.Doc, d.Name), order: sha256.Sum256([]byte(f.path + "\x00" + d.Qualified))}
				if a.sentence == "" {
					continue
				}
				times[strings.ToLower(a.sentence)]++
				if a.cuts = comment(f.text, parsed, d); len(a.cuts) > 0 {
					all = append(all, a)
				}
			}
		}
		visit(parsed.Decls)
	}
	// A sentence about several functions has no one answer.
	all = slices.DeleteFunc(all, func(a asked) bool { return times[strings.ToLower(a.sentence)] > 1 })
	slices.SortFunc(all, func(a, b asked) int { return bytes.Compare(a.order[:], b.order[:]) })
	all = all[:min(len(all), wanted)]
	cuts := map[int][]parse.Range{}
	for _, a := range all {
		cuts[a.file] = append(cuts[a.file], a.cuts...)
	}
	var list []question
	for _, a := range all {
		f := files[a.file]
		kept := without(f.text[:a.decl.NameByte], cuts[a.file])
		list = append(list, question{Text: a.sentence, Path: f.path, Line: 1 + strings.Count(kept, "\n"), Name: a.decl.Qualified})
	}
	for i, ranges := range cuts {
		files[i].text = without(files[i].text, ranges)
	}
	return list, nil
}

// without returns a text without some stretches of it.
func without(text string, ranges []parse.Range) string {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b parse.Range) int { return a.StartByte - b.StartByte })
	var b strings.Builder
	at := 0
	for _, r := range ranges {
		if r.StartByte >= len(text) || r.StartByte < at {
			continue
		}
		b.WriteString(text[at:r.StartByte])
		at = min(r.EndByte, len(text))
	}
	b.WriteString(text[at:])
	return b.String()
}

var quotes = []string{`"""`, `'''`}

// comment returns the stretches of a function's comment: comments before its name, or the string that its body begins with.
func comment(text string, f *parse.File, d *parse.Decl) []parse.Range {
	var cuts []parse.Range
	if f.Language == "python" {
		body := text[d.NameByte:d.EndByte]
		for _, q := range quotes {
			first := strings.Index(body, q)
			if first < 0 {
				continue
			}
			last := strings.Index(body[first+3:], q)
			if last < 0 || !strings.HasPrefix(strings.TrimSpace(body[first+3:first+3+last]), strings.TrimSpace(d.Doc)[:min(20, len(strings.TrimSpace(d.Doc)))]) {
				continue
			}
			cuts = append(cuts, parse.Range{StartByte: d.NameByte + first, EndByte: d.NameByte + first + last + 6})
			break
		}
		return cuts
	}
	for _, c := range f.Comments {
		if c.StartByte >= d.StartByte && c.EndByte <= d.NameByte {
			cuts = append(cuts, c)
		}
	}
	return cuts
}

var (
	inline = regexp.MustCompile(`\{@\w+\s+([^}]*)\}`)
	tag    = regexp.MustCompile(`</?[A-Za-z][^>]*>`)
	ends   = regexp.MustCompile(`[.!?](\s|$)|\n\s*\n|\n\s*[@:]`)
	word   = regexp.MustCompile(`[A-Za-z]{2,}`)
)

// sentence returns the first sentence of a comment, or "" where it asks for nothing: too short, too long, or of another language than English.
func sentence(doc, name string) string {
	doc = tag.ReplaceAllString(inline.ReplaceAllString(strings.TrimSpace(doc), "$1"), " ")
	if at := ends.FindStringIndex(doc); at != nil {
		doc = doc[:at[0]]
	}
	doc = regexp.MustCompile(`(?i)\b`+regexp.QuoteMeta(name)+`\b`).ReplaceAllString(doc, " ")
	doc = strings.Join(strings.Fields(doc), " ")
	n := len(word.FindAllString(doc, -1))
	if n < 5 || n > 40 || strings.HasPrefix(doc, "Deprecated") || strings.HasPrefix(doc, "@") || len(doc) > 300 {
		return ""
	}
	for _, c := range doc {
		if c >= utf8.RuneSelf {
			return ""
		}
	}
	return doc
}

func isTest(file string) bool {
	low := strings.ToLower(file)
	base := path.Base(low)
	return strings.Contains(base, "test") || strings.Contains(low, "/test") || strings.HasPrefix(low, "test") || strings.Contains(low, "/vendor/") || strings.Contains(low, "example")
}

func (q question) String() string { return fmt.Sprintf("%s:%d %s: %s", q.Path, q.Line, q.Name, q.Text) }
