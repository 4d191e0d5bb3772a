package ingestion

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"kijko/worker/ingestion/optimize"
	"kijko/worker/ingestion/parse"
)

// optimizeOutcome holds the figures of phase 4. It is in the run's checkpoint, because phase 5 needs no other result of phase 4.
type optimizeOutcome struct {
	Run       uuid.UUID `json:"run"` // the run that stored the chunks: a recovery stores none itself
	Original  int64     `json:"original"`
	Optimized int64     `json:"optimized"`
	Removed   [4]int64  `json:"removed"`
	Lost      int64     `json:"lost"`
	Stored    int       `json:"stored"` // chunks, references included
	Kept      int       `json:"kept"`
}

// The size of a batch that is stored in one transaction.
const (
	batchChunks = 1000
	batchBytes  = 1 << 20
)

// runOptimize is phase 4: it observes all chunks in order, then rewrites and stores them file by file. Where an index exists that differs in
// few files, only those are rewritten, and the next phase changes them in place.
func (r *run) runOptimize(ctx context.Context) error {
	if err := r.prepareChunked(ctx); err != nil {
		return err
	}
	if err := r.store.clear(ctx, "chunks"); err != nil {
		return err
	}
	r.counts = nil
	if err := r.findExempt(ctx); err != nil {
		return err
	}
	stage := &optimizeStage{files: len(r.files)}
	stage.out.Run = r.t.RunID
	r.showOptimize(stage)
	plan, held, err := r.observe(ctx, stage)
	if err != nil {
		return err
	}
	r.t.Checkpoint.Settings = r.indexSettings()
	plans, err := r.standings(ctx, plan, held)
	if err != nil {
		return err
	}
	if r.delta, err = r.compare(ctx, plans); err != nil {
		return err
	}
	// The graph needs nothing of this phase, and its resolution of names takes one core.
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return r.indexGraph(working) })
	group.Go(func() error {
		if r.delta == nil {
			return r.apply(working, plan, plans, stage)
		}
		return r.rewrite(working, plan, plans, stage)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	stage.finish()
	r.showOptimize(stage)
	r.optimized = &stage.out
	if r.delta == nil {
		r.t.Checkpoint.Optimized = r.optimized
	}
	return r.saveCheckpoint(ctx)
}

// indexVersion changes when the code that optimizes or indexes gives other rows for the same input.
const indexVersion = "1"

// indexSettings is a fingerprint of everything but the files that decides the rows of the index.
func (r *run) indexSettings() string {
	return schemaName(fingerprint("index", indexVersion, parsedSchema, r.chunkSchema(), r.t.MetadataOptions, optimize.Version))
}

// heldFacts bounds the facts, in bytes, that wait in memory for their standing; those of more files are read again.
const heldFacts = 16 << 20

// observe is the first pass. It takes a third of the phase. It returns the facts of the files that it could hold, by their numbers.
func (r *run) observe(ctx context.Context, stage *optimizeStage) (*optimize.Plan, []*optimize.Facts, error) {
	plan := optimize.NewPlan(optimize.Limits{})
	held, size := make([]*optimize.Facts, len(r.files)), 0
	err := ordered(ctx, len(r.files), r.workers(), func(_ context.Context, i int) (*factsRecord, error) {
		var f factsRecord
		ok, err := r.factsOf(i, &f)
		if err != nil || !ok {
			return nil, err
		}
		return &f, nil
	}, func(i int, f *factsRecord) error {
		stage.observed(i + 1)
		r.showOptimize(stage)
		if f == nil {
			return nil
		}
		if size += f.Facts.Size(); size <= heldFacts {
			held[i] = &f.Facts
		}
		return plan.Add(r.files[i].Name, &f.Facts)
	})
	if err != nil {
		return nil, nil, err
	}
	plan.Seal()
	return plan, held, nil
}

// standings returns for each file the fingerprint of what other files decide of its stored text; nil for a file that was left out.
func (r *run) standings(ctx context.Context, plan *optimize.Plan, held []*optimize.Facts) ([][]byte, error) {
	all := make([][]byte, len(r.files))
	err := each(ctx, len(r.files), r.workers(), func(_ context.Context, i int) error {
		facts := held[i]
		if facts == nil {
			var f factsRecord
			if ok, err := r.factsOf(i, &f); err != nil || !ok {
				return err
			}
			facts = &f.Facts
		}
		sum, err := plan.Standing(r.files[i].Name, facts)
		if text := r.parse.Texts[i]; text != nil && r.verbatim(r.files[i].Name, text.Hash) {
			sum[0] ^= 0xff // stored otherwise than the same file with the techniques
		}
		all[i] = sum[:]
		return err
	})
	return all, err
}

func (r *run) load(ctx context.Context, i int) (*optimize.File, *parsedFile, error) {
	var p parsedFile
	var c chunkedFile
	ok, err := r.both(ctx, i, &p, &c)
	if err != nil || !ok {
		return nil, nil, err
	}
	f := optimizable(r.name(r.files[i]), &p, c.Chunks)
	f.NeverCompress = r.verbatim(f.Path, p.Hash[:])
	return f, &p, nil
}

// findExempt finds which files the techniques treat otherwise than those that the run itself brings.
func (r *run) findExempt(ctx context.Context) error {
	return r.store.retry(ctx, "read exempt files", func(ctx context.Context) error {
		r.exempt = map[string]string{}
		rows, err := r.store.pool.Query(ctx, "select path, hash from private.exempt_files($1, $2)", r.store.run, r.store.owner)
		if err != nil {
			return err
		}
		var path string
		var hash []byte
		_, err = pgx.ForEachRow(rows, []any{&path, &hash}, func() error {
			r.exempt[path] = string(hash)
			return nil
		})
		return err
	})
}

// verbatim reports whether no technique changes a file. A file with another content than before belongs to the run's entry.
func (r *run) verbatim(path string, hash []byte) bool {
	former, ok := r.exempt[path]
	return r.t.IsVerbatim != (ok && former == string(hash))
}

// rewritten is a rewritten file that is not yet stored.
type rewritten struct {
	parsed *parsedFile
	result optimize.Result
	terms  []pgtype.TSVector // of the chunks, if they hold their bodies
}

// termsAt is what full-text search needs of a chunk. The body of a reference is indexed at the chunk that holds it.
func (w *rewritten) termsAt(path string, position int, isReference bool) pgtype.TSVector {
	if isReference {
		return termsOf(path, w.result.Chunks[position].Names, "")
	}
	return w.terms[position]
}

// rewriteOne makes the stored form of a file; nil for a file that was left out.
func (r *run) rewriteOne(ctx context.Context, plan *optimize.Plan, i int) (*rewritten, error) {
	f, p, err := r.load(ctx, i)
	if err != nil || f == nil {
		return nil, err
	}
	result, err := plan.Apply(*f)
	if err != nil {
		return nil, fmt.Errorf("optimize %s: %w", f.Path, err)
	}
	w := &rewritten{parsed: p, result: result}
	for k := range result.Chunks {
		c := &result.Chunks[k]
		w.terms = append(w.terms, termsOf(r.files[i].Name, c.Names, c.Content))
	}
	return w, nil
}

// apply is the second pass of a run that makes a new index: files are rewritten in parallel and stored in order, while the next batch is
// being made. What full-text search needs is stored with the chunks, while their contents are at hand.
func (r *run) apply(ctx context.Context, plan *optimize.Plan, plans [][]byte, stage *optimizeStage) error {
	counts := newWordCounts()
	group, ctx := errgroup.WithContext(ctx)
	batches := make(chan *batch)
	stored := make(chan *batch, 1) // their chunks are stored, their terms are not
	group.Go(func() error {
		for b := range stored {
			if err := r.store.terms(ctx, b.chunks.ids, b.terms); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(stored)
		batchesStored := 0
		for b := range batches {
			if err := r.store.files(ctx, &b.files); err != nil {
				return err
			}
			if err := r.store.chunks(ctx, &b.chunks); err != nil {
				return err
			}
			// The stored chunks are looked up by chunks that refer to them, so the tables are analyzed whenever their number has
			// doubled.
			if batchesStored++; batchesStored&(batchesStored-1) == 0 {
				if err := r.store.survey(ctx); err != nil {
					return err
				}
			}
			b.chunks.contents = nil
			select {
			case stored <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return r.store.survey(ctx)
	})
	group.Go(func() error {
		defer close(batches)
		b := &batch{}
		bodies := map[string]uuid.UUID{} // hash to the chunk that holds the body
		send := func() error {
			select {
			case batches <- b:
				b = &batch{}
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		err := ordered(ctx, len(r.files), r.workers(), func(ctx context.Context, i int) (*rewritten, error) {
			return r.rewriteOne(ctx, plan, i)
		}, func(i int, w *rewritten) error {
			if w != nil {
				from := len(b.terms)
				if err := r.add(b, i, r.t.id(kindFile, i), w, plans[i], bodies, stage); err != nil {
					return err
				}
				counts.add(b.terms[from:])
			}
			stage.applied(i + 1)
			r.showOptimize(stage)
			if len(b.chunks.ids) >= batchChunks || b.chunks.size >= batchBytes || len(b.files.ids) >= batchChunks {
				return send()
			}
			return nil
		})
		if err != nil {
			return err
		}
		return send()
	})
	if err := group.Wait(); err != nil {
		return err
	}
	r.counts = counts
	return nil
}

// batch is stored in order: chunks refer to files, and terms to chunks.
type batch struct {
	files  fileRows
	chunks chunkRows
	terms  []pgtype.TSVector
}

// add appends a file and its chunks. It runs in file order, so numbers and references are the same in every attempt.
func (r *run) add(b *batch, i int, fileID uuid.UUID, w *rewritten, plan []byte, bodies map[string]uuid.UUID, stage *optimizeStage) error {
	if err := r.addFile(b, i, fileID, w, plan); err != nil {
		return err
	}
	for position := range w.result.Chunks {
		c := &w.result.Chunks[position]
		id := r.t.id(kindChunk, stage.number())
		reference := pgtype.UUID{}
		if body, ok := bodies[c.Hash]; c.Duplicate && ok {
			reference = pgtype.UUID{Bytes: body, Valid: true}
		} else if !ok && !c.Duplicate {
			bodies[c.Hash] = id
		}
		if err := b.chunks.add(id, fileID, position, c, reference, r.chunkMetadata(c)); err != nil {
			return fmt.Errorf("chunk %d of %s: %w", position, r.files[i].Name, err)
		}
		b.terms = append(b.terms, w.termsAt(r.files[i].Name, position, reference.Valid))
	}
	stage.add(&w.result)
	return nil
}

func (r *run) addFile(b *batch, i int, id uuid.UUID, w *rewritten, plan []byte) error {
	f, p := r.files[i], w.parsed
	metadata, err := json.Marshal(r.fileMetadata(f, p))
	if err != nil {
		return fmt.Errorf("metadata of %s: %w", f.Name, err)
	}
	kind, repository := r.kind(f)
	b.files.ids = append(b.files.ids, id)
	b.files.positions = append(b.files.positions, int32(i))
	b.files.sources = append(b.files.sources, kind)
	b.files.repositories = append(b.files.repositories, repository)
	b.files.paths = append(b.files.paths, f.Name)
	b.files.languages = append(b.files.languages, p.File.Language)
	b.files.categories = append(b.files.categories, category(p.File.Category))
	b.files.bytes = append(b.files.bytes, int64(p.Bytes))
	b.files.tokens = append(b.files.tokens, int64(w.result.OriginalTokens))
	b.files.optimized = append(b.files.optimized, int64(w.result.OptimizedTokens))
	b.files.hashes = append(b.files.hashes, p.Hash[:])
	b.files.metadata = append(b.files.metadata, metadata)
	b.files.savings = append(b.files.savings, mustJSON(map[string]any{"removed": w.result.Removed, "lost": w.result.LostTokens, "kept": w.result.Kept()}))
	b.files.plans = append(b.files.plans, plan)
	return nil
}

func (c *chunkRows) add(id, file uuid.UUID, position int, k *optimize.Chunk, reference pgtype.UUID, metadata map[string]any) error {
	hash, err := hex.DecodeString(k.Hash)
	if err != nil {
		return fmt.Errorf("hash: %w", err)
	}
	data, err := json.Marshal(metadata)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	parent := pgtype.UUID{}
	if section, err := uuid.Parse(k.ParentID); err == nil {
		parent = pgtype.UUID{Bytes: section, Valid: true}
	}
	c.ids = append(c.ids, id)
	c.files = append(c.files, file)
	c.positions = append(c.positions, int32(position))
	c.starts = append(c.starts, int32(max(k.StartLine, 1)))
	c.ends = append(c.ends, int32(max(k.EndLine, k.StartLine, 1)))
	c.types = append(c.types, string(k.Type))
	c.tokens = append(c.tokens, int32(k.Tokens))
	c.contents = append(c.contents, k.Content)
	c.hashes = append(c.hashes, hash)
	c.references = append(c.references, reference)
	c.parents = append(c.parents, parent)
	c.metadata = append(c.metadata, data)
	c.size += len(k.Content)
	return nil
}

func (r *run) chunkMetadata(c *optimize.Chunk) map[string]any {
	m := map[string]any{}
	for k, v := range c.Metadata {
		m[k] = v
	}
	if len(c.Names) > 0 {
		m["names"] = c.Names
	}
	if c.Section != "" {
		m["section"] = c.Section
	}
	if r.t.MetadataOptions.Signatures && len(c.Symbols) > 0 {
		m["symbols"] = c.Symbols
	}
	return m
}

// category maps the parser's category to the row's.
func category(c parse.Category) string {
	switch c {
	case parse.Code:
		return "code"
	case parse.Config:
		return "config"
	case parse.Text:
		return "data"
	}
	return "documentation"
}

// optimizeStage counts the progress of phase 4. Safe for concurrent use.
type optimizeStage struct {
	mu     sync.Mutex
	files  int
	seen   int
	stored int
	out    optimizeOutcome
	ended  bool
}

// number returns the number of the next stored chunk.
func (s *optimizeStage) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Stored++
	return s.out.Stored - 1
}

func (s *optimizeStage) observed(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = n
}

func (s *optimizeStage) applied(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = n
}

func (s *optimizeStage) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

func (s *optimizeStage) add(res *optimize.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Original += int64(res.OriginalTokens)
	s.out.Optimized += int64(res.OptimizedTokens)
	s.out.Lost += int64(res.LostTokens)
	for t, n := range res.Removed {
		s.out.Removed[t] += int64(n)
	}
	s.out.Kept += res.Kept()
}

var techniqueLabels = [4]string{"Deduplication", "Pattern compression", "Whitespace", "Import consolidation"}

// optimizeDetail is phase4Data. original is the token count of the whole project: files that are not rewritten yet count with their
// original size.
func optimizeDetail(o optimizeOutcome, original int64, status string, latency, relevance int) map[string]any {
	techniques := make([]map[string]any, 4)
	current := original
	for t, n := range o.Removed {
		techniques[t] = map[string]any{"id": optimize.Technique(t).String(), "label": techniqueLabels[t], "status": status, "tokensRemoved": n}
		current -= n
	}
	return map[string]any{"techniques": techniques,
		"tokenReduction":       map[string]any{"originalTokens": original, "currentTokens": current, "reductionPercent": reduction(original, current)},
		"predictedPerformance": map[string]any{"queryLatencyMs": latency, "relevanceScore": relevance}}
}

func reduction(original, current int64) int {
	if original <= 0 {
		return 0
	}
	return int((1-float64(current)/float64(original))*100 + 0.5)
}

// predictedLatency is the estimate before the measurement: an index look-up and a little for each thousand chunks.
func predictedLatency(chunks int) int { return 2 + chunks/5000 }

// predictedRelevance is shown until the samples are taken.
const predictedRelevance = 90

func (r *run) showOptimize(s *optimizeStage) {
	r.progress.update(func(p *progress) {
		s.mu.Lock()
		defer s.mu.Unlock()
		percent := percentOf(s.seen+2*s.stored, 3*s.files)
		if !s.ended {
			percent = min(percent, 99)
		}
		p.percent = max(p.percent, percent)
		p.message = fmt.Sprintf("Comparing chunks of %d files", s.files)
		if s.stored > 0 {
			p.message = fmt.Sprintf("Optimized %d of %d files", s.stored, s.files)
		}
		if s.ended {
			p.metrics.ChunksCreated = int64(s.out.Kept)
		}
		p.detail = func() (string, any) {
			s.mu.Lock()
			defer s.mu.Unlock()
			status := "in_progress"
			if s.ended {
				status = "completed"
			}
			return "phase4Data", optimizeDetail(s.out, r.parse.Tokens, status, predictedLatency(s.out.Stored), predictedRelevance)
		}
	})
}
