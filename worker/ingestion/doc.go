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
// no reader sees before it is complete, or are written by the transaction that completes it. A phase that begins again first removes the rows
// that it had written.
//
// A phase does what it can do early while its input is at hand: files are cut while they are parsed, and what full-text search needs is stored
// with the chunks. The later phase does it where it was not done: for a webhook, and for another worker that takes the run over.
//
// # What is not done again
//
// A run brings the files of the sources in its scope; the rest of the context's current set stays. A file is read only if its key has
// changed, a fingerprint of all that decides its text (known.go): its blob or checksum, the rules of masking, limits, the last change where it
// is shown. Copies of repositories stay on the disk, so that only new objects are fetched (copies.go). Texts are stored in content_blobs, parse
// results in private.file_records, so every worker has them (records.go). optimize.Plan.Standing tells whether other files decide the same of a
// file as before; then its rows stay. What differs waits in memory and is merged into the index in the transaction that ends the run, together
// with the graph and the operations of the ingestion (merge.go): a reader sees the former index or the new one. Where more than a share of
// the files differs, other settings made the index, or force is asked for, the run makes an index of its own, whose rows carry its id.
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
