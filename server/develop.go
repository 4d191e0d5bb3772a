package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"kijko/server/app"
	"kijko/server/config"
	"kijko/server/dev"
	"kijko/supabase"
	work "kijko/worker/app"
	"kijko/worker/telemetry"
)

// develop is `make run`: all programs in one process, on a private database.
func develop(ctx context.Context) (err error) {
	cfg, err := config.Load()
	if err != nil {
		return err
	}
	log, flush := telemetry.NewLogger(os.Stderr, cfg.LogLevel)
	defer flush()
	tracing, err := telemetry.Start(ctx, cfg.Telemetry(), "kijko-dev", log)
	if err != nil {
		return err
	}
	defer tracing.Close()
	// The port comes first: a port that is taken should not cost the set-up of a database.
	listener, err := app.Listen(cfg.Addr)
	if err != nil {
		return errors.Join(err, dev.Owner(cfg))
	}
	cfg.ListenAt(listener.Addr().String())
	say := func(text string) { fmt.Println(text) }
	closeDatabase, err := dev.Prepare(ctx, &cfg, supabase.Seed, log, say)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer func() { err = errors.Join(err, closeDatabase(context.WithoutCancel(ctx))) }()

	offer, stopGit := offerDemo(ctx, &cfg)
	defer stopGit()
	options := app.Options{Log: log, Greeting: map[string]any{"demo": offer}, Listener: listener, Tracing: tracing}
	change, mails := func(*work.Config) {}, "at "+cfg.SMTPHost
	if cfg.SMTPHost == "" {
		box := &dev.Mailbox{}
		options.Mailbox, change, mails = box, func(c *work.Config) { c.Mailer = box }, "http://"+listener.Addr().String()+dev.MailPath
		offer["mails"] = dev.MailPath
	}
	server, err := app.New(ctx, cfg, options)
	if err != nil {
		return err
	}
	work.LimitMemory(cfg.MemoryMB)
	worker, closeWorker, err := work.Assemble(ctx, cfg.Config, log, change)
	if err != nil {
		server.Close()
		return err
	}
	defer func() { err = errors.Join(err, closeWorker()) }()
	fmt.Printf(`
  Kijko         %[1]s
  API           %[1]s/docs
  demo login    %[2]s  %[3]s
  mails         %[4]s
  try           make demo   (in a second terminal)

`, server.URL(), dev.DemoEmail, dev.DemoPassword, mails)
	// If one of the two ends, both end; the database stops last.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- worker.Run(ctx)
	}()
	err = server.Run(ctx)
	cancel()
	return errors.Join(err, <-done)
}

// offerDemo returns what the greeting tells of the demo. It serves a copy of this checkout as a Git repository, so that there is a real one to
// ingest and to push to without a network.
func offerDemo(ctx context.Context, cfg *config.Config) (offer map[string]string, stop func()) {
	offer, stop = map[string]string{}, func() {}
	if dev.HasDemo(*cfg) {
		offer["email"], offer["password"] = dev.DemoEmail, dev.DemoPassword
		if len(cfg.StripeWebhookSecrets) == 0 {
			// Made at each start, so that the demo can pay without Stripe. One that is set stays with its operator.
			cfg.StripeWebhookSecrets = []string{"whsec_" + rand.Text()}
			offer["webhookSecret"] = cfg.StripeWebhookSecrets[0]
		}
	}
	if base, stopHost, ok := dev.StartGitHost(ctx, "."); ok {
		stop = stopHost
		cfg.GitHosts = append(cfg.GitHosts, dev.GitHostName+"=gitlab@"+base)
		offer["repository"], offer["provider"] = "https://"+dev.GitHostName+"/kijko/kijko", "gitlab"
		offer["branch"], offer["push"] = "main", base+"/kijko/kijko"
	}
	return offer, stop
}
