package gitfetch

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Provider names a kind of Git host.
type Provider string

// The providers of the contract.
const (
	GitHub    Provider = "github"
	GitLab    Provider = "gitlab"
	Bitbucket Provider = "bitbucket"
	Azure     Provider = "azure"
)

var canonical = map[Provider]string{
	GitHub: "github.com", GitLab: "gitlab.com", Bitbucket: "bitbucket.org", Azure: "dev.azure.com",
}

// azureOld is the earlier domain of Azure's organizations, which Azure still redirects from and to.
const azureOld = ".visualstudio.com"

// HostConfig is the operator's configuration of Git hosts.
type HostConfig struct {
	// BaseURLs replaces a provider's own host: https://git.corp.example or http://127.0.0.1:9999, with an optional path in front of
	// the repository's. Only a base URL with http is contacted by http. The operator configured the host, so it may have an
	// internal address.
	BaseURLs map[Provider]string
	// Extra adds self-hosted hosts ("git.corp.example", or with ":port") that are contacted by https.
	Extra map[string]Provider
	// Aliases gives hosts of Extra another address to contact, as BaseURLs does for a provider's own host.
	Aliases map[string]string
	// AllowPrivate permits loopback, private, CGNAT and unique-local addresses for every host. Link-local and multicast
	// addresses stay refused.
	AllowPrivate bool
}

// Hosts decides which Git hosts may be contacted, and how. It is immutable.
type Hosts struct {
	byHost       map[string]hostRule
	bases        map[Provider]*url.URL
	allowPrivate bool
}

type hostRule struct {
	provider Provider
	base     *url.URL // set if the operator configured this host in BaseURLs
	replaced bool     // the provider's own host, but a base URL takes its place
	alias    bool     // a host that is contacted at base
}

// NewHosts checks the configuration and reports all its faults at once.
func NewHosts(c HostConfig) (*Hosts, error) {
	h := &Hosts{byHost: map[string]hostRule{}, bases: map[Provider]*url.URL{}, allowPrivate: c.AllowPrivate}
	var faults []error
	for provider, host := range canonical {
		h.byHost[host] = hostRule{provider: provider, replaced: c.BaseURLs[provider] != ""}
	}
	for host, provider := range c.Extra {
		u, err := url.Parse("https://" + host)
		if err != nil || u.Host != host || u.Hostname() == "" || canonical[provider] == "" {
			faults = append(faults, fmt.Errorf("git host %q=%q: want host[:port] and github, gitlab, bitbucket or azure", host, provider))
			continue
		}
		rule := hostRule{provider: provider}
		if alias := c.Aliases[host]; alias != "" {
			if rule.base, err = baseURL(alias); err != nil {
				faults = append(faults, fmt.Errorf("git host %q: %w", host, err))
				continue
			}
			rule.alias = true
		}
		h.byHost[hostKey(u)] = rule
	}
	for provider, raw := range c.BaseURLs {
		if raw == "" {
			continue
		}
		u, err := baseURL(raw)
		if err != nil || canonical[provider] == "" {
			faults = append(faults, fmt.Errorf("base URL of git provider %q: want http(s)://host[:port][/path] without credentials", provider))
			continue
		}
		h.bases[provider] = u
		rule := hostRule{provider: provider, base: u}
		rule.replaced = hostKey(u) == canonical[provider] && u.Path != ""
		h.byHost[hostKey(u)] = rule
	}
	return h, errors.Join(faults...)
}

func baseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want http(s)://host[:port][/path] without credentials")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

// hostKey is the lower-cased host, with its port unless that is the scheme's own.
func hostKey(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return host
	}
	return host + ":" + port
}

func (h *Hosts) rule(u *url.URL) (hostRule, bool) {
	key := hostKey(u)
	rule, ok := h.byHost[key]
	if !ok && strings.HasSuffix(key, azureOld) && h.bases[Azure] == nil {
		return hostRule{provider: Azure}, true
	}
	return rule, ok
}

// place returns the address to contact for a normalized repository URL, and its rule.
func (h *Hosts) place(raw string) (*url.URL, hostRule, error) {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, hostRule{}, refused("The repository's address is not valid.")
	}
	rule, ok := h.rule(u)
	path := strings.TrimRight(u.EscapedPath(), "/")
	if !ok || !cleanPath(path) {
		return nil, hostRule{}, refused("The repository's host is not one this installation may contact.")
	}
	target := &url.URL{Scheme: "https", Host: strings.ToLower(u.Host), Path: path}
	if rule.alias {
		target = &url.URL{Scheme: rule.base.Scheme, Host: rule.base.Host, Path: rule.base.Path + path}
	} else if base := h.bases[rule.provider]; base != nil && rule.replaced {
		rule = hostRule{provider: rule.provider, base: base}
		target = &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + path}
	} else if rule.base != nil {
		target.Scheme = rule.base.Scheme
	}
	return target, rule, nil
}

// hop checks the target of a redirect of a repository at from. The target must have the same provider, must not go from https to
// http, and must be a host of the policy.
func (h *Hosts) hop(from *url.URL, provider Provider, to *url.URL) (hostRule, error) {
	rule, ok := h.rule(to)
	if base := h.bases[provider]; base != nil && hostKey(base) == hostKey(to) {
		rule, ok = hostRule{provider: provider, base: base}, true // several providers may share one base URL
	}
	plain := to.Scheme == "http" && from.Scheme == "http" && rule.base != nil && rule.base.Scheme == "http"
	if !ok || rule.provider != provider || to.User != nil || !(to.Scheme == "https" || plain) ||
		(rule.replaced && rule.base == nil) || !cleanPath(to.EscapedPath()) {
		return hostRule{}, refused("The repository redirects to an address that this installation may not contact.")
	}
	return rule, nil
}

// internalAllowed reports whether the host of the rule may have an address that is not public.
func (h *Hosts) internalAllowed(rule hostRule) bool { return h.allowPrivate || rule.base != nil }

// cleanPath accepts the path of a repository: at least one segment, none of them empty, "." or "..", no segment that git or curl
// could mistake for something other than a path, no escapes (7.3 allows letters, digits, ".", "_" and "-").
func cleanPath(path string) bool {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	return strings.HasPrefix(path, "/") && !slices.ContainsFunc(segments, func(s string) bool {
		return s == "" || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool {
			return r <= ' ' || r > '~' || strings.ContainsRune(`\"'%<>^{|}`+"`", r)
		})
	})
}
