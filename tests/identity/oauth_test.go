package identity

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

const callback = "http://kijko.test/auth/callback"

// keycloakLab is a stack whose people may sign in with Google through a double of Keycloak.
type keycloakLab struct {
	*stack.Stack
	t        *testing.T
	provider *authtest.Provider
}

func newKeycloakLab(t *testing.T, options ...stack.Option) *keycloakLab {
	t.Helper()
	provider := authtest.New(t)
	s := stack.New(t, append([]stack.Option{func(c *config.Config) {
		c.KeycloakURL, c.KeycloakSecret, c.Google = provider.URL, authtest.ClientSecret, true
	}}, options...)...)
	return &keycloakLab{s, t, provider}
}

// as is a person's account at Google as Keycloak reports it.
func as(name string, changes ...any) authtest.Request {
	claims := map[string]any{"email": name + "@example.nl", "email_verified": true, "given_name": "Kim", "family_name": "Berg", "sid": uuid.NewString()}
	for i := 0; i < len(changes); i += 2 {
		claims[changes[i].(string)] = changes[i+1]
	}
	return authtest.Request{Subject: name, Claims: claims}
}

// start begins a sign-in and follows it through the provider's pages.
func (l *keycloakLab) start(who authtest.Request) (code, state string) {
	l.t.Helper()
	return l.provider.Follow(l.t, l.Get("/auth/oauth/google").Want(200).String("redirect_url"), who)
}

func (l *keycloakLab) finish(code, state string) client.Response {
	l.t.Helper()
	return l.Do("POST", "/auth/oauth/callback", fields{"code": code, "state": state, "redirect_uri": callback})
}

func (l *keycloakLab) signIn(who authtest.Request) client.Response {
	l.t.Helper()
	return l.finish(l.start(who))
}

func TestSignInWithAProvider(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)

	t.Run("ANewPersonGetsAnAccountAndAnOrganization", func(t *testing.T) {
		answer := l.signIn(as("kim")).Want(200)
		require.NotNil(t, answer.Cookie("kijko_session"))
		kim := l.As(answer.Tokens().AccessToken)
		me := kim.Get("/auth/me").Want(200)
		require.Equal(t, []any{"kim@example.nl", "Kim", true}, []any{me.String("email"), me.String("first_name"), me.Value("email_verified")})
		require.Equal(t, []any{"owner"}, me.Value("roles"))
		require.Equal(t, "sso success", testdb.Value[string](l.DB, "select string_agg(method || ' ' || status, ',') from private.login_history where user_id = $1", me.String("id")))
		fresh := l.Do("POST", "/auth/refresh", fields{"refresh_token": answer.Tokens().RefreshToken}).Want(200)
		require.NotNil(t, fresh.Cookie("kijko_session"))
		l.As(fresh.Tokens().AccessToken).Get("/auth/me").Want(200)
		again := l.As(l.signIn(as("kim", "email", "other@example.nl")).Want(200).Tokens().AccessToken)
		require.Equal(t, me.String("id"), again.Get("/auth/me").Want(200).String("id"), "the subject is the person, whatever the address")
	})
	t.Run("AVerifiedAddressLinksToTheAccount", func(t *testing.T) {
		ann := l.SignUp("Ann")
		l.DB.Exec("update public.users set email_verified_at = now() where id = $1", ann.ID)
		linked := l.As(l.signIn(as("ann", "email", ann.Email)).Want(200).Tokens().AccessToken)
		require.Equal(t, ann.ID, linked.Get("/auth/me").Want(200).String("id"))
		ann.Get("/auth/me").Want(200)
		l.Do("POST", "/auth/login", fields{"email": ann.Email, "password": ann.Password}).Want(200)
		require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from public.audit_log where user_id = $1 and event_type = 'user.profile_updated'", ann.ID))
	})
	t.Run("AnAddressThatTheProviderHasNotVerifiedOpensNothing", func(t *testing.T) {
		ann := l.SignUp("Ann")
		l.signIn(as("thief", "email", ann.Email, "email_verified", false)).Problem(403, "EMAIL_NOT_VERIFIED")
		l.signIn(as("unproven", "email_verified", false)).Problem(403, "EMAIL_NOT_VERIFIED")
		l.signIn(as("nameless", "email", "")).Problem(403, "EMAIL_NOT_VERIFIED")
		require.Zero(t, testdb.Value[int](l.DB, "select count(*) from private.identities where subject in ('thief', 'unproven', 'nameless')"), "nothing half-made")
		require.Zero(t, testdb.Value[int](l.DB, "select count(*) from public.users where email = 'unproven@example.nl'"))
	})
	t.Run("TheSecondFactorIsAskedFor", func(t *testing.T) {
		id := l.As(l.signIn(as("careful")).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200).String("id")
		l.DB.Exec("update public.users set two_factor_enabled_at = now() where id = $1", id)
		l.signIn(as("careful")).Problem(401, "TWO_FACTOR_REQUIRED")
	})
	t.Run("AnInactiveMemberIsToldSo", func(t *testing.T) {
		ann := l.SignUp("Ann")
		me := l.As(l.signIn(as("inactive")).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200)
		l.DB.Exec("insert into public.memberships (organization_id, user_id, role, status) values ($1, $2, 'viewer', 'inactive')", ann.OrgID, me.String("id"))
		l.DB.Exec("delete from public.organizations where id = $1", me.String("org_id"))
		l.signIn(as("inactive")).Problem(403, "MEMBERSHIP_INACTIVE")
	})
	t.Run("ManyFirstSignInsAreOnePerson", func(t *testing.T) {
		codes := make(chan [2]string, 8)
		for range cap(codes) {
			code, state := l.start(as("crowd"))
			codes <- [2]string{code, state}
		}
		require.Equal(t, map[int]int{200: 8}, crowd(t, 8, func() (client.Response, error) {
			one := <-codes
			return l.Try("POST", "/auth/oauth/callback", fields{"code": one[0], "state": one[1], "redirect_uri": callback})
		}))
		require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from private.identities where subject = 'crowd'"))
	})
	t.Run("TwiceUnderOneKeyIsOneSignIn", func(t *testing.T) {
		code, state := l.start(as("twice"))
		keyed := l.In(t).With("Idempotency-Key", "one")
		body := fields{"code": code, "state": state, "redirect_uri": callback}
		first, second := keyed.Do("POST", "/auth/oauth/callback", body).Want(200), keyed.Do("POST", "/auth/oauth/callback", body).Want(200)
		require.Equal(t, first.Tokens(), second.Tokens())
		require.Equal(t, "true", second.Header.Get("Idempotency-Replayed"))
		body["code"] = "another"
		keyed.Do("POST", "/auth/oauth/callback", body).Problem(409, "IDEMPOTENCY_CONFLICT")
	})
	t.Run("WhatIsStoredOpensNothing", func(t *testing.T) {
		_, state := l.start(as("stored"))
		require.Zero(t, testdb.Value[int](l.DB, "select count(*) from private.oauth_states s where to_jsonb(s)::text like '%' || $1 || '%'", state))
	})
	t.Run("SigningOutEndsTheSessionThereToo", func(t *testing.T) {
		who := as("leaver")
		leaver := l.As(l.signIn(who).Want(200).Tokens().AccessToken)
		sid := who.Claims["sid"].(string)
		require.True(t, l.provider.HasSession(sid))
		leaver.Do("POST", "/auth/logout", nil).Want(204)
		require.False(t, l.provider.HasSession(sid), "so that its cookie signs no one in again")
		l.As(l.signIn(as("leaver")).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200)
	})
}

func TestSignInWithAProviderRefusals(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	for _, test := range []struct {
		what, path, code string
		status           int
		field            string
	}{
		{"another provider", "/auth/oauth/gitlab", "UNSUPPORTED_PROVIDER", 400, "provider"},
		{"one in other letters", "/auth/oauth/Google", "UNSUPPORTED_PROVIDER", 400, "provider"},
		{"one that is off, which Keycloak would not tell", "/auth/oauth/github", "PROVIDER_NOT_CONFIGURED", 503, ""},
		{"an address of another site", "/auth/oauth/google?redirect_uri=" + url.QueryEscape("https://evil.example/auth/callback"), "INVALID_REDIRECT_URI", 400, "redirect_uri"},
		{"one that looks like ours", "/auth/oauth/google?redirect_uri=" + url.QueryEscape("http://kijko.test@evil.example/"), "INVALID_REDIRECT_URI", 400, "redirect_uri"},
		{"one that a browser reads as another's", "/auth/oauth/google?redirect_uri=" + url.QueryEscape(`http://evil.example\@kijko.test/`), "INVALID_REDIRECT_URI", 400, "redirect_uri"},
		{"a script", "/auth/oauth/google?redirect_uri=javascript:alert(1)", "INVALID_REDIRECT_URI", 400, "redirect_uri"},
		{"no address", "/auth/oauth/google?redirect_uri=callback", "INVALID_REDIRECT_URI", 400, "redirect_uri"},
		{"an address with a fragment", "/auth/oauth/google?redirect_uri=" + url.QueryEscape(callback+"#x"), "INVALID_REDIRECT_URI", 400, "redirect_uri"},
	} {
		t.Run(test.what, func(t *testing.T) { l.In(t).Get(test.path).Problem(test.status, test.code).Field(test.field) })
	}
	t.Run("APageOfAnAllowedOriginIsComeBackTo", func(t *testing.T) {
		back := "https://app.kijko.nl/auth/callback"
		start := l.Get("/auth/oauth/google?redirect_uri=" + url.QueryEscape(back)).Want(200).String("redirect_url")
		require.Contains(t, start, "redirect_uri="+url.QueryEscape(back))
		require.Contains(t, start, "kc_idp_hint=google")
		code, state := l.provider.Follow(t, start, as("app"))
		l.Do("POST", "/auth/oauth/callback", fields{"code": code, "state": state, "redirect_uri": back}).Want(200)
	})
	t.Run("AStateIsGoodOnce", func(t *testing.T) {
		code, state := l.start(as("once"))
		l.finish(code, state).Want(200)
		other, _ := l.start(as("once"))
		l.finish(other, state).Problem(400, "INVALID_STATE").Field("state")
	})
	t.Run("AnInventedState", func(t *testing.T) {
		code, state := l.start(as("unknown"))
		l.finish(code, strings.Repeat("x", 43)).Problem(400, "INVALID_STATE").Field("state")
		l.finish(code, state).Want(200)
	})
	t.Run("AStateIsGoodForTenMinutes", func(t *testing.T) {
		code, state := l.start(as("slow"))
		l.DB.Exec("update private.oauth_states set expires_at = now()")
		l.finish(code, state).Problem(400, "INVALID_STATE")
	})
	t.Run("TheAddressIsTheOneItBeganWith", func(t *testing.T) {
		code, state := l.start(as("moved"))
		l.Do("POST", "/auth/oauth/callback", fields{"code": code, "state": state, "redirect_uri": "https://app.kijko.nl/auth/callback"}).
			Problem(400, "INVALID_REDIRECT_URI").Field("redirect_uri")
	})
	t.Run("ACodeOfAnotherSignIn", func(t *testing.T) {
		stolen, _ := l.start(as("victim"))
		_, state := l.start(as("attacker"))
		l.finish(stolen, state).Problem(401, "INVALID_AUTHORIZATION_CODE").Field("code")
	})
	t.Run("AnInventedCode", func(t *testing.T) {
		_, state := l.start(as("odd"))
		l.finish("no-code", state).Problem(401, "INVALID_AUTHORIZATION_CODE")
	})
	for _, name := range []string{"code", "state", "redirect_uri"} {
		body := fields{"code": "x", "state": "x", "redirect_uri": callback}
		delete(body, name)
		l.Do("POST", "/auth/oauth/callback", body).Problem(400, "VALIDATION_ERROR").Field(name)
	}
	require.Zero(t, testdb.Value[int](l.DB, "select count(*) from public.users where email in ('slow@example.nl', 'moved@example.nl', 'victim@example.nl', 'attacker@example.nl')"),
		"who was refused has no account")
}

func TestProviderInTroubleHalfMakesNothing(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	for _, test := range []struct {
		what, contentType, body string
		status                  int
	}{
		{"a page of a proxy, with 502", "text/html", "<html>Bad gateway</html>", 502},
		{"a page with 200", "text/html", "<html>Sign in</html>", 200},
		{"broken JSON", "application/json", `{"access_token": "x`, 200},
		{"no token", "application/json", `{}`, 200},
		{"a token that it did not sign", "application/json", `{"access_token": "a.b.c", "token_type": "Bearer"}`, 200},
		{"our secret is wrong", "application/json", `{"error": "unauthorized_client"}`, 401},
		{"too many requests", "application/json", `{"error": "slow_down"}`, 429},
		{"a fault of its own", "application/json", `{"error": "unknown_error"}`, 500},
	} {
		t.Run(test.what, func(t *testing.T) {
			code, state := l.start(as("kim"))
			l.provider.AnswerExchanges(test.status, test.contentType, test.body)
			defer l.provider.AnswerExchanges(0, "", "")
			refused := l.finish(code, state).Problem(503, "AUTH_UNAVAILABLE")
			require.NotEmpty(t, refused.Header.Get("Retry-After"))
		})
	}
	t.Run("it is down", func(t *testing.T) {
		code, state := l.start(as("kim"))
		l.provider.Down()
		defer l.provider.Up()
		l.finish(code, state).Problem(503, "AUTH_UNAVAILABLE")
	})
	t.Run("it does not answer", func(t *testing.T) {
		code, state := l.start(as("kim"))
		l.provider.Hang()
		defer l.provider.Up()
		began := time.Now()
		l.finish(code, state).Problem(503, "AUTH_UNAVAILABLE")
		require.Less(t, time.Since(began), 15*time.Second)
	})
	require.Zero(t, testdb.Value[int](l.DB, "select (select count(*) from private.identities) + (select count(*) from private.sessions)"))
	l.signIn(as("kim")).Want(200)
}

func TestSignInWithAProviderWhereThereIsNone(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	require.Equal(t, "google", s.Get("/auth/oauth/google").Problem(503, "PROVIDER_NOT_CONFIGURED").String("details.provider"))
	s.Get("/auth/oauth/gitlab").Problem(400, "UNSUPPORTED_PROVIDER")
	s.Do("POST", "/auth/oauth/callback", fields{"code": "x", "state": "x", "redirect_uri": callback}).Problem(503, "PROVIDER_NOT_CONFIGURED")
}

// Tokens of Keycloak carry the organization of a person from an attribute at Keycloak, which follows the changes made here.
func TestTheOrganizationIsKnownAtKeycloak(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	worker.Start(t, l.Stack)
	attribute := func() any {
		attributes, _ := l.provider.User("kim")["attributes"].(map[string]any)
		return attributes["org_id"]
	}
	becomes := func(want any, why string) {
		t.Helper()
		require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, attribute()) }, 20*time.Second, 20*time.Millisecond, "%s: %v", why, want)
	}
	me := l.As(l.signIn(as("kim")).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200)
	own := me.String("org_id")
	becomes([]any{own}, "a new account's")
	user := l.provider.User("kim")
	require.Equal(t, []any{"Kim", "Berg", true, "kim@example.nl"}, []any{user["firstName"], user["lastName"], user["emailVerified"], user["email"]}, "all else stays")
	require.Equal(t, []any{"nl"}, user["attributes"].(map[string]any)["locale"])
	require.Equal(t, float64(1764500000123), user["createdTimestamp"])

	ann := l.SignUp("Ann")
	l.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", ann.OrgID, me.String("id"))
	tokens := l.signIn(as("kim")).Want(200).Tokens()
	there := l.As(l.As(tokens.AccessToken).Do("POST", "/auth/switch-org", fields{"org_id": ann.OrgID}).Want(200).Tokens().AccessToken)
	becomes([]any{ann.OrgID}, "the one switched to")
	require.Equal(t, ann.OrgID, l.As(l.signIn(as("kim")).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200).String("org_id"), "later tokens lead there")

	l.DB.Exec("delete from public.memberships where organization_id = $1 and user_id = $2", ann.OrgID, me.String("id"))
	there.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	becomes([]any{own}, "removed there, the default one's")
	l.As(l.signIn(as("kim")).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200)

	l.DB.Exec("delete from public.organizations where id = $1", own)
	becomes(nil, "without any membership it is cleared")
	fresh := l.As(l.signIn(as("kim")).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200)
	require.NotEqual(t, own, fresh.String("org_id"), "who is in no organization gets a personal one")
	becomes([]any{fresh.String("org_id")}, "which is told in turn")
}

// Switching continues the same sign-in, so the session at Keycloak lives until the last one here has ended.
func TestSwitchingKeepsTheSessionAtKeycloak(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	worker.Start(t, l.Stack)
	who := as("kim")
	kim := l.As(l.signIn(who).Want(200).Tokens().AccessToken)
	ann := l.SignUp("Ann")
	l.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", ann.OrgID, kim.Get("/auth/me").Want(200).String("id"))
	there := l.As(kim.Do("POST", "/auth/switch-org", fields{"org_id": ann.OrgID}).Want(200).Tokens().AccessToken)
	require.Eventually(t, func() bool {
		return testdb.Value[int](l.DB, "select count(*) from jobs.gue_jobs") == 0
	}, 20*time.Second, 20*time.Millisecond)
	require.True(t, l.provider.HasSession(who.Claims["sid"].(string)))
	l.DB.Exec("update private.sessions set revoked_at = now(), revoked_reason = 'terminated' where user_id = (select user_id from private.identities where subject = 'kim') and revoked_at is null")
	there.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	require.Eventually(t, func() bool { return !l.provider.HasSession(who.Claims["sid"].(string)) }, 20*time.Second, 20*time.Millisecond,
		"when the last one here ends, the job ends it there")
}

func TestOAuthRateLimits(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t, stack.RealRates)
	refused := map[string]int{}
	for range 8 {
		from := l.With("X-Forwarded-For", "203.0.113.7")
		if r := from.Get("/auth/oauth/google"); r.Status == 429 {
			r.Problem(429, "RATE_LIMITED")
			refused["start"]++
		}
		if r := from.Do("POST", "/auth/oauth/callback", fields{"code": "x", "state": "x", "redirect_uri": callback}); r.Status == 429 {
			refused["callback"]++
		}
	}
	require.Positive(t, refused["start"])
	require.Positive(t, refused["callback"])
}

// The cookie is set by sign-in and opens none of the routes that need a token.
func TestTheCookieOpensNoOtherRoute(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	ann := s.SignUp("Ann")
	cookie := s.Do("POST", "/auth/login", fields{"email": ann.Email, "password": ann.Password}).Want(200).Cookie("kijko_session")
	for _, path := range []string{"/auth/me", "/projects", "/notifications", "/auth/organizations"} {
		s.With("Cookie", "kijko_session="+cookie.Value).Get(path).Problem(401, "UNAUTHENTICATED")
	}
}
