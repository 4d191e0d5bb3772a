// Command worker works the queue: ingestion runs, clean-up, schedules. Any number of workers share a database. Its settings are those
// of the server (`server -settings`); it needs DATABASE_WORKER_URL.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"kijko/worker/app"
	"kijko/worker/config"
	"kijko/worker/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	cfg, err := config.Load()
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	log, flush := telemetry.NewLogger(os.Stderr, cfg.LogLevel)
	defer flush()
	tracing, err := telemetry.Start(ctx, cfg.Telemetry(), "kijko-worker", log)
	if err != nil {
		return err
	}
	defer tracing.Close()
	app.LimitMemory(cfg.MemoryMB)
	w, closeWorker, err := app.Assemble(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeWorker()) }()
	log.Info("working", "jobs", w.Names())
	return w.Run(ctx)
}
