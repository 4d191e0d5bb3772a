// Command ingest measures ingestion on a real repository (the Go standard library's sources, at least 2,000 files) beside the
// minimum of any ingestion: `git clone` of the same repository plus bare tokenizing of the same files with the tokenizer's library.
//
//	go run ./tests/bench/ingest
//	KIJKO_BENCH_BASE=../before go run ./tests/bench/ingest
//	go run ./tests/bench/ingest huge [files] [bytes] [one]
//	go run ./tests/bench/ingest graph DIRECTORY
//
// Database, Git host, worker and yardstick run on this machine, in turns. Printed are files and MB per second of the run, the ratio of its
// time and of its processor time (worker, git and Postgres) to the yardstick's (median of the rounds), and the peak memory of the worker
// process, which is a process of its own. Then 1 % of the files change, and the second ingestion is measured beside `git fetch` and tokenizing
// these files. Beside both, repomix and gitingest pack the same repository into a prompt. KIJKO_BENCH_BASE is another checkout, whose full run
// is measured in the same rounds. huge ingests the largest input that the contract allows, see huge.go. graph needs no database: it
// prints statistics of the links of a directory's graph, by language (BENCH_VERBOSE=1 lists the doubtful ones).
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"

	"github.com/tiktoken-go/tokenizer"

	"kijko/tests/bench/origin"
	"kijko/worker/app"
	"kijko/worker/gitfetch"
	"kijko/worker/storage"
)

// rounds of run and yardstick in turns; the median is printed.
const defaultRounds = 3

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	work := bench
	if len(os.Args) > 1 {
		work = map[string]func(context.Context) error{"worker": worker, "huge": huge, "graph": graphOf}[os.Args[1]]
	}
	if work == nil {
		fmt.Fprintln(os.Stderr, "bench ingest: arguments are none, huge and what of it, or graph and a directory")
		os.Exit(2)
	}
	if err := work(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench ingest:", err)
		os.Exit(1)
	}
}

// worker is the process that is measured.
func worker(ctx context.Context) error {
	app.LimitMemory(512) // as KIJKO_WORKER_MEMORY_MB does by default
	store, err := storage.Open(ctx, "file://"+os.Getenv("BENCH_DIR")+"/blobs")
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	level := slog.LevelWarn
	if os.Getenv("BENCH_VERBOSE") != "" {
		level = slog.LevelDebug
	}
	w, err := app.New(ctx, app.Config{DSN: os.Getenv("BENCH_DSN"), DataDir: os.Getenv("BENCH_DIR"), Blobs: store, Slots: 1,
		Hosts: gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: os.Getenv("BENCH_GIT")}},
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))})
	if err != nil {
		return err
	}
	defer w.Close()
	if path := os.Getenv("BENCH_PROFILE"); path != "" {
		f, err := os.Create(path + "." + strconv.Itoa(os.Getpid())) // each run is a process of its own
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	err = w.Run(ctx)
	if path := os.Getenv("BENCH_PEAK"); path != "" && ownPeak() > 0 {
		err = errors.Join(err, os.WriteFile(path, strconv.AppendInt(nil, ownPeak(), 10), 0o600))
	}
	return err
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
	size, err := origin.Commit(ctx, dir, "std", standardLibrary)
	if err != nil {
		return err
	}
	host := origin.Serve(filepath.Join(dir, "repos"))
	defer host.Close()
	d, err := database(ctx, "std")
	if err != nil {
		return err
	}
	defer d.close(ctx)
	self, err := build(ctx, dir)
	if err != nil {
		return err
	}

	before, err := before(ctx, dir)
	if err != nil {
		return err
	}
	var times, work, files, megabytes, older, again, minimum, share []float64
	var peak int64
	for i := range rounds {
		if before != "" {
			seconds, err := before.run(ctx)
			if err != nil {
				return err
			}
			older = append(older, seconds)
		}
		clone, texts, bound, err := yardstick(ctx, dir, host.URL)
		if err != nil {
			return err
		}
		run, err := d.run(ctx, self, dir, host.URL)
		if err != nil {
			return err
		}
		if run.outcome != "completed" {
			return fmt.Errorf("the run ended as %s: %s", run.outcome, run.message)
		}
		times = append(times, run.seconds/(clone.Seconds()+texts.Seconds()))
		work = append(work, (run.worker+run.postgres).Seconds()/bound.Seconds())
		files = append(files, float64(run.files)/run.seconds)
		megabytes = append(megabytes, float64(run.bytes)/1e6/run.seconds)
		peak = max(peak, run.peak)
		fmt.Printf("  round %d: run %.2f s; git clone %.2f s + bare tokenizing %.2f s; ratio %.2f\n", i+1, run.seconds, clone.Seconds(), texts.Seconds(), times[i])
		fmt.Printf("           processor: worker %.2f s + Postgres %.2f s; yardstick %.2f s; ratio %.2f\n", run.worker.Seconds(), run.postgres.Seconds(),
			bound.Seconds(), work[i])
		if before != "" {
			older[i] = run.seconds / older[i]
			fmt.Printf("           %.2f of the run of the build before\n", older[i])
		}
		if err := d.settle(ctx, self, dir, host.URL); err != nil {
			return err
		}
		part, least, err := d.second(ctx, self, dir, host.URL, i)
		if err != nil {
			return err
		}
		if err := d.settle(ctx, self, dir, host.URL); err != nil {
			return err
		}
		again, minimum = append(again, part.seconds/run.seconds), append(minimum, part.seconds/least.Seconds())
		share = append(share, (part.worker+part.postgres).Seconds()/(run.worker+run.postgres).Seconds())
		fmt.Printf("           with 1 %% of its files changed: %.2f s, %.3f of the run; git fetch + tokenizing what changed %.2f s, ratio %.2f\n", part.seconds,
			again[i], least.Seconds(), minimum[i])
		fmt.Printf("           its processor time: worker %.2f s + Postgres %.2f s, %.3f of the run's\n", part.worker.Seconds(), part.postgres.Seconds(), share[i])
		if i == 0 {
			fmt.Printf("  %d files, %.1f MB of text (%.1f MB in the repository), %d tokens, %d chunks %s\n", run.files, float64(run.bytes)/1e6,
				float64(size)/1e6, run.tokens, run.chunks, run.digest)
		}
	}
	fmt.Printf("ingest: %.0f files/s, %.2f MB/s, %.2f of git clone + bare tokenizing (aim 2.00), %.2f of its processor time, peak memory %d MB\n",
		median(files), median(megabytes), median(times), median(work), peak>>20)
	fmt.Printf("ingest again: with 1 %% of the files changed %.3f of a full run (aim 0.050), %.2f of git fetch + tokenizing what changed (aim 1.50), %.3f of its processor time\n",
		median(again), median(minimum), median(share))
	if before != "" {
		fmt.Printf("ingest before: %.2f of the time of a run of the build before (aim 1.00)\n", median(older))
	}
	if os.Getenv("BENCH_ALONE") != "" {
		return nil
	}
	return packers(ctx, dir, rounds)
}

// build makes the worker program, so that the time of `go run` is not measured.
func build(ctx context.Context, dir string) (string, error) {
	self := filepath.Join(dir, "bench")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", self, "./tests/bench/ingest").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return self, nil
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// yardstick clones the repository and counts the tokens of every file with the library, on all cores.
func yardstick(ctx context.Context, dir, host string) (clone, texts, processor time.Duration, err error) {
	target := filepath.Join(dir, "clone")
	if err := os.RemoveAll(target); err != nil {
		return 0, 0, 0, err
	}
	cmd := exec.CommandContext(ctx, "git", "clone", "-q", "--depth", "1", host+"/bench/std.git", target)
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, 0, 0, fmt.Errorf("git clone: %w: %s", err, out)
	}
	clone = time.Since(began)

	codec, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return 0, 0, 0, err
	}
	if _, err := codec.Count("warm"); err != nil {
		return 0, 0, 0, err
	}
	began, before := time.Now(), ownProcessor()
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
	texts = time.Since(began)
	return clone, texts, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + ownProcessor() - before, err
}
