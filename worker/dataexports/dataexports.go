// Package dataexports writes the files of a person's data (contract 50, 9.1): a ZIP of JSON files and of the files that the person uploaded.
//
// An export is written under a lease in its row. Records come in pages from Postgres, each in a transaction of its own, files from the storage,
// and the archive goes back to the storage as it grows. So memory holds one page, the names of the files, and no transaction waits for the
// storage. The key of the archive is in the row before the first byte: what a worker that died has left is deleted by it.
package dataexports

import (
	"archive/zip"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/exactjson"
	"kijko/worker/lease"
	"kijko/worker/storage"
)

// Lease times: a lease is renewed three times before it would expire.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 4 * time.Second
)

// largest bounds a file. The uploads in it are bounded by the plans of their organizations.
const largest = 1 << 40

// FormatVersion is that of the manifest.
const FormatVersion = "1.0"

// Blobs is the storage of uploads and exports (*storage.Store is one).
type Blobs interface {
	PutAs(ctx context.Context, key string, r io.Reader, limit int64) (storage.Object, error)
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	Delete(ctx context.Context, keys ...string) error
}

// Engine writes exports. Make it with New.
type Engine struct {
	pool    *pgxpool.Pool
	process *lease.Process
	blobs   Blobs
	log     *slog.Logger
	leases  *lease.Keeper
}

// New makes an Engine. The pool belongs to kijko_worker; process may be nil.
func New(pool *pgxpool.Pool, process *lease.Process, blobs Blobs, log *slog.Logger) *Engine {
	e := &Engine{pool: pool, process: process, blobs: blobs, log: log}
	e.leases = lease.New(lease.Options{For: leaseFor, Every: renewEvery, Expires: true, Renew: e.renew, Process: process, Log: log})
	return e
}

// Hold renews the leases of all exports of this process until ctx ends. Start it before the first export and stop it after the last.
func (e *Engine) Hold(ctx context.Context) { e.leases.Run(ctx) }

func (e *Engine) renew(ctx context.Context, held []lease.Lease, _ bool) ([]lease.Lease, error) {
	owners := make([]uuid.UUID, 0, len(held))
	for _, l := range held {
		owners = append(owners, l.Token)
	}
	rows, err := e.pool.Query(ctx, "select private.hold_data_exports($1, $2)", owners, int(leaseFor/time.Second))
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	holding, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(held), func(l lease.Lease) bool { return slices.Contains(holding, l.Token) }), nil
}

// task is an export to write, as private.claim_data_export returns it.
type task struct {
	ID         uuid.UUID `json:"id"`
	UserID     uuid.UUID `json:"userId"`
	Categories []string  `json:"categories"`
	Tables     []table   `json:"tables"`
	// owner is the token of the lease, key is where the archive goes.
	owner uuid.UUID
	key   string
}

type table struct {
	Category string `json:"category"`
	Name     string `json:"name"`
	// Key is the member of the file.
	Key   string `json:"key"`
	Label string `json:"label"`
}

// Claim takes the lease of the export that the arguments name ({"exportId"}) and returns the work. The work is nil if the export has ended
// or another worker has it.
func (e *Engine) Claim(ctx context.Context, args []byte) (func(context.Context), error) {
	var job struct {
		ExportID uuid.UUID `json:"exportId"`
	}
	if err := exactjson.Unmarshal(args, &job); err != nil {
		return nil, fmt.Errorf("dataexports: job: %w", err)
	}
	t := &task{owner: e.process.Token()}
	var err error
	if t.key, err = storage.NewKey(); err != nil {
		return nil, fmt.Errorf("dataexports: %w", err)
	}
	var claimed []byte
	err = e.pool.QueryRow(ctx, "select private.claim_data_export($1, $2, $3, $4)", job.ExportID, t.owner, int(leaseFor/time.Second), t.key).Scan(&claimed)
	if err != nil {
		return nil, fmt.Errorf("dataexports: claim: %w", err)
	}
	if claimed == nil {
		return nil, nil
	}
	if err := exactjson.Unmarshal(claimed, t); err != nil {
		return nil, fmt.Errorf("dataexports: claimed export: %w", err)
	}
	return func(ctx context.Context) { e.work(ctx, t) }, nil
}

// work writes the archive and says so. Content that no row names in the end is deleted here, unless this process dies; then the worker that
// takes the export over has it deleted.
func (e *Engine) work(ctx context.Context, t *task) {
	log := e.log.With("export", t.ID)
	working, release := e.leases.Add(ctx, lease.Lease{ID: t.ID, Token: t.owner})
	defer release()
	finished := false
	object, err := e.store(working, t)
	if err == nil {
		err = db.Retry(working, 9, nil, func(ctx context.Context) error {
			return e.pool.QueryRow(ctx, "select private.finish_data_export($1, $2, $3, $4)", t.ID, t.owner, t.key, object.Size).Scan(&finished)
		})
	}
	if finished {
		return
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	lost := errors.Is(context.Cause(working), lease.ErrLost) || err == nil
	switch {
	case lost:
		log.Info("an export is written elsewhere, or ended")
	case ctx.Err() != nil:
		log.Info("an export is handed back at shutdown")
	default:
		log.Error("an export could not be written", "error", err)
	}
	if !lost {
		if _, err := e.pool.Exec(ending, "select private.release_data_export($1, $2, $3)", t.ID, t.owner, ctx.Err() == nil); err != nil {
			log.Warn("an export could not be handed back; its lease runs out", "error", err)
		}
	}
	// The row may be ready with this content after all: the answer of finish may have been lost.
	var free []string
	err = e.pool.QueryRow(ending, "select private.unreferenced_blobs($1)", []string{t.key}).Scan(&free)
	if err == nil {
		err = e.blobs.Delete(ending, free...)
	}
	if err != nil {
		log.Warn("content of an unfinished export is left to the job that deletes it", "error", err)
	}
}

// store writes the archive to the storage while it is made.
func (e *Engine) store(ctx context.Context, t *task) (storage.Object, error) {
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = w.CloseWithError(e.write(ctx, t, w))
	}()
	object, err := e.blobs.PutAs(ctx, t.key, r, largest)
	// A store that refuses ends the writer.
	_ = r.CloseWithError(io.ErrClosedPipe)
	<-written
	if err != nil {
		return object, fmt.Errorf("store the file: %w", err)
	}
	return object, nil
}

// archive is the file that grows.
type archive struct {
	zip   *zip.Writer
	at    time.Time
	files []manifestFile
}

type manifestFile struct {
	Name    string `json:"name"`
	Records int64  `json:"records"`
	SHA256  string `json:"sha256"`
}

// file adds a file. fill writes its content and gives the number of its records.
func (a *archive) file(name string, at time.Time, fill func(io.Writer) (records int64, err error)) error {
	entry, err := a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: at})
	if err != nil {
		return err
	}
	digest := sha256.New()
	records, err := fill(io.MultiWriter(entry, digest))
	if err == nil {
		a.files = append(a.files, manifestFile{Name: name, Records: records, SHA256: sum(digest)})
	}
	return err
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// write makes the archive. A panic is an error: one bad export must not stop the others.
func (e *Engine) write(ctx context.Context, t *task, w io.Writer) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	a := &archive{zip: zip.NewWriter(w), at: time.Now().UTC()}
	a.zip.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestSpeed) })
	for _, category := range t.Categories {
		if err := a.file(category+".json", a.at, func(out io.Writer) (int64, error) { return e.category(ctx, t, category, out) }); err != nil {
			return fmt.Errorf("category %s: %w", category, err)
		}
		if err := e.files(ctx, t, category, a); err != nil {
			return fmt.Errorf("files of category %s: %w", category, err)
		}
	}
	manifest, err := json.MarshalIndent(map[string]any{"formatVersion": FormatVersion, "exportedAt": a.at.Format("2006-01-02T15:04:05.000Z"),
		"userId": t.UserID, "categories": t.Categories, "files": a.files}, "", "  ")
	if err != nil {
		return err
	}
	if err := a.file("manifest.json", a.at, func(out io.Writer) (int64, error) {
		_, err := out.Write(manifest)
		return 0, err
	}); err != nil {
		return err
	}
	return a.zip.Close()
}

// category writes {"<table>": {"label": ..., "records": [...], "recordCount": n}, ...}.
func (e *Engine) category(ctx context.Context, t *task, category string, out io.Writer) (total int64, err error) {
	before := "{\n"
	for _, table := range t.Tables {
		if table.Category != category {
			continue
		}
		label, err := json.Marshal(table.Label)
		if err != nil {
			return 0, err
		}
		if _, err := fmt.Fprintf(out, "%s%q: {\"label\": %s, \"records\": [\n", before, table.Key, label); err != nil {
			return 0, err
		}
		before = ",\n"
		count, err := e.records(ctx, t, table.Name, out)
		if err != nil {
			return 0, fmt.Errorf("table %s: %w", table.Name, err)
		}
		if _, err := fmt.Fprintf(out, "], \"recordCount\": %d}", count); err != nil {
			return 0, err
		}
		total += count
	}
	_, err = io.WriteString(out, "\n}\n")
	return total, err
}

// records writes the records of a table, page by page.
func (e *Engine) records(ctx context.Context, t *task, name string, out io.Writer) (count int64, err error) {
	var after json.RawMessage
	for {
		var page struct {
			Content string          `json:"content"`
			Records int64           `json:"records"`
			After   json.RawMessage `json:"after"`
		}
		var raw []byte
		if err := db.Retry(ctx, 5, nil, func(ctx context.Context) error {
			return e.pool.QueryRow(ctx, "select private.data_export_page($1, $2, $3, $4)", t.ID, t.owner, name, after).Scan(&raw)
		}); err != nil {
			return 0, fmt.Errorf("read records: %w", err)
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return 0, err
		}
		if page.Records > 0 {
			text := page.Content + "\n"
			if count > 0 {
				text = "," + text
			}
			if _, err := io.WriteString(out, text); err != nil {
				return 0, err
			}
		}
		count += page.Records
		if after = page.After; after == nil {
			return count, nil
		}
	}
}

// stored is a file of the person: its content, or its key in the storage.
type stored struct {
	ID      uuid.UUID `json:"id"`
	Name    string    `json:"name"`
	At      int64     `json:"at"`
	Key     string    `json:"key"`
	Content string    `json:"content"`
}

// files adds the person's files of a category, each in the folder of its id. A file that was deleted meanwhile is left out.
func (e *Engine) files(ctx context.Context, t *task, category string, a *archive) error {
	var after *uuid.UUID
	for {
		var raw []byte
		if err := db.Retry(ctx, 5, nil, func(ctx context.Context) error {
			return e.pool.QueryRow(ctx, "select private.data_export_files($1, $2, $3, $4)", t.ID, t.owner, category, after).Scan(&raw)
		}); err != nil {
			return fmt.Errorf("read files: %w", err)
		}
		var page []stored
		if err := json.Unmarshal(raw, &page); err != nil {
			return err
		}
		if len(page) == 0 {
			return nil
		}
		for _, f := range page {
			if err := e.add(ctx, a, f); err != nil {
				return fmt.Errorf("file %s: %w", f.ID, err)
			}
		}
		after = &page[len(page)-1].ID
	}
}

func (e *Engine) add(ctx context.Context, a *archive, f stored) error {
	content := base64.NewDecoder(base64.StdEncoding, strings.NewReader(f.Content))
	if f.Key != "" {
		opened, err := e.blobs.Get(ctx, f.Key)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = opened.Close() }()
		content = opened
	}
	return a.file(path.Join("files", f.ID.String(), safeName(f.Name)), time.Unix(f.At, 0).UTC(), func(out io.Writer) (int64, error) {
		_, err := io.Copy(out, content)
		return 1, err
	})
}

// safeName makes a name that no program takes for a path.
func safeName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '\\' || r == ':' || r == '/' || unicode.IsControl(r) {
			return '_'
		}
		return r
	}, name)
	if name == "" || name == "." || name == ".." {
		return "_"
	}
	return name
}
