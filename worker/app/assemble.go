package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"kijko/worker/config"
	"kijko/worker/connections"
	"kijko/worker/embed"
	"kijko/worker/graph"
	"kijko/worker/jobs"
	"kijko/worker/keycloak"
	"kijko/worker/llm"
	"kijko/worker/mail"
	"kijko/worker/metering"
	"kijko/worker/neighbors"
	"kijko/worker/registry"
	"kijko/worker/seal"
	"kijko/worker/storage"
	"kijko/worker/stripe"
	"kijko/worker/vies"
)

// Assemble builds a Worker from the settings; the functions in changes may replace parts of them. Close the Worker
// after Run.
func Assemble(ctx context.Context, cfg config.Config, log *slog.Logger, changes ...func(*Config)) (*Worker, func() error, error) {
	keys, err := cfg.EncryptionKeys()
	if err != nil {
		return nil, nil, fmt.Errorf("ENCRYPTION_KEY: %w", err)
	}
	var unseal func(string) (string, error)
	var unsealKey func(uuid.UUID, string, string) (string, error)
	var box *seal.Box
	if len(keys) > 0 {
		if box, err = seal.New(keys...); err != nil {
			return nil, nil, fmt.Errorf("ENCRYPTION_KEY: %w", err)
		}
		unseal = func(sealed string) (string, error) {
			plain, err := box.Open(seal.ProjectWebhook, sealed)
			return string(plain), err
		}
		unsealKey = func(organizationID uuid.UUID, provider, sealed string) (string, error) {
			plain, err := box.Open(seal.ProviderKey(organizationID.String(), provider), sealed)
			return string(plain), err
		}
	}
	clients, err := cfg.Integrations()
	if err != nil {
		return nil, nil, fmt.Errorf("KIJKO_INTEGRATION_*: %w", err)
	}
	models, err := llm.New(cfg.Models())
	if err != nil {
		return nil, nil, err
	}
	var mailer jobs.Mailer
	if cfg.SMTPHost != "" {
		sender, err := mail.New(cfg.Mail())
		if err != nil {
			return nil, nil, fmt.Errorf("SMTP_*: %w", err)
		}
		mailer = sender
	}
	var provider jobs.Provider
	if admin := keycloak.New(cfg.Keycloak()); admin != nil {
		provider = admin
	}
	providers, err := connections.New(cfg.Connections())
	if err != nil {
		return nil, nil, fmt.Errorf("KIJKO_GIT_*: %w", err)
	}
	copies, err := graph.Open(cfg.Graph())
	if err != nil {
		return nil, nil, err
	}
	meter, err := metering.Open(cfg.Metering())
	if err != nil {
		return nil, nil, err
	}
	listed, err := neighbors.Open(cfg.Neighbors())
	if err != nil {
		return nil, nil, err
	}
	register, err := vies.New(cfg.VIES(), log)
	if err != nil {
		return nil, nil, err
	}
	store, err := storage.Open(ctx, cfg.Storage())
	if err != nil {
		return nil, nil, err
	}
	payments, err := stripe.New(cfg.Stripe(), log)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	c := Config{Register: register, Stripe: payments, Graph: copies, Neighbors: listed, Metering: meter, Traced: cfg.IsTraced(), DSN: cfg.DatabaseWorker, DataDir: cfg.DataDir, Blobs: store, Hosts: cfg.Hosts(), Unseal: unseal, Box: box, Connections: providers, Mailer: mailer, Provider: provider,
		Integrations: clients, IntegrationTimeout: cfg.IntegrationTimeout, Registry: registry.Source{URL: cfg.MCPRegistryURL, Max: cfg.MCPRegistryMax}, Models: models, Embed: embed.New(cfg.Embedding()), UnsealKey: unsealKey, Executions: cfg.Executions, Slots: cfg.Slots, Grace: cfg.ShutdownGrace, Log: log}
	for _, change := range changes {
		change(&c)
	}
	w, err := New(ctx, c)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	probed := make(chan struct{})
	probing, stop := context.WithCancel(ctx)
	go func() {
		defer close(probed)
		if err := store.Reachable(probing); err != nil && probing.Err() == nil {
			log.Error("files cannot be stored: see KIJKO_STORAGE_URL, and the room and the rights there", "error", err)
		}
	}()
	return w, func() error {
		stop()
		<-probed
		w.Close()
		return store.Close()
	}, nil
}
