package reflexes

import (
	"context"
	"log/slog"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/semaphore"

	"kijko/server/api"
	"kijko/worker/condition"
	"kijko/worker/seal"
)

// Settings are the dependencies of New.
type Settings struct {
	Exec api.Runner
	// Box seals secrets; nil: webhooks cannot be made.
	Box *seal.Box
	// Tester calls models for tests of reflexes.
	Tester Tester
	Log    *slog.Logger
	// Refresh is how often this process reads which users' calls are watched; default 10 s.
	Refresh time.Duration
}

// Feature is reflexes' part of the edge.
type Feature struct {
	exec      api.Runner
	box       *seal.Box
	tester    Tester
	evaluator *condition.Evaluator
	log       *slog.Logger
	watcher   *watcher
	stopping  context.CancelFunc

	// genuine counts signed deliveries by reflex: it protects the database, which counts for all processes. failures counts wrong
	// signatures by sender and reflex, unknown counts addresses without a webhook by sender.
	genuine, failures, unknown *api.Limiter
	// recent holds the sealed secrets of reflexes that were looked up recently.
	recent  *expirable.LRU[string, string]
	lookups *semaphore.Weighted
}

// timeout bounds the database calls of one request.
const timeout = 15 * time.Second

// New makes a Feature and starts its goroutine.
func New(s Settings) (*Feature, error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.Refresh <= 0 {
		s.Refresh = 10 * time.Second
	}
	f := &Feature{exec: s.Exec, box: s.Box, tester: s.Tester, log: s.Log,
		genuine: api.NewLimiter(perMinute, time.Minute), failures: api.NewLimiter(failuresPerMinute, time.Minute), unknown: api.NewLimiter(failuresPerMinute, time.Minute),
		recent: expirable.NewLRU[string, string](recentKept, nil, recentFor), lookups: semaphore.NewWeighted(lookups)}
	var err error
	if f.evaluator, err = condition.NewEvaluator(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stopping = cancel
	f.watcher = newWatcher(s.Exec, f.evaluator, s.Log, s.Refresh)
	f.watcher.start(ctx)
	return f, nil
}

// Handlers returns the operations that this package answers, by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"createReflex":      f.create,
		"updateReflex":      f.update,
		"updateReflexPatch": f.update,
		"listReflexes":      f.open,
		"getReflex":         f.open,
		"getReflexFull":     f.open,
		"activateReflex":    f.open,
		"deactivateReflex":  f.open,
		"resetReflexErrors": f.open,
		"getReflexWebhook":  f.open,
		// A skill is shown with its reflexes of the caller.
		"getSkillFull":           f.open,
		"regenerateReflexSecret": f.regenerate,
		"testReflex":             f.test,
		"receiveDelivery":        f.receive,
		"receiveDeliveryByQuery": f.receive,
		"sendEvent":              f.send,
	}
}

// Close stops the goroutine of New.
func (f *Feature) Close() error {
	f.stopping()
	f.watcher.wait()
	return nil
}
