// Package keycloak does at a Keycloak what our service account there is for. It speaks with the administration's interface; verifying
// tokens is the work of package auth.
//
// An Admin is safe for concurrent use. It starts no goroutine, and each call ends with its context or after some seconds.
package keycloak

import (
	"context"
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
	maxAnswer = 4 << 10
)

// Config names a realm and our client in it.
type Config struct {
	URL string
	// InternalURL is where this process reaches Keycloak, if elsewhere.
	InternalURL string
	Realm       string
	ClientID    string
	// ClientSecret is that of the client, whose service account needs the role manage-users of realm-management.
	ClientSecret string
	// Client is what requests go through; nil: one with a timeout.
	Client *http.Client
}

// Admin is the service account at work.
type Admin struct {
	issuer, base, realm string
	credentials         clientcredentials.Config
	client              *http.Client
	// tokenURL is known after the first discovery.
	tokenURL atomic.Pointer[string]
}

// New makes an Admin; nil where Keycloak is not used or its client has no secret. It makes no request.
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

// EndSession ends a session of the realm, by the sid of its tokens. One that is gone has ended.
func (a *Admin) EndSession(ctx context.Context, sid string) error {
	token, err := a.token(ctx)
	if err != nil {
		return fmt.Errorf("end a session at Keycloak: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete,
		a.base+"/admin/realms/"+url.PathEscape(a.realm)+"/sessions/"+url.PathEscape(sid), http.NoBody)
	if err != nil {
		return fmt.Errorf("end a session at Keycloak: %w", err)
	}
	token.SetAuthHeader(req)
	resp, err := a.client.Do(req)
	if err != nil {
		return fmt.Errorf("end a session at Keycloak: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	switch resp.StatusCode {
	case http.StatusNoContent, http.StatusOK, http.StatusNotFound:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("end a session at Keycloak: it answers %d: the service account of client %s needs the role manage-users of realm-management",
			resp.StatusCode, a.credentials.ClientID)
	default:
		return fmt.Errorf("end a session at Keycloak: it answers %d", resp.StatusCode)
	}
}

// token signs the service account in. Ending sessions is rare, so no token is kept that could have been withdrawn meanwhile.
func (a *Admin) token(ctx context.Context) (*oauth2.Token, error) {
	known := a.tokenURL.Load()
	if known == nil {
		// Under another address than its public one Keycloak's document still names the public issuer.
		provider, err := oidc.NewProvider(oidc.InsecureIssuerURLContext(oidc.ClientContext(ctx, a.client), a.issuer), a.base+"/realms/"+a.realm)
		if err != nil {
			return nil, err
		}
		found := provider.Endpoint().TokenURL
		known = &found
		a.tokenURL.Store(known)
	}
	credentials := a.credentials
	credentials.TokenURL = *known
	return credentials.Token(context.WithValue(ctx, oauth2.HTTPClient, a.client))
}
