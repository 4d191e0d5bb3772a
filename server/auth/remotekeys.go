package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"
)

const (
	keysFresh     = time.Hour        // after that they are fetched again, in the background
	forcedEvery   = time.Minute      // at most one fetch for an unknown kid
	retryEvery    = time.Minute      // between failed background fetches
	retryEmpty    = time.Second      // between failed fetches while there is no key yet
	fetchTimeout  = 10 * time.Second // discovery and key set together
	maxDocument   = 1 << 20          // bytes of a discovery document or key set
	minRSABits    = 2048
	maxRemoteKeys = 100 // of one set; a realm has two to four
)

// remoteKey is a public key with the only algorithm that it may be used for.
type remoteKey struct {
	id  string
	alg jose.SignatureAlgorithm
	key any
}

// remoteKeys is the key set of an identity provider. go-oidc finds it, but its
// own key set neither ages nor limits how often unknown kids reach the provider.
type remoteKeys struct {
	locate func(ctx context.Context) (url string, err error)
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	// withdrawn is called, without lock, when a key has vanished from the set.
	withdrawn func()
	// emptyIsFine: a set without keys is an answer (a Supabase project that only
	// signs with its secret), not a failure.
	emptyIsFine bool

	ctx    context.Context // ends with close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	keys      []remoteKey
	answered  bool          // a fetch has succeeded
	fetched   time.Time     // last success
	attempted time.Time     // last start of a fetch
	forced    time.Time     // last fetch for an unknown kid
	failure   error         // of the last fetch
	running   chan struct{} // closed when the current fetch has ended
}

// find returns the keys that may have signed with alg and kid. It fails with
// ErrSignature when there is no such key, and with ErrUnavailable when the
// provider has never delivered a key.
func (r *remoteKeys) find(ctx context.Context, alg jose.SignatureAlgorithm, kid string) ([]any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	asked := false // in this call: a set that was just fetched needs no second fetch
	if !r.usable() {
		if r.running == nil && r.now().Sub(r.attempted) < retryEmpty {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, r.failure)
		}
		if err := r.fetchAndWait(ctx); err != nil {
			return nil, err
		}
		asked = true
		if !r.usable() {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, r.failure)
		}
	} else if now := r.now(); now.Sub(r.fetched) >= keysFresh && now.Sub(r.attempted) >= retryEvery {
		r.start()
	}

	if !asked && !r.knows(kid) && (r.running != nil || r.now().Sub(r.forced) >= forcedEvery) {
		r.forced = r.now()
		if err := r.fetchAndWait(ctx); err != nil {
			return nil, err
		}
	}
	if found := r.match(alg, kid); len(found) > 0 {
		return found, nil
	}
	return nil, fmt.Errorf("%w: kid %q", ErrSignature, tidy(kid, 64))
}

func (r *remoteKeys) usable() bool { return len(r.keys) > 0 || r.emptyIsFine && r.answered }

// knows reports whether a fetch could not help: the kid is known, or the token
// names none.
func (r *remoteKeys) knows(kid string) bool {
	return kid == "" || slices.ContainsFunc(r.keys, func(k remoteKey) bool { return k.id == kid })
}

// match selects by kid and algorithm. A token without kid is tried only if the
// provider has a single key for the algorithm: no guessing among several.
func (r *remoteKeys) match(alg jose.SignatureAlgorithm, kid string) []any {
	var found []any
	for _, k := range r.keys {
		if k.alg == alg && (kid == "" || k.id == kid) {
			found = append(found, k.key)
		}
	}
	if kid == "" && len(found) > 1 {
		return nil
	}
	return found
}

// fetchAndWait joins the current fetch or starts one. It is called with the lock
// held and releases it while waiting.
func (r *remoteKeys) fetchAndWait(ctx context.Context) error {
	done := r.start()
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for keys: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// start begins a fetch unless one is running. The lock is held.
func (r *remoteKeys) start() <-chan struct{} {
	if r.running != nil {
		return r.running
	}
	done := make(chan struct{})
	if r.ctx.Err() != nil {
		r.failure = errors.New("the verifier is closed")
		close(done)
		return done
	}
	r.running, r.attempted = done, r.now()
	r.wg.Go(func() {
		keys, err := r.fetch()
		if gone := r.store(keys, err); gone {
			r.withdrawn()
		}
		close(done)
	})
	return done
}

// store applies the result of a fetch. A failed one leaves the old keys in use.
// gone reports that one of the old keys has been withdrawn.
func (r *remoteKeys) store(keys []remoteKey, err error) (gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running, r.failure = nil, err
	if err != nil {
		r.log.Warn("identity provider gave no keys", "error", err, "keys_in_use", len(r.keys))
		return false
	}
	for _, old := range r.keys {
		if !slices.ContainsFunc(keys, old.equal) {
			gone = true
		}
	}
	r.keys, r.answered, r.fetched = keys, true, r.now()
	return gone
}

func (k remoteKey) equal(other remoteKey) bool {
	public, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.id == other.id && public.Equal(other.key)
}

// fetch asks the provider for the address of its keys and fetches them.
func (r *remoteKeys) fetch() ([]remoteKey, error) {
	ctx, cancel := context.WithTimeout(r.ctx, fetchTimeout)
	defer cancel()
	url, err := r.locate(oidc.ClientContext(ctx, r.client))
	if err != nil {
		return nil, fmt.Errorf("discovery: %s", tidy(err.Error(), 300))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("key set: %s answered %s", url, resp.Status)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	keys, err := parseKeySet(body)
	if err != nil {
		return nil, fmt.Errorf("key set: %s: %w", url, err)
	}
	if len(keys) == 0 && !r.emptyIsFine {
		return nil, fmt.Errorf("key set: %s has no usable signing key", url)
	}
	return keys, nil
}

// parseKeySet keeps the supported public signing keys and skips the others:
// encryption keys, secrets, weak or unknown ones. One unsupported key must not
// invalidate the whole set.
func parseKeySet(body []byte) ([]remoteKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, err
	}
	if set.Keys == nil {
		return nil, errors.New("no member keys")
	}
	var keys []remoteKey
	for _, raw := range set.Keys[:min(len(set.Keys), maxRemoteKeys)] {
		var jwk jose.JSONWebKey
		if json.Unmarshal(raw, &jwk) != nil || jwk.Use != "" && jwk.Use != "sig" {
			continue
		}
		if alg := algorithmOf(jwk.Key); alg != "" && (jwk.Algorithm == "" || jwk.Algorithm == string(alg)) {
			keys = append(keys, remoteKey{id: jwk.KeyID, alg: alg, key: jwk.Key})
		}
	}
	return keys, nil
}

// algorithmOf returns the only algorithm of a public key; "" for an unsupported
// key.
func algorithmOf(key any) jose.SignatureAlgorithm {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			return jose.RS256
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return jose.ES256
		}
	}
	return ""
}

// close cancels a running fetch and awaits its end.
func (r *remoteKeys) close() {
	r.cancel()
	r.wg.Wait()
}

// status describes the set for readiness and logs.
func (r *remoteKeys) status() (keys int, fetched time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.keys), r.fetched, r.failure
}

// limitedTransport cuts response bodies off at maxDocument: go-oidc reads
// discovery documents without a limit.
type limitedTransport struct{ next http.RoundTripper }

func (t limitedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxDocument), resp.Body}
	}
	return resp, err
}
