package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
)

// database is a new, empty database that is dropped again.
type database struct {
	cluster *devpg.Cluster
	name    string
}

func newDatabase(ctx context.Context, cluster *devpg.Cluster) (*database, error) {
	admin, err := pgx.Connect(ctx, cluster.DSN(devpg.Superuser, "postgres"))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	var n int64
	err = admin.QueryRow(ctx, `select (extract(epoch from clock_timestamp()) * 1000000)::bigint`).Scan(&n)
	if err := errors.Join(err, admin.Close(ctx)); err != nil {
		return nil, fmt.Errorf("name a new database: %w", err)
	}
	d := &database{cluster: cluster, name: fmt.Sprintf("generate_%d_%d", os.Getpid(), n)}
	if _, err := cluster.EnsureDatabase(ctx, d.name); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *database) dsn() string { return d.cluster.DSN(devpg.Superuser, d.name) }

func (d *database) drop(ctx context.Context) error { return d.cluster.DropDatabase(ctx, d.name) }

// withConn runs work on a connection of the owner.
func (d *database) withConn(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, d.dsn())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return errors.Join(work(conn), conn.Close(context.WithoutCancel(ctx)))
}

func (d *database) setUp(ctx context.Context) error {
	return d.withConn(ctx, func(conn *pgx.Conn) error { return db.Setup(ctx, conn) })
}

// psql runs one file as a person would: stop at the first error, one transaction.
func (d *database) psql(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, d.cluster.Tool("psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "--single-transaction", "-f", file, d.dsn())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("psql -f %s: %w\n%s", file, err, out)
	}
	return nil
}

// volatile are lines of a dump that differ between runs or between minor versions and say nothing
// about the schema.
var volatile = regexp.MustCompile(`(?m)^(-- Dumped (from|by) .*|\\(un)?restrict .*|SET transaction_timeout = .*)\n`)

var manyBlankLines = regexp.MustCompile(`\n{3,}`)

// dump returns the schema in pg_dump's words, made stable. Owners are left out, grants are kept.
func (d *database) dump(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.cluster.Tool("pg_dump"), "--schema-only", "--no-owner", d.dsn())
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("pg_dump: %w\n%s", err, complaint.String())
	}
	return normalize(out.Bytes()), nil
}

func normalize(dump []byte) []byte {
	text := volatile.ReplaceAllString(string(dump), "")
	return []byte(strings.TrimSpace(manyBlankLines.ReplaceAllString(text, "\n\n")) + "\n")
}
