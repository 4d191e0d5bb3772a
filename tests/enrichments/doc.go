// Package enrichments has black-box tests of the enrichments of a context: runs, the index of symbols, embeddings and their status.
package enrichments
