package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
)

// The audiences of this server's tokens.
const (
	AudienceAPI      = "kijko-backend"
	AudienceRealtime = "kijko-realtime"
)

// The paths at which an installation serves Issuer.Discovery and Issuer.JWKS,
// below its URL and outside /api: clients of OpenID Connect expect them there.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	JWKSPath      = "/.well-known/jwks.json"
)

const (
	minAccess     = 300 * time.Second
	maxAccess     = 3600 * time.Second
	connectionTTL = time.Hour
)

// Issuer signs the tokens of this installation with ES256.
type Issuer struct {
	url       string
	keys      *Keys
	signer    jose.Signer
	ttl       time.Duration
	now       func() time.Time
	jwks      []byte
	discovery []byte
}

// IssuerConfig configures an Issuer.
type IssuerConfig struct {
	URL       string           // public base URL of this installation; becomes iss
	Keys      *Keys            // see ParseKeys and StoredKeys
	AccessTTL time.Duration    // 300 to 3600 s; 0: 3600 s
	Now       func() time.Time // nil: time.Now
}

// NewIssuer checks the configuration.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	var faults []error
	if err := checkURL("the issuer URL", cfg.URL); err != nil {
		faults = append(faults, err)
	}
	if cfg.Keys == nil {
		faults = append(faults, errors.New("the issuer has no signing key"))
	}
	if cfg.AccessTTL == 0 {
		cfg.AccessTTL = maxAccess
	}
	if cfg.AccessTTL < minAccess || cfg.AccessTTL > maxAccess {
		faults = append(faults, fmt.Errorf("access tokens cannot live %s: between %s and %s", cfg.AccessTTL, minAccess, maxAccess))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: cfg.Keys.signing, KeyID: cfg.Keys.kid}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("prepare the signing key: %w", err)
	}
	i := &Issuer{
		url: strings.TrimSuffix(cfg.URL, "/"), keys: cfg.Keys, signer: signer, ttl: cfg.AccessTTL, now: cfg.Now,
	}
	return i, i.writeDocuments()
}

// writeDocuments renders the two public documents once.
func (i *Issuer) writeDocuments() (err error) {
	set := jose.JSONWebKeySet{}
	for _, p := range i.keys.public {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: p.key, KeyID: p.kid, Algorithm: string(jose.ES256), Use: "sig"})
	}
	if i.jwks, err = json.Marshal(set); err != nil {
		return fmt.Errorf("encode the key set: %w", err)
	}
	// The form that Kubernetes uses for its tokens: it is read only to verify
	// tokens. This sign-in is not an OAuth endpoint, so the document announces
	// none.
	i.discovery, err = json.Marshal(map[string]any{
		"issuer":                                i.url,
		"jwks_uri":                              i.url + JWKSPath,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []jose.SignatureAlgorithm{jose.ES256},
		"claims_supported": []string{"iss", "sub", "aud", "exp", "iat", "jti", "sid", "org_id", "email",
			"email_verified", "given_name", "family_name"},
	})
	if err != nil {
		return fmt.Errorf("encode the discovery document: %w", err)
	}
	return nil
}

// URL is the iss of the tokens.
func (i *Issuer) URL() string { return i.url }

// JWKS is the key set as JSON; not to be changed.
func (i *Issuer) JWKS() []byte { return i.jwks }

// Discovery is the OpenID Connect discovery document as JSON; not to be changed.
func (i *Issuer) Discovery() []byte { return i.discovery }

// Access is the content of an access token. UserID, SessionID and, if given,
// OrgID are UUIDs.
type Access struct {
	UserID, SessionID, OrgID string
	Email                    string
	EmailVerified            bool
	FirstName, LastName      string
}

// Token is a signed token.
type Token struct {
	Raw       string
	ExpiresAt time.Time
	ExpiresIn int // seconds
}

// payload holds the claims of both kinds of token.
type payload struct {
	Issuer        string `json:"iss"`
	Subject       string `json:"sub"`
	Audience      string `json:"aud"`
	ExpiresAt     int64  `json:"exp"`
	IssuedAt      int64  `json:"iat"`
	ID            string `json:"jti"`
	SessionID     string `json:"sid"`
	OrgID         string `json:"org_id,omitempty"`
	ProjectID     string `json:"project_id,omitempty"`
	Email         string `json:"email,omitempty"`
	EmailVerified *bool  `json:"email_verified,omitempty"`
	FirstName     string `json:"given_name,omitempty"`
	LastName      string `json:"family_name,omitempty"`
}

// Mint signs an access token.
func (i *Issuer) Mint(a Access) (Token, error) {
	return i.sign(payload{
		Subject: a.UserID, SessionID: a.SessionID, OrgID: a.OrgID, Audience: AudienceAPI,
		Email: a.Email, EmailVerified: &a.EmailVerified, FirstName: a.FirstName, LastName: a.LastName,
	}, i.ttl)
}

// Connection is the content of a connection token: the user who may open sockets.
// ProjectID restricts it to that project's socket; "" means any.
type Connection struct {
	UserID, SessionID, OrgID, ProjectID string
	ExpiresAt                           time.Time // set by VerifyConnection
}

// MintConnection signs a connection token. It is valid for an hour, and no longer
// than its session, which realtime looks up as for any token.
func (i *Issuer) MintConnection(c Connection) (Token, error) {
	return i.sign(payload{
		Subject: c.UserID, SessionID: c.SessionID, OrgID: c.OrgID, ProjectID: c.ProjectID, Audience: AudienceRealtime,
	}, connectionTTL)
}

func (i *Issuer) sign(p payload, ttl time.Duration) (Token, error) {
	for _, id := range []struct {
		name, value string
		required    bool
	}{{"user", p.Subject, true}, {"session", p.SessionID, true}, {"organization", p.OrgID, false}, {"project", p.ProjectID, false}} {
		if id.value == "" && !id.required {
			continue
		}
		if _, err := canonicalUUID(id.value); err != nil {
			return Token{}, fmt.Errorf("sign a token: %s: %w", id.name, err)
		}
	}
	jti, err := uuid.NewRandom()
	if err != nil {
		return Token{}, fmt.Errorf("sign a token: %w", err)
	}
	now := i.now().UTC().Truncate(time.Second)
	expires := now.Add(ttl)
	p.Issuer, p.ID, p.IssuedAt, p.ExpiresAt = i.url, jti.String(), now.Unix(), expires.Unix()
	body, err := json.Marshal(p)
	if err != nil {
		return Token{}, fmt.Errorf("sign a token: %w", err)
	}
	jws, err := i.signer.Sign(body)
	if err != nil {
		return Token{}, fmt.Errorf("sign a token: %w", err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		return Token{}, fmt.Errorf("sign a token: %w", err)
	}
	return Token{Raw: raw, ExpiresAt: expires, ExpiresIn: int(ttl / time.Second)}, nil
}

// VerifyConnection accepts connection tokens only. Every error wraps
// ErrInvalidToken.
func (i *Issuer) VerifyConnection(raw string) (*Connection, error) {
	jws, c, err := parse(raw)
	if err != nil {
		return nil, err
	}
	switch {
	case c.text("iss") != i.url:
		return nil, fmt.Errorf("%w %q", ErrIssuer, tidy(c.text("iss"), 100))
	case algorithm(jws) != jose.ES256:
		return nil, fmt.Errorf("%w: %q", ErrAlgorithm, algorithm(jws))
	case !slices.Equal(c.list("aud"), []string{AudienceRealtime}):
		return nil, ErrAudience
	}
	if err := checkDates(c, i.now(), false); err != nil {
		return nil, err
	}
	keys, err := i.keys.find(jws.Signatures[0].Header.KeyID)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(jws, keys); err != nil {
		return nil, err
	}
	connection := &Connection{
		UserID: c.text("sub"), SessionID: c.text("sid"), OrgID: c.text("org_id"), ProjectID: c.text("project_id"),
	}
	connection.ExpiresAt, _ = c.date("exp")
	return connection, nil
}

// checkURL demands an absolute http(s) URL without query. An iss is compared byte
// by byte, so its form must be unambiguous.
func checkURL(what, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%s %q is no http(s) URL", what, s)
	}
	return nil
}
