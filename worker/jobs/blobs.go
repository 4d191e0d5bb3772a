package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/runner"
	"kijko/worker/storage"
)

// Blobs is the storage of uploads and exports, as jobs use it (*storage.Store is one).
type Blobs interface {
	PutAs(ctx context.Context, key string, r io.Reader, limit int64) (storage.Object, error)
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	Delete(ctx context.Context, keys ...string) error
}

// BlobsDelete: {"keys": [...]}. Deletes stored content that no row names any more. Content in use is kept, even if the job names
// it. No unique key; 20 attempts, 10 s to 1 h. After that the blobs are orphans and the dead letter names them.
func BlobsDelete(pool *pgxpool.Pool, blobs Blobs) runner.Type {
	return runner.Type{Name: "blobs.delete", Attempts: 20, TimeLimit: 5 * time.Minute, Backoff: runner.Exponential(10*time.Second, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				Keys []string `json:"keys"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return fmt.Errorf("arguments: %w", err)
			}
			var free []string
			if err := pool.QueryRow(ctx, "select private.unreferenced_blobs($1)", args.Keys).Scan(&free); err != nil {
				return fmt.Errorf("ask for references: %w", err)
			}
			if len(free) == 0 {
				return nil
			}
			if err := blobs.Delete(ctx, free...); err != nil {
				return fmt.Errorf("delete content: %w", err)
			}
			return nil
		}}
}
