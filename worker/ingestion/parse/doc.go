// Package parse turns the text of a file into what ingestion wants to know of it: language, declarations with their doc
// comments, imports, calls, and the places where the text may be cut.
//
// Go, TypeScript, TSX, JavaScript, Python, Java, Rust, C, C++, C#, PHP, Ruby and SQL are parsed by tree-sitter; Markdown
// is read for its headings, JSON, YAML, TOML and INI-like files for their top-level keys. Every other text is a File with
// a language, and without declarations. Text that is invalid in its language gives what could be understood. Where a grammar
// stumbles over what it is too old for, or over branches of #if, it is written in an older way, with the same offsets, and read once
// more.
//
// A File also tells which of its white space says something (layout.go): the strings of languages with a grammar come from
// the tree, those of some thirty others from their lexical rules (lexis.go); of the rest nothing may change.
//
// # Bounds
//
// A file longer than Options.MaxBytes, or one whose parsing takes longer than Options.Timeout, is an error of that file
// (ErrTooLarge, ErrTimeout). Trees are not read below 400 levels or beyond 4 million nodes. Results depend on nothing but
// path and text.
//
// # Concurrency
//
// A Parser may be used by any number of goroutines; each parse borrows one of its engines, and no more exist than there
// were parses at the same time. Close releases the idle ones, which are C memory; engines still in use are released when
// their parse ends. Syntax trees are copied out of C's memory and released before Parse returns.
package parse
