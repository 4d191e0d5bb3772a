package identity

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"kijko/server/api"
	"kijko/server/auth"
	"kijko/worker/exactjson"
	"kijko/worker/keycloak"
)

// The brokers that Keycloak may redirect to. Only this server's settings say which of them are enabled there.
const (
	google = "google"
	github = "github"
)

// startOAuth answers GET /auth/oauth/{provider}.
func (i *Identity) startOAuth(c *api.Call) error {
	provider := c.Path("provider")
	if provider != google && provider != github {
		return api.NewProblem(http.StatusBadRequest, "UNSUPPORTED_PROVIDER", "People sign in with google or github.", "provider")
	}
	var query struct {
		RedirectURI string `json:"redirect_uri"`
	}
	if err := exactjson.Unmarshal(c.Params, &query); err != nil {
		return err
	}
	if query.RedirectURI == "" {
		query.RedirectURI = i.callbackURL
	}
	if !i.mayReturnTo(query.RedirectURI) {
		return api.NewProblem(http.StatusBadRequest, "INVALID_REDIRECT_URI", "Sign-in does not return to this address. Add its origin to CORS_ORIGINS.", "redirect_uri")
	}
	if i.provider == nil || !i.brokers[provider] {
		return notConfigured(provider, "Sign-in with this provider is not set up on this installation.")
	}
	state, hash, err := auth.NewSecret()
	if err != nil {
		return err
	}
	verifier, err := i.verifierOf(state)
	if err != nil {
		return err
	}
	if _, err := i.server(c, "begin_oauth", map[string]any{"state_hash": hex.EncodeToString(hash), "provider": provider, "redirect_uri": query.RedirectURI}); err != nil {
		return err
	}
	err = c.JSON(map[string]string{"redirect_url": i.provider.SignInURL(provider, query.RedirectURI, state, verifier), "provider": provider})
	c.Ctx.Set("Cache-Control", "no-store")
	return err
}

func notConfigured(provider, message string) error {
	p := api.NewProblem(http.StatusServiceUnavailable, "PROVIDER_NOT_CONFIGURED", message, "")
	p.Details, _ = json.Marshal(map[string]string{"provider": provider})
	return p
}

// mayReturnTo reports whether an address belongs to a page that may call this API.
func (i *Identity) mayReturnTo(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || (u.Scheme != "http" && u.Scheme != "https") || len(address) > 2000 ||
		strings.ContainsAny(address, "\\\"<> #") {
		return false
	}
	return i.origins.Allow(strings.ToLower(u.Scheme + "://" + u.Host))
}

// verifierOf derives the PKCE verifier of a sign-in from its state. Only the hash of the state is stored, so the database reveals neither.
func (i *Identity) verifierOf(state string) (string, error) {
	raw, err := hkdf.Key(sha256.New, i.sealKey, []byte(state), "kijko pkce verifier", 32)
	if err != nil {
		return "", fmt.Errorf("derive the PKCE verifier: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// finishOAuth answers POST /auth/oauth/callback. No row of the user is written before Keycloak has verified the sign-in.
func (i *Identity) finishOAuth(c *api.Call) error {
	var body struct {
		Code        string `json:"code"`
		State       string `json:"state"`
		RedirectURI string `json:"redirect_uri"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	if i.provider == nil {
		return notConfigured("keycloak", "Sign-in with a provider is not set up on this installation.")
	}
	taking := map[string]any{"state_hash": hex.EncodeToString(auth.HashSecret(body.State)), "redirect_uri": body.RedirectURI}
	if key := c.Key(); key != "" {
		taking["key"] = i.sealerOf(c, key).name()
	}
	taken, err := i.server(c, "take_oauth_state", taking)
	if err != nil {
		return err
	}
	if taken.Replayed {
		return i.signIn(c, "finish_oauth", map[string]any{})
	}
	verifier, err := i.verifierOf(body.State)
	if err != nil {
		return err
	}
	token, err := i.provider.Exchange(c.Context(), body.Code, body.RedirectURI, verifier)
	switch {
	case errors.Is(err, keycloak.ErrCode):
		return api.NewProblem(http.StatusUnauthorized, "INVALID_AUTHORIZATION_CODE", "The identity provider did not accept this sign-in. Please start again.", "code").Because(err)
	case err != nil:
		return providerAway(err)
	}
	id, err := i.verifier.Verify(c.Context(), token)
	if err != nil {
		return providerAway(fmt.Errorf("the token of the identity provider: %w", err))
	}
	if id.Issuer != i.provider.Issuer() {
		return providerAway(fmt.Errorf("the token of the identity provider is of issuer %q", id.Issuer))
	}
	return i.signIn(c, "finish_oauth", map[string]any{"issuer": id.Issuer, "subject": id.Subject, "email": id.Email, "email_verified": id.EmailVerified,
		"first_name": id.FirstName, "last_name": id.LastName, "org_hint": orNull(id.OrgHint), "session_key": id.SessionKey})
}

func providerAway(err error) error {
	return api.Unavailable("AUTH_UNAVAILABLE", "The identity provider cannot be reached at the moment. Please try again.", err)
}
