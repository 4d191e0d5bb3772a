package jobs

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"kijko/worker/compression"
	"kijko/worker/runner"
)

// CompressionRun: {"operationId", "after"?, "language"?}. Compresses files of a context for some seconds and hands on the rest. Unique key
// compression.run:<operationId>, with :<after>:<language> for a rest; 6 attempts, 2 s to 1 min. After that the operation has failed, and what was
// compressed before stays as it is.
func CompressionRun(e *compression.Engine) runner.Type {
	const attempts = 6
	return runner.Type{Name: "compression.run", Queue: "compression", Unique: "compression.run:<operationId>:<after>:<language>", Attempts: attempts, TimeLimit: 5 * time.Minute,
		Backoff: runner.Exponential(2*time.Second, time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			var args struct {
				OperationID uuid.UUID `json:"operationId"`
				After       string    `json:"after"`
				Language    string    `json:"language"`
			}
			if err := json.Unmarshal(job.Args, &args); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			hash, err := hex.DecodeString(args.After)
			if err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			err = e.Work(ctx, args.OperationID, compression.Place{Hash: hash, Language: args.Language})
			if err != nil && job.Attempt >= attempts && !errors.Is(err, context.Canceled) {
				err = errors.Join(err, e.Fail(context.WithoutCancel(ctx), args.OperationID))
			}
			return err
		}}
}
