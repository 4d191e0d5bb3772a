// Command server is the HTTP and WebSocket edge of Kijko.
//
//	server            production: needs its settings (docs/settings.md), refuses to start without its secrets
//	server -dev       development: private database, demo tenant, server and worker in one process
//	server -settings  print the table of settings
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"kijko/server/app"
	"kijko/server/config"
	"kijko/worker/telemetry"
)

func main() {
	dev := flag.Bool("dev", false, "development: private database, server and worker in one process")
	settings := flag.Bool("settings", false, "print the table of settings and exit")
	flag.Parse()
	if *settings {
		fmt.Print(config.Table())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := serve
	if *dev {
		run = develop
	}
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context) error {
	cfg, err := config.Load()
	if err != nil {
		return err
	}
	log, flush := telemetry.NewLogger(os.Stderr, cfg.LogLevel)
	defer flush()
	tracing, err := telemetry.Start(ctx, cfg.Telemetry(), "kijko-server", log)
	if err != nil {
		return err
	}
	defer tracing.Close()
	server, err := app.New(ctx, cfg, app.Options{Log: log, Tracing: tracing})
	if err != nil {
		return err
	}
	log.Info("listening", "url", server.URL())
	return server.Run(ctx)
}
