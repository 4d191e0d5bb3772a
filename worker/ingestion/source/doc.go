// Package source gives a run its files from every kind of origin: a fetched repository, stored uploads and the archives among them,
// and text that a person typed. It also decides which of them the run reads (contract 10, 18.1 and 19.4).
//
// A Source lists its entries and streams their content. It can be read any number of times, and returns the same each time, so that
// a run can discover its files, be killed, and parse them in another process. No content is held in memory, and no archive is
// unpacked to the disk. An archive that is not on the disk is copied to a temporary file, one archive at a time.
//
// Sources and filters are immutable and safe for concurrent use. A Source starts no goroutine that outlives a call. When the context
// ends, a call returns the context's error after the current read.
//
// A fault of the content itself (a corrupt, encrypted or exploding archive) is a *gitfetch.Failure with INVALID_FORMAT and a
// sentence for the user. Every other error is a fault of storage.
package source
