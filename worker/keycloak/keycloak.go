// Package keycloak performs the tasks of our service account at Keycloak. It uses the admin API; package auth verifies tokens.
//
// An Admin is safe for concurrent use. It starts no goroutine, and each call ends with its context or after some seconds.
package keycloak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	timeout   = 10 * time.Second
	maxAnswer = 256 << 10
)

// Config names a realm and our client in it.
type Config struct {
	URL string
	// InternalURL is the address at which this process reaches Keycloak, if it differs.
	InternalURL string
	Realm       string
	ClientID    string
	// ClientSecret is the secret of the client, whose service account needs the roles manage-users and view-users of realm-management.
	ClientSecret string
	// Client is the HTTP client for requests; nil: one with a timeout.
	Client *http.Client
}

// Admin acts as the service account.
type Admin struct {
	// issuer is also the realm's address for browsers.
	issuer, base, realm string
	credentials         clientcredentials.Config
	client              *http.Client
	// tokenURL is set after the first discovery.
	tokenURL atomic.Pointer[string]
}

// New makes an Admin; nil if Keycloak is not used or its client has no secret. It makes no request.
func New(c Config) *Admin {
	if c.URL == "" || c.ClientSecret == "" {
		return nil
	}
	if c.InternalURL == "" {
		c.InternalURL = c.URL
	}
	if c.Client == nil {
		c.Client = &http.Client{Timeout: timeout}
	}
	return &Admin{
		issuer: strings.TrimSuffix(c.URL, "/") + "/realms/" + c.Realm, base: strings.TrimSuffix(c.InternalURL, "/"), realm: c.Realm,
		credentials: clientcredentials.Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret}, client: c.Client,
	}
}

// Issuer is the iss of the realm's tokens.
func (a *Admin) Issuer() string { return a.issuer }

// EndSession ends a session of the realm, by the sid of its tokens. A session that does not exist counts as ended.
func (a *Admin) EndSession(ctx context.Context, sid string) error {
	const what = "end a session at Keycloak"
	token, err := a.token(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	status, _, err := a.call(ctx, token, http.MethodDelete, "/sessions/"+url.PathEscape(sid), nil)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case status == http.StatusNoContent || status == http.StatusOK || status == http.StatusNotFound:
		return nil
	}
	return a.refused(what, status)
}

// DeleteUser deletes a user of the realm, with their sessions. A user who does not exist counts as deleted.
func (a *Admin) DeleteUser(ctx context.Context, userID string) error {
	const what = "delete a user at Keycloak"
	token, err := a.token(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	status, _, err := a.call(ctx, token, http.MethodDelete, "/users/"+url.PathEscape(userID), nil)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case status == http.StatusNoContent || status == http.StatusOK || status == http.StatusNotFound:
		return nil
	}
	return a.refused(what, status)
}

// orgAttribute is the attribute of a user that the realm's mapper puts into tokens.
const orgAttribute = "org_id"

// SetOrganization sets the organization that the tokens of a realm user will carry; "" removes it. For a user who does not exist it does
// nothing.
//
// Keycloak's PUT erases all fields that the body leaves out (names, other attributes), so the whole user is read, changed and written.
func (a *Admin) SetOrganization(ctx context.Context, userID, orgID string) error {
	const what = "write an organization at Keycloak"
	token, err := a.token(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	path := "/users/" + url.PathEscape(userID)
	status, raw, err := a.call(ctx, token, http.MethodGet, path, nil)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case status == http.StatusNotFound:
		return nil
	case status != http.StatusOK:
		return a.refused(what, status)
	}
	body, changed, err := withOrganization(raw, orgID)
	if err != nil {
		return fmt.Errorf("%s: read the user: %w", what, err)
	}
	if !changed {
		return nil
	}
	status, _, err = a.call(ctx, token, http.MethodPut, path, body)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case status == http.StatusNoContent || status == http.StatusOK || status == http.StatusNotFound:
		return nil
	}
	return a.refused(what, status)
}

// withOrganization is the user with another organization and all other fields unchanged.
func withOrganization(raw []byte, orgID string) (body []byte, changed bool, err error) {
	var user map[string]json.RawMessage
	if err := json.Unmarshal(raw, &user); err != nil {
		return nil, false, err
	}
	attributes := map[string]json.RawMessage{}
	if len(user["attributes"]) > 0 {
		if err := json.Unmarshal(user["attributes"], &attributes); err != nil {
			return nil, false, err
		}
	}
	wanted, err := json.Marshal([]string{orgID})
	if err != nil {
		return nil, false, err
	}
	known, has := attributes[orgAttribute]
	switch {
	case orgID == "" && !has, bytes.Equal(known, wanted):
		return nil, false, nil
	case orgID == "":
		delete(attributes, orgAttribute)
	default:
		attributes[orgAttribute] = wanted
	}
	if user["attributes"], err = json.Marshal(attributes); err != nil {
		return nil, false, err
	}
	body, err = json.Marshal(user)
	return body, true, err
}

// call makes a request to the realm's admin API. The size of the answer is bounded.
func (a *Admin) call(ctx context.Context, token *oauth2.Token, method, path string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+"/admin/realms/"+url.PathEscape(a.realm)+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	token.SetAuthHeader(req)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, err
}

func (a *Admin) refused(what string, status int) error {
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		return fmt.Errorf("%s: it answers %d: the service account of client %s needs the roles manage-users and view-users of realm-management",
			what, status, a.credentials.ClientID)
	}
	return fmt.Errorf("%s: it answers %d", what, status)
}

// token signs in as the service account. Calls are rare, so no token is cached, which could have been revoked meanwhile.
func (a *Admin) token(ctx context.Context) (*oauth2.Token, error) {
	tokenURL, err := a.tokenEndpoint(ctx)
	if err != nil {
		return nil, err
	}
	credentials := a.credentials
	credentials.TokenURL = tokenURL
	return credentials.Token(context.WithValue(ctx, oauth2.HTTPClient, a.client))
}

// tokenEndpoint discovers the token endpoint once.
func (a *Admin) tokenEndpoint(ctx context.Context) (string, error) {
	if known := a.tokenURL.Load(); known != nil {
		return *known, nil
	}
	// Keycloak's document names the public issuer, even if it is read from another address.
	provider, err := oidc.NewProvider(oidc.InsecureIssuerURLContext(oidc.ClientContext(ctx, a.client), a.issuer), a.base+"/realms/"+a.realm)
	if err != nil {
		return "", err
	}
	found := provider.Endpoint().TokenURL
	a.tokenURL.Store(&found)
	return found, nil
}
