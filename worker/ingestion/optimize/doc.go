// Package optimize reduces the size of a project's chunks by the four techniques of contract 10, section 18.4, and measures how
// much each of them removed.
//
// It needs two passes over the project's chunks, and never holds the whole project. The first pass (Observe, in path order) gathers
// bounded facts: the hash of each chunk, a hash of each line, the first place of each license header. Seal finds the repeated
// blocks. The second pass (Apply, any order) rewrites one file at a time.
//
//	p := optimize.NewPlan(optimize.Limits{})
//	for files in path order { p.Observe(file) }
//	p.Seal()
//	for files { result, err := p.Apply(file) }
//
// # Invariant
//
// The text of a file at any moment is the concatenation of the contents of its stored chunks, including an imports header and
// markers. OriginalTokens - OptimizedTokens is exactly the sum of the four Removed, because each technique is measured by the count
// of that whole text before and after it. A technique that would make a file's text larger is undone for that file, so no Removed
// is negative.
//
// # Markers
//
// Text that is removed because it is stored elsewhere leaves a marker that names the first place by path and source lines:
//
//	[same as src/a.go:10-42]          a chunk; 10:81-42:7 where it begins or ends inside of a line
//	// [12 lines as in src/a.go:3-14] a block of lines
//	// [license as in src/a.go:1-5]   a license header
//	data:image/png;base64,iVBOR...[+2048 characters]
//	imports: fmt net/http react(useState, useRef as r)
//
// The first place always keeps its text, so that a reader gets there in one step. A chunk that a later chunk refers to loses no
// text and gets no markers. Lines of import statements never belong to blocks, because they may move to the list. Only shortened
// literals cannot be restored; their tokens are LostTokens, and so are those of any line that would get lost by mistake.
//
// # What stays
//
// A technique never changes the meaning of the text. Chunks are equal if they differ only in meaningless white space: never in that
// of strings, nor in meaningful indentation (chunk.Chunk.Hash). The layout and the verbatim stretches that package parse has found
// decide which lines may lose blanks. Only imports that mean the same in the list are moved there (parse.Dependency). An entry is a
// path, "path as local", path(names), or has a word before it: "static a.B.c", "type ./x(A)".
//
// # Memory
//
// About 4 bytes per line, 75 per chunk, and the paths; at most 64 MB more while Seal runs. A gigabyte of source needs about 200 MB.
// After the limits are reached, further chunks are not observed, and text that was not observed stays unchanged.
//
// # Concurrency and restarts
//
// Observe and Seal belong to one goroutine; afterwards Apply may run in many. A plan is a function of the observed files and of its
// Limits: after a crash it is rebuilt by observing the files again, and Apply returns the same bytes.
package optimize
