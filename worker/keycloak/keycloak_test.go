package keycloak_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
	"kijko/worker/keycloak"
)

func TestEndSession(t *testing.T) {
	p := authtest.New(t)
	config := keycloak.Config{URL: p.URL + "/", Realm: "kijko", ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret}
	admin := keycloak.New(config)
	require.Equal(t, p.Issuer, admin.Issuer())
	b := p.Browser(authtest.Request{Subject: "kim"})
	b.SignIn(t, time.Now())

	p.Down()
	require.Error(t, admin.EndSession(t.Context(), b.SessionID()))
	p.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, admin.EndSession(ctx, b.SessionID()), context.DeadlineExceeded)
	p.Up()
	require.True(t, b.HasSession())
	require.NoError(t, admin.EndSession(t.Context(), b.SessionID()))
	require.False(t, b.HasSession())
	require.NoError(t, admin.EndSession(t.Context(), b.SessionID()), "a session that is gone has ended")

	config.ClientSecret = "wrong"
	require.Error(t, keycloak.New(config).EndSession(t.Context(), b.SessionID()))
	config.ClientSecret = ""
	require.Nil(t, keycloak.New(config), "no secret, no service account")
}

func TestAnswersOfTheAdministration(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusNoContent: "", http.StatusOK: "", http.StatusNotFound: "",
		http.StatusForbidden: "manage-users", http.StatusUnauthorized: "manage-users", http.StatusInternalServerError: "answers 500",
	} {
		var s *httptest.Server
		s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			switch r.URL.Path {
			case "/realms/a b/.well-known/openid-configuration":
				_, _ = w.Write([]byte(`{"issuer": "https://id.example/realms/a b", "token_endpoint": "` + s.URL + `/token"}`))
			case "/token":
				_, _ = w.Write([]byte(`{"access_token": "t", "token_type": "Bearer", "expires_in": 60}`))
			default:
				if r.Method != http.MethodDelete || r.URL.EscapedPath() != "/admin/realms/a%20b/sessions/a%2Fb" || r.Header.Get("Authorization") != "Bearer t" {
					status = http.StatusTeapot
				}
				w.WriteHeader(status)
			}
		}))
		err := keycloak.New(keycloak.Config{URL: "https://id.example", InternalURL: s.URL, Realm: "a b", ClientID: "c", ClientSecret: "s"}).EndSession(t.Context(), "a/b")
		s.Close()
		if want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}
