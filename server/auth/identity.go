package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
)

// Kind is the kind of issuer that a token came from.
type Kind string

// The three kinds of issuer.
const (
	KindBuiltin  Kind = "builtin"
	KindKeycloak Kind = "keycloak"
	KindSupabase Kind = "supabase"
)

// PlatformAdmin is the only role of an identity provider that counts; team roles
// come from the database.
const PlatformAdmin = "platform_admin"

const (
	maxName       = 50  // characters of a first or last name, as at sign-up
	maxEmail      = 254 // RFC 5321
	maxIdentifier = 255 // characters of sub, jti and the session claims
)

// Identity is the content of a verified token. It is shared between requests: read
// only.
type Identity struct {
	Issuer  string // iss
	Kind    Kind
	Subject string // sub
	UserID  string // UUID; only of the built-in issuer, where it is the sub

	// Email has A to Z in lower case and no surrounding blanks; "" when absent or
	// malformed. Postgres alone decides which account it means
	// (private.clean_email), and is stricter.
	Email         string
	EmailVerified bool   // confirmed by the issuer, never by the user
	FirstName     string // trimmed, at most 50 characters; may be ""
	LastName      string

	// OrgHint selects the organization: a UUID, "" for the default one. A hint
	// that is not a UUID becomes the zero UUID, an organization without members:
	// it must be refused like any foreign organization and not fall back to the
	// default.
	OrgHint       string
	PlatformAdmin bool

	// SessionKey is the issuer's name of the session. Without such a claim it is a
	// hash of jti, else of issuer, subject and iat. SessionID is a UUID for it, so
	// that each token finds its session row by primary key. It is the key itself
	// if that is a UUID (built-in, Supabase, mostly Keycloak), else derived from
	// issuer and key.
	SessionKey string
	SessionID  string

	IssuedAt  time.Time
	ExpiresAt time.Time
	// AuthenticatedAt is when the user last authenticated (auth_time); zero when
	// the issuer does not give it. Keycloak may give a session the same name again
	// after a sign-out, and only this distinguishes the two.
	AuthenticatedAt time.Time

	// Claims is the normalized identity as compact JSON with the members iss,
	// kind, sub, user_id, email, email_verified, first_name, last_name, org_id,
	// platform_admin, session_id, session_key, iat, exp (seconds). Absent members
	// are left out. RawClaims is the payload as the issuer wrote it, made compact
	// and storable as jsonb.
	Claims    string
	RawClaims string
}

// identify normalizes the claims of a token whose signature is verified.
func identify(kind Kind, clientID string, emailsConfirmed bool, c claims) (*Identity, error) {
	id := &Identity{
		Issuer:        c.text("iss"),
		Kind:          kind,
		Subject:       c.text("sub"),
		Email:         email(c.text("email")),
		EmailVerified: c["email_verified"] == true || emailsConfirmed,
		FirstName:     name(c, "given_name", "first_name"),
		LastName:      name(c, "family_name", "last_name"),
		OrgHint:       orgHint(c),
		SessionKey:    sessionKey(c),
	}
	id.EmailVerified = id.EmailVerified && id.Email != ""
	if id.Subject == "" || len(id.Subject) > maxIdentifier {
		return nil, fmt.Errorf("%w: sub is missing or too long", ErrMalformed)
	}
	id.ExpiresAt, _ = c.date("exp") // present: the verifier has checked it
	id.IssuedAt, _ = c.date("iat")
	id.AuthenticatedAt, _ = c.date("auth_time")

	switch kind {
	case KindBuiltin:
		var err error
		if id.UserID, err = canonicalUUID(id.Subject); err != nil {
			return nil, fmt.Errorf("%w: sub: %w", ErrMalformed, err)
		}
		if id.SessionID, err = canonicalUUID(c.text("sid")); err != nil {
			return nil, fmt.Errorf("%w: sid: %w", ErrMalformed, err)
		}
	case KindKeycloak:
		id.PlatformAdmin = slices.Contains(c.child("realm_access").list("roles"), PlatformAdmin) ||
			slices.Contains(c.child("resource_access").child(clientID).list("roles"), PlatformAdmin)
		id.SessionID = sessionUUID(id.Issuer, id.SessionKey)
	default:
		id.SessionID = sessionUUID(id.Issuer, id.SessionKey)
	}

	var err error
	if id.RawClaims, err = compact(map[string]any(c)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if id.Claims, err = id.normalized(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return id, nil
}

// normalized renders Identity.Claims.
func (id *Identity) normalized() (string, error) {
	return compact(struct {
		Issuer        string `json:"iss"`
		Kind          Kind   `json:"kind"`
		Subject       string `json:"sub"`
		UserID        string `json:"user_id,omitempty"`
		Email         string `json:"email,omitempty"`
		EmailVerified bool   `json:"email_verified"`
		FirstName     string `json:"first_name,omitempty"`
		LastName      string `json:"last_name,omitempty"`
		OrgID         string `json:"org_id,omitempty"`
		PlatformAdmin bool   `json:"platform_admin"`
		SessionID     string `json:"session_id"`
		SessionKey    string `json:"session_key"`
		IssuedAt      int64  `json:"iat"`
		ExpiresAt     int64  `json:"exp"`
	}{
		id.Issuer, id.Kind, id.Subject, id.UserID, id.Email, id.EmailVerified, id.FirstName, id.LastName,
		id.OrgHint, id.PlatformAdmin, id.SessionID, id.SessionKey, id.IssuedAt.Unix(), id.ExpiresAt.Unix(),
	})
}

// email returns the address in the form for comparison, or "" when it could not be
// stored. Only A to Z are folded: strings.ToLower merges different addresses, such
// as those with k and with U+212A.
func email(s string) string {
	s = strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\u200b' || r == '\ufeff' }))
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(s) > maxEmail || strings.Contains(domain, "@") ||
		strings.ContainsAny(s, " \t\r\n\uFFFD") || tidy(s, maxEmail) != s {
		return ""
	}
	if dot := strings.LastIndexByte(domain, '.'); dot < 1 || dot == len(domain)-1 {
		return ""
	}
	return s
}

// name takes the standard claim, else Supabase's, which the user may edit: a name
// grants no right.
func name(c claims, standard, supabase string) string {
	if s := tidy(c.text(standard), maxName); s != "" {
		return s
	}
	return tidy(c.child("user_metadata").text(supabase), maxName)
}

// orgHint never reads user_metadata: users may edit that. Keycloak maps an
// attribute to an array of one when it is declared as multi-valued.
func orgHint(c claims) string {
	for _, hint := range []any{c["org_id"], c["organization_id"], c.child("app_metadata")["org_id"]} {
		if list, ok := hint.([]any); ok && len(list) == 1 {
			hint = list[0]
		}
		if hint == nil || hint == "" {
			continue
		}
		s, _ := hint.(string)
		if id, err := canonicalUUID(s); err == nil {
			return id
		}
		return uuid.Nil.String()
	}
	return ""
}

// sessionKey names the session of the token (see Identity.SessionKey). The
// prefixes distinguish derived keys from keys of the issuer.
func sessionKey(c claims) string {
	for _, claim := range []string{"sid", "session_state", "session_id"} {
		if s := c.text(claim); s != "" {
			if len(s) > maxIdentifier {
				return "long:" + digest(claim, s)
			}
			return s
		}
	}
	if jti := c.text("jti"); jti != "" {
		return "jti:" + digest(c.text("iss"), jti)
	}
	iat, _ := c.date("iat")
	return "iat:" + digest(c.text("iss"), c.text("sub"), strconv.FormatInt(iat.Unix(), 10))
}

// digest hashes parts so that moving a boundary between them changes the result.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// sessionNamespace was drawn once at random. Changing it would disconnect active
// sessions of external issuers from their rows.
var sessionNamespace = uuid.MustParse("5b0b4f2e-8c1d-4b53-9c56-0f6f6a1f6a27")

// sessionUUID returns the row id for a session of an external issuer.
func sessionUUID(issuer, key string) string {
	if id, err := canonicalUUID(key); err == nil {
		return id
	}
	return derivedUUID(issuer, key)
}

// derivedUUID returns a UUID of version 8 with SHA-256, instead of version 5,
// whose SHA-1 is open to collisions.
func derivedUUID(issuer, key string) string {
	return uuid.NewHash(sha256.New(), sessionNamespace, []byte(issuer+"\x00"+key), 8).String()
}

// canonicalUUID accepts only the 36-character form.
func canonicalUUID(s string) (string, error) {
	if len(s) != 36 {
		return "", fmt.Errorf("%q is not a UUID", tidy(s, 64))
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return "", err
	}
	return id.String(), nil
}
