package gdpr

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/tests/pgtap"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

//go:embed person.sql
var personSQL string

// furnish makes rows of a person in an organization: those of each feature's tests/pgtap/<feature>.seed.sql, and those of person.sql.
func furnish(t *testing.T, s *stack.Stack, tenant, orgID, personID, name string) {
	t.Helper()
	seeds, err := pgtap.Seeds()
	require.NoError(t, err)
	conn := s.DB.Connect("postgres")
	for _, script := range []string{"delete from public.user_personas where user_id = '" + personID + "'", pgtap.Prelude,
		pgtap.Begin(tenant, "select '"+orgID+"'", "select '"+personID+"'"), seeds, strings.ReplaceAll(personSQL, "Wilhelmina", name), pgtap.End} {
		_, err := conn.Exec(t.Context(), script)
		require.NoError(t, err)
	}
}

// column is a column of the catalog, and what its tag says that erasure does with it.
type column struct{ table, name, rule string }

// columns are all columns of our tables. Those without a tag (numbers, times, keys between tables) have an empty rule.
func columns(t *testing.T, db *testdb.DB) []column {
	t.Helper()
	rows, err := db.Connect("postgres").Query(t.Context(), `select n.nspname || '.' || c.relname, a.attname,
			coalesce(substring(col_description(c.oid, a.attnum) from '\[person: ([a-z]+)\]$'), substring(obj_description(c.oid, 'pg_class') from '\[person: ([a-z]+)\]$'), '')
		from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		where n.nspname in ('public', 'private', 'jobs') and c.relkind = 'r' order by 1, a.attnum`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) { return c, row.Scan(&c.table, &c.name, &c.rule) })
	require.NoError(t, err)
	require.Greater(t, len(all), 1500)
	return all
}

// find returns the columns whose values contain one of the texts, in any case, as text or as bytes.
func find(t *testing.T, db *testdb.DB, all []column, texts ...string) map[column]bool {
	t.Helper()
	var patterns []string
	for _, text := range texts {
		patterns = append(patterns, "%"+text+"%", fmt.Sprintf("%%%x%%", text))
	}
	conn := db.Connect("postgres")
	found := map[column]bool{}
	for _, c := range all {
		var has bool
		value := pgx.Identifier{c.name}.Sanitize() + "::text"
		if c.table == "jobs.stored_jobs" && c.name == "args" {
			value = "convert_from(args, 'UTF8')"
		}
		require.NoError(t, conn.QueryRow(t.Context(), "select exists (select from "+c.table+" where "+value+" ilike any ($1))", patterns).Scan(&has), c)
		if has {
			found[c] = true
		}
	}
	return found
}

// rowsOf are the rows of an organization or a person, table by table, as text. The server notes activity when it comes to it.
func rowsOf(t *testing.T, db *testdb.DB, orgID, personID string) map[string][]string {
	t.Helper()
	conn := db.Connect("postgres")
	all := map[string][]string{}
	for _, c := range columns(t, db) {
		condition := ""
		switch c.name {
		case "organization_id":
			condition = "organization_id = '" + orgID + "'"
		case "user_id":
			condition = "user_id = '" + personID + "'"
		default:
			continue
		}
		rows, err := conn.Query(t.Context(), "select (to_jsonb(t) - 'last_active_at')::text from "+c.table+" t where "+condition+" order by 1")
		require.NoError(t, err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		all[c.table] = append(all[c.table], texts...)
	}
	return all
}

// An account with rows in every table, in an organization of its own and as a member of Stan's. Afterwards nothing of it is found, except in
// columns that declare it. Ben, who has nothing to do with either, has the same bytes as before.
func TestNothingOfAnErasedPersonIsFoundAnywhere(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, stan, ben := s.SignUp("Anna"), s.SignUp("Stan"), s.SignUp("Ben")
	own := anna.OrgID
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise'")
	furnish(t, s, "Bystander", ben.OrgID, ben.ID, "Benjamin")
	furnish(t, s, "Zebedeeown", own, anna.ID, "Wilhelmina")
	// The people that the seeds make are no marks.
	s.DB.Exec("delete from public.users where email like 'colleague.of.zebedeeown%'")
	s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'admin')", stan.OrgID, anna.ID)
	furnish(t, s, "Zebedeeguest", stan.OrgID, anna.ID, "Wilhelmina")
	s.DB.Exec("update public.users set email = 'colleague@example.nl', first_name = 'Carl' where email like 'colleague.of.zebedeeguest%'")
	s.DB.Exec("select private.sequence_events()")

	all := columns(t, s.DB)
	person := []string{anna.ID, anna.Email, "former.zebedeeown@example.nl", "former.zebedeeguest@example.nl", "Wilhelmina Zonneveld", "Wilhelmina"}
	before := find(t, s.DB, all, append(person, "Zebedeeown", "Zebedeeguest")...)
	requireSeeds(t, s.DB, all, before)
	bens, stans := rowsOf(t, s.DB, ben.OrgID, ben.ID), rowsOf(t, s.DB, stan.OrgID, stan.ID)

	report := anna.Do("POST", "/gdpr/delete", map[string]any{"confirm": "DELETE_ALL_MY_DATA"}).Want(200)
	require.Equal(t, anna.ID, report.String("userId"))
	anna.Get("/auth/me").Problem(401, "SESSION_REVOKED")

	allowed := func(found map[column]bool, rules ...string) []column {
		return slices.SortedFunc(maps.Keys(filter(found, func(c column) bool { return !slices.Contains(rules, c.rule) })), func(a, b column) int { return strings.Compare(a.table+a.name, b.table+b.name) })
	}
	require.Empty(t, allowed(find(t, s.DB, all, person...), "kept"), "id, addresses and name are gone")
	// Steps outside wait with what they end: keys of stored files, an account at a provider.
	s.DB.Exec("delete from jobs.stored_jobs where job_type = 'blobs.delete' or job_type like 'gdpr.%'")
	gone := find(t, s.DB, all, "Zebedeeown")
	// An event of Stripe keeps its id, which the seeds made of the name.
	require.True(t, gone[column{"private.stripe_events", "id", "none"}])
	delete(gone, column{"private.stripe_events", "id", "none"})
	require.Empty(t, allowed(gone, "kept"), "so is the organization, but for its invoices")
	require.Equal(t, "t", testdb.Value[string](s.DB, "select (organization_id is null)::text from public.invoices where stripe_invoice_id = 'in_Zebedeeown'")[:1])
	// Histories name the things that they are about.
	require.Empty(t, allowed(find(t, s.DB, all, "secret of Zebedeeguest"), "organization", "masked", "kept"), "in another's organization its content stays")
	require.NotEmpty(t, find(t, s.DB, all, "secret of Zebedeeguest"))
	require.Equal(t, bens, rowsOf(t, s.DB, ben.OrgID, ben.ID), "another tenant has the same rows, byte for byte")
	requireUntouched(t, stans, rowsOf(t, s.DB, stan.OrgID, stan.ID), append(person, "Zebedeeguest"))
	stan.Get("/auth/me").Want(200)
	require.Equal(t, stan.ID, testdb.Value[string](s.DB, "select string_agg(distinct user_id::text, ' ') from public.projects where organization_id = $1", stan.OrgID), "projects belong to the owner")
}

func filter[K comparable](m map[K]bool, keep func(K) bool) map[K]bool {
	out := map[K]bool{}
	for k := range m {
		if keep(k) {
			out[k] = true
		}
	}
	return out
}

// requireSeeds fails for a table that can hold a person's data, and in which the test has none.
func requireSeeds(t *testing.T, db *testdb.DB, all []column, found map[column]bool) {
	t.Helper()
	rules, seeded := map[string]map[string]bool{}, map[string]bool{}
	for _, c := range all {
		if rules[c.table] == nil {
			rules[c.table] = map[string]bool{}
		}
		rules[c.table][c.rule] = true
		seeded[c.table] = seeded[c.table] || found[c]
	}
	conn := db.Connect("postgres")
	var missing []string
	for table, has := range rules {
		switch {
		case has["erased"] || has["detached"] || has["reassigned"] || has["masked"]:
			// Digests, and what hangs on another row of the person, name no one; the server empties the inbox.
			if !slices.Contains([]string{"private.login_failures", "private.backup_codes", "private.refresh_tokens", "private.reflex_secrets", "private.event_inbox"}, table) {
				if !seeded[table] {
					missing = append(missing, table)
				}
			}
		case has["organization"]:
			var any bool
			require.NoError(t, conn.QueryRow(t.Context(), "select exists (select from "+table+")").Scan(&any))
			if !any {
				missing = append(missing, table)
			}
		}
	}
	slices.Sort(missing)
	require.Empty(t, missing, "these tables can hold data of a person or of an organization: make some in a <feature>.seed.sql or in person.sql")
}

// hanging are tables whose rows hang on a row of the person that is deleted, and those that count or describe what changed: the project has
// another owner and a member less, and a staged file gives its bytes back.
var hanging = []string{"private.audit_blocks", "private.audit_files", "public.projects", "public.usage_counters"}

// requireUntouched compares rows that name no mark.
func requireUntouched(t *testing.T, before, after map[string][]string, marks []string) {
	t.Helper()
	changed := map[string][]string{}
	for table, rows := range before {
		for _, row := range rows {
			if !slices.ContainsFunc(marks, func(mark string) bool { return strings.Contains(strings.ToLower(row), strings.ToLower(mark)) }) && !slices.Contains(after[table], row) &&
				!slices.Contains(hanging, table) {
				changed[table] = append(changed[table], row)
			}
		}
	}
	require.Empty(t, changed, "rows that name no erased person have changed")
}
