// Package ingestion does ingestion runs: it fetches a project's sources, parses, chunks, optimizes and indexes them (contract 10, sections
// 17 to 19), and keeps the run's row true while it does.
//
// # Leases
//
// A run is worked on under a lease in its row. Engine.Claim takes it; one goroutine of the engine (Engine.Hold) renews all leases of the
// process every 5 s and looks twice a second whether they still hold, which is also how a cancel is noticed. Every write names the
// lease, so whatever a worker that lost it still writes changes nothing. A worker that dies lets its lease run out (15 s); a sweep puts the
// run back into the queue.
//
// # Checkpoints
//
// What a run has made lies on the local disk of its worker (Config.WorkDir/<run>), sealed phase by phase: the fetched trees, the parsed
// files, the chunks. A worker on another machine has none of it and makes it again, silently, from the commits that the run's row
// names: all steps are functions of their input, so the outcome is the same. What is in the database (chunks, index) belongs to a run
// that nobody sees before it is complete; a phase that begins again first removes what it had written.
//
// # Memory
//
// Files are streamed; at most Config.FlightBytes of file content is in work at once. Per file and chunk a few hundred bytes are kept
// (paths, token counts, hashes for duplicates). Nothing holds the text of the project.
//
// # Shutdown
//
// When the context of a run ends, its git processes are killed, its goroutines end, and its lease is given back with a job, so that
// another worker goes on at once.
package ingestion
