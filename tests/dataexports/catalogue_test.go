package dataexports

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

var tableName = regexp.MustCompile("`((?:public|private)\\.[a-z_]+)`")

// strings that a query returns.
func list(t *testing.T, db *testdb.DB, sql string) []string {
	t.Helper()
	rows, err := db.Connect("postgres").Query(t.Context(), sql)
	require.NoError(t, err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return values
}

// A table belongs to a person when it names one, their organization or a project, or hangs on a table that does.
func TestEachTableOfAPersonIsExportedOrLeftOut(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	tables := list(t, db, `with recursive tables as (
			select c.oid, n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
			where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'private')),
		personal as (
			select t.oid from tables t where t.oid in ('public.users'::regclass, 'public.organizations'::regclass) or exists (
				select from pg_attribute a where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attname in ('user_id', 'organization_id', 'project_id'))
			union
			select k.conrelid from pg_constraint k join personal p on p.oid = k.confrelid where k.contype = 'f')
		select t.name from tables t join personal p using (oid) order by 1`)
	require.Greater(t, len(tables), 100)
	exported := list(t, db, "select name from private.data_catalogue()")
	text, err := os.ReadFile("../../docs/data-exports.md")
	require.NoError(t, err)
	reasons := map[string]bool{}
	for _, line := range strings.Split(string(text), "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 4 && strings.TrimSpace(cells[2]) != "" {
			for _, m := range tableName.FindAllStringSubmatch(cells[1], -1) {
				require.False(t, reasons[m[1]], "%s is left out twice", m[1])
				reasons[m[1]] = true
			}
		}
	}
	for _, name := range tables {
		require.True(t, slices.Contains(exported, name) != reasons[name],
			"%s holds data of people: give it a row in db/code/dataexports/catalogue.sql, or a line with the reason in docs/data-exports.md, not both", name)
	}
	for name := range reasons {
		require.Equal(t, 1, testdb.Value[int](db, "select count(*)::int from pg_class where oid = to_regclass($1)", name), "docs/data-exports.md: %s does not exist", name)
	}
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(exported))), len(exported), "a table is in the catalogue once")
	require.Empty(t, list(t, db, "select private.bare_name(name) from private.data_catalogue() group by 1 having count(*) > 1"), "names without their schema differ")
}

func TestEachColumnOfTheCatalogueIsDecided(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	require.Empty(t, list(t, db, `with named as (
			select c.name, n from private.data_catalogue() c, regexp_split_to_table(btrim(c.columns || ' ' || c.left_out), '\s+') n
			union all select c.name, n from private.data_catalogue() c, jsonb_object_keys(c.computed) n),
		has as (select c.name, a.attname::text as n from private.data_catalogue() c join pg_attribute a on a.attrelid = c.name::regclass and a.attnum > 0 and not a.attisdropped)
		select 'not decided: ' || name || '.' || n from has where not exists (select from named x where x.name = has.name and x.n = has.n)
		union all select 'decided twice: ' || name || '.' || n from named group by name, n having count(*) > 1
		union all select 'does not exist: ' || name || '.' || n from named where not exists (select from has x where x.name = named.name and x.n = named.n)`))
	require.Empty(t, list(t, db, `select c.name || '.' || n from private.data_catalogue() c, regexp_split_to_table(c.columns || ' ' || c.keys, '\s+') n
		where n ~ '(^sealed|token$|_key$|secret$|checksum|^digest$|(?<!commit)_hash$)'`), "no column of a secret is exported")
	require.Empty(t, list(t, db, `select c.name from private.data_catalogue() c where not exists (select from pg_index i where i.indrelid = c.name::regclass and i.indisunique
		and i.indpred is null and (select array_agg(a.attname::text) from unnest(i.indkey::smallint[]) k join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k)
			<@ (regexp_split_to_array(c.keys, '\s+') || case when c.condition like 't.user_id = $1%' then array['user_id'] else '{}' end))`),
		"the keys name one row, so that no page repeats or skips any")
	require.Empty(t, list(t, db, `select c.name from private.data_catalogue() c where not exists (select from unnest(private.export_categories()) k where k = c.category)`))
}

// Each row of each table is read once, however the pages fall: behind the key of a row are the rows after it.
func TestPagesNeitherRepeatNorSkipRecords(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.furnish(t, l.anna, "Anna")
	l.DB.Exec(`insert into public.usage_days (organization_id, metric, day, value) select $1, m, current_date - d, d from unnest(array['api_calls', 'ingestions']) m, generate_series(1, 9) d`, l.anna.OrgID)
	l.DB.Exec("insert into private.login_history (user_id, method, status, created_at) select $1, 'password', 'success', now() from generate_series(1, 9)", l.anna.ID)
	conn := l.DB.Connect("postgres")
	type row struct{ Record, At string }
	read := func(name string, next bool, args ...any) []row {
		var statement string
		require.NoError(t, conn.QueryRow(t.Context(), "select private.data_statement($1, $2)", name, next).Scan(&statement))
		rows, err := conn.Query(t.Context(), "select s.record, s.at::text from ("+statement+") s", args...)
		require.NoError(t, err)
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		require.NoError(t, err, name)
		return all
	}
	filled := 0
	for _, name := range list(t, l.DB, "select name from private.data_catalogue()") {
		all := read(name, false, l.anna.ID)
		filled += count(len(all) > 0)
		for i, r := range all {
			require.Equal(t, len(all)-i-1, len(read(name, true, l.anna.ID, r.At)), "%s behind %s", name, r.At)
		}
	}
	require.Greater(t, filled, 45)

	// Pages of the worker, by size and by number.
	l.DB.Exec(`insert into public.skill_executions (user_id, organization_id, execution_type, input, output, model, status, completed_at, executed_at)
		select $1, $2, 'manual', '{}', repeat(md5(n::text), 20000), 'm', 'completed', now(), now() - (n / 5) * interval '1 hour' from generate_series(1, 20) n`, l.anna.ID, l.anna.OrgID)
	l.DB.Exec(`insert into public.audit_log (organization_id, user_id, event_type, description, created_at)
		select $1, $2, 'user.login', 'Line', now() - (n / 7) * interval '1 second' from generate_series(1, 21000) n`, l.anna.OrgID, l.anna.ID)
	worker.Start(t, l.Stack)
	activity := l.open(t, ready(t, l.anna, ask(l.anna, map[string]any{"type": "selective", "categories": []string{"activity"}}).ID)).category(t, "activity.json")
	for name, least := range map[string]int{"skill_executions": 20, "audit_log": 21000, "login_history": 9, "usage_days": 18} {
		ids := map[string]bool{}
		for _, r := range activity[name].Records {
			ids[fmt.Sprint(r["id"], r["metric"], r["day"])] = true
		}
		require.GreaterOrEqual(t, len(ids), least, name)
		require.Len(t, activity[name].Records, len(ids), "%s has each record once", name)
	}
}
