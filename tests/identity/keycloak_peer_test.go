//go:build peers

package identity

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

// Sign-in against a real Keycloak, which starts once for all subtests.
func TestSignInThroughKeycloak(t *testing.T) {
	k := peers.NewKeycloak(t, "http://kijko.test")
	t.Logf("Keycloak %s", k.Version(t))
	s := stack.New(t, func(c *config.Config) {
		c.KeycloakURL, c.KeycloakSecret, c.Google, c.GitHubSignIn = k.URL, k.Secret, true, true
	})
	worker.Start(t, s)
	const password = "Correct-Horse-7"
	finish := func(back url.Values) client.Response {
		return s.Do("POST", "/auth/oauth/callback", fields{"code": back.Get("code"), "state": back.Get("state"), "redirect_uri": callback})
	}
	// The broker of the realm is off, so Keycloak's own page is shown: a person of the realm signs in by password.
	start := func(t *testing.T) string { return s.In(t).Get("/auth/oauth/github").Want(200).String("redirect_url") }
	signIn := func(t *testing.T, b *peers.KeycloakBrowser, email string) client.Response {
		return finish(b.SignIn(t, start(t), callback, email, password))
	}
	attribute := func(t *testing.T, id string, want []string) {
		t.Helper()
		var last []string
		require.Eventually(t, func() bool {
			last = k.User(t, id).Attributes["org_id"]
			return len(last) == len(want) && (len(want) == 0 || last[0] == want[0])
		}, time.Minute, 50*time.Millisecond, "%v is not %v", last, want)
	}

	kim := k.AddUser(t, "kim@example.nl", password, true)
	browser := k.Browser(t)
	var me client.Response

	t.Run("TheCodeFlowWithPKCEMakesAnAccount", func(t *testing.T) {
		answer := signIn(t, browser, "kim@example.nl").Want(200)
		require.NotNil(t, answer.Cookie("kijko_session"))
		require.Equal(t, 1, browser.Forms)
		me = s.As(answer.Tokens().AccessToken).Get("/auth/me").Want(200)
		require.Equal(t, []any{"kim@example.nl", "Kim", true}, []any{me.String("email"), me.String("first_name"), me.Value("email_verified")})
	})
	t.Run("TheOrganizationIsWrittenBackAndNothingElse", func(t *testing.T) {
		attribute(t, kim, []string{me.String("org_id")})
		user := k.User(t, kim)
		require.Equal(t, peers.KeycloakUser{Email: "kim@example.nl", FirstName: "Kim", LastName: "Berg", EmailVerified: true, Attributes: user.Attributes}, user)
		theirs := s.As(k.PasswordGrant(t, "kim@example.nl", password)).Get("/auth/me").Want(200)
		require.Equal(t, me.String("org_id"), theirs.String("org_id"), "a token of Keycloak's own carries it")
		require.Equal(t, me.String("id"), theirs.String("id"))
	})
	t.Run("ManyRefreshesAtOnceAreAllGood", func(t *testing.T) {
		tokens := signIn(t, browser, "kim@example.nl").Want(200).Tokens()
		require.Equal(t, map[int]int{200: 12}, crowd(t, 12, func() (client.Response, error) {
			r, err := s.Try("POST", "/auth/refresh", fields{"refresh_token": tokens.RefreshToken})
			if err != nil || r.Status != 200 {
				return r, err
			}
			return s.As(r.Tokens().AccessToken).Try("GET", "/auth/me", nil)
		}))
	})
	t.Run("ACodeIsGoodOnceAndForItsOwnVerifier", func(t *testing.T) {
		back := browser.SignIn(t, start(t), callback, "kim@example.nl", password)
		finish(back).Want(200)
		other := browser.SignIn(t, start(t), callback, "kim@example.nl", password)
		finish(url.Values{"code": back["code"], "state": other["state"]}).Problem(401, "INVALID_AUTHORIZATION_CODE")
		first, second := browser.SignIn(t, start(t), callback, "kim@example.nl", password), browser.SignIn(t, start(t), callback, "kim@example.nl", password)
		finish(url.Values{"code": first["code"], "state": second["state"]}).Problem(401, "INVALID_AUTHORIZATION_CODE")
		require.Equal(t, 1, browser.Forms, "the cookie of the first sign-in served for all of them")
	})
	t.Run("SigningOutEndsItThereAndTheNextSignInAsksAgain", func(t *testing.T) {
		leaver := k.AddUser(t, "leaver@example.nl", password, true)
		b := k.Browser(t)
		signedIn := s.As(signIn(t, b, "leaver@example.nl").Want(200).Tokens().AccessToken)
		require.Equal(t, 1, k.Sessions(t, leaver))
		signedIn.Do("POST", "/auth/logout", nil).Want(204)
		require.Zero(t, k.Sessions(t, leaver))
		signedIn.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		again := s.As(signIn(t, b, "leaver@example.nl").Want(200).Tokens().AccessToken)
		require.Equal(t, 2, b.Forms)
		again.Get("/auth/me").Want(200)
	})
	t.Run("AVerifiedAddressLinksToTheAccount", func(t *testing.T) {
		ann := s.SignUp("Ann")
		s.DB.Exec("update public.users set email_verified_at = now() where id = $1", ann.ID)
		k.AddUser(t, ann.Email, password, true)
		linked := s.As(signIn(t, k.Browser(t), ann.Email).Want(200).Tokens().AccessToken)
		require.Equal(t, ann.ID, linked.Get("/auth/me").Want(200).String("id"))
		s.Do("POST", "/auth/login", fields{"email": ann.Email, "password": ann.Password}).Want(200)
	})
	t.Run("AnUnverifiedAddressOpensNothing", func(t *testing.T) {
		k.AddUser(t, "unproven@example.nl", password, false)
		signIn(t, k.Browser(t), "unproven@example.nl").Problem(403, "EMAIL_NOT_VERIFIED")
		require.Zero(t, testdb.Value[int](s.DB, "select count(*) from public.users where email = 'unproven@example.nl'"))
	})
	t.Run("TheOrganizationFollowsSwitchesAndRemovals", func(t *testing.T) {
		bea := s.SignUp("Bea")
		s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'member')", bea.OrgID, me.String("id"))
		ours := s.As(signIn(t, browser, "kim@example.nl").Want(200).Tokens().AccessToken)
		ours.Do("POST", "/auth/switch-org", fields{"org_id": bea.OrgID}).Want(200)
		attribute(t, kim, []string{bea.OrgID})
		theirs := s.As(k.PasswordGrant(t, "kim@example.nl", password))
		require.Equal(t, bea.OrgID, theirs.Get("/auth/me").Want(200).String("org_id"))
		s.DB.Exec("delete from public.memberships where organization_id = $1 and user_id = $2", bea.OrgID, me.String("id"))
		attribute(t, kim, []string{me.String("org_id")})
		require.Equal(t, me.String("org_id"), s.As(k.PasswordGrant(t, "kim@example.nl", password)).Get("/auth/me").Want(200).String("org_id"))
		s.DB.Exec("delete from public.organizations where id = $1", me.String("org_id"))
		attribute(t, kim, nil)
		require.Equal(t, "Kim", k.User(t, kim).FirstName)
	})
	t.Run("ABrokerLeadsToAnotherProvider", func(t *testing.T) {
		k.Broker(t, "up@example.nl", password)
		b := k.Browser(t)
		back := b.SignIn(t, s.In(t).Get("/auth/oauth/google").Want(200).String("redirect_url"), callback, "up", password)
		up := s.As(finish(back).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200)
		require.Equal(t, []any{"up@example.nl", "Up", "Stream", true}, []any{up.String("email"), up.String("first_name"), up.String("last_name"), up.Value("email_verified")})
	})
	t.Run("APersonWhoGivesUpComesBackWithoutACode", func(t *testing.T) {
		back := k.Browser(t).SignIn(t, start(t)+"&prompt=none", callback, "", "")
		require.Equal(t, "login_required", back.Get("error"))
		require.NotEmpty(t, back.Get("state"))
	})
}
