// Package source gives a run its files, wherever they come from: a fetched repository, stored uploads and the archives among
// them, and text that somebody typed. It also decides which of them the run reads (contract 10, 18.1 and 19.4).
//
// A Source lists its entries and streams their content; it can be read any number of times, and gives the same each time, so
// that a run can discover its files, be killed, and parse them in another process. No content is held in memory, no archive is
// unpacked to the disk; an archive that is not on the disk is spooled to one temporary file at a time.
//
// Sources and filters are immutable and safe for concurrent use. A Source starts no goroutine that outlives a call; when
// the context ends a call returns the context's error after the read under way.
//
// What is wrong with the content itself (a corrupt, encrypted or exploding archive) is a *gitfetch.Failure with INVALID_FORMAT and a
// sentence for the user. Every other error is a fault of storage.
package source
