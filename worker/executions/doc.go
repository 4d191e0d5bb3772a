// Package executions runs skills: it takes waiting runs from the queue, calls the model that each names, and writes down what came of it
// (contract 20, section 6). What may run, with which prompt, what counts as a failure and what it costs is decided in the database.
//
// # Leases
//
// A run in work is a row with a token that only this process knows and a time that Engine.Hold renews for all runs in one statement. A
// worker that dies loses them; another one takes them over. A result is written only while its token stands in the row, so a late one is
// dropped.
//
// # Concurrency and shutdown
//
// A run in work is a goroutine that waits for a model; it holds no connection. The database is used through at most Config.Connections
// at a time, however many runs there are. When the context of a run ends, it gets Config.Patience to come to its end and then gives its
// lease back. Hold must outlive the runs.
package executions
