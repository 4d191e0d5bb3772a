// Package ingestion answers the only operation of ingestion that uses the network: the start of a run, which first asks the Git hosts
// whether the project's repositories and branches exist. Everything else is SQL.
//
// A Feature is safe for concurrent use and starts no goroutine that outlives a request.
package ingestion

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"kijko/server/api"
	"kijko/worker/gitfetch"
)

// budget is the time that all checks of one start may take together (contract 10, 17.1).
const budget = 8 * time.Second

// atOnce bounds the hosts asked at the same time by one start.
const atOnce = 8

// Remotes lists the branches of a repository; *gitfetch.Fetcher is one.
type Remotes interface {
	LsRemote(ctx context.Context, url string, auth gitfetch.Auth) (gitfetch.Remote, error)
}

// Feature is ingestion's part of the edge.
type Feature struct {
	Exec api.Runner
	Git  Remotes
	// Connected calls do with a user's connection to the provider of a repository, or without one.
	Connected func(ctx context.Context, userID string, provider gitfetch.Provider, url string, do func(gitfetch.Auth) error) error
	// Embeddings reports whether this installation can make vectors.
	Embeddings bool
}

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"startIngestion": f.start}
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

type request struct {
	SkipValidation bool `json:"skipValidation"`
}

type prepared struct {
	Repositories []struct {
		Provider gitfetch.Provider `json:"provider"`
		URL      string            `json:"url"`
		Branch   string            `json:"branch"`
	} `json:"repositories"`
	WebhookURL      string `json:"webhookUrl"`
	NeedsWebhook    bool   `json:"needsWebhook"`
	NeedsEmbeddings bool   `json:"needsEmbeddings"`
}

// start runs the checks without network, then those with network, then starts the run. When the first checks refuse, the start function is
// called all the same: it gives the same refusal, or replays the first answer of the Idempotency-Key.
func (f *Feature) start(c *api.Call) error {
	var body request
	if len(c.Body) > 0 {
		if err := c.Decode(&body); err != nil {
			return err
		}
	}
	if !body.SkipValidation {
		if err := f.validate(c); err != nil {
			return err
		}
	}
	answer, err := c.Query(c.Context(), "start_ingestion", c.Params)
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

func (f *Feature) validate(c *api.Call) error {
	answer, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.CallSQL("prepare_ingestion"), Args: []any{c.Params},
		ReadOnly: true, RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return nil //nolint:nilerr // the start function refuses or replays
	}
	var p prepared
	if err := json.Unmarshal(answer.Body, &p); err != nil {
		return fmt.Errorf("prepared ingestion: %w", err)
	}
	switch {
	case p.NeedsEmbeddings && !f.Embeddings:
		return api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", "This installation cannot make vectors: no embedding backend is configured.", "outputFormat")
	case p.NeedsWebhook && p.WebhookURL == "":
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "Custom chunking needs the address of a webhook.", "settings.webhookUrl")
	}
	return f.askHosts(c.Context(), c.Caller.UserID, p)
}

// askHosts asks all hosts at once and refuses with the first fault in the order of the repositories. A host that does not answer in time is
// no fault here: the run itself reports it.
func (f *Feature) askHosts(ctx context.Context, userID string, p prepared) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	faults := make([]error, len(p.Repositories))
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	for i, r := range p.Repositories {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			faults[i] = f.ask(ctx, userID, i, r.Provider, r.URL, r.Branch)
		})
	}
	group.Wait()
	for _, err := range faults {
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Feature) ask(ctx context.Context, userID string, i int, provider gitfetch.Provider, url, branch string) error {
	var remote gitfetch.Remote
	err := f.Connected(ctx, userID, provider, url, func(auth gitfetch.Auth) (err error) {
		remote, err = f.Git.LsRemote(ctx, url, auth)
		return err
	})
	if err != nil {
		failure, ok := gitfetch.AsFailure(err)
		if !ok || failure.Retryable {
			return nil //nolint:nilerr // unreachable at the moment
		}
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", failure.Message, fmt.Sprintf("repositories[%d].repositoryUrl", i))
	}
	if _, ok := remote.Commit(branch); ok || remote.Truncated || branch == "main" && remote.DefaultBranch != "" {
		return nil
	}
	return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", fmt.Sprintf("The branch %q does not exist in this repository.", branch),
		fmt.Sprintf("repositories[%d].branch", i))
}
