package ingestion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"kijko/db"
	"kijko/worker/gitfetch"
	"kijko/worker/graph"
	"kijko/worker/ingestion/spill"
	"kijko/worker/lease"
)

// run is one run in work. Its fields belong to the goroutine of execute, unless a comment says otherwise.
type run struct {
	e        *Engine
	t        *task
	store    *store
	log      *slog.Logger
	dir      *workdir
	owner    uuid.UUID
	progress *progress

	trees   map[uuid.UUID]*gitfetch.Tree
	fetched bool
	origins []*origin
	files   []file
	found   discovered
	left    leftOut // files that discovery left out
	input   string  // fingerprint of the input of discovery
	// checksums are those of uploads, by their keys.
	checksums map[string]string
	copies    []*os.File // locks of the copies of repositories that the run reads
	lastEdits []map[string]gitfetch.Change

	parsed     *spill.Reader
	kept       *spill.Reader // facts of files that an earlier run parsed and cut
	facts      *spill.Reader // facts of the others
	parse      parseOutcome
	parseInput string
	chunked    *spill.Reader
	chunk      chunkOutcome
	optimized  *optimizeOutcome
	exempt     map[string]string // contents by path of the files that the techniques treat otherwise than the run's own
	delta      *delta            // what an incremental run changes in the index; nil for a run that makes a new index
	counts     *wordCounts       // of the index whose terms phase 4 of this process has stored
	graph      *graph.Graph
}

func newRun(e *Engine, t *task, owner uuid.UUID, log *slog.Logger, lose context.CancelCauseFunc) *run {
	s := &store{pool: e.c.Pool, run: t.RunID, owner: owner}
	return &run{e: e, t: t, store: s, log: log, owner: owner, trees: map[uuid.UUID]*gitfetch.Tree{},
		progress: &progress{store: s, started: t.StartedAt, lost: lose, metrics: t.Metrics, attempt: t.Attempt}}
}

// close releases the local files; those of a completed run are deleted.
func (r *run) close(completed bool) {
	for _, reader := range []*spill.Reader{r.parsed, r.kept, r.facts, r.chunked} {
		if reader != nil {
			_ = reader.Close()
		}
	}
	for _, lock := range r.copies {
		_ = lock.Close()
	}
	if r.dir == nil {
		return
	}
	if err := r.dir.close(completed); err != nil {
		r.log.Warn("work directory could not be closed", "error", err)
	}
}

// execute does the remaining work of the run. nil: the run is completed. lease.ErrLost: another worker has it. The context's error:
// shutdown. Any other error: the row could not be written, and the next worker continues from it. A failed run is not an error here.
func (r *run) execute(ctx context.Context) error {
	from, err := phaseIndexOf(r.t.Phase)
	if err != nil {
		return err
	}
	if r.dir, err = openDir(r.e.c.WorkDir, r.t.Checkpoint.Work.String(), r.owner.String()); err != nil {
		return err
	}
	r.progress.phase = from
	stop, done := make(chan struct{}), sync.WaitGroup{}
	done.Go(func() { r.progress.run(ctx, stop) })
	quiet := sync.OnceFunc(func() { close(stop); done.Wait() })
	defer quiet()

	var result map[string]any
	steps := [phases]func(context.Context) error{
		r.runFetch, r.runParse, r.runChunk, r.runOptimize,
		func(ctx context.Context) (err error) { result, err = r.runIndex(ctx); return err },
	}
	for phase := from; phase < phases; phase++ {
		attempt := 1
		if phase == from {
			attempt = max(1, r.t.Attempt)
		}
		if err := r.attempts(ctx, phase, attempt, steps[phase]); err != nil {
			var f *Failure
			if ctx.Err() != nil || !errors.As(err, &f) {
				return err
			}
			quiet()
			return r.fail(ctx, phase, f)
		}
	}
	quiet()
	err = r.finish(ctx, result)
	if err == nil || ctx.Err() != nil || db.IsTransient(err) {
		return err
	}
	// What the database refuses once it refuses each successor too.
	return r.fail(ctx, phases-1, asFailure(phases-1, r.t.rule(phases-1).Code, err))
}

// fail ends the run. Its error is errFailed, unless the row could not be written.
func (r *run) fail(ctx context.Context, phase int, f *Failure) error {
	r.log.Warn("ingestion run failed", "phase", phaseInfos[phase].name, "error", f)
	if err := r.store.fail(ctx, f, r.t.Checkpoint); err != nil {
		return err
	}
	return errFailed
}

// errFailed means that the run ended as failed, and that its row says so.
var errFailed = errors.New("the run failed")

// attempts does one phase, and repeats it after failures that may pass. A *Failure is the end of the phase.
func (r *run) attempts(ctx context.Context, phase, attempt int, step func(context.Context) error) error {
	info, rule := phaseInfos[phase], r.t.rule(phase)
	for ; ; attempt++ {
		began := time.Now()
		if err := r.progress.begin(ctx, phase, attempt, info.start); err != nil {
			return err
		}
		err := step(ctx)
		r.log.Debug("phase done", "phase", info.name, "attempt", attempt, "seconds", time.Since(began).Seconds(), "error", err)
		if err == nil {
			// The end of a phase is always written, even of a very short one, so that the next phase starts from zero.
			r.progress.update(func(p *progress) { p.percent = 100 })
			return r.progress.flush(ctx, false)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, lease.ErrLost) {
			return err
		}
		if errors.Is(err, spill.ErrDamaged) {
			r.forget()
		}
		f := asFailure(phase, rule.Code, err)
		if !f.Retryable || attempt >= rule.Attempts {
			return f
		}
		pause := info.delay(attempt, f.After)
		r.log.Warn("phase failed, will be tried again", "phase", info.name, "attempt", attempt, "pause", pause, "error", f)
		// The client sees no error: the row shows only the next step.
		r.progress.update(func(p *progress) {
			p.message = fmt.Sprintf("%s Attempt %d of %d follows in %d s.", f.Message, attempt+1, rule.Attempts, max(1, int(pause.Round(time.Second)/time.Second)))
		})
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// forget drops the results on the disk: the next attempt makes them again.
func (r *run) forget() {
	for _, reader := range []**spill.Reader{&r.parsed, &r.kept, &r.facts, &r.chunked} {
		if *reader != nil {
			_ = (*reader).Close()
			*reader = nil
		}
	}
	for _, step := range []string{"discover", "parse", "chunk"} {
		if err := r.dir.forget(step); err != nil {
			r.log.Warn("checkpoint could not be dropped", "step", step, "error", err)
		}
	}
	r.files, r.origins = nil, nil
}

// workers is how many files are in work at once.
func (r *run) workers() int {
	if r.t.ProcessingOptions.Parallel {
		return r.e.c.Parsers
	}
	return 1
}

// fileLimit is the largest file of this run's memory class.
func (r *run) fileLimit() int64 {
	if r.t.Options.Memory == "large" {
		return 8 << 20
	}
	return 1 << 20
}
