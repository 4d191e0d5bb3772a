// Package check holds compressed texts against what package compress promises. Its exported names are found by other means than the
// package's own: the parser of Go, and for other languages the beginnings of lines.
package check

import (
	"context"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"regexp"
	"strings"

	"kijko/worker/ingestion/compress"
	"kijko/worker/ingestion/parse"
)

// Checker compresses files and names broken promises.
type Checker struct {
	Parser *parse.Parser
	Files  *compress.Compressor
}

// New returns a Checker with a parser of its own.
func New() *Checker {
	p := parse.New()
	return &Checker{Parser: p, Files: compress.New(p)}
}

// limits are those with which files are compressed.
var limits = parse.Options{MaxBytes: parse.LargeMaxBytes}

// File compresses a file and returns the promises that its text breaks.
func (c *Checker) File(ctx context.Context, path, text string, s compress.Settings) (r compress.Result, broken []string, err error) {
	if r, err = c.Files.File(ctx, path, text, s); err != nil {
		return r, nil, err
	}
	fault := func(format string, a ...any) { broken = append(broken, fmt.Sprintf(format, a...)) }
	if r.Tokens > r.Original || r.Reason == "" && r.Tokens == r.Original || r.Reason != "" && r.Text != text {
		fault("%d tokens of %d, reason %q", r.Tokens, r.Original, r.Reason)
	}
	again, err := c.Files.File(ctx, path, text, s)
	if err != nil {
		return r, nil, err
	}
	if again != r {
		fault("another text at the second time")
	}
	if r.Reason != "" {
		return r, broken, nil
	}
	if s.Method == compress.Contextual {
		before, err := c.Parser.Syntax(ctx, path, text, limits)
		if err != nil {
			return r, broken, nil // the parser refuses this text: there is nothing to compare
		}
		if after, err := c.Parser.Syntax(ctx, path, r.Text, limits); before != nil && !before.HasError && (err != nil || after == nil || after.HasError) {
			fault("no syntax any more: %v", err)
		}
		// Where export statements go, the text that is left says no more which names it exports.
		twice, err := c.Files.File(ctx, path, r.Text, s)
		if err != nil {
			return r, nil, err
		}
		// In a language without a grammar a second look for repeated blocks may find more.
		if twice.Reason == "" && s.PreserveExports && before != nil && twice.Tokens < r.Tokens-1 {
			fault("compressed text is compressed further, from %d to %d tokens", r.Tokens, twice.Tokens)
		}
	}
	if s.PreserveExports && s.Method == compress.Contextual {
		words := map[string]bool{}
		for _, w := range word.FindAllString(r.Text, -1) {
			words[w] = true
		}
		for _, name := range Exported(parse.Language(path, text), text) {
			if !words[name] {
				fault("%s is gone", name)
			}
		}
	}
	return r, broken, nil
}

var word = regexp.MustCompile(`[\pL_$][\pL\pN_$]*`)

// declared finds exported names at the beginnings of lines.
var declared = map[string]*regexp.Regexp{
	"typescript": regexp.MustCompile(`(?m)^export (?:default )?(?:declare )?(?:abstract )?(?:async )?(?:function\*?|class|interface|type|enum|const|let|var|namespace) ([A-Za-z_$][\w$]*)`),
	"python":     regexp.MustCompile(`(?m)^(?:async def|def|class) ([A-Za-z]\w*)`),
	"java":       regexp.MustCompile(`(?m)^(?:public |protected )(?:abstract |final |static |sealed )*(?:class|interface|enum|record|@interface) (\w+)`),
	"rust":       regexp.MustCompile(`(?m)^pub (?:async |const |unsafe )*(?:fn|struct|enum|trait|type|static|union|mod) (\w+)`),
	"csharp":     regexp.MustCompile(`(?m)^\s{0,4}public (?:abstract |sealed |static |partial )*(?:class|interface|enum|record|struct) (\w+)`),
	"php":        regexp.MustCompile(`(?m)^(?:abstract |final )?(?:class|interface|trait|function) (\w+)`),
	"ruby":       regexp.MustCompile(`(?m)^(?:class|module) (?:\w+::)*(\w+)`),
}

func init() {
	declared["tsx"] = declared["typescript"]
	declared["javascript"] = declared["typescript"]
}

// all is a Python list of names that replaces the rule of the underscore.
var all = regexp.MustCompile(`(?m)^__all__\b`)

// stringed are the strings of a text that may contain the beginnings of lines.
var stringed = regexp.MustCompile("(?s)r#+\".*?\"#+|\"\"\".*?\"\"\"|'''.*?'''|`[^`]*`|/\\*.*?\\*/")

// Exported returns the names that a text exports, as far as this package finds them.
func Exported(language, text string) (names []string) {
	if language == "go" {
		f, err := goparser.ParseFile(token.NewFileSet(), "", text, goparser.SkipObjectResolution)
		if err != nil {
			return nil
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names = append(names, d.Name.Name)
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names = append(names, s.Name.Name)
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names = append(names, n.Name)
						}
					}
				}
			}
		}
		kept := names[:0]
		for _, n := range names {
			if ast.IsExported(n) {
				kept = append(kept, n)
			}
		}
		return kept
	}
	if declared[language] == nil || language == "python" && all.MatchString(text) {
		return nil
	}
	bare := stringed.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("\n ", strings.Count(s, "\n")) })
	for _, m := range declared[language].FindAllStringSubmatch(bare, -1) {
		names = append(names, m[1])
	}
	return names
}
