// Package graph makes and keeps the knowledge graph of a context (contract 60, section 9). Build turns the parsed files into nodes and links;
// package ingestion/graph resolves what names mean. Apply writes what differs from the graph that is stored, in the caller's transaction.
//
// A Graph is immutable after Build. Build is not safe for concurrent use of one Source.
package graph
