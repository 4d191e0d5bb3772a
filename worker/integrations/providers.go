package integrations

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"
)

// Auth is how an organization is authorized at a provider.
type Auth string

// The kinds of authorization. Built-in integrations need none and are not listed here.
const (
	ByConsent Auth = "oauth"
	ByKey     Auth = "key"
)

// revocation is how a provider is notified that a token is not needed any more.
type revocation int

const (
	// notAtAll: the provider has no such call; the tokens can only be deleted here.
	notAtAll revocation = iota
	// byForm is RFC 7009: POST token=…, with the client's credentials as with the token endpoint.
	byForm
	// byBearer is a POST with the token itself as the credential.
	byBearer
	// byPath is DELETE …/<refresh token>.
	byPath
	// byClient is GitHub's: DELETE …/applications/<client>/token with Basic and the token in JSON.
	byClient
)

// Provider describes one provider as data. Addresses are the provider's own; Config.Bases replaces their hosts.
type Provider struct {
	ID   string
	Auth Auth
	// Authorize, Token, Revoke and Identity are addresses; {client} is replaced by the client id.
	Authorize, Token, Revoke, Identity string
	// Style is the place where the token endpoint expects the client's credentials. With automatic detection, the library would send
	// each refused exchange twice.
	Style oauth2.AuthStyle
	// PKCE: the provider supports code challenges.
	PKCE bool
	// Scopes are the provider's names for our permissions. Always are requested in any case.
	Scopes map[string][]string
	Always []string
	// Comma separates scopes by commas instead of blanks.
	Comma bool
	// Extra are further parameters of the authorization address.
	Extra map[string]string
	// Header are further headers of the identity call.
	Header map[string]string
	// Post: the identity endpoint takes POST.
	Post bool
	// SaysOK: the provider answers refusals with status 200 and "ok": false.
	SaysOK bool
	// Revocation is the kind of revocation call.
	Revocation revocation
}

func google(id string, scopes map[string][]string) Provider {
	return Provider{ID: id, Auth: ByConsent, Authorize: "https://accounts.google.com/o/oauth2/v2/auth", Token: "https://oauth2.googleapis.com/token",
		Revoke: "https://oauth2.googleapis.com/revoke", Identity: "https://openidconnect.googleapis.com/v1/userinfo", Style: oauth2.AuthStyleInParams,
		PKCE: true, Always: []string{"openid", "email"}, Scopes: scopes, Revocation: byForm,
		// Unless consent is requested again, the provider sends no refresh token the second time.
		Extra: map[string]string{"access_type": "offline", "prompt": "consent"}}
}

func microsoft(id string, scopes map[string][]string) Provider {
	return Provider{ID: id, Auth: ByConsent, Authorize: "https://login.microsoftonline.com/common/oauth2/v2.0/authorize",
		Token: "https://login.microsoftonline.com/common/oauth2/v2.0/token", Identity: "https://graph.microsoft.com/v1.0/me",
		Style: oauth2.AuthStyleInParams, PKCE: true, Always: []string{"offline_access", "User.Read"}, Scopes: scopes}
}

// providers are all providers of the catalog that this package can call, in the order of their ids.
var providers = []Provider{
	{ID: "amplitude", Auth: ByKey, Identity: "https://amplitude.com/api/2/annotations"},
	{ID: "discord", Auth: ByConsent, Authorize: "https://discord.com/oauth2/authorize", Token: "https://discord.com/api/oauth2/token",
		Revoke: "https://discord.com/api/oauth2/token/revoke", Identity: "https://discord.com/api/users/@me", Style: oauth2.AuthStyleInHeader, PKCE: true,
		Always: []string{"identify"}, Scopes: map[string][]string{"send_messages": {"bot"}, "manage_webhooks": {"webhook.incoming"}}, Revocation: byForm},
	{ID: "dropbox", Auth: ByConsent, Authorize: "https://www.dropbox.com/oauth2/authorize", Token: "https://api.dropboxapi.com/oauth2/token",
		Revoke: "https://api.dropboxapi.com/2/auth/token/revoke", Identity: "https://api.dropboxapi.com/2/users/get_current_account", Post: true,
		Style: oauth2.AuthStyleInParams, PKCE: true, Always: []string{"account_info.read"}, Extra: map[string]string{"token_access_type": "offline"},
		Scopes: map[string][]string{"read_files": {"files.content.read"}, "write_files": {"files.content.write"}}, Revocation: byBearer},
	{ID: "github", Auth: ByConsent, Authorize: "https://github.com/login/oauth/authorize", Token: "https://github.com/login/oauth/access_token",
		Revoke: "https://api.github.com/applications/{client}/token", Identity: "https://api.github.com/user", Style: oauth2.AuthStyleInParams, PKCE: true,
		Scopes: map[string][]string{"read_repos": {"repo"}, "write_repos": {"repo"}, "read_issues": {"repo"}}, Revocation: byClient,
		Header: map[string]string{"Accept": "application/vnd.github+json"}},
	{ID: "gitlab", Auth: ByConsent, Authorize: "https://gitlab.com/oauth/authorize", Token: "https://gitlab.com/oauth/token",
		Revoke: "https://gitlab.com/oauth/revoke", Identity: "https://gitlab.com/api/v4/user", Style: oauth2.AuthStyleInParams, PKCE: true,
		Always: []string{"read_user"}, Scopes: map[string][]string{"read_repos": {"read_api", "read_repository"}, "write_repos": {"api", "write_repository"},
			"read_issues": {"read_api"}}, Revocation: byForm},
	google("google-analytics", map[string][]string{"read_data": {"https://www.googleapis.com/auth/analytics.readonly"},
		"write_data": {"https://www.googleapis.com/auth/analytics.edit"}}),
	google("google-drive", map[string][]string{"read_files": {"https://www.googleapis.com/auth/drive.readonly"},
		"write_files": {"https://www.googleapis.com/auth/drive"}, "delete_files": {"https://www.googleapis.com/auth/drive"}}),
	google("google-workspace", map[string][]string{"read_docs": {"https://www.googleapis.com/auth/documents.readonly"},
		"write_docs": {"https://www.googleapis.com/auth/documents"}, "read_calendar": {"https://www.googleapis.com/auth/calendar.readonly"}}),
	{ID: "hubspot", Auth: ByConsent, Authorize: "https://app.hubspot.com/oauth/authorize", Token: "https://api.hubapi.com/oauth/v1/token",
		Revoke: "https://api.hubapi.com/oauth/v1/refresh-tokens", Identity: "https://api.hubapi.com/account-info/v3/details", Style: oauth2.AuthStyleInParams,
		Always: []string{"oauth"}, Scopes: map[string][]string{"read_contacts": {"crm.objects.contacts.read"},
			"write_contacts": {"crm.objects.contacts.write"}, "read_deals": {"crm.objects.deals.read"}}, Revocation: byPath},
	{ID: "jira", Auth: ByConsent, Authorize: "https://auth.atlassian.com/authorize", Token: "https://auth.atlassian.com/oauth/token",
		Identity: "https://api.atlassian.com/me", Style: oauth2.AuthStyleInParams, Always: []string{"offline_access", "read:me"},
		Extra:  map[string]string{"audience": "api.atlassian.com", "prompt": "consent"},
		Scopes: map[string][]string{"read_issues": {"read:jira-work"}, "write_issues": {"write:jira-work"}, "read_projects": {"read:jira-work"}}},
	microsoft("microsoft-365", map[string][]string{"read_files": {"Files.Read"}, "write_files": {"Files.ReadWrite"}, "read_calendar": {"Calendars.Read"}}),
	microsoft("microsoft-teams", map[string][]string{"send_messages": {"ChannelMessage.Send"}, "read_channels": {"Team.ReadBasic.All", "Channel.ReadBasic.All"}}),
	{ID: "mixpanel", Auth: ByKey, Identity: "https://mixpanel.com/api/app/me"},
	{ID: "notion", Auth: ByConsent, Authorize: "https://api.notion.com/v1/oauth/authorize", Token: "https://api.notion.com/v1/oauth/token",
		Revoke: "https://api.notion.com/v1/oauth/revoke", Identity: "https://api.notion.com/v1/users/me", Style: oauth2.AuthStyleInHeader,
		// People choose the readable pages in Notion itself.
		Scopes: map[string][]string{"read_content": nil, "write_content": nil}, Extra: map[string]string{"owner": "user"},
		Header: map[string]string{"Notion-Version": "2022-06-28"}, Revocation: byForm},
	microsoft("onedrive", map[string][]string{"read_files": {"Files.Read"}, "write_files": {"Files.ReadWrite"}}),
	{ID: "pipedrive", Auth: ByConsent, Authorize: "https://oauth.pipedrive.com/oauth/authorize", Token: "https://oauth.pipedrive.com/oauth/token",
		Revoke: "https://oauth.pipedrive.com/oauth/revoke", Identity: "https://api.pipedrive.com/v1/users/me", Style: oauth2.AuthStyleInHeader,
		Scopes: map[string][]string{"read_deals": {"deals:read"}, "write_deals": {"deals:full"}, "read_contacts": {"contacts:read"}}, Revocation: byForm},
	{ID: "salesforce", Auth: ByConsent, Authorize: "https://login.salesforce.com/services/oauth2/authorize",
		Token: "https://login.salesforce.com/services/oauth2/token", Revoke: "https://login.salesforce.com/services/oauth2/revoke",
		Identity: "https://login.salesforce.com/services/oauth2/userinfo", Style: oauth2.AuthStyleInParams, PKCE: true,
		Always: []string{"openid", "refresh_token"}, Scopes: map[string][]string{"read_contacts": {"api"}, "write_contacts": {"api"}, "read_leads": {"api"},
			"write_leads": {"api"}}, Revocation: byForm},
	{ID: "slack", Auth: ByConsent, Authorize: "https://slack.com/oauth/v2/authorize", Token: "https://slack.com/api/oauth.v2.access",
		Revoke: "https://slack.com/api/auth.revoke", Identity: "https://slack.com/api/auth.test", Post: true, SaysOK: true, Comma: true,
		Style: oauth2.AuthStyleInParams, Scopes: map[string][]string{"send_messages": {"chat:write"}, "read_channels": {"channels:read"}}, Revocation: byBearer},
}

// Client is our registration as a client of a provider.
type Client struct{ ID, Secret string }

// Config is the operator's configuration of providers.
type Config struct {
	// Clients by provider. A provider that needs a consent cannot be connected without one.
	Clients map[string]Client
	// Bases replace the hosts of a provider's addresses: https://gitlab.example.nl. The operator named them, so they may be internal.
	Bases map[string]string
}

// ParseConfig reads `provider=id:secret` and `provider=URL`. The error names the faulty entry without its secret.
func ParseConfig(clients, bases []string) (Config, error) {
	c := Config{Clients: map[string]Client{}, Bases: map[string]string{}}
	for _, entry := range clients {
		name, rest, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if !ok {
			name = "an entry without ="
		}
		id, secret, _ := strings.Cut(rest, ":")
		if p := find(name); p == nil || p.Auth != ByConsent || id == "" || secret == "" {
			return c, fmt.Errorf("%q: want provider=id:secret with one of %s", name, strings.Join(names(), ", "))
		}
		c.Clients[name] = Client{ID: id, Secret: secret}
	}
	for _, entry := range bases {
		name, base, _ := strings.Cut(strings.TrimSpace(entry), "=")
		u, err := url.Parse(base)
		if find(name) == nil || err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil {
			return c, fmt.Errorf("%q: want provider=URL with one of %s", name, strings.Join(names(), ", "))
		}
		c.Bases[name] = strings.TrimRight(base, "/")
	}
	return c, nil
}

func find(id string) *Provider {
	i, ok := slices.BinarySearchFunc(providers, id, func(p Provider, id string) int { return strings.Compare(p.ID, id) })
	if !ok {
		return nil
	}
	return &providers[i]
}

func names() []string {
	all := make([]string, len(providers))
	for i, p := range providers {
		all[i] = p.ID
	}
	return all
}

// at is an address of the provider, at the operator's base URL if there is one.
func (c Config) at(p *Provider, address string) string {
	address = strings.ReplaceAll(address, "{client}", url.PathEscape(c.Clients[p.ID].ID))
	base, replaced := c.Bases[p.ID]
	if !replaced {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return base + u.RequestURI()
}

// scopes returns the provider's names for permissions, each once.
func (p *Provider) scopes(permissions []string) []string {
	all := map[string]bool{}
	for _, s := range p.Always {
		all[s] = true
	}
	for _, permission := range permissions {
		for _, s := range p.Scopes[permission] {
			all[s] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
