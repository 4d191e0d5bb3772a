// Package summary writes the summaries of contexts with a model (contract 60, section 6).
//
// A job is worked on under a lease in its row. The database gives the work only where a provider answers; without one it writes an extractive
// summary itself. It does the same when the model fails or its answer is of no use, so a job always ends with a summary.
//
// Files of a context are data for the model, not instructions: they stand between marks that the files cannot contain, and the answer is
// taken as text of bounded length, without addresses and markup (clean.go).
package summary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"kijko/db"
	"kijko/worker/exactjson"
	"kijko/worker/lease"
	"kijko/worker/llm"
)

// Lease times: a lease is renewed three times before it would expire.
const (
	leaseFor   = 15 * time.Second
	renewEvery = 4 * time.Second
)

// limit is how long the model may take in all, retries included.
const limit = 4 * time.Minute

// Providers returns a model provider by name (*llm.Set is one).
type Providers interface {
	For(name string) (llm.Provider, error)
}

// Config configures an Engine. Pool and Providers are required.
type Config struct {
	// Pool belongs to kijko_worker.
	Pool *pgxpool.Pool
	// Process tells other workers that this one lives; nil: only the times of its leases do.
	Process   *lease.Process
	Providers Providers
	// Unseal opens an organization's own key for a provider. Nil: organizations with such a key get extractive summaries.
	Unseal func(organizationID uuid.UUID, provider, sealed string) (string, error)
	// Policy is the retry policy for providers; default llm.DefaultPolicy.
	Policy *llm.Policy
	Log    *slog.Logger
}

// Engine works jobs. Make it with New.
type Engine struct {
	c      Config
	policy llm.Policy
	leases *lease.Keeper
}

// New checks the configuration.
func New(c Config) (*Engine, error) {
	if c.Pool == nil || c.Providers == nil {
		return nil, errors.New("summary: Pool and Providers are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{c: c, policy: llm.DefaultPolicy()}
	if c.Policy != nil {
		e.policy = *c.Policy
	}
	e.leases = lease.New(lease.Options{For: leaseFor, Every: renewEvery, Renew: e.renew, Process: c.Process, Log: c.Log})
	return e, nil
}

// Hold renews the leases of all jobs of this process until ctx ends. Start it before the first job and stop it after the last.
func (e *Engine) Hold(ctx context.Context) { e.leases.Run(ctx) }

func (e *Engine) renew(ctx context.Context, held []lease.Lease, _ bool) ([]lease.Lease, error) {
	owners := make([]uuid.UUID, 0, len(held))
	for _, l := range held {
		owners = append(owners, l.Token)
	}
	rows, err := e.c.Pool.Query(ctx, "select private.hold_summaries($1, $2)", owners, int(leaseFor/time.Second))
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	holding, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("renew: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(held), func(l lease.Lease) bool { return slices.Contains(holding, l.Token) }), nil
}

// task is a job to work, as private.claim_summary returns it.
type task struct {
	JobID          uuid.UUID `json:"jobId"`
	OrganizationID uuid.UUID `json:"organizationId"`
	ProjectID      uuid.UUID `json:"projectId"`
	// UserID asked for the summary; "" when it follows a version.
	UserID string `json:"userId"`
	Route  struct {
		Provider        string  `json:"provider"`
		Model           string  `json:"model"`
		SealedKey       *string `json:"sealedKey"`
		WithoutSampling bool    `json:"withoutSampling"`
	} `json:"route"`
	Source source `json:"source"`
	// Extractive is the summary without a model; what a model's answer lacks is filled from it.
	Extractive text `json:"extractive"`
}

// text is a summary.
type text struct {
	Description   string   `json:"description"`
	KeyComponents []string `json:"keyComponents"`
	Model         string   `json:"model"`
}

// Claim takes the lease of the job that the arguments name ({"jobId"}) and returns the work. The work is nil if the job has ended, another
// worker has it, or it needs no model.
func (e *Engine) Claim(ctx context.Context, args []byte) (func(context.Context), error) {
	var job struct {
		JobID uuid.UUID `json:"jobId"`
	}
	if err := exactjson.Unmarshal(args, &job); err != nil {
		return nil, fmt.Errorf("summary: job: %w", err)
	}
	owner := e.c.Process.Token()
	var claimed []byte
	err := e.c.Pool.QueryRow(ctx, "select private.claim_summary($1, $2, $3)", job.JobID, owner, int(leaseFor/time.Second)).Scan(&claimed)
	if err != nil {
		return nil, fmt.Errorf("summary: claim job: %w", err)
	}
	if claimed == nil {
		return nil, nil
	}
	var t task
	if err := exactjson.Unmarshal(claimed, &t); err != nil {
		return nil, fmt.Errorf("summary: claimed job: %w", err)
	}
	return func(ctx context.Context) { e.work(ctx, &t, owner) }, nil
}

// work asks the model and writes the summary.
func (e *Engine) work(ctx context.Context, t *task, owner uuid.UUID) {
	log := e.c.Log.With("job", t.JobID, "model", t.Route.Model)
	working, release := e.leases.Add(ctx, lease.Lease{ID: t.JobID, Token: owner})
	defer release()
	written, err := e.ask(working, t)
	switch {
	case errors.Is(context.Cause(working), lease.ErrLost):
		log.Info("a summary is written elsewhere")
		return
	case ctx.Err() != nil:
		giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, err := e.c.Pool.Exec(giving, "select private.release_summary($1, $2)", t.JobID, owner); err != nil {
			log.Warn("a summary could not be handed back; its lease runs out", "error", err)
		}
		return
	case err != nil:
		log.Warn("no model wrote the summary; it is extracted", "error", err)
	}
	var data []byte
	if written != nil {
		if data, err = json.Marshal(written); err != nil {
			log.Error("a summary could not be written", "error", err)
			return
		}
	}
	// Without data the database extracts one.
	held := false
	err = db.Retry(working, 9, nil, func(ctx context.Context) error {
		return e.c.Pool.QueryRow(ctx, "select private.finish_summary($1, $2, $3)", t.JobID, owner, data).Scan(&held)
	})
	switch {
	case err != nil:
		log.Error("a summary could not be stored; its lease runs out", "error", err)
	case !held:
		log.Info("a late summary was dropped")
	}
}

// ask calls the model. A panic of a provider's client is a failed call.
func (e *Engine) ask(ctx context.Context, t *task) (written *text, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	provider, err := e.c.Providers.For(t.Route.Provider)
	if err != nil {
		return nil, err
	}
	request, err := t.request()
	if err != nil {
		return nil, err
	}
	if t.Route.SealedKey != nil {
		if e.c.Unseal == nil {
			return nil, errors.New("this worker has no ENCRYPTION_KEY to open the organization's key with")
		}
		if request.Key, err = e.c.Unseal(t.OrganizationID, t.Route.Provider, *t.Route.SealedKey); err != nil {
			return nil, fmt.Errorf("open the organization's key: %w", err)
		}
	}
	ctx = llm.WithTrace(ctx, llm.Trace{Name: "summary", UserID: t.UserID, OrganizationID: t.OrganizationID.String(), SessionID: t.ProjectID.String()})
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	result, err := e.policy.Generate(limited, time.Now(), provider, request)
	if err != nil {
		return nil, err
	}
	return t.read(result.Text)
}
