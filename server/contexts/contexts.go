// Package contexts answers the operations of contexts that need more than one SQL function: those that wait for background work (x-wait of
// the document), those that store content first, and the diff of two versions.
//
// # Concurrency and shutdown
//
// A waiting request holds no connection to the database. realtime's feed tells it of the end; as a fallback it asks every two seconds.
// Drain makes waiting requests answer with what is known.
package contexts

import (
	"context"
	"log/slog"
	"maps"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/server/realtime"
)

// Settings are the dependencies of a Feature. Exec and Uploads are required.
type Settings struct {
	Exec    api.Runner
	Uploads Uploads
	// Watch follows a room (realtime.Server.Watch); nil: ends are found by queries.
	Watch func(room string, f func(realtime.Event)) (stop func())
	// Ask is the interval of the fallback query; default 2 s.
	Ask time.Duration
	// Wait is how long a request waits for its work, at most 25 s.
	Wait time.Duration
	Log  *slog.Logger
}

// Feature is the contexts' part of the edge.
type Feature struct {
	s       Settings
	drained context.Context
	drain   context.CancelFunc
	// counted are lines between two contents, by their hashes.
	counted *lru.Cache[string, counts]
}

// New starts nothing.
func New(s Settings) (*Feature, error) {
	if s.Ask <= 0 {
		s.Ask = 2 * time.Second
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	counted, err := lru.New[string, counts](keptCounts)
	if err != nil {
		return nil, err
	}
	f := &Feature{s: s, counted: counted}
	f.drained, f.drain = context.WithCancel(context.Background())
	return f, nil
}

// Handlers returns the operations that this package answers by itself. Those with x-wait get their handler from Waiting.
func (f *Feature) Handlers() map[string]api.Handler {
	handlers := map[string]api.Handler{"createIngestion": f.ingest(intoContext), "createIngestionAtIngest": f.ingest(intoContext), "createContext": f.ingest(newContext),
		"attachIngestionContent": f.ingest(intoEntry), "listChangelog": f.changelog, "getChangelogEntry": f.changelogEntry, "diffIngestion": f.diff,
		"diffVersions": f.diff, "rollBackContext": f.rollBack, "addSources": f.addSources}
	aliased := maps.Clone(handlers)
	for id, handler := range handlers {
		aliased[id+openapi.AtAlias] = handler
	}
	return aliased
}

// Waiting returns the handler of an operation with x-function and x-wait: it calls the one, and the other when the work has ended.
func (f *Feature) Waiting(op *openapi.Operation) api.Handler {
	return func(c *api.Call) error {
		answer, err := c.Query(c.Context(), op.Function, c.Params)
		if err != nil {
			return err
		}
		return f.Finish(c, answer)
	}
}

// Drain makes waiting requests answer with what is known, because the server stops.
func (f *Feature) Drain() { f.drain() }

// Close ends waiting requests that Drain did not.
func (f *Feature) Close() error {
	f.drain()
	return nil
}
