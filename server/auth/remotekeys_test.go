package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
)

func TestRemoteKeys(t *testing.T) {
	ctx := t.Context()
	ask := authtest.Request{Subject: "kc-ann"}

	t.Run("NothingIsFetchedBeforeTheFirstToken", func(t *testing.T) {
		h := setup(t)
		_, err := h.Verify(ctx, h.signBuiltin(t, h.builtinClaims()))
		require.NoError(t, err)
		require.Zero(t, h.provider.KeyFetches())
	})

	t.Run("ProviderDownAtStartIsUnavailableAndRecovers", func(t *testing.T) {
		h := setup(t)
		raw := h.provider.Token(t, ask)
		h.provider.Down()
		_, err := h.Verify(ctx, raw)
		require.ErrorIs(t, err, ErrUnavailable)
		require.NotErrorIs(t, err, ErrInvalidToken)
		_, err = h.Verify(ctx, h.signBuiltin(t, h.builtinClaims()))
		require.NoError(t, err, "the other issuers work on")

		h.provider.Up()
		_, err = h.Verify(ctx, raw)
		require.ErrorIs(t, err, ErrUnavailable, "a second passes between two tries")
		require.Zero(t, h.provider.KeyFetches())
		h.clock.Advance(retryEmpty)
		_, err = h.Verify(ctx, raw)
		require.NoError(t, err)
	})

	t.Run("KeysOfBeforeServeWhileTheProviderIsDown", func(t *testing.T) {
		h := setup(t)
		_, err := h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err)
		h.provider.Down()
		h.clock.Advance(25 * time.Hour)
		for i := range 3 {
			_, err = h.Verify(ctx, h.provider.Sign(t, with(h.keycloakClaims(), "jti", i)))
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return h.Status()[0].Err != nil || h.Status()[1].Err != nil }, 5*time.Second, time.Millisecond)
	})

	t.Run("KeysAreFetchedAgainAfterAnHour", func(t *testing.T) {
		h := setup(t)
		_, err := h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err)
		h.clock.Advance(keysFresh - time.Second)
		_, err = h.Verify(ctx, h.provider.Sign(t, h.keycloakClaims()))
		require.NoError(t, err)
		require.Equal(t, 1, h.provider.KeyFetches())
		h.clock.Advance(time.Second)
		_, err = h.Verify(ctx, h.provider.Sign(t, h.keycloakClaims()))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return h.provider.KeyFetches() == 2 }, 5*time.Second, time.Millisecond)
	})

	t.Run("WithdrawnKeyIsForgottenWithItsTokens", func(t *testing.T) {
		h := setup(t)
		old := h.provider.Token(t, ask)
		_, err := h.Verify(ctx, old)
		require.NoError(t, err)
		h.provider.Rotate(t, true)
		_, err = h.Verify(ctx, old)
		require.NoError(t, err, "cached, nobody has told us yet")
		_, err = h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err)
		_, err = h.Verify(ctx, old)
		require.ErrorIs(t, err, ErrSignature)
	})

	t.Run("UnknownKidsReachTheProviderOncePerMinute", func(t *testing.T) {
		h := setup(t)
		_, err := h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err)
		stranger, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		flood := func() {
			var wg sync.WaitGroup
			for i := range 50 {
				raw := authtest.Sign(t, jose.RS256, "unknown-"+string(rune('a'+i%26)), stranger, h.keycloakClaims())
				wg.Go(func() {
					_, err := h.Verify(ctx, raw)
					if err == nil {
						t.Error("accepted")
					}
				})
			}
			wg.Wait()
		}
		flood()
		require.Equal(t, 2, h.provider.KeyFetches())
		flood()
		require.Equal(t, 2, h.provider.KeyFetches())
		h.clock.Advance(forcedEvery)
		flood()
		require.Equal(t, 3, h.provider.KeyFetches())
	})

	t.Run("UnknownKidWhileTheProviderIsDownIsRefused", func(t *testing.T) {
		h := setup(t)
		_, err := h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err)
		h.provider.Down()
		h.provider.Rotate(t, false)
		_, err = h.Verify(ctx, h.provider.Sign(t, h.keycloakClaims()))
		require.ErrorIs(t, err, ErrSignature)
	})

	t.Run("TokensWithoutKidAreNotGuessedAmongSeveralKeys", func(t *testing.T) {
		h := setup(t)
		h.provider.Rotate(t, false)
		_, err := h.Verify(ctx, h.provider.Token(t, ask))
		require.NoError(t, err)
		raw := authtest.Sign(t, jose.RS256, "", h.provider.PrivateKey(), h.keycloakClaims())
		_, err = h.Verify(ctx, raw)
		require.ErrorIs(t, err, ErrSignature)
	})

	t.Run("KeyUnderTheNameOfAnotherOneIsRefused", func(t *testing.T) {
		h := setup(t)
		old := h.provider.PrivateKey()
		h.provider.Rotate(t, false)
		_, err := h.Verify(ctx, authtest.Sign(t, jose.RS256, h.provider.KeyID(), old, h.keycloakClaims()))
		require.ErrorIs(t, err, ErrSignature)
	})

	t.Run("CloseEndsAFetchThatHangs", func(t *testing.T) {
		h := setup(t)
		h.provider.Hang()
		raw := h.provider.Sign(t, h.keycloakClaims())
		result := make(chan error, 1)
		go func() {
			_, err := h.Verify(ctx, raw)
			result <- err
		}()
		require.Eventually(t, func() bool {
			r := h.sources[h.provider.Issuer].remote
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.running != nil
		}, 5*time.Second, time.Millisecond)
		h.Close()
		require.ErrorIs(t, <-result, ErrUnavailable)
		h.clock.Advance(time.Minute)
		_, err := h.Verify(ctx, raw)
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, "closed")
	})

	t.Run("InternalAddressServesTokensOfThePublicOne", func(t *testing.T) {
		// The document found inside must still name the public issuer.
		const public = "https://id.example.com"
		h := setup(t)
		var server *httptest.Server
		issuer := public + "/realms/kijko"
		server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
				_ = json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": server.URL + "/keys"})
				return
			}
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: h.provider.PublicKey(), KeyID: h.provider.KeyID()}}})
		}))
		defer server.Close()
		v, err := NewVerifier(Config{Keycloak: &KeycloakConfig{URL: public, InternalURL: server.URL}, Now: h.clock.Now})
		require.NoError(t, err)
		defer v.Close()
		_, err = v.Verify(ctx, h.provider.Sign(t, with(h.keycloakClaims(), "iss", issuer)))
		require.NoError(t, err)

		issuer = "https://other.example.com"
		other, err := NewVerifier(Config{Keycloak: &KeycloakConfig{URL: public, InternalURL: server.URL}, Now: h.clock.Now})
		require.NoError(t, err)
		defer other.Close()
		_, err = other.Verify(ctx, h.provider.Sign(t, with(h.keycloakClaims(), "iss", public+"/realms/kijko")))
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, "other.example.com")
	})

	t.Run("SupabaseWithoutPublishedKeysStillTakesItsSecret", func(t *testing.T) {
		h := setup(t)
		h.supabase.keys.Store(&jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}})
		_, err := h.Verify(ctx, hs256(t, []byte(secret), h.supabaseClaims()))
		require.NoError(t, err)
		require.Zero(t, h.supabase.fetches.Load(), "the secret needs no fetch")
		_, err = h.Verify(ctx, h.signSupabaseKid(t, "es", h.supabaseClaims()))
		require.ErrorIs(t, err, ErrSignature)

		v, err := NewVerifier(Config{Supabase: &SupabaseConfig{URL: h.supabase.url}})
		require.NoError(t, err)
		defer v.Close()
		_, err = v.Verify(ctx, h.signSupabaseKid(t, "es", h.supabaseClaims()))
		require.ErrorIs(t, err, ErrUnavailable, "without secret and keys nothing can be decided")
		_, err = v.Verify(ctx, hs256(t, []byte(secret), h.supabaseClaims()))
		require.ErrorIs(t, err, ErrAlgorithm)
	})
}

func TestBadAnswersOfTheProvider(t *testing.T) {
	for _, c := range []struct {
		name      string
		discovery string
		keys      string
		status    int
	}{
		{"NoJSON", "<html>", "", 200},
		{"NoKeyAddress", `{"issuer":"ISSUER"}`, "", 200},
		{"OtherIssuer", `{"issuer":"https://evil.example","jwks_uri":"BASE/keys"}`, "", 200},
		{"KeysNoJSON", `{"issuer":"ISSUER","jwks_uri":"BASE/keys"}`, "<html>", 200},
		{"KeysWithoutMember", `{"issuer":"ISSUER","jwks_uri":"BASE/keys"}`, `{}`, 200},
		{"NoKeys", `{"issuer":"ISSUER","jwks_uri":"BASE/keys"}`, `{"keys":[]}`, 200},
		{"OnlyUselessKeys", `{"issuer":"ISSUER","jwks_uri":"BASE/keys"}`, `{"keys":[5,{"kty":"oct","k":"AAAA"},{"kty":"zz"}]}`, 200},
		{"KeysFail", `{"issuer":"ISSUER","jwks_uri":"BASE/keys"}`, `{"keys":[]}`, 500},
		{"KeysTooLong", `{"issuer":"ISSUER","jwks_uri":"BASE/keys"}`, `{"keys":[` + strings.Repeat(" ", maxDocument) + `]}`, 200},
		{"KeyAddressNoURL", `{"issuer":"ISSUER","jwks_uri":"::"}`, "", 200},
		{"KeyAddressUnreachable", `{"issuer":"ISSUER","jwks_uri":"http://DEAD/keys"}`, "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			dead := authtest.Address(t)
			var server *httptest.Server
			server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
					answer := strings.NewReplacer("ISSUER", server.URL+"/realms/kijko", "BASE", server.URL, "DEAD", dead).Replace(c.discovery)
					_, _ = w.Write([]byte(answer))
					return
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.keys))
			}))
			defer server.Close()
			v, err := NewVerifier(Config{Keycloak: &KeycloakConfig{URL: server.URL}, Client: &http.Client{}})
			require.NoError(t, err)
			defer v.Close()
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			require.NoError(t, err)
			now := time.Now().Unix()
			_, err = v.Verify(t.Context(), authtest.Sign(t, jose.RS256, "k", key,
				map[string]any{"iss": server.URL + "/realms/kijko", "sub": "x", "azp": AudienceAPI, "iat": now, "exp": now + 60}))
			require.ErrorIs(t, err, ErrUnavailable)
			require.Error(t, v.Status()[0].Err)
			require.Less(t, len(err.Error()), 1000)
		})
	}
}

func TestKeySetKeepsOnlyUsableSigningKeys(t *testing.T) {
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	body, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: &strong.PublicKey, KeyID: "rsa", Use: "sig", Algorithm: "RS256"},
		{Key: &strong.PublicKey, KeyID: "encryption", Use: "enc"},
		{Key: &strong.PublicKey, KeyID: "unmarked encryption", Algorithm: "RSA-OAEP"},
		{Key: &strong.PublicKey, KeyID: "rs512", Use: "sig", Algorithm: "RS512"},
		{Key: &weak.PublicKey, KeyID: "weak", Use: "sig", Algorithm: "RS256"},
		{Key: &p256.PublicKey, KeyID: "ec"},
		{Key: p256, KeyID: "private"},
		{Key: &p384.PublicKey, KeyID: "p384", Algorithm: "ES384"},
		{Key: []byte(secret), KeyID: "secret", Algorithm: "HS256"},
	}})
	require.NoError(t, err)
	keys, err := parseKeySet(body)
	require.NoError(t, err)
	var names []string
	for _, k := range keys {
		names = append(names, k.id+" "+string(k.alg))
	}
	require.Equal(t, []string{"rsa RS256", "ec ES256"}, names)
}
