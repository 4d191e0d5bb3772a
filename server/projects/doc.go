// Package projects holds the operations of projects that use more than Postgres: files, whose content goes to the blob store, and webhook
// secrets, which are encrypted before they are stored.
//
// Content is streamed part by part into the store; a file is never in memory as a whole. Then one SQL call registers everything, in one
// transaction with counters, quota, events and audit. Content that this call refuses is deleted again. When it is unknown whether the call
// was committed (the connection broke), nothing is deleted: content without a row costs space, a row without content loses data.
//
// Handlers are safe for concurrent use and start no goroutines.
package projects

import (
	"context"
	"fmt"
	"log/slog"

	"kijko/server/api"
	"kijko/worker/seal"
	"kijko/worker/storage"
)

// Settings are the parts of the configuration that New needs.
type Settings struct {
	// Storage is the address of the blob store: file:///path or s3://bucket?...
	Storage string
	// Keys of 32 bytes encrypt secrets; the first one seals. Without keys, new webhook addresses are refused.
	Keys [][]byte
}

// Feature is projects' part of the edge. Close it after the last request.
type Feature struct {
	store *storage.Store
	box   *seal.Box
	log   *slog.Logger
}

// New opens the store.
func New(ctx context.Context, s Settings, log *slog.Logger) (*Feature, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Feature{log: log}
	var err error
	if len(s.Keys) > 0 {
		if f.box, err = seal.New(s.Keys...); err != nil {
			return nil, fmt.Errorf("ENCRYPTION_KEY: %w", err)
		}
	}
	if f.store, err = storage.Open(ctx, s.Storage); err != nil {
		return nil, err
	}
	return f, nil
}

// Handlers returns the handlers by operationId.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"uploadFiles":                f.uploadFiles,
		"createTextSource":           f.createTextSource,
		"createProject":              f.withSecret("create_project"),
		"updateProjectSettings":      f.withSecret("update_project_settings"),
		"updateProjectSettingsPatch": f.withSecret("update_project_settings"),
	}
}

// Store returns the open store, for the health check.
func (f *Feature) Store() *storage.Store { return f.store }

// Close closes the store.
func (f *Feature) Close() error { return f.store.Close() }
