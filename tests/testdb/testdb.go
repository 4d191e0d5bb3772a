// Package testdb gives each test its own database: a clone of a migrated template on a real, private PostgreSQL, made in about a
// tenth of a second. The cluster is shared by all test processes of a checkout and needs no configuration. Without a database a
// test fails; it never skips.
package testdb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/db/devpg"
)

// DB is one test's database.
type DB struct {
	Name    string
	Cluster *devpg.Cluster
	t       testing.TB
	dir     string // of a cluster of its own
}

var cluster = sync.OnceValues(func() (*devpg.Cluster, error) {
	return devpg.Start(context.Background(), devpg.Options{Ephemeral: true, Progress: func(s string) { fmt.Fprintln(os.Stderr, s) }})
})

// New clones the template. The database is dropped with the test.
func New(t testing.TB) *DB {
	t.Helper()
	c, err := cluster()
	require.NoError(t, err, "a private PostgreSQL could not be started")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	template, err := ensureTemplate(ctx, c)
	require.NoError(t, err)

	d := &DB{Name: "t_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Cluster: c, t: t}
	require.NoError(t, clone(ctx, c, template, d.Name))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.DropDatabase(ctx, d.Name); err != nil {
			t.Errorf("dropping %s: %v", d.Name, err)
		}
	})
	return d
}

// Empty gives an empty database, for tests of migrations.
func Empty(t testing.TB) *DB {
	t.Helper()
	c, err := cluster()
	require.NoError(t, err)
	d := &DB{Name: "t_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Cluster: c, t: t}
	ctx := context.Background()
	_, err = c.EnsureDatabase(ctx, d.Name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.DropDatabase(ctx, d.Name) })
	return d
}

// DSN is the address as a role: kijko_server, kijko_worker, or devpg.Superuser for the owner.
func (d *DB) DSN(role string) string { return d.Cluster.DSN(role, d.Name) }

// Owner is the address as the owner, who bypasses row-level security.
func (d *DB) Owner() string { return d.DSN(devpg.Superuser) }

// Pool opens a pool as a role; it is closed before the database is dropped.
func (d *DB) Pool(role string) *pgxpool.Pool {
	d.t.Helper()
	pool, err := pgxpool.New(context.Background(), d.DSN(role))
	require.NoError(d.t, err)
	d.t.Cleanup(pool.Close)
	return pool
}

// Exec runs statements as the owner.
func (d *DB) Exec(sql string, args ...any) {
	d.t.Helper()
	conn := d.Connect(devpg.Superuser)
	_, err := conn.Exec(context.Background(), sql, args...)
	require.NoError(d.t, err)
	require.NoError(d.t, conn.Close(context.Background()))
}

// Value reads one value as the owner.
func Value[T any](d *DB, sql string, args ...any) T {
	d.t.Helper()
	conn := d.Connect(devpg.Superuser)
	defer func() { _ = conn.Close(context.Background()) }()
	var v T
	require.NoError(d.t, conn.QueryRow(context.Background(), sql, args...).Scan(&v))
	return v
}

// Holds says whether a query has a row that is true. A test that waits asks so: the row may not be there yet, or be leased.
func Holds(d *DB, sql string, args ...any) bool {
	d.t.Helper()
	return Value[bool](d, "select exists (select from ("+sql+") q (holds) where q.holds)", args...)
}

// Connect opens one connection as a role.
func (d *DB) Connect(role string) *pgx.Conn {
	d.t.Helper()
	conn, err := pgx.Connect(context.Background(), d.DSN(role))
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// ensureTemplate builds the template for this state of db/ once per cluster; other processes wait for that build.
var ensureTemplate = func() func(context.Context, *devpg.Cluster) (string, error) {
	var mu sync.Mutex
	var ready string
	return func(ctx context.Context, c *devpg.Cluster) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if ready != "" {
			return ready, nil
		}
		name, err := templateName()
		if err != nil {
			return "", err
		}
		if err := buildTemplate(ctx, c, name); err != nil {
			return "", err
		}
		ready = name
		return name, nil
	}
}()

func templateName() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(db.Files(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := fs.ReadFile(db.Files(), path)
		fmt.Fprintf(sum, "%s %d\n", path, len(raw))
		sum.Write(raw)
		return err
	})
	return "kijko_template_" + hex.EncodeToString(sum.Sum(nil))[:16], err
}

func buildTemplate(ctx context.Context, c *devpg.Cluster, name string) error {
	admin, err := pgx.Connect(ctx, c.DSN(devpg.Superuser, "postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(ctx) }()
	if _, err := admin.Exec(ctx, "select pg_advisory_lock(hashtext($1))", name); err != nil {
		return err
	}
	var done bool
	err = admin.QueryRow(ctx, "select datistemplate from pg_database where datname = $1", name).Scan(&done)
	if err == nil && done {
		return nil
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if _, err := c.EnsureDatabase(ctx, name); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, c.DSN(devpg.Superuser, name))
	if err != nil {
		return err
	}
	if err := db.Setup(ctx, conn); err != nil {
		_ = conn.Close(ctx)
		return fmt.Errorf("building the template database: %w", err)
	}
	if err := conn.Close(ctx); err != nil {
		return err
	}
	_, err = admin.Exec(ctx, "alter database "+name+" is_template true")
	return err
}

// clone retries while another clone of the same template is under way in another process. It copies files, as PostgreSQL did before version 15: writing each page to the log as well takes twice the processor time, and only
// spares a checkpoint, which costs next to nothing where no file is synchronized.
func clone(ctx context.Context, c *devpg.Cluster, template, name string) error {
	admin, err := pgx.Connect(ctx, c.DSN(devpg.Superuser, "postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close(ctx) }()
	for {
		_, err = admin.Exec(ctx, "create database "+name+" template "+template+" strategy file_copy")
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "55006" || ctx.Err() != nil {
			return err
		}
	}
}

// Alone gives a database on a cluster of its own, which the test may restart.
func Alone(t testing.TB) *DB {
	t.Helper()
	dir, err := os.MkdirTemp("", "kijko-alone")
	require.NoError(t, err)
	d := &DB{Name: "kijko", t: t}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if d.Cluster != nil {
			_ = d.Cluster.Stop(ctx)
		}
		_ = devpg.Remove(dir)
		_ = os.RemoveAll(dir)
	})
	d.start(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	_, err = d.Cluster.EnsureDatabase(ctx, d.Name)
	require.NoError(t, err)
	conn := d.Connect(devpg.Superuser)
	require.NoError(t, db.Setup(ctx, conn))
	require.NoError(t, conn.Close(ctx))
	return d
}

// Restart stops the cluster of Alone and starts it again. Every connection to it is lost.
func (d *DB) Restart() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(d.t, d.Cluster.Stop(ctx))
	d.start(d.dir)
}

func (d *DB) start(dir string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c, err := devpg.Start(ctx, devpg.Options{DataDir: dir})
	require.NoError(d.t, err)
	d.Cluster, d.dir = c, dir
}
