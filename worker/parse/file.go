package parse

// Category says what a file is to its readers.
type Category string

// The categories of files.
const (
	Code          Category = "code"
	Documentation Category = "documentation"
	Config        Category = "config"
	Text          Category = "text" // nothing is known about it
)

// Kind is the kind of a declaration.
type Kind string

// The kinds of declarations. Heading and Key are those of documents and configuration files; Impl is a block of methods
// that stands apart from its type (Rust); Statement is a statement of SQL that creates nothing.
const (
	Function  Kind = "function"
	Method    Kind = "method"
	Class     Kind = "class"
	Interface Kind = "interface"
	Struct    Kind = "struct"
	Enum      Kind = "enum"
	Type      Kind = "type"
	Variable  Kind = "variable"
	Module    Kind = "module"
	Impl      Kind = "impl"
	Heading   Kind = "heading"
	Key       Kind = "key"
	Statement Kind = "statement"
)

// File is what is known about one text. Offsets are bytes, lines begin at 1, end offsets are exclusive and end lines
// inclusive.
type File struct {
	Language   string // lower-case id such as go, typescript, tsx, csharp; "text" where unknown
	Category   Category
	Layout     Layout // which white space may change
	Generated  bool   // a marker in the first lines says so
	Structured bool   // there is a parser for the language
	HasError   bool   // part of the text did not parse; the rest is here
	Lines      int

	Decls    []Decl   // declarations of the file's top level, in order
	Imports  []Import // in order
	Calls    []Call   // in order
	Markers  []Marker // TODO, FIXME and the like, in order
	Comments []Range  // in order
	Doc      string   // comment at the head of the file
	Cuts     []Cut    // where a chunk may begin, ascending, without 0

	Verbatim     []Verbatim   // strings, templates and the like that go over lines, ascending
	Dependencies []Dependency // imports that can be listed instead, in order
}

// Decl is one declaration. Doc comments, attributes and decorators that stand directly before a declaration belong to it:
// StartByte and StartLine are theirs.
type Decl struct {
	Kind       Kind
	Name       string
	Qualified  string // names of the surrounding declarations and its own, joined by dots
	StartByte  int
	EndByte    int
	NameByte   int // offset of the name; StartByte where there is none
	StartLine  int
	EndLine    int
	Signature  string // without body, blanks collapsed, at most 300 bytes
	Doc        string // doc comment or docstring without its marks, at most 2,000 bytes
	Extends    []string
	Implements []string
	Children   []Decl
}

// Import is one imported path. Several imports of one statement share StartByte, EndByte and Line, which are the
// statement's.
type Import struct {
	Path      string
	Names     []string // what is taken from it, as written; empty for the whole
	StartByte int
	EndByte   int
	Line      int
	Statement bool // a statement of the top level that does nothing but import
}

// Call is one call or instantiation.
type Call struct {
	Name   string // as written without arguments, such as fmt.Println; at most 200 bytes
	Caller string // Qualified of the innermost declaration around it; empty at the top level
	Line   int
}

// Marker is a note to oneself in a comment.
type Marker struct {
	Kind string // TODO, FIXME, HACK, XXX, BUG
	Text string // rest of the line, at most 200 bytes
	Line int
}

// Verbatim is a stretch of text whose white space stays.
type Verbatim struct {
	StartByte, EndByte int
	Quoted             bool // a string or the like, not a comment or prose
}

// Range is a stretch of bytes.
type Range struct{ StartByte, EndByte int }

// Cut is an offset where a chunk may begin: the start of a line on which something syntactic begins. Level tells how good
// a place it is: 0 for a declaration of the top level, a heading or key; more for each nesting.
type Cut struct {
	Byte  int
	Level int
	Decl  bool // a declaration begins here, not merely a statement inside one
}

// Boundaries returns the offsets of all declaration cuts, ascending: the syntactic boundaries of the file.
func (f *File) Boundaries() []int {
	var b []int
	for _, c := range f.Cuts {
		if c.Decl {
			b = append(b, c.Byte)
		}
	}
	return b
}

// Walk calls visit for each declaration of the file, outer ones first.
func (f *File) Walk(visit func(*Decl)) { walk(f.Decls, visit) }

func walk(ds []Decl, visit func(*Decl)) {
	for i := range ds {
		visit(&ds[i])
		walk(ds[i].Children, visit)
	}
}
