// Package optimize makes the chunks of a project smaller by the four techniques of contract 10, section 18.4, and measures
// what each of them removed.
//
// It needs two passes over the project's chunks, and never holds the project. The first pass (Observe, in path order)
// gathers bounded facts: the hash of each chunk, a hash of each line, the first place of each license header. Seal finds
// out which blocks repeat. The second pass (Apply, any order) rewrites one file at a time.
//
//	p := optimize.NewPlan(optimize.Limits{})
//	for files in path order { p.Observe(file) }
//	p.Seal()
//	for files { result, err := p.Apply(file) }
//
// # Invariant
//
// The text of a file at any moment is what is stored for it, put together in order: the contents of its chunks, an
// imports header and markers included. OriginalTokens - OptimizedTokens is exactly the sum of the four Removed, because
// each technique is measured by the count of that whole text before and after it. A technique that would make a file's
// text more is undone for that file, so no Removed is negative.
//
// # Markers
//
// What is removed because it stands elsewhere leaves a marker that names the first place by path and source lines:
//
//	[same as src/a.go:10-42]          a chunk; 10:81-42:7 where it begins or ends inside of a line
//	// [12 lines as in src/a.go:3-14] a block of lines
//	// [license as in src/a.go:1-5]   a license header
//	data:image/png;base64,iVBOR...[+2048 characters]
//	imports: fmt net/http react(useState, useRef as r)
//
// The first place always keeps its text, so that one step leads to it: of a chunk that a later one refers to, nothing leaves and
// nothing is replaced; lines of import statements are no blocks, because they may go to the list. Only shortened literals cannot be
// got back; their tokens are LostTokens, and so are those of any line that would get lost by mistake.
//
// # What stays
//
// A technique never changes what the text says. Chunks are equal if they differ only in white space that says nothing: never that
// of strings, nor indentation that has meaning (chunk.Chunk.Hash). The layout and the verbatim stretches that package parse has
// found tell which lines may lose blanks. Only imports that say the same in the list go there (parse.Dependency); an entry is
// a path, "path as local", path(names), or has a word before it: "static a.B.c", "type ./x(A)".
//
// # Memory
//
// About 4 bytes a line, 75 a chunk and the paths; 64 MB more at most while Seal runs. A gigabyte of source needs about 200 MB. Past
// the limits nothing is observed any more, and what was not observed stays as it is.
//
// # Concurrency and restarts
//
// Observe and Seal belong to one goroutine; afterwards Apply may run in many. A plan is a function of what was observed and
// of its Limits: after a crash it is built again by observing again, and Apply gives the same bytes.
package optimize
