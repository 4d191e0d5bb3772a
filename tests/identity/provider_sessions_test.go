package identity

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

// Keycloak's sid names the browser's session and is the same after a sign-out; auth_time distinguishes the sign-ins.
func TestSessionsOfKeycloak(t *testing.T) {
	provider, option := withKeycloak(t)
	s := stack.New(t, option, func(c *config.Config) { c.KeycloakSecret = "" })
	now := time.Now()
	browser := func(name string) *authtest.Browser {
		claims := ssoClaims(name + "@example.nl")
		return provider.Browser(authtest.Request{Subject: name, Claims: claims})
	}
	sessions := func(id string) string {
		return testdb.Value[string](s.DB, "select string_agg(coalesce(revoked_reason, 'living'), ', ' order by created_at, authenticated_at) from private.sessions where user_id = $1", id)
	}

	t.Run("SigningInAgainBeginsANewSession", func(t *testing.T) {
		b := browser("again")
		first := s.As(b.SignIn(t, now.Add(-time.Hour)))
		id := first.Get("/auth/me").Want(200).String("id")
		first.Do("POST", "/auth/logout", nil).Want(204)
		first.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		cookie := s.As(b.SignIn(t, now))
		cookie.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		again := s.As(b.Prompt(t, now.Add(time.Second)))
		require.Equal(t, id, again.Get("/auth/me").Want(200).String("id"))
		first.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		cookie.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		require.Equal(t, "logout, living", sessions(id))

		again.Do("POST", "/auth/logout", nil).Want(204)
		again.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		s.As(b.SignIn(t, now)).Get("/auth/me").Problem(401, "SESSION_REVOKED")
		s.As(b.Prompt(t, now.Add(time.Minute))).Get("/auth/me").Want(200)
		require.Equal(t, "logout, logout, living", sessions(id))
	})
	t.Run("TokenOfAnOldSignInEndsNoNewSession", func(t *testing.T) {
		b := browser("old")
		old := s.As(b.SignIn(t, now.Add(-time.Hour)))
		old.Get("/auth/me").Want(200)
		old.Do("POST", "/auth/logout", nil).Want(204)
		again := s.As(b.Prompt(t, now.Add(time.Second)))
		again.Get("/auth/me").Want(200)
		old.Do("POST", "/auth/logout", nil).Want(204)
		again.Get("/auth/me").Want(200)
	})
	t.Run("SigningInAnewWhileTheSessionLivesIsTheSameSession", func(t *testing.T) {
		b := browser("prompt")
		first := s.As(b.SignIn(t, now.Add(-time.Hour)))
		id := first.Get("/auth/me").Want(200).String("id")
		second := s.As(b.Prompt(t, now.Add(-time.Minute)))
		second.Get("/auth/me").Want(200)
		require.Equal(t, "living", sessions(id))
		first.Do("POST", "/auth/logout", nil).Want(204)
		second.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("UnusedTokenFromBeforeTheSignOutIsRefused", func(t *testing.T) {
		b := browser("unused-before")
		first := s.As(b.SignIn(t, now.Add(-time.Hour)))
		unused := b.Prompt(t, now.Add(-time.Minute))
		first.Get("/auth/me").Want(200)
		first.Do("POST", "/auth/logout", nil).Want(204)
		s.As(unused).Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("SignOutWithinTheSecondOfTheSignIn", func(t *testing.T) {
		b := browser("quick")
		first := s.As(b.SignIn(t, time.Now()))
		first.Get("/auth/me").Want(200)
		first.Do("POST", "/auth/logout", nil).Want(204)
		s.As(b.SignIn(t, now)).Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("TokenThatSaysNoMomentIsRefusedAfterASignOut", func(t *testing.T) {
		claims := ssoClaims("grant@example.nl")
		c := s.As(provider.Token(t, authtest.Request{Subject: "grant", Claims: claims}))
		c.Get("/auth/me").Want(200)
		c.Do("POST", "/auth/logout", nil).Want(204)
		s.As(provider.Token(t, authtest.Request{Subject: "grant", Claims: claims})).Get("/auth/me").Problem(401, "SESSION_REVOKED")
		claims["auth_time"] = time.Now().Add(time.Second).Unix()
		s.As(provider.Token(t, authtest.Request{Subject: "grant", Claims: claims})).Get("/auth/me").Want(200)
	})
	t.Run("MomentFarAheadOutlivesNoRevocation", func(t *testing.T) {
		claims := ssoClaims("ahead@example.nl", "auth_time", time.Now().Add(1000*time.Hour).Unix())
		c := s.As(provider.Token(t, authtest.Request{Subject: "ahead", Claims: claims}))
		c.Get("/auth/me").Want(200)
		c.Do("POST", "/auth/logout", nil).Want(204)
		c.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		s.As(provider.Token(t, authtest.Request{Subject: "ahead", Claims: claims})).Get("/auth/me").Problem(401, "SESSION_REVOKED")
		later := authtest.Request{Subject: "ahead", Claims: claims}
		later.Claims["iat"] = time.Now().Add(10 * time.Second).Unix()
		s.As(provider.Token(t, later)).Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("RemovedMemberSignsInAgainElsewhere", func(t *testing.T) {
		ann := s.SignUp("Ann")
		b := browser("removed")
		c := s.As(b.SignIn(t, now.Add(-time.Hour)))
		me := c.Get("/auth/me").Want(200)
		s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'viewer')", ann.OrgID, me.String("id"))
		s.DB.Exec("update private.sessions set organization_id = $1 where user_id = $2", ann.OrgID, me.String("id"))
		s.DB.Exec("delete from public.memberships where organization_id = $1 and user_id = $2", ann.OrgID, me.String("id"))
		c.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		require.Equal(t, me.String("org_id"), s.As(b.Prompt(t, now.Add(time.Minute))).Get("/auth/me").Want(200).String("org_id"))
	})
	t.Run("TwentyFirstUsesOfASecondSignInAreOneSession", func(t *testing.T) {
		b := browser("crowd2")
		first := s.As(b.SignIn(t, now.Add(-time.Hour)))
		id := first.Get("/auth/me").Want(200).String("id")
		first.Do("POST", "/auth/logout", nil).Want(204)
		tokens := make([]string, 20)
		for i := range tokens {
			tokens[i] = b.Prompt(t, now.Add(time.Minute))
		}
		parallel(t, 20, func(n int) error {
			_, err := s.As(tokens[n]).Try("GET", "/auth/me", nil)
			return err
		})
		require.Equal(t, "logout, living", sessions(id))
	})
}

func TestSigningOutEndsTheSessionAtKeycloak(t *testing.T) {
	provider, option := withKeycloak(t)
	s := stack.New(t, option)
	ann := s.SignUp("Ann")
	signedIn := func(name string) (*authtest.Browser, *client.Client, string) {
		b := provider.Browser(authtest.Request{Subject: name, Claims: ssoClaims(name + "@example.nl")})
		c := s.As(b.SignIn(t, time.Now().Add(-time.Hour)))
		return b, c, c.Get("/auth/me").Want(200).String("id")
	}
	jobs := func() int {
		return testdb.Value[int](s.DB, "select count(*) from jobs.gue_jobs where job_type = 'sessions.end'")
	}

	t.Run("AtOnceAndWithoutAWorker", func(t *testing.T) {
		b, c, _ := signedIn("out")
		c.Do("POST", "/auth/logout", nil).Want(204)
		require.False(t, b.HasSession())
		s.As(b.SignIn(t, time.Now().Add(-time.Minute))).Get("/auth/me").Want(200)
	})
	t.Run("UnusedTokenToo", func(t *testing.T) {
		b := provider.Browser(authtest.Request{Subject: "fresh", Claims: ssoClaims("fresh@example.nl")})
		s.As(b.SignIn(t, time.Now())).Do("POST", "/auth/logout", nil).Want(204)
		require.False(t, b.HasSession())
	})
	t.Run("TokenOfAnOldSignInEndsNoNewSession", func(t *testing.T) {
		b, c, _ := signedIn("kept")
		s.DB.Exec("update private.sessions set revoked_at = now() - interval '1 minute' where external_key = $1", b.SessionID())
		again := s.As(b.Prompt(t, time.Now()))
		again.Get("/auth/me").Want(200)
		c.Do("POST", "/auth/logout", nil).Want(204)
		require.True(t, b.HasSession())
		again.Get("/auth/me").Want(200)
	})

	b, c, id := signedIn("away")
	provider.Down()
	c.Do("POST", "/auth/logout", nil).Want(204)
	require.True(t, b.HasSession(), "the provider is away")
	c.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	provider.Up()
	removed, removedClient, removedID := signedIn("removed")
	s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'viewer')", ann.OrgID, removedID)
	s.DB.Exec("update private.sessions set organization_id = $1 where user_id = $2", ann.OrgID, removedID)
	s.DB.Exec("update public.memberships set status = 'inactive' where organization_id = $1 and user_id = $2", ann.OrgID, removedID)
	removedClient.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	returned, _, returnedID := signedIn("returned")
	s.DB.Exec("update private.sessions set revoked_at = now() where user_id = $1", returnedID)
	s.As(returned.Prompt(t, time.Now().Add(time.Second))).Get("/auth/me").Want(200)
	require.NotZero(t, jobs())
	worker.Start(t, s)
	stack.Eventually(t, "the jobs are done", func() bool { return jobs() == 0 })
	require.False(t, b.HasSession(), "a job ended it later")
	require.False(t, removed.HasSession(), "a deactivation ends it as well")
	require.True(t, returned.HasSession(), "whoever signed in again meanwhile keeps the new session")
	require.Equal(t, 0, testdb.Value[int](s.DB, "select count(*) from jobs.dead_letters"))
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.sessions where user_id = $1", id))
}
