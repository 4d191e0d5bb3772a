// Package summary answers GET /contexts/{contextId}/summary. Reading writes nothing, so a summary that is stale is answered first of all, and
// its refresh is asked for by a call of its own, as the server. Only where a context has no summary at all does the request wait for it.
package summary

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"kijko/server/api"
	"kijko/worker/exactjson"
)

// Waiter holds a request until an operation has ended (*contexts.Feature).
type Waiter interface {
	Await(c *api.Call, operationID string) (ended bool, err error)
}

// Settings are the dependencies of a Feature. All are required.
type Settings struct {
	Exec api.Runner
	Wait Waiter
	Log  *slog.Logger
}

// Feature is the summary's part of the edge.
type Feature struct{ Settings }

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"getSummary": f.getSummary, "getSummaryAtAlias": f.getSummary}
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

func (f *Feature) getSummary(c *api.Call) error {
	ctx := c.Context()
	answer, err := c.Query(ctx, "get_summary", c.Params)
	if err != nil {
		return err
	}
	var known struct {
		Stale bool `json:"stale"`
	}
	if err := exactjson.Unmarshal(answer.Body, &known); err != nil {
		return fmt.Errorf("getSummary: %w", err)
	}
	if !known.Stale {
		return c.Reply(answer)
	}
	asked, err := api.Serve(ctx, f.Exec, api.Request{RequestID: c.RequestID}, "refresh_summary", json.RawMessage(c.Params))
	if err != nil {
		// The reader has what there is; the next one asks again.
		f.Log.Warn("a summary could not be refreshed", "error", err)
		return c.Reply(answer)
	}
	var refresh struct {
		OperationID string `json:"operationId"`
		Waits       bool   `json:"waits"`
	}
	if err := exactjson.Unmarshal(asked.Body, &refresh); err != nil {
		return fmt.Errorf("getSummary: %w", err)
	}
	if !refresh.Waits || refresh.OperationID == "" {
		return c.Reply(answer)
	}
	if ended, err := f.Wait.Await(c, refresh.OperationID); err != nil || !ended {
		return c.Reply(answer)
	}
	if answer, err = c.Query(ctx, "get_summary", c.Params); err != nil {
		return err
	}
	return c.Reply(answer)
}
