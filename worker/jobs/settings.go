package jobs

import (
	"context"
	"fmt"
	"log/slog"

	"kijko/server/config"
	"kijko/server/seal"
	"kijko/server/upload"
	"kijko/worker/storage"
)

// FromSettings makes a Worker from the installation's settings, for the worker program and for the server's development mode. close frees
// it; call it after Run.
func FromSettings(ctx context.Context, cfg config.Config, log *slog.Logger) (_ *Worker, close func() error, err error) {
	store, err := storage.Open(ctx, cfg.Storage())
	if err != nil {
		return nil, nil, err
	}
	unseal, err := unsealer(cfg)
	if err != nil {
		_ = store.Close()
		return nil, nil, err
	}
	w, err := New(ctx, Config{DSN: cfg.DatabaseWorker, DataDir: cfg.DataDir, Blobs: store, Hosts: cfg.Hosts(), Unseal: unseal, Slots: cfg.Slots,
		Grace: cfg.ShutdownGrace, Log: log})
	if err != nil {
		_ = store.Close()
		return nil, nil, err
	}
	return w, func() error {
		w.Close()
		return store.Close()
	}, nil
}

// unsealer opens webhook secrets; nil without keys.
func unsealer(cfg config.Config) (func(string) (string, error), error) {
	keys, err := cfg.EncryptionKeys()
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, nil
	}
	box, err := seal.New(keys...)
	if err != nil {
		return nil, err
	}
	return func(sealed string) (string, error) {
		plain, err := box.Open(upload.SecretPurpose, sealed)
		if err != nil {
			return "", fmt.Errorf("webhook secret: %w", err)
		}
		return string(plain), nil
	}, nil
}
