package identity

import (
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// withKeycloak starts a double of Keycloak that is a real OpenID Connect provider, and servers that accept its tokens.
func withKeycloak(t *testing.T) (*authtest.Provider, stack.Option) {
	provider := authtest.New(t)
	return provider, func(c *config.Config) { c.KeycloakURL, c.KeycloakSecret = provider.URL, authtest.ClientSecret }
}

func ssoClaims(email string, changes ...any) map[string]any {
	claims := map[string]any{"email": email, "email_verified": true, "given_name": "Kim", "family_name": "Berg", "sid": uuid.NewString()}
	for i := 0; i < len(changes); i += 2 {
		claims[changes[i].(string)] = changes[i+1]
	}
	return claims
}

func TestKeycloak(t *testing.T) {
	provider, option := withKeycloak(t)
	s := stack.New(t, option)
	token := func(subject string, claims map[string]any) *client.Client {
		return s.As(provider.Token(t, authtest.Request{Subject: subject, Claims: claims}))
	}

	t.Run("UnknownPersonGetsAnAccountAndAnOrganization", func(t *testing.T) {
		kim := token("kim", ssoClaims("Kim@Example.nl"))
		me := kim.Get("/auth/me").Want(200)
		require.Equal(t, "kim@example.nl", me.String("email"))
		require.Equal(t, "Kim", me.String("first_name"))
		require.Equal(t, true, me.Value("email_verified"))
		require.Equal(t, []any{"owner"}, me.Value("roles"))
		require.Equal(t, "sso success", testdb.Value[string](s.DB, "select string_agg(method || ' ' || status, ',') from private.login_history where user_id = $1", me.String("id")))
		require.Equal(t, "127.0.0.1 Go-http-client", testdb.Value[string](s.DB, "select client_ip || ' ' || (device ->> 'browser') from private.login_history where user_id = $1", me.String("id")))
		require.Equal(t, "Kim Berg's workspace", client.JSON[[]client.Object](kim.Get("/auth/organizations").Want(200))[0]["name"])
	})
	t.Run("KnownSubjectIsTheSamePersonUnderAnotherAddress", func(t *testing.T) {
		first := token("moves", ssoClaims("old@example.nl")).Get("/auth/me").Want(200).String("id")
		require.Equal(t, first, token("moves", ssoClaims("new@example.nl")).Get("/auth/me").Want(200).String("id"))
	})
	t.Run("VerifiedAddressLinksToTheAccount", func(t *testing.T) {
		ann := s.SignUp("Ann")
		s.DB.Exec("update public.users set email_verified_at = now() where id = $1", ann.ID)
		require.Equal(t, ann.ID, token("ann", ssoClaims(ann.Email)).Get("/auth/me").Want(200).String("id"))
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.audit_log where user_id = $1 and event_type = 'user.profile_updated'", ann.ID))
		ann.Get("/auth/me").Want(200)
		s.Do("POST", "/auth/login", client.Object{"email": ann.Email, "password": ann.Password}).Want(200)
	})
	t.Run("WhoRegisteredAnotherPersonsAddressIsShutOut", func(t *testing.T) {
		squatter := s.SignUp("Squatter")
		owner := token("rightful", ssoClaims(squatter.Email))
		owner.Get("/auth/me").Want(200)
		squatter.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		s.Do("POST", "/auth/refresh", client.Object{"refresh_token": squatter.RefreshToken}).Problem(401, "INVALID_REFRESH_TOKEN")
		s.Do("POST", "/auth/login", client.Object{"email": squatter.Email, "password": squatter.Password}).Problem(401, "INVALID_CREDENTIALS")
	})
	t.Run("UnverifiedAddressOpensNobodysAccount", func(t *testing.T) {
		ann := s.SignUp("Ann")
		token("thief", ssoClaims(ann.Email, "email_verified", false)).Get("/auth/me").Problem(403, "EMAIL_NOT_VERIFIED")
	})
	t.Run("NoAddressMakesNoAccount", func(t *testing.T) {
		token("nameless", ssoClaims("")).Get("/auth/me").Problem(403, "EMAIL_NOT_VERIFIED")
	})
	t.Run("TwentyFirstUsesAtOnceAreOnePerson", func(t *testing.T) {
		crowd := token("crowd", ssoClaims("crowd@example.nl"))
		var mu sync.Mutex
		ids := map[string]bool{}
		parallel(t, 20, func(int) error {
			r, err := crowd.Try("GET", "/auth/me", nil)
			mu.Lock()
			defer mu.Unlock()
			ids[string(r.Body)] = true
			return err
		})
		require.Len(t, ids, 1)
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.login_history h join public.users u on u.id = h.user_id where u.email = 'crowd@example.nl'"))
	})
	t.Run("HintOfAForeignOrganizationIsRefused", func(t *testing.T) {
		ann := s.SignUp("Ann")
		token("hint", ssoClaims("hint@example.nl", "org_id", ann.OrgID)).Get("/auth/me").Problem(403, "ORG_REQUIRED")
		token("hint2", ssoClaims("hint2@example.nl", "org_id", "no uuid")).Get("/auth/me").Problem(403, "ORG_REQUIRED")
	})
	t.Run("HintSelectsAmongOnesOwn", func(t *testing.T) {
		ann := s.SignUp("Ann")
		bob := token("bob", ssoClaims("bob.kc@example.nl")).Get("/auth/me").Want(200)
		s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'viewer')", ann.OrgID, bob.String("id"))
		there := token("bob", ssoClaims("bob.kc@example.nl", "org_id", ann.OrgID))
		require.Equal(t, ann.OrgID, there.Get("/auth/me").Want(200).String("org_id"))
		s.DB.Exec("delete from public.memberships where organization_id = $1 and user_id = $2", ann.OrgID, bob.String("id"))
		there.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("LogOutEndsTheSessionAndNotTheNextOne", func(t *testing.T) {
		first := token("out", ssoClaims("out@example.nl"))
		first.Get("/auth/me").Want(200)
		first.Do("POST", "/auth/logout", nil).Want(204)
		first.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		token("out", ssoClaims("out@example.nl")).Get("/auth/me").Want(200)
	})
	t.Run("LogOutAsFirstUseEndsTheToken", func(t *testing.T) {
		unused := token("unused", ssoClaims("unused@example.nl"))
		unused.Do("POST", "/auth/logout", nil).Want(204)
		unused.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("SessionOfAnotherSubjectIsRefused", func(t *testing.T) {
		sid := uuid.NewString()
		token("one", ssoClaims("one@example.nl", "sid", sid)).Get("/auth/me").Want(200)
		token("two", ssoClaims("two@example.nl", "sid", sid)).Get("/auth/me").Problem(401, "UNAUTHENTICATED")
	})
	t.Run("TokenWithoutSessionIsItsOwn", func(t *testing.T) {
		claims := ssoClaims("nosid@example.nl")
		delete(claims, "sid")
		c := token("nosid", claims)
		c.Get("/auth/me").Want(200)
		c.Do("POST", "/auth/logout", nil).Want(204)
		c.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("PlatformAdminIsTheOnlyRoleThatCounts", func(t *testing.T) {
		staff := token("staff", ssoClaims("staff@example.nl", "realm_access", client.Object{"roles": []string{"platform_admin", "owner", "offline_access"}}))
		require.Equal(t, []any{"owner", "platform_admin"}, staff.Get("/auth/me").Want(200).Value("roles"))
		plain := token("plain", ssoClaims("plain@example.nl", "realm_access", client.Object{"roles": []string{"admin"}}, "platform_admin", true))
		require.Equal(t, []any{"owner"}, plain.Get("/auth/me").Want(200).Value("roles"))
	})
	t.Run("InactiveMemberIsToldSo", func(t *testing.T) {
		ann := s.SignUp("Ann")
		id := token("inactive", ssoClaims("inactive@example.nl")).Get("/auth/me").Want(200)
		s.DB.Exec("delete from public.organizations where id = $1", id.String("org_id"))
		s.DB.Exec("insert into public.memberships (organization_id, user_id, role, status) values ($1, $2, 'viewer', 'inactive')", ann.OrgID, id.String("id"))
		token("inactive", ssoClaims("inactive@example.nl")).Get("/auth/me").Problem(403, "MEMBERSHIP_INACTIVE")
	})
	t.Run("SwitchingLeavesTheProvidersSessionForOneOfOurs", func(t *testing.T) {
		ann := s.SignUp("Ann")
		c := token("switch", ssoClaims("switch@example.nl"))
		s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, 'viewer')", ann.OrgID, c.Get("/auth/me").Want(200).String("id"))
		ours := s.As(c.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200).Tokens().AccessToken)
		require.Equal(t, ann.OrgID, ours.Get("/auth/me").Want(200).String("org_id"))
		c.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("NamelessPersonGetsAnOrganizationByAddress", func(t *testing.T) {
		c := token("blank", map[string]any{"email": "blank@example.nl", "email_verified": true})
		me := c.Get("/auth/me").Want(200)
		require.Empty(t, me.Value("first_name"))
		require.Equal(t, "blank's workspace", client.JSON[[]client.Object](c.Get("/auth/organizations").Want(200))[0]["name"])
	})
}

func TestProviderThatIsAway(t *testing.T) {
	provider, option := withKeycloak(t)
	s := stack.New(t, option)
	good := provider.Token(t, authtest.Request{Subject: "kim", Claims: ssoClaims("kim@example.nl")})
	provider.Down()
	s.As(good).Get("/auth/me").Problem(503, "AUTH_UNAVAILABLE")
	s.SignUp("Ann").Get("/auth/me").Want(200)
}

func TestInstallationWithoutOwnIssuer(t *testing.T) {
	provider, option := withKeycloak(t)
	s := stack.New(t, option, func(c *config.Config) { c.Debug = false })
	r := s.Do("POST", "/auth/login", client.Object{"email": "ann@example.nl", "password": "x"}).Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Equal(t, "builtin", r.String("details.provider"))
	s.As(provider.Token(t, authtest.Request{Subject: "kim", Claims: ssoClaims("kim@example.nl")})).Get("/auth/me").Want(200)
	s.As("garbage").Do("POST", "/auth/logout", nil).Want(204)
	s.Get("//.well-known/jwks.json").Problem(404, "NOT_FOUND")
}

func TestSupabase(t *testing.T) {
	secret := strings.Repeat("s", 40)
	configure := func(confirmed bool) stack.Option {
		return func(c *config.Config) {
			c.SupabaseURL, c.SupabaseSecret, c.SupabaseConfirmation = "http://supabase.test", secret, confirmed
		}
	}
	s := stack.New(t, configure(false))
	confirmed := stack.On(t, s.DB, configure(true))
	sign := func(email string, changes ...any) string {
		claims := client.Object{"iss": "http://supabase.test/auth/v1", "aud": "authenticated", "role": "authenticated", "sub": uuid.NewString(), "email": email,
			"session_id": uuid.NewString(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
			"user_metadata": client.Object{"first_name": "Sue", "last_name": "Base", "org_id": uuid.NewString()}}
		for i := 0; i < len(changes); i += 2 {
			claims[changes[i].(string)] = changes[i+1]
		}
		return authtest.Sign(t, jose.HS256, "", []byte(secret), claims)
	}

	t.Run("NewPersonIsUnverified", func(t *testing.T) {
		me := s.As(sign("sue@example.nl")).Get("/auth/me").Want(200)
		require.Equal(t, "Sue", me.String("first_name"))
		require.Equal(t, false, me.Value("email_verified"), "nobody vouched for the address")
	})
	t.Run("AccountsAreLinkedOnlyWhereTheProjectConfirmsAddresses", func(t *testing.T) {
		ann := s.SignUp("Ann")
		s.DB.Exec("update public.users set email_verified_at = now() where id = $1", ann.ID)
		token := sign(ann.Email)
		s.As(token).Get("/auth/me").Problem(403, "EMAIL_NOT_VERIFIED")
		require.Equal(t, ann.ID, confirmed.As(token).Get("/auth/me").Want(200).String("id"))
	})
	t.Run("AppMetadataSelectsTheOrganization", func(t *testing.T) {
		ann := s.SignUp("Ann")
		s.As(sign("meta@example.nl", "app_metadata", client.Object{"org_id": ann.OrgID})).Get("/auth/me").Problem(403, "ORG_REQUIRED")
	})
	t.Run("ServiceKeyIsNoUser", func(t *testing.T) {
		s.As(sign("key@example.nl", "role", "service_role")).Get("/auth/me").Problem(401, "UNAUTHENTICATED")
	})
	t.Run("OldSignInHasExpired", func(t *testing.T) {
		s.As(sign("old@example.nl", "iat", time.Now().Add(-91*24*time.Hour).Unix())).Get("/auth/me").Problem(401, "SESSION_EXPIRED")
	})
	t.Run("AnotherSecretIsRefused", func(t *testing.T) {
		forged := authtest.Sign(t, jose.HS256, "", []byte(strings.Repeat("x", 40)), client.Object{"iss": "http://supabase.test/auth/v1",
			"aud": "authenticated", "sub": "1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
		s.As(forged).Get("/auth/me").Problem(401, "UNAUTHENTICATED")
	})
}
