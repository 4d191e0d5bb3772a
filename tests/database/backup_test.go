package database

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// The walk of docs/operations.md, Backup and restore, into another cluster, whose transactions have smaller numbers than those of the first.
func TestARestoredBackupGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	files := t.TempDir()
	before := stack.New(t, func(c *config.Config) { c.StorageURL = "file://" + files })
	burn := before.DB.Connect(devpg.Superuser)
	_, err := burn.Exec(ctx, "do $$ begin for i in 1..30000 loop perform pg_current_xact_id(); commit; end loop; end $$")
	require.NoError(t, err)

	anna := before.SignUp("Anna")
	made := anna.Do("POST", "/projects", client.Object{"name": "Kept"}).Want(201)
	id := made.String("project.id")
	type page struct {
		Events      []struct{ ID, Type string }
		LastEventID string
	}
	events := func(p *client.Client, query string) page {
		return client.JSON[page](p.Get("/realtime/events" + query).Want(200))
	}
	var last page
	stack.Eventually(t, "the project's events are numbered", func() bool {
		last = events(anna.Client, "")
		return last.LastEventID != "0"
	})
	// Marks of transactions, as each hour of running leaves them.
	before.DB.Exec("update jobs.queue_floor set next_xid = pg_current_xact_id()")
	before.DB.Exec("update private.event_log set next_xid = pg_current_xact_id()")
	before.DB.Exec("select private.settle_audit()")

	// The server runs meanwhile.
	dump := filepath.Join(t.TempDir(), "kijko.dump")
	tool(t, before.DB.Cluster, "pg_dump", "--format=custom", "--no-owner", "--file="+dump, before.DB.Owner())
	before.Close()

	copied := t.TempDir()
	require.NoError(t, os.CopyFS(copied, os.DirFS(files)))
	elsewhere := testdb.Alone(t)
	maintenance, err := pgx.Connect(ctx, elsewhere.Cluster.DSN(devpg.Superuser, "postgres"))
	require.NoError(t, err)
	defer func() { _ = maintenance.Close(context.Background()) }()
	require.NoError(t, db.Roles(ctx, maintenance))
	require.NoError(t, elsewhere.Cluster.DropDatabase(ctx, elsewhere.Name))
	_, err = elsewhere.Cluster.EnsureDatabase(ctx, elsewhere.Name)
	require.NoError(t, err)
	tool(t, elsewhere.Cluster, "pg_restore", "--single-transaction", "--no-owner", "--dbname="+elsewhere.Owner(), dump)
	ahead := "select count(*) from (select next_xid from jobs.queue_floor union all select next_xid from private.event_log union all select marked_xid from private.audit_mark) m " +
		"where m.next_xid > pg_current_xact_id()"
	require.Equal(t, 3, testdb.Value[int](elsewhere, ahead), "the marks name transactions that this cluster has not reached")
	owner := elsewhere.Connect(devpg.Superuser)
	require.NoError(t, db.Setup(ctx, owner))
	require.Zero(t, testdb.Value[int](elsewhere, ahead))

	after := stack.On(t, elsewhere, func(c *config.Config) { c.StorageURL = "file://" + copied })
	stack.Eventually(t, "it is ready", func() bool { return after.Get("//health/ready").Value("status") == "healthy" })
	again := after.As(after.Do("POST", "/auth/login", client.Object{"email": anna.Email, "password": anna.Password}).Want(200).Tokens().AccessToken)
	require.Equal(t, "Kept", again.Get("/projects/"+id).Want(200).String("name"))
	require.NotEmpty(t, after.Do("POST", "/auth/refresh", client.Object{"refresh_token": anna.RefreshToken}).Want(200).Tokens().AccessToken, "sessions go on")

	again.Do("PATCH", "/projects/"+id, client.Object{"name": "Changed"}).Want(200)
	stack.Eventually(t, "events go on after the last one", func() bool { return len(events(again, "?after="+last.LastEventID).Events) > 0 })
	elsewhere.Exec("update private.event_log set marked_at = '-infinity'")
	for _, sql := range []string{"select private.raise_queue_floor()", "select private.settle_audit()"} {
		elsewhere.Exec(sql)
	}
	require.True(t, testdb.Value[bool](elsewhere, "select settled_at is not null from private.audit_mark"), "the audit trail is counted on")
}

func tool(t *testing.T, cluster *devpg.Cluster, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), cluster.Tool(name), args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, out)
}
