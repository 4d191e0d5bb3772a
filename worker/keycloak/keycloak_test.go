package keycloak_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
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

// follow signs Kim in on the page to which the browser is redirected.
func follow(t *testing.T, p *authtest.Provider, admin *keycloak.Admin, verifier string) (code string) {
	t.Helper()
	code, state := p.Follow(t, admin.SignInURL("google", "https://kijko.test/auth/callback", "a state", verifier),
		authtest.Request{Subject: "kim", Claims: map[string]any{"email": "kim@example.nl", "email_verified": true, "given_name": "Kim", "family_name": "Berg"}})
	require.Equal(t, "a state", state)
	return code
}

func TestSetOrganization(t *testing.T) {
	p := authtest.New(t)
	admin := keycloak.New(keycloak.Config{URL: p.URL, Realm: "kijko", ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret})
	require.NoError(t, admin.SetOrganization(t.Context(), "kim", "one"), "a user who is gone has none")
	follow(t, p, admin, "a verifier")
	before := p.User("kim")
	for _, orgID := range []string{"one", "one", "two", "", ""} {
		require.NoError(t, admin.SetOrganization(t.Context(), "kim", orgID))
		user := p.User("kim")
		want := map[string]any{"locale": []any{"nl"}}
		if orgID != "" {
			want["org_id"] = []any{orgID}
		}
		require.Equal(t, want, user["attributes"])
		for _, name := range []string{"username", "email", "emailVerified", "firstName", "lastName"} {
			require.Equal(t, before[name], user[name], "all else stays")
		}
	}
	p.Down()
	require.Error(t, admin.SetOrganization(t.Context(), "kim", "three"))
}

func TestDeleteUser(t *testing.T) {
	p := authtest.New(t)
	admin := keycloak.New(keycloak.Config{URL: p.URL, Realm: "kijko", ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret})
	follow(t, p, admin, "a verifier")
	require.NotEmpty(t, p.User("kim"))
	require.NoError(t, admin.DeleteUser(t.Context(), "kim"))
	require.Empty(t, p.User("kim"))
	require.NoError(t, admin.DeleteUser(t.Context(), "kim"), "a user who is gone is deleted")
	p.Down()
	require.Error(t, admin.DeleteUser(t.Context(), "kim"))
}

func TestExchange(t *testing.T) {
	p := authtest.New(t)
	config := keycloak.Config{URL: p.URL, Realm: "kijko", ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret}
	admin := keycloak.New(config)
	const back = "https://kijko.test/auth/callback"
	code := follow(t, p, admin, "a verifier")
	token, err := admin.Exchange(t.Context(), code, back, "a verifier")
	require.NoError(t, err)
	require.Len(t, strings.Split(token, "."), 3)
	_, err = admin.Exchange(t.Context(), code, back, "a verifier")
	require.ErrorIs(t, err, keycloak.ErrCode, "once")
	_, err = admin.Exchange(t.Context(), follow(t, p, admin, "a verifier"), back, "another verifier")
	require.ErrorIs(t, err, keycloak.ErrCode, "for its verifier")
	_, err = admin.Exchange(t.Context(), follow(t, p, admin, "a verifier"), back+"/", "a verifier")
	require.ErrorIs(t, err, keycloak.ErrCode, "for its address")

	config.ClientSecret = "wrong"
	_, err = keycloak.New(config).Exchange(t.Context(), follow(t, p, admin, "a verifier"), back, "a verifier")
	require.ErrorContains(t, err, "unauthorized_client")
	require.NotErrorIs(t, err, keycloak.ErrCode, "our fault, not the code's")
	p.AnswerExchanges(http.StatusOK, "text/html", "<html>")
	_, err = admin.Exchange(t.Context(), code, back, "a verifier")
	require.Error(t, err)
	require.NotErrorIs(t, err, keycloak.ErrCode)
}
