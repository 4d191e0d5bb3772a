package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
)

func TestIssuer(t *testing.T) {
	t.Run("TokensCarryTheClaimsOfTheContract", func(t *testing.T) {
		clock := authtest.NewClock()
		iss := newIssuer(t, clock)
		token, err := iss.Mint(Access{UserID: ann, SessionID: session, OrgID: org, Email: "ann@example.nl", FirstName: "Ann", LastName: "Vos"})
		require.NoError(t, err)
		require.Equal(t, 3600, token.ExpiresIn)
		_, c, err := parse(token.Raw)
		require.NoError(t, err)
		require.NotEmpty(t, c.text("jti"))
		now := json.Number(jsonNumber(clock.Now().Unix()))
		exp := json.Number(jsonNumber(token.ExpiresAt.Unix()))
		require.Equal(t, claims{"iss": base, "sub": ann, "aud": AudienceAPI, "sid": session, "org_id": org, "iat": now, "exp": exp,
			"jti": c["jti"], "email": "ann@example.nl", "email_verified": false, "given_name": "Ann", "family_name": "Vos"}, c)
		again, err := iss.Mint(Access{UserID: ann, SessionID: session})
		require.NoError(t, err)
		require.NotEqual(t, token.Raw, again.Raw, "each token has its own jti")
	})

	t.Run("ForeignersVerifyWithDiscoveryAlone", func(t *testing.T) {
		clock := authtest.NewClock()
		text, err := GenerateKey()
		require.NoError(t, err)
		keys, err := ParseKeys(text)
		require.NoError(t, err)
		var iss *Issuer
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch r.URL.Path {
			case DiscoveryPath:
				_, _ = w.Write(iss.Discovery())
			case JWKSPath:
				_, _ = w.Write(iss.JWKS())
			default:
				http.NotFound(w, r)
			}
		}))
		defer server.Close()
		iss, err = NewIssuer(IssuerConfig{URL: server.URL + "/", Keys: keys, AccessTTL: 5 * time.Minute, Now: clock.Now})
		require.NoError(t, err)
		require.Equal(t, server.URL, iss.URL(), "without the slash")
		token, err := iss.Mint(Access{UserID: ann, SessionID: session})
		require.NoError(t, err)
		require.Equal(t, 300, token.ExpiresIn)

		provider, err := oidc.NewProvider(t.Context(), server.URL)
		require.NoError(t, err)
		verified, err := provider.Verifier(&oidc.Config{ClientID: AudienceAPI}).Verify(t.Context(), token.Raw)
		require.NoError(t, err)
		require.Equal(t, ann, verified.Subject)
		require.NotContains(t, string(iss.JWKS()), `"d"`, "no private key leaves")
	})

	t.Run("IdsMustBeUUIDs", func(t *testing.T) {
		iss := newIssuer(t, authtest.NewClock())
		for _, a := range []Access{{SessionID: session}, {UserID: ann}, {UserID: "ann", SessionID: session}, {UserID: ann, SessionID: session, OrgID: "x"}} {
			_, err := iss.Mint(a)
			require.Error(t, err)
		}
		_, err := iss.MintConnection(Connection{UserID: ann, SessionID: session, ProjectID: "x"})
		require.ErrorContains(t, err, "project")
	})

	t.Run("BadConfigurationIsNamed", func(t *testing.T) {
		iss := newIssuer(t, authtest.NewClock())
		_, err := NewIssuer(IssuerConfig{URL: "kijko", AccessTTL: time.Minute})
		require.ErrorContains(t, err, "issuer URL")
		require.ErrorContains(t, err, "no signing key")
		require.ErrorContains(t, err, "1m0s")
		_, err = NewIssuer(IssuerConfig{URL: base, Keys: iss.keys, AccessTTL: 2 * time.Hour})
		require.Error(t, err)
		_, err = NewIssuer(IssuerConfig{URL: "https://user@kijko.test", Keys: iss.keys})
		require.Error(t, err)
	})
}

func jsonNumber(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestConnectionToken(t *testing.T) {
	h := setup(t)
	token, err := h.issuer.MintConnection(Connection{UserID: ann, SessionID: session, OrgID: org, ProjectID: org})
	require.NoError(t, err)
	require.Equal(t, 3600, token.ExpiresIn)
	got, err := h.issuer.VerifyConnection(token.Raw)
	require.NoError(t, err)
	require.Equal(t, &Connection{UserID: ann, SessionID: session, OrgID: org, ProjectID: org, ExpiresAt: token.ExpiresAt}, got)

	access, err := h.issuer.Mint(Access{UserID: ann, SessionID: session})
	require.NoError(t, err)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := with(h.builtinClaims(), "aud", AudienceRealtime)
	now := h.clock.Now().Unix()
	for _, r := range []struct {
		name, raw string
		want      error
	}{
		{"Garbage", "x", ErrMalformed},
		{"AccessToken", access.Raw, ErrAudience},
		{"BothAudiences", h.signBuiltin(t, with(c, "aud", []string{AudienceRealtime, AudienceAPI})), ErrAudience},
		{"OtherIssuer", h.signBuiltin(t, with(c, "iss", h.provider.Issuer)), ErrIssuer},
		{"Keycloak", h.provider.Sign(t, with(h.keycloakClaims(), "aud", AudienceRealtime)), ErrIssuer},
		{"Expired", h.signBuiltin(t, with(c, "exp", now)), ErrExpired},
		{"None", assemble(map[string]any{"alg": "none"}, c, nil), ErrAlgorithm},
		{"HMAC", hs256(t, []byte(secret), c), ErrAlgorithm},
		{"UnknownKid", authtest.Sign(t, jose.ES256, "x", h.issuer.keys.signing, c), ErrSignature},
		{"Stranger", authtest.Sign(t, jose.ES256, h.issuer.keys.kid, stranger, c), ErrSignature},
	} {
		t.Run(r.name, func(t *testing.T) {
			_, err := h.issuer.VerifyConnection(r.raw)
			require.ErrorIs(t, err, r.want)
			require.ErrorIs(t, err, ErrInvalidToken)
		})
	}
}

func TestKeys(t *testing.T) {
	generate := func(t *testing.T) string {
		text, err := GenerateKey()
		require.NoError(t, err)
		return text
	}
	issuer := func(t *testing.T, text string) *Issuer {
		keys, err := ParseKeys(text)
		require.NoError(t, err)
		iss, err := NewIssuer(IssuerConfig{URL: base, Keys: keys})
		require.NoError(t, err)
		return iss
	}
	verify := func(t *testing.T, by, from *Issuer) error {
		v, err := NewVerifier(Config{Builtin: by})
		require.NoError(t, err)
		token, err := from.Mint(Access{UserID: ann, SessionID: session})
		require.NoError(t, err)
		_, err = v.Verify(t.Context(), token.Raw)
		return err
	}

	t.Run("RotationInTwoRolloutsRefusesNobody", func(t *testing.T) {
		first, second := generate(t), generate(t)
		before, announced, moved, after := issuer(t, first), issuer(t, first+second), issuer(t, second+first), issuer(t, second)
		require.NoError(t, verify(t, before, announced), "the new key does not sign yet")
		require.NoError(t, verify(t, announced, moved))
		require.NoError(t, verify(t, moved, announced))
		require.NoError(t, verify(t, moved, after))
		require.ErrorIs(t, verify(t, after, before), ErrSignature)
	})

	t.Run("RetiredKeyVerifiesAsPublicBlock", func(t *testing.T) {
		first, second := generate(t), generate(t)
		old := issuer(t, first)
		der, err := x509.MarshalPKIXPublicKey(&old.keys.signing.PublicKey)
		require.NoError(t, err)
		retired := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		by := issuer(t, retired+second)
		require.NoError(t, verify(t, by, old))
		require.Len(t, by.keys.public, 2)
		require.NotEqual(t, old.keys.kid, by.keys.kid, "only a private key signs")
	})

	t.Run("FormsOfOneKeyAreOneKey", func(t *testing.T) {
		text := generate(t)
		keys, err := ParseKeys(text)
		require.NoError(t, err)
		der, err := x509.MarshalECPrivateKey(keys.signing)
		require.NoError(t, err)
		sec1 := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
		params := string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{1}}))
		same, err := ParseKeys(params + sec1 + text)
		require.NoError(t, err)
		require.Equal(t, keys.kid, same.kid)
		require.Len(t, same.public, 1)
		escaped, err := ParseKeys(strings.ReplaceAll(text, "\n", `\n`))
		require.NoError(t, err)
		require.Equal(t, keys.kid, escaped.kid)
	})

	t.Run("OtherKeysAreRefusedWithTheCure", func(t *testing.T) {
		block := func(kind string, key any) string {
			der, err := x509.MarshalPKCS8PrivateKey(key)
			require.NoError(t, err)
			return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		}
		rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		_, edKey, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		require.NoError(t, err)
		good := generate(t)
		parsed, err := ParseKeys(good)
		require.NoError(t, err)
		public, err := x509.MarshalPKIXPublicKey(&parsed.signing.PublicKey)
		require.NoError(t, err)
		for name, text := range map[string]string{
			"Empty": "", "Garbage": "secret", "RSA": block("PRIVATE KEY", rsaKey), "Ed25519": block("PRIVATE KEY", edKey),
			"P384": block("PRIVATE KEY", p384), "Certificate": block("CERTIFICATE", rsaKey), "Broken": block("EC PRIVATE KEY", p384),
			"GarbageAfter": good + "x", "OnlyPublic": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		} {
			t.Run(name, func(t *testing.T) {
				_, err := ParseKeys(text)
				require.ErrorContains(t, err, "openssl genpkey")
				require.NotContains(t, err.Error(), "MII", "no key material in messages")
			})
		}
	})

	t.Run("ServersThatStartTogetherShareTheStoredKey", func(t *testing.T) {
		store := &memoryStore{}
		a, err := StoredKeys(t.Context(), store)
		require.NoError(t, err)
		b, err := StoredKeys(t.Context(), store)
		require.NoError(t, err)
		require.Equal(t, a.kid, b.kid)
		store.err = errors.New("no database")
		_, err = StoredKeys(t.Context(), store)
		require.ErrorIs(t, err, store.err)
	})

	t.Run("SecretsDifferByPurposeAndKeyAndSurviveRotation", func(t *testing.T) {
		first, second := generate(t), generate(t)
		old, err := ParseKeys(first)
		require.NoError(t, err)
		rotated, err := ParseKeys(second + first)
		require.NoError(t, err)
		a, err := old.Secrets("cookie")
		require.NoError(t, err)
		b, err := rotated.Secrets("cookie")
		require.NoError(t, err)
		other, err := old.Secrets("links")
		require.NoError(t, err)
		require.Len(t, a[0], 32)
		require.Equal(t, a[0], b[1])
		require.NotEqual(t, a[0], b[0])
		require.NotEqual(t, a[0], other[0])
	})
}

type memoryStore struct {
	kept string
	err  error
}

func (s *memoryStore) SigningKey(_ context.Context, offered string) (string, error) {
	if s.kept == "" {
		s.kept = offered
	}
	return s.kept, s.err
}
