package ingestion

import (
	"context"
	"sync"
	"time"
)

// reportEvery is the contract's interval (10-projects 17.7): at most two reports a second.
const reportEvery = 500 * time.Millisecond

// progress collects the reports of the phases and writes them to the run's row, at most twice a second. The last value is never lost.
// It is safe for concurrent use.
type progress struct {
	store   *store
	started time.Time
	lost    func(error)

	// sending keeps reports in order; it is taken before mu.
	sending sync.Mutex
	mu      sync.Mutex
	phase   int
	attempt int
	percent int
	message string
	metrics metrics
	detail  func() (string, any) // phaseNData, made when it is written
	changed bool
	quiet   bool // an earlier phase is being repeated silently: no progress is shown
}

// run writes until stop is closed.
func (p *progress) run(ctx context.Context, stop <-chan struct{}) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := p.flush(ctx, false); err != nil && ctx.Err() == nil {
				p.lost(err)
				return
			}
		}
	}
}

// begin starts a phase (or an attempt of it) in the row, at once.
func (p *progress) begin(ctx context.Context, phase, attempt int, message string) error {
	p.mu.Lock()
	p.phase, p.attempt, p.percent, p.message, p.changed, p.detail = phase, attempt, 0, message, true, nil
	p.mu.Unlock()
	return p.flush(ctx, true)
}

// update changes the shown progress; it returns at once.
func (p *progress) update(change func(*progress)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet {
		return
	}
	change(p)
	p.percent = min(max(p.percent, 0), 100)
	p.changed = true
}

// silently runs work without showing its progress.
func (p *progress) silently(work func() error) error {
	p.mu.Lock()
	was := p.quiet
	p.quiet = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.quiet = was
		p.mu.Unlock()
	}()
	return work()
}

// snapshot is the report in the database's form; false if nothing changed.
func (p *progress) snapshot(force bool) (map[string]any, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.changed && !force {
		return nil, false
	}
	p.changed = false
	report := map[string]any{"phase": phaseInfos[p.phase].name, "attempt": p.attempt, "progressPercent": p.percent,
		"message": p.message, "metrics": p.metrics}
	if at, ok := p.estimate(time.Now()); ok {
		report["estimatedCompletionAt"] = at.UTC().Format(time.RFC3339Nano)
	}
	if p.detail != nil {
		if name, data := p.detail(); data != nil {
			report["detail"] = map[string]any{name: data}
		}
	}
	return report, true
}

// estimate computes the end time from the completed share.
func (p *progress) estimate(now time.Time) (time.Time, bool) {
	done := 0.0
	for i := range p.phase {
		done += phaseInfos[i].share
	}
	done += phaseInfos[p.phase].share * float64(p.percent) / 100
	elapsed := now.Sub(p.started)
	if done < 0.05 || elapsed <= 0 {
		return time.Time{}, false
	}
	return now.Add(time.Duration(float64(elapsed) * (1 - done) / done)), true
}

func (p *progress) flush(ctx context.Context, force bool) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	report, ok := p.snapshot(force)
	if !ok {
		return nil
	}
	return p.store.report(ctx, report)
}
