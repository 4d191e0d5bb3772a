// Package connections answers the operations that access Git providers and directories for a user (contract 10, sections 9.5, 10 and 14):
// consents, and looking at repositories. The rules and the rows are in SQL; kijko/worker/connections speaks with the providers.
//
// A consent has a state of 256 random bits, of which the database stores the digest, and a verifier (PKCE) that is stored sealed beside it.
// Both are single use and end after ten minutes. Tokens leave this process sealed for their row.
//
// A Feature is safe for concurrent use and starts no goroutine that outlives a request. No transaction is open during a call to a provider.
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

// budget is the time that one operation may spend at a provider.
const budget = 25 * time.Second

// Executor runs calls; *api.Executor is one.
type Executor interface {
	Run(ctx context.Context, r *api.Request) (api.Answer, error)
}

// Remotes lists the branches of a repository; *gitfetch.Fetcher is one.
type Remotes interface {
	LsRemote(ctx context.Context, url string, auth gitfetch.Auth) (gitfetch.Remote, error)
}

// Settings are the dependencies of a Feature.
type Settings struct {
	Exec      Executor
	Git       Remotes
	Providers *connections.Providers
	Keeper    *connections.Keeper
	// Box is nil on an installation without an encryption key. No account can be connected then.
	Box *seal.Box
	// Origin is the address of this API, AppURL that of the web client.
	Origin, AppURL string
	// Redirects are further addresses that a consent may return to.
	Redirects []string
	// Origins are the origins whose pages may call, and may be notified how a consent ended.
	Origins api.Origins
	Log     *slog.Logger
}

// Feature is connections' part of the edge.
type Feature struct{ Settings }

// New makes a Feature.
func New(s Settings) *Feature {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Feature{s}
}

// Handlers returns the operations that this package answers.
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

// originOf returns scheme and host of an address, as browsers write origins.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
