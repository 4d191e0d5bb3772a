package authtest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const usersPath = "/admin/realms/kijko/users/"

// signIn is one sign-in by Keycloak's pages, whose code is not exchanged yet.
type signIn struct {
	challenge, redirect string
	req                 Request
}

// Follow acts as a user who opens the page that signInURL leads to, and signs in there as req says. It returns the parameters that the
// browser comes back with.
func (p *Provider) Follow(t testing.TB, signInURL string, req Request) (code, state string) {
	t.Helper()
	u, err := url.Parse(signInURL)
	require.NoError(t, err)
	require.Equal(t, p.Issuer+"/protocol/openid-connect/auth", u.Scheme+"://"+u.Host+u.Path)
	q := u.Query()
	require.Equal(t, []string{ClientID, "code", "openid email profile", "S256"},
		[]string{q.Get("client_id"), q.Get("response_type"), q.Get("scope"), q.Get("code_challenge_method")})
	require.Len(t, q.Get("code_challenge"), 43)
	require.NotEmpty(t, q.Get("kc_idp_hint"))
	code = uuid.NewString()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[code] = signIn{q.Get("code_challenge"), q.Get("redirect_uri"), req}
	if _, known := p.users[req.Subject]; !known {
		p.users[req.Subject] = map[string]any{"id": req.Subject, "username": req.Claims["email"], "email": req.Claims["email"],
			"emailVerified": req.Claims["email_verified"], "firstName": req.Claims["given_name"], "lastName": req.Claims["family_name"],
			"attributes": map[string]any{"locale": []any{"nl"}}, "createdTimestamp": 1764500000123}
	}
	return code, q.Get("state")
}

// User returns the administration's data of a user.
func (p *Provider) User(subject string) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.users[subject])
}

// AnswerExchanges makes the token endpoint answer each code with this status and body, as a proxy in front might; status 0 ends that.
func (p *Provider) AnswerExchanges(status int, contentType, body string) {
	p.exchanges.Store(&fixed{status, contentType, body})
}

type fixed struct {
	status            int
	contentType, body string
}

// exchange is the token endpoint for codes. Each code is valid once, for its redirect address and its verifier.
func (p *Provider) exchange(w http.ResponseWriter, r *http.Request) {
	if f := p.exchanges.Load(); f != nil && f.status != 0 {
		w.Header().Set("Content-Type", f.contentType)
		w.WriteHeader(f.status)
		_, _ = w.Write([]byte(f.body))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	refuse := func(status int, code, why string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": why})
	}
	if id, secret, ok := r.BasicAuth(); !ok || id != ClientID || secret != ClientSecret {
		refuse(http.StatusUnauthorized, "unauthorized_client", "Invalid client or Invalid client credentials")
		return
	}
	p.mu.Lock()
	found, known := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	p.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case !known:
		refuse(http.StatusBadRequest, "invalid_grant", "Code not valid")
	case found.redirect != r.PostFormValue("redirect_uri"):
		refuse(http.StatusBadRequest, "invalid_grant", "Incorrect redirect_uri")
	case found.challenge != base64.RawURLEncoding.EncodeToString(sum[:]):
		refuse(http.StatusBadRequest, "invalid_grant", "PKCE verification failed: Code mismatch")
	default:
		token, err := p.accessToken(found.req)
		if err != nil {
			refuse(http.StatusInternalServerError, "server_error", err.Error())
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
	}
}

// accessToken has the claims of Keycloak's token, and the organization of the user's attribute.
func (p *Provider) accessToken(req Request) (string, error) {
	now := time.Now().Unix()
	claims := map[string]any{"iss": p.Issuer, "sub": req.Subject, "aud": ClientID, "azp": ClientID, "typ": "Bearer", "iat": now, "exp": now + 3600,
		"auth_time": now, "jti": "onrtac:" + uuid.NewString()}
	maps.Copy(claims, req.Claims)
	user := p.User(req.Subject)
	if attributes, _ := user["attributes"].(map[string]any); attributes["org_id"] != nil {
		claims["org_id"] = attributes["org_id"].([]any)[0]
	}
	if sid, _ := claims["sid"].(string); sid != "" {
		p.mu.Lock()
		p.sessions[sid] = true
		p.mu.Unlock()
	}
	key := p.current()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key.key, KeyID: key.id}}, nil)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(raw)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// HasSession reports whether a session is active.
func (p *Provider) HasSession(sid string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[sid]
}

// administer is Keycloak's GET, PUT and DELETE of a user. As there, a PUT erases what its body leaves out.
func (p *Provider) administer(w http.ResponseWriter, r *http.Request) {
	subject := strings.TrimPrefix(r.URL.Path, usersPath)
	w.Header().Set("Content-Type", "application/json")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users[subject] == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(p.users[subject])
		return
	}
	if r.Method == http.MethodDelete {
		delete(p.users, subject)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	var user map[string]any
	if err := json.NewDecoder(r.Body).Decode(&user); err != nil || user["email"] == nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.users[subject] = user
	w.WriteHeader(http.StatusNoContent)
}
