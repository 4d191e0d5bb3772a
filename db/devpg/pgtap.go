package devpg

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// EnsurePgTAP makes the extension pgtap available to "create extension", installing its package
// when this process is root; otherwise the error is the command to type.
func (c *Cluster) EnsurePgTAP(ctx context.Context, progress func(string)) error {
	return c.EnsureExtension(ctx, "pgtap", progress)
}

// EnsureExtension is the same for any extension that is packaged by itself.
func (c *Cluster) EnsureExtension(ctx context.Context, extension string, progress func(string)) error {
	if progress == nil {
		progress = func(string) {}
	}
	return c.ensure(ctx, extension, progress)
}

func (c *Cluster) ensure(ctx context.Context, extension string, progress func(string)) error {
	ok, err := c.Offers(ctx, extension)
	if err != nil || ok {
		return err
	}
	if dir := c.sys.getenv(TestVariable); dir != "" {
		return fmt.Errorf("the tests in SQL need the extension %s, which the PostgreSQL of %s=%s lacks; fetch one with: go run ./tests/tools/postgres get %d",
			extension, TestVariable, dir, c.tools.major)
	}
	if err := install(ctx, c.sys, extensionPackage(extension, c.tools.major), progress); err != nil {
		return fmt.Errorf("the tests in SQL need the extension %s: %w", extension, err)
	}
	if ok, err = c.Offers(ctx, extension); err != nil || ok {
		return err
	}
	return fmt.Errorf("%s was installed, but not for the PostgreSQL in %s", extension, c.tools.dir)
}

// Offers says whether an extension's files are installed for this server.
func (c *Cluster) Offers(ctx context.Context, extension string) (ok bool, err error) {
	conn, err := pgx.Connect(ctx, c.DSN(Superuser, "postgres"))
	if err != nil {
		return false, fmt.Errorf("connect to look for extension %s: %w", extension, err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, `select exists (select from pg_available_extensions where name = $1)`, extension).Scan(&ok)
	if err != nil {
		return false, fmt.Errorf("look for extension %s: %w", extension, err)
	}
	return ok, nil
}
