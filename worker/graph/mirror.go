package graph

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Mirror copies graphs from Postgres into a Backend.
type Mirror struct {
	Pool *pgxpool.Pool
	To   Backend
}

// Update makes the Backend hold the context's current graph, or drops the graph of a context that is gone. It records the outcome.
func (m *Mirror) Update(ctx context.Context, contextID uuid.UUID) error {
	generation, err := m.update(ctx, contextID)
	var fault *string
	if err != nil {
		text := clip(err.Error())
		fault = &text
	}
	_, recorded := m.Pool.Exec(context.WithoutCancel(ctx), "select private.record_graph_mirror($1, $2, $3, $4)", contextID, m.To.Name(), generation, fault)
	return errors.Join(err, recorded)
}

func (m *Mirror) update(ctx context.Context, contextID uuid.UUID) (generation int, err error) {
	c, err := m.read(ctx, contextID)
	if err != nil {
		return 0, err
	}
	if c == nil {
		return 0, m.To.Delete(ctx, contextID)
	}
	held, err := m.To.Holds(ctx, contextID)
	if err != nil {
		return 0, err
	}
	if held == c.Generation {
		return held, nil
	}
	if err := m.To.Replace(ctx, contextID, c); err != nil {
		return 0, err
	}
	return c.Generation, nil
}

// read copies a graph from one snapshot; nil when there is none.
func (m *Mirror) read(ctx context.Context, contextID uuid.UUID) (c *Copy, err error) {
	err = pgx.BeginTxFunc(ctx, m.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		generation, err := Generation(ctx, tx, contextID)
		if err != nil || generation == 0 {
			return err
		}
		c = &Copy{Generation: generation}
		rows, err := tx.Query(ctx, `select id::text, name, type, reference_count, coalesce(path, ''), coalesce(language, ''), coalesce(start_line, 0), coalesce(end_line, 0),
			is_exported, coalesce(cluster, 0), lower(name) from private.export_graph_nodes($1)`, contextID)
		if err != nil {
			return err
		}
		c.Nodes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (n NodeRow, err error) {
			err = row.Scan(&n.ID, &n.Name, &n.Type, &n.References, &n.Path, &n.Language, &n.StartLine, &n.EndLine, &n.Exported, &n.Cluster, &n.Lower)
			return n, err
		})
		if err != nil {
			return err
		}
		rows, err = tx.Query(ctx, "select source_id::text, target_id::text, type, count from private.export_graph_edges($1)", contextID)
		if err != nil {
			return err
		}
		c.Links, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l LinkRow, err error) {
			err = row.Scan(&l.Source, &l.Target, &l.Type, &l.Count)
			return l, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the graph: %w", err)
	}
	return c, nil
}

// Sweep enqueues the contexts whose copies are missing or old. Call it now and then: it finds the contexts of before the Backend was there,
// copies whose jobs failed for good, and an emptied Backend.
func (m *Mirror) Sweep(ctx context.Context) error {
	known, err := m.To.Mark(ctx)
	if err != nil {
		return nil //nolint:nilerr // the health check shows it, and the next sweep tries again
	}
	if _, err := m.Pool.Exec(ctx, "select private.sweep_graph_mirrors($1, $2)", m.To.Name(), !known); err != nil {
		return fmt.Errorf("sweep mirrors: %w", err)
	}
	return nil
}
