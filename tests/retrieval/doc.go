// Package retrieval tests that passages are found for questions, from files that a worker has ingested to what a model is given.
package retrieval
