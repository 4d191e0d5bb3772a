package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// CallsVariable names a folder. While it is set, DropDatabase leaves a file there that lists the
// SQL functions which were called in the database. From these files the suite knows, over all test
// processes, that every function is called by some test.
const CallsVariable = "KIJKO_FUNCTION_CALLS"

// DropDatabase removes a database, cutting the connections to it, if it exists.
func (c *Cluster) DropDatabase(ctx context.Context, name string) (err error) {
	admin, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect to drop database %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, admin.Close(context.WithoutCancel(ctx))) }()
	if folder := os.Getenv(CallsVariable); folder != "" {
		if err := c.recordCalls(ctx, admin, folder, name); err != nil {
			return err
		}
	}
	if _, err := admin.Exec(ctx, "drop database if exists "+pgx.Identifier{name}.Sanitize()+" with (force)"); err != nil {
		return fmt.Errorf("drop database %q: %w", name, err)
	}
	return nil
}

// recordCalls writes the names of the called functions. Backends report their counts when they
// end, so they are ended first.
func (c *Cluster) recordCalls(ctx context.Context, admin *pgx.Conn, folder, name string) error {
	const end = `select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where datname = $1 and backend_type = 'client backend'`
	if _, err := admin.Exec(ctx, end, name); err != nil {
		return fmt.Errorf("end the sessions of database %q: %w", name, err)
	}
	calls, err := c.calls(ctx, name)
	if err != nil || len(calls) == 0 {
		return err
	}
	file := filepath.Join(folder, name+".calls")
	if err := os.WriteFile(file, []byte(strings.Join(calls, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("record the functions called: %w", err)
	}
	return nil
}

func (c *Cluster) calls(ctx context.Context, name string) (calls []string, err error) {
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, name))
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "3D000" {
		return nil, nil // no such database
	}
	if err != nil {
		return nil, fmt.Errorf("connect to see the functions called in %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	rows, err := conn.Query(ctx, `select distinct schemaname || '.' || funcname from pg_stat_user_functions order by 1`)
	if err != nil {
		return nil, fmt.Errorf("read the functions called in %q: %w", name, err)
	}
	calls, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the functions called in %q: %w", name, err)
	}
	return calls, nil
}
