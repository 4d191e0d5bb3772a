// Package token counts tokens. Its one function, over one real byte-pair-encoding tokenizer, is the source of every token
// number of ingestion.
//
// The vocabulary is o200k_base, taken from github.com/tiktoken-go/tokenizer and therefore inside the binary. It is
// chosen over cl100k_base because it is the encoding of the models in use today, and because its pieces end at a change
// of case, which bounds the pieces of source code (camelCase) and makes counts of code steadier.
//
// # Exactness
//
// Count equals the count of the encoding's published definition (OpenAI's tiktoken) for every text whose pieces are at most
// [MaxPiece] bytes long. A byte that belongs to no character counts as U+FFFD. The library's own Count is not used. Its
// generated matcher ends a run of white space after the first line ends instead of the last ones, which adds a token if
// lines of only blanks follow, and it skips U+007F. Here the split expression is a hand-written scanner (scan.go), and the
// merge of known pieces is cached. A longer piece (an unbroken run of letters, punctuation or blanks, as in a blob) is
// counted in windows of MaxPiece bytes, each merged separately. The count stays deterministic and differs from the
// definition by at most a few tokens per window, and memory and time stay linear in the text.
//
// # Concurrency
//
// Count may be called by any number of goroutines. The vocabulary is read-only after its first use. Cached counts are in
// scratch memory of fixed size (about half a megabyte) that one call owns at a time. There is nothing to close.
package token
