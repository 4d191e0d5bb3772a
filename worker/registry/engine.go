// Package registry connects the MCP servers of organizations and synchronizes the registry of servers that are offered (contract 60, sections
// 17.1 and 17.2). Handshakes and the guard of addresses are those of package integrations.
//
// An Engine is safe for concurrent use. It holds no connection to the database while it waits for another system.
package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/integrations"
	"kijko/worker/lease"
	"kijko/worker/seal"
)

const (
	// connectTime bounds one attempt to connect a server.
	connectTime = 10 * time.Second
	// leaseTime is how long a worker has a server before another worker gets it.
	leaseTime = 30 * time.Second
	// syncTime bounds one synchronization of the registry, and pageTime each page of it.
	syncTime, pageTime = 5 * time.Minute, 10 * time.Second
)

// Source is the registry to synchronize.
type Source struct {
	// URL is the base of its API; empty: none.
	URL string
	// Max is how many of its servers are taken.
	Max int
}

// Engine works the queue "registry".
type Engine struct {
	pool    *pgxpool.Pool
	process *lease.Process
	box     *seal.Box
	guard   *integrations.Guard
	source  Source
	log     *slog.Logger
}

// New makes an Engine. Without a box servers with headers cannot be connected.
func New(pool *pgxpool.Pool, process *lease.Process, box *seal.Box, guard *integrations.Guard, source Source, log *slog.Logger) *Engine {
	return &Engine{pool: pool, process: process, box: box, guard: guard, source: source, log: log}
}

// task is a server to connect, or a synchronization.
type task struct {
	Kind   string    `json:"kind"`
	ID     uuid.UUID `json:"id"`
	Token  uuid.UUID `json:"token"`
	URL    string    `json:"url"`
	Sealed string    `json:"sealed"`
}

// Take leases waiting servers, and takes a waiting synchronization.
func (e *Engine) Take(ctx context.Context, n int) (works []func(context.Context), seen int, err error) {
	rows, err := e.pool.Query(ctx, "select private.take_registry_work($1, $2, $3)", n, int(leaseTime.Seconds()), e.process.ID())
	if err != nil {
		return nil, 0, fmt.Errorf("take work of the registry: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, 0, fmt.Errorf("take work of the registry: %w", err)
	}
	for _, raw := range found {
		if raw == nil {
			continue
		}
		var t task
		if err := json.Unmarshal(raw, &t); err != nil {
			return nil, 0, fmt.Errorf("read work of the registry: %w", err)
		}
		if t.Kind == "sync" {
			works = append(works, e.sync)
			continue
		}
		works = append(works, func(ctx context.Context) { e.connect(ctx, t) })
	}
	return works, len(found), nil
}

// outcome is what private.finish_mcp_server takes.
type outcome struct {
	ID      uuid.UUID `json:"id"`
	Token   uuid.UUID `json:"token"`
	OK      bool      `json:"ok"`
	Version string    `json:"version,omitempty"`
	Tools   []string  `json:"tools,omitempty"`
	Message string    `json:"message,omitempty"`
	IsFinal bool      `json:"isFinal,omitempty"`
}

// connect makes one attempt. It is shorter than the grace time, so at shutdown it is finished.
func (e *Engine) connect(ctx context.Context, t task) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTime)
	defer cancel()
	ctx, release := e.process.Context(ctx, t.Token)
	defer release()
	result := outcome{ID: t.ID, Token: t.Token}
	headers, err := Open(e.box, t.ID.String(), t.Sealed)
	if err != nil {
		result.Message, result.IsFinal = "The stored headers cannot be opened. Delete the server, and add it again.", true
	} else {
		attempt, done := context.WithTimeout(ctx, connectTime)
		h := e.guard.Test(attempt, integrations.Server{URL: t.URL, Secrets: integrations.Secrets{Headers: headers}, Timeout: connectTime})
		done()
		result.OK, result.Version, result.Message, result.IsFinal = h.OK, db.Text(h.Version), h.Message, h.Forbidden
		for _, name := range h.Names {
			result.Tools = append(result.Tools, db.Text(name))
		}
	}
	// Without its result the attempt ends with the lease, and the next worker makes another one.
	if _, err := e.pool.Exec(ctx, "select private.finish_mcp_server($1)", result); err != nil {
		e.log.Error("the result of connecting an MCP server could not be kept", "server", t.ID, "error", err)
	}
}

// Seal seals the headers of a server.
func Seal(box *seal.Box, id string, headers map[string]string) (string, error) {
	plain, err := json.Marshal(headers)
	if err != nil {
		return "", err
	}
	return box.Seal(seal.MCPServer(id), plain)
}

// Open opens the headers of a server; a server may have none.
func Open(box *seal.Box, id, sealed string) (headers map[string]string, err error) {
	if sealed == "" {
		return nil, nil
	}
	if box == nil {
		return nil, seal.ErrOpen
	}
	plain, err := box.Open(seal.MCPServer(id), sealed)
	if err == nil {
		err = json.Unmarshal(plain, &headers)
	}
	return headers, err
}
