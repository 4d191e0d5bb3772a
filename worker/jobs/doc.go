// Package jobs holds the job types of the application, one file per feature. The comment of each type gives its unique key, attempts,
// backoff, time limit, and the effect of a permanent failure. A handler gets ids, reads the rows again, and is safe to run twice. Package
// app wires the types.
package jobs
