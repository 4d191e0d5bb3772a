package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"kijko/worker/pushes"
	"kijko/worker/runner"
)

const (
	// hookAttempts is how often the installation of a hook is tried before its branch is polled.
	hookAttempts = 6
	pushQueue    = "pushes"
)

func repositoryOf(args []byte) (uuid.UUID, error) {
	var a struct {
		RepositoryID uuid.UUID `json:"repositoryId"`
	}
	if err := json.Unmarshal(args, &a); err != nil {
		return uuid.Nil, runner.Permanent(fmt.Errorf("arguments: %w", err))
	}
	return a.RepositoryID, nil
}

// PushesInstall: {"repositoryId"}. Installs the hook of a watched repository at its provider. Unique key pushes.install:<repositoryId>; 6
// attempts, 10 s to 10 min; then, or when the provider refuses, the branch is polled. A second run replaces the hook, so a worker that
// dies leaves none behind whose secret is unknown.
func PushesInstall(e *pushes.Engine) runner.Type {
	return runner.Type{Name: "pushes.install", Queue: pushQueue, Unique: "pushes.install:<repositoryId>", Attempts: hookAttempts, TimeLimit: time.Minute,
		Backoff: runner.Exponential(10*time.Second, 10*time.Minute),
		Work: func(ctx context.Context, job runner.Job) error {
			id, err := repositoryOf(job.Args)
			if err != nil {
				return err
			}
			return e.Install(ctx, id, job.Attempt >= hookAttempts)
		}}
}

// PushesRemove: {"userId", "provider", "url", "path", "address"}. Removes a hook from its provider. Unique key
// pushes.remove:<repositoryId>; 6 attempts, 30 s to 1 h. The provider may refuse; its deliveries are refused then.
func PushesRemove(e *pushes.Engine) runner.Type {
	return runner.Type{Name: "pushes.remove", Queue: pushQueue, Unique: "pushes.remove:<repositoryId>", Attempts: 6, TimeLimit: time.Minute,
		Backoff: runner.Exponential(30*time.Second, time.Hour),
		Work:    func(ctx context.Context, job runner.Job) error { return e.Remove(ctx, job.Args) }}
}

// PushesPoll: {"repositoryId"}. Looks at the head of a polled branch. Unique key pushes.poll:<repositoryId>; 2 attempts, because the
// schedule brings the next look: after 15 minutes, or later each time after a failure.
func PushesPoll(e *pushes.Engine) runner.Type {
	return runner.Type{Name: "pushes.poll", Queue: pushQueue, Unique: "pushes.poll:<repositoryId>", Attempts: 2, TimeLimit: time.Minute,
		Backoff: runner.Exponential(10*time.Second, 10*time.Second),
		Work: func(ctx context.Context, job runner.Job) error {
			id, err := repositoryOf(job.Args)
			if err != nil {
				return err
			}
			return e.Poll(ctx, id)
		}}
}
