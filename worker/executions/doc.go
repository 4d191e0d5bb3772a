// Package executions runs skills: it takes waiting runs from the queue, calls the model that each run names, and writes the result
// (contract 20, section 6). The database decides which run may start, with which prompt, what counts as a failure, and the cost.
//
// # Leases
//
// A running run is a row with a token that only this process knows and an expiry time that Engine.Hold extends for all runs in one
// statement. When a worker dies, its leases expire and another worker takes the runs over. A result is written only while its token
// stands in the row, so a late result is dropped.
//
// # Concurrency and shutdown
//
// A running run is a goroutine that waits for a model; it holds no connection. The runs use at most Config.Connections database
// connections at a time, however many runs there are. When the context of a run ends, the run has Config.Patience to finish and then
// gives its lease back. Hold must outlive the runs.
package executions
