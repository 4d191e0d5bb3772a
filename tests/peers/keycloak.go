package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unpackKeycloak takes the distribution from Maven Central, unchanged.
func unpackKeycloak(ctx context.Context, p Program, folder string) error {
	home := filepath.Join(folder, "keycloak-"+p.Version)
	zip := filepath.Join(folder, "keycloak-quarkus-dist-"+p.Version+".zip")
	for _, args := range [][]string{
		{"mvn", "-B", "-q", "dependency:copy", "-Dartifact=" + p.Module + ":" + p.Version + ":zip", "-DoutputDirectory=" + folder},
		{"unzip", "-q", "-o", zip, "-d", folder},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", args[0], err, tail(out))
		}
	}
	// The file that marks the distribution as complete comes last.
	return errors.Join(os.Remove(zip), os.Symlink(filepath.Join(home, "bin", "kc.sh"), filepath.Join(folder, p.Name)))
}

// Keycloak is a real Keycloak with our realm, in memory. It is safe for concurrent use.
type Keycloak struct {
	// URL is the base, as in KEYCLOAK_URL.
	URL string
	// Secret is the secret of the client kijko-backend.
	Secret string
}

const (
	keycloakAdmin    = "admin"
	keycloakPassword = "only-for-tests"
	keycloakRealm    = "kijko"
)

// NewKeycloak starts a Keycloak with the realm file of the checkout. appURL is the application to which sign-in returns, at /auth/callback.
func NewKeycloak(t testing.TB, appURL string) *Keycloak {
	t.Helper()
	root, err := moduleRoot()
	require.NoError(t, err)
	program, err := KeycloakProgram.Path(t.Context(), os.Stderr)
	require.NoError(t, err)
	program, err = filepath.EvalSymlinks(program)
	require.NoError(t, err)
	imports := filepath.Join(filepath.Dir(program), "..", "data", "import")
	require.NoError(t, os.MkdirAll(imports, 0o755))
	realm, err := os.ReadFile(filepath.Join(root, "server", "keycloak", "kijko-realm.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(imports, "kijko-realm.json"), realm, 0o600))
	k := &Keycloak{}
	addresses := start(t, KeycloakProgram, 1, []string{"KC_BOOTSTRAP_ADMIN_USERNAME=" + keycloakAdmin, "KC_BOOTSTRAP_ADMIN_PASSWORD=" + keycloakPassword,
		"JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1", "APP_URL=" + appURL, "KIJKO_WEB_URL=" + appURL},
		func(a []string) []string {
			host, port, _ := strings.Cut(a[0], ":")
			return []string{"start-dev", "--import-realm", "--db=dev-mem", "--http-host=" + host, "--http-port=" + port}
		}, "/realms/"+keycloakRealm)
	k.URL = "http://" + addresses[0]
	// The file names no secret, so the import generated one.
	var clients []struct{ Secret string }
	require.NoError(t, json.Unmarshal(k.admin(t, http.MethodGet, "/admin/realms/kijko/clients?clientId=kijko-backend", nil, http.StatusOK), &clients))
	require.Len(t, clients, 1)
	require.GreaterOrEqual(t, len(clients[0].Secret), 32)
	k.Secret = clients[0].Secret
	return k
}

// Version is the version that the program reports.
func (k *Keycloak) Version(t testing.TB) string {
	t.Helper()
	var info struct{ SystemInfo struct{ Version string } }
	require.NoError(t, json.Unmarshal(k.admin(t, http.MethodGet, "/admin/serverinfo", nil, http.StatusOK), &info))
	return info.SystemInfo.Version
}

// AddUser makes a person with a password, and gives their id (sub).
func (k *Keycloak) AddUser(t testing.TB, email, password string, verified bool) string {
	t.Helper()
	k.admin(t, http.MethodPost, "/admin/realms/kijko/users", map[string]any{"email": email, "username": email, "emailVerified": verified, "enabled": true,
		"firstName": "Kim", "lastName": "Berg", "credentials": []any{map[string]any{"type": "password", "value": password, "temporary": false}}}, http.StatusCreated)
	var found []struct{ ID string }
	require.NoError(t, json.Unmarshal(k.admin(t, http.MethodGet, "/admin/realms/kijko/users?exact=true&email="+url.QueryEscape(email), nil, http.StatusOK), &found))
	require.Len(t, found, 1)
	return found[0].ID
}

// KeycloakUser is a user as the administration API shows it.
type KeycloakUser struct {
	Email, FirstName, LastName string
	EmailVerified              bool
	Attributes                 map[string][]string
}

// User reads a user.
func (k *Keycloak) User(t testing.TB, id string) (u KeycloakUser) {
	t.Helper()
	require.NoError(t, json.Unmarshal(k.admin(t, http.MethodGet, "/admin/realms/kijko/users/"+id, nil, http.StatusOK), &u))
	return u
}

// Sessions is the number of sessions that a person has at Keycloak.
func (k *Keycloak) Sessions(t testing.TB, id string) int {
	t.Helper()
	var found []any
	require.NoError(t, json.Unmarshal(k.admin(t, http.MethodGet, "/admin/realms/kijko/users/"+id+"/sessions", nil, http.StatusOK), &found))
	return len(found)
}

// Broker points the broker `google` to a second realm of this Keycloak, where a person signs in by password. Tests cannot sign in at the
// real Google.
func (k *Keycloak) Broker(t testing.TB, email, password string) {
	t.Helper()
	k.admin(t, http.MethodPost, "/admin/realms", map[string]any{"realm": "upstream", "enabled": true, "sslRequired": "none",
		"clients": []any{map[string]any{"clientId": "kijko", "secret": k.Secret, "enabled": true, "publicClient": false,
			"redirectUris": []string{k.URL + "/realms/kijko/broker/google/endpoint*"}}},
		"users": []any{map[string]any{"username": "up", "email": email, "emailVerified": true, "enabled": true, "firstName": "Up", "lastName": "Stream",
			"credentials": []any{map[string]any{"type": "password", "value": password, "temporary": false}}}}}, http.StatusCreated)
	up := k.URL + "/realms/upstream/protocol/openid-connect"
	k.admin(t, http.MethodDelete, "/admin/realms/kijko/identity-provider/instances/google", nil, http.StatusNoContent)
	k.admin(t, http.MethodPost, "/admin/realms/kijko/identity-provider/instances", map[string]any{"alias": "google", "providerId": "oidc", "enabled": true,
		"trustEmail": true, "firstBrokerLoginFlowAlias": "first broker login", "config": map[string]any{"clientId": "kijko", "clientSecret": k.Secret,
			"authorizationUrl": up + "/auth", "tokenUrl": up + "/token", "userInfoUrl": up + "/userinfo", "jwksUrl": up + "/certs", "issuer": k.URL + "/realms/upstream",
			"useJwksUrl": "true", "validateSignature": "true", "defaultScope": "openid email profile", "clientAuthMethod": "client_secret_post",
			"pkceEnabled": "true", "pkceMethod": "S256", "syncMode": "IMPORT"}}, http.StatusCreated)
}

// PasswordGrant gives an access token that Keycloak itself issues for a person, as a client without our server would get it.
func (k *Keycloak) PasswordGrant(t testing.TB, email, password string) string {
	t.Helper()
	return k.token(t, keycloakRealm, url.Values{"grant_type": {"password"}, "client_id": {"kijko-backend"}, "client_secret": {k.Secret}, "username": {email},
		"password": {password}, "scope": {"openid"}})
}

func (k *Keycloak) token(t testing.TB, realm string, form url.Values) string {
	t.Helper()
	r, err := http.PostForm(k.URL+"/realms/"+realm+"/protocol/openid-connect/token", form)
	require.NoError(t, err)
	defer func() { _ = r.Body.Close() }()
	raw, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode, "%s", raw)
	var answer struct {
		Token string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal(raw, &answer))
	return answer.Token
}

func (k *Keycloak) admin(t testing.TB, method, path string, body any, want int) []byte {
	t.Helper()
	var raw []byte
	if body != nil {
		var err error
		raw, err = json.Marshal(body)
		require.NoError(t, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, k.URL+path, bytes.NewReader(raw))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+k.token(t, "master", url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"},
		"username": {keycloakAdmin}, "password": {keycloakPassword}}))
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	out, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, want, answer.StatusCode, "%s %s: %s", method, path, out)
	return out
}

// KeycloakBrowser is one person's browser: it follows pages and keeps cookies.
type KeycloakBrowser struct {
	client *http.Client
	// Forms counts the sign-in forms that were filled in.
	Forms int
}

// Browser makes a browser without cookies.
func (k *Keycloak) Browser(t testing.TB) *KeycloakBrowser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &KeycloakBrowser{client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

var formAction = regexp.MustCompile(`<form[^>]*id="kc-form-login"[^>]*action="([^"]+)"|<form[^>]*action="([^"]+)"[^>]*id="kc-form-login"`)

// SignIn opens the page and types the password where a form asks for it, until the browser is redirected to an address of the application.
// It gives the query of that address.
func (b *KeycloakBrowser) SignIn(t testing.TB, page, appURL, username, password string) url.Values {
	t.Helper()
	answer, err := b.client.Get(page)
	require.NoError(t, err)
	for range 20 {
		raw, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		if where := answer.Header.Get("Location"); where != "" {
			next, err := answer.Request.URL.Parse(where)
			require.NoError(t, err)
			if strings.HasPrefix(next.String(), appURL) {
				return next.Query()
			}
			answer, err = b.client.Get(next.String())
			require.NoError(t, err)
			continue
		}
		action := formAction.FindSubmatch(raw)
		require.NotNil(t, action, "%d %s: %s", answer.StatusCode, answer.Request.URL, tail(raw))
		b.Forms++
		to := strings.ReplaceAll(string(append(action[1], action[2]...)), "&amp;", "&")
		answer, err = b.client.PostForm(to, url.Values{"username": {username}, "password": {password}, "credentialId": {""}})
		require.NoError(t, err)
	}
	t.Fatal("the pages of Keycloak lead nowhere")
	return nil
}
