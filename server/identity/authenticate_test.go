package identity

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/api"
	"kijko/server/auth"
	"kijko/server/config"
	"kijko/server/openapi"
	"kijko/tests/testdb"
)

func setup(t testing.TB) (*Identity, *testdb.DB) {
	t.Helper()
	db := testdb.New(t)
	pool := db.Pool("kijko_server")
	cfg, err := config.Load()
	require.NoError(t, err)
	cfg.Debug = true
	i, err := Assemble(context.Background(), cfg, pool, api.NewExecutor(pool, nil), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(i.Close)
	return i, db
}

func mint(t testing.TB, i *Identity) (string, auth.Access) {
	t.Helper()
	access := auth.Access{UserID: uuid.NewString(), SessionID: uuid.NewString(), OrgID: uuid.NewString(), Email: "ann@example.nl"}
	token, err := i.Issuer().Mint(access)
	require.NoError(t, err)
	return token.Raw, access
}

func TestAuthenticate(t *testing.T) {
	i, _ := setup(t)

	t.Run("BuiltInTokenNeedsNoDatabase", func(t *testing.T) {
		i.exec = nil
		token, access := mint(t, i)
		caller, err := i.Authenticate(context.Background(), token)
		require.NoError(t, err)
		require.Equal(t, access.UserID, caller.UserID)
		require.Equal(t, access.SessionID, caller.SessionID)
		require.Equal(t, access.OrgID, caller.OrgHint)
		require.Contains(t, caller.Claims, access.UserID)
		require.WithinDuration(t, time.Now().Add(time.Hour), caller.ExpiresAt, time.Minute)
	})
	t.Run("SecondTimeAllocatesNothing", func(t *testing.T) {
		token, _ := mint(t, i)
		ctx := context.Background()
		_, err := i.Authenticate(ctx, token)
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = i.Authenticate(ctx, token) }))
	})
	t.Run("CancelledRequestIsNoBadToken", func(t *testing.T) {
		require.ErrorIs(t, refusal(context.Canceled), context.Canceled)
	})
	t.Run("UnavailableProviderIsA503", func(t *testing.T) {
		var p *api.Problem
		require.ErrorAs(t, refusal(auth.ErrUnavailable), &p)
		require.Equal(t, http.StatusServiceUnavailable, p.Status)
		require.Equal(t, "AUTH_UNAVAILABLE", p.Code)
	})
}

func TestCallersAreBounded(t *testing.T) {
	c := newCallers(100)
	kept := &auth.Identity{}
	c.put(kept, &known{})
	for range 10_000 {
		c.put(&auth.Identity{}, &known{})
		require.NotNil(t, c.get(kept), "what is used stays")
		require.LessOrEqual(t, len(c.young)+len(c.old), 100)
	}
}

func TestSessionIsTouchedOnceAMinute(t *testing.T) {
	k, at := &known{}, time.Now()
	require.True(t, k.due(at))
	require.False(t, k.due(at.Add(59*time.Second)))
	require.True(t, k.due(at.Add(60*time.Second)))
}

func TestToucher(t *testing.T) {
	t.Run("MemoryIsBoundedWhileTheDatabaseIsAway", func(t *testing.T) {
		i, _ := setup(t)
		for n := range maxPending + 10 {
			i.toucher.Touch(fmt.Sprint(n), "")
		}
		require.Len(t, i.toucher.pending, maxPending)
	})
	t.Run("FailureIsLoggedAndForgotten", func(t *testing.T) {
		i, _ := setup(t)
		var log strings.Builder
		i.toucher.log = slog.New(slog.NewTextHandler(&log, nil))
		i.toucher.Touch("no uuid", "")
		i.toucher.Flush(context.Background())
		require.Contains(t, log.String(), "last activity was not written")
		require.Empty(t, i.toucher.pending)
	})
}

func TestNew(t *testing.T) {
	i, db := setup(t)
	pool := db.Pool("kijko_server")
	_, err := New(Deps{})
	require.ErrorContains(t, err, "required")
	_, err = New(Deps{Exec: api.NewExecutor(pool, nil), Pool: pool, Verifier: i.verifier, Hasher: i.hasher, Issuer: i.issuer})
	require.ErrorContains(t, err, "SealKey")
	minimal, err := New(Deps{Exec: api.NewExecutor(pool, nil), Pool: pool, Verifier: i.verifier, Hasher: i.hasher})
	require.NoError(t, err)
	require.Nil(t, minimal.Issuer())
	require.Same(t, i.verifier, minimal.Verifier())
	require.Equal(t, sessionRefreshes, minimal.sessionLimit)
}

func TestAssembleNamesWhatIsWrong(t *testing.T) {
	_, db := setup(t)
	pool := db.Pool("kijko_server")
	for name, change := range map[string]func(*config.Config){
		"signing keys":           func(c *config.Config) { c.JWTPrivateKey = "no PEM" },
		"issuer URL":             func(c *config.Config) { c.PublicURL = "kijko" },
		"Keycloak URL":           func(c *config.Config) { c.KeycloakURL = "keycloak" },
		"Supabase JWT secret":    func(c *config.Config) { c.SupabaseURL, c.SupabaseSecret = "http://supabase.test", "short" },
		"no identity provider":   func(c *config.Config) { c.Debug = false },
		"access tokens cannot":   func(c *config.Config) { c.AccessTTL = time.Second },
		"two identity providers": func(c *config.Config) { c.KeycloakURL, c.PublicURL = "http://a.test", "http://a.test/realms/kijko" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := config.Load()
			require.NoError(t, err)
			cfg.Debug = true
			change(&cfg)
			_, err = Assemble(context.Background(), cfg, pool, api.NewExecutor(pool, nil), slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, name)
		})
	}
}

func TestScaleRates(t *testing.T) {
	d := &openapi.Document{Operations: []*openapi.Operation{{Access: openapi.Public, SharedRate: &openapi.Rate{Limit: 5}},
		{Rate: &openapi.Rate{Limit: 5}}, {Access: openapi.User, SharedRate: &openapi.Rate{Limit: 5}}}}
	scaled := ScaleRates(d, 3)
	require.Equal(t, 15, scaled.Operations[0].SharedRate.Limit)
	require.Equal(t, 5, scaled.Operations[1].Rate.Limit, "limits of one process are no sign-in limits")
	require.Equal(t, 5, scaled.Operations[2].SharedRate.Limit, "nor are those of people who have signed in")
	require.Equal(t, 1, ScaleRates(d, 0.001).Operations[0].SharedRate.Limit)
	require.Positive(t, ScaleRates(d, 1e18).Operations[0].SharedRate.Limit)
	require.Equal(t, 5, d.Operations[0].SharedRate.Limit, "the document of the process stays as it is")
}

func TestSealerNeedsEverySecret(t *testing.T) {
	right := sealer{master: make([]byte, 32), scope: "logIn", key: "k", body: []byte(`{"password":"x"}`)}
	sealed, err := right.seal([]byte("tokens"))
	require.NoError(t, err)
	plain, err := right.open(sealed)
	require.NoError(t, err)
	require.Equal(t, "tokens", string(plain))
	for name, change := range map[string]func(*sealer){
		"Master": func(s *sealer) { s.master = []byte("another key of the server, 32 b.") },
		"Key":    func(s *sealer) { s.key = "l" },
		"Scope":  func(s *sealer) { s.scope = "signUp" },
		"Body":   func(s *sealer) { s.body = []byte(`{"password":"y"}`) },
	} {
		t.Run(name, func(t *testing.T) {
			wrong := right
			change(&wrong)
			_, err := wrong.open(sealed)
			require.Error(t, err)
		})
	}
}

func TestUserAgentCanBeStored(t *testing.T) {
	require.Equal(t, "Fire fox/1 é", storable("Fire\x00 fox/1\r\n é\xff"))
}

func TestFloodOfPasswordsIsA503(t *testing.T) {
	var p *api.Problem
	require.ErrorAs(t, busy(fmt.Errorf("check: %w", auth.ErrBusy)), &p)
	require.Equal(t, http.StatusServiceUnavailable, p.Status)
	require.ErrorIs(t, busy(context.Canceled), context.Canceled)
}

func BenchmarkAuthenticateCached(b *testing.B) {
	i, _ := setup(b)
	token, _ := mint(b, i)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Authenticate(ctx, token); err != nil {
			b.Fatal(err)
		}
	}
}
