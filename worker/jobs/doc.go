// Package jobs holds the job types of the application, one a file. Each says its unique key, attempts, backoff, time limit, and what a permanent
// failure does. A handler gets ids, reads the rows again, and is safe to run twice. Package app wires them.
package jobs
