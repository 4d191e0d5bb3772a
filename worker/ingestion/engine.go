package ingestion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/secret"
	"kijko/worker/lease"
)

// Lease times: a lease is renewed three times before it would expire.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 5 * time.Second
	lookEvery  = 500 * time.Millisecond
)

// Config configures an Engine.
type Config struct {
	// Pool belongs to kijko_worker.
	Pool *pgxpool.Pool
	// Process tells other workers that this one lives; nil: only the times of its leases do.
	Process *lease.Process
	Git     *gitfetch.Fetcher
	// Open reads a stored upload.
	Open func(ctx context.Context, key string) (io.ReadCloser, error)
	// Connected calls do with the starter's connection to the provider of a repository, or with the zero Auth if there is none. It calls do
	// again with a renewed connection if the host refuses the first one. Nil: all repositories are fetched anonymously.
	Connected func(ctx context.Context, userID string, provider gitfetch.Provider, url string, do func(gitfetch.Auth) error) error
	// Unseal opens the secret of a chunking webhook; required for projects that have one.
	Unseal func(sealed string) (string, error)
	// Webhook posts to chunking webhooks. It must refuse addresses that are not public.
	Webhook *http.Client
	// WorkDir holds the results of runs, one directory per run.
	WorkDir string
	// Parsers is how many files are parsed at once if the project allows parallel parsing; default GOMAXPROCS.
	Parsers int
	// FlightBytes bounds the file content in work at once in one run; default 16 MiB. Larger memory classes get four times as much.
	FlightBytes int64
	Limits      gitfetch.Limits
	// CopyBytes bounds the copies of repositories that are kept between runs; default 20 GiB.
	CopyBytes int64
	// ContextFiles is the largest number of files of a context; default 100,000 (60-contexts 5).
	ContextFiles int
	Log          *slog.Logger
}

// Engine works runs. Make it with New.
type Engine struct {
	c      Config
	parser *parse.Parser
	redact *secret.Redactor
	hooks  chan struct{} // at most four webhook calls at once
	leases *lease.Keeper
}

// New checks the configuration and makes the work directory.
func New(c Config) (*Engine, error) {
	if c.Pool == nil || c.Git == nil || c.Open == nil || c.WorkDir == "" {
		return nil, errors.New("ingest: Pool, Git, Open and WorkDir are required")
	}
	if c.Parsers <= 0 {
		c.Parsers = runtime.GOMAXPROCS(0)
	}
	if c.FlightBytes <= 0 {
		c.FlightBytes = 16 << 20
	}
	if c.CopyBytes <= 0 {
		c.CopyBytes = 20 << 30
	}
	if c.ContextFiles <= 0 {
		c.ContextFiles = 100_000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.WorkDir, err = filepath.Abs(c.WorkDir); err != nil {
		return nil, fmt.Errorf("ingest: work directory: %w", err)
	}
	if err := os.MkdirAll(c.WorkDir, 0o700); err != nil {
		return nil, fmt.Errorf("ingest: work directory: %w", err)
	}
	redact, err := secret.New()
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	e := &Engine{c: c, parser: parse.New(), redact: redact, hooks: make(chan struct{}, 4)}
	e.leases = lease.New(lease.Options{For: leaseFor, Every: renewEvery, Look: lookEvery, Expires: true, Renew: e.renew, Process: c.Process, Log: c.Log})
	return e, nil
}

// Close frees the parsers. Call it when no run is in work.
func (e *Engine) Close() { e.parser.Close() }

// Claim takes the lease of the run that a job names ({"runId"}) and returns the work. The work is nil if the run has ended or another
// worker has it.
func (e *Engine) Claim(ctx context.Context, args []byte) (func(context.Context), error) {
	var job struct {
		RunID uuid.UUID `json:"runId"`
	}
	if err := json.Unmarshal(args, &job); err != nil {
		return nil, fmt.Errorf("ingest: job: %w", err)
	}
	owner := e.c.Process.Token()
	var claimed []byte
	err := e.c.Pool.QueryRow(ctx, "select private.claim_run($1, $2, $3)", job.RunID, owner, int(leaseFor/time.Second)).Scan(&claimed)
	if err != nil {
		return nil, fmt.Errorf("ingest: claim run: %w", err)
	}
	if claimed == nil {
		return nil, nil
	}
	t, err := parseTask(claimed)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) { e.work(ctx, t, owner) }, nil
}

// work does one run under its lease.
func (e *Engine) work(ctx context.Context, t *task, owner uuid.UUID) {
	log := e.c.Log.With("run", t.RunID, "project", t.ProjectID)
	working, release := e.leases.Add(ctx, lease.Lease{ID: t.RunID, Token: owner})
	defer release()
	working, lose := context.WithCancelCause(working)
	defer lose(nil)

	r := newRun(e, t, owner, log, lose)
	log.Info("ingestion run taken", "phase", t.Phase, "restarts", t.Restarts)
	began := time.Now()
	err := r.execute(working)
	cause := context.Cause(working)
	switch {
	case err == nil:
		log.Info("ingestion run completed", "seconds", time.Since(began).Seconds())
	case errors.Is(err, errFailed):
	case errors.Is(err, lease.ErrLost) || errors.Is(cause, lease.ErrLost):
		log.Info("ingestion run ended elsewhere (cancelled or taken over)")
	case ctx.Err() != nil:
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := r.store.release(release); err != nil {
			log.Warn("lease could not be given back; it runs out", "error", err)
		} else {
			log.Info("ingestion run handed back at shutdown")
		}
	default:
		log.Error("ingestion run left to a successor", "error", err)
	}
	r.close(err == nil)
}

// Hold renews the leases of all runs of this process until ctx ends, and ends the runs that lost their lease. Start it before the first run
// and stop it after the last.
func (e *Engine) Hold(ctx context.Context) { e.leases.Run(ctx) }

func (e *Engine) renew(ctx context.Context, held []lease.Lease, renew bool) ([]lease.Lease, error) {
	owners := make([]uuid.UUID, 0, len(held))
	for _, l := range held {
		owners = append(owners, l.Token)
	}
	var seconds *int
	if renew {
		seconds = new(int(leaseFor / time.Second))
	}
	rows, err := e.c.Pool.Query(ctx, "select private.hold_runs($1, $2)", owners, seconds)
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	holding, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(held), func(l lease.Lease) bool { return slices.Contains(holding, l.Token) }), nil
}

// Sweep removes the directories of runs that no worker will continue. Call it now and then.
func (e *Engine) Sweep(ctx context.Context) error {
	entries, err := os.ReadDir(e.c.WorkDir)
	if err != nil {
		return fmt.Errorf("sweep work directory: %w", err)
	}
	var runs []uuid.UUID
	for _, entry := range entries {
		if id, err := uuid.Parse(filepath.Base(entry.Name())); err == nil && len(entry.Name()) == 36 {
			runs = append(runs, id)
		}
	}
	if err := e.sweepCopies(ctx); err != nil {
		return err
	}
	if len(runs) == 0 {
		return nil
	}
	rows, err := e.c.Pool.Query(ctx, "select private.live_checkpoints($1)", runs)
	if err != nil {
		return fmt.Errorf("sweep work directory: %w", err)
	}
	live := map[uuid.UUID]bool{}
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			rows.Close()
			return fmt.Errorf("sweep work directory: %w", err)
		}
		live[id] = true
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("sweep work directory: %w", err)
	}
	var faults []error
	for _, id := range runs {
		if live[id] {
			continue
		}
		dir := filepath.Join(e.c.WorkDir, id.String())
		lock, ok, err := lockDir(dir)
		if err != nil || !ok {
			continue // the run is just ending
		}
		faults = append(faults, os.RemoveAll(dir), lock.Close())
	}
	return errors.Join(faults...)
}
