// Package graph tests the knowledge graph of a context: how it is made of files and stored, who reads it, and its copies in other stores.
package graph
