// Package connections answers the operations that touch Git providers and directories for a person (contract 10, sections 9.5, 10 and 14): consents,
// and looking at repositories. The rules and the rows are SQL's; what speaks with providers is kijko/worker/connections.
//
// A consent has a state of 256 random bits, of which the database knows the digest, and a verifier (PKCE) that lies sealed beside it. Both are
// single use and end after ten minutes. Tokens leave this process sealed for their row.
//
// A Feature is safe for concurrent use and starts no goroutine that outlives a request. No transaction is open while a provider is asked.
package connections

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"kijko/server/api"
	"kijko/worker/connections"
	"kijko/worker/gitfetch"
	"kijko/worker/seal"
)

// budget is what one operation spends at a provider.
const budget = 25 * time.Second

// Executor runs calls; *api.Executor is one.
type Executor interface {
	Run(ctx context.Context, r *api.Request) (api.Answer, error)
}

// Remotes lists the branches of a repository; *gitfetch.Fetcher is one.
type Remotes interface {
	LsRemote(ctx context.Context, url string, auth gitfetch.Auth) (gitfetch.Remote, error)
}

// Settings are what a Feature is made of.
type Settings struct {
	Exec      Executor
	Git       Remotes
	Providers *connections.Providers
	Keeper    *connections.Keeper
	// Box is nil on an installation without an encryption key: then no account can be connected.
	Box *seal.Box
	// Origin is where this API is reached, AppURL where people are.
	Origin, AppURL string
	// Redirects are further addresses that a consent may lead back to.
	Redirects []string
	// Origins are the pages that may call, and hear how a consent ended.
	Origins api.Origins
	Log     *slog.Logger
}

// Feature is the part of the edge.
type Feature struct{ Settings }

// New makes one.
func New(s Settings) *Feature {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Feature{s}
}

// Handlers gives the operations that are answered here.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{
		"connectProvider":        f.connect,
		"connectDirectory":       f.connectDirectory,
		"completeConnection":     f.complete,
		"returnFromProvider":     f.comeBack,
		"validateRepositoryFull": f.validate,
		"listRemoteBranches":     f.branches,
		"listRemoteRepositories": f.repositories,
	}
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

// originOf is scheme and host of an address, as browsers write origins.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
