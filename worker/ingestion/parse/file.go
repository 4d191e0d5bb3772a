package parse

// Category is the role of a file for its readers.
type Category string

// The categories of files.
const (
	Code          Category = "code"
	Documentation Category = "documentation"
	Config        Category = "config"
	Text          Category = "text" // unknown format
)

// Kind is the kind of a declaration.
type Kind string

// The kinds of declarations. Heading and Key are for documents and configuration files; Impl is a block of methods that is separate
// from its type (Rust); Statement is an SQL statement that creates nothing.
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

// File is the result of parsing one text. Offsets are bytes, lines begin at 1, end offsets are exclusive and end lines inclusive.
type File struct {
	Language   string // lower-case id such as go, typescript, tsx, csharp; "text" if unknown
	Category   Category
	Layout     Layout // which white space may change
	Generated  bool   // a marker in the first lines says that the file is generated
	Structured bool   // there is a parser for the language
	HasError   bool   // part of the text did not parse; the rest is included
	Lines      int

	Package  string   // package or namespace that the file declares as a whole
	Decls    []Decl   // declarations of the file's top level, in order
	Imports  []Import // in order
	Exports  []Export // JavaScript exports under a name other than the declared one, or from another file
	Aliases  []Alias  // top-level names for parts of other names
	Calls    []Call   // in order
	Markers  []Marker // TODO, FIXME and the like, in order
	Comments []Range  // in order
	Doc      string   // comment at the beginning of the file
	Cuts     []Cut    // where a chunk may begin, ascending, without 0

	Verbatim     []Verbatim   // strings, templates and the like that span lines, ascending
	Dependencies []Dependency // imports that can be listed instead, in order
}

// Decl is one declaration. Doc comments, attributes and decorators directly before a declaration belong to it: StartByte and StartLine
// are those of the first of them.
type Decl struct {
	Kind       Kind
	Name       string
	Qualified  string // names of the surrounding declarations and its own, joined by dots
	StartByte  int
	EndByte    int
	NameByte   int // offset of the name; StartByte if there is none
	StartLine  int
	EndLine    int
	Signature  string // without body, blanks collapsed, at most 300 bytes
	Doc        string // doc comment or docstring without its marks, at most 2,000 bytes
	Extends    []string
	Implements []string
	Children   []Decl

	Mixins  []string // modules and traits whose methods it includes
	Owner   string   // owning type or object, if it is not the enclosing declaration: Go's receivers, Basket.prototype
	Type    string   // name of a variable's type, or of a C# extension method's type; export for Rust macros visible everywhere
	Fields  []Field  // fields of a class that are no declarations of their own
	Methods []Member // methods that a Go interface requires
	Scope   Range    // the function in which it is visible; empty for the whole file
	Exports bool     // JavaScript: the statement begins with export
	Partial bool     // only a signature: the body is elsewhere, or in a later declaration of the same name
}

// Field is a field of a class with the name of its type.
type Field struct{ Name, Type string }

// Member is a method without a declaration of its own.
type Member struct {
	Name string
	Line int
}

// Import is one imported path. Several imports of one statement share its StartByte, EndByte and Line.
type Import struct {
	Path      string
	Names     []string // imported names, as written; empty for the whole module
	StartByte int
	EndByte   int
	Line      int

	Form  string // kind of import: static, global, function, const, relative, system, module; empty for the usual kind
	Binds []Bind // names that the import adds to the file
}

// Bind is a name that an import adds to its file. Name is its name at the source: empty for the module itself, or * for all names, and
// then Local is * too.
type Bind struct {
	Local, Name string
	From        string // the source, if it is not the import's path
}

// Alias holds the parts of a path of names that a declaration names.
type Alias struct {
	Path  string
	Binds []Bind
}

// Export is a name under which a JavaScript file exports a declaration: one of its own, or, with From, one of another file, where * is
// all names or the module itself. Local is {} for an object whose members are declared, and :Type for an object that is created in the
// statement.
type Export struct{ Name, Local, From string }

// Call is one call or instantiation.
type Call struct {
	Name   string // as written without arguments, such as fmt.Println; at most 200 bytes
	Caller string // Qualified of the innermost declaration around it; empty at the top level
	Line   int
	Byte   int
	On     string // the receiver, see OnNothing and the constants after it
	Last   bool   // Name is only the last name: the part before it is an expression
	New    bool   // creates an object
	Macro  bool
}

// Marker is a note in a comment, such as a TODO.
type Marker struct {
	Kind string // TODO, FIXME, HACK, XXX, BUG
	Text string // rest of the line, at most 200 bytes
	Line int
}

// Verbatim is a stretch of text whose white space must not change.
type Verbatim struct {
	StartByte, EndByte int
	Quoted             bool // a string or the like, not a comment or prose
}

// Range is a stretch of bytes.
type Range struct{ StartByte, EndByte int }

// Cut is an offset where a chunk may begin: the start of a line on which a syntactic unit begins. Level is the quality of the place: 0
// for a declaration of the top level, a heading or key; more for each nesting.
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
