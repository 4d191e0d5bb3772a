package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kijko/db"
	"kijko/db/devpg"
)

// bed is a fresh database with one project.
type bed struct {
	cluster *devpg.Cluster
	name    string
	conn    *pgx.Conn
	user    uuid.UUID
	org     uuid.UUID
	project uuid.UUID
}

// outcome is the result of a run.
type outcome struct {
	outcome, code, message       string
	seconds                      float64 // from queue to end
	worker, postgres             time.Duration
	peak                         int64 // memory of the worker process
	files, bytes, tokens, chunks int64
	errors                       int64
	digest                       string // of all chunks: equal input, equal digest
}

// database has a project whose only source is the repository bench/<repository>.
func database(ctx context.Context, repository string) (*bed, error) {
	cluster, err := devpg.Start(ctx, devpg.Options{Ephemeral: true})
	if err != nil {
		return nil, err
	}
	d := &bed{cluster: cluster, name: "bench_" + strings.ReplaceAll(uuid.NewString(), "-", ""), project: uuid.New()}
	if _, err := cluster.EnsureDatabase(ctx, d.name); err != nil {
		return nil, err
	}
	if d.conn, err = pgx.Connect(ctx, cluster.DSN(devpg.Superuser, d.name)); err != nil {
		return nil, err
	}
	if err := db.Setup(ctx, d.conn); err != nil {
		return nil, err
	}
	if err := d.conn.QueryRow(ctx, "insert into public.users (email) values ('bench@example.org') returning id").Scan(&d.user); err != nil {
		return nil, err
	}
	if err := d.conn.QueryRow(ctx, "select private.create_organization('Bench', $1)", d.user).Scan(&d.org); err != nil {
		return nil, err
	}
	for _, sql := range []string{
		"update public.subscriptions set plan_id = 'enterprise' where organization_id = $1 and $2::uuid is not null and $3::uuid is not null",
		"insert into public.projects (id, organization_id, user_id, name, type) values ($3, $1, $2, 'Standard library', 'repository')",
		fmt.Sprintf(`insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
			select $1, $3, 'github', 'https://github.com/bench/%[1]s', 'bench/%[1]s' where $2::uuid is not null`, repository),
	} {
		if _, err := d.conn.Exec(ctx, sql, d.org, d.user, d.project); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *bed) close(ctx context.Context) {
	_ = d.conn.Close(ctx)
	_ = d.cluster.DropDatabase(context.WithoutCancel(ctx), d.name)
}

// run does one full ingestion in a fresh worker process.
func (d *bed) run(ctx context.Context, self, dir, host string) (o outcome, err error) {
	return d.ingest(ctx, self, dir, host, `{"force": true}`, false)
}

// rerun does an incremental ingestion. The worker waits for it already, as it does for every push.
func (d *bed) rerun(ctx context.Context, self, dir, host string) (o outcome, err error) {
	return d.ingest(ctx, self, dir, host, "{}", true)
}

// ready waits until the worker listens for jobs.
func (d *bed) ready(ctx context.Context) (err error) {
	for listens := false; err == nil && !listens; {
		err = d.conn.QueryRow(ctx, `select exists (select from pg_stat_activity where datname = current_database() and usename = 'kijko_worker'
			and query ilike 'listen%' and state = 'idle')`).Scan(&listens)
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return err
}

// settle lets a worker do what the last run left behind: the enrichments of the context parse every file, and would otherwise be worked by the
// process that is measured next.
func (d *bed) settle(ctx context.Context, self, dir, host string) error {
	cmd := exec.CommandContext(ctx, self, "worker")
	cmd.Env = append(os.Environ(), "BENCH_DSN="+d.cluster.DSN("kijko_worker", d.name), "BENCH_DIR="+dir, "BENCH_GIT="+host, "BENCH_PROFILE=")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	var err error
	for busy := true; err == nil && busy; {
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(50 * time.Millisecond):
			err = d.conn.QueryRow(ctx, `select exists (select from public.enrichment_runs where status in ('queued', 'running'))
				or exists (select from public.enrichment_states where is_wanted)`).Scan(&busy)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	return errors.Join(err, cmd.Wait())
}

func (d *bed) ingest(ctx context.Context, self, dir, host, options string, wait bool) (o outcome, err error) {
	peakFile := filepath.Join(dir, "peak")
	_ = os.Remove(peakFile)
	before := processor(d.cluster.PID())
	cmd := exec.CommandContext(ctx, self, "worker")
	cmd.Env = append(os.Environ(), "BENCH_DSN="+d.cluster.DSN("kijko_worker", d.name), "BENCH_DIR="+dir, "BENCH_GIT="+host, "BENCH_PEAK="+peakFile)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	if err := cmd.Start(); err != nil {
		return o, err
	}
	if wait {
		if err := d.ready(ctx); err != nil {
			return o, err
		}
	}
	var run uuid.UUID
	err = d.conn.QueryRow(ctx, `insert into public.ingestion_runs (organization_id, project_id, started_by, options) values ($1, $2, $3, $4) returning id`,
		d.org, d.project, d.user, options).Scan(&run)
	for err == nil && (o.outcome == "" || o.outcome == "open") {
		err = d.conn.QueryRow(ctx, `select outcome, coalesce(error_code, ''), message, extract(epoch from coalesce(ended_at, now()) - started_at)::float8, total_files,
			bytes_processed, tokens_processed, chunks_created, errors_encountered from public.ingestion_runs where id = $1`, run).
			Scan(&o.outcome, &o.code, &o.message, &o.seconds, &o.files, &o.bytes, &o.tokens, &o.chunks, &o.errors)
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	if err != nil {
		return o, err
	}
	o.worker = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	o.postgres = processor(d.cluster.PID()) - before
	// The system counts the memory of the process that started the worker as the worker's until it has become another program, so the worker
	// says itself what it held.
	if said, err := os.ReadFile(peakFile); err == nil {
		o.peak, _ = strconv.ParseInt(string(said), 10, 64)
	} else if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		o.peak = usage.Maxrss << 10
	}
	return o, d.conn.QueryRow(ctx, `select coalesce(md5(string_agg(md5(f.path || c.position || c.type || c.tokens || c.content || c.metadata), '' order by f.path, c.position)), '')
		from public.project_indexes i join public.chunks c on c.run_id = i.run_id join public.run_files f on f.run_id = c.run_id and f.id = c.file_id
		where i.project_id = $1`, d.project).Scan(&o.digest)
}

// ownPeak is the most memory that this process has held; 0 where there is no /proc.
func ownPeak() (bytes int64) {
	raw, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			bytes = n << 10
		}
	}
	return bytes
}

func ownProcessor() time.Duration {
	var own syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &own)
	return time.Duration(own.Utime.Nano() + own.Stime.Nano())
}

// processor is the processor time of a process, its children and the processes that it has waited for; 0 where there is no /proc.
func processor(pid int) (used time.Duration) {
	const tick = 10 * time.Millisecond
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// The name in parentheses may hold blanks; state, parent and the other fields follow it.
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		number := func(i int) time.Duration { n, _ := strconv.Atoi(fields[i]); return time.Duration(n) * tick }
		switch {
		case filepath.Base(filepath.Dir(path)) == strconv.Itoa(pid):
			used += number(11) + number(12) + number(13) + number(14)
		case fields[1] == strconv.Itoa(pid):
			used += number(11) + number(12)
		}
	}
	return used
}
