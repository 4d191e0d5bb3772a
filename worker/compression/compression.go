// Package compression works the compressions of contexts: it reads the content of entries batch by batch, lets package
// worker/ingestion/compress make their texts, and stores them beside the originals (contract 60, section 3.5).
//
// # Repetition
//
// A stored text belongs to content, language and settings, and storing it again changes nothing. So a job may be repeated after a kill, also
// beside itself on another worker, and goes on behind what is stored. Entries are marked in one statement at the end.
//
// # Bounds
//
// A job works for about Slice and hands the rest to a job of its own, because a job keeps a transaction of the queue open. At most one batch
// (8 MB of content, or one file) is in memory.
package compression

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"kijko/worker/ingestion/compress"
	"kijko/worker/ingestion/parse"
)

// Slice is about how long one job works.
const Slice = 10 * time.Second

const (
	batchFiles = 200
	parallel   = 2 // files in work at once
)

// Engine works compressions.
type Engine struct {
	pool   *pgxpool.Pool
	files  *compress.Compressor
	parser *parse.Parser
	slice  time.Duration
	log    *slog.Logger
}

// New returns an Engine. slice is about how long a job works; 0 means Slice.
func New(pool *pgxpool.Pool, slice time.Duration, log *slog.Logger) *Engine {
	if slice <= 0 {
		slice = Slice
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	p := parse.New()
	return &Engine{pool: pool, files: compress.New(p), parser: p, slice: slice, log: log}
}

// Close releases the parser.
func (e *Engine) Close() { e.parser.Close() }

type file struct {
	hash           []byte
	language, path string
	content        []byte
}

// Place is the last content that a compression has stored. The same content may be of several languages.
type Place struct {
	Hash     []byte
	Language string
}

// Work goes on with a compression behind a place, and ends it or hands on the rest.
func (e *Engine) Work(ctx context.Context, operation uuid.UUID, place Place) error {
	if place.Hash == nil {
		place.Hash = []byte{}
	}
	var raw []byte
	if err := e.pool.QueryRow(ctx, "select private.begin_compression($1)", operation).Scan(&raw); err != nil {
		return fmt.Errorf("begin compression %s: %w", operation, err)
	}
	if raw == nil {
		return nil
	}
	var settings compress.Settings
	if err := json.Unmarshal(raw, &settings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	key := settings.Key()
	if settings.Method == compress.Standard && len(place.Hash) == 0 {
		if _, err := e.pool.Exec(ctx, "select private.store_optimized($1, $2)", operation, key); err != nil {
			return fmt.Errorf("store optimized texts: %w", err)
		}
	}
	for end := time.Now().Add(e.slice); ; {
		batch, err := e.read(ctx, operation, key, place)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			break
		}
		if err := e.store(ctx, operation, key, settings, batch); err != nil {
			return err
		}
		last := batch[len(batch)-1]
		place = Place{last.hash, last.language}
		if time.Now().After(end) {
			if _, err := e.pool.Exec(ctx, "select private.continue_compression($1, $2, $3)", operation, place.Hash, place.Language); err != nil {
				return fmt.Errorf("hand on compression %s: %w", operation, err)
			}
			return nil
		}
	}
	if _, err := e.pool.Exec(ctx, "select private.finish_compression($1, $2)", operation, key); err != nil {
		return fmt.Errorf("finish compression %s: %w", operation, err)
	}
	return nil
}

// Fail ends a compression whose job used up its attempts.
func (e *Engine) Fail(ctx context.Context, operation uuid.UUID) error {
	if _, err := e.pool.Exec(ctx, "select private.fail_compression($1)", operation); err != nil {
		return fmt.Errorf("fail compression %s: %w", operation, err)
	}
	return nil
}

func (e *Engine) read(ctx context.Context, operation uuid.UUID, key string, place Place) ([]file, error) {
	rows, err := e.pool.Query(ctx, "select hash, language, path, content from private.compression_batch($1, $2, $3, $4, $5)", operation, key, place.Hash, place.Language,
		batchFiles)
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	batch, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f file, err error) {
		err = row.Scan(&f.hash, &f.language, &f.path, &f.content)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("read content: %w", err)
	}
	return batch, nil
}

func (e *Engine) store(ctx context.Context, operation uuid.UUID, key string, settings compress.Settings, batch []file) error {
	hashes, languages := make([][]byte, len(batch)), make([]string, len(batch))
	contents, tokens := make([]*string, len(batch)), make([]int64, len(batch))
	reasons, failed := make([]*string, len(batch)), make([]bool, len(batch))
	group, limited := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, f := range batch {
		hashes[i], languages[i] = f.hash, f.language
		group.Go(func() error {
			r, err := e.file(limited, f, settings)
			switch {
			case limited.Err() != nil:
				return limited.Err()
			case err != nil:
				e.log.Error("file cannot be compressed", "path", f.path, "language", f.language, "error", err)
				failed[i] = true
			case r.Reason != "":
				reason := string(r.Reason)
				reasons[i], tokens[i] = &reason, int64(r.Tokens)
			default:
				contents[i], tokens[i] = &r.Text, int64(r.Tokens)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if _, err := e.pool.Exec(ctx, "select private.store_compressed($1, $2, $3, $4, $5, $6, $7, $8)", operation, key, hashes, languages, contents, tokens, reasons, failed); err != nil {
		return fmt.Errorf("store texts: %w", err)
	}
	return nil
}

// file compresses one file. A fault in the code is an error of this file alone.
func (e *Engine) file(ctx context.Context, f file, settings compress.Settings) (r compress.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	// Postgres takes no NUL in a text; no text of an ingestion has one.
	return e.files.File(ctx, f.path, strings.ReplaceAll(strings.ToValidUTF8(string(f.content), "\uFFFD"), "\x00", ""), settings)
}
