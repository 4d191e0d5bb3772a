package identity

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

// Firefox on Windows is the device of the sign-ins below.
const firefox = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"

// enterprise gives a person's organization the plan that holds its people to rules, with these in force.
func enterprise(s *stack.Stack, owner *client.Person, rules string) {
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", owner.OrgID)
	s.DB.Exec("update public.security_policies set "+rules+" where organization_id = $1", owner.OrgID)
}

// belong makes a verified person a member of owner's organization, who signs in there from now on.
func belong(s *stack.Stack, p, owner *client.Person, role string) {
	join(s, p, owner, role)
	s.DB.Exec("update public.users set default_organization_id = $1, email_verified_at = now() where id = $2", owner.OrgID, p.ID)
}

// mailed is the token of a link as a mail would bring it.
func mailed(s *stack.Stack, p *client.Person, purpose string) string {
	token := strings.ReplaceAll(uuid.NewString(), "-", "") + "-seam-token"
	s.DB.Exec(`insert into private.account_tokens (id, user_id, purpose, email, token_hash, created_at, expires_at)
		select gen_random_uuid(), u.id, $2, u.email, private.token_hash($3), now(), now() + interval '10 minutes' from public.users u where u.id = $1`, p.ID, purpose, token)
	return token
}

func byLink(s *stack.Stack, p *client.Person) client.Response {
	return s.With("User-Agent", firefox).Do("POST", "/auth/magic-link/verify", fields{"token": mailed(s, p, "magic_link")})
}

// enroll sets a second factor up and gives its codes; each may be used again, since tests do not wait for the next one.
func enroll(t *testing.T, s *stack.Stack, p *client.Person) (code func() string) {
	t.Helper()
	secret := p.Do("POST", "/security/2fa/setup", nil).Want(200).String("secret")
	code = func() string {
		s.DB.Exec("update private.second_factors set last_step = 0 where user_id = $1", p.ID)
		now, err := totp.GenerateCode(secret, time.Now())
		require.NoError(t, err)
		return now
	}
	require.Equal(t, true, p.Do("POST", "/security/2fa/verify", fields{"code": code()}).Want(200).Value("valid"))
	return code
}

func prove(s *stack.Stack, refusal client.Response, code string) client.Response {
	return s.With("User-Agent", firefox).Do("POST", "/auth/2fa", fields{"two_factor_token": refusal.String("details.two_factor_token"), "code": code})
}

// tried is the newest line of a person's sign-in history as the contract tells it: method, status, reason, browser on system, address.
func tried(t *testing.T, s *stack.Stack, p *client.Person) string {
	t.Helper()
	var line string
	require.NoError(t, json.Unmarshal([]byte(testdb.Value[string](s.DB, `select to_json(concat_ws(' ', e ->> 'authMethod', e ->> 'status', e ->> 'failureReason', 'with',
			e #>> '{deviceInfo,browser}', e #>> '{deviceInfo,os}', 'from', e ->> 'ipAddress'))::text
		from private.login_history h, lateral (select private.login_entry_json(h) as e) j where h.user_id = $1 order by h.created_at desc, h.id desc limit 1`, p.ID)), &line))
	return line
}

// trail is the newest audit entry of a person of one of these types: type, method or reason, browser on system, address.
func trail(s *stack.Stack, p *client.Person) string {
	return testdb.Value[string](s.DB, `select concat_ws(' ', a.event_type, a.metadata ->> 'method', a.metadata ->> 'reason', 'with', a.metadata ->> 'browser', a.metadata ->> 'os',
			'from', host(a.ip_address::inet))
		from public.audit_log a where a.user_id = $1 and a.event_type in ('user.login', 'security.login_failed') order by a.created_at desc, a.id desc limit 1`, p.ID)
}

func methodOf(s *stack.Stack, p *client.Person) string {
	return testdb.Value[string](s.DB, `select concat_ws(' ', method, signed_in_by) from private.sessions where user_id = $1 and revoked_at is null
		order by created_at desc limit 1`, p.ID)
}

// Anna's organization asks more of passwords than the page of a forgotten one does.
func TestAPolicyHoldsForTheNewPasswordOfAReset(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	enterprise(s, anna, "min_length = 14, require_symbol = true, prevent_reuse = 3")
	belong(s, ben, anna, "member")
	token := mailed(s, ben, "reset_password")
	reset := func(token, password string) client.Response {
		return s.Do("POST", "/auth/reset-password", fields{"token": token, "password": password})
	}
	for password, missing := range map[string][]any{"Correct-Hors8": {"length"}, "CorrectHorse8888": {"symbol"}, "correct-horse-8888": {"uppercase"}, "Correct-Horse-Staple": {"number"}} {
		require.Equal(t, missing, reset(token, password).Problem(400, "WEAK_PASSWORD").Field("password").Value("details.missing"), password)
	}
	first, second, third := "Correct-Horse-0001", "Correct-Horse-0002", "Correct-Horse-0003"
	reset(token, first).Want(204)
	for _, next := range []string{second, third} {
		reset(mailed(s, ben, "reset_password"), next).Want(204)
	}
	token = mailed(s, ben, "reset_password")
	for _, former := range []string{third, second, first} {
		require.Equal(t, []any{"reused"}, reset(token, former).Problem(400, "WEAK_PASSWORD").Field("password").Value("details.missing"), former)
	}
	reset(token, "Correct-Horse-0004").Want(204)
	reset(mailed(s, ben, "reset_password"), first).Want(204)

	// Without the plan, or without the membership, the rule of everybody holds.
	s.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
	reset(mailed(s, ben, "reset_password"), "Short-8a").Want(204)
	s.DB.Exec("update public.memberships set status = 'active' where user_id = $1", ben.ID)
	reset(mailed(s, ben, "reset_password"), "Short-8b").Problem(400, "WEAK_PASSWORD")
	s.DB.Exec("update public.subscriptions set plan_id = 'teams' where organization_id = $1", anna.OrgID)
	reset(mailed(s, ben, "reset_password"), "Short-8c").Want(204)
}

// A link in a mail and an account elsewhere are first factors only.
func TestTheSecondFactorIsDemandedBehindALinkAndAProvider(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	ann := l.SignUp("Ann")
	l.DB.Exec("update public.users set email_verified_at = now() where id = $1", ann.ID)
	code := enroll(t, l.Stack, ann)
	demanded := func(r client.Response) client.Response {
		t.Helper()
		r.Problem(401, "TWO_FACTOR_REQUIRED")
		require.Len(t, r.String("details.two_factor_token"), 43)
		require.Equal(t, 300.0, r.Value("details.expires_in"))
		require.Equal(t, []any{"totp", "backup_code"}, r.Value("details.methods"))
		require.Nil(t, r.Cookie("kijko_session"))
		return r
	}

	t.Run("BehindALink", func(t *testing.T) {
		refusal := demanded(byLink(l.Stack, ann))
		prove(l.Stack, refusal, "000000").Problem(401, "INVALID_TWO_FACTOR_CODE")
		require.Equal(t, "2fa failed Invalid 2FA code with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ann))
		require.Equal(t, "security.login_failed Invalid 2FA code with Firefox Windows from 127.0.0.1", trail(l.Stack, ann))
		l.As(prove(l.Stack, refusal, code()).Want(200).Tokens().AccessToken).Get("/auth/me").Want(200)
		require.Equal(t, "2fa magic_link", methodOf(l.Stack, ann))
		require.Equal(t, "2fa success with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ann))
		require.Equal(t, "user.login 2fa with Firefox Windows from 127.0.0.1", trail(l.Stack, ann))
	})
	t.Run("BehindAProviderWhoseSessionEndsWithOurs", func(t *testing.T) {
		who := as("ann", "email", ann.Email)
		tokens := prove(l.Stack, demanded(l.signIn(who)), code()).Want(200).Tokens()
		require.Equal(t, "2fa sso", methodOf(l.Stack, ann))
		sid := who.Claims["sid"].(string)
		require.Equal(t, l.provider.Issuer+" "+sid, testdb.Value[string](l.DB, `select concat_ws(' ', provider_issuer, provider_key) from private.sessions
			where user_id = $1 order by created_at desc limit 1`, ann.ID))
		require.True(t, l.provider.HasSession(sid))
		l.As(tokens.AccessToken).Do("POST", "/auth/logout", nil).Want(204)
		require.False(t, l.provider.HasSession(sid), "so that its cookie signs no one in again")
	})
	t.Run("UnderAnIdempotencyKey", func(t *testing.T) {
		link := mailed(l.Stack, ann, "magic_link")
		refusal := demanded(l.In(t).With("Idempotency-Key", "link").Do("POST", "/auth/magic-link/verify", fields{"token": link}))
		prove(l.Stack, refusal, code()).Want(200)
		c, state := l.start(as("ann", "email", ann.Email))
		body := fields{"code": c, "state": state, "redirect_uri": callback}
		prove(l.Stack, demanded(l.In(t).With("Idempotency-Key", "provider").Do("POST", "/auth/oauth/callback", body)), code()).Want(200)
		require.Equal(t, "2fa sso", methodOf(l.Stack, ann))
	})
	t.Run("TheMembershipThatEndedMeanwhileIsWritten", func(t *testing.T) {
		belong(l.Stack, ann, l.SignUp("Boss"), "member")
		refusal := demanded(byLink(l.Stack, ann))
		l.DB.Exec("update public.memberships set status = 'inactive' where user_id = $1 and role = 'member'", ann.ID)
		prove(l.Stack, refusal, code()).Problem(403, "MEMBERSHIP_INACTIVE")
		require.Equal(t, "2fa failed Membership inactive with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ann))
		require.Equal(t, "security.login_failed Membership inactive with Firefox Windows from 127.0.0.1", trail(l.Stack, ann))
	})
	t.Run("AResetIsNoWayAroundIt", func(t *testing.T) {
		l.Do("POST", "/auth/reset-password", fields{"token": mailed(l.Stack, ann, "reset_password"), "password": "Another-Horse-8"}).Want(204)
		demanded(l.Do("POST", "/auth/login", fields{"email": ann.Email, "password": "Another-Horse-8"}))
	})
}

// What Anna's organization says of ways to sign in is said on each of them.
func TestTheRulesOfSigningInHoldForLinksAndProviders(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	anna, ben := l.SignUp("Anna"), l.SignUp("Ben")
	enterprise(l.Stack, anna, "allow_magic_link = false")
	belong(l.Stack, ben, anna, "member")
	blocked := func(method, reason string) {
		t.Helper()
		require.Equal(t, method+" blocked "+reason+" with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ben))
		require.Equal(t, "security.login_failed "+reason+" with Firefox Windows from 127.0.0.1", trail(l.Stack, ben))
	}
	byPassword := func(password string) client.Response {
		return l.With("User-Agent", firefox).Do("POST", "/auth/login", fields{"email": ben.Email, "password": password})
	}
	byLink(l.Stack, ben).Problem(403, "MAGIC_LINK_LOGIN_DISABLED")
	blocked("magic_link", "Magic link login disabled")
	l.As(l.signIn(as("ben", "email", ben.Email)).Want(200).Tokens().AccessToken).Get("/projects").Want(200)
	byPassword(ben.Password).Want(200)
	require.Equal(t, "password success with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ben))
	require.Equal(t, "user.login password with Firefox Windows from 127.0.0.1", trail(l.Stack, ben))

	enterprise(l.Stack, anna, "allow_magic_link = true, allow_password = false")
	byPassword(ben.Password).Problem(403, "PASSWORD_LOGIN_DISABLED")
	blocked("password", "Password login disabled")
	byLink(l.Stack, ben).Want(200)
	require.Equal(t, "magic_link success with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ben))

	enterprise(l.Stack, anna, "allow_password = true, sso_enforced = true")
	byPassword("Wrong-Horse-7").Problem(401, "INVALID_CREDENTIALS")
	require.Equal(t, "password failed Invalid password with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ben))
	require.Equal(t, "security.login_failed Invalid password with Firefox Windows from 127.0.0.1", trail(l.Stack, ben))
	byPassword(ben.Password).Problem(403, "SSO_REQUIRED")
	blocked("password", "SSO required")
	byLink(l.Stack, ben).Problem(403, "SSO_REQUIRED")
	blocked("magic_link", "SSO required")
	l.As(l.signIn(as("ben", "email", ben.Email)).Want(200).Tokens().AccessToken).Get("/projects").Want(200)
	require.Equal(t, "sso sso", methodOf(l.Stack, ben))

	enterprise(l.Stack, anna, "sso_enforced = false, ip_mode = 'enforce'")
	byLink(l.Stack, ben).Problem(403, "IP_NOT_ALLOWED")
	blocked("magic_link", "IP address blocked")
	l.signIn(as("ben", "email", ben.Email)).Problem(403, "IP_NOT_ALLOWED")
	require.Contains(t, tried(t, l.Stack, ben), "sso blocked IP address blocked")
}

// Ben signed in by single sign-on, has a second organization, and stays that sign-in wherever he goes on.
func TestASingleSignOnStaysOneInEachOrganization(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	anna, ben := l.SignUp("Anna"), l.SignUp("Ben")
	own := ben.OrgID
	enterprise(l.Stack, anna, "sso_enforced = true")
	join(l.Stack, ben, anna, "member")
	l.DB.Exec("update public.users set email_verified_at = now() where id = $1", ben.ID)
	began := func() string {
		return testdb.Value[string](l.DB, `select signed_in_at::text from private.sessions where user_id = $1 order by created_at desc limit 1`, ben.ID)
	}
	move := func(c *client.Client, org string) client.Response {
		return c.With("User-Agent", firefox).Do("POST", "/auth/switch-org", fields{"org_id": org})
	}
	move(ben.Client, anna.OrgID).Problem(403, "SSO_REQUIRED")
	require.Equal(t, "password blocked SSO required with Firefox Windows from 127.0.0.1", tried(t, l.Stack, ben))

	home := l.As(l.signIn(as("ben", "email", ben.Email)).Want(200).Tokens().AccessToken)
	l.DB.Exec("update private.sessions set signed_in_at = now() - interval '2 hours' where user_id = $1 and method = 'sso'", ben.ID)
	at := began()
	there := move(home, anna.OrgID).Want(200).Tokens()
	require.Equal(t, []string{"switch sso", at}, []string{methodOf(l.Stack, ben), began()})
	back := l.As(move(l.As(there.AccessToken), own).Want(200).Tokens().AccessToken)
	there = move(back, anna.OrgID).Want(200).Tokens()
	l.As(there.AccessToken).Get("/projects").Want(200)
	there = refresh(l.Stack, there.RefreshToken).Want(200).Tokens()
	require.Equal(t, []string{"switch sso", at}, []string{methodOf(l.Stack, ben), began()})

	// Removed there, he goes on at home, which asks for single sign-on as well by then.
	l.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", own)
	l.DB.Exec("update public.security_policies set sso_enforced = true where organization_id = $1", own)
	l.DB.Exec("delete from public.memberships where user_id = $1 and organization_id = $2", ben.ID, anna.OrgID)
	l.As(there.AccessToken).Get("/projects").Problem(401, "SESSION_REVOKED")
	next := refresh(l.Stack, there.RefreshToken).Want(200).Tokens()
	require.Equal(t, own, l.As(next.AccessToken).Get("/auth/me").Want(200).String("org_id"))
	require.Equal(t, []string{"switch sso", at}, []string{methodOf(l.Stack, ben), began()})
	require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from private.sessions where user_id = $1 and revoked_at is null and provider_key is not null", ben.ID))

	// A session of a password has no such home to go on in.
	cas := l.SignUp("Cas")
	enterprise(l.Stack, cas, "sso_enforced = true")
	join(l.Stack, cas, ben, "member")
	l.DB.Exec("update private.sessions set organization_id = $1 where user_id = $2", own, cas.ID)
	l.DB.Exec("delete from public.memberships where user_id = $1 and organization_id = $2", cas.ID, own)
	refresh(l.Stack, cas.RefreshToken).Problem(403, "SSO_REQUIRED")
}

// Stan registered Ann's address, and furnished the account to get in again. Nothing of that outlives the proof that the address is hers.
func TestNothingThatASquatterSetUpOutlivesTheClaim(t *testing.T) {
	t.Parallel()
	l := newKeycloakLab(t)
	for how, claim := range map[string]func(stan *client.Person){
		"a reset": func(stan *client.Person) {
			l.Do("POST", "/auth/reset-password", fields{"token": mailed(l.Stack, stan, "reset_password"), "password": "Rightful-Owner-1"}).Want(204)
			l.Do("POST", "/auth/login", fields{"email": stan.Email, "password": "Rightful-Owner-1"}).Want(200)
		},
		"a link to sign in": func(stan *client.Person) { byLink(l.Stack, stan).Want(200) },
		"a provider":        func(stan *client.Person) { l.signIn(as("rightful", "email", stan.Email)).Want(200) },
	} {
		t.Run(how, func(t *testing.T) {
			stan := l.SignUp("Stan")
			code := enroll(t, l.Stack, stan)
			key := l.As(stan.Do("POST", "/security/api-keys", fields{"name": "Stan's", "expiration": "never", "scopes": []string{"admin"}}).Want(201).String("key"))
			key.Get("/projects").Want(200)
			refusal := l.Do("POST", "/auth/login", fields{"email": stan.Email, "password": stan.Password}).Problem(401, "TWO_FACTOR_REQUIRED")
			remembered := l.Do("POST", "/auth/2fa", fields{"two_factor_token": refusal.String("details.two_factor_token"), "code": code(), "remember_device": true}).Want(200)
			waiting := l.Do("POST", "/auth/login", fields{"email": stan.Email, "password": stan.Password}).Problem(401, "TWO_FACTOR_REQUIRED")
			claim(stan)
			key.In(t).Get("/projects").Problem(401, "API_KEY_INVALID")
			l.As(remembered.Tokens().AccessToken).Get("/auth/me").Problem(401, "SESSION_REVOKED")
			refresh(l.Stack, stan.RefreshToken).Problem(401, "INVALID_REFRESH_TOKEN")
			now, _ := totp.GenerateCode("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", time.Now())
			prove(l.Stack, waiting, now).Problem(401, "INVALID_TWO_FACTOR_CODE")
			l.Do("POST", "/auth/login", fields{"email": stan.Email, "password": stan.Password, "device_token": remembered.String("device_token")}).Problem(401, "INVALID_CREDENTIALS")
			require.Equal(t, "0 0 0 0 t", testdb.Value[string](l.DB, `select concat_ws(' ',
				(select count(*) from private.second_factors f where f.user_id = u.id), (select count(*) from private.backup_codes b where b.user_id = u.id),
				(select count(*) from private.remembered_devices d where d.user_id = u.id),
				(select count(*) from public.api_keys k where k.user_id = u.id and k.revoked_at is null), u.two_factor_enabled_at is null)
				from public.users u where u.id = $1`, stan.ID))
			require.Equal(t, 1, testdb.Value[int](l.DB, "select count(*) from public.audit_log where organization_id = $1 and event_type = 'security.api_key_revoked'", stan.OrgID))
		})
	}
}
