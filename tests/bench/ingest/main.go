// Command ingest measures ingestion on a real repository (the Go standard library's sources, at least 2,000 files) beside what no
// ingestion can do without: `git clone` of the same repository plus bare tokenizing of the same files with the tokenizer's library.
//
//	go run ./tests/bench/ingest
//
// Database, Git host, worker and yardstick run on this machine, in turns. Printed are files and MB per second of the run, the ratio of
// its time to the yardstick's (median of the rounds), and the peak memory of the worker process, which is a process of its own.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/tiktoken-go/tokenizer"

	"kijko/db"
	"kijko/db/devpg"
	"kijko/tests/gosource"
	"kijko/worker/gitfetch"
	"kijko/worker/jobs"
	"kijko/worker/storage"
)

// rounds of run and yardstick in turns; the median is printed.
const defaultRounds = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	work := bench
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		work = worker
	}
	if err := work(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench ingest:", err)
		os.Exit(1)
	}
}

// worker is the process that is measured.
func worker(ctx context.Context) error {
	store, err := storage.Open(ctx, "file://"+os.Getenv("BENCH_DIR")+"/blobs")
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	level := slog.LevelWarn
	if os.Getenv("BENCH_VERBOSE") != "" {
		level = slog.LevelDebug
	}
	w, err := jobs.New(ctx, jobs.Config{DSN: os.Getenv("BENCH_DSN"), DataDir: os.Getenv("BENCH_DIR"), Blobs: store, Slots: 1,
		Hosts: gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: os.Getenv("BENCH_GIT")}},
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))})
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Run(ctx)
}

func bench(ctx context.Context) (err error) {
	rounds := defaultRounds
	if n, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS")); err == nil && n > 0 {
		rounds = n
	}
	dir, err := os.MkdirTemp("", "kijko-bench-ingest-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bare, size, err := repository(ctx, dir)
	if err != nil {
		return err
	}
	host := gitHost(filepath.Dir(filepath.Dir(bare)))
	defer host.Close()
	d, err := database(ctx)
	if err != nil {
		return err
	}
	defer d.close(ctx)
	// Go's race of build and start is not what is measured.
	self := filepath.Join(dir, "bench")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", self, "./tests/bench/ingest").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}

	var ours, bound, files, megabytes []float64
	var peak int64
	for i := range rounds {
		clone, texts, err := yardstick(ctx, dir, host.URL)
		if err != nil {
			return err
		}
		run, rss, err := d.run(ctx, self, dir, host.URL)
		if err != nil {
			return err
		}
		ours, bound = append(ours, run.Seconds()), append(bound, clone.Seconds()+texts.Seconds())
		files = append(files, float64(d.files)/run.Seconds())
		megabytes = append(megabytes, float64(d.bytes)/1e6/run.Seconds())
		peak = max(peak, rss)
		fmt.Printf("  round %d: run %.2f s; git clone %.2f s + bare tokenizing %.2f s; ratio %.2f\n", i+1, run.Seconds(), clone.Seconds(), texts.Seconds(),
			run.Seconds()/(clone.Seconds()+texts.Seconds()))
	}
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / bound[i]
	}
	fmt.Printf("ingest: %d files, %.1f MB of text (%.1f MB in the repository), %d tokens, %d chunks\n", d.files, float64(d.bytes)/1e6, float64(size)/1e6, d.tokens, d.chunks)
	fmt.Printf("ingest: %.0f files/s, %.2f MB/s, %.2f of git clone + bare tokenizing (aim 2.00), peak memory %d MB\n", median(files), median(megabytes),
		median(ratios), peak>>20)
	return nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// repository commits the standard library's text files into a repository at <dir>/repos/bench/std.git.
func repository(ctx context.Context, dir string) (string, int64, error) {
	root := gosource.Folder()
	if out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output(); err == nil {
		root = filepath.Join(strings.TrimSpace(string(out)), "src")
	}
	bare := filepath.Join(dir, "repos", "bench", "std.git")
	if err := os.MkdirAll(filepath.Dir(bare), 0o755); err != nil {
		return "", 0, err
	}
	if err := git(ctx, "", nil, "init", "-q", "--bare", "-b", "main", bare); err != nil {
		return "", 0, err
	}
	stream, err := os.Create(filepath.Join(dir, "import"))
	if err != nil {
		return "", 0, err
	}
	w := bufio.NewWriter(stream)
	fmt.Fprint(w, "commit refs/heads/main\ncommitter Bench <bench@example.org> 1700000000 +0000\ndata 4\nmain\n")
	var size int64
	count, limit := 0, 3000
	if n, err := strconv.Atoi(os.Getenv("BENCH_FILES")); err == nil && n > 0 {
		limit = n
	}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == "testdata" || e.Name() == "vendor") {
			return filepath.SkipDir
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || count >= limit {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !utf8.Valid(data) || len(data) == 0 || len(data) > 1<<20 || bytes.IndexByte(data, 0) >= 0 {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		fmt.Fprintf(w, "M 100644 inline %s\ndata %d\n", filepath.ToSlash(rel), len(data))
		_, err = w.Write(append(data, '\n'))
		size += int64(len(data))
		count++
		return err
	})
	if err = errors.Join(err, w.Flush(), stream.Close()); err != nil {
		return "", 0, err
	}
	in, err := os.Open(stream.Name())
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = in.Close() }()
	return bare, size, git(ctx, bare, in, "fast-import", "--quiet")
}

func git(ctx context.Context, dir string, in *os.File, args ...string) error {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	if in != nil {
		cmd.Stdin = in
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return nil
}

// gitHost serves the repositories below root by git's own HTTP backend.
func gitHost(root string) *httptest.Server {
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		panic(err)
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Repositories are addressed without .git.
		if parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3); len(parts) == 3 && !strings.HasSuffix(parts[1], ".git") {
			r.URL.Path = "/" + parts[0] + "/" + parts[1] + ".git/" + parts[2]
		}
		backend.ServeHTTP(w, r)
	}))
}

// yardstick clones the repository and counts the tokens of every file with the library, on all cores.
func yardstick(ctx context.Context, dir, host string) (clone, texts time.Duration, err error) {
	target := filepath.Join(dir, "clone")
	if err := os.RemoveAll(target); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := git(ctx, "", nil, "clone", "-q", "--depth", "1", host+"/bench/std.git", target); err != nil {
		return 0, 0, err
	}
	clone = time.Since(began)

	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return 0, 0, err
	}
	if _, err := codec.Count("warm"); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	paths := make(chan string, 64)
	faults := make(chan error, runtime.NumCPU())
	for range runtime.NumCPU() {
		go func() {
			var fault error
			for path := range paths {
				data, err := os.ReadFile(path)
				if err == nil {
					_, err = codec.Count(string(data))
				}
				fault = errors.Join(fault, err)
			}
			faults <- fault
		}()
	}
	err = filepath.WalkDir(target, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == ".git" {
			return filepath.SkipDir
		}
		if err == nil && e.Type().IsRegular() {
			paths <- path
		}
		return err
	})
	close(paths)
	for range runtime.NumCPU() {
		err = errors.Join(err, <-faults)
	}
	return clone, time.Since(began), err
}

// bed is a fresh database with one project.
type bed struct {
	cluster *devpg.Cluster
	name    string
	conn    *pgx.Conn
	user    uuid.UUID
	org     uuid.UUID
	project uuid.UUID
	files   int64
	bytes   int64
	tokens  int64
	chunks  int64
}

func database(ctx context.Context) (*bed, error) {
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
		`insert into public.project_repositories (organization_id, project_id, provider, repository_url, repository_name)
			select $1, $3, 'github', 'https://github.com/bench/std', 'bench/std' where $2::uuid is not null`,
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

// run does one full ingestion in a fresh worker process and gives its time, from queue to completion, and the process's peak memory.
func (d *bed) run(ctx context.Context, self, dir, host string) (time.Duration, int64, error) {
	cmd := exec.CommandContext(ctx, self, "worker")
	cmd.Env = append(os.Environ(), "BENCH_DSN="+d.cluster.DSN("kijko_worker", d.name), "BENCH_DIR="+dir, "BENCH_GIT="+host)
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	var run uuid.UUID
	err := d.conn.QueryRow(ctx, `insert into public.ingestion_runs (organization_id, project_id, started_by, options) values ($1, $2, $3, '{"force": true}')
		returning id`, d.org, d.project, d.user).Scan(&run)
	if err != nil {
		return 0, 0, err
	}
	var outcome, message string
	var seconds float64
	for outcome == "" || outcome == "open" {
		err := d.conn.QueryRow(ctx, `select outcome, message, extract(epoch from coalesce(ended_at, now()) - started_at)::float8, total_files, bytes_processed,
			tokens_processed, chunks_created from public.ingestion_runs where id = $1`, run).Scan(&outcome, &message, &seconds, &d.files, &d.bytes, &d.tokens, &d.chunks)
		if err != nil {
			return 0, 0, err
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	if outcome != "completed" {
		return 0, 0, fmt.Errorf("the run ended as %s: %s", outcome, message)
	}
	var rss int64
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		rss = usage.Maxrss << 10
	}
	return time.Duration(seconds * float64(time.Second)), rss, nil
}
