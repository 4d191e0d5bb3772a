package integrations

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Tokens are the sealed values of an integration: the tokens of a consent, or a key.
type Tokens struct {
	AccessToken  string    `json:"accessToken,omitempty"`
	RefreshToken string    `json:"refreshToken,omitempty"`
	ExpiresAt    time.Time `json:"expiresAt,omitzero"`
	APIKey       string    `json:"apiKey,omitempty"`
	Secret       string    `json:"secret,omitempty"`
}

// Call is one request that was made, for the statistics of an integration.
type Call struct {
	Tool string `json:"tool"`
	OK   bool   `json:"ok"`
	MS   int64  `json:"ms"`
}

// Why is the kind of a failure.
type Why string

// The kinds of failure. Only Refused means that the organization's credentials are at fault.
const (
	// Refused: the provider does not accept the code, the token or the key.
	Refused Why = "refused"
	// Unavailable: no answer, a late answer, or an answer that reports a fault of the provider.
	Unavailable Why = "unavailable"
	// Odd: an answer that does not follow the protocol, such as a page of HTML.
	Odd Why = "odd"
	// Misconfigured: the provider does not know our client id, or rejects our secret.
	Misconfigured Why = "misconfigured"
)

// Failure is a failed request. Its text may be shown and logged.
type Failure struct {
	Why     Why
	Message string
}

func (f *Failure) Error() string { return f.Message }

// Providers makes requests to providers.
type Providers struct {
	config Config
	client *http.Client
	limit  time.Duration
}

// NewProviders makes a Providers; limit is the longest time for one request.
func NewProviders(config Config, limit time.Duration) *Providers {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	return &Providers{config: config, limit: limit, client: &http.Client{Transport: transport, Timeout: limit,
		// Redirects are not followed: a credential goes only to the addresses of the table.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// IsConfigured says whether this installation is a client of the provider.
func (p *Providers) IsConfigured(provider string) bool {
	_, ok := p.config.Clients[provider]
	return ok
}

// Auth is how a provider is connected; empty means that no request is ever made to it.
func (p *Providers) Auth(provider string) Auth {
	if found := find(provider); found != nil {
		return found.Auth
	}
	return ""
}

func (p *Providers) oauth(provider *Provider, redirect string, permissions []string) oauth2.Config {
	client := p.config.Clients[provider.ID]
	c := oauth2.Config{ClientID: client.ID, ClientSecret: client.Secret, RedirectURL: redirect, Scopes: provider.scopes(permissions),
		Endpoint: oauth2.Endpoint{AuthURL: p.config.at(provider, provider.Authorize), TokenURL: p.config.at(provider, provider.Token), AuthStyle: provider.Style}}
	if provider.Comma {
		c.Scopes = []string{strings.Join(c.Scopes, ",")}
	}
	return c
}

// AuthorizationURL is the address at which a person consents.
func (p *Providers) AuthorizationURL(provider, redirect, state, verifier string, permissions []string) string {
	found := find(provider)
	options := []oauth2.AuthCodeOption{}
	for name, value := range found.Extra {
		options = append(options, oauth2.SetAuthURLParam(name, value))
	}
	if found.PKCE {
		options = append(options, oauth2.S256ChallengeOption(verifier))
	}
	c := p.oauth(found, redirect, permissions)
	return c.AuthCodeURL(state, options...)
}

// Exchange turns a code into tokens.
func (p *Providers) Exchange(ctx context.Context, provider, redirect, code, verifier string, calls *[]Call) (Tokens, error) {
	found := find(provider)
	if found == nil || found.Auth != ByConsent || !p.IsConfigured(provider) {
		return Tokens{}, &Failure{Misconfigured, "This installation has no client at the provider."}
	}
	options := []oauth2.AuthCodeOption{}
	if found.PKCE {
		options = append(options, oauth2.VerifierOption(verifier))
	}
	return p.tokens(ctx, "token", calls, func(ctx context.Context) (*oauth2.Token, error) {
		c := p.oauth(found, redirect, nil)
		return c.Exchange(ctx, code, options...)
	})
}

// Renew requests new tokens. The old refresh token is kept if the provider returns no new one.
func (p *Providers) Renew(ctx context.Context, provider string, old Tokens, calls *[]Call) (Tokens, error) {
	found := find(provider)
	if found == nil || !p.IsConfigured(provider) {
		return Tokens{}, &Failure{Misconfigured, "This installation has no client at the provider."}
	}
	return p.tokens(ctx, "refresh", calls, func(ctx context.Context) (*oauth2.Token, error) {
		c := p.oauth(found, "", nil)
		return c.TokenSource(ctx, &oauth2.Token{RefreshToken: old.RefreshToken}).Token()
	})
}

func (p *Providers) tokens(ctx context.Context, tool string, calls *[]Call, ask func(context.Context) (*oauth2.Token, error)) (Tokens, error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, p.client), p.limit)
	defer cancel()
	began := time.Now()
	token, err := ask(ctx)
	note(calls, tool, err == nil, began)
	if err != nil {
		return Tokens{}, explain(err)
	}
	return Tokens{AccessToken: token.AccessToken, RefreshToken: token.RefreshToken, ExpiresAt: token.Expiry}, nil
}

func note(calls *[]Call, tool string, ok bool, began time.Time) {
	if calls != nil {
		*calls = append(*calls, Call{Tool: tool, OK: ok, MS: time.Since(began).Milliseconds()})
	}
}

// refusals are the error codes that providers use for an invalid or expired code or token. The first two are from RFC 6749 and RFC 6750.
var refusals = []string{"invalid_grant", "invalid_token", "access_denied", "bad_refresh_token", "bad_verification_code", "invalid_refresh_token",
	"invalid_code", "code_already_used", "token_expired", "token_revoked", "invalid_auth", "not_authed", "account_inactive"}

// word is the part of a provider's error that may be shown: a code and no text. A text might repeat the request.
var word = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,50}$`)

func explain(err error) *Failure {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		if strings.HasPrefix(err.Error(), "oauth2: ") {
			return &Failure{Odd, "The provider gave an answer that is no token."}
		}
		return &Failure{Unavailable, "The provider could not be reached in time."}
	}
	code := refused.ErrorCode
	status := refused.Response.StatusCode
	switch {
	case slices.Contains(refusals, code):
		return &Failure{Refused, "The provider did not accept it (" + code + ")."}
	case status >= 500 || status == http.StatusTooManyRequests:
		return &Failure{Unavailable, "The provider has trouble of its own."}
	case code == "":
		return &Failure{Odd, "The provider gave an answer that is no token."}
	case word.MatchString(code):
		return &Failure{Misconfigured, "The provider refused this installation (" + code + ")."}
	}
	return &Failure{Misconfigured, "The provider refused this installation."}
}

// Identify makes one authenticated call, which returns the account that the tokens belong to.
func (p *Providers) Identify(ctx context.Context, provider string, t Tokens, calls *[]Call) error {
	found := find(provider)
	if found == nil {
		return &Failure{Misconfigured, "This provider is not spoken to."}
	}
	method := http.MethodGet
	if found.Post {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, p.config.at(found, found.Identity), nil)
	if err != nil {
		return &Failure{Misconfigured, "The provider's address is not valid."}
	}
	r.Header.Set("Accept", "application/json")
	for name, value := range found.Header {
		r.Header.Set(name, value)
	}
	if found.Auth == ByKey {
		r.SetBasicAuth(t.APIKey, t.Secret)
	} else {
		r.Header.Set("Authorization", "Bearer "+t.AccessToken)
	}
	began := time.Now()
	err = p.identify(r, found)
	note(calls, "identity", err == nil, began)
	return err
}

func (p *Providers) identify(r *http.Request, provider *Provider) error {
	status, body, err := p.do(r)
	switch {
	case err != nil || status >= 500 || status == http.StatusTooManyRequests:
		return &Failure{Unavailable, "The provider could not be reached in time."}
	case status == http.StatusUnauthorized || provider.Auth == ByKey && status == http.StatusForbidden:
		return &Failure{Refused, "The provider did not accept the credentials."}
	case status >= 300:
		return &Failure{Odd, "The provider refused to say who we are there."}
	}
	var said map[string]any
	if json.Unmarshal(body, &said) != nil {
		return &Failure{Odd, "The provider gave an answer that is not JSON."}
	}
	if provider.SaysOK && said["ok"] != true {
		if code, _ := said["error"].(string); slices.Contains(refusals, code) {
			return &Failure{Refused, "The provider did not accept the credentials (" + code + ")."}
		}
		return &Failure{Odd, "The provider refused to say who we are there."}
	}
	return nil
}

// maxAnswer bounds how much of an answer is read.
const maxAnswer = 1 << 20

func (p *Providers) do(r *http.Request) (status int, body []byte, err error) {
	answer, err := p.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	return answer.StatusCode, body, err
}

// Revoke notifies the provider that the tokens are not needed any more. It succeeds for a provider that has no such call, or that does not
// know the token any more.
func (p *Providers) Revoke(ctx context.Context, provider string, t Tokens) error {
	found := find(provider)
	if found == nil || found.Revocation == notAtAll || !p.IsConfigured(provider) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	client, address := p.config.Clients[provider], p.config.at(found, found.Revoke)
	method, body, kind := http.MethodPost, []byte(nil), ""
	token := t.RefreshToken
	if token == "" {
		token = t.AccessToken
	}
	switch found.Revocation {
	case byForm:
		form := url.Values{"token": {token}}
		if found.Style == oauth2.AuthStyleInParams {
			form.Set("client_id", client.ID)
			form.Set("client_secret", client.Secret)
		}
		body, kind = []byte(form.Encode()), "application/x-www-form-urlencoded"
	case byPath:
		method, address = http.MethodDelete, address+"/"+url.PathEscape(token)
	case byClient:
		method, kind = http.MethodDelete, "application/json"
		body, _ = json.Marshal(map[string]string{"access_token": t.AccessToken})
	}
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return &Failure{Misconfigured, "The provider's address is not valid."}
	}
	r.Header.Set("Accept", "application/json")
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	switch {
	case found.Revocation == byBearer:
		r.Header.Set("Authorization", "Bearer "+t.AccessToken)
	case found.Revocation == byClient, found.Style == oauth2.AuthStyleInHeader:
		r.SetBasicAuth(client.ID, client.Secret)
	}
	status, _, err := p.do(r)
	if err != nil || status >= 500 || status == http.StatusTooManyRequests {
		return &Failure{Unavailable, "The provider could not be told of it in time."}
	}
	return nil
}
