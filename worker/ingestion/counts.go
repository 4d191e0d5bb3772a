package ingestion

import (
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgtype"
)

// maxCounted bounds the memory of wordCounts: a context of the largest size has fewer words in its names and texts, but encoded data has
// arbitrarily many. Beyond it, words that one chunk has are forgotten.
const maxCounted = 1 << 20

// maxSingles is the most words of an index for which those of one chunk are stored as well. In a larger index they are most of the words.
const maxSingles = 50_000

// wordCounts counts in how many chunks each word is. It is safe for concurrent use.
type wordCounts struct {
	mu     sync.Mutex
	chunks int32
	of     map[string]int32
}

func newWordCounts() *wordCounts { return &wordCounts{of: map[string]int32{}} }

func (c *wordCounts) add(chunks []pgtype.TSVector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, terms := range chunks {
		c.chunks++
		for _, l := range terms.Lexemes {
			n, known := c.of[l.Word]
			if !known {
				l.Word = strings.Clone(l.Word) // it may be a part of the chunk's text, which would stay in memory with it
			}
			c.of[l.Word] = n + 1
		}
	}
	if len(c.of) > maxCounted {
		for word, n := range c.of {
			if n == 1 {
				delete(c.of, word)
			}
		}
	}
}

// pages gives the words in ascending order, and before them the empty word, which is in all chunks.
func (c *wordCounts) pages(size int) iter.Seq2[[]string, []int32] {
	return func(yield func([]string, []int32) bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		words := []string{""}
		for word, n := range c.of {
			if n > 1 || len(c.of) <= maxSingles {
				words = append(words, word)
			}
		}
		slices.Sort(words)
		for page := range slices.Chunk(words, size) {
			counts := make([]int32, len(page))
			for i, word := range page {
				counts[i] = c.of[word]
				if word == "" {
					counts[i] = c.chunks
				}
			}
			if !yield(page, counts) {
				return
			}
		}
	}
}
