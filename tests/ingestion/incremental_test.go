package ingestion

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/worker/app"
	"kijko/worker/gitfetch/gittest"
)

// ingest accepts an entry that ingests these sources, and waits for the end of its run.
func (l *ingestLab) ingest(project uuid.UUID, sources string) (run uuid.UUID, outcome string) {
	l.t.Helper()
	run = value[uuid.UUID](l, "select (private.add_ingestion($1, jsonb_build_object('sources', $2::jsonb), $3)).run_id", project, sources, l.user)
	return run, l.outcome(run)
}

func (l *ingestLab) set(project uuid.UUID) []string {
	l.t.Helper()
	return value[[]string](l, `select coalesce(array_agg(path order by path collate "C"), '{}') from public.context_files where project_id = $1 and not is_hidden`, project)
}

// rows are the chunks of the project's index by path and place, with the transaction that wrote each.
func (l *ingestLab) rows(project uuid.UUID) map[string]string {
	l.t.Helper()
	rows, err := l.owner.Query(context.Background(), `select f.path || ':' || c.position, c.xmin::text from public.project_indexes i
		join public.run_files f on f.organization_id = i.organization_id and f.run_id = i.run_id
		join public.chunks c on c.organization_id = f.organization_id and c.run_id = f.run_id and c.file_id = f.id where i.project_id = $1`, project)
	require.NoError(l.t, err)
	defer rows.Close()
	found := map[string]string{}
	for rows.Next() {
		var place, writer string
		require.NoError(l.t, rows.Scan(&place, &writer))
		found[place] = writer
	}
	require.NoError(l.t, rows.Err())
	return found
}

func TestAnIncrementalRunWritesOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/greet", gittest.On("main", smallRepository))
	l.work()
	project := l.project("acme/greet")
	first, outcome := l.ingest(project, "{}")
	require.Equal(t, "completed", outcome)
	before := l.rows(project)
	metrics := value[string](l, "select concat_ws(' ', total_files, files_processed, chunks_created) from public.ingestion_runs where id = $1", first)

	l.git.Push(t, "acme/greet", gittest.Branch{Name: "main", Commits: []gittest.Commit{{Files: gittest.Texts(map[string]string{"web/math.ts": "export function add(a: number, b: number): number {\n  return b + a\n}\n"})}}})
	second, outcome := l.ingest(project, "{}")
	require.Equal(t, "completed", outcome)
	after := l.rows(project)
	for place, writer := range before {
		if strings.HasPrefix(place, "web/math.ts:") {
			require.NotEqual(t, writer, after[place], place)
		} else {
			require.Equal(t, writer, after[place], "%s was not written again", place)
		}
	}
	require.Equal(t, first, value[uuid.UUID](l, "select run_id from public.project_indexes where project_id = $1", project))
	require.Equal(t, second, value[uuid.UUID](l, "select last_run_id from public.project_indexes where project_id = $1", project))
	require.Equal(t, metrics, value[string](l, "select concat_ws(' ', total_files, files_processed, chunks_created) from public.ingestion_runs where id = $1", second),
		"metrics describe the whole project")
	require.Equal(t, "0 1 0", value[string](l, "select concat_ws(' ', files_added, files_modified, files_removed) from public.context_ingestions where project_id = $1 and number = 2", project))
	require.Contains(t, value[string](l, `select convert_from(b.content, 'UTF8') from public.context_files f join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash
		where f.project_id = $1 and f.path = 'tools/run.py'`, project), "[REDACTED:", "stored texts have their secrets masked")

	t.Run("AFailedRunLeavesTheIndexAndTheSet", func(t *testing.T) {
		set, digest := l.set(project), l.rows(project)
		l.git.Set("acme/greet", gittest.Mood{Status: 404})
		_, outcome := l.ingest(project, "{}")
		l.git.Set("acme/greet", gittest.Mood{})
		require.Equal(t, "failed", outcome)
		require.Equal(t, set, l.set(project))
		require.Equal(t, digest, l.rows(project))
	})
	t.Run("ADuplicateWhoseBodyLeftGetsItsTextBack", func(t *testing.T) {
		require.Equal(t, 1, value[int](l, "select count(*) from public.chunks where run_id = $1 and reference_of is not null", first))
		l.git.Push(t, "acme/greet", gittest.Branch{Name: "main", Commits: []gittest.Commit{{Delete: []string{"copy/greet.go"}}}})
		_, outcome := l.ingest(project, "{}")
		require.Equal(t, "completed", outcome)
		require.Equal(t, 0, value[int](l, "select count(*) from public.chunks where run_id = $1 and (reference_of is not null or content like '[same as%')", first))
		require.NotContains(t, l.set(project), "copy/greet.go")
	})
	t.Run("ForceDoesEverythingAgain", func(t *testing.T) {
		run := value[uuid.UUID](l, "select (private.insert_run($1, '{\"force\": true}', $2)).id", project, l.user)
		require.Equal(t, "completed", l.outcome(run))
		require.Equal(t, run, value[uuid.UUID](l, "select run_id from public.project_indexes where project_id = $1", project))
	})
	t.Run("OtherSettingsMakeANewIndex", func(t *testing.T) {
		l.exec("update public.projects set chunking_strategy = 'fixed' where id = $1", project)
		run, outcome := l.ingest(project, "{}")
		require.Equal(t, "completed", outcome)
		require.Equal(t, run, value[uuid.UUID](l, "select run_id from public.project_indexes where project_id = $1", project))
	})
	t.Run("WithoutMaskingTheTextIsAnotherOne", func(t *testing.T) {
		l.exec("update public.projects set anonymize_secrets = false where id = $1", project)
		_, outcome := l.ingest(project, "{}")
		require.Equal(t, "completed", outcome)
		require.Contains(t, value[string](l, `select convert_from(b.content, 'UTF8') from public.context_files f join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash
			where f.project_id = $1 and f.path = 'tools/run.py'`, project), "ghp_")
	})
}

func TestSourcesOfAContext(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/one", gittest.On("main", gittest.Texts(map[string]string{"README.md": "# One\n", "src/a.go": "package a\n"})))
	l.git.Create(t, "acme/two", gittest.On("main", gittest.Texts(map[string]string{"README.md": "# Two\n"})))
	l.work(func(c *app.Config) { c.ContextFiles = 8 })
	project := l.project("acme/one")
	file := func(path string, content []byte) uuid.UUID {
		l.t.Helper()
		object, err := l.blobs.Put(context.Background(), bytes.NewReader(content), 1<<20)
		require.NoError(t, err)
		return value[uuid.UUID](l, `insert into public.project_files (organization_id, project_id, origin, name, path, size, checksum, storage_key)
			values ($1, $2, 'upload', $3, $3, $4, $5, $6) returning id`, l.org, project, path, object.Size, object.SHA256, object.Key)
	}
	picked := func(id uuid.UUID) (uuid.UUID, string) { return l.ingest(project, fmt.Sprintf(`{"fileIds": [%q]}`, id)) }

	_, outcome := l.ingest(project, "{}")
	require.Equal(t, "completed", outcome)
	require.Equal(t, []string{"README.md", "src/a.go"}, l.set(project), "the first repository has no prefix")

	t.Run("ASecondRepositoryDoesNotMoveTheFirst", func(t *testing.T) {
		l.exec(`insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
			values ($1, $2, 'github', 'https://github.com/acme/two', 'acme/two')`, l.org, project)
		_, outcome := l.ingest(project, "{}")
		require.Equal(t, "completed", outcome)
		require.Equal(t, []string{"README.md", "acme/two/README.md", "src/a.go"}, l.set(project))
	})
	t.Run("ABinaryFileIsStoredAndNotParsed", func(t *testing.T) {
		_, outcome := picked(file("logo.png", []byte("\x89PNG\x00\x01")))
		require.Equal(t, "completed", outcome)
		require.Equal(t, "true 0 6", value[string](l, `select concat_ws(' ', f.is_binary::text, f.tokens, octet_length(b.content)) from public.context_files f
			join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash where f.project_id = $1 and f.path = 'logo.png'`, project))
		require.False(t, value[bool](l, "select exists (select from public.run_files where path = 'logo.png')"))
	})
	t.Run("NoFilterKeepsAPickedFileOut", func(t *testing.T) {
		_, outcome := picked(file("app.test.min.js", []byte("test('x')\n")))
		require.Equal(t, "completed", outcome)
		require.Contains(t, l.set(project), "app.test.min.js")
	})
	t.Run("OfTwoSourcesOfAPathTheLaterWins", func(t *testing.T) {
		_, outcome := picked(file("README.md", []byte("# Picked\n")))
		require.Equal(t, "completed", outcome)
		require.Equal(t, "# Picked\n", value[string](l, `select convert_from(b.content, 'UTF8') from public.context_files f join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash
			where f.project_id = $1 and f.path = 'README.md'`, project))
		require.Equal(t, 1, value[int](l, "select count(*) from public.run_files where path = 'README.md'"))
	})
	t.Run("AHiddenFileIsInNoIndexAndNoGraph", func(t *testing.T) {
		l.exec("update public.context_files set is_hidden = true where project_id = $1 and path = 'app.test.min.js'", project)
		run := value[uuid.UUID](l, "select (private.insert_run($1, '{\"scope\": {\"refresh\": true}}', $2)).id", project, l.user)
		require.Equal(t, "completed", l.outcome(run))
		require.False(t, value[bool](l, "select exists (select from public.run_files where path = 'app.test.min.js') or exists (select from public.kg_nodes where path = 'app.test.min.js')"))
		require.True(t, value[bool](l, "select exists (select from public.kg_nodes where path = 'README.md')"))
	})
	t.Run("TooManyFilesAreRefused", func(t *testing.T) {
		texts := map[string]string{}
		for i := range 9 {
			texts[fmt.Sprintf("many%d.txt", i)] = "text\n"
		}
		l.git.Push(t, "acme/two", gittest.Branch{Name: "main", Commits: []gittest.Commit{{Files: gittest.Texts(texts)}}})
		before := l.set(project)
		run, outcome := l.ingest(project, "{}")
		require.Equal(t, "failed", outcome)
		require.Equal(t, "CONTEXT_TOO_LARGE", value[string](l, "select error_code from public.ingestion_runs where id = $1", run))
		require.Equal(t, before, l.set(project))
	})
}

// While a run that reads no source goes on, a person hides one of its files.
func TestAFileThatIsHiddenDuringARunComesBackNowhere(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/greet", gittest.On("main", smallRepository))
	l.work()
	project := l.project("acme/greet")
	_, outcome := l.ingest(project, "{}")
	require.Equal(t, "completed", outcome)
	shown := `select concat_ws(' ', (select count(*) from public.run_files f join public.project_indexes i on i.run_id = f.run_id where i.project_id = $1 and f.path = 'web/math.ts'),
		(select count(*) from public.kg_nodes where project_id = $1 and path = 'web/math.ts'))`
	require.Equal(t, "1 2", value[string](l, shown, project))

	l.exec(`create function public.hide_meanwhile() returns trigger language plpgsql as $$ begin
		update public.context_files set is_hidden = true where project_id = new.project_id and path = 'web/math.ts'; return null; end $$`)
	l.exec(`create trigger _990_hide_meanwhile after update on public.ingestion_runs for each row
		when (old.phase <> new.phase and new.phase = 'indexing') execute function public.hide_meanwhile()`)
	for _, options := range []string{`{"scope": {"refresh": true}}`, `{"force": true, "scope": {"refresh": true}}`} {
		l.exec("update public.context_files set is_hidden = false where project_id = $1", project)
		run := value[uuid.UUID](l, "select (private.insert_run($1, $2, $3)).id", project, options, l.user)
		require.Equal(t, "completed", l.outcome(run))
		require.Equal(t, "0 0", value[string](l, shown, project), options)
		require.NotContains(t, l.set(project), "web/math.ts")
		require.True(t, value[bool](l, "select exists (select from public.kg_nodes where project_id = $1 and path = 'web/app.ts')", project))
	}
}

// What the database refuses in the last transaction it refuses each worker: the run says so, and the index is as it was.
func TestARefusedEndFailsTheRun(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.git.Create(t, "acme/greet", gittest.On("main", smallRepository))
	l.work()
	project := l.project("acme/greet")
	l.exec(`create function public.refuse_index() returns trigger language plpgsql as $$ begin raise check_violation using message = 'No index today.'; end $$`)
	l.exec("create trigger _990_refuse before insert on public.project_indexes for each row execute function public.refuse_index()")
	run := value[uuid.UUID](l, "select (private.insert_run($1, '{}', $2)).id", project, l.user)
	require.Equal(t, "failed", l.outcome(run))
	require.Equal(t, "INDEXING_FAILED 0 0", value[string](l, `select concat_ws(' ', r.error_code, r.restarts, (select count(*) from public.kg_nodes n where n.project_id = r.project_id))
		from public.ingestion_runs r where r.id = $1`, run))
	l.exec("drop trigger _990_refuse on public.project_indexes")
	_, outcome := l.ingest(project, "{}")
	require.Equal(t, "completed", outcome)
}

// The four techniques leave entries alone that were ingested with processingMode none or are marked as never to be compressed. A file
// belongs to the entry that changed it last.
func TestTechniquesLeaveVerbatimEntriesAlone(t *testing.T) {
	t.Parallel()
	l := newIngestLab(t)
	l.work()
	project := l.project()
	code := func(name string) string {
		return "package " + name + "   \n\n\n\n\n\nfunc " + name + "() int {   \n\n\n\n\treturn 1   \n}\n"
	}
	put := func(path, content, entry string) {
		l.t.Helper()
		object, err := l.blobs.Put(context.Background(), strings.NewReader(content), 1<<20)
		require.NoError(t, err)
		id := value[uuid.UUID](l, `with former as (
				update public.project_files set size = $4, checksum = $5, storage_key = $6 where project_id = $2 and path = $3 returning id
			), new as (
				insert into public.project_files (organization_id, project_id, origin, name, path, size, checksum, storage_key)
				select $1, $2, 'upload', $3, $3, $4, $5, $6 where not exists (select from former) returning id
			) select id from former union all select id from new`, l.org, project, path, object.Size, object.SHA256, object.Key)
		run := value[uuid.UUID](l, "select (private.add_ingestion($1, $2::jsonb || jsonb_build_object('sources', jsonb_build_object('fileIds', jsonb_build_array($3::uuid))), $4)).run_id",
			project, entry, id, l.user)
		require.Equal(t, "completed", l.outcome(run))
	}
	// saved are the files whose stored text is shorter than their own.
	saved := func() []string {
		l.t.Helper()
		return value[[]string](l, `select coalesce(array_agg(f.path order by f.path), '{}') from public.project_indexes i
			join public.run_files f on f.organization_id = i.organization_id and f.run_id = i.run_id where i.project_id = $1 and f.optimized_tokens < f.tokens`, project)
	}
	renew := func(options string) {
		l.t.Helper()
		run := value[uuid.UUID](l, "select (private.insert_run($1, $2, $3)).id", project, options, l.user)
		require.Equal(t, "completed", l.outcome(run))
	}
	put("kept.go", code("kept"), `{"isVerbatim": true}`)
	require.Empty(t, saved())
	put("short.go", code("short"), `{}`)
	require.Equal(t, []string{"short.go"}, saved(), "what another entry brings is optimized")
	put("never.go", code("never"), `{"neverCompress": true}`)
	require.Equal(t, []string{"short.go"}, saved())
	renew(`{"force": true}`)
	require.Equal(t, []string{"short.go"}, saved(), "a run of all sources leaves unchanged files with their entries")
	renew(`{"scope": {"refresh": true}}`)
	require.Equal(t, []string{"short.go"}, saved())
	require.Equal(t, value[string](l, "select concat_ws(' ', original_tokens, optimized_tokens) from public.projects where id = $1", project),
		value[string](l, `select concat_ws(' ', sum(f.tokens), sum(f.optimized_tokens)) from public.project_indexes i
			join public.run_files f on f.organization_id = i.organization_id and f.run_id = i.run_id where i.project_id = $1`, project), "the sums of the project agree")

	l.exec("update public.context_ingestions set never_compress = true where project_id = $1 and number = 2", project)
	renew(`{}`)
	require.Empty(t, saved(), "a mark counts from the next run on")
	put("kept.go", code("changed"), `{}`)
	require.Equal(t, []string{"kept.go"}, saved(), "a changed file belongs to the entry that changed it")
	_, err := l.as("select api.roll_back_context(jsonb_build_object('contextId', $1::text, 'number', '3'))", project)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return value[bool](l, "select not exists (select from public.ingestion_runs where project_id = $1 and outcome = 'open')", project)
	}, time.Minute, 20*time.Millisecond)
	require.Empty(t, saved(), "what a rollback restored belongs to the entry that had brought it")
}
