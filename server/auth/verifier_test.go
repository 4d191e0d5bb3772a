package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
)

const (
	ann     = "6f0e4c52-5a0b-4c7e-9d4f-0a3b1c2d3e4f"
	session = "0d8f3c1e-74f1-4a51-8d11-3f6b7a0c9e55"
	org     = "b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e"
	base    = "http://kijko.test"
	secret  = "a-supabase-secret-of-enough-bytes"
)

// house is a verifier with all three issuers, and the keys needed to forge
// tokens.
type house struct {
	*Verifier
	clock    *authtest.Clock
	provider *authtest.Provider
	issuer   *Issuer
	supabase *supabase
}

func setup(t testing.TB) *house {
	t.Helper()
	h := &house{clock: authtest.NewClock(), provider: authtest.New(t), supabase: newSupabase(t)}
	h.issuer = newIssuer(t, h.clock)
	var err error
	h.Verifier, err = NewVerifier(Config{
		Builtin:  h.issuer,
		Keycloak: &KeycloakConfig{URL: h.provider.URL},
		Supabase: &SupabaseConfig{URL: h.supabase.url, JWTSecret: secret},
		Now:      h.clock.Now,
	})
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

func newIssuer(t testing.TB, clock *authtest.Clock) *Issuer {
	t.Helper()
	text, err := GenerateKey()
	require.NoError(t, err)
	keys, err := ParseKeys(text)
	require.NoError(t, err)
	iss, err := NewIssuer(IssuerConfig{URL: base, Keys: keys, Now: clock.Now})
	require.NoError(t, err)
	return iss
}

// supabase serves the key set of a project.
type supabase struct {
	url     string
	key     *ecdsa.PrivateKey
	fetches atomic.Int64
	keys    atomic.Pointer[jose.JSONWebKeySet]
}

func newSupabase(t testing.TB) *supabase {
	t.Helper()
	s := &supabase{}
	var err error
	s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &s.key.PublicKey, KeyID: "es", Algorithm: "ES256", Use: "sig"}}})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/auth/v1/.well-known/jwks.json" {
			http.NotFound(w, r)
			return
		}
		s.fetches.Add(1)
		_ = json.NewEncoder(w).Encode(s.keys.Load())
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// with returns the claims with some replaced; a nil value removes the claim.
func with(claims map[string]any, changes ...any) map[string]any {
	out := make(map[string]any, len(claims))
	for k, v := range claims {
		out[k] = v
	}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(out, changes[i].(string))
		} else {
			out[changes[i].(string)] = changes[i+1]
		}
	}
	return out
}

func (h *house) builtinClaims() map[string]any {
	now := h.clock.Now().Unix()
	return map[string]any{"iss": base, "sub": ann, "aud": AudienceAPI, "sid": session, "iat": now, "exp": now + 600, "jti": "one"}
}

func (h *house) keycloakClaims() map[string]any {
	now := h.clock.Now().Unix()
	return map[string]any{"iss": h.provider.Issuer, "sub": "kc-ann", "azp": AudienceAPI, "aud": "account", "sid": "kc-session",
		"iat": now, "exp": now + 600, "typ": "Bearer"}
}

func (h *house) supabaseClaims() map[string]any {
	now := h.clock.Now().Unix()
	return map[string]any{"iss": h.supabase.url + "/auth/v1", "sub": "sb-ann", "aud": "authenticated", "role": "authenticated",
		"session_id": "sb-session", "iat": now, "exp": now + 600}
}

func (h *house) signBuiltin(t testing.TB, claims map[string]any) string {
	return authtest.Sign(t, jose.ES256, h.issuer.keys.kid, h.issuer.keys.signing, claims)
}

func hs256(t testing.TB, key []byte, claims map[string]any) string {
	return authtest.Sign(t, jose.HS256, "", key, claims)
}

// assemble builds a token from raw parts, as no library would.
func assemble(header, body map[string]any, signature []byte) string {
	h, _ := json.Marshal(header)
	b, _ := json.Marshal(body)
	enc := base64.RawURLEncoding
	return enc.EncodeToString(h) + "." + enc.EncodeToString(b) + "." + enc.EncodeToString(signature)
}

func TestVerify(t *testing.T) {
	ctx := t.Context()

	t.Run("BuiltinTokenNamesItsUser", func(t *testing.T) {
		h := setup(t)
		token, err := h.issuer.Mint(Access{UserID: ann, SessionID: session, OrgID: org, Email: "ann@example.nl",
			EmailVerified: true, FirstName: "Ann", LastName: "Vos"})
		require.NoError(t, err)
		id, err := h.Verify(ctx, token.Raw)
		require.NoError(t, err)
		require.Equal(t, KindBuiltin, id.Kind)
		require.Equal(t, base, id.Issuer)
		require.Equal(t, []string{ann, ann, session, session, org}, []string{id.Subject, id.UserID, id.SessionKey, id.SessionID, id.OrgHint})
		require.Equal(t, []string{"ann@example.nl", "Ann", "Vos"}, []string{id.Email, id.FirstName, id.LastName})
		require.True(t, id.EmailVerified)
		require.False(t, id.PlatformAdmin)
		require.Equal(t, token.ExpiresAt, id.ExpiresAt)
		require.Equal(t, time.Hour, id.ExpiresAt.Sub(id.IssuedAt))
		require.JSONEq(t, fmt.Sprintf(`{"iss":%q,"kind":"builtin","sub":%q,"user_id":%q,"email":"ann@example.nl","email_verified":true,
			"first_name":"Ann","last_name":"Vos","org_id":%q,"platform_admin":false,"session_id":%q,"session_key":%q,"iat":%d,"exp":%d}`,
			base, ann, ann, org, session, session, id.IssuedAt.Unix(), id.ExpiresAt.Unix()), id.Claims)
		require.Contains(t, id.RawClaims, `"given_name":"Ann"`)
	})

	t.Run("RealProviderIssuesAndRotates", func(t *testing.T) {
		h := setup(t)
		ask := authtest.Request{Subject: "kc-ann", Claims: map[string]any{
			"sid": "kc-session", "email": "Ann@Example.NL", "email_verified": true, "given_name": "Ann", "org_id": org,
			"realm_access":    map[string]any{"roles": []string{"offline_access", "uma_authorization", "owner"}},
			"resource_access": map[string]any{AudienceAPI: map[string]any{"roles": []string{"platform_admin"}}},
		}}
		id, err := h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err)
		require.Equal(t, KindKeycloak, id.Kind)
		require.Equal(t, "kc-ann", id.Subject)
		require.Empty(t, id.UserID, "the subject of a foreign issuer is not our user id")
		require.Equal(t, "ann@example.nl", id.Email)
		require.True(t, id.EmailVerified)
		require.True(t, id.PlatformAdmin)
		require.Equal(t, org, id.OrgHint)
		require.Equal(t, "kc-session", id.SessionKey)
		require.NoError(t, uuid.Validate(id.SessionID))
		require.Equal(t, 1, h.provider.KeyFetches())

		h.provider.Rotate(t, false)
		_, err = h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err, "an unknown kid forces a fetch")
		require.Equal(t, 2, h.provider.KeyFetches())
	})

	t.Run("SupabaseSecretAndPublishedKeysBothCount", func(t *testing.T) {
		h := setup(t)
		claims := with(h.supabaseClaims(), "email", "ann@example.nl",
			"app_metadata", map[string]any{"org_id": org, "roles": []string{"platform_admin"}},
			"user_metadata", map[string]any{"first_name": "Ann", "last_name": "Vos", "org_id": ann, "email_verified": true})
		for _, raw := range []string{hs256(t, []byte(secret), claims), authtest.Sign(t, jose.ES256, "es", h.supabase.key, claims)} {
			id, err := h.Verify(ctx, raw)
			require.NoError(t, err)
			require.Equal(t, KindSupabase, id.Kind)
			require.Equal(t, org, id.OrgHint, "app_metadata, not user_metadata")
			require.Equal(t, []string{"Ann", "Vos", "sb-session"}, []string{id.FirstName, id.LastName, id.SessionKey})
			require.False(t, id.EmailVerified, "user_metadata is the user's own word")
			require.False(t, id.PlatformAdmin)
		}
	})

	t.Run("SupabaseConfirmsEmailsWhenTheProjectSaysSo", func(t *testing.T) {
		h := setup(t)
		v, err := NewVerifier(Config{Supabase: &SupabaseConfig{URL: h.supabase.url, JWTSecret: secret, EmailsConfirmed: true}})
		require.NoError(t, err)
		defer v.Close()
		id, err := v.Verify(ctx, hs256(t, []byte(secret), with(h.supabaseClaims(), "email", "ann@example.nl")))
		require.NoError(t, err)
		require.True(t, id.EmailVerified)
		id, err = v.Verify(ctx, hs256(t, []byte(secret), h.supabaseClaims()))
		require.NoError(t, err)
		require.False(t, id.EmailVerified, "no address, nothing confirmed")
	})
}

// TestRefusal holds one case for each rule; each names the reason, so that a
// token refused for another reason fails the test.
func TestRefusal(t *testing.T) {
	h := setup(t)
	ctx := t.Context()
	b, k, s := h.builtinClaims(), h.keycloakClaims(), h.supabaseClaims()
	now := h.clock.Now().Unix()

	strangerEC, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	strangerRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(h.provider.PublicKey())
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	connection, err := h.issuer.MintConnection(Connection{UserID: ann, SessionID: session})
	require.NoError(t, err)
	good := h.signBuiltin(t, b)
	parts := strings.Split(good, ".")
	deep := any("x")
	for range maxDepth + 1 {
		deep = []any{deep}
	}

	// The control: unchanged, each of the three is accepted.
	for _, raw := range []string{good, h.provider.Sign(t, k), hs256(t, []byte(secret), s)} {
		_, err := h.Verify(ctx, raw)
		require.NoError(t, err)
	}

	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"Empty", "", ErrMalformed},
		{"Garbage", "garbage", ErrMalformed},
		{"TwoParts", parts[0] + "." + parts[1], ErrMalformed},
		{"FourParts", good + ".x", ErrMalformed},
		{"FiveParts", good + ".x.y", ErrMalformed},
		{"TooLong", good + strings.Repeat("A", MaxToken), ErrMalformed},
		{"LineBreak", parts[0] + "." + parts[1] + ".\n" + parts[2], ErrMalformed},
		{"Padding", parts[0] + "." + parts[1] + "=." + parts[2], ErrMalformed},
		{"PayloadNoJSON", parts[0] + ".AAAA." + parts[2], ErrMalformed},
		{"PayloadNull", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("null")) + "." + parts[2], ErrMalformed},
		{"PayloadTwoObjects", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte("{}{}")) + "." + parts[2], ErrMalformed},
		{"HeaderNoJSON", "AAAA." + parts[1] + "." + parts[2], ErrMalformed},
		{"NestedTooDeep", h.signBuiltin(t, with(b, "x", deep)), ErrMalformed},

		{"UnknownIssuer", h.signBuiltin(t, with(b, "iss", "https://evil.example")), ErrIssuer},
		{"NoIssuer", h.signBuiltin(t, with(b, "iss", nil)), ErrIssuer},
		{"IssuerWithSlash", h.provider.Sign(t, with(k, "iss", h.provider.Issuer+"/")), ErrIssuer},
		{"IssuerInOtherCase", h.signBuiltin(t, with(b, "iss", nil, "ISS", base)), ErrIssuer},

		{"AlgNone", assemble(map[string]any{"alg": "none"}, b, nil), ErrAlgorithm},
		{"AlgNoneWithKid", assemble(map[string]any{"alg": "none", "kid": h.issuer.keys.kid}, b, nil), ErrAlgorithm},
		{"AlgNONE", assemble(map[string]any{"alg": "NONE"}, k, nil), ErrAlgorithm},
		{"AlgMissing", assemble(map[string]any{}, k, nil), ErrAlgorithm},
		{"HMACWithTheRSAPublicKeyPEM", authtest.Sign(t, jose.HS256, h.provider.KeyID(), publicPEM, k), ErrAlgorithm},
		{"HMACWithTheRSAPublicKeyDER", authtest.Sign(t, jose.HS256, h.provider.KeyID(), der, k), ErrAlgorithm},
		{"HMACWithTheRSAModulus", authtest.Sign(t, jose.HS256, h.provider.KeyID(), h.provider.PublicKey().N.Bytes(), k), ErrAlgorithm},
		{"HMACForTheBuiltinIssuer", hs256(t, []byte(secret), b), ErrAlgorithm},
		{"HMACSecretForKeycloak", hs256(t, []byte(secret), k), ErrAlgorithm},
		{"HS512ForSupabase", authtest.Sign(t, jose.HS512, "", []byte(strings.Repeat(secret, 2)), s), ErrAlgorithm},
		{"RS512ForKeycloak", authtest.Sign(t, jose.RS512, h.provider.KeyID(), strangerRSA, k), ErrAlgorithm},
		{"PS256ForKeycloak", authtest.Sign(t, jose.PS256, h.provider.KeyID(), strangerRSA, k), ErrAlgorithm},
		{"ES256ForKeycloak", authtest.Sign(t, jose.ES256, h.provider.KeyID(), strangerEC, k), ErrAlgorithm},
		{"RS256ForTheBuiltinIssuer", authtest.Sign(t, jose.RS256, h.issuer.keys.kid, strangerRSA, b), ErrAlgorithm},

		{"HMACWithSupabasesPublicKey", hs256(t, elliptic.MarshalCompressed(elliptic.P256(), h.supabase.key.X, h.supabase.key.Y), s), ErrSignature},
		{"WrongSecret", hs256(t, []byte(strings.Repeat("x", 32)), s), ErrSignature},
		{"StrangerWithTheRightKid", authtest.Sign(t, jose.RS256, h.provider.KeyID(), strangerRSA, k), ErrSignature},
		{"StrangerWithTheRightKidBuiltin", authtest.Sign(t, jose.ES256, h.issuer.keys.kid, strangerEC, b), ErrSignature},
		{"KidOfTheOtherIssuer", h.signSupabaseKid(t, "es", with(b, "iss", base)), ErrSignature},
		{"OtherIssuersKeyAndKid", authtest.Sign(t, jose.ES256, h.issuer.keys.kid, h.issuer.keys.signing, s), ErrSignature},
		{"KidOfAnotherAlgorithm", authtest.Sign(t, jose.RS256, "es", strangerRSA, s), ErrSignature},
		{"UnknownKid", authtest.Sign(t, jose.RS256, "nobody", strangerRSA, k), ErrSignature},
		{"KidIsAPath", authtest.Sign(t, jose.RS256, "../../dev/null", strangerRSA, k), ErrSignature},
		{"BuiltinWithoutKid", authtest.Sign(t, jose.ES256, "", h.issuer.keys.signing, b), ErrSignature},
		{"EmbeddedKey", embedded(t, strangerRSA, k), ErrSignature},
		{"SignatureRemoved", parts[0] + "." + parts[1] + ".", ErrSignature},
		{"SignatureOfAnotherToken", parts[0] + "." + parts[1] + "." + strings.Split(h.signBuiltin(t, with(b, "jti", "two")), ".")[2], ErrSignature},
		{"PayloadExchanged", parts[0] + "." + strings.Split(h.signBuiltin(t, with(b, "sub", org)), ".")[1] + "." + parts[2], ErrSignature},

		{"Expired", h.signBuiltin(t, with(b, "exp", now-1)), ErrExpired},
		{"ExpiredThisSecond", h.signBuiltin(t, with(b, "exp", now)), ErrExpired},
		{"NoExpiry", h.signBuiltin(t, with(b, "exp", nil)), ErrMalformed},
		{"ExpiryAsText", h.signBuiltin(t, with(b, "exp", "tomorrow")), ErrMalformed},
		{"ExpiryBeyondDates", h.signBuiltin(t, with(b, "exp", 1e300)), ErrMalformed},
		{"ExpiryNegative", h.signBuiltin(t, with(b, "exp", -5)), ErrMalformed},
		{"NoIssueDate", h.provider.Sign(t, with(k, "iat", nil)), ErrMalformed},
		{"IssuedInTheFuture", h.signBuiltin(t, with(b, "iat", now+32)), ErrNotYetValid},
		{"NotYetValid", h.provider.Sign(t, with(k, "nbf", now+32)), ErrNotYetValid},
		{"NotBeforeAsText", h.provider.Sign(t, with(k, "nbf", "soon")), ErrMalformed},

		{"OtherAudience", h.signBuiltin(t, with(b, "aud", "other")), ErrAudience},
		{"SeveralAudiences", h.signBuiltin(t, with(b, "aud", []string{AudienceAPI, "other"})), ErrAudience},
		{"NoAudience", h.signBuiltin(t, with(b, "aud", nil)), ErrAudience},
		{"RealtimeTokenOnREST", connection.Raw, ErrAudience},
		{"RealtimeAmongAudiences", h.signBuiltin(t, with(b, "aud", []string{AudienceAPI, AudienceRealtime})), ErrAudience},
		{"RealtimeAmongAudiencesOfKeycloak", h.provider.Sign(t, with(k, "aud", AudienceRealtime)), ErrAudience},
		{"KeycloakOtherClient", h.provider.Sign(t, with(k, "azp", "other")), ErrAudience},
		{"KeycloakClientOnlyAsPrefix", h.provider.Sign(t, with(k, "azp", "kijko-backend-2", "aud", []string{"kijko"})), ErrAudience},
		{"SupabaseAnon", hs256(t, []byte(secret), with(s, "aud", "anon")), ErrAudience},

		{"KeycloakIDToken", h.provider.Sign(t, with(k, "typ", "ID")), ErrTokenType},
		{"KeycloakTypNoText", h.provider.Sign(t, with(k, "typ", 5)), ErrTokenType},
		{"SupabaseServiceKey", hs256(t, []byte(secret), map[string]any{"iss": "supabase", "role": "service_role", "iat": now, "exp": now + 600}), ErrServiceKey},
		{"SupabaseServiceRole", hs256(t, []byte(secret), with(s, "role", "service_role")), ErrServiceKey},
		{"SupabaseAnonKey", hs256(t, []byte(secret), map[string]any{"iss": "supabase", "role": "anon", "iat": now, "exp": now + 600}), ErrIssuer},

		{"NoSubject", h.provider.Sign(t, with(k, "sub", nil)), ErrMalformed},
		{"LongSubject", h.provider.Sign(t, with(k, "sub", strings.Repeat("x", 256))), ErrMalformed},
		{"BuiltinSubjectNoUUID", h.signBuiltin(t, with(b, "sub", "ann")), ErrMalformed},
		{"BuiltinSessionNoUUID", h.signBuiltin(t, with(b, "sid", "s")), ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := h.Verify(ctx, c.raw)
			require.Nil(t, id)
			require.ErrorIs(t, err, c.want)
			require.ErrorIs(t, err, ErrInvalidToken)
			require.NotErrorIs(t, err, ErrUnavailable)
			id, err = h.Verify(ctx, c.raw)
			require.Nil(t, id, "nor at the second try")
			require.ErrorIs(t, err, c.want)
		})
	}
}

func (h *house) signSupabaseKid(t testing.TB, kid string, claims map[string]any) string {
	return authtest.Sign(t, jose.ES256, kid, h.supabase.key, claims)
}

// embedded signs with a key that the token itself contains.
func embedded(t testing.TB, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, &jose.SignerOptions{EmbedJWK: true})
	require.NoError(t, err)
	body, err := json.Marshal(claims)
	require.NoError(t, err)
	jws, err := signer.Sign(body)
	require.NoError(t, err)
	raw, err := jws.CompactSerialize()
	require.NoError(t, err)
	// A valid key of the same kind is known, so only the embedded one would fit.
	return raw
}

func TestAccepted(t *testing.T) {
	h := setup(t)
	b, k, s := h.builtinClaims(), h.keycloakClaims(), h.supabaseClaims()
	now := h.clock.Now().Unix()
	for name, raw := range map[string]string{
		"IssuedWithinTheLeeway":      h.signBuiltin(t, with(b, "iat", now+29)),
		"NotBeforeWithinTheLeeway":   h.signBuiltin(t, with(b, "nbf", now+29)),
		"FractionalDates":            h.signBuiltin(t, with(b, "exp", float64(now)+60.5)),
		"AudienceInAList":            h.signBuiltin(t, with(b, "aud", []string{AudienceAPI})),
		"KeycloakAudienceInAList":    h.provider.Sign(t, with(k, "azp", "spa", "aud", []string{"account", AudienceAPI})),
		"KeycloakAudienceAlone":      h.provider.Sign(t, with(k, "azp", nil, "aud", AudienceAPI)),
		"KeycloakWithoutTyp":         h.provider.Sign(t, with(k, "typ", nil)),
		"SupabaseAudienceInAList":    hs256(t, []byte(secret), with(s, "aud", []string{"x", "authenticated"})),
		"SupabaseSingleKeyWithoutID": h.signSupabaseKid(t, "", s),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.Verify(t.Context(), raw)
			require.NoError(t, err)
		})
	}
}

func TestVerifyExpired(t *testing.T) {
	h := setup(t)
	ctx := t.Context()
	raw := h.signBuiltin(t, h.builtinClaims())
	h.clock.Advance(48 * time.Hour)
	_, err := h.Verify(ctx, raw)
	require.ErrorIs(t, err, ErrExpired)
	id, err := h.VerifyExpired(ctx, raw)
	require.NoError(t, err)
	require.Equal(t, session, id.SessionID)
	_, err = h.Verify(ctx, raw)
	require.ErrorIs(t, err, ErrExpired, "logout must not make it valid again")
	_, err = h.VerifyExpired(ctx, raw+"A")
	require.ErrorIs(t, err, ErrInvalidToken)
	_, err = h.VerifyExpired(ctx, strings.Repeat("A", MaxToken+1))
	require.ErrorIs(t, err, ErrMalformed)
}

func TestCache(t *testing.T) {
	ctx := t.Context()

	t.Run("HitReturnsTheSameIdentity", func(t *testing.T) {
		h := setup(t)
		raw := h.signBuiltin(t, h.builtinClaims())
		first, err := h.Verify(ctx, raw)
		require.NoError(t, err)
		second, err := h.Verify(ctx, strings.Clone(raw))
		require.NoError(t, err)
		require.Same(t, first, second)
	})

	t.Run("ExpiredTokenIsRefusedThoughCached", func(t *testing.T) {
		h := setup(t)
		raw := h.signBuiltin(t, with(h.builtinClaims(), "exp", h.clock.Now().Unix()+60))
		_, err := h.Verify(ctx, raw)
		require.NoError(t, err)
		h.clock.Advance(59 * time.Second)
		_, err = h.Verify(ctx, raw)
		require.NoError(t, err)
		h.clock.Advance(time.Second)
		_, err = h.Verify(ctx, raw)
		require.ErrorIs(t, err, ErrExpired)
	})

	t.Run("EntryLivesFiveMinutes", func(t *testing.T) {
		h := setup(t)
		raw := h.signBuiltin(t, h.builtinClaims())
		first, err := h.Verify(ctx, raw)
		require.NoError(t, err)
		h.clock.Advance(maxCached)
		second, err := h.Verify(ctx, raw)
		require.NoError(t, err)
		require.NotSame(t, first, second, "the signature was verified again")
	})

	t.Run("TenThousandTokensStayWithinTheBound", func(t *testing.T) {
		const bound = 4 << 20
		clock := authtest.NewClock()
		issuer := newIssuer(t, clock)
		v, err := NewVerifier(Config{Builtin: issuer, Now: clock.Now, CacheBytes: bound})
		require.NoError(t, err)
		defer v.Close()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var last string
		for range 10_000 {
			token, err := issuer.Mint(Access{UserID: ann, SessionID: session, FirstName: "Ann", Email: "ann@example.nl"})
			require.NoError(t, err)
			last = token.Raw
			_, err = v.Verify(ctx, last)
			require.NoError(t, err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		require.Less(t, v.cache.len(), 4000)
		require.Greater(t, v.cache.len(), 1000)
		require.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(bound+1<<20))
		key := hashToken(last)
		require.NotNil(t, v.cache.get(&key, clock.Now()), "the youngest is remembered")
	})

	t.Run("UsedEntriesOutliveUnusedOnes", func(t *testing.T) {
		h := setup(t)
		c := newCache(shardCount * 2 * 10 * entryOverhead) // ten entries to a generation
		now := h.clock.Now()
		id := &Identity{}
		var used, unused tokenHash
		unused[1] = 1
		c.put(&used, id, now.Add(time.Hour), 0)
		c.put(&unused, id, now.Add(time.Hour), 0)
		for i := range 100 {
			c.put(&tokenHash{0, 2, byte(i)}, id, now.Add(time.Hour), 0)
			require.NotNil(t, c.get(&used, now))
		}
		require.Nil(t, c.get(&unused, now))
		require.LessOrEqual(t, c.len(), 20)
	})

	t.Run("NothingIsKeptWhenSwitchedOff", func(t *testing.T) {
		h := setup(t)
		v, err := NewVerifier(Config{Builtin: h.issuer, Now: h.clock.Now, CacheBytes: -1})
		require.NoError(t, err)
		_, err = v.Verify(ctx, h.signBuiltin(t, h.builtinClaims()))
		require.NoError(t, err)
		require.Zero(t, v.cache.len())
	})

	t.Run("ResultOfBeforeAClearIsNotAddedAfterIt", func(t *testing.T) {
		c := newCache(defaultCacheBytes)
		epoch := c.epoch.Load()
		c.clear()
		c.put(&tokenHash{}, &Identity{}, time.Now().Add(time.Hour), epoch)
		require.Zero(t, c.len())
	})

	t.Run("ManyReadersAndWriters", func(t *testing.T) {
		h := setup(t)
		var tokens []string
		for i := range 20 {
			tokens = append(tokens, h.signBuiltin(t, with(h.builtinClaims(), "jti", fmt.Sprint(i))))
		}
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 200 {
					id, err := h.Verify(ctx, tokens[(g+i)%len(tokens)])
					if err != nil || id.UserID != ann {
						t.Errorf("got %v, %v", id, err)
						return
					}
					if i%50 == 0 {
						h.cache.clear()
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestNewVerifier(t *testing.T) {
	clock := authtest.NewClock()
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"NothingConfigured", Config{}, "no identity provider"},
		{"KeycloakWithoutURL", Config{Keycloak: &KeycloakConfig{}}, "Keycloak URL"},
		{"KeycloakBadInternalURL", Config{Keycloak: &KeycloakConfig{URL: "https://id.test", InternalURL: "keycloak:8080"}}, "internal Keycloak URL"},
		{"SupabaseURLWithQuery", Config{Supabase: &SupabaseConfig{URL: "https://x.test?a"}}, "Supabase URL"},
		{"SupabaseSecretTooShort", Config{Supabase: &SupabaseConfig{URL: "https://x.test", JWTSecret: "short"}}, "HS256 needs 32"},
		{"SameIssuerTwice", Config{Builtin: newIssuer(t, clock), Keycloak: &KeycloakConfig{URL: base}, Supabase: &SupabaseConfig{URL: base + "/"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := NewVerifier(c.cfg)
			if c.want == "" {
				require.NoError(t, err)
				v.Close()
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}

	t.Run("EveryFaultIsReported", func(t *testing.T) {
		_, err := NewVerifier(Config{Keycloak: &KeycloakConfig{}, Supabase: &SupabaseConfig{}})
		require.ErrorContains(t, err, "Keycloak URL")
		require.ErrorContains(t, err, "Supabase URL")
	})

	t.Run("TwoProvidersOfOneIssuerAreAFault", func(t *testing.T) {
		text, err := GenerateKey()
		require.NoError(t, err)
		keys, err := ParseKeys(text)
		require.NoError(t, err)
		issuer, err := NewIssuer(IssuerConfig{URL: base + "/realms/kijko", Keys: keys})
		require.NoError(t, err)
		_, err = NewVerifier(Config{Builtin: issuer, Keycloak: &KeycloakConfig{URL: base}})
		require.ErrorContains(t, err, "share the issuer")
	})
}

func TestClaims(t *testing.T) {
	h := setup(t)
	ctx := t.Context()
	verify := func(t *testing.T, changes ...any) *Identity {
		t.Helper()
		id, err := h.Verify(ctx, h.provider.Sign(t, with(h.keycloakClaims(), changes...)))
		require.NoError(t, err)
		return id
	}

	t.Run("OrgHint", func(t *testing.T) {
		nobody := uuid.Nil.String()
		other := "11111111-2222-4333-8444-555555555555"
		for _, c := range []struct {
			name    string
			changes []any
			want    string
		}{
			{"Absent", nil, ""},
			{"OrgIDFirst", []any{"org_id", org, "organization_id", other}, org},
			{"OrganizationIDSecond", []any{"organization_id", other, "app_metadata", map[string]any{"org_id": org}}, other},
			{"AppMetadataThird", []any{"app_metadata", map[string]any{"org_id": org}}, org},
			{"UserMetadataNever", []any{"user_metadata", map[string]any{"org_id": org, "organization_id": org}}, ""},
			{"EmptyIsAbsent", []any{"org_id", "", "organization_id", org}, org},
			{"UpperCase", []any{"org_id", strings.ToUpper(org)}, org},
			{"ListOfOne", []any{"org_id", []string{org}}, org},
			{"ListOfTwoIsNobodys", []any{"org_id", []string{org, other}}, nobody},
			{"GarbageIsNobodys", []any{"org_id", "acme"}, nobody},
			{"NumberIsNobodys", []any{"org_id", 5}, nobody},
			{"BracesAreNobodys", []any{"org_id", "{" + org + "}"}, nobody},
		} {
			t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, verify(t, c.changes...).OrgHint) })
		}
	})

	t.Run("Session", func(t *testing.T) {
		require.Equal(t, "a", verify(t, "sid", "a", "session_state", "b", "session_id", "c").SessionKey)
		require.Equal(t, "b", verify(t, "sid", nil, "session_state", "b", "session_id", "c").SessionKey)
		require.Equal(t, "c", verify(t, "sid", "", "session_id", "c").SessionKey)

		byID := verify(t, "sid", nil, "jti", "x")
		require.True(t, strings.HasPrefix(byID.SessionKey, "jti:"))
		require.Equal(t, byID.SessionID, verify(t, "sid", nil, "jti", "x", "sub", "other").SessionID, "the hash is of jti")
		require.NotEqual(t, byID.SessionID, verify(t, "sid", nil, "jti", "y").SessionID)

		now := h.clock.Now().Unix()
		byDate := verify(t, "sid", nil, "iat", now)
		require.True(t, strings.HasPrefix(byDate.SessionKey, "iat:"))
		require.Equal(t, byDate.SessionID, verify(t, "sid", nil, "iat", now, "email", "x@y.zz").SessionID)
		require.NotEqual(t, byDate.SessionID, verify(t, "sid", nil, "iat", now-1).SessionID)
		require.NotEqual(t, byDate.SessionID, verify(t, "sid", nil, "iat", now, "sub", "other").SessionID)

		long := verify(t, "sid", strings.Repeat("s", 300))
		require.Less(t, len(long.SessionKey), 100)
		require.NotEqual(t, derivedUUID("https://a", "k"), derivedUUID("https://b", "k"), "equal keys of two issuers are two sessions")
		require.Equal(t, session, verify(t, "sid", strings.ToUpper(session)).SessionID, "a UUID stays itself")
	})

	t.Run("NamesAndEmail", func(t *testing.T) {
		id := verify(t, "given_name", "  A\u0000n\nn ", "family_name", strings.Repeat("é", 60), "email", " Ann@Example.NL ")
		require.Equal(t, "A\uFFFDnn", id.FirstName)
		require.Equal(t, strings.Repeat("é", 50), id.LastName)
		require.Equal(t, "ann@example.nl", id.Email)
		id = verify(t, "given_name", "Ann", "user_metadata", map[string]any{"first_name": "Bob", "last_name": "Vos"})
		require.Equal(t, []string{"Ann", "Vos"}, []string{id.FirstName, id.LastName})
		for _, bad := range []any{"ann", "ann@", "@b.nl", "a b@c.nl", "a@b", "a@b@c.nl", "a@.nl", "a@b.", "a\u0000@b.nl", 5, strings.Repeat("a", 250) + "@b.nl"} {
			id := verify(t, "email", bad, "email_verified", true)
			require.Empty(t, id.Email)
			require.False(t, id.EmailVerified)
		}
		require.False(t, verify(t, "email", "a@b.nl", "email_verified", "true").EmailVerified, "only a boolean counts")
	})

	t.Run("PlatformAdmin", func(t *testing.T) {
		roles := func(r ...string) map[string]any { return map[string]any{"roles": r} }
		require.True(t, verify(t, "realm_access", roles("platform_admin")).PlatformAdmin)
		require.True(t, verify(t, "resource_access", map[string]any{AudienceAPI: roles("platform_admin")}).PlatformAdmin)
		require.False(t, verify(t, "resource_access", map[string]any{"other": roles("platform_admin")}).PlatformAdmin)
		require.False(t, verify(t, "realm_access", roles("owner", "admin")).PlatformAdmin)
		require.False(t, verify(t, "roles", []string{"platform_admin"}).PlatformAdmin)
	})

	t.Run("RawClaimsCanBeStoredAsJSON", func(t *testing.T) {
		id := verify(t, "x", "a\u0000b<&>", "y", json.Number("1e999"), "n\u0000ul", 1, "z", map[string]any{"list": []any{"\u0000", json.Number("12345678901234567890")}})
		require.NotContains(t, id.RawClaims, `\u0000`)
		require.NotContains(t, id.RawClaims, "1e999")
		require.Contains(t, id.RawClaims, `b<&>`)
		require.Contains(t, id.RawClaims, "12345678901234567890")
		var compacted bytes.Buffer
		require.NoError(t, json.Compact(&compacted, []byte(id.RawClaims)))
		require.Equal(t, compacted.String(), id.RawClaims)
	})
}

// A context that has ended must not be mistaken for a bad token.
func TestCancelledRequestIsNoBadToken(t *testing.T) {
	h := setup(t)
	h.provider.Hang()
	ctx, cancel := context.WithCancel(t.Context())
	raw := h.provider.Sign(t, h.keycloakClaims())
	cancel()
	_, err := h.Verify(ctx, raw)
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrInvalidToken)
}
