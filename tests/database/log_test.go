package database

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/tests/testdb"
)

// A refusal is an ERROR to PostgreSQL. A client that is refused often must not fill its disk.
func TestRefusalsStayOutOfTheLogOfPostgres(t *testing.T) {
	t.Parallel()
	d := testdb.New(t)
	logged := func(role string) bool {
		t.Helper()
		marker := uuid.NewString()
		conn := d.Connect(role)
		_, err := conn.Exec(t.Context(), "select private.refuse(409, 'NAME_TAKEN', '"+marker+"')")
		require.ErrorContains(t, err, marker)
		raw, err := os.ReadFile(d.Cluster.LogFile())
		require.NoError(t, err)
		return strings.Contains(string(raw), marker)
	}
	for _, role := range []string{"kijko_server", "kijko_worker"} {
		require.False(t, logged(role), role)
		var level string
		require.NoError(t, d.Connect(role).QueryRow(t.Context(), "show log_min_messages").Scan(&level))
		require.Equal(t, "log", level, "slow statements, lock waits and lost connections are still written")
	}
	require.True(t, logged(devpg.Superuser), "the owner's are")
}

// Only a superuser may set what is logged. An owner without superuser sets everything else up.
func TestSetUpByAnOwnerWhoIsNoSuperuser(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "kijko-owner")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	ctx := context.WithoutCancel(t.Context())
	cluster, err := devpg.Start(ctx, devpg.Options{DataDir: dir})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, cluster.Stop(ctx))
		require.NoError(t, devpg.Remove(dir))
	})
	super, err := pgx.Connect(ctx, cluster.DSN(devpg.Superuser, "postgres"))
	require.NoError(t, err)
	defer func() { _ = super.Close(ctx) }()
	for _, sql := range []string{"create role anon noinherit", "create role authenticated noinherit", "create role service_role noinherit bypassrls",
		"create role somebody login createrole createdb bypassrls", "grant anon, authenticated, service_role to somebody with admin option",
		"create database kijko owner somebody"} {
		_, err = super.Exec(ctx, sql)
		require.NoError(t, err)
	}
	setUp := func() (said []string) {
		t.Helper()
		c, err := pgx.ParseConfig(cluster.DSN("somebody", "kijko"))
		require.NoError(t, err)
		c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { said = append(said, n.Message) }
		owner, err := pgx.ConnectConfig(ctx, c)
		require.NoError(t, err)
		defer func() { _ = owner.Close(ctx) }()
		require.NoError(t, db.Setup(ctx, owner))
		return said
	}
	require.Contains(t, strings.Join(setUp(), "\n"), "alter role kijko_server set log_min_messages = log", "it says what a superuser may do")
	// The operator's own setting stays.
	_, err = super.Exec(ctx, "alter role kijko_server set log_min_messages = fatal; alter role kijko_worker set log_min_messages = warning")
	require.NoError(t, err)
	require.NotContains(t, strings.Join(setUp(), "\n"), "log_min_messages")
	var chosen []string
	require.NoError(t, super.QueryRow(ctx, `select array_agg(c order by c) from pg_db_role_setting, unnest(setconfig) c where c like 'log%'`).Scan(&chosen))
	require.Equal(t, []string{"log_min_messages=fatal", "log_min_messages=warning"}, chosen)
}
