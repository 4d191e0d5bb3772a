// Package app is the worker: all job types of the application, wired to what they need, and the loops around them. It is embedded by the worker
// program and by the server's development mode.
//
// A Worker is made by New and run once; any number of Workers share a database. Run ends some seconds after its context: short jobs finish or are
// handed back, ingestion runs give their leases back.
package app
