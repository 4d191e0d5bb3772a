package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/condition"
	"kijko/worker/runner"
)

// maxFirings is how often one reflex fires for one batch of changed files (contract 20, 10.3).
const maxFirings = 20

// fileChanges are the changes of one ingestion run, as the trigger on the project's index leaves them.
type fileChanges struct {
	UserID    uuid.UUID `json:"userId"`
	ProjectID uuid.UUID `json:"projectId"`
	RunID     uuid.UUID `json:"runId"`
	Timestamp string    `json:"timestamp"`
	Changes   []struct {
		Event string `json:"event"`
		Path  string `json:"path"`
		Size  int64  `json:"size"`
	} `json:"changes"`
}

type waitingReflex struct {
	ID         uuid.UUID       `json:"id"`
	Config     json.RawMessage `json:"config"`
	Conditions json.RawMessage `json:"conditions"`
	fired      int
}

// firing is one change with the reflexes that match it.
type firing struct {
	ReflexIDs []uuid.UUID     `json:"reflexIds"`
	Payload   json.RawMessage `json:"payload"`
}

// ReflexesMatch: fileChanges. Matches the changes of a run against the file_change reflexes of the project's owner and fires the
// reflexes that match, each at most 20 times. Unique key reflexes.match:<runId>; 5 attempts, 5 s to 5 min. Firing is one transaction,
// once per run. A job that failed permanently fired no reflex.
func ReflexesMatch(pool *pgxpool.Pool, check *condition.Evaluator) runner.Type {
	return runner.Type{Name: "reflexes.match", Unique: "reflexes.match:<runId>", Attempts: 5, TimeLimit: 2 * time.Minute,
		Backoff: runner.Exponential(5*time.Second, 5*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var changes fileChanges
			if err := json.Unmarshal(job.Args, &changes); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			var raw []byte
			if err := pool.QueryRow(ctx, "select private.waiting_reflexes($1, 'file_change')", changes.UserID).Scan(&raw); err != nil {
				return fmt.Errorf("reflexes of %s: %w", changes.UserID, err)
			}
			var list []*waitingReflex
			if err := json.Unmarshal(raw, &list); err != nil {
				return runner.Permanent(fmt.Errorf("waiting_reflexes: %w", err))
			}
			firings, err := matchChanges(ctx, check, changes, list)
			if err != nil || len(firings) == 0 {
				return err
			}
			var count int
			if err := pool.QueryRow(ctx, "select private.fire_changes($1, $2, $3)", changes.UserID, changes.RunID.String(), firings).Scan(&count); err != nil {
				return fmt.Errorf("fire for run %s: %w", changes.RunID, err)
			}
			return nil
		}}
}

// matchChanges finds the reflexes that each change matches.
func matchChanges(ctx context.Context, check *condition.Evaluator, changes fileChanges, list []*waitingReflex) ([]firing, error) {
	firings := []firing{}
	for _, change := range changes.Changes {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := path.Base(change.Path)
		raw, err := json.Marshal(map[string]any{"event": change.Event, "projectId": changes.ProjectID, "timestamp": changes.Timestamp,
			"file": map[string]any{"path": change.Path, "name": name, "extension": strings.TrimPrefix(path.Ext(name), "."), "size": change.Size}})
		if err != nil {
			return nil, err
		}
		payload, err := condition.ParsePayload(raw)
		if err != nil {
			return nil, err
		}
		f := firing{Payload: raw}
		event := condition.Event{TriggerType: "file_change", Payload: payload}
		for _, r := range list {
			if r.fired < maxFirings && concerns(check, r, event) {
				r.fired++
				f.ReflexIDs = append(f.ReflexIDs, r.ID)
			}
		}
		if len(f.ReflexIDs) > 0 {
			firings = append(firings, f)
		}
	}
	return firings, nil
}

// concerns checks trigger and conditions. A reflex that cannot be checked does not match.
func concerns(check *condition.Evaluator, r *waitingReflex, e condition.Event) bool {
	if ok, err := check.Triggers(r.Config, e); !ok || err != nil {
		return false
	}
	ok, err := check.Match(r.Conditions, e.Payload)
	return ok && err == nil
}
