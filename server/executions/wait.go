package executions

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"kijko/server/api"
	"kijko/server/realtime"
)

// askMost is the largest number of runs in one query.
const askMost = 1000

// waits are the requests of this process that wait for the end of a run.
type waits struct {
	s       Settings
	drained context.Context
	drain   context.CancelFunc
	asking  sync.WaitGroup

	mu      sync.Mutex
	byID    map[string]map[*ear]struct{}
	keeping bool
}

func newWaits(s Settings) *waits {
	w := &waits{s: s, byID: map[string]map[*ear]struct{}{}}
	w.drained, w.drain = context.WithCancel(context.Background())
	return w
}

func (w *waits) close() {
	// Under the lock: a request that starts keepAsking checks drained under it too.
	w.mu.Lock()
	w.drain()
	w.mu.Unlock()
	w.asking.Wait()
}

// chunk is a piece of a streaming run's text.
type chunk struct {
	Seq  int    `json:"seq"`
	Text string `json:"chunk"`
}

// ear receives the events of one user's room. It is made before the run is started, so that no event is missed, however quick the run is.
type ear struct {
	w    *waits
	stop func()
	// news signals that one of the fields below has changed.
	news chan struct{}

	mu      sync.Mutex
	id      string // "" until it is known
	early   []realtime.Event
	chunks  []chunk
	running bool
	ended   bool
}

// maxEarly bounds the events kept until the run's id is known, which takes milliseconds. Lost ends are found by queries.
const maxEarly = 256

func (w *waits) listen(userID string) *ear {
	e := &ear{w: w, stop: func() {}, news: make(chan struct{}, 1)}
	if w.s.Watch != nil {
		e.stop = w.s.Watch("user:"+userID, e.hear)
	}
	return e
}

// hear runs in the goroutine that serves all sockets: it only records the event.
func (e *ear) hear(v realtime.Event) {
	if v.Type != "execution_update" && v.Type != "execution_output" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.id == "" {
		if len(e.early) < maxEarly {
			e.early = append(e.early, v)
		}
		return
	}
	e.note(v)
}

func (e *ear) note(v realtime.Event) {
	var about struct {
		ExecutionID string `json:"executionId"`
		Status      string `json:"status"`
		chunk
	}
	if json.Unmarshal(v.Data, &about) != nil || about.ExecutionID != e.id {
		return
	}
	if v.Type == "execution_output" {
		e.chunks = append(e.chunks, about.chunk)
	} else {
		switch about.Status {
		case "running":
			e.running = true
		case "completed", "failed", "cancelled":
			e.ended = true
		}
	}
	e.ring()
}

func (e *ear) ring() {
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// follow sets the run to follow. ask says that it may have ended long ago and must be queried.
func (e *ear) follow(id string, ask bool) {
	e.mu.Lock()
	e.id = id
	for _, v := range e.early {
		e.note(v)
	}
	e.early = nil
	e.mu.Unlock()

	w := e.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byID[id] == nil {
		w.byID[id] = map[*ear]struct{}{}
	}
	w.byID[id][e] = struct{}{}
	if w.drained.Err() != nil {
		return
	}
	if ask {
		w.asking.Go(func() { w.ask(id) })
	}
	if !w.keeping {
		w.keeping = true
		w.asking.Go(w.keepAsking)
	}
}

// take returns the events since the last call.
func (e *ear) take() (chunks []chunk, running, ended bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	chunks, e.chunks = e.chunks, nil
	return chunks, e.running, e.ended
}

// await waits for the end of the run. It returns false when ctx ended or the server stops.
func (e *ear) await(ctx context.Context) bool {
	for {
		if _, _, ended := e.take(); ended {
			return true
		}
		select {
		case <-e.news:
		case <-ctx.Done():
			return false
		case <-e.w.drained.Done():
			return false
		}
	}
}

func (e *ear) close() {
	e.stop()
	w := e.w
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byID[e.id], e)
	if len(w.byID[e.id]) == 0 {
		delete(w.byID, e.id)
	}
}

// keepAsking is the fallback for the feed: it queries all awaited runs, until no request waits.
func (w *waits) keepAsking() {
	tick := time.NewTicker(w.s.Ask)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.drained.Done():
			return
		}
		w.mu.Lock()
		ids := make([]string, 0, len(w.byID))
		for id := range w.byID {
			ids = append(ids, id)
		}
		w.keeping = len(ids) > 0
		w.mu.Unlock()
		if len(ids) == 0 {
			return
		}
		for len(ids) > 0 {
			n := min(len(ids), askMost)
			w.ask(ids[:n]...)
			ids = ids[n:]
		}
	}
}

func (w *waits) ask(ids ...string) {
	ctx, cancel := context.WithTimeout(w.drained, 10*time.Second)
	defer cancel()
	answer, err := api.Serve(ctx, w.s.Exec, api.Request{ReadOnly: true}, "ended_executions", map[string][]string{"ids": ids})
	if err != nil {
		if w.drained.Err() == nil {
			w.s.Log.Warn("ends of executions could not be asked for", "error", err)
		}
		return
	}
	var ended []string
	if err := json.Unmarshal(answer.Body, &ended); err != nil {
		w.s.Log.Error("ends of executions cannot be read", "error", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ended {
		for e := range w.byID[id] {
			e.mu.Lock()
			e.ended = true
			e.ring()
			e.mu.Unlock()
		}
	}
}
