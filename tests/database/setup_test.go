package database

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/db/devpg"
)

// The rights that db/README.md asks for the owner are enough, on each version: no superuser, and Supabase's roles made by another role.
func TestSetupByAnOwnerWhoIsNoSuperuser(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "kijko-owner")
	require.NoError(t, err)
	cluster, err := devpg.Start(ctx, devpg.Options{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, errors.Join(cluster.Stop(context.Background()), devpg.Remove(dir), os.RemoveAll(dir)))
	})
	connect := func(role, database string) *pgx.Conn {
		conn, err := pgx.Connect(ctx, cluster.DSN(role, database))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	admin := connect(devpg.Superuser, "postgres")
	for _, sql := range []string{"create role anon nologin", "create role authenticated nologin", "create role service_role nologin bypassrls",
		"create role owner login createrole createdb bypassrls", "create database kijko owner owner"} {
		_, err := admin.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	owner := connect("owner", "kijko")
	err = db.Setup(ctx, owner)
	if cluster.Version() >= 16 { // CREATEROLE grants only what it administers
		require.ErrorContains(t, err, "owner may not grant anon, authenticated, service_role to kijko_server")
		const cure = "grant anon, authenticated, service_role to owner with admin option"
		require.ErrorContains(t, err, cure)
		_, err = admin.Exec(ctx, cure)
		require.NoError(t, err)
		err = db.Setup(ctx, owner)
	}
	require.NoError(t, err)
	require.NoError(t, db.Setup(ctx, owner), "a second time")
	var version int32
	require.NoError(t, connect("kijko_server", "kijko").QueryRow(ctx, "select private.schema_version()").Scan(&version))
	require.Equal(t, db.ExpectedVersion(), version)
	var text string
	require.NoError(t, admin.QueryRow(ctx, "select current_setting('server_version')").Scan(&text))
	told, err := db.VersionOf(ctx, admin)
	require.NoError(t, err)
	require.Equal(t, db.ServerVersion{Text: text}, told, "a version that the tests run on is one that is said to be tested")
}
