// Command postgres manages the private database of make run from outside.
//
//	postgres psql [arguments]   a psql prompt in the database "kijko", as its superuser
//	postgres dsn                its connection URL
//	postgres stop               stop it; for one that a killed make run left behind
//	postgres remove             stop it and remove its files: everything in it is lost
//
//	postgres get 18             fetch the newest 18 that there is, for tests (KIJKO_TEST_POSTGRES), and print the folder of its programs
//
// KIJKO_DATA_DIR names its folder, .kijko by default.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"kijko/db/devpg"
)

// The name of the database that make run keeps in the cluster.
const database = "kijko"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	dir := os.Getenv("KIJKO_DATA_DIR")
	if dir == "" {
		dir = ".kijko"
	}
	if err := run(ctx, dir, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "postgres:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("usage: postgres psql | dsn | stop | remove | get")
	}
	switch args[0] {
	case "psql":
		return psql(ctx, dir, args[1:], out)
	case "dsn":
		c, err := devpg.Attach(ctx, dir)
		if err != nil {
			return withCure(err)
		}
		_, err = fmt.Fprintln(out, c.DSN(devpg.Superuser, database))
		return err
	case "stop":
		return stopCluster(ctx, dir, out)
	case "remove":
		return remove(ctx, dir, out)
	case "get":
		if len(args) != 2 {
			return errors.New("usage: postgres get <major version>")
		}
		bin, err := get(ctx, args[1])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, bin)
		return err
	default:
		return fmt.Errorf("unknown command %q: psql, dsn, stop, remove or get", args[0])
	}
}

func withCure(err error) error {
	if errors.Is(err, devpg.ErrNotRunning) {
		return fmt.Errorf("%w; start it with: make run", err)
	}
	return err
}

func psql(ctx context.Context, dir string, args []string, out io.Writer) error {
	c, err := devpg.Attach(ctx, dir)
	if err != nil {
		return withCure(err)
	}
	signal.Ignore(os.Interrupt) // Ctrl-C cancels the query in psql, not psql
	cmd := exec.CommandContext(ctx, c.Tool("psql"), append([]string{c.DSN(devpg.Superuser, database)}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("psql: %w", err)
	}
	return nil
}

func stopCluster(ctx context.Context, dir string, out io.Writer) error {
	c, err := devpg.Attach(ctx, dir)
	if errors.Is(err, devpg.ErrNotRunning) {
		_, err = fmt.Fprintln(out, "no database is running")
		return err
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "database stopped; its data is kept in "+c.DataDir())
	return err
}

// remove deletes the data folder, and the cluster where it had to be placed elsewhere.
func remove(ctx context.Context, dir string, out io.Writer) error {
	if err := stopCluster(ctx, dir, out); err != nil {
		return err
	}
	if err := devpg.Remove(dir); err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("resolve data folder: %w", err)
	}
	if err := os.RemoveAll(abs); err != nil {
		return fmt.Errorf("remove the data folder: %w", err)
	}
	_, err = fmt.Fprintln(out, "removed "+abs)
	return err
}
