package enrichments

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/graph"
	"kijko/worker/lease"
)

// store is a run's access to the database: functions that check the lease. Each call is one transaction and one round trip.
type store struct {
	pool  *pgxpool.Pool
	run   uuid.UUID
	owner uuid.UUID
}

// tries is how often a call is tried when the connection breaks or transactions conflict: more than ten seconds, because a restart of the
// database must not end a run.
const tries = 9

// errDatabase means that the database could not be reached. The run is left to another worker.
var errDatabase = errors.New("the database cannot be reached")

func (s *store) retry(ctx context.Context, what string, call func(context.Context) error) error {
	err := db.Retry(ctx, tries, nil, call)
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &pg) && pg.Code == "PT409":
		return lease.ErrLost
	case db.IsTransient(err):
		return fmt.Errorf("%s: %w: %w", what, errDatabase, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (s *store) exec(ctx context.Context, what, sql string, args ...any) error {
	return s.retry(ctx, what, func(ctx context.Context) error {
		_, err := s.pool.Exec(ctx, sql, append([]any{s.run, s.owner}, args...)...)
		return err
	})
}

func (s *store) report(ctx context.Context, percent int, message string) error {
	return s.exec(ctx, "report", "select private.report_enrichment($1, $2, $3, $4)", percent, message)
}

func (s *store) finish(ctx context.Context, result map[string]any) error {
	data, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	return s.exec(ctx, "finish", "select private.finish_enrichment($1, $2, $3)", data)
}

// finishGraph completes a run of the graph. The graph comes into force in the same transaction.
func (s *store) finishGraph(ctx context.Context, project uuid.UUID, g *graph.Graph, base int) error {
	stale := error(nil)
	err := s.retry(ctx, "finish", func(ctx context.Context) error {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if _, err := graph.Apply(ctx, tx, project, g, base); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "select private.finish_enrichment($1, $2, '{}')", s.run, s.owner)
			return err
		})
		var pg *pgconn.PgError
		if stale = nil; errors.As(err, &pg) && pg.Code == "40001" {
			// Trying the same again would fail the same way.
			stale, err = err, nil
		}
		return err
	})
	return errors.Join(err, stale)
}

func (s *store) fail(ctx context.Context, message string) error {
	return s.exec(ctx, "fail", "select private.fail_enrichment($1, $2, $3)", db.Text(message))
}

func (s *store) release(ctx context.Context) error {
	var released bool
	return s.pool.QueryRow(ctx, "select private.release_enrichment($1, $2)", s.run, s.owner).Scan(&released)
}

// file is a text file of the context.
type file struct {
	ID       uuid.UUID
	Path     string
	Language string
	Hash     []byte
	Bytes    int64
	// Known: the definitions of its content are stored already.
	Known bool
}

func (s *store) files(ctx context.Context, after *string, limit int) (page []file, err error) {
	err = s.retry(ctx, "read files", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "select id, path, language, hash, bytes, is_known from private.enrichment_files($1, $2, $3, $4)", s.run, s.owner, after, limit)
		if err != nil {
			return err
		}
		page, err = pgx.CollectRows(rows, pgx.RowToStructByPos[file])
		return err
	})
	return page, err
}

// contents returns texts by the hash that names them. A content that was deleted meanwhile is missing.
func (s *store) contents(ctx context.Context, hashes [][]byte) (texts map[string]string, err error) {
	err = s.retry(ctx, "read contents", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "select hash, content from private.enrichment_contents($1, $2, $3)", s.run, s.owner, hashes)
		if err != nil {
			return err
		}
		defer rows.Close()
		texts = map[string]string{}
		for rows.Next() {
			var hash, content []byte
			if err := rows.Scan(&hash, &content); err != nil {
				return err
			}
			texts[string(hash)] = string(content)
		}
		return rows.Err()
	})
	return texts, err
}

func (s *store) plan(ctx context.Context, files []file) error {
	if len(files) == 0 {
		return nil
	}
	ids, hashes, languages := make([][16]byte, len(files)), make([][]byte, len(files)), make([]string, len(files))
	for i, f := range files {
		ids[i], hashes[i], languages[i] = f.ID, f.Hash, f.Language
	}
	return s.exec(ctx, "choose files", "select private.plan_enrichment($1, $2, $3, $4, $5)", ids, hashes, languages)
}

func (s *store) symbols(ctx context.Context, f *file, parsed bool, r *symbolRows) error {
	return s.exec(ctx, "store symbols", "select private.store_symbols($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
		f.Hash, f.Language, parsed, r.kinds, r.names, r.qualified, r.starts, r.ends, r.exported, r.signatures)
}

func (s *store) embedded(ctx context.Context, embedder string, files []file) (map[uuid.UUID]bool, error) {
	ids := make([][16]byte, len(files))
	for i, f := range files {
		ids[i] = f.ID
	}
	have := map[uuid.UUID]bool{}
	err := s.retry(ctx, "read embedded files", func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, "select private.embedded_already($1, $2, $3, $4)", s.run, s.owner, embedder, ids)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		for _, id := range found {
			have[id] = true
		}
		return err
	})
	return have, err
}

func (s *store) embeddings(ctx context.Context, embedder, model string, dimensions int, r *embeddingRows) error {
	if len(r.files) == 0 {
		return nil
	}
	return s.exec(ctx, "store embeddings", "select private.store_embeddings($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
		embedder, model, dimensions, r.files, r.hashes, r.chunks, r.startBytes, r.endBytes, r.startLines, r.endLines, r.tokens, r.values)
}
