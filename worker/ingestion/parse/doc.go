// Package parse extracts from the text of a file the data that ingestion needs: language, declarations with their doc comments,
// imports, calls, and the offsets where the text may be cut.
//
// Go, TypeScript, TSX, JavaScript, Python, Java, Rust, C, C++, C#, PHP, Ruby and SQL are parsed by tree-sitter. Markdown is read for
// its headings, JSON, YAML, TOML and INI-like files for their top-level keys. Every other text is a File with a language, and
// without declarations. Text that is invalid in its language gives the parts that could be parsed. If a grammar fails on syntax that
// is newer than the grammar, or on branches of #if, the text is rewritten in older syntax, with the same offsets, and parsed once
// more.
//
// A File also says which of its white space has meaning (layout.go). The strings of languages with a grammar come from the tree,
// those of some thirty other languages from their lexical rules (lexis.go). In all other files no white space may change.
//
// # Bounds
//
// A file longer than Options.MaxBytes, or one whose parsing takes longer than Options.Timeout, is an error of that file
// (ErrTooLarge, ErrTimeout). Trees are not read below 400 levels or beyond 4 million nodes. Results depend only on path and text.
//
// # Concurrency
//
// A Parser may be used by any number of goroutines. Each parse borrows one of its engines, and there are never more engines than
// simultaneous parses. Close releases the idle engines, which are C memory; engines still in use are released when their parse ends.
// Syntax trees are copied out of C memory and released before Parse returns.
package parse
