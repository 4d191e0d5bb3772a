package jobs

import (
	"context"

	"kijko/worker/dataexports"
	"kijko/worker/runner"
)

// DataExportsWrite: {"exportId"}. Unique key dataexports.write:<exportId>. A failure to take the lease is tried again every 5 s. Attempts at
// the file belong to the export (package dataexports): three, 20 s and 80 s apart, then it ends as failed and its person is told.
func DataExportsWrite(e *dataexports.Engine, slots int) runner.Lease {
	return runner.Lease{Name: "dataexports.write", Queue: "dataexports", Slots: slots,
		Claim: func(ctx context.Context, job runner.Job) (func(context.Context), error) {
			return e.Claim(ctx, job.Args)
		}}
}
