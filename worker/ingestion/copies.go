package ingestion

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	copiesDir = "copies"
	// copyAge is how long a copy of a repository is kept after its last use.
	copyAge = 7 * 24 * time.Hour
)

// copyOf returns the directory for a repository: the copy that earlier runs on this machine have left, so that only what is new is fetched.
// While another run has the copy (a suspended worker, which lost its lease), the run uses its own directory.
func (r *run) copyOf(repo *repository) (string, error) {
	own := r.dir.file(filepath.Join("git", repo.ID.String()))
	home := filepath.Join(r.e.c.WorkDir, copiesDir, repo.ID.String())
	if dir := filepath.Join(home, "git"); slices.ContainsFunc(r.copies, func(lock *os.File) bool { return filepath.Dir(lock.Name()) == home }) {
		return dir, nil
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", fmt.Errorf("copy of the repository: %w", err)
	}
	lock, ok, err := lockDir(home)
	if err != nil || !ok {
		return own, err
	}
	r.copies = append(r.copies, lock)
	now := time.Now()
	return filepath.Join(home, "git"), os.Chtimes(lock.Name(), now, now)
}

// sweepCopies removes copies of repositories that are gone or long unused, and then the longest unused ones beyond the limit.
func (e *Engine) sweepCopies(ctx context.Context) error {
	root := filepath.Join(e.c.WorkDir, copiesDir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("sweep copies: %w", err)
	}
	type kept struct {
		id   uuid.UUID
		dir  string
		used time.Time
		size int64
	}
	var all []kept
	var ids []uuid.UUID
	for _, entry := range entries {
		id, err := uuid.Parse(entry.Name())
		if err != nil {
			continue
		}
		k := kept{id: id, dir: filepath.Join(root, entry.Name())}
		if info, err := os.Stat(filepath.Join(k.dir, "lock")); err == nil {
			k.used = info.ModTime()
		}
		k.size = sizeOf(k.dir)
		all, ids = append(all, k), append(ids, id)
	}
	if len(all) == 0 {
		return nil
	}
	rows, err := e.c.Pool.Query(ctx, "select * from private.live_repositories($1)", ids)
	if err != nil {
		return fmt.Errorf("sweep copies: %w", err)
	}
	live, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("sweep copies: %w", err)
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Compare(b.used.UnixNano(), a.used.UnixNano()) })
	var total int64
	var faults []error
	for _, k := range all {
		if total += k.size; total <= e.c.CopyBytes && time.Since(k.used) < copyAge && slices.Contains(live, k.id) {
			continue
		}
		lock, ok, err := lockDir(k.dir)
		if err != nil || !ok {
			continue // a run reads it
		}
		faults = append(faults, os.RemoveAll(k.dir), lock.Close())
		total -= k.size
	}
	return errors.Join(faults...)
}

func sizeOf(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return size
}
