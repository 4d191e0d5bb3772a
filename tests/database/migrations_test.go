package database

import (
	"context"
	"io/fs"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/tern/v2/migrate"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/tests/testdb"
)

// before brings an empty database to the state in front of a migration, which is named without its number.
func before(t *testing.T, name string) *testdb.DB {
	t.Helper()
	d := testdb.Empty(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, d.Owner())
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	for _, file := range []string{"bootstrap/roles.sql", "bootstrap/supabase.sql"} {
		sql, err := fs.ReadFile(db.Files(), file)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, string(sql))
		require.NoError(t, err)
	}
	migrations, err := fs.Sub(db.Files(), "migrations")
	require.NoError(t, err)
	m, err := migrate.NewMigrator(ctx, conn, db.VersionTable)
	require.NoError(t, err)
	require.NoError(t, m.LoadMigrations(migrations))
	for _, migration := range m.Migrations {
		if strings.HasSuffix(migration.Name, "_"+name+".sql") {
			require.NoError(t, m.MigrateTo(ctx, migration.Sequence-1))
			return d
		}
	}
	require.Fail(t, "no migration", name)
	return nil
}

func setUp(t *testing.T, d *testdb.DB) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, d.Owner())
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	require.NoError(t, db.Setup(ctx, conn))
}

func TestAddressesInUseSurviveTheRuleOfAddresses(t *testing.T) {
	d := before(t, "addresses")
	d.Exec(`insert into public.users (email, email_verified_at) values
		('ann@example.nl', null), ('len@example..nl', null), (U&'bom@example.nl\200B', null), (U&'\00A0nbsp@example.nl', null),
		('taken@example.nl', null), (U&'taken@example.nl\FEFF', null), (U&'\FEFFvouched@example.nl', now()), (U&'\00E9va@example.nl', null)`)
	d.Exec(`insert into public.organizations (name) values ('Old')`)
	d.Exec(`insert into private.mails (kind, organization_id, user_id, to_address, subject, body_text, body_html, sent_at)
		select 'ingestion_result', o.id, u.id, a.address, 's', 't', 'h', a.at from public.organizations o, public.users u,
		(values ('len@example..nl', null), ('a@-example.nl', null), ('b@-example.nl', now()), ('ann@example.nl', null)) a (address, at)
		where u.email = 'ann@example.nl' and a.address not like '%..%'`)
	setUp(t, d)
	require.Equal(t, []string{"ann@example.nl", "bom@example.nl", "len@example..nl", "nbsp@example.nl", "taken@example.nl", "taken@example.nl\ufeff", "éva@example.nl", "\ufeffvouched@example.nl"},
		testdb.Value[[]string](d, `select array_agg(email order by email collate "C") from public.users where email not like '%.invalid'`))
	require.Equal(t, []string{"ann@example.nl"},
		testdb.Value[[]string](d, `select array_agg(to_address order by to_address) from private.mails`), "the outbox keeps no address that no server would take")
	// Every account can still be changed.
	d.Exec("update public.users set email_verified_at = now(), timezone = 'Europe/Amsterdam', first_name = 'Ann'")
	setUp(t, d)
}

func TestSessionsInUseSurviveTheirSecondName(t *testing.T) {
	d := before(t, "provider_sessions")
	d.Exec("insert into public.users (email) values ('kim@example.nl')")
	d.Exec(`insert into private.sessions (user_id, issuer, external_key, expires_at, idle_expires_at, revoked_at)
		select u.id, i.issuer, 'sid', now() + interval '1 day', now() + interval '1 day', null from public.users u,
		(values ('https://id.example/realms/kijko'), ('https://abc.supabase.co/auth/v1')) i (issuer)`)
	setUp(t, d)
	require.Equal(t, "keycloak, none", testdb.Value[string](d, "select string_agg(coalesce(provider, 'none'), ', ' order by issuer desc) from private.sessions"))
	d.Exec("update private.sessions set revoked_at = now()")
	require.Equal(t, 1, testdb.Value[int](d, "select count(*) from jobs.gue_jobs where job_type = 'sessions.end'"))
}
