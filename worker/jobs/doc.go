// Package jobs is the worker: all job types of the application, wired to what they need, and the loops around them. It is embedded by
// the worker program and by the server's development mode.
//
// Each file holds one type and says its unique key, attempts, backoff, time limit, and what a failure for good does. A handler gets ids,
// reads the rows anew, and is safe to run twice.
//
// # Concurrency and shutdown
//
// A Worker is made by New and run once; any number of Workers share a database. Run ends some seconds after its context: short jobs
// finish or are handed back, ingestion runs give their leases back.
package jobs
