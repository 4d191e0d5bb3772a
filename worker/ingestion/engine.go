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
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/gitfetch"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/secret"
)

// Lease times: renewed three times before it would run out.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 5 * time.Second
	lookEvery  = 500 * time.Millisecond
)

// Config is what an Engine needs.
type Config struct {
	// Pool belongs to kijko_worker.
	Pool *pgxpool.Pool
	Git  *gitfetch.Fetcher
	// Open reads a stored upload.
	Open func(ctx context.Context, key string) (io.ReadCloser, error)
	// Connected calls do with the starter's connection to the provider of a repository, or with the zero Auth where there is none, and again
	// with a renewed one where the host refuses it; nil: everything is fetched anonymously.
	Connected func(ctx context.Context, userID string, provider gitfetch.Provider, url string, do func(gitfetch.Auth) error) error
	// Unseal opens the secret of a chunking webhook; required for projects that have one.
	Unseal func(sealed string) (string, error)
	// Webhook posts to chunking webhooks. It must refuse addresses that are not public.
	Webhook *http.Client
	// WorkDir holds what runs make, one directory a run.
	WorkDir string
	// Parsers is how many files are parsed at once where a project allows it; default GOMAXPROCS.
	Parsers int
	// FlightBytes bounds the file content in work at once in one run; default 16 MiB. Larger memory classes get four times as much.
	FlightBytes int64
	Limits      gitfetch.Limits
	Log         *slog.Logger
}

// Engine does runs. Make it with New.
type Engine struct {
	c       Config
	parser  *parse.Parser
	redact  *secret.Redactor
	hooks   chan struct{} // at most four webhook calls at once
	mu      sync.Mutex
	running map[uuid.UUID]*held
}

// held is a lease of this process.
type held struct {
	lose   context.CancelCauseFunc
	expiry time.Time
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
	return &Engine{c: c, parser: parse.New(), redact: redact, hooks: make(chan struct{}, 4), running: map[uuid.UUID]*held{}}, nil
}

// Close frees the parsers. No run may be in work.
func (e *Engine) Close() { e.parser.Close() }

// Claim takes the lease of the run that a job names ({"runId"}) and gives the work; nil when the run has ended or is in other hands.
func (e *Engine) Claim(ctx context.Context, args []byte) (func(context.Context), error) {
	var job struct {
		RunID uuid.UUID `json:"runId"`
	}
	if err := json.Unmarshal(args, &job); err != nil {
		return nil, fmt.Errorf("ingest: job: %w", err)
	}
	owner := uuid.New()
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
	working, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	e.mu.Lock()
	e.running[owner] = &held{lose: lose, expiry: time.Now().Add(leaseFor)}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.running, owner)
		e.mu.Unlock()
	}()

	r := newRun(e, t, owner, log, lose)
	log.Info("ingestion run taken", "phase", t.Phase, "restarts", t.Restarts)
	began := time.Now()
	err := r.execute(working)
	cause := context.Cause(working)
	switch {
	case err == nil:
		log.Info("ingestion run completed", "seconds", time.Since(began).Seconds())
	case errors.Is(err, errFailed):
	case errors.Is(err, errLost) || errors.Is(cause, errLost):
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

// Hold keeps the leases of all runs of this process until ctx ends, and tells those that lost theirs. Start it before any work and end
// it after.
func (e *Engine) Hold(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		owners := e.owners()
		if len(owners) == 0 {
			continue
		}
		var seconds *int
		if time.Since(renewed) >= renewEvery {
			s := int(leaseFor / time.Second)
			seconds = &s
		}
		asked := time.Now()
		holding, err := e.ask(ctx, owners, seconds)
		if err != nil {
			if ctx.Err() == nil {
				e.c.Log.Warn("leases could not be checked", "error", err)
			}
			e.expire(owners)
			continue
		}
		if seconds != nil {
			renewed = asked
		}
		e.judge(owners, holding, seconds != nil, asked)
	}
}

func (e *Engine) owners() []uuid.UUID {
	e.mu.Lock()
	defer e.mu.Unlock()
	owners := make([]uuid.UUID, 0, len(e.running))
	for owner := range e.running {
		owners = append(owners, owner)
	}
	return owners
}

func (e *Engine) ask(ctx context.Context, owners []uuid.UUID, seconds *int) (map[uuid.UUID]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, renewEvery)
	defer cancel()
	rows, err := e.c.Pool.Query(ctx, "select private.hold_runs($1, $2)", owners, seconds)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	holding := map[uuid.UUID]bool{}
	for rows.Next() {
		var owner uuid.UUID
		if err := rows.Scan(&owner); err != nil {
			return nil, err
		}
		holding[owner] = true
	}
	return holding, rows.Err()
}

// judge ends the runs whose lease is gone.
func (e *Engine) judge(asked []uuid.UUID, holding map[uuid.UUID]bool, renewed bool, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, owner := range asked {
		h := e.running[owner]
		switch {
		case h == nil:
		case !holding[owner]:
			h.lose(errLost)
		case renewed:
			h.expiry = at.Add(leaseFor)
		}
	}
}

// expire ends the runs whose lease must have run out while the database could not be asked: another worker may have them by now.
func (e *Engine) expire(owners []uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, owner := range owners {
		if h := e.running[owner]; h != nil && time.Now().After(h.expiry) {
			h.lose(errLost)
		}
	}
}

// Sweep removes the directories of runs that nobody will go on with. Call it now and then.
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
			continue // somebody is just ending
		}
		faults = append(faults, os.RemoveAll(dir), lock.Close())
	}
	return errors.Join(faults...)
}
