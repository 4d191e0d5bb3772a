package ingestion

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/tests/stack/worker"
	"kijko/worker/gitfetch/gittest"
	"kijko/worker/token"
)

// textsByPath is a set of files.
type textsByPath map[string]string

// entry is a file of a version and the source that contributed it.
type entry struct{ text, source string }

// entries is what a version holds.
type entries map[string]entry

func (e entries) texts() textsByPath {
	texts := textsByPath{}
	for path, x := range e {
		texts[path] = x.text
	}
	return texts
}

// versionModel is an entry as the model knows it.
type versionModel struct {
	number  int
	failed  bool
	deleted bool
	puts    entries
	removes map[string]bool
}

// historyModel is the contract's version model in its plainest form: State(n) folds the operations of all live entries up to n.
type historyModel struct{ versions []*versionModel }

func (m *historyModel) state(n int) entries {
	set := entries{}
	for _, v := range m.versions {
		if v.number > n || v.failed || v.deleted {
			continue
		}
		maps.Copy(set, v.puts)
		for path := range v.removes {
			delete(set, path)
		}
	}
	return set
}

func (m *historyModel) last() int { return len(m.versions) }

// version is the current version: the highest number that is ready.
func (m *historyModel) version() (n int) {
	for _, v := range m.versions {
		if !v.failed && !v.deleted {
			n = v.number
		}
	}
	return n
}

// commit appends the entry whose run leaves this set. A text that stays keeps its source.
func (m *historyModel) commit(wanted entries) {
	v := &versionModel{number: m.last() + 1, puts: entries{}, removes: map[string]bool{}}
	now := m.state(m.last())
	for path, x := range wanted {
		if old, ok := now[path]; !ok || old.text != x.text {
			v.puts[path] = x
		}
	}
	for path := range now {
		if _, ok := wanted[path]; !ok {
			v.removes[path] = true
		}
	}
	m.versions = append(m.versions, v)
}

// history is one context with its sources, its model, and a worker process that is killed now and then.
type history struct {
	*ingestLab
	random  *rand.Rand
	program string
	process *exec.Cmd
	project uuid.UUID
	model   historyModel
	repos   map[string]textsByPath
	kills   int
	phases  map[string]int
	actions map[string]int
	fresh   int
}

var historyWords = strings.Fields("parse token chunk index graph read write merge split cache store fetch scan join trace check walk fold plan mark")

func (h *history) word() string { return historyWords[h.random.IntN(len(historyWords))] }

// file makes a text of one of several languages. Parts of it come from a small stock, so that files share chunks, blocks and licenses.
func (h *history) file(path string) string {
	var b strings.Builder
	shared := func() {
		k := h.random.IntN(4)
		for i := range 8 {
			fmt.Fprintf(&b, "// shared line %d of block %d, which several files have word for word\n", i, k)
		}
	}
	switch {
	case strings.HasSuffix(path, ".go"):
		if h.random.IntN(3) == 0 {
			b.WriteString("// Copyright The Authors of this test. All rights reserved.\n// Use of this source is governed by a license that is in no file.\n\n")
		}
		fmt.Fprintf(&b, "package %s\n\nimport (\n\t\"fmt\"\n\t\"strings\"\n)\n", h.word())
		for range 1 + h.random.IntN(4) {
			if h.random.IntN(3) == 0 {
				b.WriteString("\n")
				shared()
			}
			name, k := h.word(), h.random.IntN(6)
			fmt.Fprintf(&b, "\n// %s%d does what it says.\nfunc %s%d(a int) string {\n\tfmt.Println(a)\n\treturn strings.Repeat(%q, a*%d)\n}\n", name, k, name, k, h.word(), k)
		}
	case strings.HasSuffix(path, ".ts"):
		fmt.Fprintf(&b, "import { %s } from './%s'\n\nexport class %s%d {\n  run(): number {\n    return %s(%d)\n  }\n}\n", h.word(), h.word(), h.word(), h.random.IntN(9), h.word(), h.random.IntN(99))
	case strings.HasSuffix(path, ".md"):
		fmt.Fprintf(&b, "# %s\n\nText about %s and %s.\n\n## %s\n\nMore of it: %d.\n", h.word(), h.word(), h.word(), h.word(), h.random.IntN(1000))
	default:
		fmt.Fprintf(&b, "%s %s %d\n", h.word(), h.word(), h.random.IntN(1000))
	}
	return b.String()
}

func (h *history) path() string {
	if h.random.IntN(3) == 0 {
		return h.name()
	}
	return h.word() + "/" + h.name()
}

// name is a path at the root, where uploads are.
func (h *history) name() string {
	return fmt.Sprintf("%s%d.%s", h.word(), h.random.IntN(5), []string{"go", "go", "ts", "md", "txt"}[h.random.IntN(5)])
}

// change edits a repository: adds, changes, deletes, renames and copies.
func (h *history) change(files textsByPath) gittest.Commit {
	commit := gittest.Commit{Files: gittest.Files{}}
	paths := slices.Sorted(maps.Keys(files))
	put := func(path, text string) {
		files[path] = text
		commit.Files[path] = gittest.Text(text)
		commit.Delete = slices.DeleteFunc(commit.Delete, func(p string) bool { return p == path })
	}
	drop := func(path string) {
		delete(files, path)
		delete(commit.Files, path)
		commit.Delete = append(commit.Delete, path)
	}
	for range 1 + h.random.IntN(4) {
		some := ""
		if len(paths) > 0 {
			some = paths[h.random.IntN(len(paths))]
		}
		text, there := files[some]
		switch action := h.random.IntN(8); {
		case !there || action < 2:
			path := h.path()
			put(path, h.file(path))
		case action < 4:
			put(some, h.file(some))
		case action == 4:
			put(some, text+"\n// one line more\n")
		case action == 5 && len(files) > 3:
			drop(some)
		case action == 6 && len(files) > 3: // a rename
			path := h.path()
			drop(some)
			put(path, text)
		default: // a copy
			put(h.path(), text)
		}
	}
	return commit
}

// begin accepts an entry that ingests these sources, and gives its run.
func (h *history) begin(sources string) uuid.UUID {
	h.t.Helper()
	return value[uuid.UUID](h.ingestLab, "select (private.add_ingestion($1, jsonb_build_object('sources', $2::jsonb), $3)).run_id", h.project, sources, h.user)
}

// refresh makes the index again from the stored texts alone.
func (h *history) refresh() uuid.UUID {
	h.t.Helper()
	return value[uuid.UUID](h.ingestLab, `select (private.insert_run($1, '{"force": true, "scope": {"refresh": true}}', $2)).id`, h.project, h.user)
}

// finish waits for the end of a run. Now and then the worker is killed meanwhile.
func (h *history) finish(run uuid.UUID) string {
	h.t.Helper()
	h.disturb()
	return h.outcome(run)
}

// disturb kills the worker now and then, at a random moment of the run that is open, and starts another one.
func (h *history) disturb() {
	h.t.Helper()
	for h.random.IntN(6) == 0 {
		<-time.NewTimer(time.Duration(h.random.IntN(900)) * time.Millisecond).C
		require.NoError(h.t, h.process.Process.Kill())
		_ = h.process.Wait()
		h.phases[value[string](h.ingestLab, "select coalesce((select phase from public.ingestion_runs where project_id = $1 and outcome = 'open'), 'ended')", h.project)]++
		h.kills++
		h.exec("update public.ingestion_runs set lease_expires_at = now(), restarts = 0 where project_id = $1 and outcome = 'open' and lease_owner is not null", h.project)
		h.process = h.ingestLab.process(h.program)
	}
}

// current reads the current set from the database.
func (h *history) current() textsByPath {
	return h.read(`select f.path, b.content from public.context_files f
		join public.content_blobs b on b.project_id = f.project_id and b.hash = f.hash where f.project_id = $1 and not f.is_hidden`, h.project)
}

func (h *history) read(sql string, args ...any) textsByPath {
	h.t.Helper()
	rows, err := h.owner.Query(context.Background(), sql, args...)
	require.NoError(h.t, err)
	defer rows.Close()
	set := textsByPath{}
	for rows.Next() {
		var path string
		var content []byte
		require.NoError(h.t, rows.Scan(&path, &content))
		set[path] = string(content)
	}
	require.NoError(h.t, rows.Err())
	return set
}

// state reads State(n) as the database folds it.
func (h *history) state(n int) textsByPath {
	return h.read(`select s.path, b.content from private.context_state($1, $2) s join public.content_blobs b on b.project_id = $1 and b.hash = s.hash`, h.project, n)
}

// diff compares the differences of two versions.
func (h *history) diff(from, to int) {
	h.t.Helper()
	data, err := h.as("select api.diff_versions(jsonb_build_object('contextId', $1::text, 'from', $2::text, 'to', $3::text))", h.project, strconv.Itoa(from), strconv.Itoa(to))
	require.NoError(h.t, err)
	var answer struct {
		Files []struct{ Path, Status string }
	}
	require.NoError(h.t, json.Unmarshal(data, &answer))
	want, got, old, new := textsByPath{}, textsByPath{}, h.model.state(from).texts(), h.model.state(to).texts()
	for path, text := range new {
		if before, ok := old[path]; !ok {
			want[path] = "added"
		} else if before != text {
			want[path] = "modified"
		}
	}
	for path := range old {
		if _, ok := new[path]; !ok {
			want[path] = "removed"
		}
	}
	for _, f := range answer.Files {
		got[f.Path] = f.Status
	}
	require.Equal(h.t, want, got, "the difference of versions %d and %d", from, to)
}

// metrics compares sums of the current set and counts of entries.
func (h *history) metrics(want textsByPath) {
	h.t.Helper()
	tokens, live := 0, 0
	for _, text := range want {
		tokens += token.Count(text)
	}
	for _, v := range h.model.versions {
		if !v.deleted {
			live++
		}
	}
	require.Equal(h.t, fmt.Sprintf("%d %d %d", len(want), tokens, live), value[string](h.ingestLab, `select concat_ws(' ', c.files, private.context_metrics($1) ->> 'originalTokens',
		private.context_metrics($1) ->> 'totalIngestions') from private.context_counters c where c.project_id = $1`, h.project), "files, tokens and entries")
	numbers := value[[]int](h.ingestLab, "select coalesce(array_agg(number order by number), '{}') from public.context_ingestions where project_id = $1", h.project)
	var kept []int
	for _, v := range h.model.versions {
		if !v.deleted {
			kept = append(kept, v.number)
		}
	}
	require.Equal(h.t, kept, numbers, "no number is given twice")
}

// indexed is a digest of the rows of the index by paths and places, without any ids.
func (h *history) indexed() textsByPath {
	h.t.Helper()
	index := textsByPath{}
	rows, err := h.owner.Query(context.Background(), `
		select f.path, md5(concat_ws('|', f.source, f.language, f.category, f.bytes, f.tokens, f.optimized_tokens, encode(f.hash, 'hex'), f.metadata, f.removed, f.lost, f.kept,
			(select string_agg(concat_ws(',', c.position, c.start_line, c.end_line, c.type, c.tokens, c.content, encode(c.hash, 'hex'), c.parent_id, c.metadata,
				(select concat_ws(':', g.path, d.position) from public.chunks d join public.run_files g on g.organization_id = d.organization_id and g.run_id = d.run_id and g.id = d.file_id
					where d.organization_id = c.organization_id and d.run_id = c.run_id and d.id = c.reference_of),
				(select t.terms::text from public.chunk_terms t where t.organization_id = c.organization_id and t.run_id = c.run_id and t.chunk_id = c.id)), ';' order by c.position)
			from public.chunks c where c.organization_id = f.organization_id and c.run_id = f.run_id and c.file_id = f.id)))
		from public.run_files f join public.project_indexes i on i.organization_id = f.organization_id and i.run_id = f.run_id where i.project_id = $1`, h.project)
	require.NoError(h.t, err)
	defer rows.Close()
	for rows.Next() {
		var path, digest string
		require.NoError(h.t, rows.Scan(&path, &digest))
		index[path] = digest
	}
	require.NoError(h.t, rows.Err())
	return index
}

// graph has a row for each node and link of the context's graph.
func (h *history) graph() textsByPath {
	return h.read(`select concat_ws(' ', n.type, n.path, n.name, n.start_line), convert_to(concat_ws('|', n.id, n.language, n.end_line, n.is_exported, n.reference_count, f.cluster), 'UTF8')
		from public.kg_nodes n join public.kg_files f on f.project_id = n.project_id and f.part = n.part where n.project_id = $1
		union all select concat_ws(' ', e.source_id, e.type, e.target_id), convert_to(e.count::text, 'UTF8') from public.kg_edges e where e.project_id = $1`, h.project)
}

// sums are the totals that the project shows.
func (h *history) sums() string {
	h.t.Helper()
	return value[string](h.ingestLab, `select concat_ws('|', p.total_files, p.original_tokens, p.optimized_tokens, r.result -> 'savingsBreakdown', r.chunks_created, r.files_processed, r.bytes_processed)
		from public.projects p join public.project_indexes i on i.project_id = p.id join public.ingestion_runs r on r.id = i.last_run_id where p.id = $1`, h.project)
}

// differences names the paths at which two sets differ.
func differences(want, got textsByPath) (found []string) {
	for path, text := range want {
		if other, ok := got[path]; !ok {
			found = append(found, path+" is missing")
		} else if other != text {
			found = append(found, path+" has another text")
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			found = append(found, path+" should not be there")
		}
	}
	slices.Sort(found)
	return found
}

// check compares the database with the model, and sometimes the index with one that is made from the beginning.
func (h *history) check(thorough bool) {
	h.t.Helper()
	want := h.model.state(h.model.last()).texts()
	require.Empty(h.t, differences(want, h.current()), "the current set is the fold of all entries")
	require.Equal(h.t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(h.indexed())), "the index has the files of the current set")
	h.metrics(want)
	version := h.model.version()
	versions := []int{h.random.IntN(version + 1)}
	if thorough {
		versions = versions[:0]
		for n := range version + 1 {
			versions = append(versions, n)
		}
	}
	for _, n := range versions {
		require.Empty(h.t, differences(h.model.state(n).texts(), h.state(n)), "State(%d)", n)
		h.diff(n, h.random.IntN(version+1))
	}
	if thorough && len(want) > 0 {
		h.compare()
	}
}

// compare makes the index from the beginning out of the stored texts, and finds the same rows.
func (h *history) compare() {
	h.t.Helper()
	before, sums, graph := h.indexed(), h.sums(), h.graph()
	require.Equal(h.t, "completed", h.outcome(h.refresh()))
	require.Empty(h.t, differences(h.indexed(), before), "the index is like one that is made from the beginning")
	require.NotEmpty(h.t, graph)
	require.Empty(h.t, differences(h.graph(), graph), "the graph is like one that is made from the beginning")
	require.Equal(h.t, sums, h.sums(), "totals describe the whole project")
	h.fresh++
}

// TestHistoryOfAContext does random ingestions of a repository, of files and texts, with failures and kill -9 of the worker, and compares the
// context with a naive model after each. KIJKO_HISTORY is the number of steps, KIJKO_SEED repeats a history.
func TestHistoryOfAContext(t *testing.T) {
	steps := 30
	if n, err := strconv.Atoi(os.Getenv("KIJKO_HISTORY")); err == nil && n > 0 {
		steps = n
	}
	seed := rand.Uint64()
	if n, err := strconv.ParseUint(os.Getenv("KIJKO_SEED"), 10, 64); err == nil {
		seed = n
	}
	t.Logf("KIJKO_SEED=%d", seed)
	h := &history{ingestLab: newIngestLab(t), random: rand.New(rand.NewPCG(seed, seed)), program: worker.Program(t), repos: map[string]textsByPath{},
		phases: map[string]int{}, actions: map[string]int{}}
	for _, name := range []string{"acme/one", "acme/two"} {
		h.repos[name] = textsByPath{}
		files := gittest.Files{}
		for range 12 {
			path := h.path()
			h.repos[name][path] = h.file(path)
			files[path] = gittest.Text(h.repos[name][path])
		}
		h.git.Create(t, name, gittest.On("main", files))
	}
	h.project = h.ingestLab.project("acme/one")
	h.process = h.ingestLab.process(h.program)
	for step := range steps {
		h.step(step)
		h.check(step%8 == 7 || step == steps-1)
	}
	t.Logf("%v: %d entries, %d kills in %v, %d comparisons with a fresh index; %v incremental runs", h.actions, h.model.last(), h.kills, h.phases, h.fresh,
		value[int](h.ingestLab, "select count(*) from public.ingestion_runs where index_run_id is not null"))
	require.Positive(t, h.fresh)
}

// replace is the set after a run of one source that replaces all that the source contributed before.
func (h *history) replace(source, prefix string, files textsByPath) entries {
	wanted := h.model.state(h.model.last())
	maps.DeleteFunc(wanted, func(_ string, x entry) bool { return x.source == source })
	return h.add(wanted, source, prefix, files)
}

func (h *history) add(wanted entries, source, prefix string, files textsByPath) entries {
	for path, text := range files {
		wanted[prefix+path] = entry{text, source}
	}
	return wanted
}

// settle waits until no run of the project is open.
func (h *history) settle() {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		return !value[bool](h.ingestLab, "select exists (select from public.ingestion_runs where project_id = $1 and outcome = 'open')", h.project)
	}, time.Minute, 20*time.Millisecond)
}

func (h *history) repository(name string) (id uuid.UUID, prefix string) {
	h.t.Helper()
	if name == "acme/two" {
		prefix = "acme/two/"
	}
	return value[uuid.UUID](h.ingestLab, "select id from public.project_repositories where project_id = $1 and repository_name = $2", h.project, name), prefix
}

func (h *history) step(step int) {
	h.t.Helper()
	name := "acme/one"
	if step == 5 {
		h.exec(`insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
			values ($1, $2, 'github', 'https://github.com/acme/two', 'acme/two')`, h.org, h.project)
	}
	if step >= 5 && (step == 5 || h.random.IntN(3) == 0) {
		name = "acme/two"
	}
	ingest := func(sources string, wanted entries) {
		h.t.Helper()
		require.Equal(h.t, "completed", h.finish(h.begin(sources)))
		h.model.commit(wanted)
	}
	action := h.random.IntN(14)
	switch {
	case step == 0 || action < 5:
		h.actions["push"]++
		h.git.Push(h.t, name, gittest.Branch{Name: "main", Commits: []gittest.Commit{h.change(h.repos[name])}})
		id, prefix := h.repository(name)
		ingest(fmt.Sprintf(`{"repositoryIds": [%q]}`, id), h.replace(name, prefix, h.repos[name]))
	case action < 7:
		h.actions["upload"]++
		var ids []string
		files := textsByPath{}
		for range 1 + h.random.IntN(3) {
			path := "up-" + h.name()
			files[path] = h.file(path)
		}
		for path, text := range files {
			ids = append(ids, strconv.Quote(h.put("upload", path, text).String()))
		}
		ingest(fmt.Sprintf(`{"fileIds": [%s]}`, strings.Join(ids, ", ")), h.add(h.model.state(h.model.last()), "file", "", files))
	case action == 7: // a path that a repository has: the later source wins
		h.actions["same path"]++
		path := h.name()
		for _, p := range slices.Sorted(maps.Keys(h.repos["acme/one"])) {
			if !strings.Contains(p, "/") {
				path = p
			}
		}
		files := textsByPath{path: h.file(path)}
		ingest(fmt.Sprintf(`{"fileIds": [%q]}`, h.put("upload", path, files[path])), h.add(h.model.state(h.model.last()), "file", "", files))
	case action == 8:
		h.actions["failure"]++
		h.git.Set(name, gittest.Mood{Status: 404})
		id, _ := h.repository(name)
		require.Equal(h.t, "failed", h.finish(h.begin(fmt.Sprintf(`{"repositoryIds": [%q]}`, id))))
		h.git.Set(name, gittest.Mood{})
		h.model.versions = append(h.model.versions, &versionModel{number: h.model.last() + 1, failed: true})
	case action == 9:
		h.actions["text"]++
		text := "# Typed\n\n" + h.file("a.md")
		h.exec(`insert into public.project_manual_contents (project_id, organization_id, content) values ($1, $2, $3)
			on conflict (project_id) do update set content = excluded.content`, h.project, h.org, text)
		ingest(`{"manual": true}`, h.add(h.model.state(h.model.last()), "manual", "", textsByPath{"manual-content.md": text}))
	case action < 12: // all current versions but the newest can be gone back to
		version := h.model.version()
		if version == 0 {
			return
		}
		h.actions["rollback"]++
		target := h.random.IntN(version)
		_, err := h.as("select api.roll_back_context(jsonb_build_object('contextId', $1::text, 'number', $2::text))", h.project, strconv.Itoa(target))
		require.NoError(h.t, err)
		h.model.commit(h.model.state(target))
		h.disturb()
		h.settle()
	default:
		var live []int
		for _, v := range h.model.versions {
			if !v.deleted {
				live = append(live, v.number)
			}
		}
		if len(live) < 3 {
			return
		}
		h.actions["delete"]++
		number := live[h.random.IntN(len(live))]
		_, err := h.as("select api.delete_ingestion(jsonb_build_object('contextId', $1::text, 'number', $2::text))", h.project, strconv.Itoa(number))
		require.NoError(h.t, err)
		h.model.versions[number-1].deleted = true
		h.disturb()
		h.settle()
	}
}

// put stores an uploaded file, in place of an earlier one with its path.
func (h *history) put(origin, path, text string) uuid.UUID {
	h.t.Helper()
	object, err := h.blobs.Put(context.Background(), bytes.NewReader([]byte(text)), 1<<20)
	require.NoError(h.t, err)
	sum := sha256.Sum256([]byte(text))
	if value[bool](h.ingestLab, "select exists (select from public.project_files where project_id = $1 and path = $2)", h.project, path) {
		return value[uuid.UUID](h.ingestLab, "update public.project_files set size = $3, checksum = $4, storage_key = $5 where project_id = $1 and path = $2 returning id",
			h.project, path, object.Size, hex.EncodeToString(sum[:]), object.Key)
	}
	return value[uuid.UUID](h.ingestLab, `insert into public.project_files (organization_id, project_id, origin, name, path, size, checksum, storage_key)
		values ($1, $2, $3, $4, $5, $6, $7, $8) returning id`, h.org, h.project, origin, path, path, object.Size, hex.EncodeToString(sum[:]), object.Key)
}
