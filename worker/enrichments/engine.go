// Package enrichments builds what enriches a context: its knowledge graph, the index of its symbols and the embeddings of its files
// (contract 60, section 10).
//
// A run is worked on under a lease in its row, like a run of an ingestion: Claim takes it, Hold renews all leases of the process, and every
// write names the lease, so that a worker which lost it writes nothing. The rows that a run makes come into force at its end, in one
// transaction. Until then they are beside those in force, so a failed run changes nothing, and a worker that takes a run over continues with
// the contents that the lost one had finished.
//
// A run reads the context's files page by page. The texts of one page are in memory at a time, at most flightBytes of them.
package enrichments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/worker/embed"
	"kijko/worker/exactjson"
	"kijko/worker/ingestion/parse"
	"kijko/worker/ingestion/source"
	"kijko/worker/lease"
	"kijko/worker/llm"
)

// Lease times: a lease is renewed three times before it would expire.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 5 * time.Second
	lookEvery  = 500 * time.Millisecond
)

// Config configures an Engine. Pool and Embed are required.
type Config struct {
	// Pool belongs to kijko_worker.
	Pool *pgxpool.Pool
	// Process tells other workers that this one lives; nil: only the times of its leases do.
	Process *lease.Process
	Embed   *embed.Set
	// Policy is the retry policy for the embedding provider; default llm.DefaultPolicy.
	Policy *llm.Policy
	// Parsers is how many files are parsed at once; default GOMAXPROCS.
	Parsers int
	Log     *slog.Logger
}

// Engine works runs. Make it with New.
type Engine struct {
	c      Config
	policy llm.Policy
	parser *parse.Parser
	leases *lease.Keeper
}

// New checks the configuration.
func New(c Config) (*Engine, error) {
	if c.Pool == nil || c.Embed == nil {
		return nil, errors.New("enrichments: Pool and Embed are required")
	}
	if c.Parsers <= 0 {
		c.Parsers = runtime.GOMAXPROCS(0)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{c: c, policy: llm.DefaultPolicy(), parser: parse.New()}
	if c.Policy != nil {
		e.policy = *c.Policy
	}
	e.leases = lease.New(lease.Options{For: leaseFor, Every: renewEvery, Look: lookEvery, Expires: true, Renew: e.renew, Process: c.Process, Log: c.Log})
	return e, nil
}

// Close frees the parsers. Call it when no run is in work.
func (e *Engine) Close() { e.parser.Close() }

// The kinds of runs, as the database names them.
const (
	knowledgeGraph = "knowledgeGraph"
	languageServer = "languageServer"
	chromaCode     = "chromaCode"
)

// task is a run to work, as private.claim_enrichment returns it.
type task struct {
	RunID     uuid.UUID `json:"runId"`
	ProjectID uuid.UUID `json:"projectId"`
	Kind      string    `json:"kind"`
	// Builds: the graph has to be built, because no run of an ingestion has built it.
	Builds bool `json:"builds"`
	// Files is how many files the context has, for the percentage.
	Files    int      `json:"files"`
	Settings settings `json:"settings"`
}

// settings are those of LSPConfig and ChromaCodeConfig that a run needs.
type settings struct {
	source.Choice
	EmbeddingModel string `json:"embeddingModel"`
	ChunkStrategy  string `json:"chunkStrategy"`
	ChunkSize      int    `json:"chunkSize"`
	Overlap        int    `json:"overlap"`
}

// Claim takes the lease of the run that a job names ({"runId"}) and returns the work. The work is nil if the run has ended or another
// worker has it.
func (e *Engine) Claim(ctx context.Context, args []byte) (func(context.Context), error) {
	var job struct {
		RunID uuid.UUID `json:"runId"`
	}
	if err := exactjson.Unmarshal(args, &job); err != nil {
		return nil, fmt.Errorf("enrichments: job: %w", err)
	}
	owner := e.c.Process.Token()
	var claimed []byte
	err := e.c.Pool.QueryRow(ctx, "select private.claim_enrichment($1, $2, $3)", job.RunID, owner, int(leaseFor/time.Second)).Scan(&claimed)
	if err != nil {
		return nil, fmt.Errorf("enrichments: claim run: %w", err)
	}
	if claimed == nil {
		return nil, nil
	}
	var t task
	if err := exactjson.Unmarshal(claimed, &t); err != nil {
		return nil, fmt.Errorf("enrichments: claimed run: %w", err)
	}
	return func(ctx context.Context) { e.work(ctx, t, owner) }, nil
}

// work does one run under its lease.
func (e *Engine) work(ctx context.Context, t task, owner uuid.UUID) {
	log := e.c.Log.With("run", t.RunID, "context", t.ProjectID, "kind", t.Kind)
	working, release := e.leases.Add(ctx, lease.Lease{ID: t.RunID, Token: owner})
	defer release()
	r := &run{e: e, t: t, store: &store{pool: e.c.Pool, run: t.RunID, owner: owner}, log: log}
	began := time.Now()
	err := r.execute(working)
	cause := context.Cause(working)
	var failure *llm.Error
	switch {
	case err == nil:
		log.Info("enrichment built", "seconds", time.Since(began).Seconds())
	case errors.Is(err, lease.ErrLost) || errors.Is(cause, lease.ErrLost):
		log.Info("the run of an enrichment ended elsewhere (cancelled or taken over)")
	case ctx.Err() != nil:
		giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := r.store.release(giving); err != nil {
			log.Warn("lease could not be given back; it runs out", "error", err)
		}
	case errors.As(err, &failure):
		log.Warn("enrichment failed", "code", failure.Code, "error", err)
		r.fail(working, failure.Message)
	case errors.Is(err, errDatabase):
		log.Error("the run of an enrichment is left to a successor", "error", err)
	default:
		log.Error("enrichment failed", "error", err)
		r.fail(working, "The work failed for an internal reason. Please try again, and contact support if it fails again.")
	}
}

func (r *run) fail(ctx context.Context, message string) {
	if err := r.store.fail(ctx, message); err != nil {
		r.log.Error("the failure of an enrichment could not be written", "error", err)
	}
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
	rows, err := e.c.Pool.Query(ctx, "select private.hold_enrichments($1, $2)", owners, seconds)
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	holding, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(held), func(l lease.Lease) bool { return slices.Contains(holding, l.Token) }), nil
}
