package identity

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/mail"
)

type fields = map[string]any

// post is a stack with a real mail server, and a worker that sends.
type post struct {
	*stack.Stack
	t      *testing.T
	server *peers.Mailpit
}

func newPost(t *testing.T, options ...stack.Option) *post {
	t.Helper()
	server := peers.NewMailpit(t)
	s := stack.New(t, append(options, func(c *config.Config) {
		c.SMTPHost, c.SMTPPort = server.SMTP()
		c.SMTPTLS, c.SMTPFrom = mail.None, "Kijko <mail@kijko.test>"
	})...)
	require.Eventually(t, func() bool {
		return testdb.Value[int](s.DB, "select count(*) from private.installation where key in ('mail', 'app_url')") == 2
	}, 10*time.Second, 10*time.Millisecond, "the server says that it can send mail")
	worker.Start(t, s)
	return &post{Stack: s, t: t, server: server}
}

// token waits for the nth mail to the address with this subject, and gives the token of its link to the screen.
func (p *post) token(address, subject, screen string, nth int) string {
	p.t.Helper()
	var found []peers.Mail
	require.Eventually(p.t, func() bool {
		found = nil
		for _, m := range p.server.Mails(p.t) {
			if m.Subject == subject && m.To[0].Address == address {
				found = append(found, m)
			}
		}
		return len(found) >= nth
	}, 20*time.Second, 20*time.Millisecond, "mail %d %q to %s", nth, subject, address)
	link := regexp.MustCompile(`http://kijko\.test/` + screen + `\?token=([A-Za-z0-9_-]{43})(?:\s|$)`).FindStringSubmatch(found[nth-1].Text)
	require.NotNil(p.t, link, found[nth-1].Text)
	require.Contains(p.t, found[nth-1].HTML, `href="http://kijko.test/`+screen+`?token=`+link[1]+`"`)
	return link[1]
}

func (p *post) reset(token, password string) client.Response {
	return p.Do("POST", "/auth/reset-password", fields{"token": token, "password": password})
}

func (p *post) logIn(email, password string) client.Response {
	return p.Do("POST", "/auth/login", fields{"email": email, "password": password})
}

const (
	confirmMail = "Confirm your e-mail address"
	resetMail   = "Choose a new password"
	linkMail    = "Your link to sign in"
)

// Ann forgets her password, follows the link, and is signed in again. All earlier sessions have ended.
func TestForgottenPassword(t *testing.T) {
	t.Parallel()
	p := newPost(t)
	ann := p.SignUp("Ann")
	p.Do("POST", "/auth/forgot-password", fields{"email": " " + strings.ToUpper(ann.Email)}).Want(202)
	token := p.token(ann.Email, resetMail, "reset-password", 1)
	require.Eventually(t, func() bool {
		return testdb.Value[int](p.DB, "select count(*) from private.mails where kind = 'reset_password' and sent_at is not null and body_text || body_html not like '%token=%'") == 1
	}, 10*time.Second, 20*time.Millisecond, "the outbox keeps no token of a sent mail")
	require.Equal(t, 0, testdb.Value[int](p.DB, "select count(*) from private.account_tokens where encode(token_hash, 'escape') like '%' || $1 || '%'", token), "nor does its table")

	for password, missing := range map[string][]any{"short1A": {"length"}, "no-upper-case-1": {"uppercase"}, "NO-LOWER-CASE-1": {"lowercase"},
		"No-Digit-Here": {"number"}, "x": {"length", "uppercase", "number"}, strings.Repeat("aA1", 43): {"length"}, ann.Password: {"reused"}} {
		r := p.reset(token, password).Problem(400, "WEAK_PASSWORD").Field("password")
		require.Equal(t, missing, r.Value("details.missing"), password)
	}
	p.reset(token, "Another-Horse-8").Want(204)
	ann.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	p.Do("POST", "/auth/refresh", fields{"refresh_token": ann.RefreshToken}).Problem(401, "INVALID_REFRESH_TOKEN")
	p.reset(token, "Third-Horse-9").Problem(400, "INVALID_TOKEN").Field("token")
	p.logIn(ann.Email, ann.Password).Problem(401, "INVALID_CREDENTIALS")
	again := p.As(p.logIn(ann.Email, "Another-Horse-8").Want(200).Tokens().AccessToken)
	require.Equal(t, true, again.Get("/auth/me").Want(200).Value("email_verified"), "a reset verifies the address")
	require.Equal(t, ann.OrgID, again.Get("/auth/me").String("org_id"))
	require.Equal(t, 1, testdb.Value[int](p.DB, "select count(*) from public.audit_log where user_id = $1 and event_type = 'user.password_changed'", ann.ID))
	require.Equal(t, 1, testdb.Value[int](p.DB, "select count(*) from public.notifications where user_id = $1 and title = 'Your password was changed'", ann.ID))
}

func TestResetLinksThatDoNotWork(t *testing.T) {
	t.Parallel()
	p := newPost(t)
	ann, ben := p.SignUp("Ann"), p.SignUp("Ben")
	for _, who := range []*client.Person{ann, ben} {
		p.Do("POST", "/auth/forgot-password", fields{"email": who.Email}).Want(202)
	}
	p.Do("POST", "/auth/magic-link", fields{"email": ann.Email}).Want(202)
	magic := p.token(ann.Email, linkMail, "magic-link", 1)
	anns, bens := p.token(ann.Email, resetMail, "reset-password", 1), p.token(ben.Email, resetMail, "reset-password", 1)
	confirm := p.token(ann.Email, confirmMail, "verify-email", 1)
	for what, token := range map[string]string{"unknown": strings.Repeat("A", 43), "of another purpose": confirm, "of a link to sign in": magic,
		"with a letter in another case": swapCase(anns), "cut short": anns[:42], "with more behind it": anns + "A"} {
		t.Run(what, func(t *testing.T) {
			p.In(t).Do("POST", "/auth/reset-password", fields{"token": token, "password": "Another-Horse-8"}).Problem(400, "INVALID_TOKEN").Field("token")
		})
	}
	p.Do("POST", "/auth/reset-password", fields{"token": "", "password": "Another-Horse-8"}).Problem(400, "VALIDATION_ERROR").Field("token")
	p.Do("POST", "/auth/reset-password", fields{"token": anns}).Problem(400, "VALIDATION_ERROR").Field("password")

	p.DB.Exec("update private.account_tokens set expires_at = now() where user_id = $1", ben.ID)
	p.reset(bens, "Another-Horse-8").Problem(400, "INVALID_TOKEN")

	// The link to an address that is no longer the account's opens nothing.
	p.DB.Exec("update public.users set email = 'moved@example.nl' where id = $1", ann.ID)
	p.reset(anns, "Another-Horse-8").Problem(400, "INVALID_TOKEN")
	p.Do("POST", "/auth/magic-link/verify", fields{"token": magic}).Problem(400, "INVALID_TOKEN").Field("token")
}

func swapCase(s string) string {
	for i, r := range s {
		if up := strings.ToUpper(string(r)); up != string(r) {
			return s[:i] + up + s[i+1:]
		}
	}
	return s + "x"
}

func TestALinkWorksOnceAlsoForManyAtOnce(t *testing.T) {
	t.Parallel()
	p := newPost(t)
	ann := p.SignUp("Ann")
	p.Do("POST", "/auth/forgot-password", fields{"email": ann.Email}).Want(202)
	p.Do("POST", "/auth/magic-link", fields{"email": ann.Email}).Want(202)
	reset, magic := p.token(ann.Email, resetMail, "reset-password", 1), p.token(ann.Email, linkMail, "magic-link", 1)
	require.Equal(t, map[int]int{200: 1, 400: 9}, crowd(t, 10, func() (client.Response, error) {
		return p.Try("POST", "/auth/magic-link/verify", fields{"token": magic})
	}))
	// The account was unverified, so signing in by the link made the reset link invalid.
	p.reset(reset, "Another-Horse-8").Problem(400, "INVALID_TOKEN")
	p.Do("POST", "/auth/forgot-password", fields{"email": ann.Email}).Want(202)
	reset = p.token(ann.Email, resetMail, "reset-password", 2)
	require.Equal(t, map[int]int{204: 1, 400: 5}, crowd(t, 6, func() (client.Response, error) {
		return p.Try("POST", "/auth/reset-password", fields{"token": reset, "password": "Another-Horse-8"})
	}))
}

// crowd makes n calls at once and counts their answers.
func crowd(t *testing.T, n int, call func() (client.Response, error)) map[int]int {
	t.Helper()
	var mu sync.Mutex
	seen := map[int]int{}
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			r, err := call()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.Status = -1
			}
			seen[r.Status]++
		})
	}
	group.Wait()
	return seen
}

// Ann signs up and confirms her address. A second mail works as well as the first.
func TestVerification(t *testing.T) {
	t.Parallel()
	p := newPost(t)
	ann := p.SignUp("Ann")
	require.Equal(t, false, ann.Get("/auth/me").Want(200).Value("email_verified"), "no precondition of the first session")
	first := p.token(ann.Email, confirmMail, "verify-email", 1)
	ann.Do("POST", "/profile/resend-verification", nil).Want(202)
	second := p.token(ann.Email, confirmMail, "verify-email", 2)
	require.NotEqual(t, first, second)
	p.Do("POST", "/auth/verify-email", fields{"token": first}).Want(204)
	require.Equal(t, true, ann.Get("/auth/me").Want(200).Value("email_verified"))
	p.Do("POST", "/auth/verify-email", fields{"token": first}).Problem(400, "INVALID_TOKEN").Field("token")
	p.Do("POST", "/auth/verify-email", fields{"token": ""}).Problem(400, "VALIDATION_ERROR").Field("token")
	ann.Do("POST", "/profile/resend-verification", nil).Problem(409, "EMAIL_ALREADY_VERIFIED")
	p.Do("POST", "/profile/resend-verification", nil).Problem(401, "UNAUTHENTICATED")

	t.Run("AsOftenAsThreeTimesIn15Minutes", func(t *testing.T) {
		ben := p.SignUp("Ben").In(t)
		for n := range 5 {
			r := ben.Do("POST", "/profile/resend-verification", nil)
			if n < 3 {
				r.Want(202)
			} else if n == 4 {
				require.NotEmpty(t, r.Problem(429, "RATE_LIMITED").Header.Get("Retry-After"))
			}
		}
	})
}

// A new address becomes the account's when its link is followed, and not before.
func TestVerificationOfANewAddress(t *testing.T) {
	t.Parallel()
	p := newPost(t)
	ann := p.SignUp("Ann")
	change := func(who *client.Person, email string) {
		p.DB.Exec("select private.issue_account_link($1, 'verify_email', $2)", who.ID, email)
	}
	change(ann, "first@example.nl")
	replaced := p.token("first@example.nl", confirmMail, "verify-email", 1)
	change(ann, "ann.new@example.nl")
	require.Equal(t, ann.Email, ann.Get("/auth/me").Want(200).String("email"))
	p.Do("POST", "/auth/verify-email", fields{"token": replaced}).Problem(400, "INVALID_TOKEN")
	ann.Do("POST", "/profile/resend-verification", nil).Want(202)
	token := p.token("ann.new@example.nl", confirmMail, "verify-email", 2)
	p.Do("POST", "/auth/verify-email", fields{"token": token}).Want(204)
	me := ann.Get("/auth/me").Want(200)
	require.Equal(t, []any{"ann.new@example.nl", true}, []any{me.String("email"), me.Value("email_verified")})
	p.logIn(ann.Email, ann.Password).Problem(401, "INVALID_CREDENTIALS")
	p.logIn("ann.new@example.nl", ann.Password).Want(200)
	require.JSONEq(t, fmt.Sprintf(`[{"field": "email", "oldValue": %q, "newValue": "ann.new@example.nl"}]`, ann.Email), testdb.Value[string](p.DB,
		"select changes::text from public.audit_log where user_id = $1 and event_type = 'user.profile_updated'", ann.ID))

	ben := p.SignUp("Ben")
	change(ben, "wanted@example.nl")
	token = p.token("wanted@example.nl", confirmMail, "verify-email", 1)
	p.Do("POST", "/auth/signup", fields{"email": "wanted@example.nl", "password": "Correct-Horse-7", "first_name": "Cas", "last_name": "Test"}).Want(201)
	p.Do("POST", "/auth/verify-email", fields{"token": token}).Problem(409, "EMAIL_TAKEN")
	require.Equal(t, ben.Email, ben.Get("/auth/me").Want(200).String("email"))
}

// Ann signs in by a link of a mail.
func TestMagicLink(t *testing.T) {
	t.Parallel()
	p := newPost(t)
	ann := p.SignUp("Ann")
	p.DB.Exec("update public.users set email_verified_at = now() where id = $1", ann.ID)
	sent := 0
	ask := func() string {
		p.Do("POST", "/auth/magic-link", fields{"email": ann.Email}).Want(202)
		sent++
		return p.token(ann.Email, linkMail, "magic-link", sent)
	}
	use := func(token string) client.Response {
		return p.With("User-Agent", "Mozilla/5.0 (X11; Linux) Firefox/140.0").Do("POST", "/auth/magic-link/verify", fields{"token": token})
	}
	answer := use(ask()).Want(200)
	require.NotNil(t, answer.Cookie("kijko_session"))
	me := p.As(answer.Tokens().AccessToken).Get("/auth/me").Want(200)
	require.Equal(t, ann.ID, me.String("id"))
	require.Equal(t, 1, testdb.Value[int](p.DB, "select count(*) from private.login_history where user_id = $1 and method = 'magic_link' and status = 'success'", ann.ID))
	ann.Get("/auth/me").Want(200)
	p.Do("POST", "/auth/refresh", fields{"refresh_token": answer.Tokens().RefreshToken}).Want(200)
	p.logIn(ann.Email, ann.Password).Want(200)

	t.Run("AsksForTheSecondFactor", func(t *testing.T) {
		token := ask()
		p.DB.Exec("update public.users set two_factor_enabled_at = now() where id = $1", ann.ID)
		use(token).Problem(401, "TWO_FACTOR_REQUIRED")
		p.logIn(ann.Email, ann.Password).Problem(401, "TWO_FACTOR_REQUIRED")
		p.DB.Exec("update public.users set two_factor_enabled_at = null where id = $1", ann.ID)
		use(token).Problem(400, "INVALID_TOKEN")
	})
	t.Run("TwiceUnderOneKeyIsOneSignIn", func(t *testing.T) {
		token := ask()
		keyed := p.In(t).With("Idempotency-Key", "one")
		first := keyed.Do("POST", "/auth/magic-link/verify", fields{"token": token}).Want(200)
		second := keyed.Do("POST", "/auth/magic-link/verify", fields{"token": token}).Want(200)
		require.Equal(t, first.Tokens(), second.Tokens())
		require.Equal(t, "true", second.Header.Get("Idempotency-Replayed"))
	})
	t.Run("InactiveMemberIsToldSo", func(t *testing.T) {
		cas := p.SignUp("Cas")
		p.DB.Exec("insert into public.memberships (organization_id, user_id, role, status) values ($1, $2, 'member', 'inactive')", ann.OrgID, cas.ID)
		p.DB.Exec("delete from public.organizations where id = $1", cas.OrgID)
		p.Do("POST", "/auth/magic-link", fields{"email": cas.Email}).Want(202)
		use(p.token(cas.Email, linkMail, "magic-link", 1)).Problem(403, "MEMBERSHIP_INACTIVE")
		require.Equal(t, 1, testdb.Value[int](p.DB, "select count(*) from private.login_history where user_id = $1 and method = 'magic_link' and status = 'failed'", cas.ID))
	})
	t.Run("PersonWithoutAnOrganizationGetsAPersonalOne", func(t *testing.T) {
		eve := p.SignUp("Eve")
		p.DB.Exec("delete from public.organizations where id = $1", eve.OrgID)
		p.Do("POST", "/auth/magic-link", fields{"email": eve.Email}).Want(202)
		tokens := use(p.token(eve.Email, linkMail, "magic-link", 1)).Want(200).Tokens()
		require.Equal(t, []any{"owner"}, p.As(tokens.AccessToken).In(t).Get("/auth/me").Want(200).Value("roles"))
	})
}

// Stan registers Ann's address before she does, and waits. Any proof that the mailbox is hers ends his access.
func TestWhoRegisteredAnAddressThatIsNotTheirsIsShutOut(t *testing.T) {
	t.Parallel()
	p := newPost(t)
	for how, prove := range map[string]func(email string){
		"a reset": func(email string) {
			p.Do("POST", "/auth/forgot-password", fields{"email": email}).Want(202)
			p.reset(p.token(email, resetMail, "reset-password", 1), "Rightful-Owner-1").Want(204)
		},
		"a link to sign in": func(email string) {
			p.Do("POST", "/auth/magic-link", fields{"email": email}).Want(202)
			p.Do("POST", "/auth/magic-link/verify", fields{"token": p.token(email, linkMail, "magic-link", 1)}).Want(200)
		},
	} {
		t.Run(how, func(t *testing.T) {
			stan := p.SignUp("Stan")
			p.DB.Exec("update public.users set two_factor_enabled_at = now() where id = $1", stan.ID)
			p.DB.Exec("insert into private.identities (issuer, subject, user_id) values ('https://elsewhere.example', $1, $2)", stan.Email, stan.ID)
			prove(stan.Email)
			stan.In(t).Get("/auth/me").Problem(401, "SESSION_REVOKED")
			p.logIn(stan.Email, stan.Password).Problem(401, "INVALID_CREDENTIALS")
			require.Equal(t, "0 t t", testdb.Value[string](p.DB, `select concat_ws(' ', (select count(*) from private.identities i where i.user_id = u.id),
				u.two_factor_enabled_at is null, u.email_verified_at is not null) from public.users u where u.id = $1`, stan.ID), "nor is the second factor his")
		})
	}
}

// No public route here tells a stranger which addresses have an account: not by its answer, its time, or its limit.
func TestAStrangerDoesNotLearnWhoHasAnAccount(t *testing.T) {
	t.Parallel()
	p := newPost(t, stack.RealRates)
	ann := p.SignUp("Ann")
	from := 0
	fresh := func() *client.Client {
		from++
		return p.With("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", from))
	}
	for _, path := range []string{"/auth/forgot-password", "/auth/magic-link"} {
		t.Run(path, func(t *testing.T) {
			known, unknown := fresh().In(t).Do("POST", path, fields{"email": ann.Email}), fresh().In(t).Do("POST", path, fields{"email": "nobody" + path[6:] + "@example.nl"})
			require.Equal(t, known.Want(202).Body, unknown.Want(202).Body)
			for name := range known.Header {
				if name != "X-Request-Id" && name != "Date" && name != "X-Process-Time" {
					require.Equal(t, known.Header.Get(name), unknown.Header.Get(name), name)
				}
			}
			for n := range 4 {
				k, u := fresh().In(t).Do("POST", path, fields{"email": ann.Email}), fresh().In(t).Do("POST", path, fields{"email": "nobody" + path[6:] + "@example.nl"})
				require.Equal(t, k.Status, u.Status)
				if n > 2 {
					require.Equal(t, "3", k.Problem(429, "RATE_LIMITED").Header.Get("X-RateLimit-Limit"))
					require.Equal(t, k.String("detail"), u.Problem(429, "RATE_LIMITED").String("detail"))
					require.NotEmpty(t, u.Header.Get("Retry-After"))
				}
			}
			for _, email := range []any{"ann", "", "a b@example.nl", nil, 7} {
				fresh().In(t).Do("POST", path, fields{"email": email}).Problem(400, "VALIDATION_ERROR").Field("email")
			}
			refused, one := 0, fresh().In(t)
			for n := range 12 {
				r := one.Do("POST", path, fields{"email": fmt.Sprintf("many.%d%s@example.nl", n, path[6:])})
				if r.Status == 429 {
					r.Problem(429, "RATE_LIMITED")
					refused++
				}
				require.Equal(t, "10", r.Header.Get("X-RateLimit-Limit"))
			}
			require.Positive(t, refused, "10 in 15 minutes from one address")
		})
	}
	require.Eventually(t, func() bool {
		return testdb.Value[int](p.DB, "select count(*) from jobs.gue_jobs") == 0
	}, 20*time.Second, 20*time.Millisecond)
	for _, m := range p.server.Mails(t) {
		require.Equal(t, ann.Email, m.To[0].Address, "nothing is sent to who has no account")
	}
	// A dead link of an account and an invented one get the same answer.
	p.DB.Exec("update private.account_tokens set used_at = now()")
	for _, path := range []string{"/auth/reset-password", "/auth/verify-email", "/auth/magic-link/verify"} {
		body := fields{"token": strings.Repeat("x", 43)}
		if path == "/auth/reset-password" {
			body["password"] = "Another-Horse-8"
		}
		fresh().Do("POST", path, body).Problem(400, "INVALID_TOKEN").Field("token")
	}
}

// The request itself looks up no account, so it takes no longer for one.
func TestARequestForALinkTakesAsLongWithoutAnAccount(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.SMTPHost, c.SMTPFrom, c.SMTPTLS = "127.0.0.1", "mail@kijko.test", mail.None })
	ann := s.SignUp("Ann")
	s.DB.Exec("delete from jobs.stored_jobs")
	quickest := map[bool]time.Duration{true: time.Hour, false: time.Hour}
	for n := range 20 {
		for known, email := range map[bool]string{true: ann.Email, false: "nobody@example.nl"} {
			began := time.Now()
			s.Do("POST", "/auth/forgot-password", fields{"email": email}).Want(202)
			quickest[known] = min(quickest[known], time.Since(began))
			require.Equal(t, n+1, testdb.Value[int](s.DB, "select count(*) from jobs.gue_jobs where job_type = 'accounts.link' and convert_from(args, 'UTF8')::jsonb ->> 'email' = $1", email))
		}
	}
	require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.account_tokens where purpose = 'reset_password'"), "a job finds out, when the answer is long gone")
	require.InDelta(t, 1, float64(quickest[true])/float64(quickest[false]), 0.6, "the quickest of 20: %v", quickest)
}

func TestWithoutAMailServerLinksAreNotPromised(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.SMTPHost = "" })
	ann := s.SignUp("Ann")
	for _, path := range []string{"/auth/forgot-password", "/auth/magic-link"} {
		for _, email := range []string{ann.Email, "nobody@example.nl"} {
			require.Equal(t, "mail", s.Do("POST", path, fields{"email": email}).Problem(503, "PROVIDER_NOT_CONFIGURED").String("details.provider"))
		}
		s.Do("POST", path, fields{"email": "ann"}).Problem(400, "VALIDATION_ERROR").Field("email")
	}
	ann.Do("POST", "/profile/resend-verification", nil).Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Zero(t, testdb.Value[int](s.DB, "select count(*) from private.mails"))
}
