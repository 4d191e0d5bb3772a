package chunk

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/google/uuid"

	"kijko/worker/ingestion/parse"
	"kijko/worker/token"
)

// Strategy is a way to cut.
type Strategy string

// The strategies. Custom chunks come from func Custom.
const (
	Semantic   Strategy = "semantic"
	Fixed      Strategy = "fixed"
	Recursive  Strategy = "recursive"
	CustomHook Strategy = "custom"
)

// Type is the kind of content of a chunk.
type Type string

// The types, in the order in which the progress screen shows them.
const (
	ModuleBoundaries  Type = "module_boundaries" // a whole file, class or module
	FunctionGroupings Type = "function_groupings"
	Documentation     Type = "documentation"
	Config            Type = "config"
)

// Types are all types in the fixed order of contract 10, section 17.6.
var Types = [...]Type{ModuleBoundaries, FunctionGroupings, Documentation, Config}

// The token limits of section 18.3.
const (
	GroupTokens = 1500 // small neighbors are grouped up to this
	UnitTokens  = 4000 // a larger unit is split
	FixedTokens = 1000
)

// Chunk is one stretch of a file. Offsets are bytes of the text, exclusive at the end; lines begin at 1, inclusive.
type Chunk struct {
	Order     int // 0, 1, 2 ... inside the file
	StartByte int
	EndByte   int
	StartLine int
	EndLine   int
	Type      Type
	Content   string
	Tokens    int
	Hash      string // 32 hex digits over Content without meaningless white space
	Section   string // qualified name of the declaration or heading around it; empty for the file itself
	ParentID  string // SectionID of the section

	StartColumn     int  // byte of its line, from 1, at which it begins; 0 if it begins with the line
	EndColumn       int  // that of its last byte; 0 if it ends with the line
	OnBoundaryStart bool // begins where something syntactic begins
	OnBoundaryEnd   bool // ends where something syntactic begins, or with the file

	Names    []string // identifiers declared in it, each once, in order
	Symbols  []Symbol // the declarations that begin in it
	Metadata map[string]any
}

// Symbol is a declaration that begins in a chunk.
type Symbol struct {
	Kind      parse.Kind `json:"kind"`
	Name      string     `json:"name"`
	Qualified string     `json:"qualified"`
	Line      int        `json:"line"`
	Signature string     `json:"signature,omitempty"`
	Doc       string     `json:"doc,omitempty"`
}

// SectionID returns the id of a section of a file, the same in every run: parents carry no text and need no row.
func SectionID(path, section string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("kijko:section:"+path+"\x00"+section)).String()
}

// Hash returns the hash of a content of unknown format: all of its white space counts.
func Hash(content string) string {
	k := Chunk{Content: content}
	return k.hash(parse.Exact, nil)
}

// hash returns a hash that is equal for chunks with the same meaning. White space inside of strings always counts. Outside of
// strings the layout decides: indentation with meaning counts, but blanks at the ends of lines and the number of blank lines do
// not. In chunks that are cut inside of a line, all white space counts. lines must be at or before the beginning of the chunk.
func (k *Chunk) hash(layout parse.Layout, lines *parse.Lines) string {
	start, content := k.StartByte, k.Content
	if k.StartColumn > 0 || k.EndColumn > 0 {
		layout = parse.Exact
	}
	b := make([]byte, 1, len(content)+1)
	b[0] = byte(layout) // equal bytes have different meanings in different layouts
	if layout == parse.Exact {
		b = append(b, content...)
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:16])
	}
	blank := false
	for l := range strings.Lines(content) {
		end := len(l)
		if l[end-1] == '\n' {
			end--
		}
		front, tail := lines.At(start, start+end)
		start += len(l)
		if tail == parse.Loose {
			l = strings.TrimRight(l, " \t\r\n")
		}
		if front == parse.Loose && tail == parse.Loose && strings.TrimLeft(l, " \t") == "" {
			blank = true
			continue
		}
		if blank && len(b) > 1 {
			b = append(b, '\n')
		}
		blank = false
		if front == parse.Loose && layout == parse.Free {
			l = strings.TrimLeft(l, " \t")
		}
		b = append(b, l...)
		if tail == parse.Loose {
			b = append(b, '\n')
		}
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Split cuts text by a strategy; f must come from parsing this text under this path. An unknown strategy, and Custom,
// cut as semantic does. The empty text has no chunks.
func Split(f *parse.File, path, text string, s Strategy) []Chunk {
	return SplitCounted(f, path, text, nil, s)
}

// SplitCounted is Split of a text whose tokens have been counted; nil if they have not.
func SplitCounted(f *parse.File, path, text string, tally *token.Tally, s Strategy) []Chunk {
	if text == "" {
		return nil
	}
	c := &cutter{text: text, tally: tally, cuts: cuts(f, text)}
	switch {
	case s == Fixed:
		c.fixed()
	case s == Recursive || !f.Structured:
		c.recursive()
	default:
		c.semantic()
	}
	return c.chunks(f, path)
}

// cuts returns the offsets where the text may be cut: the parser's cuts, and for prose and unknown files its paragraphs.
func cuts(f *parse.File, text string) []parse.Cut {
	if f.Category == parse.Code || f.Category == parse.Config || len(f.Cuts) > 0 {
		return f.Cuts
	}
	var all []parse.Cut
	for _, at := range paragraphs(text) {
		all = append(all, parse.Cut{Byte: at})
	}
	return all
}

// paragraphs returns the offsets of lines that follow a blank line.
func paragraphs(text string) []int {
	var at []int
	blank, offset := false, 0
	for l := range strings.Lines(text) {
		if strings.TrimSpace(l) == "" {
			blank = true
		} else {
			if blank && offset > 0 {
				at = append(at, offset)
			}
			blank = false
		}
		offset += len(l)
	}
	return at
}

// chunks makes the chunks between the offsets that a strategy has found.
func (c *cutter) chunks(f *parse.File, path string) []Chunk {
	decls := flat(f.Decls)
	slices.SortStableFunc(decls, func(a, b *parse.Decl) int { return a.NameByte - b.NameByte })
	out := make([]Chunk, 0, len(c.ends))
	start, line, next := 0, 1, 0
	verbatim := parse.VerbatimLines(f.Verbatim)
	for order, u := range c.ends {
		content := c.text[start:u.end]
		k := Chunk{
			Order: order, StartByte: start, EndByte: u.end, StartLine: line, Content: content, Tokens: u.tokens,
			OnBoundaryStart: c.boundary(start), OnBoundaryEnd: c.boundary(u.end),
		}
		k.StartColumn, k.EndColumn = columns(c.text, start, u.end)
		k.Hash = k.hash(f.Layout, &verbatim)
		if k.Tokens < 0 {
			k.Tokens = c.count(start, u.end)
		}
		breaks := strings.Count(content, "\n")
		k.EndLine = line + breaks
		if breaks > 0 && content[len(content)-1] == '\n' {
			k.EndLine--
		}
		line += breaks
		for next < len(decls) && decls[next].NameByte < u.end {
			k.declare(decls[next])
			next++
		}
		k.Section = section(f.Decls, start, u.end)
		k.ParentID = SectionID(path, k.Section)
		k.Type = kind(f, c.text, start, u.end)
		out = append(out, k)
		start = u.end
	}
	return out
}

func (k *Chunk) declare(d *parse.Decl) {
	if d.Name == "" {
		return
	}
	if !slices.Contains(k.Names, d.Name) {
		k.Names = append(k.Names, d.Name)
	}
	if n := len(k.Symbols); n > 0 && k.Symbols[n-1].Qualified == d.Qualified && k.Symbols[n-1].Line == d.StartLine {
		return // a group and its first member
	}
	k.Symbols = append(k.Symbols, Symbol{Kind: d.Kind, Name: d.Name, Qualified: d.Qualified, Line: d.StartLine, Signature: d.Signature, Doc: d.Doc})
}

func flat(ds []parse.Decl) []*parse.Decl {
	var all []*parse.Decl
	for i := range ds {
		all = append(all, &ds[i])
		all = append(all, flat(ds[i].Children)...)
	}
	return all
}

// columns returns the columns where a stretch begins and ends inside a line; 0 at a line boundary.
func columns(text string, start, end int) (from, to int) {
	if start > 0 && text[start-1] != '\n' {
		from = start - strings.LastIndexByte(text[:start], '\n')
	}
	if end < len(text) && text[end-1] != '\n' && text[end] != '\n' {
		to = end - 1 - strings.LastIndexByte(text[:end], '\n')
	}
	return from, to
}

func (c *cutter) boundary(at int) bool {
	if at == 0 || at == len(c.text) {
		return true
	}
	_, ok := slices.BinarySearchFunc(c.cuts, at, func(x parse.Cut, at int) int { return x.Byte - at })
	return ok
}

// section returns the qualified name of the innermost declaration that is larger than the stretch and holds all of it.
func section(ds []parse.Decl, start, end int) string {
	name := ""
	for {
		i, _ := slices.BinarySearchFunc(ds, start, func(d parse.Decl, at int) int {
			if d.StartByte <= at {
				return -1
			}
			return 1
		})
		if i == 0 {
			return name
		}
		d := &ds[i-1]
		if d.EndByte < end || d.StartByte == start && d.EndByte == end {
			return name
		}
		name = d.Qualified
		ds = d.Children
	}
}

// kind returns the type of the stretch of a file.
func kind(f *parse.File, text string, start, end int) Type {
	switch f.Category {
	case parse.Documentation, parse.Text:
		return Documentation
	case parse.Config:
		return Config
	}
	if start == 0 && end == len(text) || holdsModule(f.Decls, start, end) {
		return ModuleBoundaries
	}
	return FunctionGroupings
}

// holdsModule reports whether whole classes or modules are the greater part of a stretch.
func holdsModule(ds []parse.Decl, start, end int) bool {
	held := 0
	var look func([]parse.Decl)
	look = func(ds []parse.Decl) {
		for i := range ds {
			d := &ds[i]
			if d.EndByte <= start || d.StartByte >= end {
				continue
			}
			whole := d.StartByte >= start && d.EndByte <= end
			switch d.Kind {
			case parse.Class, parse.Module, parse.Interface, parse.Struct, parse.Enum, parse.Impl:
				if whole {
					held += d.EndByte - d.StartByte
					continue
				}
			}
			if !whole {
				look(d.Children)
			}
		}
	}
	look(ds)
	return 2*held > end-start
}
