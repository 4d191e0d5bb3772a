package identity

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"

	"kijko/server/auth"
	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

func account(changes ...any) client.Object {
	body := client.Object{"email": "ann@example.nl", "password": "Correct-Horse-7", "first_name": "Ann", "last_name": "Vos"}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(body, changes[i].(string))
			continue
		}
		body[changes[i].(string)] = changes[i+1]
	}
	return body
}

func TestSignUp(t *testing.T) {
	s := stack.New(t)

	t.Run("AnswersTokensThatWorkAtOnce", func(t *testing.T) {
		answer := s.Do("POST", "/auth/signup", account("email", "  Ann@Example.NL ", "first_name", "  Ann\u00e9 ", "last_name", "O'Vos <b>")).Want(201)
		tokens := answer.Tokens()
		require.Equal(t, "Bearer", tokens.TokenType)
		require.Equal(t, 3600, tokens.ExpiresIn)
		require.Len(t, tokens.RefreshToken, 43, "256 random bits, base64url")

		me := s.As(tokens.AccessToken).Get("/auth/me").Want(200)
		require.Equal(t, "ann@example.nl", me.String("email"))
		require.Equal(t, "Ann\u00e9", me.String("first_name"))
		require.Equal(t, "O'Vos <b>", me.String("last_name"), "stored verbatim, never escaped")
		require.Equal(t, []any{"owner"}, me.Value("roles"))
		require.Equal(t, "free", me.Value("plan"))
		require.Equal(t, false, me.Value("email_verified"))
		require.NotEqual(t, me.String("id"), me.String("org_id"))

		orgs := client.JSON[[]client.Object](s.As(tokens.AccessToken).Get("/auth/organizations").Want(200))
		require.Len(t, orgs, 1)
		require.Equal(t, "Ann\u00e9 O'Vos <b>'s workspace", orgs[0]["name"])
		require.Equal(t, me.String("org_id"), orgs[0]["org_id"])
	})

	t.Run("SetsTheCookieOfTheSession", func(t *testing.T) {
		cookie := s.Do("POST", "/auth/signup", account("email", "cookie@example.nl")).Want(201).Cookie("kijko_session")
		require.NotNil(t, cookie)
		require.True(t, cookie.HttpOnly)
		require.False(t, cookie.Secure, "development has no TLS")
		require.Equal(t, http.SameSiteLaxMode, cookie.SameSite)
		require.Equal(t, "/api", cookie.Path)
		require.Empty(t, cookie.Domain)
		require.InDelta(t, 30*24*3600, cookie.MaxAge, 60)
		session, _, _ := strings.Cut(cookie.Value, ".")
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.sessions where id = $1", session))
	})

	t.Run("MakesEverythingInOneTransaction", func(t *testing.T) {
		p := s.SignUp("Bea")
		require.Equal(t, "free active", testdb.Value[string](s.DB,
			"select string_agg(plan_id || ' ' || status, ',') from public.subscriptions where organization_id = $1", p.OrgID))
		require.Equal(t, "owner active", testdb.Value[string](s.DB,
			"select string_agg(role || ' ' || status, ',') from public.memberships where organization_id = $1", p.OrgID))
		require.Equal(t, "user.login", testdb.Value[string](s.DB,
			"select string_agg(event_type, ',') from public.audit_log where organization_id = $1 and user_id = $2 and session_id is not null and ip_address = '127.0.0.1'", p.OrgID, p.ID))
		require.Equal(t, "password success", testdb.Value[string](s.DB,
			"select string_agg(method || ' ' || status, ',') from private.login_history where user_id = $1", p.ID))
		require.Equal(t, 0, testdb.Value[int](s.DB, "select count(*) from private.credentials where password_hash not like '$argon2id$v=19$m=19456,t=2,p=1$%'"))
	})

	t.Run("OneOfFiftySimultaneousOnesWins", func(t *testing.T) {
		var mu sync.Mutex
		codes := map[int]int{}
		parallel(t, 50, func(int) error {
			r, err := s.Try("POST", "/auth/signup", account("email", "crowd@example.nl"))
			mu.Lock()
			defer mu.Unlock()
			codes[r.Status]++
			return err
		})
		require.Equal(t, map[int]int{201: 1, 409: 49}, codes)
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.users where email = 'crowd@example.nl'"))
		require.Equal(t, 0, testdb.Value[int](s.DB, "select count(*) from public.organizations o where not exists (select from public.memberships m where m.organization_id = o.id)"))
	})
}

// parallel runs f n times at once and fails on the first error.
func parallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestSignUpRefusals(t *testing.T) {
	s := stack.New(t)
	s.Do("POST", "/auth/signup", account("email", "taken@example.nl")).Want(201)
	long := strings.Repeat("é", 51)
	for name, test := range map[string]struct {
		body   any
		status int
		code   string
		field  string
	}{
		"TakenAddressInAnotherCase":    {account("email", "TAKEN@example.nl"), 409, "EMAIL_TAKEN", "email"},
		"AddressWithoutDomain":         {account("email", "ann"), 400, "VALIDATION_ERROR", "email"},
		"AddressWithoutTopLevel":       {account("email", "ann@example"), 400, "VALIDATION_ERROR", "email"},
		"AddressWithBlank":             {account("email", "a nn@example.nl"), 400, "VALIDATION_ERROR", "email"},
		"AddressWithLineBreak":         {account("email", "ann@example.nl\nbcc@example.nl"), 400, "VALIDATION_ERROR", "email"},
		"AddressTooLong":               {account("email", strings.Repeat("a", 250)+"@b.nl"), 400, "VALIDATION_ERROR", "email"},
		"EmptyAddress":                 {account("email", ""), 400, "VALIDATION_ERROR", "email"},
		"MissingAddress":               {account("email", nil), 400, "VALIDATION_ERROR", "email"},
		"AddressOfWrongType":           {account("email", 7), 400, "VALIDATION_ERROR", "email"},
		"ShortPassword":                {account("password", "seven77"), 400, "WEAK_PASSWORD", "password"},
		"LongPassword":                 {account("password", strings.Repeat("a", 129)), 400, "WEAK_PASSWORD", "password"},
		"PasswordIsTheAddress":         {account("password", "Ann@example.nl"), 400, "WEAK_PASSWORD", "password"},
		"MissingPassword":              {account("password", nil), 400, "VALIDATION_ERROR", "password"},
		"MissingFirstName":             {account("first_name", nil), 400, "VALIDATION_ERROR", "first_name"},
		"BlankFirstName":               {account("first_name", "   "), 400, "VALIDATION_ERROR", "first_name"},
		"LongLastName":                 {account("last_name", long), 400, "VALIDATION_ERROR", "last_name"},
		"ControlCharacterInLastName":   {account("last_name", "Vo\u0007s"), 400, "VALIDATION_ERROR", "last_name"},
		"UnknownField":                 {account("role", "owner"), 400, "VALIDATION_ERROR", "role"},
		"UnknownInvitation":            {account("invitation_token", "nobody-made-this"), 404, "INVITATION_NOT_FOUND", "invitation_token"},
		"NoBody":                       {nil, 400, "VALIDATION_ERROR", ""},
		"BrokenJSON":                   {"{", 400, "VALIDATION_ERROR", ""},
		"List":                         {"[]", 400, "VALIDATION_ERROR", ""},
		"NULCharacter":                 {`{"email":"a\u0000@b.nl"}`, 400, "VALIDATION_ERROR", "email"},
		"HalfASurrogatePair":           {`{"email":"a\ud800@b.nl"}`, 400, "VALIDATION_ERROR", "email"},
		"BodyTooLarge":                 {account("first_name", strings.Repeat("a", 20<<10)), 413, "PAYLOAD_TOO_LARGE", ""},
		"FieldNameInAnotherCase":       {account("EMAIL", "x@example.nl"), 400, "VALIDATION_ERROR", "EMAIL"},
		"NullIsNoAddress":              {`{"email":null,"password":"Correct-Horse-7","first_name":"A","last_name":"B"}`, 400, "VALIDATION_ERROR", "email"},
		"NameMadeOfZeroWidthIsNoBlank": {account("first_name", "\t\n "), 400, "VALIDATION_ERROR", "first_name"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Do("POST", "/auth/signup", test.body).Problem(test.status, test.code).Field(test.field)
		})
	}
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.users where email <> 'community@kijko.invalid'"), "nothing half-written")
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.organizations"))

	t.Run("WeakPasswordSaysWhatIsMissing", func(t *testing.T) {
		require.Equal(t, []any{"length"}, s.Do("POST", "/auth/signup", account("password", "short")).Value("details.missing"))
	})
	t.Run("EightCharactersAreEnough", func(t *testing.T) {
		s.Do("POST", "/auth/signup", account("email", "eight@example.nl", "password", "äöüäöüäö")).Want(201)
	})
}

func TestLogIn(t *testing.T) {
	s := stack.New(t)
	ann := s.SignUp("Ann")
	login := func(email, password string) client.Response {
		return s.Do("POST", "/auth/login", client.Object{"email": email, "password": password})
	}

	t.Run("AnswersTokensOfANewSession", func(t *testing.T) {
		tokens := login(" "+strings.ToUpper(ann.Email), ann.Password).Want(200).Tokens()
		require.Equal(t, ann.ID, s.As(tokens.AccessToken).Get("/auth/me").Want(200).String("id"))
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from private.sessions where user_id = $1", ann.ID))
	})
	t.Run("UnknownAddressAndWrongPasswordLookTheSame", func(t *testing.T) {
		wrong := login(ann.Email, "not the password").Problem(401, "INVALID_CREDENTIALS")
		unknown := login("nobody@example.nl", "not the password").Problem(401, "INVALID_CREDENTIALS")
		require.Equal(t, wrong.String("detail"), unknown.String("detail"))
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.login_history where user_id = $1 and status = 'failed' and reason = 'Invalid password'", ann.ID))
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from public.audit_log where user_id = $1 and event_type = 'security.login_failed'", ann.ID))
	})
	t.Run("ShortPasswordIsWrongAndNotInvalid", func(t *testing.T) { login(ann.Email, "x").Problem(401, "INVALID_CREDENTIALS") })
	t.Run("EmptyPasswordIsInvalid", func(t *testing.T) { login(ann.Email, "").Problem(400, "VALIDATION_ERROR").Field("password") })
	t.Run("OverlongPasswordIsInvalid", func(t *testing.T) {
		login(ann.Email, strings.Repeat("x", 129)).Problem(400, "VALIDATION_ERROR").Field("password")
	})
	t.Run("BadAddressIsInvalid", func(t *testing.T) { login("ann", "whatever").Problem(400, "VALIDATION_ERROR").Field("email") })
	t.Run("MissingPasswordIsInvalid", func(t *testing.T) {
		s.Do("POST", "/auth/login", client.Object{"email": ann.Email}).Problem(400, "VALIDATION_ERROR").Field("password")
	})
	t.Run("InactiveMemberIsToldSo", func(t *testing.T) {
		bob := s.SignUp("Bob")
		join(s, bob, ann, "member")
		s.DB.Exec("delete from public.organizations where id = $1", bob.OrgID)
		s.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1", bob.ID)
		login(bob.Email, bob.Password).Problem(403, "MEMBERSHIP_INACTIVE")
	})
	t.Run("PersonWithoutOrganizationGetsAPersonalOne", func(t *testing.T) {
		eve := s.SignUp("Eve")
		s.DB.Exec("delete from public.organizations where id = $1", eve.OrgID)
		eve.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		var mu sync.Mutex
		orgs := map[string]bool{}
		parallel(t, 5, func(int) error {
			r, err := s.Try("POST", "/auth/login", client.Object{"email": eve.Email, "password": eve.Password})
			if err != nil {
				return err
			}
			me, err := s.As(r.Tokens().AccessToken).Try("GET", "/auth/me", nil)
			mu.Lock()
			defer mu.Unlock()
			orgs[me.String("org_id")] = true
			return err
		})
		require.Len(t, orgs, 1, "five sign-ins at once make one organization")
	})
}

func TestOutdatedHashIsRenewed(t *testing.T) {
	s := stack.New(t)
	ann := s.SignUp("Ann")
	salt := []byte("0123456789abcdef")
	encode := base64.RawStdEncoding.EncodeToString
	cheap := "$argon2id$v=19$m=64,t=1,p=1$" + encode(salt) + "$" + encode(argon2.IDKey([]byte(ann.Password), salt, 1, 64, 1, 32))
	s.DB.Exec("update private.credentials set password_hash = $1 where user_id = $2", cheap, ann.ID)
	for range 2 {
		s.Do("POST", "/auth/login", client.Object{"email": ann.Email, "password": ann.Password}).Want(200)
		require.Contains(t, testdb.Value[string](s.DB, "select password_hash from private.credentials where user_id = $1", ann.ID), "m=19456,t=2,p=1")
	}
}

// A stranger must not learn from response times which addresses have an account. The fastest of several answers is nearly free of noise.
// Time is no measure on a busy machine; the memory of a password check (19 MiB) is.
func TestUnknownAddressCostsAPasswordCheckToo(t *testing.T) {
	s := stack.New(t)
	ann := s.SignUp("Ann")
	for _, email := range []string{ann.Email, "nobody@example.nl"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s.Do("POST", "/auth/login", client.Object{"email": email, "password": "wrong"}).Problem(401, "INVALID_CREDENTIALS")
		runtime.ReadMemStats(&after)
		require.Greater(t, after.TotalAlloc-before.TotalAlloc, uint64(19<<20), email)
	}
}

// join makes p a member of owner's organization.
func join(s *stack.Stack, p, owner *client.Person, role string) {
	s.DB.Exec("insert into public.memberships (organization_id, user_id, role) values ($1, $2, $3)", owner.OrgID, p.ID, role)
}

func TestCredentials(t *testing.T) {
	s := stack.New(t)
	ann := s.SignUp("Ann")
	for name, header := range map[string]string{
		"Missing": "", "NotBearer": "Basic YTpi", "Garbage": "Bearer garbage", "Empty": "Bearer ", "ThreeEmptyParts": "Bearer ..",
		"ChangedSignature": "Bearer " + ann.Token[:len(ann.Token)-4] + "AAAA",
		"NoneAlgorithm":    "Bearer eyJhbGciOiJub25lIn0." + strings.Split(ann.Token, ".")[1] + ".",
	} {
		t.Run(name, func(t *testing.T) {
			c := s.As("")
			if header != "" {
				c = c.With("Authorization", header)
			}
			r := c.Get("/auth/me").Problem(401, "UNAUTHENTICATED")
			require.Equal(t, "Bearer", r.Header.Get("WWW-Authenticate"))
		})
	}
	t.Run("RevokedSessionIsOutAtTheNextCall", func(t *testing.T) {
		bob := s.SignUp("Bob")
		s.DB.Exec("update private.sessions set revoked_at = now() where user_id = $1", bob.ID)
		bob.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("OldSessionHasExpired", func(t *testing.T) {
		bob := s.SignUp("Bob")
		s.DB.Exec("update private.sessions set expires_at = now() where user_id = $1", bob.ID)
		bob.Get("/auth/me").Problem(401, "SESSION_EXPIRED")
		s.Do("POST", "/auth/refresh", client.Object{"refresh_token": bob.RefreshToken}).Problem(401, "INVALID_REFRESH_TOKEN")
	})
	t.Run("RemovedMemberIsOutAtTheNextCall", func(t *testing.T) {
		bob := s.SignUp("Bob")
		join(s, bob, ann, "member")
		there := s.As(bob.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200).Tokens().AccessToken)
		there.Get("/auth/me").Want(200)
		s.DB.Exec("delete from public.memberships where user_id = $1 and organization_id = $2", bob.ID, ann.OrgID)
		there.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	})
	t.Run("ChangedRoleHoldsAtTheNextCall", func(t *testing.T) {
		bob := s.SignUp("Bob")
		join(s, bob, ann, "viewer")
		there := s.As(bob.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200).Tokens().AccessToken)
		require.Equal(t, []any{"viewer"}, there.Get("/auth/me").Want(200).Value("roles"))
		s.DB.Exec("update public.memberships set role = 'admin' where user_id = $1 and organization_id = $2", bob.ID, ann.OrgID)
		require.Equal(t, []any{"admin"}, there.Get("/auth/me").Want(200).Value("roles"))
	})
	t.Run("PlatformStaffIsNamed", func(t *testing.T) {
		bob := s.SignUp("Bob")
		s.DB.Exec("update public.users set is_platform_admin = true where id = $1", bob.ID)
		require.Equal(t, []any{"owner", "platform_admin"}, bob.Get("/auth/me").Want(200).Value("roles"))
	})
}

func TestOrganizations(t *testing.T) {
	s := stack.New(t)
	ann, bob := s.SignUp("Ann"), s.SignUp("Bob")
	join(s, bob, ann, "viewer")

	t.Run("CurrentOneComesFirst", func(t *testing.T) {
		orgs := client.JSON[[]client.Object](bob.Get("/auth/organizations").Want(200))
		require.Len(t, orgs, 2)
		require.Equal(t, bob.OrgID, orgs[0]["org_id"])
		require.Equal(t, true, orgs[0]["is_current"])
		require.Equal(t, client.Object{"org_id": ann.OrgID, "name": "Ann Test's workspace", "role": "viewer", "status": "active", "is_current": false}, orgs[1])
	})
	t.Run("StrangersCannotSwitchIn", func(t *testing.T) {
		ann.Do("POST", "/auth/switch-org", client.Object{"org_id": bob.OrgID}).Problem(403, "ORG_REQUIRED")
		ann.Do("POST", "/auth/switch-org", client.Object{"org_id": "00000000-0000-0000-0000-000000000000"}).Problem(403, "ORG_REQUIRED")
		ann.Get("/auth/me").Want(200)
	})
	t.Run("NoUUIDIsInvalid", func(t *testing.T) {
		ann.Do("POST", "/auth/switch-org", client.Object{"org_id": "7"}).Problem(400, "VALIDATION_ERROR").Field("org_id")
		ann.Do("POST", "/auth/switch-org", client.Object{}).Problem(400, "VALIDATION_ERROR").Field("org_id")
	})
	t.Run("AnonymousMayNot", func(t *testing.T) {
		s.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Problem(401, "UNAUTHENTICATED")
		s.Get("/auth/organizations").Problem(401, "UNAUTHENTICATED")
	})
	t.Run("SwitchingEndsTheCurrentSession", func(t *testing.T) {
		answer := bob.Do("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID}).Want(200)
		require.NotNil(t, answer.Cookie("kijko_session"))
		there := s.As(answer.Tokens().AccessToken)
		require.Equal(t, ann.OrgID, there.Get("/auth/me").Want(200).String("org_id"))
		bob.Get("/auth/me").Problem(401, "SESSION_REVOKED")
		s.Do("POST", "/auth/refresh", client.Object{"refresh_token": bob.RefreshToken}).Problem(401, "INVALID_REFRESH_TOKEN")
		fresh := s.Do("POST", "/auth/refresh", client.Object{"refresh_token": answer.Tokens().RefreshToken}).Want(200).Tokens()
		require.Equal(t, ann.OrgID, s.As(fresh.AccessToken).Get("/auth/me").Want(200).String("org_id"))
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(distinct expires_at) from private.sessions where user_id = $1", bob.ID),
			"the moment of signing in stays the same")
	})
	t.Run("OneOfTwoSimultaneousSwitchesWins", func(t *testing.T) {
		eve := s.SignUp("Eve")
		join(s, eve, ann, "member")
		var mu sync.Mutex
		codes := map[int]int{}
		parallel(t, 8, func(int) error {
			r, err := eve.Try("POST", "/auth/switch-org", client.Object{"org_id": ann.OrgID})
			mu.Lock()
			defer mu.Unlock()
			codes[r.Status]++
			return err
		})
		require.Equal(t, map[int]int{200: 1, 401: 7}, codes)
	})
}

func TestRateLimits(t *testing.T) {
	s := stack.New(t, stack.RealRates)
	replica := stack.On(t, s.DB, stack.RealRates)
	for path, limit := range map[string]int{"/auth/login": 5, "/auth/signup": 10, "/auth/refresh": 60} {
		t.Run(fmt.Sprintf("%sAdmits%dAMinuteFromOneAddress", strings.TrimPrefix(path, "/auth/"), limit), func(t *testing.T) {
			// The window slides: attempts of a test that crosses its edge count a little less, so one more may pass.
			refused := 0
			for n := range limit + 2 {
				server := []*stack.Stack{s, replica}[n%2]
				r := server.With("X-Forwarded-For", "203.0.113.9").Do("POST", path, client.Object{"email": "a@b.nl", "password": "x", "refresh_token": "x"})
				require.Equal(t, fmt.Sprint(limit), r.Header.Get("X-RateLimit-Limit"))
				require.NotEmpty(t, r.Header.Get("X-RateLimit-Remaining"))
				require.NotEmpty(t, r.Header.Get("X-RateLimit-Reset"))
				if r.Status == 429 {
					r.Problem(429, "RATE_LIMITED")
					require.NotEmpty(t, r.Header.Get("Retry-After"))
					refused++
					continue
				}
				require.Less(t, n, limit+1)
			}
			require.NotZero(t, refused)
			require.NotEqual(t, 429, s.With("X-Forwarded-For", "203.0.113.10").Do("POST", path, client.Object{}).Status, "another address")
		})
	}
}

func TestAddressesOfOneIPv6NetworkCountTogether(t *testing.T) {
	s := stack.New(t, stack.RealRates)
	refused := 0
	for n := range 8 {
		r := s.With("X-Forwarded-For", fmt.Sprintf("2001:db8:1:2::%x", n+1)).Do("POST", "/auth/login", client.Object{"email": "a@b.nl", "password": "x"})
		if r.Status == 429 {
			refused++
		}
	}
	require.NotZero(t, refused)
	require.Equal(t, 401, s.With("X-Forwarded-For", "2001:db8:1:3::1").Do("POST", "/auth/login", client.Object{"email": "a@b.nl", "password": "x"}).Status)
}

func TestPublishedDocuments(t *testing.T) {
	s := stack.New(t, func(c *config.Config) { c.PublicURL = "https://kijko.example" })
	discovery := s.Get("/" + auth.DiscoveryPath).Want(200)
	require.Equal(t, "https://kijko.example", discovery.String("issuer"))
	require.Equal(t, "https://kijko.example"+auth.JWKSPath, discovery.String("jwks_uri"))
	keys := s.Get("/" + auth.JWKSPath).Want(200)
	require.Contains(t, string(keys.Body), `"kty":"EC"`)
	require.NotContains(t, string(keys.Body), `"d":`, "never the private half")
}

func TestReplicasShareAKeyInDevelopment(t *testing.T) {
	s := stack.New(t)
	replica := stack.On(t, s.DB)
	ann := s.SignUp("Ann")
	require.Equal(t, ann.ID, ann.At(replica.BaseURL).Get("/auth/me").Want(200).String("id"))
}

func TestCookieIsSecureOutsideDevelopment(t *testing.T) {
	key, err := auth.GenerateKey()
	require.NoError(t, err)
	s := stack.New(t, func(c *config.Config) { c.Debug, c.JWTPrivateKey = false, key })
	require.True(t, s.Do("POST", "/auth/signup", account()).Want(201).Cookie("kijko_session").Secure)
}
