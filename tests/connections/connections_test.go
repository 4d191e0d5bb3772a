package connections

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

func TestAnnaConnectsHerAccount(t *testing.T) {
	t.Parallel()
	h, s, anna, ben, stan := start(t)
	anna.Get("/oauth/connections").Want(200).Equal([]any{})
	begun := anna.Do("POST", "/oauth/connect/github", nil).Want(200)
	code, state := h.consent(t, begun.String("authUrl"), "anna-hub")
	body := map[string]string{"provider": "github", "code": code, "state": state}

	// Other accounts cannot finish the connection, colleagues neither, and a false try does not use the state up.
	for _, other := range []*client.Person{ben, stan} {
		other.Do("POST", "/oauth/callback", body).Problem(400, "OAUTH_STATE_INVALID")
		other.Get("/oauth/connections").Want(200).Equal([]any{})
	}
	for name, wrong := range map[string]map[string]string{
		"another provider": {"provider": "gitlab", "code": code, "state": state},
		"another state":    {"provider": "github", "code": code, "state": state + "x"},
		"no such state":    {"provider": "github", "code": code, "state": "x"},
	} {
		require.Equal(t, "OAUTH_STATE_INVALID", anna.Do("POST", "/oauth/callback", wrong).Want(400).String("code"), name)
	}
	anna.Do("POST", "/oauth/callback", map[string]string{"provider": "github", "code": code}).Problem(400, "VALIDATION_ERROR").Field("state")

	keyed := anna.With("Idempotency-Key", "connect-1")
	made := keyed.Do("POST", "/oauth/callback", body).Want(200)
	require.Equal(t, "anna-hub", made.String("username"))
	require.Equal(t, "https://avatars.example/anna-hub", made.String("avatarUrl"))
	require.Equal(t, true, made.Value("connected"))
	require.Equal(t, []any{"repo", "read:user"}, made.Value("scope"))
	var whole any
	made.Into(&whole)
	anna.Get("/oauth/connections").Want(200).Equal([]any{whole})
	ben.Get("/oauth/connections").Want(200).Equal([]any{})
	stan.Get("/oauth/connections").Want(200).Equal([]any{})

	// The state works once; the same request under its Idempotency-Key gets the same answer again.
	again := keyed.Do("POST", "/oauth/callback", body).Want(200)
	require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	require.JSONEq(t, string(made.Body), string(again.Body))
	anna.Do("POST", "/oauth/callback", body).Problem(400, "OAUTH_STATE_INVALID")

	// The tokens from the provider are stored nowhere in plain text.
	require.Zero(t, testdb.Value[int](s.DB, `select count(*) from private.provider_tokens where sealed_token ~ 'secret-'`))
	for _, table := range []string{"public.audit_log", "private.event_inbox", "public.events", "public.notifications", "private.idempotency_keys", "jobs.stored_jobs",
		"private.connection_states"} {
		require.Zero(t, testdb.Value[int](s.DB, "select count(*) from "+table+" x where x::text ~ 'secret-access' or x::text like '%' || $1 || '%'", state), table)
	}
	require.Equal(t, 1, testdb.Value[int](s.DB, `select count(*) from public.audit_log where event_type = 'integration.connected'
		and metadata = '{"provider": "github"}' and user_id = $1 and organization_id = $2`, anna.ID, anna.OrgID))
}

func TestAConsentIsBegunWithCare(t *testing.T) {
	t.Parallel()
	h, s, anna, _, _ := start(t)
	for name, c := range map[string]struct {
		provider string
		body     any
		status   int
		code     string
		field    string
	}{
		"AnUnknownProvider":                 {"sourceforge", nil, 400, "VALIDATION_ERROR", "provider"},
		"ADirectory":                        {"okta", nil, 400, "VALIDATION_ERROR", "provider"},
		"AProviderWithoutAnApplication":     {"gitlab", nil, 503, "PROVIDER_NOT_CONFIGURED", ""},
		"AnAddressThatIsNotListed":          {"github", map[string]string{"redirectUri": "https://evil.example/connected"}, 400, "VALIDATION_ERROR", "redirectUri"},
		"AnAddressBelowAListedOne":          {"github", map[string]string{"redirectUri": "https://app.kijko.test/connected/evil"}, 400, "VALIDATION_ERROR", "redirectUri"},
		"ABodyIsCheckedBeforeConfiguration": {"gitlab", map[string]string{"redirectUri": "https://evil.example"}, 400, "VALIDATION_ERROR", "redirectUri"},
	} {
		t.Run(name, func(t *testing.T) {
			anna.In(t).Do("POST", "/oauth/connect/"+c.provider, c.body).Problem(c.status, c.code).Field(c.field)
		})
	}
	t.Run("TheRefusalNamesTheProvider", func(t *testing.T) {
		require.Equal(t, "bitbucket", anna.In(t).Do("POST", "/oauth/connect/bitbucket", nil).Problem(503, "PROVIDER_NOT_CONFIGURED").String("details.provider"))
	})
	t.Run("AListedAddressIsUsed", func(t *testing.T) {
		a := anna.In(t).Do("POST", "/oauth/connect/github", map[string]string{"redirectUri": "https://app.kijko.test/connected"}).Want(200).String("authUrl")
		u, err := url.Parse(a)
		require.NoError(t, err)
		require.Equal(t, "https://app.kijko.test/connected", u.Query().Get("redirect_uri"))
		require.Equal(t, "repo read:user", u.Query().Get("scope"))
		require.GreaterOrEqual(t, len(u.Query().Get("state")), 43)
		code, state := h.consent(t, a, "anna-hub")
		anna.In(t).Do("POST", "/oauth/callback", map[string]string{"provider": "github", "code": code, "state": state}).Want(200)
	})
	t.Run("ARepeatedRequestGetsTheSameAddress", func(t *testing.T) {
		keyed := anna.In(t).With("Idempotency-Key", "begin-1")
		one, two := keyed.Do("POST", "/oauth/connect/github", nil).Want(200), keyed.Do("POST", "/oauth/connect/github", nil).Want(200)
		require.Equal(t, one.String("authUrl"), two.String("authUrl"))
	})
	t.Run("OpenStatesAreBounded", func(t *testing.T) {
		for range 25 {
			anna.In(t).Do("POST", "/oauth/connect/github", nil)
		}
		require.Equal(t, 20, testdb.Value[int](s.DB, "select count(*) from private.connection_states where user_id = $1", anna.ID))
	})
	t.Run("AnOldStateIsNone", func(t *testing.T) {
		carla := s.SignUp("Carla")
		code, state := h.consent(t, carla.In(t).Do("POST", "/oauth/connect/github", nil).Want(200).String("authUrl"), "carla")
		s.DB.Exec("update private.connection_states set expires_at = now() where user_id = $1", carla.ID)
		carla.In(t).Do("POST", "/oauth/callback", map[string]string{"provider": "github", "code": code, "state": state}).Problem(400, "OAUTH_STATE_INVALID")
	})
}

// open follows the redirect by which a provider leads a browser back.
func open(t testing.TB, address string) (status int, text string, header http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	r, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	raw, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	return r.StatusCode, string(raw), r.Header
}

func TestTheBrowserComesBackFromTheProvider(t *testing.T) {
	t.Parallel()
	h, s, anna, ben, stan := start(t)
	back := func(t *testing.T, provider string, q url.Values) string {
		status, text, header := open(t, s.BaseURL+"/api/v1/oauth/callback/"+provider+"?"+q.Encode())
		require.Equal(t, 200, status, text)
		require.Contains(t, header.Get("Content-Type"), "text/html")
		require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'")
		require.Equal(t, "no-store", header.Get("Cache-Control"))
		require.NotContains(t, text, "code-")
		return text
	}
	begin := func(t *testing.T, origin string) (code, state string) {
		c := anna.In(t)
		if origin != "" {
			c = c.With("Origin", origin)
		}
		a := c.Do("POST", "/oauth/connect/github", nil).Want(200).String("authUrl")
		u, err := url.Parse(a)
		require.NoError(t, err)
		require.Equal(t, "http://kijko.test/api/v1/oauth/callback/github", u.Query().Get("redirect_uri"))
		return h.consent(t, a, "anna-hub")
	}
	t.Run("AndTellsThePageThatBegan", func(t *testing.T) {
		code, state := begin(t, "https://app.kijko.test")
		text := back(t, "github", url.Values{"code": {code}, "state": {state}})
		require.Contains(t, text, `data-success="true" data-origin="https://app.kijko.test"`)
		require.Equal(t, "anna-hub", client.JSON[[]map[string]any](anna.In(t).Get("/oauth/connections"))[0]["username"])
		ben.In(t).Get("/oauth/connections").Want(200).Equal([]any{})
		require.Contains(t, back(t, "github", url.Values{"code": {code}, "state": {state}}), `data-success="false"`)
	})
	t.Run("AForeignPageHearsNothing", func(t *testing.T) {
		code, state := begin(t, "https://evil.example")
		require.Contains(t, back(t, "github", url.Values{"code": {code}, "state": {state}}), `data-success="true" data-origin="http://kijko.test"`)
	})
	t.Run("AConsentThatWasNotGiven", func(t *testing.T) {
		_, state := begin(t, "https://app.kijko.test")
		text := back(t, "github", url.Values{"error": {"access_denied"}, "state": {state}})
		require.Contains(t, text, `data-success="false" data-origin="https://app.kijko.test"`)
	})
	t.Run("AStateThatIsNone", func(t *testing.T) {
		text := back(t, "github", url.Values{"code": {"x"}, "state": {"<script>"}})
		require.Contains(t, text, `data-success="false" data-origin=""`)
		require.NotContains(t, text, "<script>\"")
	})
	t.Run("AnotherProvidersState", func(t *testing.T) {
		code, state := begin(t, "")
		require.Contains(t, back(t, "gitlab", url.Values{"code": {code}, "state": {state}}), `data-success="false"`)
		// The failed try did not use the state up.
		require.Contains(t, back(t, "github", url.Values{"code": {code}, "state": {state}}), `data-success="true"`)
	})
	t.Run("AMemberWhoWasRemovedMeanwhile", func(t *testing.T) {
		a := ben.In(t).Do("POST", "/oauth/connect/github", nil).Want(200).String("authUrl")
		code, state := h.consent(t, a, "ben-hub")
		s.DB.Exec("delete from public.memberships where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
		require.Contains(t, back(t, "github", url.Values{"code": {code}, "state": {state}}), `data-success="false"`)
		require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.git_connections where user_id = $1", ben.ID))
	})
	t.Run("AnotherPersonsBrowser", func(t *testing.T) {
		// Anna sends the address of her consent page to Stan, who is signed in here and consents at the provider.
		code, state := begin(t, "")
		inBrowserOf := func(p *client.Person) string {
			cookie := s.As("").In(t).Do("POST", "/auth/login", map[string]string{"email": p.Email, "password": p.Password}).Want(200).Cookie("kijko_session")
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.BaseURL+"/api/v1/oauth/callback/github?"+
				url.Values{"code": {code}, "state": {state}}.Encode(), nil)
			require.NoError(t, err)
			request.AddCookie(cookie)
			r, err := http.DefaultClient.Do(request)
			require.NoError(t, err)
			raw, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			require.NoError(t, r.Body.Close())
			return string(raw)
		}
		require.Contains(t, inBrowserOf(stan), `data-success="false"`)
		require.Contains(t, inBrowserOf(anna), `data-success="true"`)
	})
	t.Run("AnUnknownProvider", func(t *testing.T) {
		s.As("").In(t).Get("/oauth/callback/sourceforge?code=x&state=y").Problem(400, "VALIDATION_ERROR").Field("provider")
	})
}

func TestAProviderThatFailsConnectsNothing(t *testing.T) {
	t.Parallel()
	h, s, anna, _, _ := start(t)
	page := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>secret-page</html>"))
		}
	}
	for name, c := range map[string]struct {
		path   string
		answer http.HandlerFunc
		status int
		code   string
		wait   string
	}{
		"TheCodeIsRefused": {"/login/oauth", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 400, map[string]string{"error": "invalid_grant"})
		}, 400, "OAUTH_STATE_INVALID", ""},
		"TheApplicationIsRefused": {"/login/oauth", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]string{"error": "incorrect_client_credentials"})
		}, 502, "PROVIDER_ERROR", ""},
		"TheExchangeIsDown":    {"/login/oauth", page(503), 502, "PROVIDER_ERROR", ""},
		"TheExchangeIsAPage":   {"/login/oauth", page(200), 502, "PROVIDER_ERROR", ""},
		"TheExchangeBreaksOff": {"/login/oauth", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502, "PROVIDER_ERROR", ""},
		"TheExchangeIsLimited": {"/login/oauth", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			answer(w, 429, map[string]string{"error": "slow_down"})
		}, 429, "RATE_LIMITED", "7"},
		"TheAccountCannotBeRead": {"/api/v3/user", page(500), 502, "PROVIDER_ERROR", ""},
		"TheAccountIsAPage":      {"/api/v3/user", page(200), 502, "PROVIDER_ERROR", ""},
		"TheAccountIsNone":       {"/api/v3/user", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{}) }, 502, "PROVIDER_ERROR", ""},
		"TheAccountIsForbidden":  {"/api/v3/user", func(w http.ResponseWriter, _ *http.Request) { answer(w, 403, map[string]any{}) }, 403, "NOT_AUTHENTICATED", ""},
		"TheAccountIsLimited": {"/api/v3/user", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("Retry-After", "61")
			answer(w, 403, map[string]any{})
		}, 429, "RATE_LIMITED", "61"},
	} {
		t.Run(name, func(t *testing.T) {
			code, state := h.consent(t, anna.In(t).Do("POST", "/oauth/connect/github", nil).Want(200).String("authUrl"), "anna-hub")
			h.fail(t, c.path, c.answer)
			r := anna.In(t).Do("POST", "/oauth/callback", map[string]string{"provider": "github", "code": code, "state": state}).Problem(c.status, c.code)
			require.Equal(t, c.wait, r.Header.Get("Retry-After"))
			require.NotContains(t, string(r.Body), "secret")
			h.do(func() { h.instead = nil })
			anna.In(t).Get("/oauth/connections").Want(200).Equal([]any{})
			require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.provider_tokens"))
		})
	}
	// The tokens that the provider issued before it failed were revoked.
	h.do(func() { require.Len(t, h.revoked, 5) })
}

func TestDisconnectingGivesTheTokenBack(t *testing.T) {
	t.Parallel()
	h, s, anna, ben, _ := start(t)
	worker.Start(t, s)
	h.connect(t, anna, "anna-hub")
	h.connect(t, ben, "ben-hub")
	anna.Do("DELETE", "/oauth/disconnect/sourceforge", nil).Problem(400, "VALIDATION_ERROR").Field("provider")
	anna.Do("DELETE", "/oauth/disconnect/gitlab", nil).Want(200).Equal(map[string]bool{"success": true})
	anna.Do("DELETE", "/oauth/disconnect/github", nil).Want(200).Equal(map[string]bool{"success": true})
	anna.Get("/oauth/connections").Want(200).Equal([]any{})
	anna.Do("DELETE", "/oauth/disconnect/github", nil).Want(200).Equal(map[string]bool{"success": true})
	forgotten := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return testdb.Value[int](s.DB, "select count(*) from private.provider_tokens") == n }, 20*time.Second, 20*time.Millisecond)
	}
	forgotten(1)
	h.do(func() {
		require.Len(t, h.revoked, 1)
		require.True(t, strings.HasPrefix(h.revoked[0], "secret-access-anna-hub"))
	})
	require.Len(t, client.JSON[[]any](ben.Get("/oauth/connections")), 1, "a colleague's stays")
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.audit_log where event_type = 'integration.disconnected' and user_id = $1", anna.ID))

	// Another account replaces the first: the first one's token is revoked. The same account: its token is kept, because the grant may be
	// the same.
	h.connect(t, ben, "another-hub")
	forgotten(1)
	h.connect(t, ben, "another-hub")
	forgotten(1)
	h.do(func() { require.Len(t, h.revoked, 2) })
	// However a connection ends, its token is revoked.
	s.DB.Exec("delete from private.git_connections where user_id = $1", ben.ID)
	forgotten(0)
	h.do(func() { require.Len(t, h.revoked, 3) })
}

func TestWithoutAnEncryptionKeyNothingIsConnected(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	s := stack.New(t, h.settings, func(c *config.Config) { c.EncryptionKey = "" })
	anna := s.SignUp("Anna")
	anna.Do("POST", "/oauth/connect/github", nil).Problem(503, "PROVIDER_NOT_CONFIGURED")
	anna.Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	require.Equal(t, false, anna.Do("POST", "/repositories/validate-full", map[string]string{"url": "https://github.com/a/b"}).Want(200).Value("valid"))
}
