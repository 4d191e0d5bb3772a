package devpg

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestDropDatabase(t *testing.T) {
	calls := t.TempDir()
	t.Setenv(CallsVariable, calls)
	dir := folder(t)
	stopAtEnd(t, dir)
	ctx := within(t)
	c, err := Start(ctx, Options{DataDir: dir})
	require.NoError(t, err)
	_, err = c.EnsureDatabase(ctx, "used")
	require.NoError(t, err)
	busy, err := pgx.Connect(ctx, c.DSN(Superuser, "used"))
	require.NoError(t, err)
	_, err = busy.Exec(ctx, `set track_functions = 'all'`)
	require.NoError(t, err)
	_, err = busy.Exec(ctx, `create function called() returns int language plpgsql as 'begin return 1; end'`)
	require.NoError(t, err)
	_, err = busy.Exec(ctx, `create function idle() returns int language plpgsql as 'begin return 1; end'`)
	require.NoError(t, err)
	_, err = busy.Exec(ctx, `select called()`)
	require.NoError(t, err)

	require.NoError(t, c.DropDatabase(ctx, "used"), "an open connection is no obstacle")
	_, err = pgx.Connect(ctx, c.DSN(Superuser, "used"))
	require.ErrorContains(t, err, "3D000")
	text, err := os.ReadFile(filepath.Join(calls, "used.calls"))
	require.NoError(t, err)
	require.Equal(t, "public.called\n", string(text))

	require.NoError(t, c.DropDatabase(ctx, "used"), "what is gone may be dropped again")
	t.Setenv(CallsVariable, "")
	require.NoError(t, c.DropDatabase(ctx, "used"))
	require.NoError(t, c.Stop(ctx))
	require.Error(t, c.DropDatabase(ctx, "used"))
}

func TestRemove(t *testing.T) {
	dir := t.TempDir() // closed to others, so that as root the database is made elsewhere
	stopAtEnd(t, dir)
	ctx := within(t)
	require.NoError(t, Remove(dir), "nothing to remove is fine")
	c, err := Start(ctx, Options{DataDir: dir})
	require.NoError(t, err)
	require.ErrorIs(t, Remove(dir), ErrInUse)
	require.NoError(t, c.lock.Close())
	require.ErrorIs(t, Remove(dir), ErrInUse, "a database that still runs is left alone")
	a, err := Attach(ctx, dir)
	require.NoError(t, err)
	require.NoError(t, a.Stop(ctx))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "upload.bin"), nil, 0o600))
	require.NoError(t, Remove(dir))
	require.NoDirExists(t, c.DataDir())
	if home := filepath.Dir(c.DataDir()); home != dir {
		require.NoDirExists(t, home, "nor does a folder outside stay empty")
	}
	require.NoFileExists(t, filepath.Join(dir, pointerFile))
	require.FileExists(t, filepath.Join(dir, "upload.bin"), "other files stay")
}
