package ingestion

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"kijko/worker/ingestion/chunk"
	"kijko/worker/ingestion/optimize"
	"kijko/worker/ingestion/spill"
)

// chunkedFile is the result of phase 3 for a file. The content of a chunk that is a stretch of the text is left out.
type chunkedFile struct {
	Chunks []chunk.Chunk
}

// chunkOutcome holds the figures of phase 3.
type chunkOutcome struct {
	Quality chunk.Quality `json:"quality"`
}

var chunkedSchema = "2 " + spill.Schema(&chunkedFile{})

// runChunk is phase 3.
func (r *run) runChunk(ctx context.Context) error {
	if err := r.prepareParsed(ctx); err != nil {
		return err
	}
	return r.chunkAll(ctx)
}

// prepareChunked makes sure that the chunks are on disk, without showing progress.
func (r *run) prepareChunked(ctx context.Context) error {
	if err := r.prepareParsed(ctx); err != nil {
		return err
	}
	return r.progress.silently(func() error { return r.chunkAll(ctx) })
}

func (r *run) chunkAll(ctx context.Context) error {
	if r.chunked != nil {
		r.showChunks(&chunkStage{done: len(r.files), outcome: r.chunk})
		return nil
	}
	if r.dir.done("chunk", r.chunkInput(), &r.chunk) {
		chunked, err := spill.Open(r.dir.file("chunked"), len(r.files))
		if err == nil {
			if facts, err := spill.Open(r.dir.file("facts"), len(r.files)); err == nil {
				r.chunked, r.facts = chunked, facts
				r.showChunks(&chunkStage{done: len(r.files), outcome: r.chunk})
				return nil
			}
			_ = chunked.Close()
		}
	}
	webhook, err := r.webhook()
	if err != nil {
		return err
	}
	cut, err := r.createCuts()
	if err != nil {
		return err
	}
	if err := r.chunkInto(ctx, cut, webhook); err != nil {
		cut.abort()
		return err
	}
	return r.finishCuts(ctx, cut)
}

func (r *run) chunkInput() string {
	return fingerprint("chunk", r.parseInput, chunkedSchema, factsSchema, r.t.Strategy, r.t.WebhookURL)
}

// cuts is the result of phase 3 while it is made. It is safe for concurrent use.
type cuts struct {
	chunked, facts *spill.Writer
	records        *records
	stage          chunkStage
}

// newCuts begins phase 3 within phase 2; nil if a webhook cuts the files.
func (r *run) newCuts() (*cuts, error) {
	if r.t.Strategy == string(chunk.CustomHook) {
		return nil, nil
	}
	return r.createCuts()
}

func (r *run) createCuts() (*cuts, error) {
	if err := r.dir.forget("chunk"); err != nil {
		return nil, err
	}
	w, err := spill.Create(r.dir.file("chunked"), len(r.files))
	if err != nil {
		return nil, err
	}
	facts, err := spill.Create(r.dir.file("facts"), len(r.files))
	if err != nil {
		w.Abort()
		return nil, err
	}
	return &cuts{chunked: w, facts: facts, records: &records{r: r}}, nil
}

func (c *cuts) abort() {
	if c != nil {
		c.chunked.Abort()
		c.facts.Abort()
	}
}

func (r *run) finishCuts(ctx context.Context, c *cuts) (err error) {
	if err := c.records.send(ctx, &c.records.recordRows); err != nil {
		c.abort()
		return err
	}
	if r.chunked, err = c.chunked.Seal(); err != nil {
		return err
	}
	if r.facts, err = c.facts.Seal(); err != nil {
		return err
	}
	r.chunk = c.stage.outcome
	return r.dir.finish("chunk", r.chunkInput(), r.chunk)
}

// chunkInto cuts the files that no earlier run and no earlier phase has cut.
func (r *run) chunkInto(ctx context.Context, cut *cuts, webhook *chunk.Endpoint) error {
	workers := r.workers()
	if webhook != nil {
		workers = cap(r.e.hooks) // they wait for the network, not for a core
	}
	cut.stage.keep(&r.parse)
	return each(ctx, len(r.files), workers, func(ctx context.Context, i int) error {
		if r.kept.Has(i) {
			return nil
		}
		defer r.showChunks(&cut.stage)
		var p parsedFile
		ok, err := r.record(i, &p)
		if err != nil {
			return err
		}
		if !ok {
			cut.stage.add(&chunk.Quality{})
			return nil
		}
		if p.Text, err = r.textOf(ctx, &p); err != nil {
			return err
		}
		p.Absent = false
		chunks, err := r.chunksOf(ctx, i, &p, webhook)
		if err != nil {
			return err
		}
		return r.keepChunks(ctx, cut, i, &p, chunks)
	})
}

// keepChunks stores the chunks of a file on the disk, and what they tell for the runs to come in the database.
func (r *run) keepChunks(ctx context.Context, cut *cuts, i int, p *parsedFile, chunks []chunk.Chunk) error {
	found, err := optimize.FactsOf(*optimizable(r.files[i].Name, p, chunks))
	if err != nil {
		return fmt.Errorf("%s: %w", r.files[i].Name, err)
	}
	record := factsRecord{Summary: p.Summary, Facts: *found}
	record.Quality.Add(chunks)
	cut.stage.add(&record.Quality)
	for k := range chunks {
		if c := &chunks[k]; c.StartByte >= 0 && c.EndByte >= c.StartByte && c.EndByte <= len(p.Text) && p.Text[c.StartByte:c.EndByte] == c.Content {
			c.Content = ""
		}
	}
	if err := cut.chunked.Put(i, &chunkedFile{chunks}); err != nil {
		return err
	}
	if r.t.Strategy == string(chunk.CustomHook) {
		record.Chunks = chunks
	}
	raw, err := spill.Encode(nil, &record)
	if err != nil {
		return err
	}
	if err := cut.facts.PutEncoded(i, raw); err != nil {
		return err
	}
	return cut.records.put(ctx, r.files[i].Name, p, raw)
}

// optimizable is a file as package optimize needs it.
func optimizable(name string, p *parsedFile, chunks []chunk.Chunk) *optimize.File {
	f := &optimize.File{Path: name, Language: p.File.Language, Layout: p.File.Layout, Verbatim: p.File.Verbatim, Imports: p.File.Imports,
		Dependencies: p.File.Dependencies, Chunks: chunks}
	at := 0
	for i := range chunks {
		c := &chunks[i]
		if c.StartByte != at || c.EndByte < at || c.EndByte > len(p.Text) || c.Content != p.Text[at:c.EndByte] {
			return f // of a webhook: they need not be the whole text
		}
		at = c.EndByte
	}
	if at == len(p.Text) {
		f.Tokens = p.Tokens
	}
	return f
}

// webhook returns the endpoint of custom chunks; nil for the other strategies.
func (r *run) webhook() (*chunk.Endpoint, error) {
	if r.t.Strategy != string(chunk.CustomHook) {
		return nil, nil
	}
	if r.t.WebhookURL == "" || r.e.c.Webhook == nil {
		return nil, &Failure{Code: "CHUNKING_FAILED", Message: "Custom chunking needs a webhook, and this project has none."}
	}
	secret := ""
	if r.t.WebhookSecret != "" {
		if r.e.c.Unseal == nil {
			return nil, errors.New("the secret of the webhook cannot be opened: no key is configured")
		}
		var err error
		if secret, err = r.e.c.Unseal(r.t.WebhookSecret); err != nil {
			return nil, fmt.Errorf("secret of the webhook: %w", err)
		}
	}
	return &chunk.Endpoint{URL: r.t.WebhookURL, Secret: secret}, nil
}

func (r *run) chunksOf(ctx context.Context, i int, p *parsedFile, webhook *chunk.Endpoint) ([]chunk.Chunk, error) {
	name := r.name(r.files[i])
	if webhook == nil {
		return chunk.Split(&p.File, name, p.Text, chunk.Strategy(r.t.Strategy)), nil
	}
	if p.Text == "" {
		return nil, nil
	}
	select {
	case r.e.hooks <- struct{}{}:
		defer func() { <-r.e.hooks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	chunks, err := chunk.Custom(ctx, r.e.c.Webhook, *webhook, chunk.Request{ProjectID: r.t.ProjectID.String(), RunID: r.t.RunID.String(),
		Path: name, Text: p.Text, File: &p.File})
	if errors.Is(err, chunk.ErrChunking) {
		return nil, &Failure{Code: chunk.CodeChunkingFailed, Message: "The chunking webhook did not answer as it should.", Items: []string{name},
			Retryable: true, cause: err}
	}
	return chunks, err
}

// both reads the results of phases 2 and 3 for a file, with its text; false for a file that was left out.
func (r *run) both(ctx context.Context, i int, p *parsedFile, c *chunkedFile) (bool, error) {
	ok, err := r.record(i, p)
	if err != nil || !ok {
		return false, err
	}
	if p.Text, err = r.textOf(ctx, p); err != nil {
		return false, err
	}
	p.Absent = false
	*c = chunkedFile{}
	switch {
	case r.chunked.Has(i):
		_, err = r.chunked.Get(i, c)
	case r.t.Strategy == string(chunk.CustomHook):
		var f factsRecord
		_, err = r.kept.Get(i, &f)
		c.Chunks = f.Chunks
	default:
		c.Chunks = chunk.Split(&p.File, r.files[i].Name, p.Text, chunk.Strategy(r.t.Strategy))
	}
	if err != nil {
		return false, err
	}
	for k := range c.Chunks {
		if x := &c.Chunks[k]; x.Content == "" && x.StartByte >= 0 {
			x.Content = p.Text[x.StartByte:x.EndByte]
		}
	}
	return true, nil
}

// chunkStage counts the progress of phase 3. Safe for concurrent use.
type chunkStage struct {
	mu      sync.Mutex
	done    int
	outcome chunkOutcome
}

// keep counts the files that an earlier run cut.
func (s *chunkStage) keep(o *parseOutcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done += o.Reused
	s.outcome.Quality.Merge(&o.Known)
}

func (s *chunkStage) add(q *chunk.Quality) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done++
	s.outcome.Quality.Merge(q)
}

var strategyLabels = map[string]string{"semantic": "Semantic", "fixed": "Fixed size", "recursive": "Recursive", "custom": "Custom webhook"}

var typeLabels = map[chunk.Type]string{chunk.ModuleBoundaries: "Module boundaries", chunk.FunctionGroupings: "Function groupings",
	chunk.Documentation: "Documentation", chunk.Config: "Configuration"}

// chunkDetail is phase3Data; context is contextPreserved, known after optimization.
func chunkDetail(strategy string, q *chunk.Quality, finished bool, context int) map[string]any {
	types := make([]map[string]any, 0, len(chunk.Types))
	for _, t := range chunk.Types {
		n := q.ByType[t]
		avg := 0
		if n.Chunks > 0 {
			avg = n.Tokens / n.Chunks
		}
		types = append(types, map[string]any{"type": t, "label": typeLabels[t], "count": n.Chunks, "avgTokenSize": avg})
	}
	status := "in_progress"
	if finished {
		status = "completed"
	}
	return map[string]any{"strategy": strategy, "strategyLabel": strategyLabels[strategy], "chunkTypes": types, "totalChunks": q.Chunks,
		"avgChunkSize":   q.AvgChunkSize(),
		"qualityMetrics": map[string]int{"semanticCoherence": q.SemanticCoherence(), "contextPreserved": context},
		"optimizationActions": []map[string]string{{"action": "Find boundaries", "status": status}, {"action": "Group small units", "status": status},
			{"action": "Split large units", "status": status}}}
}

func (r *run) showChunks(s *chunkStage) {
	total := len(r.files)
	r.progress.update(func(p *progress) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.percent = max(p.percent, percentOf(s.done, total))
		p.message = fmt.Sprintf("Cut %d files into %d chunks", s.done, s.outcome.Quality.Chunks)
		p.metrics.ChunksCreated = int64(s.outcome.Quality.Chunks)
		p.detail = func() (string, any) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return "phase3Data", chunkDetail(r.t.Strategy, &s.outcome.Quality, s.done >= total, 100)
		}
	})
}
