package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"
)

const (
	// MaxToken is the longest accepted token in bytes; Keycloak's with many roles
	// reach 8 KiB.
	MaxToken = 16 << 10

	// leeway is how far nbf and iat may lie ahead of the server's clock.
	leeway = 30 * time.Second

	// maxCached bounds how long a token stays valid after its key was withdrawn,
	// when this server has not noticed the withdrawal.
	maxCached = 5 * time.Minute

	defaultCacheBytes = 32 << 20
	httpTimeout       = 5 * time.Second
	minSecret         = 32 // bytes: the output of SHA-256, required for HS256 by RFC 7518

	supabaseAudience = "authenticated"
	// supabaseKeyIssuer signs the anon and service-role API keys of a project.
	supabaseKeyIssuer = "supabase"
)

// Config says which issuers a Verifier accepts; at least one.
type Config struct {
	Builtin  *Issuer
	Keycloak *KeycloakConfig
	Supabase *SupabaseConfig

	Client     *http.Client     // nil: a client with a timeout of 5 s
	Log        *slog.Logger     // nil: silent
	Now        func() time.Time // nil: time.Now
	CacheBytes int              // memory for verified tokens; 0: 32 MiB, negative: none
}

// KeycloakConfig names a realm and the client whose tokens are accepted.
type KeycloakConfig struct {
	URL      string // base, for example https://id.example.com
	Realm    string // "": kijko
	ClientID string // "": kijko-backend
	// InternalURL is the base under which this server reaches Keycloak, if that
	// differs from URL (containers). Tokens still carry URL.
	InternalURL string
}

// Issuer returns the iss of the realm's tokens.
func (c KeycloakConfig) Issuer() string { return realmURL(c.URL, c.Realm) }

func realmURL(base, realm string) string {
	if realm == "" {
		realm = "kijko"
	}
	return strings.TrimSuffix(base, "/") + "/realms/" + realm
}

// SupabaseConfig names a Supabase project.
type SupabaseConfig struct {
	URL string // for example https://abc.supabase.co
	// JWTSecret verifies HS256 tokens; "" refuses them. Tokens with ES256 and
	// RS256 are verified with the project's published keys in any case.
	JWTSecret string
	// EmailsConfirmed says that the project has "confirm email" switched on.
	// Supabase tokens carry no such claim that the user cannot edit. Without this
	// setting every address counts as unverified.
	EmailsConfirmed bool
}

// Issuer returns the iss of the project's tokens.
func (c SupabaseConfig) Issuer() string { return strings.TrimSuffix(c.URL, "/") + "/auth/v1" }

// Verifier turns a raw token into an Identity. See the package comment for its
// rules.
type Verifier struct {
	sources map[string]*source // by iss
	remotes []*remoteKeys
	cache   *cache
	now     func() time.Time
	// supabase means that the project's service keys are recognized and refused
	// with their own error.
	supabase bool
}

// source is one accepted issuer.
type source struct {
	kind            Kind
	algorithms      []jose.SignatureAlgorithm
	clientID        string
	emailsConfirmed bool
	keys            func(ctx context.Context, alg jose.SignatureAlgorithm, kid string) ([]any, error)
	audience        func(claims) bool
	remote          *remoteKeys // nil for the built-in issuer
}

// NewVerifier checks the configuration; it makes no network call.
func NewVerifier(cfg Config) (*Verifier, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.CacheBytes == 0:
		cfg.CacheBytes = defaultCacheBytes
	case cfg.CacheBytes < 0:
		cfg.CacheBytes = 0
	}
	v := &Verifier{
		sources:  make(map[string]*source),
		cache:    newCache(cfg.CacheBytes),
		now:      cfg.Now,
		supabase: cfg.Supabase != nil,
	}
	var faults []error
	add := func(issuer string, s *source, err error) {
		switch {
		case err != nil:
			faults = append(faults, err)
		case v.sources[issuer] != nil:
			faults = append(faults, fmt.Errorf("two identity providers share the issuer %s", issuer))
		default:
			v.sources[issuer] = s
		}
	}
	if cfg.Builtin != nil {
		add(cfg.Builtin.url, builtinSource(cfg.Builtin), nil)
	}
	if cfg.Keycloak != nil {
		s, err := v.keycloakSource(cfg)
		add(cfg.Keycloak.Issuer(), s, err)
	}
	if cfg.Supabase != nil {
		s, err := v.supabaseSource(cfg)
		add(cfg.Supabase.Issuer(), s, err)
	}
	if len(v.sources) == 0 && len(faults) == 0 {
		faults = append(faults, errors.New("no identity provider is configured"))
	}
	if err := errors.Join(faults...); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

func builtinSource(iss *Issuer) *source {
	return &source{
		kind:       KindBuiltin,
		algorithms: []jose.SignatureAlgorithm{jose.ES256},
		keys: func(_ context.Context, _ jose.SignatureAlgorithm, kid string) ([]any, error) {
			return iss.keys.find(kid)
		},
		// Exactly this audience: a token for realtime must not open REST by
		// listing both.
		audience: func(c claims) bool { return slices.Equal(c.list("aud"), []string{AudienceAPI}) },
	}
}

func (v *Verifier) keycloakSource(cfg Config) (*source, error) {
	kc := *cfg.Keycloak
	if err := checkURL("the Keycloak URL", kc.URL); err != nil {
		return nil, err
	}
	if kc.ClientID == "" {
		kc.ClientID = AudienceAPI
	}
	discovery := kc.Issuer()
	if kc.InternalURL != "" {
		if err := checkURL("the internal Keycloak URL", kc.InternalURL); err != nil {
			return nil, err
		}
		discovery = realmURL(kc.InternalURL, kc.Realm)
	}
	remote := v.remote(cfg, kc.Issuer(), func(ctx context.Context) (string, error) {
		return discover(ctx, kc.Issuer(), discovery)
	})
	return &source{
		kind:       KindKeycloak,
		algorithms: []jose.SignatureAlgorithm{jose.RS256},
		clientID:   kc.ClientID,
		keys:       remote.find,
		remote:     remote,
		audience: func(c claims) bool {
			return slices.Contains(c.list("aud"), kc.ClientID) || slices.Contains(c.list("azp"), kc.ClientID)
		},
	}, nil
}

func (v *Verifier) supabaseSource(cfg Config) (*source, error) {
	sb := *cfg.Supabase
	if err := checkURL("the Supabase URL", sb.URL); err != nil {
		return nil, err
	}
	algorithms := []jose.SignatureAlgorithm{jose.ES256, jose.RS256}
	if sb.JWTSecret != "" {
		if len(sb.JWTSecret) < minSecret {
			return nil, fmt.Errorf("the Supabase JWT secret has %d bytes, HS256 needs %d", len(sb.JWTSecret), minSecret)
		}
		algorithms = append(algorithms, jose.HS256)
	}
	remote := v.remote(cfg, sb.Issuer(), func(context.Context) (string, error) {
		return sb.Issuer() + "/.well-known/jwks.json", nil
	})
	remote.emptyIsFine = sb.JWTSecret != ""
	return &source{
		kind:            KindSupabase,
		algorithms:      algorithms,
		emailsConfirmed: sb.EmailsConfirmed,
		remote:          remote,
		// The secret is used for HS256 only, and published keys never are.
		keys: func(ctx context.Context, alg jose.SignatureAlgorithm, kid string) ([]any, error) {
			if alg == jose.HS256 {
				return []any{[]byte(sb.JWTSecret)}, nil
			}
			return remote.find(ctx, alg, kid)
		},
		audience: func(c claims) bool { return slices.Contains(c.list("aud"), supabaseAudience) },
	}, nil
}

// remote prepares a key set. Nothing is fetched before a token needs a key.
func (v *Verifier) remote(cfg Config, issuer string, locate func(context.Context) (string, error)) *remoteKeys {
	client := &http.Client{Timeout: httpTimeout}
	if cfg.Client != nil {
		*client = *cfg.Client
	}
	if client.Transport == nil {
		client.Transport = http.DefaultTransport
	}
	client.Transport = limitedTransport{client.Transport}
	r := &remoteKeys{
		locate:    locate,
		client:    client,
		log:       cfg.Log.With("issuer", issuer),
		now:       cfg.Now,
		withdrawn: v.cache.clear,
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	v.remotes = append(v.remotes, r)
	return r
}

// discover reads the issuer's discovery document at base and returns the address
// of its keys.
func discover(ctx context.Context, issuer, base string) (string, error) {
	// The check of the issuer is done below: go-oidc can either compare with base
	// or skip the check.
	provider, err := oidc.NewProvider(oidc.InsecureIssuerURLContext(ctx, issuer), base)
	if err != nil {
		return "", err
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&doc); err != nil {
		return "", err
	}
	if doc.Issuer != issuer {
		return "", fmt.Errorf("the document at %s is of issuer %q, not %q", base, doc.Issuer, issuer)
	}
	if doc.JWKSURI == "" {
		return "", fmt.Errorf("the document at %s has no jwks_uri", base)
	}
	return doc.JWKSURI, nil
}

// Verify returns the identity behind a raw token (without "Bearer "). The error
// wraps ErrInvalidToken or ErrUnavailable.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Identity, error) {
	if len(raw) > MaxToken {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxToken)
	}
	key := hashToken(raw)
	now := v.now()
	if id := v.cache.get(&key, now); id != nil {
		return id, nil
	}
	epoch := v.cache.epoch.Load()
	id, err := v.verify(ctx, raw, now, false)
	if err != nil {
		return nil, err
	}
	until := now.Add(maxCached)
	if id.ExpiresAt.Before(until) {
		until = id.ExpiresAt
	}
	v.cache.put(&key, id, until, epoch)
	return id, nil
}

// VerifyExpired is Verify that also accepts a token past its exp. It is only for
// logout: there an expired but genuine token still names the session to end.
func (v *Verifier) VerifyExpired(ctx context.Context, raw string) (*Identity, error) {
	return v.verify(ctx, raw, v.now(), true)
}

func (v *Verifier) verify(ctx context.Context, raw string, now time.Time, expired bool) (*Identity, error) {
	jws, c, err := parse(raw)
	if err != nil {
		return nil, err
	}
	// Checks without cryptography come first: a flood of bad tokens is cheap.
	src := v.sources[c.text("iss")]
	switch {
	case v.supabase && c.text("iss") == supabaseKeyIssuer && c.text("role") == "service_role":
		return nil, ErrServiceKey
	case src == nil:
		return nil, fmt.Errorf("%w %q", ErrIssuer, tidy(c.text("iss"), 100))
	case !slices.Contains(src.algorithms, algorithm(jws)):
		return nil, fmt.Errorf("%w: %q", ErrAlgorithm, algorithm(jws))
	}
	if err := checkDates(c, now, expired); err != nil {
		return nil, err
	}
	switch {
	case !src.audience(c) || slices.Contains(c.list("aud"), AudienceRealtime):
		return nil, ErrAudience
	case src.kind == KindSupabase && c.text("role") == "service_role":
		return nil, ErrServiceKey
	// Keycloak names the purpose in typ. An ID token has the same audience, but
	// is made for the browser, and must not be accepted here.
	case src.kind == KindKeycloak && c["typ"] != nil && !strings.EqualFold(c.text("typ"), "Bearer"):
		return nil, fmt.Errorf("%w: typ %q", ErrTokenType, tidy(c.text("typ"), 32))
	}

	keys, err := src.keys(ctx, algorithm(jws), jws.Signatures[0].Header.KeyID)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(jws, keys); err != nil {
		return nil, err
	}
	return identify(src.kind, src.clientID, src.emailsConfirmed, c)
}

// parse splits a token without trusting it. Verifying jws verifies c: both come
// from the same bytes.
func parse(raw string) (jws *jose.JSONWebSignature, c claims, err error) {
	if len(raw) > MaxToken {
		return nil, nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxToken)
	}
	// Base64 decoders skip line breaks; a token has none.
	if strings.ContainsAny(raw, "\r\n") {
		return nil, nil, fmt.Errorf("%w: line break", ErrMalformed)
	}
	jws, err = jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.HS256})
	if unexpected := (*jose.ErrUnexpectedSignatureAlgorithm)(nil); errors.As(err, &unexpected) {
		return nil, nil, fmt.Errorf("%w: %q", ErrAlgorithm, tidy(string(unexpected.Got), 16))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c, err = decodeClaims(jws.UnsafePayloadWithoutVerification())
	return jws, c, err
}

func algorithm(jws *jose.JSONWebSignature) jose.SignatureAlgorithm {
	return jose.SignatureAlgorithm(jws.Signatures[0].Header.Algorithm)
}

// checkSignature demands that one of the keys has signed. The caller has chosen
// them for the algorithm.
func checkSignature(jws *jose.JSONWebSignature, keys []any) error {
	for _, key := range keys {
		if _, err := jws.Verify(key); err == nil {
			return nil
		}
	}
	return ErrSignature
}

// checkDates demands exp and iat, and checks them and nbf.
func checkDates(c claims, now time.Time, expired bool) error {
	exp, ok := c.date("exp")
	if !ok {
		return fmt.Errorf("%w: exp is missing or no date", ErrMalformed)
	}
	if !now.Before(exp) && !expired {
		return ErrExpired
	}
	iat, ok := c.date("iat")
	if !ok {
		return fmt.Errorf("%w: iat is missing or no date", ErrMalformed)
	}
	if iat.After(now.Add(leeway)) {
		return ErrNotYetValid
	}
	if c["nbf"] != nil {
		nbf, ok := c.date("nbf")
		if !ok {
			return fmt.Errorf("%w: nbf is no date", ErrMalformed)
		}
		if nbf.After(now.Add(leeway)) {
			return ErrNotYetValid
		}
	}
	return nil
}

// hashToken computes SHA-256 without copying the token to the heap first.
func hashToken(raw string) tokenHash {
	return sha256.Sum256(unsafe.Slice(unsafe.StringData(raw), len(raw)))
}

// ProviderStatus describes the keys of one remote provider, for readiness.
type ProviderStatus struct {
	Issuer    string
	Kind      Kind
	Keys      int
	FetchedAt time.Time // zero: never
	Err       error     // of the last fetch; keys from earlier fetches stay in use
}

// Status lists the remote providers in the order of their issuers.
func (v *Verifier) Status() []ProviderStatus {
	var list []ProviderStatus
	for issuer, src := range v.sources {
		if src.remote == nil {
			continue
		}
		s := ProviderStatus{Issuer: issuer, Kind: src.kind}
		s.Keys, s.FetchedAt, s.Err = src.remote.status()
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b ProviderStatus) int { return strings.Compare(a.Issuer, b.Issuer) })
	return list
}

// Close cancels a running key fetch and awaits its end. Tokens of issuers whose
// keys were already fetched can still be verified.
func (v *Verifier) Close() {
	for _, r := range v.remotes {
		r.close()
	}
}
