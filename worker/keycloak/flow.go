package keycloak

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// exchangeTimeout is how long the callback request waits for Keycloak.
const exchangeTimeout = 5 * time.Second

// ErrCode means that Keycloak does not accept the code: it is unknown, used, too old, or belongs to another verifier.
var ErrCode = errors.New("the authorization code was refused")

// SignInURL is Keycloak's page that forwards to a broker (google, github), with PKCE. If the broker is disabled there, Keycloak shows its
// own sign-in page without a message.
func (a *Admin) SignInURL(broker, redirectURI, state, verifier string) string {
	return a.issuer + "/protocol/openid-connect/auth?" + url.Values{
		"client_id": {a.credentials.ClientID}, "response_type": {"code"}, "scope": {"openid email profile"}, "redirect_uri": {redirectURI},
		"kc_idp_hint": {broker}, "state": {state}, "code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}.Encode()
}

// Exchange returns the access token for a code. The error wraps ErrCode if the code is at fault; every other error is a fault of Keycloak
// or of the connection to it.
func (a *Admin) Exchange(ctx context.Context, code, redirectURI, verifier string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	tokenURL, err := a.tokenEndpoint(ctx)
	if err != nil {
		return "", fmt.Errorf("exchange a code at Keycloak: %w", err)
	}
	// A style must be set: without one the library sends each failing request a second time.
	c := oauth2.Config{ClientID: a.credentials.ClientID, ClientSecret: a.credentials.ClientSecret, RedirectURL: redirectURI,
		Endpoint: oauth2.Endpoint{TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader}}
	token, err := c.Exchange(context.WithValue(ctx, oauth2.HTTPClient, a.client), code, oauth2.VerifierOption(verifier))
	var refusal *oauth2.RetrieveError
	switch {
	case errors.As(err, &refusal) && refusal.ErrorCode == "invalid_grant" && refusal.Response.StatusCode == http.StatusBadRequest:
		return "", fmt.Errorf("exchange a code at Keycloak: %w: %s", ErrCode, refusal.ErrorDescription)
	case refusal != nil:
		return "", fmt.Errorf("exchange a code at Keycloak: it answers %d %s", refusal.Response.StatusCode, strings.TrimSpace(refusal.ErrorCode))
	case err != nil:
		return "", fmt.Errorf("exchange a code at Keycloak: %w", err)
	}
	return token.AccessToken, nil
}
