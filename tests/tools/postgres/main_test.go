package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/db/devpg"
)

func TestCommands(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	home, err := os.MkdirTemp("/tmp", "postgres-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(home, 0o711)) // the database's user has to get through
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(home)) })
	dir := filepath.Join(home, ".kijko")
	call := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(ctx, dir, args, &out)
		return out.String(), err
	}

	t.Run("WithoutADatabaseTheCureIsNamed", func(t *testing.T) {
		_, err := call("psql")
		require.ErrorContains(t, err, "start it with: make run")
		_, err = call("dsn")
		require.ErrorContains(t, err, "start it with: make run")
		out, err := call("stop")
		require.NoError(t, err)
		require.Equal(t, "no database is running\n", out)
	})
	t.Run("UsageIsShown", func(t *testing.T) {
		_, err := call()
		require.ErrorContains(t, err, "usage")
		_, err = call("restart")
		require.ErrorContains(t, err, `unknown command "restart"`)
	})

	c, err := devpg.Start(ctx, devpg.Options{DataDir: dir})
	require.NoError(t, err)
	_, err = c.EnsureDatabase(ctx, database)
	require.NoError(t, err)

	t.Run("PsqlReachesTheDatabase", func(t *testing.T) {
		out, err := call("psql", "-XAtqc", "select current_database()")
		require.NoError(t, err)
		require.Equal(t, "kijko\n", out)
		_, err = call("psql", "-XAtqc", "selec")
		require.ErrorContains(t, err, "psql: exit status 1")
	})
	t.Run("AddressIsThatOfTheOwner", func(t *testing.T) {
		out, err := call("dsn")
		require.NoError(t, err)
		require.Equal(t, c.DSN(devpg.Superuser, database)+"\n", out)
	})
	t.Run("OneInUseIsNotRemoved", func(t *testing.T) {
		// stopping is allowed (a killed run's database), removing the files of a live process is not
		_, err := call("remove")
		require.ErrorIs(t, err, devpg.ErrInUse)
		require.DirExists(t, c.DataDir())
	})
	t.Run("RemoveTakesEverything", func(t *testing.T) {
		require.NoError(t, c.Stop(ctx))
		out, err := call("remove")
		require.NoError(t, err)
		require.Contains(t, out, "removed "+dir)
		require.NoDirExists(t, dir)
	})
}
