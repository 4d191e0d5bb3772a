package ingestion

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"kijko/worker/ingestion/optimize"
)

const (
	indexPage   = 400 // chunks in one transaction
	indexers    = 2   // pages in work at once: the worker makes one while the database writes the other
	searchProbe = 20  // queries whose time is measured
	qualityMax  = 50  // chunks that are searched for
)

// runIndex is phase 5: full-text index, graph, and the samples that measure the index. It returns the data that completes the run.
func (r *run) runIndex(ctx context.Context) (map[string]any, error) {
	if r.optimized == nil || r.delta == nil {
		if r.optimized = r.t.Checkpoint.Optimized; r.optimized == nil || r.optimized.Run != r.t.RunID {
			if err := r.progress.silently(func() error { return r.runOptimize(ctx) }); err != nil {
				return nil, err
			}
		}
	}
	// The graph needs the parsed declarations.
	if err := r.prepareParsed(ctx); err != nil {
		return nil, err
	}
	if err := r.manifest(ctx); err != nil {
		return nil, err
	}
	if r.counts == nil {
		if err := r.store.clear(ctx, "index"); err != nil {
			return nil, err
		}
	}
	if r.delta != nil {
		// The rows wait for the transaction that ends the run.
		return map[string]any{}, r.indexGraph(ctx)
	}
	// Texts and graph are independent: while one waits for the database, the other computes.
	began := time.Now()
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error {
		if r.counts == nil {
			if err := r.indexChunks(working); err != nil {
				return err
			}
		}
		r.showIndexed(r.optimized.Stored)
		if err := r.store.words(working, r.counts); err != nil {
			return err
		}
		return r.store.exec(working, "settle the index", "select private.settle_terms($1, $2)")
	})
	group.Go(func() error { return r.indexGraph(working) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	indexed := time.Now()
	if err := r.store.survey(ctx); err != nil {
		return nil, err
	}
	latency, relevance, err := r.sample(ctx)
	if err != nil {
		return nil, err
	}
	r.log.Debug("indexed", "index", indexed.Sub(began), "samples", time.Since(indexed))
	return r.completion(latency, relevance), nil
}

// indexChunks fills the full-text index where another process has stored the chunks, whose phase 4 did it otherwise. Chunk ids follow from their numbers, so pages are read, made and written in parallel.
func (r *run) indexChunks(ctx context.Context) error {
	pages := (r.optimized.Stored + indexPage - 1) / indexPage
	var mu sync.Mutex
	done := 0
	counts := newWordCounts()
	err := each(ctx, pages, max(indexers, r.workers()), func(ctx context.Context, page int) error {
		after := uuid.Nil
		if page > 0 {
			after = r.t.id(kindChunk, page*indexPage-1)
		}
		chunks, err := r.store.page(ctx, after, indexPage)
		if err != nil {
			return err
		}
		ids := make([][16]byte, len(chunks))
		terms := make([]pgtype.TSVector, len(chunks))
		for i, c := range chunks {
			ids[i] = c.ID
			// A reference is indexed by its path and names only; its body is indexed at the chunk that holds it.
			content := c.Content
			if !c.Body {
				content = ""
			}
			terms[i] = termsOf(c.Path, c.Names, content)
		}
		counts.add(terms)
		if err := r.store.terms(ctx, ids, terms); err != nil {
			return err
		}
		mu.Lock()
		done += len(chunks)
		n := done
		mu.Unlock()
		r.showIndexed(n)
		return nil
	})
	if err != nil {
		return err
	}
	r.counts = counts
	return nil
}

func (r *run) showIndexed(n int) {
	r.progress.update(func(p *progress) {
		p.percent = max(p.percent, min(99, percentOf(n, r.optimized.Stored)))
		p.message = fmt.Sprintf("Indexed %d of %d chunks", n, r.optimized.Stored)
		p.metrics.ChunksCreated = int64(r.optimized.Kept)
	})
}

// sample queries the index. It measures the latency, and whether a chunk is found by its own identifiers or first line.
func (r *run) sample(ctx context.Context) (latency, relevance int, err error) {
	var times []time.Duration
	asked, found := 0, 0
	n := r.optimized.Stored
	step := max(1, n/qualityMax)
	for number := 0; number < n && asked < qualityMax; number += step {
		page, err := r.store.page(ctx, beforeID(r.t.id(kindChunk, number)), 1)
		if err != nil {
			return 0, 0, err
		}
		if len(page) == 0 || !page[0].Body {
			continue
		}
		query := sampleQuery(&page[0])
		if query == "" {
			continue
		}
		began := time.Now()
		hits, err := r.store.search(ctx, query)
		if err != nil {
			return 0, 0, err
		}
		if len(times) < searchProbe {
			times = append(times, time.Since(began))
		}
		asked++
		if slices.Contains(hits, page[0].ID) {
			found++
		}
	}
	if asked == 0 {
		return predictedLatency(n), 100, nil
	}
	return p95(times), found * 100 / asked, nil
}

// sampleQuery asks for a chunk by its own identifiers or first line.
func sampleQuery(c *storedChunk) string {
	if query := Query(strings.Join(c.Names, " "), 6); query != "" {
		return query
	}
	return Query(firstLine(c.Content), 6)
}

func beforeID(id uuid.UUID) uuid.UUID {
	for i := 15; i >= 0; i-- {
		id[i]--
		if id[i] != 0xff {
			break
		}
	}
	return id
}

func firstLine(text string) string {
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			return line
		}
	}
	return ""
}

// completion is the argument of private.finish_run.
func (r *run) completion(latency, relevance int) map[string]any {
	o := r.optimized
	contextPreserved := 100
	if o.Original > 0 {
		contextPreserved = int(100 * (o.Original - min(o.Lost, o.Original)) / o.Original)
	}
	detail := map[string]any{"phase4Data": optimizeDetail(*o, o.Original, "completed", latency, relevance)}
	if r.chunked != nil {
		detail["phase3Data"] = chunkDetail(r.t.Strategy, &r.chunk.Quality, true, contextPreserved)
	}
	savings := map[string]int64{"deduplication": o.Removed[optimize.Deduplication], "patternCompression": o.Removed[optimize.PatternCompression],
		"whitespace": o.Removed[optimize.Whitespace], "importConsolidation": o.Removed[optimize.Imports]}
	failed := int64(len(r.parse.Failed))
	return map[string]any{
		"message": fmt.Sprintf("Ingested %d files into %d chunks", r.parse.Files, o.Kept),
		"metrics": metrics{FilesProcessed: int64(len(r.files)), TotalFiles: int64(len(r.files)), TokensProcessed: o.Original,
			BytesProcessed: r.parse.Bytes, ChunksCreated: int64(o.Kept), ErrorsEncountered: failed},
		"originalTokens": o.Original, "optimizedTokens": o.Optimized, "detail": detail, "checkpoint": r.t.Checkpoint,
		"result": map[string]any{"savingsBreakdown": savings, "queryLatencyMs": latency, "relevanceScore": relevance,
			"languagesDetected": r.parse.languages(), "filesLeftOut": r.leftOut()},
	}
}

func mustJSON(v any) json.RawMessage {
	data, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("{}")
	}
	return data
}
