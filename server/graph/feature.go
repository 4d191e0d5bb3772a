// Package graph reads knowledge graphs from their copy in FalkorDB while that holds the current generation, and else from Postgres, which
// checks access in either case; and it draws pictures of graphs. Without such a copy the operations are SQL alone.
//
// A Feature is safe for concurrent use and starts no goroutine.
package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/worker/exactjson"
	"kijko/worker/graph"
)

const (
	// patience is how long a read waits for the copy before Postgres answers.
	patience = time.Second
	// rest is how long the copy is not asked after it failed, so that reads do not all wait for a store that is down.
	rest = 5 * time.Second
)

// Feature is the graph's part of the edge. Copies is nil when graphs are in Postgres alone, or in a store that answers no read.
type Feature struct {
	Exec   api.Runner
	Copies graph.Reader
	Log    *slog.Logger

	failed atomic.Int64 // when the copy failed, in Unix nanoseconds
}

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	handlers := map[string]api.Handler{}
	for _, alias := range []string{"", "AtAlias"} {
		handlers["drawKnowledgeGraph"+alias] = f.draw
		if f.Copies != nil {
			for _, id := range []string{"getKnowledgeGraph", "getGraphNode", "getGraphPath"} {
				handlers[id+alias] = f.read
			}
		}
	}
	return handlers
}

// Close ends the connections to the copy.
func (f *Feature) Close() error {
	if f.Copies != nil {
		return f.Copies.Close()
	}
	return nil
}

// prepared is what api.prepare_graph_read answers.
type prepared struct {
	ContextID   uuid.UUID    `json:"contextId"`
	Generation  int          `json:"generation"`
	GeneratedAt string       `json:"generatedAt"`
	Filter      graph.Filter `json:"filter"`
}

type meta struct {
	TotalNodes  int    `json:"totalNodes"`
	TotalLinks  int    `json:"totalLinks"`
	Truncated   bool   `json:"truncated"`
	Generation  int    `json:"generation"`
	GeneratedAt string `json:"generatedAt,omitempty"`
	Backend     string `json:"backend"`
}

// read asks the copy after Postgres has checked the caller. Whatever is wrong with the copy, Postgres answers.
func (f *Feature) read(c *api.Call) error {
	answer, err := f.copied(c)
	if err != nil {
		return err
	}
	if answer != nil {
		return c.JSON(answer)
	}
	stored, err := c.Query(c.Context(), c.Op.Function, c.Params)
	if err != nil {
		return err
	}
	return c.Reply(stored)
}

// copied answers nil when Postgres is to answer.
func (f *Feature) copied(c *api.Call) (any, error) {
	if time.Since(time.Unix(0, f.failed.Load())) < rest {
		return nil, nil
	}
	found, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.CallSQL("prepare_graph_read"), Args: []any{c.Params}, ReadOnly: true,
		Needs: c.Op.Scope, RequestID: c.RequestID, ClientIP: c.ClientIP, Device: c.Device})
	if err != nil {
		return nil, err
	}
	var p prepared
	if err := json.Unmarshal(found.Body, &p); err != nil {
		return nil, err
	}
	if p.Generation == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	answer, err := f.ask(ctx, c, &p)
	switch {
	case err == nil:
		return answer, nil
	case errors.Is(err, graph.ErrStale):
		// Not by the Call: its transaction is a read's.
		if _, err := f.Exec.Run(c.Context(), &api.Request{AsServer: true, SQL: api.ServerSQL("queue_graph_mirror"), Args: []any{fmt.Sprintf(`{"contextId": %q}`, p.ContextID)},
			RequestID: c.RequestID}); err != nil {
			f.Log.Warn("the copy of a graph is old, and its renewal could not be asked for", "context", p.ContextID, "error", err)
		}
	case c.Context().Err() == nil:
		f.failed.Store(time.Now().UnixNano())
		f.Log.Warn("the copy of a graph could not be read; Postgres answers", "context", p.ContextID, "error", err)
	}
	return nil, nil
}

func (f *Feature) ask(ctx context.Context, c *api.Call, p *prepared) (any, error) {
	var q struct {
		NodeID string `json:"nodeId"`
		Depth  *int   `json:"depth"`
		Limit  *int   `json:"limit"`
		From   string `json:"from"`
		To     string `json:"to"`
	}
	if err := exactjson.Unmarshal(c.Params, &q); err != nil {
		return nil, err
	}
	m := meta{Generation: p.Generation, GeneratedAt: p.GeneratedAt, Backend: f.Copies.Name()}
	switch c.Op.Function {
	case "get_graph_node":
		depth, limit := 1, 200
		if q.Depth != nil {
			depth = *q.Depth
		}
		if q.Limit != nil {
			limit = *q.Limit
		}
		a, err := f.Copies.Neighbors(ctx, p.ContextID, p.Generation, canonical(q.NodeID), depth, limit)
		if err != nil {
			return nil, err
		}
		return map[string]any{"node": a.Nodes[0], "neighbors": a.Rest, "links": a.Links}, nil
	case "get_graph_path":
		a, err := f.Copies.Path(ctx, p.ContextID, p.Generation, canonical(q.From), canonical(q.To))
		if err != nil {
			return nil, err
		}
		m.TotalNodes, m.TotalLinks = a.TotalNodes, a.TotalLinks
		return map[string]any{"nodes": a.Nodes, "links": a.Links, "meta": m}, nil
	}
	a, err := f.Copies.Read(ctx, p.ContextID, p.Generation, p.Filter)
	if err != nil {
		return nil, err
	}
	if a.Nodes == nil {
		a.Nodes = []graph.NodeRow{}
	}
	m.TotalNodes, m.TotalLinks, m.Truncated = a.TotalNodes, a.TotalLinks, a.TotalNodes > len(a.Nodes)
	return map[string]any{"nodes": a.Nodes, "links": a.Links, "meta": m}, nil
}

// canonical writes an id as the copy has it; Postgres has checked that it is one.
func canonical(id string) string {
	if u, err := uuid.Parse(id); err == nil {
		return u.String()
	}
	return id
}
