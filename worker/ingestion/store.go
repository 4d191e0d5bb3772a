package ingestion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/gitfetch"
	"kijko/worker/lease"
)

// store is a run's access to the database: functions that check the lease. Each call is one transaction and one round trip.
type store struct {
	pool  *pgxpool.Pool
	run   uuid.UUID
	owner uuid.UUID
}

// dbTries is how often a call is tried when the connection breaks or transactions conflict. The attempts take more than ten seconds,
// because a restart of the database must not fail a phase.
const dbTries = 9

func (s *store) retry(ctx context.Context, what string, call func(context.Context) error) error {
	err := db.Retry(ctx, dbTries, nil, call)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, lease.ErrLost), errors.As(err, &pg) && pg.Code == "PT409":
		return lease.ErrLost
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (s *store) exec(ctx context.Context, what, sql string, args ...any) error {
	return s.retry(ctx, what, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, sql, append([]any{s.run, s.owner}, args...)...)
		return err
	})
}

// held makes a query that returns whether the lease still held.
func (s *store) held(ctx context.Context, what, sql string, args ...any) error {
	held := false
	err := s.retry(ctx, what, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, sql, append([]any{s.run, s.owner}, args...)...).Scan(&held)
	})
	if err == nil && !held {
		err = lease.ErrLost
	}
	return err
}

func (s *store) report(ctx context.Context, p map[string]any) error {
	data, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return s.held(ctx, "report", "select private.report_run($1, $2, $3)", data)
}

func (s *store) fail(ctx context.Context, f *Failure, c checkpoint) error {
	c.Branches = f.Branches
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("fail: %w", err)
	}
	items := f.Items
	if items == nil {
		items = []string{}
	}
	return s.held(ctx, "fail", "select private.fail_run($1, $2, $3, $4, $5, $6)", f.Code, f.Message, items[:min(len(items), 1000)], data)
}

func (s *store) release(ctx context.Context) error {
	var released bool
	return s.pool.QueryRow(ctx, "select private.release_run($1, $2)", s.run, s.owner).Scan(&released)
}

func (s *store) markRepository(ctx context.Context, id uuid.UUID) error {
	return s.exec(ctx, "mark repository", "select private.mark_repository($1, $2, $3)", id)
}

// branchesWanted returns the known commits of branches if the branches of this repository are shown; otherwise nil.
func (s *store) branchesWanted(ctx context.Context, id uuid.UUID) (map[string]string, error) {
	var known map[string]string
	err := s.retry(ctx, "branches wanted", func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, "select private.branches_wanted($1, $2, $3)", s.run, s.owner, id).Scan(&known)
	})
	return known, err
}

func (s *store) syncBranches(ctx context.Context, id uuid.UUID, defaultBranch string, list []gitfetch.DatedBranch) error {
	type branch struct {
		Name   string    `json:"name"`
		Commit string    `json:"commit"`
		At     time.Time `json:"at,omitzero"`
	}
	rows := make([]branch, len(list))
	for i, b := range list {
		rows[i] = branch{gitfetch.Shown(b.Name), b.Commit, b.At}
	}
	data, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("sync branches: %w", err)
	}
	return s.exec(ctx, "sync branches", "select private.sync_branches($1, $2, $3, $4, $5)", id, gitfetch.Shown(defaultBranch), data)
}

// wordBatch is the number of words in one transaction.
const wordBatch = 20_000

// clearBatch is the number of rows per transaction of a removal; it keeps the transactions short.
const clearBatch = 5000

// clear removes the rows of an earlier attempt: "chunks" for files and chunks (and all dependent rows), "index" for terms and graph.
func (s *store) clear(ctx context.Context, what string) error {
	for {
		var n int64
		err := s.retry(ctx, "clear", func(ctx context.Context) error {
			return s.pool.QueryRow(ctx, "select private.clear_run($1, $2, $3, $4)", s.run, s.owner, what, clearBatch).Scan(&n)
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// fileRows are the columns of a batch of run_files. Ids are bare bytes: a uuid.UUID would go through its text.
type fileRows struct {
	ids          [][16]byte
	positions    []int32
	sources      []string
	repositories []pgtype.UUID
	paths        []string
	languages    []string
	categories   []string
	bytes        []int64
	tokens       []int64
	optimized    []int64
	hashes       [][]byte
	metadata     []json.RawMessage
	savings      []json.RawMessage
	plans        [][]byte
}

// args are the arguments of the functions that store files.
func (r *fileRows) args() []any {
	return []any{r.ids, r.positions, r.sources, r.repositories, r.paths, r.languages, r.categories, r.bytes, r.tokens, r.optimized, r.hashes, r.metadata,
		r.savings, r.plans}
}

func (s *store) files(ctx context.Context, r *fileRows) error {
	if len(r.ids) == 0 {
		return nil
	}
	return s.exec(ctx, "store files", "select private.store_files($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)", r.args()...)
}

// chunkRows are the columns of a batch of chunks.
type chunkRows struct {
	ids        [][16]byte
	files      [][16]byte
	positions  []int32
	starts     []int32
	ends       []int32
	types      []string
	tokens     []int32
	contents   []string
	hashes     [][]byte
	references []pgtype.UUID
	parents    []pgtype.UUID
	metadata   []json.RawMessage
	size       int
}

func (r *chunkRows) args() []any {
	return []any{r.ids, r.files, r.positions, r.starts, r.ends, r.types, r.tokens, r.contents, r.hashes, r.references, r.parents, r.metadata}
}

func (s *store) chunks(ctx context.Context, r *chunkRows) error {
	if len(r.ids) == 0 {
		return nil
	}
	return s.exec(ctx, "store chunks", "select private.store_chunks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
		r.args()...)
}

// survey updates the table statistics, so that the next query plans know the sizes of the tables.
func (s *store) survey(ctx context.Context) error {
	return s.exec(ctx, "survey tables", "select private.survey_tables($1, $2)")
}

func (s *store) terms(ctx context.Context, chunks [][16]byte, terms []pgtype.TSVector) error {
	if len(chunks) == 0 {
		return nil
	}
	return s.exec(ctx, "store terms", "select private.store_terms($1, $2, $3, $4)", chunks, terms)
}

// words stores in how many chunks each word is; the empty word is in all of them.
func (s *store) words(ctx context.Context, counts *wordCounts) error {
	for words, chunks := range counts.pages(wordBatch) {
		if err := s.exec(ctx, "store words", "select private.store_words($1, $2, $3, $4)", words, chunks); err != nil {
			return err
		}
	}
	return nil
}

// storedChunk is a chunk as the index phase reads it back.
type storedChunk struct {
	ID      uuid.UUID
	Path    string
	Content string
	Names   []string
	Body    bool
}

func (s *store) page(ctx context.Context, after uuid.UUID, limit int) ([]storedChunk, error) {
	var page []storedChunk
	err := s.retry(ctx, "read chunks", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "select id, path, content, coalesce(metadata -> 'names', '[]'), has_body from private.read_chunks($1, $2, $3, $4)",
			s.run, s.owner, pgtype.UUID{Bytes: after, Valid: after != uuid.Nil}, limit)
		if err != nil {
			return err
		}
		page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c storedChunk, err error) {
			err = row.Scan(&c.ID, &c.Path, &c.Content, &c.Names, &c.Body)
			return c, err
		})
		return err
	})
	return page, err
}

func (s *store) search(ctx context.Context, query string) ([]uuid.UUID, error) {
	var found []uuid.UUID
	err := s.retry(ctx, "sample search", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "select private.sample_search($1, $2, $3::text::tsquery)", s.run, s.owner, query)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	return found, err
}
