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

	Package  string   // package or namespace that the file declares as a whole
	Decls    []Decl   // declarations of the file's top level, in order
	Imports  []Import // in order
	Exports  []Export // what JavaScript exports under another name than it declares, or from another file
	Aliases  []Alias  // names of the top level that stand for parts of other names
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

	Mixins  []string // modules and traits whose methods it takes in
	Owner   string   // type or object that it belongs to, where that is not the declaration around it: Go's receivers, Basket.prototype
	Type    string   // name of the type of a variable, or of that which an extension method of C# is for; export for macros of Rust that all see
	Fields  []Field  // fields of a class that are no declarations of their own
	Methods []Member // methods that an interface of Go asks for
	Scope   Range    // the function that it is seen in; empty for the whole file
	Partial bool     // only a signature: the body is elsewhere, or in a later declaration of the same name
}

// Field is a field of a class with the name of its type.
type Field struct{ Name, Type string }

// Member is a method without a declaration of its own.
type Member struct {
	Name string
	Line int
}

// Import is one imported path. Several imports of one statement share StartByte, EndByte and Line, which are the
// statement's.
type Import struct {
	Path      string
	Names     []string // what is taken from it, as written; empty for the whole
	StartByte int
	EndByte   int
	Line      int

	Form  string // how: static, global, function, const, relative, system, module; empty for the usual way
	Binds []Bind // names that the file knows from here on
}

// Bind is a name that an import brings into its file. Name is what it means at the place that it comes from: empty for the module
// itself, * for everything there is, and then Local is * too.
type Bind struct {
	Local, Name string
	From        string // the place, where it is not the import's path
}

// Alias is the parts of a path of names that a declaration gives names to.
type Alias struct {
	Path  string
	Binds []Bind
}

// Export is a name under which a file of JavaScript offers something: a name of its own, or, with From, one of another file, where * is
// everything or the module itself. Local is {} for an object whose members are declared, and :Type for one that is made on the spot.
type Export struct{ Name, Local, From string }

// Call is one call or instantiation.
type Call struct {
	Name   string // as written without arguments, such as fmt.Println; at most 200 bytes
	Caller string // Qualified of the innermost declaration around it; empty at the top level
	Line   int
	Byte   int
	On     string // what it is made on, see OnNothing and its like
	Last   bool   // Name is only the last name: what stands before it is an expression
	New    bool   // makes an object
	Macro  bool
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
