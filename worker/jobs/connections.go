package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"kijko/worker/connections"
	"kijko/worker/runner"
)

// ConnectionsRevoke: {"tokenId"}. Gives a token back to its provider after a person disconnected, or after an account or project was
// deleted. Unique key connections.revoke:<tokenId>; 10 attempts, 10 s to 1 h. A token that could not be given back within a week is deleted
// here.
func ConnectionsRevoke(keeper *connections.Keeper) runner.Type {
	return runner.Type{Name: "connections.revoke", Unique: "connections.revoke:<tokenId>", Attempts: 10, TimeLimit: time.Minute,
		Backoff: runner.Exponential(10*time.Second, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				TokenID uuid.UUID `json:"tokenId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if keeper.Providers == nil {
				return nil
			}
			return keeper.Revoke(ctx, args.TokenID)
		}}
}

// ConnectionsSync: {"projectId"}. Reads the directory of a project and makes its people members. Unique key connections.sync:<projectId>; 3
// attempts, 30 s to 5 min. The reason of the last failure is stored in the project's status, and the next hour brings another job. Reading
// twice adds no person twice.
func ConnectionsSync(keeper *connections.Keeper) runner.Type {
	return runner.Type{Name: "connections.sync", Unique: "connections.sync:<projectId>", Attempts: 3, TimeLimit: 10 * time.Minute,
		Backoff: runner.Exponential(30*time.Second, 5*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				ProjectID uuid.UUID `json:"projectId"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			if keeper.Providers == nil {
				return nil
			}
			err := keeper.Sync(ctx, args.ProjectID)
			if errors.Is(err, connections.ErrBroken) || errors.Is(err, connections.ErrNone) {
				return nil // the project's status holds the reason
			}
			return err
		}}
}
