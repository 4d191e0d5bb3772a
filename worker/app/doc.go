// Package app is the worker: all job types of the application, wired to their dependencies, and the loops around them. The worker program
// and the server's development mode embed it.
//
// A Worker is made by New and run once; any number of Workers share a database. Run ends some seconds after its context: short jobs finish
// or are handed back, ingestion runs give their leases back.
package app
