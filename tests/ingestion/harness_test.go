package ingestion

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kijko/tests/testdb"
	"kijko/worker/app"
	"kijko/worker/gitfetch"
	"kijko/worker/gitfetch/gittest"
	"kijko/worker/storage"
)

// ingestLab is a database, a Git host and a storage, with workers as the test needs. Projects are made by SQL, because the tests begin
// after that step.
type ingestLab struct {
	t     testing.TB
	db    *testdb.DB
	owner *pgxpool.Pool
	git   *gittest.Server
	blobs *storage.Store
	dir   string
	user  uuid.UUID
	org   uuid.UUID
}

func newIngestLab(t testing.TB) *ingestLab {
	t.Helper()
	dir := t.TempDir()
	l := &ingestLab{t: t, db: testdb.New(t), git: gittest.New(t), dir: dir}
	l.owner = l.db.Pool("postgres")
	var err error
	l.blobs, err = storage.Open(context.Background(), "file://"+dir+"/blobs")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.blobs.Close() })
	l.user = value[uuid.UUID](l, "insert into public.users (email, first_name) values ('ada@example.org', 'Ada') returning id")
	l.org = value[uuid.UUID](l, "select private.create_organization('Analytical Engines', $1)", l.user)
	l.exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", l.org)
	return l
}

func (l *ingestLab) exec(sql string, args ...any) {
	l.t.Helper()
	_, err := l.owner.Exec(context.Background(), sql, args...)
	require.NoError(l.t, err)
}

func value[T any](l *ingestLab, sql string, args ...any) T {
	l.t.Helper()
	var v T
	require.NoError(l.t, l.owner.QueryRow(context.Background(), sql, args...).Scan(&v))
	return v
}

// config is the configuration of a worker on this machine.
func (l *ingestLab) config() app.Config {
	log := io.Discard
	if testing.Verbose() {
		log = os.Stderr
	}
	return app.Config{DSN: l.db.DSN("kijko_worker"), DataDir: l.dir, Blobs: l.blobs, Slots: 2, Grace: 5 * time.Second,
		Hosts: gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: l.git.URL}, AllowPrivate: true},
		Log:   slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

// work starts a worker; stop waits for its end.
func (l *ingestLab) work(change ...func(*app.Config)) (stop func()) {
	l.t.Helper()
	c := l.config()
	for _, f := range change {
		f(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w, err := app.New(ctx, c)
	require.NoError(l.t, err)
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(l.t, <-done)
		w.Close()
	})
	l.t.Cleanup(stop)
	return stop
}

// project makes a draft with repositories by their names on the Git host.
func (l *ingestLab) project(repositories ...string) uuid.UUID {
	l.t.Helper()
	id := uuid.New()
	l.exec(`insert into public.projects (id, organization_id, user_id, name, type) values ($1, $2, $3, $4, 'repository')`, id, l.org, l.user,
		"Project "+id.String()[:8])
	for _, name := range repositories {
		l.exec(`insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
			values ($1, $2, 'github', $3, $4)`, l.org, id, "https://github.com/"+name, name)
	}
	return id
}

// as runs SQL as the lab's user, entered as the server would.
func (l *ingestLab) as(sql string, args ...any) ([]byte, error) {
	l.t.Helper()
	ctx := context.Background()
	tx, err := l.owner.Begin(ctx)
	require.NoError(l.t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `select set_config('app.user_id', $1, true), set_config('app.org_id', $2, true), set_config('app.org_role', 'owner', true),
		set_config('role', 'authenticated', true)`, l.user.String(), l.org.String())
	require.NoError(l.t, err)
	var out []byte
	if err := tx.QueryRow(ctx, sql, args...).Scan(&out); err != nil {
		return nil, err
	}
	return out, tx.Commit(ctx)
}

func (l *ingestLab) call(operation string, project uuid.UUID, body string) ([]byte, error) {
	l.t.Helper()
	return l.as(fmt.Sprintf("select api.%s(jsonb_build_object('projectId', $1::text, 'body', $2::jsonb))", operation), project, body)
}

func (l *ingestLab) start(project uuid.UUID) uuid.UUID {
	l.t.Helper()
	_, err := l.call("start_ingestion", project, `{"forceReprocess": true}`)
	require.NoError(l.t, err)
	return value[uuid.UUID](l, "select id from public.ingestion_runs where project_id = $1 order by created_at desc limit 1", project)
}

// outcome waits for the end of a run.
func (l *ingestLab) outcome(run uuid.UUID) string {
	l.t.Helper()
	var outcome string
	require.Eventually(l.t, func() bool {
		outcome = value[string](l, "select outcome from public.ingestion_runs where id = $1", run)
		return outcome != "open"
	}, time.Minute, 20*time.Millisecond, "the run did not end")
	return outcome
}

// digest covers everything that a run stored. Ids begin with bytes of the run's own; their ends are the same in every run.
func (l *ingestLab) digest(run uuid.UUID) string {
	l.t.Helper()
	return value[string](l, `
		with r as (select project_id from public.ingestion_runs where id = $1 and outcome = 'completed')
		select md5(concat_ws('|',
			(select string_agg(concat_ws(',', f.position, f.path, f.language, f.tokens, f.optimized_tokens, encode(f.hash, 'hex'), f.metadata), ';' order by f.position)
				from public.run_files f where f.organization_id = $2 and f.run_id = $1),
			(select string_agg(concat_ws(',', substr(c.file_id::text, 25), c.position, c.start_line, c.end_line, c.type, c.tokens, c.content, encode(c.hash, 'hex'),
					substr(c.reference_of::text, 25), c.parent_id, c.metadata), ';' order by c.id)
				from public.chunks c where c.organization_id = $2 and c.run_id = $1),
			(select string_agg(t.terms::text, ';' order by t.chunk_id) from public.chunk_terms t where t.organization_id = $2 and t.run_id = $1),
			(select string_agg(concat_ws(',', n.type, n.path, n.name, n.start_line, n.end_line, n.reference_count), ';' order by n.path, n.name, n.type, n.start_line)
				from public.kg_nodes n join r on r.project_id = n.project_id),
			(select string_agg(concat_ws(',', a.path, a.name, b.path, b.name, e.type, e.count), ';' order by a.path, a.name, b.path, b.name, e.type, e.count)
				from public.kg_edges e join r on r.project_id = e.project_id
				join public.kg_nodes a on a.project_id = e.project_id and a.id = e.source_id
				join public.kg_nodes b on b.project_id = e.project_id and b.id = e.target_id)))`, run, l.org)
}
