package security

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

var defaults = object{
	"password": object{"minLength": 8, "requireUppercase": true, "requireLowercase": true, "requireNumber": true, "requireSymbol": false,
		"expiryDays": 0, "preventReuse": 0},
	"session":        object{"sessionTimeoutMinutes": 480, "idleTimeoutMinutes": 30, "maxConcurrentSessions": 0, "rememberDeviceDays": 30},
	"authentication": object{"require2fa": "none", "ssoEnforcement": false, "allowPasswordAuth": true, "allowMagicLinkAuth": true},
}

func set(p *client.Person, group string, values object) client.Response {
	return p.Do("PATCH", "/security/policies", object{group: values})
}

// viaProvider makes the person's present session one of an identity provider, as resolve_external does.
func viaProvider(s *stack.Stack, p *client.Person) {
	s.DB.Exec("update private.sessions set signed_in_by = 'sso', method = 'sso' where user_id = $1", p.ID)
}

func TestPoliciesAreShownToMembersAndChangedByAdmins(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben, vera := s.SignUp("Anna"), s.SignUp("Ben"), s.SignUp("Vera")
	shown := client.JSON[object](anna.Get("/security/policies").Want(200))
	require.Equal(t, anna.OrgID, shown["teamId"])
	for group := range defaults {
		anna.Get("/security/policies").Equal(object{"teamId": anna.OrgID, "updatedAt": shown["updatedAt"], "password": defaults["password"],
			"session": defaults["session"], "authentication": defaults["authentication"]})
		refusal := set(anna, group, object{}).Problem(403, "PLAN_UPGRADE_REQUIRED")
		require.Equal(t, "enterprise", refusal.String("details.requiredPlan"))
	}
	enterprise(s, anna)
	join(s, ben, anna, "member")
	join(s, vera, anna, "viewer")
	for _, p := range []*client.Person{ben, vera} {
		p.Get("/security/policies").Want(200)
		set(p, "session", object{"idleTimeoutMinutes": 0}).Problem(403, "FORBIDDEN")
	}

	changed := anna.Do("PUT", "/security/policies", object{"teamId": "x", "updatedAt": "y", "password": object{"minLength": 12, "expiryDays": 90},
		"authentication": object{"allowMagicLinkAuth": false}}).Want(200)
	require.Equal(t, 12.0, changed.Value("password.minLength"))
	require.Equal(t, true, changed.Value("password.requireNumber"))
	require.Equal(t, false, changed.Value("authentication.allowMagicLinkAuth"))
	require.Equal(t, 0.0, set(anna, "password", object{"expiryDays": nil}).Want(200).Value("password.expiryDays"))
	set(anna, "password", object{"minLength": 12}).Want(200)
	require.Equal(t, 2, audited(s, anna, "security.policy_updated"), "what changes nothing is not recorded")
	require.JSONEq(t, `[{"field": "authentication.allowMagicLinkAuth", "oldValue": true, "newValue": false},
		{"field": "password.expiryDays", "oldValue": 0, "newValue": 90}, {"field": "password.minLength", "oldValue": 8, "newValue": 12}]`,
		testdb.Value[string](s.DB, "select changes::text from public.audit_log where user_id = $1 and event_type = 'security.policy_updated' order by created_at limit 1", anna.ID))

	for field, body := range map[string]object{
		"password.minLength":                {"password": object{"minLength": 7}},
		"password.expiryDays":               {"password": object{"expiryDays": 366}},
		"password.preventReuse":             {"password": object{"preventReuse": 25}},
		"password.requireSymbol":            {"password": object{"requireSymbol": "yes"}},
		"session.sessionTimeoutMinutes":     {"session": object{"sessionTimeoutMinutes": 14}},
		"session.idleTimeoutMinutes":        {"session": object{"idleTimeoutMinutes": 1441}},
		"session.maxConcurrentSessions":     {"session": object{"maxConcurrentSessions": -1}},
		"session.rememberDeviceDays":        {"session": object{"rememberDeviceDays": 1.5}},
		"authentication.require2fa":         {"authentication": object{"require2fa": "some"}},
		"authentication.allowPasswordAuth":  {"authentication": object{"allowPasswordAuth": false}},
		"authentication.allowMagicLinkAuth": {"authentication": object{"allowMagicLinkAuth": 1}},
	} {
		anna.Do("PATCH", "/security/policies", body).Problem(400, "VALIDATION_ERROR").Field(field)
	}
}

func TestAnEnterpriseSwitchesEverythingOnWithoutLockingItselfOut(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	enterprise(s, anna)
	join(s, ben, anna, "member")
	at := func(p *client.Person, address string) *client.Client { return p.With("X-Forwarded-For", address) }
	office := &client.Person{Client: at(anna, "203.0.113.7"), ID: anna.ID, OrgID: anna.OrgID, Email: anna.Email, Password: anna.Password}

	// The organization demands a second factor: Anna sets hers up first, then Ben must.
	set(office, "authentication", object{"require2fa": "all"}).Problem(409, "TWO_FACTOR_SETUP_REQUIRED").Field("authentication.require2fa")
	set(office, "authentication", object{"require2fa": "admins"}).Problem(409, "TWO_FACTOR_SETUP_REQUIRED")
	a := enroll(t, s, anna)
	set(office, "authentication", object{"require2fa": "all"}).Want(200)
	office.Get("/projects").Want(200)
	ben.Get("/projects").Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
	ben.Get("/security/policies").Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
	ben.Do("POST", "/projects", object{"name": "Mine"}).Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
	ben.Get("/auth/me").Want(200)
	ben.Get("/auth/organizations").Want(200)
	ben.Get("/security/2fa").Want(200)
	b := enroll(t, s, ben)
	ben.Get("/projects").Want(200)
	ben.Do("POST", "/security/2fa/disable", object{"password": ben.Password, "code": b.code()}).Problem(403, "TWO_FACTOR_REQUIRED_BY_POLICY")

	// Addresses: no change may lock out the person who makes it.
	office.Do("PATCH", "/security/ip-whitelist", object{"adminBypassEnabled": false}).Want(200)
	office.Do("PATCH", "/security/ip-whitelist", object{"mode": "enforce"}).Problem(409, "IP_LOCKOUT")
	home := office.Do("POST", "/security/ip-whitelist/entries", object{"name": "Home", "ipAddress": "198.51.100.1"}).Want(201).String("id")
	office.Do("PATCH", "/security/ip-whitelist", object{"mode": "enforce"}).Problem(409, "IP_LOCKOUT")
	entry := office.Do("POST", "/security/ip-whitelist/entries", object{"name": "Office", "ipRange": "203.0.113.0/24"}).Want(201).String("id")
	office.Do("PATCH", "/security/ip-whitelist", object{"mode": "enforce"}).Want(200)
	path := "/security/ip-whitelist/entries/" + entry
	office.Do("DELETE", path, nil).Problem(409, "IP_LOCKOUT")
	office.Do("PATCH", path, object{"isActive": false}).Problem(409, "IP_LOCKOUT")
	office.Do("PATCH", path, object{"ipRange": "203.0.113.128/25"}).Problem(409, "IP_LOCKOUT")
	office.Do("DELETE", "/security/ip-whitelist/entries/"+home, nil).Want(204)
	at(ben, "203.0.113.9").Get("/projects").Want(200)
	at(ben, "198.51.100.1").Get("/projects").Problem(403, "IP_NOT_ALLOWED")
	at(anna, "198.51.100.1").Get("/projects").Problem(403, "IP_NOT_ALLOWED")
	office.Do("PATCH", "/security/ip-whitelist", object{"adminBypassEnabled": true}).Want(200)
	at(anna, "198.51.100.1").Get("/projects").Want(200)
	office.Do("DELETE", path, nil).Want(204)
	office.Get("/projects").Want(200)
	at(anna, "192.0.2.5").Do("PATCH", "/security/ip-whitelist", object{"adminBypassEnabled": false}).Problem(409, "IP_LOCKOUT")
	office.Do("POST", "/security/ip-whitelist/entries", object{"name": "Office", "ipRange": "203.0.113.0/24"}).Want(201)

	// Single sign-on: only a person who signed in that way may demand it.
	set(office, "authentication", object{"ssoEnforcement": true}).Problem(409, "SSO_NOT_CONFIGURED").Field("authentication.ssoEnforcement")
	viaProvider(s, anna)
	set(office, "authentication", object{"ssoEnforcement": true, "allowPasswordAuth": false, "allowMagicLinkAuth": false}).Want(200)
	office.Get("/projects").Want(200)
	set(office, "authentication", object{"ssoEnforcement": false}).Problem(400, "VALIDATION_ERROR").Field("authentication.allowPasswordAuth")
	in := func(p *client.Person) client.Response {
		return s.As("").With("X-Forwarded-For", "203.0.113.8").Do("POST", "/auth/login", object{"email": p.Email, "password": p.Password})
	}
	in(ben).Problem(403, "SSO_REQUIRED")
	in(anna).Problem(403, "SSO_REQUIRED")
	s.As("").Do("POST", "/auth/login", object{"email": ben.Email, "password": "wrong"}).Problem(401, "INVALID_CREDENTIALS")
	set(office, "authentication", object{"ssoEnforcement": false, "allowPasswordAuth": false, "allowMagicLinkAuth": true}).Want(200)
	in(ben).Problem(403, "PASSWORD_LOGIN_DISABLED")
	set(office, "authentication", object{"allowPasswordAuth": true}).Want(200)
	in(ben).Problem(401, "TWO_FACTOR_REQUIRED")
	s.As("").With("X-Forwarded-For", "192.0.2.1").Do("POST", "/auth/login", object{"email": ben.Email, "password": ben.Password}).Problem(403, "IP_NOT_ALLOWED")
	require.Equal(t, []string{"password blocked SSO required", "password failed Invalid password", "password blocked Password login disabled",
		"password blocked IP address blocked"}, history(s, ben)[2:])
	require.Equal(t, 4, audited(s, ben, "security.login_failed"))
	require.NotEmpty(t, a.secret)
}

func TestASecondFactorIsCheckedByTheRulesOfItsMoment(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	enterprise(s, anna)
	join(s, ben, anna, "member")
	b := enroll(t, s, ben)
	token := challenge(s, ben)
	s.DB.Exec("update public.security_policies set ip_mode = 'enforce' where organization_id = $1", anna.OrgID)
	prove(s, token, b.code()).Problem(403, "IP_NOT_ALLOWED")
	prove(s, token, b.code()).Problem(401, "INVALID_TWO_FACTOR_CODE")
}

func TestPoliciesHoldOnEnterpriseOnly(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	enterprise(s, anna)
	join(s, ben, anna, "member")
	s.DB.Exec(`update public.security_policies set require_second_factor = 'all', sso_enforced = true, ip_mode = 'enforce', ip_admin_bypass = false, max_sessions = 1
		where organization_id = $1`, anna.OrgID)
	ben.Get("/projects").Problem(403, "IP_NOT_ALLOWED")
	for _, change := range []string{"plan_id = 'teams'", "plan_id = 'enterprise', status = 'canceled'"} {
		s.DB.Exec("update public.subscriptions set "+change+" where organization_id = $1", anna.OrgID)
		ben.Get("/projects").Want(200)
		login(s, ben).Want(200)
		login(s, ben).Want(200)
		anna.Get("/security/policies").Want(200)
		require.Equal(t, "all", anna.Get("/security/policies").String("authentication.require2fa"))
		set(anna, "session", object{}).Problem(403, "PLAN_UPGRADE_REQUIRED")
	}
	s.DB.Exec("update public.subscriptions set status = 'active' where organization_id = $1", anna.OrgID)
	ben.Get("/projects").Problem(403, "IP_NOT_ALLOWED")
	s.DB.Exec("update public.plans set gates = array_remove(array_remove(gates, 'ip_allow_list'), 'security_policies') where id = 'enterprise'")
	ben.Get("/projects").Want(200)
	s.DB.Exec("update public.plans set gates = gates || array['security_policies'] where id = 'enterprise'")
	ben.Get("/projects").Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
}

func TestAPasswordThatIsTooOldIsToBeChangedFirst(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	enterprise(s, anna)
	set(anna, "password", object{"expiryDays": 30}).Want(200)
	s.DB.Exec("update private.credentials set changed_at = now() - interval '29 days' where user_id = $1", anna.ID)
	anna.Get("/projects").Want(200)
	s.DB.Exec("update private.credentials set changed_at = now() - interval '30 days' where user_id = $1", anna.ID)
	anna.Get("/projects").Problem(403, "PASSWORD_EXPIRED")
	login(s, anna).Want(200)
	anna.Get("/auth/me").Want(200)
	anna.Do("POST", "/security/2fa/setup", nil).Want(200)
	s.DB.Exec("update private.credentials set changed_at = now() where user_id = $1", anna.ID)
	anna.Get("/projects").Want(200)
	s.DB.Exec("delete from private.credentials where user_id = $1", anna.ID)
	anna.Get("/projects").Want(200)
}

func TestRestrictedPeopleMoveToAnotherOrganizationAndSignOut(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	own := ben.OrgID
	enterprise(s, anna)
	join(s, ben, anna, "member")
	s.DB.Exec("update public.security_policies set require_second_factor = 'all' where organization_id = $1", anna.OrgID)
	ben.Get("/projects").Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
	there := ben.Do("POST", "/auth/switch-org", object{"org_id": own}).Want(200).Tokens()
	s.As(there.AccessToken).Get("/projects").Want(200)
	back := s.As(there.AccessToken).Do("POST", "/auth/switch-org", object{"org_id": anna.OrgID}).Want(200).Tokens()
	s.As(back.AccessToken).Get("/projects").Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
	home := s.As(back.AccessToken).Do("POST", "/auth/switch-org", object{"org_id": own}).Want(200).Tokens()
	// The rules of signing in apply to switching organizations, too.
	s.DB.Exec("update public.security_policies set sso_enforced = true where organization_id = $1", anna.OrgID)
	s.As(home.AccessToken).Do("POST", "/auth/switch-org", object{"org_id": anna.OrgID}).Problem(403, "SSO_REQUIRED")
	s.As(home.AccessToken).Get("/projects").Want(200)
	s.As(home.AccessToken).Do("POST", "/auth/logout", nil).Want(204)
	s.As(home.AccessToken).Get("/auth/me").Problem(401, "SESSION_REVOKED")
}

func TestSessionsLastAsLongAsThePolicyAllows(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	enterprise(s, anna)
	fresh := func() *client.Person {
		tokens := login(s, anna).Want(200).Tokens()
		return &client.Person{Client: s.As(tokens.AccessToken), ID: anna.ID, RefreshToken: tokens.RefreshToken}
	}
	newest := "id = (select id from private.sessions where user_id = $1 order by created_at desc limit 1)"

	t.Run("FromSigningIn", func(t *testing.T) {
		p := fresh()
		s.DB.Exec("update private.sessions set signed_in_at = now() - interval '479 minutes' where "+newest, anna.ID)
		p.Get("/projects").Want(200)
		s.DB.Exec("update private.sessions set signed_in_at = now() - interval '480 minutes' where "+newest, anna.ID)
		p.Get("/projects").Problem(401, "SESSION_EXPIRED")
		p.Get("/auth/me").Problem(401, "SESSION_EXPIRED")
		s.As("").Do("POST", "/auth/refresh", object{"refresh_token": p.RefreshToken}).Problem(401, "INVALID_REFRESH_TOKEN")
		require.Equal(t, "policy", testdb.Value[string](s.DB, "select revoked_reason from private.sessions where "+newest, anna.ID))
		require.Equal(t, 1, audited(s, anna, "security.session_terminated"))
		p.Get("/projects").Problem(401, "SESSION_REVOKED")
	})
	t.Run("FromTheLastUse", func(t *testing.T) {
		p := fresh()
		s.DB.Exec("update private.sessions set last_active_at = now() - interval '30 minutes' where "+newest, anna.ID)
		p.Get("/projects").Want(200)
		s.DB.Exec("update private.sessions set last_active_at = now() - interval '32 minutes' where "+newest, anna.ID)
		p.Get("/projects").Problem(401, "SESSION_EXPIRED")
		// A refused request is no use of the session: recording its activity ends the session and does not revive it.
		s.DB.Exec("select private.touch_sessions(array_agg(id), array_agg(organization_id)) from private.sessions where "+newest, anna.ID)
		p.Get("/projects").Problem(401, "SESSION_REVOKED")
		set(anna, "session", object{"idleTimeoutMinutes": 0}).Want(200)
		p = fresh()
		s.DB.Exec("update private.sessions set last_active_at = now() - interval '7 hours' where "+newest, anna.ID)
		p.Get("/projects").Want(200)
	})
	t.Run("AndTheSweepEndsWhatNobodyAsksFor", func(t *testing.T) {
		fresh()
		s.DB.Exec("update private.sessions set signed_in_at = now() - interval '9 hours' where "+newest, anna.ID)
		s.DB.Exec("select private.end_overdue_sessions(null, now())")
		require.Equal(t, "policy", testdb.Value[string](s.DB, "select revoked_reason from private.sessions where "+newest, anna.ID))
		anna.Get("/projects").Want(200)
	})
	t.Run("AMoveToAnotherOrganizationIsNoNewSignIn", func(t *testing.T) {
		ben := s.SignUp("Ben")
		join(s, anna, ben, "member")
		s.DB.Exec("update private.sessions set signed_in_at = now() - interval '9 hours', signed_in_by = 'magic_link' where "+newest, anna.ID)
		p := s.As(anna.Do("POST", "/auth/switch-org", object{"org_id": testdb.Value[string](s.DB,
			"select organization_id::text from public.memberships where user_id = $1 and role = 'owner'", anna.ID)}).Want(200).Tokens().AccessToken)
		p.Get("/projects").Problem(401, "SESSION_EXPIRED")
		require.Equal(t, "magic_link", testdb.Value[string](s.DB, "select signed_in_by from private.sessions where "+newest, anna.ID))
	})
}

func TestASignInBeyondTheNumberEndsTheSessionThatWasIdleLongest(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	replica := stack.On(t, s.DB)
	anna := s.SignUp("Anna")
	enterprise(s, anna)
	set(anna, "session", object{"maxConcurrentSessions": 2}).Want(200)
	second := s.As(login(s, anna).Want(200).Tokens().AccessToken)
	s.DB.Exec("update private.sessions set last_active_at = now() + interval '1 second' where user_id = $1 and method = 'signup'", anna.ID)
	third := s.As(login(s, anna).Want(200).Tokens().AccessToken)
	second.Get("/auth/me").Problem(401, "SESSION_REVOKED")
	anna.Get("/auth/me").Want(200)
	third.Get("/auth/me").Want(200)
	require.Equal(t, "policy", testdb.Value[string](s.DB,
		"select metadata ->> 'reason' from public.audit_log where user_id = $1 and event_type = 'security.session_terminated'", anna.ID))
	parallel(t, 8, func(n int) (client.Response, error) {
		return s.As("").At([]string{s.BaseURL, replica.BaseURL}[n%2]).Try("POST", "/auth/login", object{"email": anna.Email, "password": anna.Password})
	})
	require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*) from private.sessions where user_id = $1 and revoked_at is null", anna.ID))
}

func TestRestrictedSessionsOpenNoSocket(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.SignUp("Anna")
	enterprise(s, anna)
	s.DB.Exec("update public.security_policies set require_second_factor = 'admins' where organization_id = $1", anna.OrgID)
	anna.Do("POST", "/realtime/token", object{}).Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
	anna.Get("/realtime/events").Problem(403, "TWO_FACTOR_SETUP_REQUIRED")
}
