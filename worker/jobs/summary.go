package jobs

import (
	"context"

	"kijko/worker/runner"
	"kijko/worker/summary"
)

// SummaryGenerate: {"jobId"}. Unique key summary.generate:<jobId>. A failure to take the lease is tried again every 5 s. A job always ends
// with a summary, an extractive one when no model writes it (package summary).
func SummaryGenerate(e *summary.Engine, slots int) runner.Lease {
	return runner.Lease{Name: "summary.generate", Queue: "summaries", Slots: slots,
		Claim: func(ctx context.Context, job runner.Job) (func(context.Context), error) {
			return e.Claim(ctx, job.Args)
		}}
}
