package enrichments

import (
	"context"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"kijko/db"
	"kijko/worker/ingestion/graph"
	"kijko/worker/ingestion/parse"
)

// indexSymbols makes the index of symbols: each content that is not known yet is parsed once.
func (r *run) indexSymbols(ctx context.Context) error {
	processed := 0
	queued := map[string]bool{}
	err := r.pages(ctx, "Indexed", func(files []file) error {
		if err := r.store.plan(ctx, files); err != nil {
			return err
		}
		var unknown []file
		for _, f := range files {
			if key := string(f.Hash) + f.Language; !f.Known && !queued[key] {
				queued[key] = true
				unknown = append(unknown, f)
			}
		}
		processed += len(unknown)
		return r.texts(ctx, unknown, func(files []file, texts map[string]string) error {
			group, ctx := errgroup.WithContext(ctx)
			group.SetLimit(r.e.c.Parsers)
			for i := range files {
				if text, ok := texts[string(files[i].Hash)]; ok {
					group.Go(func() error { return r.indexText(ctx, &files[i], text) })
				}
			}
			return group.Wait()
		})
	})
	if err != nil {
		return err
	}
	return r.store.finish(ctx, map[string]any{"processed": processed})
}

func (r *run) indexText(ctx context.Context, f *file, text string) error {
	parsed, err := r.parse(ctx, f.Path, text)
	if err != nil {
		return err
	}
	if parsed == nil || !parsed.Structured {
		return r.store.symbols(ctx, f, false, &symbolRows{})
	}
	return r.store.symbols(ctx, f, true, symbolsOf(parsed))
}

// parse returns nil for a file that cannot be parsed, which is no failure of the run.
func (r *run) parse(ctx context.Context, path, text string) (*parse.File, error) {
	parsed, err := r.e.parser.Parse(ctx, path, text, parse.Options{MaxBytes: maxBytes})
	if errors.Is(err, parse.ErrTimeout) || errors.Is(err, parse.ErrTooLarge) {
		return nil, nil
	}
	return parsed, err
}

// symbolRows are the columns of the definitions of one content.
type symbolRows struct {
	kinds, names, qualified, signatures []string
	starts, ends                        []int32
	exported                            []*bool
}

const (
	// maxSymbols bounds the definitions of one file: a generated one may have any number.
	maxSymbols = 20_000
	maxName    = 500
)

func symbolsOf(f *parse.File) *symbolRows {
	rows := &symbolRows{}
	add := func(kind string, d *parse.Decl, name, qualified string, start, end int, exported *bool) {
		if name == "" || len(rows.names) >= maxSymbols {
			return
		}
		rows.kinds = append(rows.kinds, kind)
		rows.names = append(rows.names, clip(name))
		rows.qualified = append(rows.qualified, clip(qualified))
		rows.starts = append(rows.starts, int32(max(1, start)))
		rows.ends = append(rows.ends, int32(max(1, start, end)))
		rows.exported = append(rows.exported, exported)
		rows.signatures = append(rows.signatures, clip(d.Signature))
	}
	var walk func(ds []parse.Decl, top bool)
	walk = func(ds []parse.Decl, top bool) {
		for i := range ds {
			d := &ds[i]
			if len(d.Children) > 0 && d.Children[0].NameByte == d.NameByte && d.Children[0].Qualified == d.Qualified {
				walk(d.Children, top) // several declarations of one statement
				continue
			}
			kind := graph.NodeKind(d.Kind)
			// A variable of a function is no definition that others look for.
			if kind == "class" || kind == "function" || kind == "variable" && d.Scope.EndByte == 0 {
				add(kind, d, d.Name, d.Qualified, d.StartLine, d.EndLine, exported(f, d, top))
				for _, m := range d.Methods {
					method := parse.Decl{Kind: parse.Method, Name: m.Name}
					add("function", &method, m.Name, d.Qualified+"."+m.Name, m.Line, m.Line, exported(f, &method, false))
				}
			}
			walk(d.Children, top && d.Kind == parse.Module)
		}
	}
	walk(f.Decls, true)
	return rows
}

// clip makes a text of the source one that Postgres can store, of bounded length.
func clip(s string) string {
	if len(s) > maxName {
		s = strings.ToValidUTF8(s[:maxName], "")
	}
	return db.Text(strings.ReplaceAll(s, "\x00", ""))
}

// exported says by the rules of the language whether other files can use a declaration; nil where the language does not say.
func exported(f *parse.File, d *parse.Decl, top bool) *bool {
	switch f.Language {
	case "go":
		first, _ := utf8.DecodeRuneInString(d.Name)
		return new(unicode.IsUpper(first))
	case "python":
		return new(!strings.HasPrefix(d.Name, "_"))
	case "rust":
		return new(strings.HasPrefix(d.Signature, "pub") || d.Type == "export")
	case "java", "csharp":
		return new(strings.HasPrefix(d.Signature, "public ") || strings.Contains(d.Signature, " public "))
	case "typescript", "tsx", "javascript":
		if !top {
			return nil
		}
		for _, e := range f.Exports {
			if e.From == "" && (e.Local == d.Name || e.Local == d.Qualified) {
				return new(true)
			}
		}
		return new(d.Exports)
	}
	return nil
}
