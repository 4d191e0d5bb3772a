package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/server/auth"
	"kijko/server/dev"
	"kijko/supabase"
)

const root = "../../.."

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func emptyDatabase(t *testing.T) *database {
	t.Helper()
	ctx := within(t)
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop(context.Background())) })
	d, err := newDatabase(ctx, cluster)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.drop(context.Background())) })
	return d
}

func dump(t *testing.T, d *database) string {
	t.Helper()
	text, err := d.dump(within(t))
	require.NoError(t, err)
	return string(text)
}

// The drift check: the committed files equal the output of their sources.
func TestCommittedFilesAreCurrent(t *testing.T) {
	require.NoError(t, run(within(t), root, true))
}

func TestSupabaseMigrations(t *testing.T) {
	reference := emptyDatabase(t)
	require.NoError(t, reference.setUp(within(t)))
	want := dump(t, reference)

	plain := emptyDatabase(t)
	files, err := filepath.Glob(filepath.Join(root, "supabase", "migrations", "*.sql"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		require.NoError(t, plain.psql(within(t), file))
	}

	t.Run("PsqlAloneGivesTheSameSchema", func(t *testing.T) {
		require.Equal(t, want, dump(t, plain))
	})

	t.Run("SetupGoesOnWhereTheyEnded", func(t *testing.T) {
		require.NoError(t, plain.setUp(within(t)))
		require.Equal(t, want, dump(t, plain))
		var version int32
		require.NoError(t, plain.withConn(within(t), func(conn *pgx.Conn) error {
			return conn.QueryRow(within(t), "select version from "+db.VersionTable).Scan(&version)
		}))
		require.Equal(t, db.ExpectedVersion(), version)
	})
}

func TestCodePackageInstalledTwiceIsTheSame(t *testing.T) {
	d := emptyDatabase(t)
	require.NoError(t, d.setUp(within(t)))
	once := dump(t, d)
	require.NoError(t, d.withConn(within(t), func(conn *pgx.Conn) error { return db.Install(within(t), conn) }))
	require.Equal(t, once, dump(t, d))
}

// A dump that did not show a change would make every check above blind.
func TestDumpShowsAChange(t *testing.T) {
	d := emptyDatabase(t)
	require.NoError(t, d.setUp(within(t)))
	before := dump(t, d)
	require.NoError(t, d.withConn(within(t), func(conn *pgx.Conn) error {
		_, err := conn.Exec(within(t), `grant delete on public.organizations to anon`)
		return err
	}))
	require.NotEqual(t, before, dump(t, d))
}

func TestLeftover(t *testing.T) {
	upgraded := "-- Name: stay(uuid); Type: FUNCTION; Schema: api; Owner: -\n--\n-- Name: go(text, integer); Type: FUNCTION; Schema: private; Owner: -\n"
	fresh := "-- Name: stay(uuid); Type: FUNCTION; Schema: api; Owner: -\n-- Name: new(); Type: FUNCTION; Schema: api; Owner: -\n"
	require.Equal(t, []string{"private.go(text, integer)"}, leftover([]byte(upgraded), []byte(fresh)))
}

func TestNormalise(t *testing.T) {
	in := "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped from database version 15.20\n-- Dumped by pg_dump version 15.20\n\nSET a = 1;\nSET transaction_timeout = 0;\n\n\\unrestrict abc\n\n"
	require.Equal(t, "--\n-- PostgreSQL database dump\n--\n\nSET a = 1;\n", string(normalize([]byte(in))))
}

func TestDifferences(t *testing.T) {
	dir := t.TempDir()
	outputs := []output{{"db/schema.sql", []byte("new")}, {"supabase/migrations/1_a.sql", []byte("a")}}
	stale, err := differences(dir, outputs)
	require.NoError(t, err)
	require.Equal(t, []string{"db/schema.sql", "supabase/migrations/1_a.sql"}, stale, "what is absent is stale")

	require.NoError(t, write(dir, outputs))
	stale, err = differences(dir, outputs)
	require.NoError(t, err)
	require.Empty(t, stale)

	left := filepath.Join(dir, "supabase", "tests", "gone.sql")
	require.NoError(t, os.MkdirAll(filepath.Dir(left), 0o755))
	require.NoError(t, os.WriteFile(left, nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "db", "schema.sql"), []byte("old"), 0o644))
	stale, err = differences(dir, outputs)
	require.NoError(t, err)
	require.Equal(t, []string{"db/schema.sql", "supabase/tests/gone.sql"}, stale, "what differs and what is left over is stale")

	require.NoError(t, write(dir, outputs))
	require.NoFileExists(t, left)
}

func TestPgtapCopiesHaveTheirHelpersOnce(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "tests", "pgtap")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	for name, text := range map[string]string{"helpers.sql": "create schema tests;\n", "a.sql": "begin;\nselect 1;\nrollback;\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644))
	}
	copies, err := pgtapCopies(dir)
	require.NoError(t, err)
	byPath := map[string]string{}
	for _, c := range copies {
		_, byPath[c.path], _ = strings.Cut(string(c.content), "\n")
	}
	require.Equal(t, map[string]string{"supabase/tests/000_helpers.sql": "create schema tests;\n" + arrived,
		"supabase/tests/a.sql": "begin;\nselect 1;\nrollback;\n", "supabase/tests/zz_helpers.sql": left}, byPath)
}

func TestBetween(t *testing.T) {
	got, err := between([]byte("a <b> old <e> c"), "<b>", "<e>", " new ")
	require.NoError(t, err)
	require.Equal(t, "a <b> new <e> c", string(got))
	_, err = between([]byte("a <e>"), "<b>", "<e>", "")
	require.ErrorContains(t, err, `lost its marker "<b>"`)
	_, err = between([]byte("<e> a <b>"), "<b>", "<e>", "")
	require.ErrorContains(t, err, `lost its marker "<e>"`)
}

func TestSeed(t *testing.T) {
	d := emptyDatabase(t)
	require.NoError(t, d.setUp(within(t)))
	for range 2 { // a second run changes nothing
		require.NoError(t, d.psql(within(t), filepath.Join(root, "supabase", "seed.sql")))
	}
	var owners int
	var hash string
	require.NoError(t, d.withConn(within(t), func(conn *pgx.Conn) error {
		_, err := conn.Exec(within(t), supabase.Seed)
		require.NoError(t, err)
		return conn.QueryRow(within(t), `select count(*) over (), c.password_hash
			from public.memberships m join public.users u on u.id = m.user_id join private.credentials c on c.user_id = u.id
			where u.email = $1 and m.role = 'owner'`, dev.DemoEmail).Scan(&owners, &hash)
	}))
	require.Equal(t, 1, owners)
	hasher, err := auth.NewHasher(1)
	require.NoError(t, err)
	ok, stale, err := hasher.Check(within(t), hash, dev.DemoPassword)
	require.NoError(t, err)
	require.True(t, ok, "the password that make run prints opens the door")
	require.False(t, stale)
}

func TestFailingFileIsNamed(t *testing.T) {
	d := emptyDatabase(t)
	file := filepath.Join(t.TempDir(), "broken.sql")
	require.NoError(t, os.WriteFile(file, []byte("select 1;\nselec 2;\n"), 0o644))
	err := d.psql(within(t), file)
	require.ErrorContains(t, err, "broken.sql:2")
}

func TestPlacesOfDates(t *testing.T) {
	object := func(members map[string]any) map[string]any {
		return map[string]any{"type": "object", "properties": members}
	}
	ref := func(name string) map[string]any { return map[string]any{"$ref": "#/components/schemas/" + name} }
	d := &datePlans{plans: map[string]*datePlan{}, schemas: map[string]any{
		"Timestamp": map[string]any{"type": "string", "format": "date-time"},
		"Day":       map[string]any{"type": "string", "format": "date"},
		"Row":       object(map[string]any{"createdAt": ref("Timestamp"), "last_seen_at": ref("Timestamp"), "day": ref("Day"), "text": map[string]any{"type": "string"}}),
		"Plain":     object(map[string]any{"created_at": ref("Timestamp")}),
	}}
	for name, tt := range map[string]struct {
		schema map[string]any
		want   string
	}{
		"AnObject":          {ref("Row"), "Row"},
		"AList":             {map[string]any{"type": "array", "items": ref("Row")}, "Row"},
		"AMemberThatIsNull": {object(map[string]any{"at": map[string]any{"oneOf": []any{ref("Timestamp"), map[string]any{"type": "null"}}}}), "{ at: 1 }"},
		"EveryMember":       {map[string]any{"type": "object", "additionalProperties": ref("Row")}, `{ "*": Row }`},
		"OneOfSeveral":      {map[string]any{"oneOf": []any{object(map[string]any{"row": ref("Row")}), object(map[string]any{"at": ref("Timestamp")}), ref("Plain")}}, "{ at: 1, row: Row }"},
		"PartsOfAWhole":     {map[string]any{"allOf": []any{ref("Row"), object(map[string]any{"endedAt": ref("Timestamp")})}}, "{ createdAt: 1, endedAt: 1 }"},
	} {
		t.Run(name, func(t *testing.T) {
			var uses []string
			require.Equal(t, tt.want, d.expression(d.of(tt.schema), &uses))
		})
	}
	require.Nil(t, d.of(ref("Plain")), "names with an underscore keep text")
	require.Nil(t, d.of(ref("Day")))
	text, err := d.file()
	require.NoError(t, err)
	require.Contains(t, string(text), "export const Row: Plan = { createdAt: 1 };\n")

	d.schemas["Self"] = object(map[string]any{"at": ref("Timestamp"), "parts": map[string]any{"type": "array", "items": ref("Self")}})
	d.define("Self")
	_, err = d.file()
	require.ErrorContains(t, err, "Self and Self hold one another")
}

func TestAWrittenFunctionReplacesTheGeneratedOne(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, clientFolder, "src", "written")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "notes.ts"), []byte("export const listNotes = () => [];\nexport async function addNote() {}\n"), 0o600))
	functions := []clientFunction{{name: "readNote", text: "export const readNote\n"}, {name: "listNotes", text: "export const listNotes\n"}, {name: "addNote", text: "export const addNote\n"}}
	text, err := clientModule(root, "notes", functions)
	require.NoError(t, err)
	require.Equal(t, generatedHead+"\nexport const readNote\n\nexport * from \"../written/notes.js\";\n", string(text))
}
