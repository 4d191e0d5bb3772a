package audit

import (
	"bytes"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"
	"github.com/stretchr/testify/require"

	"kijko/server/auth/authtest"
	"kijko/server/config"
	"kijko/tests/client"
)

const clientID, clientSecret = "kijko-client", "a-secret-of-our-client"

// double is GitHub, GitLab, Mixpanel and an MCP server as far as the story needs them. What it refuses, it repeats, as careless programs do.
type double struct {
	*httptest.Server
	note   func(name, value string) string
	hooks  *httptest.Server
	mu     sync.Mutex
	number int
}

func newDouble(t *testing.T) *double {
	d := &double{}
	d.Server = httptest.NewServer(d)
	// A receiver whose certificate is not trusted: its deliveries fail, and are tried again.
	d.hooks = httptest.NewUnstartedServer(http.NotFoundHandler())
	d.hooks.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	d.hooks.StartTLS()
	t.Cleanup(func() { d.Close(); d.hooks.Close() })
	return d
}

func (d *double) settings(c *config.Config) {
	c.GitHub, c.GitHubID, c.GitHubSecret, c.GitAllowPrivate = d.URL, clientID, clientSecret, true
	c.IntegrationURLs = []string{"gitlab=" + d.URL, "mixpanel=" + d.URL}
	c.IntegrationClients = []string{"gitlab=" + clientID + ":" + clientSecret}
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	_, password, _ := r.BasicAuth()
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/login/oauth/access_token", "/oauth/token":
		if form.Get("code") == "a-code-that-is-not-good" {
			break
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.number++
		access := d.note(fmt.Sprintf("provider's access token %d", d.number), fmt.Sprintf("access-token-of-a-provider-%d-", d.number))
		refresh := d.note(fmt.Sprintf("provider's refresh token %d", d.number), fmt.Sprintf("refresh-token-of-a-provider-%d-", d.number))
		if verifier := form.Get("code_verifier"); verifier != "" {
			d.note(fmt.Sprintf("code verifier %d", d.number), verifier)
		}
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q,"token_type":"bearer","expires_in":7200,"scope":"repo,read:user"}`, access, refresh)
		return
	case "/api/v3/user", "/api/v4/user":
		_, _ = fmt.Fprint(w, `{"id":7,"login":"mia","username":"mia","avatar_url":"https://avatars.example/mia"}`)
		return
	case "/api/app/me":
		if password != "a-wrong-secret-of-mixpanel" {
			_, _ = fmt.Fprint(w, `{"status":"ok"}`)
			return
		}
	}
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprintf(w, `{"error":"invalid_grant","error_description":%q}`, fmt.Sprint(r.URL, " ", r.Header, " ", string(body)))
}

// consent is what a browser is led back with from a provider's page; code and state are noted.
func (s *story) consent(t *testing.T, name, authorization, code string) url.Values {
	u, err := url.Parse(authorization)
	require.NoError(t, err)
	return url.Values{"code": {s.secret("code of "+name, code)}, "state": {s.secret("state of "+name, u.Query().Get("state"))}}
}

// mailed waits for the nth link to a screen in mails to an address, and notes its token.
func (s *story) mailed(t *testing.T, to, screen string, nth int) string {
	t.Helper()
	linked := regexp.MustCompile(`/` + screen + `\?token=([\w-]{43})`)
	token := ""
	require.Eventually(t, func() bool {
		n := 0
		for _, m := range s.mails.Mails() {
			if !strings.Contains(m.To, to) {
				continue
			}
			if found := linked.FindStringSubmatch(strings.NewReplacer("=\r\n", "", "=3D", "=").Replace(m.Data)); found != nil {
				if n++; n == nth {
					token = found[1]
				}
			}
		}
		return token != ""
	}, 20*time.Second, 20*time.Millisecond, "mail %d to %s with a link to %s", nth, to, screen)
	return s.secret(fmt.Sprintf("link %d to %s of %s", nth, screen, to), token)
}

// enter signs Mia in and notes what she gets.
func (s *story) enter(name string, more object) client.Response {
	body := object{"email": s.me.Email, "password": s.me.Password}
	for member, value := range more {
		body[member] = value
	}
	r := s.As("").Do("POST", "/auth/login", body)
	if r.Status == 200 {
		s.in(name, r)
	}
	return r
}

// in has Mia go on with the session of an answer.
func (s *story) in(name string, r client.Response) {
	tokens := s.tokens(name, r.Want(200).Tokens())
	s.me.Client, s.me.RefreshToken = s.As(tokens.AccessToken), tokens.RefreshToken
	if c := r.Cookie("kijko_session"); c != nil {
		s.secret(name+": cookie", c.Value)
	}
}

// code is one of an authenticator app; six digits are looked for in quotation marks, as they are found elsewhere by chance.
func (s *story) code(t *testing.T, name, secret string) string {
	code, err := totp.GenerateCode(secret, time.Now())
	require.NoError(t, err)
	s.secret("code for "+name, `"`+code+`"`)
	s.DB.Exec("update private.second_factors set last_step = 0 where user_id = $1", s.me.ID)
	return code
}

type object = map[string]any

// flows are those of accounts, keys, invitations and providers.
var flows = []step{
	{"verifies her address", func(t *testing.T, s *story) {
		s.enter("sign-in before the flows", nil).Want(200)
		s.me.Do("POST", "/profile/resend-verification", nil).Want(202)
		s.mailed(t, s.me.Email, "verify-email", 1)
		s.As("").Do("POST", "/auth/verify-email", object{"token": s.mailed(t, s.me.Email, "verify-email", 2)}).Want(204)
		s.As("").Do("POST", "/auth/verify-email", object{"token": s.secret("unknown link", strings.Repeat("no-link-", 5)+"abc")}).Problem(400, "INVALID_TOKEN")
	}},
	{"forgets her password", func(t *testing.T, s *story) {
		s.As("").Do("POST", "/auth/forgot-password", object{"email": s.me.Email}).Want(202)
		token := s.mailed(t, s.me.Email, "reset-password", 1)
		s.As("").Do("POST", "/auth/reset-password", object{"token": token, "password": s.secret("weak password", "weak-password")}).Problem(400, "WEAK_PASSWORD")
		s.me.Password = s.secret("password after the reset", "Another-Horse-8")
		s.As("").Do("POST", "/auth/reset-password", object{"token": token, "password": s.me.Password}).Want(204)
		s.As("").Do("POST", "/auth/reset-password", object{"token": token, "password": s.me.Password}).Problem(400, "INVALID_TOKEN")
		s.enter("sign-in after the reset", nil).Want(200)
	}},
	{"signs in by a link", func(t *testing.T, s *story) {
		s.As("").Do("POST", "/auth/magic-link", object{"email": s.me.Email}).Want(202)
		use := object{"token": s.mailed(t, s.me.Email, "magic-link", 1)}
		keyed := s.As("").With("Idempotency-Key", "magic")
		s.in("sign-in by a link", keyed.Do("POST", "/auth/magic-link/verify", use))
		keyed.Do("POST", "/auth/magic-link/verify", use).Want(200)
		s.As("").Do("POST", "/auth/magic-link/verify", use).Problem(400, "INVALID_TOKEN")
	}},
	{"changes her password", func(_ *testing.T, s *story) {
		next := s.secret("changed password", "Third-Horse-9")
		s.me.Do("POST", "/profile/password", object{"currentPassword": s.secret("wrong current password", "Wrong-Horse-1"), "newPassword": next}).Problem(400, "INVALID_PASSWORD")
		s.me.With("Idempotency-Key", "password").Do("POST", "/profile/password", object{"currentPassword": s.me.Password, "newPassword": next}).Want(204)
		s.me.Password = next
	}},
	{"moves to another address", func(t *testing.T, s *story) {
		s.me.Do("PATCH", "/profile", object{"email": "mia@moved.example.nl"}).Want(200)
		s.As("").Do("POST", "/auth/verify-email", object{"token": s.mailed(t, "mia@moved.example.nl", "verify-email", 1)}).Want(204)
		s.me.Email = "mia@moved.example.nl"
	}},
	{"watches a friend sign in with Google", func(t *testing.T, s *story) {
		code, state := s.people.Follow(t, s.Get("/auth/oauth/google").Want(200).String("redirect_url"), authtest.Request{Subject: "kim", Claims: object{
			"email": "kim@example.nl", "email_verified": true, "given_name": "Kim", "family_name": "Berg", "sid": uuid.NewString()}})
		body := object{"code": s.secret("code of Google", code), "state": s.secret("state of Google", state), "redirect_uri": "http://kijko.test/auth/callback"}
		r := s.Do("POST", "/auth/oauth/callback", body).Want(200)
		s.tokens("sign-in with Google", r.Tokens())
		s.secret("cookie of Google", r.Cookie("kijko_session").Value)
		require.GreaterOrEqual(t, s.Do("POST", "/auth/oauth/callback", body).Status, 400)
	}},
	{"sets a second factor up, and signs in with it", func(t *testing.T, s *story) {
		keyed := s.me.With("Idempotency-Key", "second factor")
		setup := keyed.Do("POST", "/security/2fa/setup", nil).Want(200)
		key := s.secret("secret of the authenticator", setup.String("secret"))
		s.secret("secret for typing", setup.String("manualEntryKey"))
		keyed.Do("POST", "/security/2fa/setup", nil).Want(200)
		on := s.me.With("Idempotency-Key", "on").Do("POST", "/security/2fa/verify", object{"code": s.code(t, "the set-up", key)}).Want(200)
		type codes []struct{ Code string }
		old := client.JSON[struct{ BackupCodes codes }](on).BackupCodes
		made := client.JSON[codes](s.me.With("Idempotency-Key", "more").Do("POST", "/security/2fa/backup-codes/regenerate", nil).Want(200))
		for i, c := range append(old, made...) {
			s.secret(fmt.Sprintf("backup code %d", i), c.Code)
			s.secret(fmt.Sprintf("backup code %d, bare", i), strings.ReplaceAll(c.Code, "-", ""))
		}
		challenge := func(name string) string {
			return s.secret("two-factor token: "+name, s.enter(name, nil).Problem(401, "TWO_FACTOR_REQUIRED").String("details.two_factor_token"))
		}
		token := challenge("in two requests")
		s.As("").Do("POST", "/auth/2fa", object{"two_factor_token": token, "code": old[0].Code}).Problem(401, "INVALID_TWO_FACTOR_CODE")
		r := s.As("").With("Idempotency-Key", "proof").Do("POST", "/auth/2fa", object{"two_factor_token": token, "code": s.code(t, "a sign-in", key), "remember_device": true})
		s.in("second factor", r)
		device := s.secret("device token", r.String("device_token"))
		s.enter("sign-in of a device", object{"device_token": device}).Want(200)
		s.enter("sign-in with a false device", object{"device_token": s.secret("false device token", device[1:]+"x")}).Problem(401, "TWO_FACTOR_REQUIRED")
		s.enter("sign-in at once", object{"totp_code": s.code(t, "a sign-in at once", key)}).Want(200)
		s.in("backup code", s.As("").Do("POST", "/auth/2fa", object{"two_factor_token": challenge("by a backup code"), "code": made[0].Code}))
		s.me.Do("POST", "/security/2fa/disable", object{"password": s.me.Password, "code": s.code(t, "switching off", key)}).Want(200)
	}},
	{"makes keys for programs", func(_ *testing.T, s *story) {
		body := object{"name": "Deploy", "expiration": "never", "scopes": []string{"read", "write"}}
		keyed := s.me.With("Idempotency-Key", "key")
		key := s.secret("API key", keyed.Do("POST", "/security/api-keys", body).Want(201).String("key"))
		keyed.Do("POST", "/security/api-keys", body).Want(201)
		s.secret("what an API key has besides its prefix", key[20:])
		s.As(key).Do("POST", "/projects", object{"name": "By a program"}).Want(201)
		s.As(s.secret("unknown API key", key[:len(key)-8]+"00000000")).Get("/auth/me").Problem(401, "API_KEY_INVALID")
		s.secret("unkeyed API key", s.me.Do("POST", "/security/api-keys", object{"name": "Other", "expiration": "30", "scopes": []string{"read"}}).Want(201).String("key"))
	}},
	{"invites to the team", func(t *testing.T, s *story) {
		ben := s.SignUp("Ben")
		invite := func(email string) (id, token string) {
			made := client.JSON[[]struct{ ID, Token string }](s.me.With("Idempotency-Key", "invite "+email).Do("POST", "/team/invitations",
				object{"emails": []string{email}, "role": "member"}).Want(201))
			return made[0].ID, s.secret("invitation of "+email, made[0].Token)
		}
		id, first := invite(ben.Email)
		s.As("").Get("/team/invitations/lookup?token=" + first).Want(200)
		s.mailed(t, ben.Email, "team-invitation", 1)
		second := s.secret("invitation that was sent again", s.me.With("Idempotency-Key", "again").Do("POST", "/team/invitations/"+id+"/resend", nil).Want(200).String("token"))
		ben.Do("POST", "/team/invitations/accept", object{"token": first}).Problem(404, "INVITATION_NOT_FOUND")
		ben.Do("POST", "/team/invitations/accept", object{"token": second}).Want(200)
		_, token := invite("cas@vos.nl")
		s.tokens("sign-up of an invited person", s.As("").Do("POST", "/auth/signup", object{"email": "cas@vos.nl", "password": s.secret("password of Cas", "Cas-has-Horse-7"),
			"first_name": "Cas", "last_name": "Vos", "invitation_token": token}).Want(201).Tokens())
	}},
	{"invites to a project", func(t *testing.T, s *story) {
		gus := s.SignUp("Gus")
		s.DB.Exec("update public.users set email_verified_at = now() where id = $1", gus.ID)
		path := "/projects/" + s.me.Do("POST", "/projects", object{"name": "Guests"}).Want(201).String("project.id")
		id := s.me.With("Idempotency-Key", "guest").Do("POST", path+"/members", object{"email": gus.Email, "role": "viewer"}).Want(201).String("id")
		first := s.mailed(t, gus.Email, "project-invitation", 1)
		s.As("").Get("/project-invitations/" + first).Want(200)
		s.DB.Exec("update private.project_invitations set sent_at = sent_at - interval '1 minute'")
		s.me.Do("POST", path+"/invitations/"+id+"/resend", nil).Want(200)
		second := s.mailed(t, gus.Email, "project-invitation", 2)
		gus.Do("POST", "/project-invitations/"+first+"/accept", nil).Problem(404, "INVITATION_NOT_FOUND")
		gus.Do("POST", "/project-invitations/"+second+"/accept", nil).Want(200)
	}},
	{"connects integrations by consent and by key", func(t *testing.T, s *story) {
		begin := func(name, code string) url.Values {
			return s.consent(t, name, s.me.With("Idempotency-Key", name).Do("POST", "/integrations/gitlab/connect", nil).Want(202).String("authorizationUrl"), code)
		}
		s.As("").Get("/integrations/oauth/callback?" + begin("a consent that fails", "a-code-that-is-not-good").Encode()).Want(302)
		s.As("").Get("/integrations/oauth/callback?" + begin("an integration", "the-code-of-an-integration").Encode()).Want(302)
		s.me.Do("POST", "/integrations/gitlab/sync", nil)
		key := func(name, key, secret string) client.Response {
			return s.me.With("Idempotency-Key", name).Do("POST", "/integrations/mixpanel/connect", object{"credentials": object{
				"apiKey": s.secret("key of "+name, key), "secret": s.secret("secret of "+name, secret)}})
		}
		require.GreaterOrEqual(t, key("an integration that refuses", "a-wrong-key-of-mixpanel", "a-wrong-secret-of-mixpanel").Status, 400)
		key("an integration by key", "a-good-key-of-mixpanel", "a-good-secret-of-mixpanel").Want(201)
		s.me.Do("DELETE", "/integrations/gitlab", nil).Want(204)
	}},
	{"adds a connector", func(_ *testing.T, s *story) {
		body := object{"name": "Tools", "remoteMcpServerUrl": s.peer.URL + "/mcp?key=" + s.secret("key in a connector's address", "a-key-in-a-connectors-address"), "authType": "api_key",
			"credentials": object{"apiKey": s.secret("credential of a connector", "a-credential-of-a-connector")},
			"config":      object{"customHeaders": object{"X-Secret": s.secret("header of a connector", "a-header-of-a-connector")}}}
		id := s.me.With("Idempotency-Key", "connector").Do("POST", "/integrations/connectors", body).Want(201).String("id")
		s.me.Do("PATCH", "/integrations/connectors/"+id, object{"config": object{"customHeaders": object{"X-Secret": s.secret("new header of a connector", "a-new-header-of-a-connector")}}}).Want(200)
		delete(body, "name")
		s.me.Do("POST", "/integrations/connectors/test", body).Want(200)
	}},
	{"has a webhook told what happens", func(t *testing.T, s *story) {
		id := s.me.With("Idempotency-Key", "webhook").Do("POST", "/integrations/webhooks", object{"name": "Ours", "endpointUrl": s.peer.hooks.URL,
			"secret": s.secret("secret of an outgoing webhook", "the-secret-of-an-outgoing-webhook"), "events": []string{"context.created"}}).Want(201).String("id")
		s.me.Do("POST", "/integrations/webhooks/"+id+"/test", nil).Want(200)
		s.me.Do("POST", "/projects", object{"name": "Told"}).Want(201)
		s.eventually(t, "a delivery was tried", "select count(*) >= 2 from public.webhook_deliveries where webhook_id = $1", id)
		s.me.Do("PATCH", "/integrations/webhooks/"+id, object{"secret": s.secret("new secret of an outgoing webhook", "the-new-secret-of-an-outgoing-webhook")}).Want(200)
		s.exports.Write(s.me.Get("/integrations/webhooks/" + id + "/deliveries").Want(200).Body)
	}},
	{"connects an account at a Git provider", func(t *testing.T, s *story) {
		begin := func(name, code string) url.Values {
			return s.consent(t, name, s.me.With("Idempotency-Key", name).Do("POST", "/oauth/connect/github", nil).Want(200).String("authUrl"), code)
		}
		bad, good := begin("an account that fails", "a-code-that-is-not-good"), begin("an account", "the-code-of-an-account")
		s.me.Do("POST", "/oauth/callback", object{"provider": "github", "code": bad.Get("code"), "state": bad.Get("state")})
		cookie := s.enter("sign-in of a browser", nil).Want(200).Cookie("kijko_session").Value
		s.As("").With("Cookie", "kijko_session="+cookie).Get("/oauth/callback/github?" + good.Encode()).Want(200)
		require.Len(t, client.JSON[[]any](s.me.Get("/oauth/connections").Want(200)), 1)
		s.me.Do("POST", "/repositories/validate-full", object{"url": "https://github.com/mia/closed"}).Want(200)
		id := s.me.Do("POST", "/projects", object{"name": "Closed"}).Want(201).String("project.id")
		s.me.Do("POST", "/projects/"+id+"/repositories", object{"provider": "github", "repositoryUrl": "https://github.com/mia/closed"}).Want(201)
		s.me.Do("POST", "/projects/"+id+"/ingest", object{"skipValidation": true}).Want(202)
		require.Eventually(t, func() bool { return s.me.Get("/projects/"+id+"/progress").Want(200).Value("errorCode") != nil }, time.Minute, 50*time.Millisecond)
		s.exports.Write(s.me.Get("/projects/" + id + "/progress").Want(200).Body)
		// The provider refuses to take the token back, and the account is connected once more.
		s.me.Do("DELETE", "/oauth/disconnect/github", nil).Want(200)
		again := begin("an account once more", "the-second-code-of-an-account")
		s.me.With("Idempotency-Key", "finish").Do("POST", "/oauth/callback", object{"provider": "github", "code": again.Get("code"), "state": again.Get("state")}).Want(200)
	}},
	{"exports all that was written", func(_ *testing.T, s *story) {
		for _, format := range []string{"csv", "json"} {
			s.exports.Write(s.me.Do("POST", "/security/audit-log/export", object{"format": format}).Want(200).Body)
		}
		for _, path := range []string{"/security/login-history/export", "/security/audit-log?limit=100", "/notifications", "/integrations", "/integrations/connectors", "/security/api-keys"} {
			s.exports.Write(bytes.TrimSpace(s.me.Get(path).Want(200).Body))
		}
	}},
}
