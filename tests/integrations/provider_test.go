package integrations

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
)

// double is a provider. It issues consent, codes and tokens as RFC 6749 says, checks its requests, and fails on demand.
type double struct {
	*httptest.Server
	t testing.TB

	mu sync.Mutex
	// codes, with the code challenge of each; a code is valid for one exchange.
	codes   map[string]string
	refresh map[string]bool
	access  map[string]bool
	revoked []string
	n       int
	// trouble is the failure for the next requests of a kind (token, identity, revoke).
	trouble map[string]http.HandlerFunc
	release chan struct{}
}

const (
	clientID     = "kijko-client"
	clientSecret = "a-secret-of-the-client"
)

func newDouble(t testing.TB) *double {
	d := &double{t: t, codes: map[string]string{}, refresh: map[string]bool{}, access: map[string]bool{}, trouble: map[string]http.HandlerFunc{}, release: make(chan struct{})}
	d.Server = httptest.NewServer(http.HandlerFunc(d.serve))
	t.Cleanup(func() {
		close(d.release)
		d.Close()
	})
	return d
}

// options configure the double as GitLab, Slack and GitHub; jira is left without a client.
func (d *double) options(c *config.Config) {
	for _, provider := range []string{"gitlab", "slack", "github", "mixpanel", "notion"} {
		c.IntegrationURLs = append(c.IntegrationURLs, provider+"="+d.URL)
		if provider != "mixpanel" {
			c.IntegrationClients = append(c.IntegrationClients, provider+"="+clientID+":"+clientSecret)
		}
	}
}

func (d *double) fail(kind string, how http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trouble[kind] = how
}

func (d *double) serve(w http.ResponseWriter, r *http.Request) {
	kind := map[string]string{"/oauth/token": "token", "/api/oauth.v2.access": "token", "/login/oauth/access_token": "token", "/v1/oauth/token": "token",
		"/api/v4/user": "identity", "/api/auth.test": "identity", "/user": "identity", "/api/app/me": "identity", "/v1/users/me": "identity",
		"/oauth/revoke": "revoke", "/api/auth.revoke": "revoke", "/applications/" + clientID + "/token": "revoke", "/v1/oauth/revoke": "revoke"}[r.URL.Path]
	d.mu.Lock()
	trouble := d.trouble[kind]
	d.mu.Unlock()
	switch {
	case trouble != nil:
		trouble(w, r)
	case kind == "token":
		d.token(w, r)
	case kind == "identity":
		d.identity(w, r)
	case kind == "revoke":
		d.revoke(w, r)
	default:
		http.NotFound(w, r)
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		kind := "application/json"
		if strings.HasPrefix(body, "<") {
			kind = "text/html"
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// consent acts as a person's browser. It gives the address to which the provider redirects.
func (d *double) consent(address string) (code, state string) {
	u, err := url.Parse(address)
	require.NoError(d.t, err)
	q := u.Query()
	require.Equal(d.t, clientID, q.Get("client_id"))
	require.Equal(d.t, "code", q.Get("response_type"))
	require.Equal(d.t, "http://kijko.test/api/v1/integrations/oauth/callback", q.Get("redirect_uri"))
	require.GreaterOrEqual(d.t, len(q.Get("state")), 43, "256 random bits")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	code = fmt.Sprintf("code-%d", d.n)
	d.codes[code] = q.Get("code_challenge")
	return code, q.Get("state")
}

func (d *double) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.Form.Get("client_id"), r.Form.Get("client_secret")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if id != clientID || secret != clientSecret {
		answer(401, `{"error":"invalid_client"}`)(w, r)
		return
	}
	switch r.Form.Get("grant_type") {
	case "authorization_code":
		challenge, known := d.codes[r.Form.Get("code")]
		delete(d.codes, r.Form.Get("code"))
		sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
		if !known || challenge != "" && challenge != base64.RawURLEncoding.EncodeToString(sum[:]) ||
			r.Form.Get("redirect_uri") != "http://kijko.test/api/v1/integrations/oauth/callback" {
			answer(400, `{"error":"invalid_grant","error_description":"the code `+r.Form.Get("code")+` is not good"}`)(w, r)
			return
		}
	case "refresh_token":
		if !d.refresh[r.Form.Get("refresh_token")] {
			answer(400, `{"error":"invalid_grant"}`)(w, r)
			return
		}
		// As GitLab does: a refresh ends the old pair at once.
		delete(d.refresh, r.Form.Get("refresh_token"))
		clear(d.access)
	}
	d.n++
	d.refresh[fmt.Sprintf("refresh-%d", d.n)], d.access[fmt.Sprintf("access-%d", d.n)] = true, true
	answer(200, fmt.Sprintf(`{"ok":true,"access_token":"access-%d","refresh_token":"refresh-%d","token_type":"bearer","expires_in":7200}`, d.n, d.n))(w, r)
}

func (d *double) identity(w http.ResponseWriter, r *http.Request) {
	user, password, basic := r.BasicAuth()
	d.mu.Lock()
	good := d.access[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")] || basic && user == "good-key" && password == "good-secret"
	d.mu.Unlock()
	if !good {
		answer(401, `{"ok":false,"error":"invalid_auth"}`)(w, r)
		return
	}
	answer(200, `{"ok":true,"id":1}`)(w, r)
}

func (d *double) revoke(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.revoked = append(d.revoked, r.Method+" "+r.Form.Get("token")+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	answer(200, `{"ok":true}`)(w, r)
}

// hang answers when the test is over, or the caller has gone.
func (d *double) hang(_ http.ResponseWriter, r *http.Request) {
	select {
	case <-d.release:
	case <-r.Context().Done():
	case <-context.Background().Done():
	}
}

func (d *double) revocations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string{}, d.revoked...)
}

// begin starts a connection and consents at the provider.
func (o *office) begin(p *client.Person, d *double, path string, body any) (code, state string) {
	r := p.Do("POST", "/integrations/"+path, body).Want(202)
	code, state = d.consent(r.String("authorizationUrl"))
	require.Equal(d.t, r.String("state"), state)
	return code, state
}

// back is the browser's redirect from the provider, without any credential. It gives the address of the next redirect.
func (o *office) back(t testing.TB, query url.Values) url.Values {
	t.Helper()
	r := o.As("").In(t).Get("/integrations/oauth/callback?" + query.Encode()).Want(302)
	to, err := url.Parse(r.Header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, "kijko.test", to.Host)
	return to.Query()
}

// connect does the whole flow.
func (o *office) connect(t testing.TB, p *client.Person, d *double, provider string, body any) {
	t.Helper()
	code, state := o.begin(p, d, provider+"/connect", body)
	q := o.back(t, url.Values{"code": {code}, "state": {state}})
	require.Equal(t, "connected", q.Get("status"), q.Encode())
	require.Equal(t, provider, q.Get("integration"))
}
