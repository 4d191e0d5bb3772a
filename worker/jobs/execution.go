package jobs

import (
	"kijko/worker/executions"
	"kijko/worker/runner"
)

// ExecutionsRun: {"executionId"}. No unique key: one job is enqueued with each execution, and a second one finds nothing to do. A claim
// that fails unexpectedly is tried five times, 1 s to 8 s apart. Then the run has failed and its job is a dead letter. Attempts, backoff
// and time limits of the model call belong to the run (packages executions and llm; contract 20, section 6).
func ExecutionsRun(e *executions.Engine, slots int) runner.Batch {
	return runner.Batch{Name: "executions.run", Queue: "executions", Slots: slots, Take: e.Take}
}
