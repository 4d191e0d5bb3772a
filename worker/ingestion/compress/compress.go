package compress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/optimize"
	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// Reason says why a file keeps its original text.
type Reason string

// The reasons, in the words of the contract.
const (
	NotSmaller Reason = "Compression does not reduce it"
	TooSmall   Reason = "Smaller than 64 tokens"
)

const leastTokens = 64

// Result is the outcome for one file.
type Result struct {
	Text     string // the text to serve; the original if there is a reason
	Tokens   int    // of Text
	Original int    // tokens of the original
	Reason   Reason // empty if the text is compressed
}

// Compressor compresses files. It may be used by any number of goroutines.
type Compressor struct{ parser *parse.Parser }

// New returns a Compressor that uses the parser.
func New(p *parse.Parser) *Compressor { return &Compressor{p} }

// limits lets files be rendered that a run parses only in its second attempt.
var limits = parse.Options{MaxBytes: parse.LargeMaxBytes}

// File compresses the text of one file. The error is that of ctx.
func (c *Compressor) File(ctx context.Context, path, text string, s Settings) (Result, error) {
	r := Result{Text: text, Original: token.Count(text)}
	r.Tokens = r.Original
	if r.Original < leastTokens {
		r.Reason = TooSmall
		return r, ctx.Err()
	}
	short, err := c.shorten(ctx, path, text, s)
	if err != nil {
		return r, err
	}
	if n := token.Count(short); n < r.Original {
		r.Text, r.Tokens = short, n
	} else {
		r.Reason = NotSmaller
	}
	return r, nil
}

func (c *Compressor) shorten(ctx context.Context, path, text string, s Settings) (string, error) {
	if s.Method == Standard {
		return c.techniques(ctx, path, text, optimize.File{})
	}
	tree, err := c.parser.Syntax(ctx, path, text, limits)
	switch {
	case refused(err): // the techniques would ask the parser for the same tree
		return withoutComments(path, text), nil
	case err != nil:
		return "", err
	case tree == nil:
		short, err := c.techniques(ctx, path, text, optimize.File{})
		if err != nil {
			return "", err
		}
		return withoutComments(path, short), nil
	}
	// Where a step breaks the syntax, which takes odd code, the file does without it.
	for _, least := range []bool{false, true} {
		rendered := render(tree, text, s, least)
		parsed, err := c.parser.Parse(ctx, path, rendered, limits)
		if refused(err) {
			break // a broken rendering can take the time of thousands of sound ones
		}
		if err != nil {
			return "", err
		}
		for _, skip := range skips(tree.Language) {
			short, err := apply(parsed, path, rendered, optimize.File{Skip: skip, Lead: lead(tree.Language)})
			if err != nil {
				return "", err
			}
			if short == text || tree.HasError {
				return short, nil
			}
			again, err := c.parser.Syntax(ctx, path, short, limits)
			if refused(err) {
				return text, nil
			}
			if err != nil {
				return "", err
			}
			if !again.HasError {
				return short, nil
			}
		}
	}
	return text, nil
}

// refused: the error concerns this text alone.
func refused(err error) bool {
	return errors.Is(err, parse.ErrTooLarge) || errors.Is(err, parse.ErrTimeout)
}

// skips are the techniques to leave out of a rendering, first choice first.
func skips(language string) [][optimize.Techniques]bool {
	var first, second, third [optimize.Techniques]bool
	first[optimize.Deduplication], first[optimize.PatternCompression] = true, true
	second = first
	second[optimize.Imports] = true
	third = second
	third[optimize.Whitespace] = true
	if language == "php" { // a list before the opening tag would be text of the page
		return [][optimize.Techniques]bool{second, third}
	}
	return [][optimize.Techniques]bool{first, second, third}
}

// techniques applies the techniques of a run to one file.
func (c *Compressor) techniques(ctx context.Context, path, text string, how optimize.File) (string, error) {
	f, err := c.parser.Parse(ctx, path, text, limits)
	if refused(err) {
		return text, nil
	}
	if err != nil {
		return "", err
	}
	return apply(f, path, text, how)
}

// apply applies the techniques to a file that is parsed.
func apply(f *parse.File, path, text string, how optimize.File) (string, error) {
	how.Path, how.Language, how.Layout, how.Verbatim, how.Imports, how.Dependencies = path, f.Language, f.Layout, f.Verbatim, f.Imports, f.Dependencies
	how.Chunks = chunk.Split(f, path, text, chunk.Semantic)
	plan := optimize.NewPlan(optimize.Limits{})
	if err := plan.Observe(how); err != nil {
		return "", fmt.Errorf("observe: %w", err)
	}
	plan.Seal()
	r, err := plan.Apply(how)
	if err != nil {
		return "", fmt.Errorf("optimize: %w", err)
	}
	var b strings.Builder
	for i := range r.Chunks {
		b.WriteString(r.Chunks[i].Content)
	}
	return b.String(), nil
}

// lead begins a comment of a language that has a grammar.
func lead(language string) string {
	switch language {
	case "python", "ruby":
		return "# "
	case "sql":
		return "-- "
	}
	return "// "
}

// withoutComments removes the comments of a text in a language without a grammar, as far as lexical rules find them.
func withoutComments(path, text string) string {
	language := parse.Language(path, text)
	var found []parse.Range
	switch {
	case language == "markdown", language == "text", language == "restructuredtext":
		return text
	case slices.Contains([]string{"html", "xml", "svg", "vue", "svelte", "maven-pom"}, language):
		found = markupComments(text)
	case slices.Contains([]string{"yaml", "ini", "dotenv", "makefile", "dockerfile", "properties", "ignore-list", "git-attributes"}, language):
		found = lineComments(text, language)
	default:
		found = parse.CommentsIn(language, text)
	}
	e := editor{text: text}
	for _, r := range found {
		e.dropComment(r.StartByte, r.EndByte)
	}
	return e.result()
}

// markupComments finds the comments of HTML and XML. A script, a style or a CDATA section may contain their marks.
func markupComments(text string) []parse.Range {
	var found []parse.Range
	for i := 0; i < len(text); {
		k := strings.IndexByte(text[i:], '<')
		if k < 0 {
			break
		}
		i += k
		rest := text[i:]
		end := ""
		switch {
		case strings.HasPrefix(rest, "<!--"):
			e := strings.Index(rest, "-->")
			if e < 0 {
				return found
			}
			found = append(found, parse.Range{StartByte: i, EndByte: i + e + 3})
			i += e + 3
			continue
		case strings.HasPrefix(rest, "<![CDATA["):
			end = "]]>"
		default:
			for _, element := range []string{"script", "style", "pre", "textarea"} {
				if len(rest) > len(element)+1 && strings.EqualFold(rest[1:len(element)+1], element) {
					end = "</" + element
				}
			}
		}
		i++
		if end != "" {
			e := indexFold(text[i:], end)
			if e < 0 {
				return found
			}
			i += e + len(end)
		}
	}
	return found
}

// indexFold is the first place of an ASCII text in any case.
func indexFold(s, part string) int {
	for i := 0; i+len(part) <= len(s); i++ {
		if s[i]|0x20 == part[0]|0x20 && strings.EqualFold(s[i:i+len(part)], part) {
			return i
		}
	}
	return -1
}

// lineComments finds the lines that are comments as a whole. A line that continues the one before it is none.
func lineComments(text, language string) []parse.Range {
	marks := "#"
	switch language {
	case "ini":
		marks = "#;"
	case "properties":
		marks = "#!"
	}
	var found []parse.Range
	at, continued, block := 0, false, -1
	for l := range strings.Lines(text) {
		bare := strings.TrimSpace(l)
		depth := len(l) - len(strings.TrimLeft(l, " \t"))
		if block >= 0 && bare != "" && depth <= block {
			block = -1
		}
		if bare != "" && !continued && block < 0 && strings.IndexByte(marks, bare[0]) >= 0 {
			found = append(found, parse.Range{StartByte: at + depth, EndByte: at + len(strings.TrimRight(l, "\r\n"))})
		}
		if language == "yaml" && block < 0 && blockScalar(bare) {
			block = depth
		}
		continued = strings.HasSuffix(bare, "\\")
		at += len(l)
	}
	return found
}

// blockScalar: the lines after this one of YAML that are deeper are text.
func blockScalar(l string) bool {
	word := l[strings.LastIndexAny(l, " \t")+1:]
	return word != "" && (word[0] == '|' || word[0] == '>') && strings.Trim(word[1:], "+-0123456789") == ""
}
