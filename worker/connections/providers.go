package connections

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"kijko/worker/gitfetch"
)

// Application is the operator's registration at a provider, with the provider's addresses.
type Application struct {
	ClientID, ClientSecret string
	// APIURL replaces the API address that follows from the provider's own address. For Azure it is the address of profiles and
	// organizations.
	APIURL string
	// LoginURL replaces Microsoft's address for consents, with the tenant.
	LoginURL string
	// Scopes replaces the scopes that are requested.
	Scopes []string
}

// Config holds the settings of this package. Hosts has the addresses of the Git providers.
type Config struct {
	Hosts        gitfetch.HostConfig
	Applications map[string]Application
	// OktaURL is the address of the operator's Okta organization.
	OktaURL string
	// GraphURL is Microsoft Graph's.
	GraphURL string
	// Timeout is for one request; default 15 s.
	Timeout time.Duration
}

// Providers knows the Git providers and directories of an installation. Make it with New.
type Providers struct {
	hosts       map[string]Host
	directories map[string]Directory
	consents    map[string]*consent
	places      *gitfetch.Hosts
	config      Config
}

// consent is the OAuth configuration with which an account is connected.
type consent struct {
	provider string
	oauth    oauth2.Config
	client   *http.Client
	// pkce: the provider checks the verifier.
	pkce bool
}

// GitHub's media type pins no API version. The version header is optional, and Gitea knows none.
const (
	acceptJSON   = "application/json"
	acceptGitHub = "application/vnd.github+json, application/json"
)

// New checks the addresses. Providers without an application can be looked at without an account, but not connected.
func New(c Config) (*Providers, error) {
	if c.Timeout <= 0 {
		c.Timeout = callTime
	}
	places, err := gitfetch.NewHosts(c.Hosts)
	if err != nil {
		return nil, err
	}
	p := &Providers{hosts: map[string]Host{}, directories: map[string]Directory{}, consents: map[string]*consent{}, places: places, config: c}
	var faults []error
	serve := func(provider, own, chosen string) *service {
		s, err := c.service(provider, own, chosen)
		faults = append(faults, err)
		return s
	}
	base := func(provider gitfetch.Provider, own string) (address string, named bool) {
		if named := c.Hosts.BaseURLs[provider]; named != "" {
			return strings.TrimRight(named, "/"), true
		}
		return own, false
	}

	app := c.Applications["github"]
	web, named := base(gitfetch.GitHub, "https://github.com")
	api := "https://api.github.com"
	if named {
		api = web + "/api/v3"
	}
	hub := &github{service: *serve("github", api, app.APIURL), clientID: app.ClientID, clientSecret: app.ClientSecret}
	hub.accept = acceptGitHub
	p.hosts["github"] = hub
	p.consent(app, serve("github", web, ""), "/login/oauth/authorize", "/login/oauth/access_token", oauth2.AuthStyleInParams, true, "repo", "read:user")

	app = c.Applications["gitlab"]
	web, _ = base(gitfetch.GitLab, "https://gitlab.com")
	lab := serve("gitlab", web, "")
	p.hosts["gitlab"] = &gitlab{service: *serve("gitlab", web+"/api/v4", app.APIURL), oauth: lab, clientID: app.ClientID, clientSecret: app.ClientSecret}
	p.consent(app, lab, "/oauth/authorize", "/oauth/token", oauth2.AuthStyleInParams, true, "read_api", "read_repository")

	app = c.Applications["bitbucket"]
	web, named = base(gitfetch.Bitbucket, "https://bitbucket.org")
	api = "https://api.bitbucket.org/2.0"
	if named {
		api = web + "/2.0"
	}
	p.hosts["bitbucket"] = &bitbucket{service: *serve("bitbucket", api, app.APIURL)}
	p.consent(app, serve("bitbucket", web, ""), "/site/oauth2/authorize", "/site/oauth2/access_token", oauth2.AuthStyleInHeader, false, "repository", "account")

	app = c.Applications["azure"]
	web, _ = base(gitfetch.Azure, "https://dev.azure.com")
	p.hosts["azure"] = &azure{service: *serve("azure", web, ""), profiles: serve("azure", "https://app.vssps.visualstudio.com", app.APIURL)}
	// The scopes of Azure DevOps, known at Microsoft by the id of the service.
	const devops = "499b84ac-1321-427f-aa17-267ca6975798/"
	p.consent(app, serve("azure", "https://login.microsoftonline.com/organizations", app.LoginURL), "/oauth2/v2.0/authorize", "/oauth2/v2.0/token",
		oauth2.AuthStyleInParams, true, devops+"vso.code", devops+"vso.profile", "offline_access")

	if app = c.Applications["okta"]; c.OktaURL != "" {
		at := serve("okta", c.OktaURL, c.OktaURL)
		p.directories["okta"] = &okta{service: *at, clientID: app.ClientID, clientSecret: app.ClientSecret}
		p.consent(app, at, "/oauth2/v1/authorize", "/oauth2/v1/token", oauth2.AuthStyleInHeader, true, "openid", "offline_access", "okta.groups.read",
			"okta.users.read", "okta.users.read.self")
	}
	app = c.Applications["azure_ad"]
	p.directories["azure_ad"] = &entra{service: *serve("azure_ad", "https://graph.microsoft.com/v1.0", c.GraphURL)}
	p.consent(app, serve("azure_ad", "https://login.microsoftonline.com/organizations", app.LoginURL), "/oauth2/v2.0/authorize", "/oauth2/v2.0/token",
		oauth2.AuthStyleInParams, true, "offline_access", "User.Read", "GroupMember.Read.All", "User.ReadBasic.All")
	return p, errors.Join(faults...)
}

// service uses the address chosen by the operator, or the provider's own. The operator's address may be internal, and may use plain http.
func (c Config) service(provider, own, chosen string) (*service, error) {
	named := chosen != "" || c.Hosts.BaseURLs[gitfetch.Provider(provider)] != ""
	if chosen == "" {
		chosen = own
	}
	at, err := gitfetch.ParseBase(chosen)
	if err != nil {
		return &service{provider: provider, base: &url.URL{}}, fmt.Errorf("address %q of %s: %w", chosen, provider, err)
	}
	return &service{provider: provider, base: at, client: gitfetch.APIClient(named || c.Hosts.AllowPrivate), accept: acceptJSON, timeout: c.Timeout}, nil
}

func (p *Providers) consent(app Application, s *service, authorize, token string, style oauth2.AuthStyle, pkce bool, scopes ...string) {
	if app.ClientID == "" || app.ClientSecret == "" {
		return
	}
	if len(app.Scopes) > 0 {
		scopes = app.Scopes
	}
	p.consents[s.provider] = &consent{provider: s.provider, client: &http.Client{Transport: limitedTransport{s.client.Transport}, Timeout: s.timeout,
		CheckRedirect: s.client.CheckRedirect}, pkce: pkce, oauth: oauth2.Config{ClientID: app.ClientID, ClientSecret: app.ClientSecret, Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: s.at(authorize, nil), TokenURL: s.at(token, nil), AuthStyle: style}}}
}

// limitedTransport asks for JSON, which GitHub sends only when asked.
type limitedTransport struct{ next http.RoundTripper }

func (t limitedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept", acceptJSON)
	r.Header.Set("User-Agent", "kijko")
	return t.next.RoundTrip(r)
}

// Host is the API of a Git provider.
func (p *Providers) Host(provider string) Host { return p.hosts[provider] }

// HostOf returns the API of the host of a repository, and whether connections to the provider are valid for that host.
func (p *Providers) HostOf(provider, repository string) (h Host, own bool) {
	if p.places.Owns(repository) {
		return p.hosts[provider], true
	}
	u, err := url.Parse(repository)
	if err != nil {
		return nil, false
	}
	// This is a further host that the operator added: its API is at the usual path of such a host.
	address := "https://" + u.Host
	_, named := p.config.Hosts.Extra[u.Host]
	if alias := p.config.Hosts.Aliases[u.Host]; alias != "" {
		address = strings.TrimRight(alias, "/")
	}
	at := func(path string) service {
		base, err := gitfetch.ParseBase(address + path)
		if err != nil {
			base = &url.URL{}
		}
		return service{provider: provider, base: base, accept: acceptJSON, timeout: p.config.Timeout,
			client: gitfetch.APIClient(p.config.Hosts.AllowPrivate || named && p.config.Hosts.Aliases[u.Host] != "")}
	}
	switch provider {
	case "github":
		return &github{service: at("/api/v3")}, false
	case "gitlab":
		return &gitlab{service: at("/api/v4")}, false
	case "bitbucket":
		return &bitbucket{service: at("/2.0")}, false
	default:
		profiles := at("")
		return &azure{service: profiles, profiles: &profiles}, false
	}
}

// Owns reports whether connections to the provider are valid for the host of this repository.
func (p *Providers) Owns(repository string) bool { return p.places.Owns(repository) }

// Directory is the API of a directory; nil if the operator configured none.
func (p *Providers) Directory(provider string) Directory { return p.directories[provider] }

// CanConnect reports whether accounts can be connected.
func (p *Providers) CanConnect(provider string) bool { return p.consents[provider] != nil }

// Verifier draws the PKCE verifier, which proves that the code comes back to the process that began the consent.
func Verifier() string { return oauth2.GenerateVerifier() }

// ConsentURL is the address at which a person consents.
func (p *Providers) ConsentURL(provider, state, verifier, redirect string) string {
	c := p.consents[provider]
	config := c.oauth
	config.RedirectURL = redirect
	var options []oauth2.AuthCodeOption
	if c.pkce {
		options = append(options, oauth2.S256ChallengeOption(verifier))
	}
	return config.AuthCodeURL(state, options...)
}

// Token holds the tokens of a consent.
type Token struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh,omitempty"`
	// Expires is zero if the provider names no end.
	Expires time.Time `json:"-"`
	Scopes  []string  `json:"-"`
}

// ErrApplication: the provider does not accept the installation's application. The person's connection is not at fault; the operator has
// to fix the settings.
var ErrApplication = errors.New("the provider does not accept the installation's application")

var errNoApplication = fmt.Errorf("%w: it has none", ErrApplication)

// ErrRejected: the provider does not accept the code or the refresh token. Another attempt does not help.
var ErrRejected = errors.New("the provider does not take it")

// Exchange turns a code into tokens. ErrRejected means that the code is at fault; every other error is a *Refusal.
func (p *Providers) Exchange(ctx context.Context, provider, code, verifier, redirect string) (Token, error) {
	c := p.consents[provider]
	if c == nil {
		return Token{}, unavailable(provider, errNoApplication)
	}
	config := c.oauth
	config.RedirectURL = redirect
	var options []oauth2.AuthCodeOption
	if c.pkce {
		options = append(options, oauth2.VerifierOption(verifier))
	}
	t, err := config.Exchange(context.WithValue(ctx, oauth2.HTTPClient, c.client), code, options...)
	return c.token(t, err)
}

// Refresh renews a token.
func (p *Providers) Refresh(ctx context.Context, provider string, old Token) (Token, error) {
	c := p.consents[provider]
	switch {
	case old.Refresh == "":
		return Token{}, fmt.Errorf("%w: it cannot be renewed", ErrRejected)
	case c == nil:
		return Token{}, unavailable(provider, errNoApplication)
	}
	source := c.oauth.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, c.client), &oauth2.Token{RefreshToken: old.Refresh})
	return c.token(source.Token())
}

func (c *consent) token(t *oauth2.Token, err error) (Token, error) {
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		return Token{}, c.check(refused)
	case err != nil:
		return Token{}, unavailable(c.provider, err)
	}
	result := Token{Access: t.AccessToken, Refresh: t.RefreshToken, Expires: t.Expiry, Scopes: c.oauth.Scopes}
	// If the answer names no scopes, they are the requested ones (RFC 6749, 5.1). GitHub separates scopes by commas.
	if text, ok := t.Extra("scope").(string); ok && strings.TrimSpace(text) != "" {
		result.Scopes = strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
	}
	return result, nil
}

// check distinguishes three cases: a bad code or token, a bad application, and a provider that fails. The text of the answer is neither
// logged nor shown: it may repeat what was sent.
func (c *consent) check(e *oauth2.RetrieveError) error {
	status := 0
	header := http.Header{}
	if e.Response != nil {
		status, header = e.Response.StatusCode, e.Response.Header
	}
	fault := fmt.Errorf("it refuses: %s", first(safeWord(e.ErrorCode), "no reason"))
	switch e.ErrorCode {
	// GitHub reports this with status 200; Gitea uses unauthorized_client for nearly every fault.
	case "invalid_grant", "bad_verification_code", "bad_refresh_token", "unauthorized_client", "access_denied", "interaction_required", "consent_required",
		"login_required":
		return fmt.Errorf("%w: %w", ErrRejected, fault)
	}
	switch e.ErrorCode {
	case "invalid_client", "incorrect_client_credentials", "unauthorized_application":
		fault = fmt.Errorf("%w: %w", ErrApplication, fault)
	}
	r := &Refusal{Provider: c.provider, Reason: Unavailable, Status: status, RetryAfter: retryAfter(header, time.Now()), cause: fault}
	if status == http.StatusTooManyRequests {
		r.Reason = Limited
	}
	return r
}

// safeWord keeps an OAuth error code, which is a single word, and drops all other text.
func safeWord(text string) string {
	if len(text) > 60 || strings.ContainsFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }) {
		return ""
	}
	return text
}
