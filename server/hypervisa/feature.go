// Package hypervisa puts tenants in front of HyperVisa (contract 60, section 16), a service that knows only one: it lists, creates, asks and
// deletes sessions, and its addresses are passed on as they are.
//
// Postgres decides first: whose session it is, whether the input may be passed on, and whether the plan has a unit left. After that a call
// holds no connection to the database until upstream has answered. Of a request upstream gets a body that was built here and six headers,
// never the caller's credential. No other path and no other method is passed on. No prompt and no answer is stored or logged.
//
// A Feature is safe for concurrent use. It starts no goroutine.
package hypervisa

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"kijko/server/api"
	"kijko/worker/integrations"
)

const (
	// maxCalls is how many calls of one process wait for upstream, and maxOwn how many of them are one person's.
	maxCalls, maxOwn = 64, 8
	// maxAnswer bounds an answer of upstream.
	maxAnswer = 4 << 20
	// timeout bounds one call of the database.
	timeout = 15 * time.Second
	// askAgain is the interval at which a repeated request checks whether the first one has its answer.
	askAgain = 200 * time.Millisecond
)

// Settings are the dependencies of a Feature.
type Settings struct {
	Exec api.Runner
	// URL is where HyperVisa is reached; empty: not configured.
	URL string
	// Root is the folder on HyperVisa's machine below which directories may be ingested; empty: none.
	Root string
	// Timeout bounds one call of upstream.
	Timeout time.Duration
	// Guard checks the addresses of repositories.
	Guard *integrations.Guard
	Log   *slog.Logger
}

// Feature is the proxy.
type Feature struct {
	Settings
	client *http.Client
	calls  *semaphore.Weighted

	mu sync.Mutex
	// own counts the calls of each person that wait for upstream.
	own map[string]int
}

// New makes a Feature.
func New(s Settings) (*Feature, error) {
	if _, err := url.Parse(s.URL); err != nil {
		return nil, fmt.Errorf("HYPERVISA_URL: %w", err)
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.URL = strings.TrimRight(s.URL, "/")
	return &Feature{Settings: s, calls: semaphore.NewWeighted(maxCalls), own: map[string]int{}, client: &http.Client{
		// The operator configured the address, so it may be an internal one. Redirects would lead elsewhere.
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: maxCalls, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"listHypervisaSessions": f.list, "ingestHypervisaRepository": f.create("ingest-repo"), "watchHypervisaVideos": f.create("watch"),
		"ingestHypervisaDirectory": f.create("ingest"), "queryHypervisaSession": f.query, "deleteHypervisaSession": f.remove}
}

// Close closes idle connections.
func (f *Feature) Close() error {
	f.client.CloseIdleConnections()
	return nil
}

// admission is the database's answer for a call that may be passed on.
type admission struct {
	UserID         string          `json:"userId"`
	OrganizationID string          `json:"organizationId"`
	ChargedAt      string          `json:"chargedAt,omitempty"`
	Key            string          `json:"key,omitempty"`
	Body           json.RawMessage `json:"body,omitempty"`
	// Sessions are the ids of the caller's sessions.
	Sessions []string `json:"sessions,omitempty"`
	// Answer is the answer under the request's Idempotency-Key.
	Answer    json.RawMessage `json:"answer,omitempty"`
	IsRunning bool            `json:"isRunning,omitempty"`
	IsDone    bool            `json:"isDone,omitempty"`
}

// begin runs a function of schema private as the caller.
func (f *Feature) begin(c *api.Call, function string, p map[string]any) (a admission, err error) {
	p["isConfigured"] = f.URL != ""
	if key, hash := c.Key(), c.Fingerprint(); key != "" {
		p["key"], p["keyHash"] = key, hex.EncodeToString(hash)
		a.Key = strings.Clone(key)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	answer, err := f.Exec.Run(ctx, &api.Request{Caller: c.Caller, Needs: c.Op.Scope, ReadOnly: c.Op.ReadOnly, SQL: api.ProcedureSQL(function + "($1)"), Args: []any{raw},
		RequestID: c.RequestID, ClientIP: c.ClientIP, Device: c.Device})
	if err != nil {
		return a, err
	}
	for name, value := range answer.Headers {
		c.Ctx.Set(name, value)
	}
	if err := json.Unmarshal(answer.Body, &a); err != nil {
		return a, fmt.Errorf("%s: %w", function, err)
	}
	return a, nil
}

// end runs a function that only the server may call. The request may be over by now, and its result must not be lost.
func (f *Feature) end(c *api.Call, function string, p map[string]any, a admission) (api.Answer, error) {
	p["userId"], p["organizationId"] = a.UserID, a.OrganizationID
	if a.Key != "" {
		p["key"] = a.Key
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), timeout)
	defer cancel()
	return c.Server(ctx, function, p)
}

// refund gives back the unit of a call that failed, and returns why it failed.
func (f *Feature) refund(c *api.Call, a admission, metric string, cause error) error {
	if _, err := f.end(c, "refund_hypervisa", map[string]any{"metric": metric, "chargedAt": a.ChargedAt}, a); err != nil {
		f.Log.Error("a unit could not be given back", "metric", metric, "organization", a.OrganizationID, "request_id", c.RequestID, "error", err)
	}
	return cause
}

// forget removes the row of a session that upstream does not have any more.
func (f *Feature) forget(c *api.Call, a admission, id string) error {
	_, err := f.end(c, "drop_hypervisa_session", map[string]any{"sessionId": id}, a)
	return err
}

// place takes one of the places for calls of upstream. The returned function gives it back and must be called once.
func (f *Feature) place(ctx context.Context, person string) (func(), error) {
	f.mu.Lock()
	if f.own[person] >= maxOwn {
		f.mu.Unlock()
		return nil, api.RateLimited(maxOwn, 0, time.Now().Add(time.Second))
	}
	f.own[person]++
	f.mu.Unlock()
	leave := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.own[person]--; f.own[person] == 0 {
			delete(f.own, person)
		}
	}
	waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := f.calls.Acquire(waiting, 1); err != nil {
		leave()
		return nil, api.Unavailable("SERVICE_UNAVAILABLE", "HyperVisa is asked too much at the moment. Please try again.", err)
	}
	return func() { f.calls.Release(1); leave() }, nil
}

// below returns the cleaned path of a directory that lies below the root; empty otherwise.
func (f *Feature) below(directory string) string {
	if f.Root == "" || !strings.HasPrefix(directory, "/") || len(directory) > 4096 || strings.ContainsFunc(directory, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ""
	}
	cleaned, root := path.Clean(directory), strings.TrimRight(path.Clean(f.Root), "/")
	if !strings.HasPrefix(cleaned, root+"/") {
		return ""
	}
	return cleaned
}
