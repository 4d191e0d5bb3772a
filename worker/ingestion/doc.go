// Package ingestion works ingestion runs: it fetches a project's sources, parses, chunks, optimizes and indexes them (contract 10, sections
// 17 to 19), and keeps the run's row up to date meanwhile.
//
// # Leases
//
// A run is worked on under a lease in its row. Engine.Claim takes the lease. One goroutine of the engine (Engine.Hold) renews all leases of
// the process every 5 s and checks twice a second whether they still hold; this check also detects a cancel. Every write names the lease,
// so a write of a worker that lost it changes nothing. When a worker dies, its lease expires (15 s), and a sweep puts the run back into the
// queue.
//
// # Checkpoints
//
// The results of a run lie on the local disk of its worker (Config.WorkDir/<run>), sealed phase by phase: the fetched trees, the parsed
// files, the chunks. A worker on another machine has none of them and makes them again, silently, from the commits that the run's row
// names. All steps are functions of their input, so the outcome is the same. The rows in the database (chunks, index) belong to a run that
// no reader sees before it is complete. A phase that begins again first removes the rows that it had written.
//
// # Memory
//
// Files are streamed; at most Config.FlightBytes of file content is in work at once. A few hundred bytes are kept per file and chunk
// (paths, token counts, hashes for duplicates). The text of the whole project is never in memory.
//
// # Shutdown
//
// When the context of a run ends, its git processes are killed, its goroutines end, and its lease is given back with a job, so that
// another worker goes on at once.
package ingestion
