package jobs

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/audit"
	"kijko/worker/runner"
	"kijko/worker/storage"
)

// exportLimit is above the size of the largest export: 50,000 entries of the largest kind.
const exportLimit = 2 << 30

// AuditExport: {"scheduleId", "runAt"}. Writes the file of one run of a scheduled export of the audit log and mails the link to it. Unique
// key audit.export:<scheduleId>:<runAt>; 8 attempts, 1 min to 1 h, some hours in all. After that this run is left out, and the next one
// comes at its time. The key of the content is noted before the content is written. So a worker that dies in between leaves no content
// behind: the worker that repeats the run deletes it. Only the worker that noted the key last may finish, so a run has one file and one
// mail.
func AuditExport(pool *pgxpool.Pool, blobs Blobs) runner.Type {
	return runner.Type{Name: "audit.export", Unique: "audit.export:<scheduleId>:<runAt>", Attempts: 8, TimeLimit: 10 * time.Minute,
		Backoff: runner.Exponential(time.Minute, time.Hour),
		Work: func(ctx context.Context, job runner.Job) error {
			var run struct {
				ScheduleID string `json:"scheduleId"`
				RunAt      string `json:"runAt"`
			}
			if err := json.Unmarshal(job.Args, &run); err != nil {
				return runner.Permanent(fmt.Errorf("arguments: %w", err))
			}
			key, err := storage.NewKey()
			if err != nil {
				return err
			}
			var begun *struct {
				Format string `json:"format"`
			}
			arguments := map[string]any{"scheduleId": run.ScheduleID, "runAt": run.RunAt, "key": key}
			if err := pool.QueryRow(ctx, "select private.begin_audit_export($1)", arguments).Scan(&begun); err != nil {
				return fmt.Errorf("begin: %w", err)
			}
			if begun == nil {
				return nil
			}
			if err := writeExport(ctx, pool, blobs, key, begun.Format, run.ScheduleID, run.RunAt); err != nil {
				return err
			}
			token := make([]byte, 32)
			if _, err := rand.Read(token); err != nil {
				return fmt.Errorf("draw a token: %w", err)
			}
			arguments["token"] = base64.RawURLEncoding.EncodeToString(token)
			var finished bool
			if err := pool.QueryRow(ctx, "select private.finish_audit_export($1)", arguments).Scan(&finished); err != nil {
				return fmt.Errorf("finish: %w", err)
			}
			return nil
		}}
}

func writeExport(ctx context.Context, pool *pgxpool.Pool, blobs Blobs, key, format, scheduleID, runAt string) error {
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = w.CloseWithError(audit.Write(ctx, w, format, func(ctx context.Context, after json.RawMessage) (audit.Page, error) {
			var page *audit.Page
			err := pool.QueryRow(ctx, "select private.scheduled_audit_page($1)", map[string]any{"scheduleId": scheduleID, "runAt": runAt, "after": after}).Scan(&page)
			if err == nil && page == nil {
				err = errors.New("the schedule was deleted meanwhile")
			}
			if err != nil {
				return audit.Page{}, fmt.Errorf("read entries: %w", err)
			}
			return *page, nil
		}))
	}()
	_, err := blobs.PutAs(ctx, key, r, exportLimit)
	_ = r.Close()
	<-written
	if err != nil {
		return fmt.Errorf("store the file: %w", err)
	}
	return nil
}
