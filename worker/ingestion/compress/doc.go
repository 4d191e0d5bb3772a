// Package compress renders the text of one file in fewer tokens, for models that read it as context (contract 60, section 3.5).
//
// The result is a function of path, text and settings alone. The original is never changed: a rendering that is not smaller gives way to
// it, with the reason.
//
// # Methods
//
// The standard method is the four techniques of package optimize, applied to the file alone. The contextual method (hypervisa) walks the syntax
// tree: it drops comments, replaces bodies of functions, narrows symbols that are not exported, and shortens long literals, as the level
// says. Then white space and imports are reduced as by the standard method. Deduplication and repeated patterns are left out there,
// because their markers name lines, and a rendering has other lines than the file.
//
// Text of a language without a grammar, and text that the parser refuses, gets the standard techniques, and loses the comments that lexical
// rules can tell from strings.
//
// # Markers
//
// Elided parts leave one line with the number of lines that they had:
//
//	func (s *Store) Get(id string) (Row, error) { /* [34 lines] */ }
//	def load(path): ...  # [34 lines]
//	// [12 lines]
//	"SELECT id, name, created_at FROM orders[+512 characters]"
//	// imports: fmt net/http
//
// A rendering recognizes markers, so that compressed text is compressed no further.
//
// # What holds
//
// A text without syntax errors gives a text without syntax errors: a rendering is parsed again, and where a step has broken it, the file
// does without that step. Exported names stay, unless the settings drop export statements.
package compress
