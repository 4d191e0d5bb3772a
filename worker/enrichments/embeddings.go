package enrichments

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"kijko/worker/embed"
	"kijko/worker/ingestion/parse"
	"kijko/worker/llm"
)

// maxChunks bounds the chunks of one file. Of a longer file the beginning is embedded.
const maxChunks = 2000

// key names a way to embed, as private.embedder_key does.
func (s settings) key(model string) string {
	return fmt.Sprintf("%s:%s:%s:%d:%d", s.EmbeddingModel, model, s.ChunkStrategy, s.ChunkSize, s.Overlap)
}

// embeddingRows are the columns of embeddings of whole files.
type embeddingRows struct {
	files                                                      [][16]byte
	hashes                                                     [][]byte
	chunks, startBytes, endBytes, startLines, endLines, tokens []int32
	values                                                     []float32
}

// embedFiles embeds the chunks of the files that have no embeddings of their present content.
func (r *run) embedFiles(ctx context.Context) error {
	with := r.e.c.Embed.For(r.t.Settings.EmbeddingModel)
	key := r.t.Settings.key(with.Model())
	processed := 0
	err := r.pages(ctx, "Embedded", func(files []file) error {
		if err := r.store.plan(ctx, files); err != nil {
			return err
		}
		have, err := r.store.embedded(ctx, key, files)
		if err != nil {
			return err
		}
		var missing []file
		for _, f := range files {
			if !have[f.ID] {
				missing = append(missing, f)
			}
		}
		done := 0
		return r.texts(ctx, missing, func(files []file, texts map[string]string) error {
			n, err := r.embedTexts(ctx, with, key, files, texts)
			processed += n
			done += len(files)
			if err != nil {
				return err
			}
			return r.report(ctx, r.seen+done, "Embedded")
		})
	})
	if err != nil {
		return err
	}
	return r.store.finish(ctx, map[string]any{"processed": processed, "embedder": key, "model": with.Model(), "dimensions": with.Dimensions()})
}

// embedTexts embeds files and stores them, a few at a time; each file is stored as a whole.
func (r *run) embedTexts(ctx context.Context, with embed.Embedder, key string, files []file, texts map[string]string) (int, error) {
	cut := make([][]piece, len(files))
	group, cutting := errgroup.WithContext(ctx)
	group.SetLimit(r.e.c.Parsers)
	for i := range files {
		text, ok := texts[string(files[i].Hash)]
		if !ok {
			continue
		}
		group.Go(func() error {
			var f *parse.File
			if r.t.Settings.ChunkStrategy == "semantic" {
				var err error
				if f, err = r.parse(cutting, files[i].Path, text); err != nil {
					return err
				}
			}
			cut[i] = pieces(f, text, r.t.Settings)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	embedded := 0
	for from := 0; from < len(files); {
		// Of files as many as fit into one request, at least one.
		to, chunks, tokens := from, 0, 0
		for to < len(files) && (to == from || chunks+len(cut[to]) <= embed.MaxTexts && tokens+sum(cut[to]) <= embed.MaxTokens) {
			chunks, tokens = chunks+len(cut[to]), tokens+sum(cut[to])
			to++
		}
		rows := &embeddingRows{}
		for i := from; i < to; i++ {
			if len(cut[i]) > 0 {
				embedded++
			}
			if err := r.embedPieces(ctx, with, &files[i], texts[string(files[i].Hash)], cut[i], rows); err != nil {
				return embedded, err
			}
		}
		if err := r.store.embeddings(ctx, key, with.Model(), with.Dimensions(), rows); err != nil {
			return embedded, err
		}
		from = to
	}
	return embedded, nil
}

func sum(pieces []piece) (tokens int) {
	for _, p := range pieces {
		tokens += p.tokens
	}
	return tokens
}

func (r *run) embedPieces(ctx context.Context, with embed.Embedder, f *file, text string, cut []piece, rows *embeddingRows) error {
	for from := 0; from < len(cut); {
		to, tokens := from, 0
		for to < len(cut) && to-from < embed.MaxTexts && (to == from || tokens+cut[to].tokens <= embed.MaxTokens) {
			tokens += cut[to].tokens
			to++
		}
		chunks := make([]string, 0, to-from)
		for _, p := range cut[from:to] {
			chunks = append(chunks, text[p.start:p.end])
		}
		vectors, err := r.embed(ctx, with, chunks)
		if err != nil {
			return err
		}
		for i, p := range cut[from:to] {
			rows.add(f.ID, f.Hash, from+i, p, vectors[i])
		}
		from = to
	}
	return nil
}

func (e *embeddingRows) add(id uuid.UUID, hash []byte, chunk int, p piece, vector []float32) {
	e.files, e.hashes = append(e.files, id), append(e.hashes, hash)
	e.chunks = append(e.chunks, int32(chunk))
	e.startBytes, e.endBytes = append(e.startBytes, int32(p.start)), append(e.endBytes, int32(p.end))
	e.startLines, e.endLines = append(e.startLines, int32(p.startLine)), append(e.endLines, int32(p.endLine))
	e.tokens = append(e.tokens, int32(p.tokens))
	e.values = append(e.values, vector...)
}

// embed asks the embedder, again where the same request may succeed a moment later.
func (r *run) embed(ctx context.Context, with embed.Embedder, texts []string) ([][]float32, error) {
	for n := 0; ; n++ {
		attempt, cancel := context.WithTimeout(ctx, r.e.policy.Attempt)
		vectors, err := with.Embed(attempt, texts)
		cancel()
		if err == nil {
			return vectors, nil
		}
		failure, ok := llm.AsError(err)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !ok || !failure.Retryable() || n+1 >= r.e.policy.Attempts {
			return nil, err
		}
		if err := r.e.policy.Sleep(ctx, max(r.e.policy.Delay(n), min(failure.RetryAfter, maxWait))); err != nil {
			return nil, context.Cause(ctx)
		}
	}
}
