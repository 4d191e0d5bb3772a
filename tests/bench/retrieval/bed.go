package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/server/retrieval"
	"kijko/tests/bench/origin"
	"kijko/worker/app"
	"kijko/worker/gitfetch"
	"kijko/worker/storage"
)

// bed is a fresh database with one context.
type bed struct {
	cluster            *devpg.Cluster
	name               string
	conn               *pgx.Conn
	user, org, project uuid.UUID
}

func newBed(ctx context.Context) (*bed, error) {
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true})
	if err != nil {
		return nil, err
	}
	b := &bed{cluster: cluster, name: "bench_" + strings.ReplaceAll(uuid.NewString(), "-", ""), project: uuid.New()}
	if _, err := cluster.EnsureDatabase(ctx, b.name); err != nil {
		return nil, err
	}
	if b.conn, err = pgx.Connect(ctx, cluster.DSN(devpg.Superuser, b.name)); err != nil {
		return nil, err
	}
	if err := db.Setup(ctx, b.conn); err != nil {
		return nil, err
	}
	if err := b.conn.QueryRow(ctx, "insert into public.users (email) values ('anna@example.org') returning id").Scan(&b.user); err != nil {
		return nil, err
	}
	if err := b.conn.QueryRow(ctx, "select private.create_organization('Bench', $1)", b.user).Scan(&b.org); err != nil {
		return nil, err
	}
	for _, sql := range []string{
		"update public.subscriptions set plan_id = 'enterprise' where organization_id = $1 and $2::uuid is not null and $3::uuid is not null",
		"insert into public.projects (id, organization_id, user_id, name, type) values ($3, $1, $2, 'Bench', 'repository')",
		`insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
			select $1, $3, 'github', 'https://github.com/bench/source', 'bench/source' where $2::uuid is not null`,
	} {
		if _, err := b.conn.Exec(ctx, sql, b.org, b.user, b.project); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bed) close(ctx context.Context) {
	_ = b.conn.Close(ctx)
	_ = b.cluster.DropDatabase(context.WithoutCancel(ctx), b.name)
}

// ingest puts files into a repository and has a worker of this process index it, with embeddings.
func (b *bed) ingest(ctx context.Context, dir string, files []source) error {
	if _, err := origin.Commit(ctx, dir, "source", func(put origin.Put) error {
		for _, f := range files {
			if err := put(f.path, len(f.text), strings.NewReader(f.text)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	host := origin.Serve(filepath.Join(dir, "repos"))
	defer host.Close()
	store, err := storage.Open(ctx, "file://"+dir+"/blobs")
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	w, err := app.New(ctx, app.Config{DSN: b.cluster.DSN("kijko_worker", b.name), DataDir: dir, Blobs: store, Slots: 1,
		Hosts: gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: host.URL}}, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	defer w.Close()
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(working) }()
	defer func() { stop(); <-done }()
	var run uuid.UUID
	if err := b.conn.QueryRow(ctx, "insert into public.ingestion_runs (organization_id, project_id, started_by, options) values ($1, $2, $3, '{}') returning id",
		b.org, b.project, b.user).Scan(&run); err != nil {
		return err
	}
	if err := b.until(ctx, "select outcome <> 'open' from public.ingestion_runs where id = $1", run); err != nil {
		return err
	}
	var outcome, message string
	if err := b.conn.QueryRow(ctx, "select outcome, message from public.ingestion_runs where id = $1", run).Scan(&outcome, &message); err != nil {
		return err
	}
	if outcome != "completed" {
		return fmt.Errorf("the run ended as %s: %s", outcome, message)
	}
	if _, err := b.conn.Exec(ctx, "insert into public.enrichment_runs (organization_id, project_id, kind) values ($1, $2, 'chromaCode')", b.org, b.project); err != nil {
		return err
	}
	// Those of graph and symbols follow the ingestion by themselves.
	return b.until(ctx, "select count(*) >= 3 and bool_and(status not in ('queued', 'running')) from public.enrichment_runs where project_id = $1", b.project)
}

func (b *bed) until(ctx context.Context, sql string, args ...any) error {
	for {
		var done bool
		if err := b.conn.QueryRow(ctx, sql, args...).Scan(&done); err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// passage is a result of api.retrieve_passages.
type passage struct {
	Path      string  `json:"path"`
	StartLine int     `json:"startLine"`
	EndLine   int     `json:"endLine"`
	Score     float64 `json:"score"`
}

// retrieve asks as the owner of the context, under row-level security.
func (b *bed) retrieve(ctx context.Context, question string, limit int) ([]passage, time.Duration, error) {
	return b.ask(ctx, question, limit, "authenticated")
}

// unrestricted asks with the same rights by a role for which no policy holds.
func (b *bed) unrestricted(ctx context.Context, question string, limit int) ([]passage, time.Duration, error) {
	return b.ask(ctx, question, limit, devpg.Superuser)
}

func (b *bed) ask(ctx context.Context, question string, limit int, role string) (list []passage, took time.Duration, err error) {
	arguments, err := (&retrieval.Request{ContextID: b.project, Question: question, Limit: limit}).Arguments(ctx)
	if err != nil {
		return nil, 0, err
	}
	tx, err := b.conn.Begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(ctx)) }()
	if _, err := tx.Exec(ctx, "select set_config('app.user_id', $1, true), set_config('app.org_id', $2, true), set_config('app.org_role', 'owner', true), set_config('role', $3, true)",
		b.user.String(), b.org.String(), role); err != nil {
		return nil, 0, err
	}
	began := time.Now()
	var raw []byte
	if err := tx.QueryRow(ctx, "select api.retrieve_passages($1)", arguments).Scan(&raw); err != nil {
		return nil, 0, err
	}
	took = time.Since(began)
	var answer struct {
		Passages []passage `json:"passages"`
	}
	return answer.Passages, took, json.Unmarshal(raw, &answer)
}
