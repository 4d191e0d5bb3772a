// Package dev prepares the environment of `make run` on a fresh machine: a private PostgreSQL (or the one of DATABASE_URL), the schema, the
// demo tenant, a key for secrets at rest, and a small Git host that serves this checkout, so that there is a real repository to try without
// a network. None of it is used in production.
package dev

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/server/config"
)

// The demo tenant of supabase/seed.sql.
const (
	DemoEmail    = "demo@kijko.local"
	DemoPassword = "demo-password"
)

// Prepare fills the settings that development needs and brings the database up to date. The caller must close the result last.
func Prepare(ctx context.Context, c *config.Config, seed string, log *slog.Logger, say func(string)) (closer func(context.Context) error, err error) {
	c.Debug = true
	c.AdmitLoopback()
	closer = func(context.Context) error { return nil }
	owner := c.Database
	if owner == "" {
		cluster, err := devpg.Start(ctx, devpg.Options{DataDir: c.DataDir, Log: log, Progress: say})
		if err != nil {
			return nil, err
		}
		closer = cluster.Stop
		if _, err := cluster.EnsureDatabase(ctx, "kijko"); err != nil {
			return nil, errors.Join(err, cluster.Stop(context.WithoutCancel(ctx)))
		}
		owner = cluster.DSN(devpg.Superuser, "kijko")
		c.Database, c.DatabaseWorker = cluster.DSN("kijko_server", "kijko"), cluster.DSN("kijko_worker", "kijko")
		c.DatabaseDirect = c.Database
	}
	if !local(owner) {
		seed = "" // a remote database gets no demo account: its password is public
	}
	if err := setup(ctx, owner, seed); err != nil {
		return nil, errors.Join(err, closer(context.WithoutCancel(ctx)))
	}
	if c.EncryptionKey == "" {
		if c.EncryptionKey, err = keptKey(filepath.Join(c.DataDir, "encryption-key")); err != nil {
			return nil, errors.Join(err, closer(context.WithoutCancel(ctx)))
		}
	}
	return closer, nil
}

// HasDemo reports whether the prepared database has the demo person.
func HasDemo(c config.Config) bool { return local(c.Database) }

// Owner returns the process that has already started c's private database, if there is one. The port of a second start is then taken too.
func Owner(c config.Config) error {
	if c.Database != "" {
		return nil
	}
	return devpg.Holder(c.DataDir)
}

// local reports whether a database address is on this machine.
func local(dsn string) bool {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(c.Host)
	return strings.HasPrefix(c.Host, "/") || c.Host == "localhost" || (err == nil && addr.IsLoopback())
}

func setup(ctx context.Context, owner, seed string) error {
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		return fmt.Errorf("the database of DATABASE_URL cannot be reached: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := db.Setup(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, seed); err != nil {
		return fmt.Errorf("supabase/seed.sql: %w", err)
	}
	return nil
}

// keptKey returns this checkout's key for secrets at rest, made at first use: data stays readable across restarts.
func keptKey(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("development key: %w", err)
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("development key: %w", err)
	}
	text := base64.StdEncoding.EncodeToString(key)
	return text, os.WriteFile(path, []byte(text+"\n"), 0o600)
}
