// Package authtest runs a real OpenID Connect provider on loopback in place of Keycloak: discovery, key set and token endpoint are those of
// zitadel/oidc, under a realm's path. It can rotate its keys, go down, hang and recover. Browsers keep their sessions the way Keycloak
// keeps them, and Keycloak's administration ends them.
package authtest

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The client that the provider issues tokens for.
const (
	ClientID     = "kijko-backend"
	ClientSecret = "only-for-tests"
	realmPath    = "/realms/kijko"
	sessionsPath = "/admin/realms/kijko/sessions/"
)

// Provider is a running identity provider. Its methods may be called
// concurrently.
type Provider struct {
	// URL is the base, as in KEYCLOAK_URL; Issuer the realm's iss.
	URL, Issuer string

	keyFetches atomic.Int64
	mode       atomic.Int32
	exchanges  atomic.Pointer[fixed]
	closing    chan struct{}

	mu       sync.Mutex
	keys     []*signingKey   // the last key signs
	next     Request         // the content of the next token
	sessions map[string]bool // sids of browsers; false: ended
	codes    map[string]signIn
	users    map[string]map[string]any
}

const (
	up int32 = iota
	down
	hanging
)

// New starts a provider that ends with the test.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{closing: make(chan struct{}), sessions: map[string]bool{}, codes: map[string]signIn{}, users: map[string]map[string]any{}}
	p.Rotate(t, true)

	// The issuer contains the port, so the listener comes before the handler.
	server := httptest.NewUnstartedServer(nil)
	p.URL = "http://" + server.Listener.Addr().String()
	p.Issuer = p.URL + realmPath
	provider, err := op.NewProvider(
		&op.Config{AuthMethodPost: true},
		&store{Storage: storage.NewStorage(storage.NewUserStore(p.Issuer)), provider: p},
		op.StaticIssuer(p.Issuer), op.WithAllowInsecure())
	require.NoError(t, err)
	server.Config.Handler = p.gate(http.StripPrefix(realmPath, provider))
	server.Start()
	t.Cleanup(func() {
		close(p.closing)
		server.Close()
	})
	return p
}

// gate counts key fetches and simulates the outages.
func (p *Provider) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch p.mode.Load() {
		case down:
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
			return
		case hanging:
			select {
			case <-r.Context().Done():
			case <-p.closing:
			}
			return
		}
		if strings.HasSuffix(r.URL.Path, "/keys") {
			p.keyFetches.Add(1)
		}
		if sid, ok := strings.CutPrefix(r.URL.Path, sessionsPath); ok && r.Method == http.MethodDelete {
			w.WriteHeader(p.endSession(r, sid))
			return
		}
		if strings.HasPrefix(r.URL.Path, usersPath) {
			if status := p.admit(r); status != 0 {
				w.WriteHeader(status)
				return
			}
			p.administer(w, r)
			return
		}
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/oauth/token") && r.PostFormValue("grant_type") == "authorization_code" {
			p.exchange(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// admit returns 0 for a token of this provider.
func (p *Provider) admit(r *http.Request) int {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return http.StatusUnauthorized
	}
	if _, err := jws.Verify(p.PublicKey()); err != nil {
		return http.StatusUnauthorized
	}
	return 0
}

// endSession is Keycloak's DELETE /admin/realms/{realm}/sessions/{sid}.
func (p *Provider) endSession(r *http.Request, sid string) int {
	if status := p.admit(r); status != 0 {
		return status
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.sessions[sid] {
		return http.StatusNotFound
	}
	p.sessions[sid] = false
	return http.StatusNoContent
}

// Browser is one user's browser. As at Keycloak it has one session, whose id (sid) stays the same over repeated sign-ins, until the session
// is ended.
type Browser struct {
	provider      *Provider
	req           Request
	sid           string
	authenticated time.Time
}

// Browser makes a browser without a session. The request's claims go into each of its tokens.
func (p *Provider) Browser(req Request) *Browser { return &Browser{provider: p, req: req} }

// HasSession reports whether the cookie would sign its user in without a password.
func (b *Browser) HasSession() bool {
	b.provider.mu.Lock()
	defer b.provider.mu.Unlock()
	return b.provider.sessions[b.sid]
}

// SessionID is the sid of the last token.
func (b *Browser) SessionID() string { return b.sid }

// SignIn is a sign-in at the given time. An active session answers by its cookie, with the old sid and auth_time. Without one the user
// types the password.
func (b *Browser) SignIn(t testing.TB, at time.Time) string {
	t.Helper()
	if !b.HasSession() {
		b.sid, b.authenticated = uuid.NewString(), at
		b.provider.mu.Lock()
		b.provider.sessions[b.sid] = true
		b.provider.mu.Unlock()
	}
	return b.token(t)
}

// Prompt is a sign-in with prompt=login: the user types the password. The session keeps its sid and gets a new auth_time.
func (b *Browser) Prompt(t testing.TB, at time.Time) string {
	t.Helper()
	b.SignIn(t, at)
	b.authenticated = at
	return b.token(t)
}

func (b *Browser) token(t testing.TB) string {
	t.Helper()
	req := b.req
	req.Claims = maps.Clone(req.Claims)
	if req.Claims == nil {
		req.Claims = map[string]any{}
	}
	req.Claims["sid"], req.Claims["auth_time"] = b.sid, b.authenticated.Unix()
	return b.provider.Token(t, req)
}

// Down makes the provider drop every connection.
func (p *Provider) Down() { p.mode.Store(down) }

// Hang makes the provider accept requests and never answer.
func (p *Provider) Hang() { p.mode.Store(hanging) }

// Up makes the provider answer again.
func (p *Provider) Up() { p.mode.Store(up) }

// KeyFetches counts the requests for the key set.
func (p *Provider) KeyFetches() int { return int(p.keyFetches.Load()) }

// Rotate makes a new RSA key sign from now on. withdraw drops the former keys from the published set; otherwise they stay in it.
func (p *Provider) Rotate(t testing.TB, withdraw bool) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if withdraw {
		p.keys = nil
	}
	p.keys = append(p.keys, &signingKey{uuid.NewString(), key})
}

// PublicKey is the key that the provider signs with.
func (p *Provider) PublicKey() *rsa.PublicKey { return &p.current().key.PublicKey }

// PrivateKey is the private key of PublicKey, for genuine signatures under a false header.
func (p *Provider) PrivateKey() *rsa.PrivateKey { return p.current().key }

// KeyID is the kid of PublicKey.
func (p *Provider) KeyID() string { return p.current().id }

func (p *Provider) current() *signingKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys[len(p.keys)-1]
}

// Request is the content of a token. Claims are added to those of the provider (iss, sub, aud, exp in five minutes, iat, nbf, jti,
// client_id).
type Request struct {
	Subject  string
	Audience []string // nil: ClientID
	Claims   map[string]any
}

// Token requests an access token from the provider's token endpoint.
func (p *Provider) Token(t testing.TB, req Request) string {
	t.Helper()
	p.mu.Lock()
	p.next = req
	p.mu.Unlock()
	resp, err := http.PostForm(p.Issuer+"/oauth/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {ClientID}, "client_secret": {ClientSecret}, "scope": {"openid"},
	})
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	var body struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&body))
	return body.AccessToken
}

// Sign signs unchanged claims with the provider's key, for tokens that the provider itself would not issue.
func (p *Provider) Sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	key := p.current()
	return Sign(t, jose.RS256, key.id, key.key, claims)
}

// Sign signs claims with any key and algorithm; kid may be "".
func Sign(t testing.TB, alg jose.SignatureAlgorithm, kid string, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	require.NoError(t, err)
	body, err := json.Marshal(claims)
	require.NoError(t, err)
	jws, err := signer.Sign(body)
	require.NoError(t, err)
	raw, err := jws.CompactSerialize()
	require.NoError(t, err)
	return raw
}

// store is the example's storage with this package's keys and claims.
type store struct {
	*storage.Storage
	provider *Provider
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.provider.current(), nil }

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.RS256}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	var set []op.Key
	for _, k := range s.provider.keys {
		set = append(set, &publicKey{k})
	}
	return set, nil
}

func (s *store) ClientCredentials(_ context.Context, id, secret string) (op.Client, error) {
	if id != ClientID || secret != ClientSecret {
		return nil, oidc.ErrInvalidClient()
	}
	return client{storage.WebClient(ClientID, ClientSecret)}, nil
}

func (s *store) ClientCredentialsTokenRequest(_ context.Context, _ string, scopes []string) (op.TokenRequest, error) {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	audience := s.provider.next.Audience
	if audience == nil {
		audience = []string{ClientID}
	}
	return &oidc.JWTTokenRequest{Subject: s.provider.next.Subject, Audience: audience, Scopes: scopes}, nil
}

func (s *store) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	return s.provider.next.Claims, nil
}

// client makes access tokens JWTs and allows the machine's grant.
type client struct{ *storage.Client }

func (client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
func (client) GrantTypes() []oidc.GrantType        { return []oidc.GrantType{oidc.GrantTypeClientCredentials} }

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *signingKey) Key() any                                    { return k.key }
func (k *signingKey) ID() string                                  { return k.id }

type publicKey struct{ *signingKey }

func (k *publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *publicKey) Use() string                        { return "sig" }
func (k *publicKey) Key() any                           { return crypto.PublicKey(&k.key.PublicKey) }

// Clock is a time that moves only by Advance; for the Now of a Verifier.
type Clock struct{ nanos atomic.Int64 }

// NewClock starts at the present, rounded to a full second, as in tokens.
func NewClock() *Clock {
	c := &Clock{}
	c.nanos.Store(time.Now().Truncate(time.Second).UnixNano())
	return c
}

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return time.Unix(0, c.nanos.Load()) }

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) { c.nanos.Add(int64(d)) }

// Address reserves a loopback address without a listener.
func Address(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
