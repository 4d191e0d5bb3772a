package reflexes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/worker/condition"
)

// watcher fires api_call reflexes after their owner's calls. For all other users a call costs a look-up in a map, which is renewed from
// time to time. Calls that do not fit into the queue are dropped, because the watcher must not delay a call.
type watcher struct {
	exec      api.Runner
	evaluator *condition.Evaluator
	log       *slog.Logger
	refresh   time.Duration
	owners    atomic.Pointer[map[string]struct{}]
	mu        sync.Mutex // guards writers of owners
	queue     chan call
	rates     *api.Limiter
	done      sync.WaitGroup
}

// call is the data about a call that a reflex gets.
type call struct {
	userID  string
	payload []byte
}

const (
	maxCalls = 256
	// maxCallBody bounds the stored part of a body; longer bodies are left out.
	maxCallBody = 64 << 10
)

func newWatcher(exec api.Runner, evaluator *condition.Evaluator, log *slog.Logger, refresh time.Duration) *watcher {
	w := &watcher{exec: exec, evaluator: evaluator, log: log, refresh: refresh, queue: make(chan call, maxCalls),
		rates: api.NewLimiter(perMinute, time.Minute)}
	w.owners.Store(&map[string]struct{}{})
	return w
}

func (w *watcher) start(ctx context.Context) { w.done.Go(func() { w.run(ctx) }) }
func (w *watcher) wait()                     { w.done.Wait() }

func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(w.refresh)
	defer tick.Stop()
	w.renew(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.renew(ctx)
		case c := <-w.queue:
			if err := w.fire(ctx, c); err != nil && ctx.Err() == nil {
				w.log.Warn("firing for a call", "error", err)
			}
		}
	}
}

// renew reads which users' calls are watched.
func (w *watcher) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer, err := w.exec.Run(ctx, &api.Request{AsServer: true, ReadOnly: true, SQL: api.ProcedureSQL("watched_callers()")})
	var ids []string
	if err == nil {
		err = json.Unmarshal(answer.Body, &ids)
	}
	if err != nil {
		w.log.Debug("asking whose calls are watched", "error", err)
		return
	}
	owners := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		owners[id] = struct{}{}
	}
	w.mu.Lock()
	w.owners.Store(&owners)
	w.mu.Unlock()
}

// watch adds a user at once, when this process has made the reflex.
func (w *watcher) watch(userID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	owners := maps.Clone(*w.owners.Load())
	owners[userID] = struct{}{}
	w.owners.Store(&owners)
}

// unwatched are the calls that never fire: sign-in, deliveries and events, and everything that runs a skill or a model.
var unwatched = regexp.MustCompile(`^/(auth|webhooks|events|analytics|ai|support|executions|skill-executions|oauth)(/|$)|/(execute|run|run-now|test|retry)$`)

// Called is called for each call of a user that was not refused.
func (f *Feature) Called(c *api.Call) {
	w := f.watcher
	if _, ok := (*w.owners.Load())[c.Caller.UserID]; !ok {
		return
	}
	path := condition.BarePath(c.Ctx.Path())
	if unwatched.MatchString(path) {
		return
	}
	if !w.rates.Take(c.Caller.UserID) {
		return
	}
	payload, err := callPayload(c, path)
	if err != nil {
		return
	}
	select {
	case w.queue <- call{strings.Clone(c.Caller.UserID), payload}:
	default:
	}
}

func callPayload(c *api.Call, path string) ([]byte, error) {
	values, err := url.ParseQuery(string(c.Ctx.Request().URI().QueryString()))
	if err != nil {
		return nil, err
	}
	query := make(map[string]any, len(values))
	for name, list := range values {
		if query[name] = list; len(list) == 1 {
			query[name] = list[0]
		}
	}
	return json.Marshal(map[string]any{"method": c.Ctx.Method(), "endpoint": path, "query": query, "body": hideSecrets(c.Body),
		"timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z")})
}

// secretName matches members that a run must not store: a run is kept for weeks, and is sent to a model.
var secretName = regexp.MustCompile(`(?i)(password|passwd|secret|token|api_?key|credential|authorization|^key$|^code$)`)

// hideSecrets returns a body without the members whose names mark a secret.
func hideSecrets(body []byte) any {
	if len(body) == 0 || len(body) > maxCallBody {
		return map[string]any{}
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	var value any
	if d.Decode(&value) != nil {
		return map[string]any{}
	}
	hide(value)
	return value
}

func hide(value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if secretName.MatchString(name) {
				v[name] = "[hidden]"
				continue
			}
			hide(member)
		}
	case []any:
		for _, item := range v {
			hide(item)
		}
	}
}

// fire evaluates one call against its owner's reflexes.
func (w *watcher) fire(ctx context.Context, c call) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	payload, err := condition.ParsePayload(c.payload)
	if err != nil {
		return err
	}
	user, err := uuid.Parse(c.userID)
	if err != nil {
		return err
	}
	payer := &api.Caller{UserID: c.userID}
	answer, err := w.exec.Run(ctx, &api.Request{AsServer: true, Payer: payer, ReadOnly: true, SQL: api.ProcedureSQL("waiting_reflexes($1, 'api_call')"),
		Args: []any{user}})
	if err != nil {
		return err
	}
	var list []waiting
	if err := json.Unmarshal(answer.Body, &list); err != nil {
		return fmt.Errorf("waiting_reflexes: %w", err)
	}
	matched := matching(w.evaluator, list, condition.Event{TriggerType: "api_call", Payload: payload})
	if len(matched) == 0 {
		return nil
	}
	_, err = w.exec.Run(ctx, &api.Request{AsServer: true, Payer: payer, SQL: api.ProcedureSQL("fire_reflexes($1, 'api_call', $2, $3)"),
		Args: []any{user, matched, c.payload}})
	return err
}
