// Package db is the Go side of everything that lives in Postgres: it carries bootstrap, migrations and code package inside the binary,
// applies them, and opens pools. It holds no SQL of any feature: features live in db/code.
package db

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed bootstrap migrations code
var files embed.FS

// VersionTable is tern's own table: created before the first migration, hence in schema public; closed to request roles.
const VersionTable = "public.schema_version"

// Files gives the embedded tree (bootstrap/, migrations/, code/) to generators and tests.
func Files() fs.FS { return files }

// Setup brings the database behind conn to the state of this binary: roles, migrations, code package. It is idempotent and safe to
// run from several processes at once (one works, the others wait). The connection must belong to the owner role (db/README.md).
func Setup(ctx context.Context, conn *pgx.Conn) error {
	return locked(ctx, conn, func() error {
		if err := bootstrap(ctx, conn); err != nil {
			return err
		}
		if err := migrateUp(ctx, conn); err != nil {
			return err
		}
		return install(ctx, conn)
	})
}

// Install runs the code package alone.
func Install(ctx context.Context, conn *pgx.Conn) error {
	return locked(ctx, conn, func() error { return install(ctx, conn) })
}

// ExpectedVersion is the number of the newest migration in this binary.
func ExpectedVersion() int32 {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return 0
	}
	return int32(len(names))
}

// locked serializes installations of one database, including those that tern's own lock does not cover. A PostgreSQL that is too old is
// refused before anything is changed.
func locked(ctx context.Context, conn *pgx.Conn, work func() error) (err error) {
	version, err := VersionOf(ctx, conn)
	if err != nil {
		return err
	}
	if err := version.Refusal(); err != nil {
		return err
	}
	const key = 0x6b696a6b6f // "kijko"
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", int64(key)); err != nil {
		return fmt.Errorf("waiting for other installations: %w", err)
	}
	defer func() {
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", int64(key))
		err = errors.Join(err, unlockErr)
	}()
	return work()
}

// Roles makes the roles alone, which all databases of a cluster share. A restore needs them before it begins.
func Roles(ctx context.Context, conn *pgx.Conn) error {
	return locked(ctx, conn, func() error { return scripts(ctx, conn, rolesFile) })
}

const rolesFile = "bootstrap/roles.sql"

func bootstrap(ctx context.Context, conn *pgx.Conn) error {
	return scripts(ctx, conn, rolesFile, "bootstrap/supabase.sql")
}

func scripts(ctx context.Context, conn *pgx.Conn, names ...string) error {
	for _, name := range names {
		sql, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, string(sql)); err != nil {
			return fmt.Errorf("%s: %w", name, sqlError(err))
		}
	}
	return nil
}

func migrateUp(ctx context.Context, conn *pgx.Conn) error {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		return err
	}
	m, err := migrate.NewMigrator(ctx, conn, VersionTable)
	if err != nil {
		return fmt.Errorf("migrator: %w", err)
	}
	if err := m.LoadMigrations(migrations); err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	if err := m.Migrate(ctx); err != nil {
		return fmt.Errorf("migrating: %w", sqlError(err))
	}
	return nil
}

func install(ctx context.Context, conn *pgx.Conn) error {
	sql, err := CodeSQL()
	if err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("installing code: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, sql); err != nil {
		return fmt.Errorf("installing code: %w", sqlError(err))
	}
	return tx.Commit(ctx)
}

// CodeSQL is the whole code package as one script, templates expanded.
func CodeSQL() (string, error) {
	code, err := fs.Sub(files, "code")
	if err != nil {
		return "", err
	}
	pkg, err := migrate.LoadCodePackage(code)
	if err != nil {
		return "", fmt.Errorf("reading the code package: %w", err)
	}
	return pkg.Eval(map[string]any{})
}

// sqlError adds the details that a developer needs to find the place (detail, hint, where) to the message. They never reach a client.
func sqlError(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	return fmt.Errorf("%w (detail: %s; hint: %s; where: %s; position %d)", err, pg.Detail, pg.Hint, pg.Where, pg.Position)
}
