// Package token counts tokens: the one function over one real byte-pair-encoding tokenizer that every number
// of ingestion is made of.
//
// The vocabulary is o200k_base, taken from github.com/tiktoken-go/tokenizer and therefore inside the binary. It is
// chosen over cl100k_base because it is the encoding of the models in use today, and because its pieces end at a change
// of case, which bounds the pieces of source code (camelCase) and makes counts of code steadier.
//
// # Exactness
//
// Count equals that of the encoding's published definition (OpenAI's tiktoken) for every text whose pieces are at most
// [MaxPiece] bytes long; a byte that belongs to no character counts as U+FFFD. The library's own Count is not used: its
// generated matcher ends a run of white space after the first line ends instead of the last, a token too many where lines of
// only blanks follow, and passes over U+007F. The split expression is a hand-written scanner here (scan.go), and the merge
// of known pieces is remembered. A longer piece (an unbroken run of letters, punctuation or blanks, as in a blob) is
// counted in windows of MaxPiece bytes, each merged for itself: the count stays deterministic, differs from the definition
// by a few tokens a window at most, and memory and time stay linear in the text.
//
// # Concurrency
//
// Count may be called by any number of goroutines. The vocabulary is read-only after its first use; what is remembered
// lives in scratch memory of fixed size (about half a megabyte) that one call owns at a time. There is nothing to close.
package token
