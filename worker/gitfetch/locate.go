package gitfetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

const (
	maxHops         = 3
	answerTimeout   = 30 * time.Second
	uploadPackReply = "application/x-git-upload-pack-advertisement"
)

// Resolver turns a host name into addresses; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Auth holds the credentials of a provider connection. The zero value means anonymous.
type Auth struct {
	// Username defaults to the user name that the provider expects with an OAuth token.
	Username string
	// Token is an access token, app password or personal access token.
	Token string
}

// String, GoString and LogValue keep the token out of every print.
func (a Auth) String() string {
	if a.Token == "" {
		return "anonymous"
	}
	return "credentials"
}

// GoString is String.
func (a Auth) GoString() string { return a.String() }

// LogValue is String.
func (a Auth) LogValue() slog.Value { return slog.StringValue(a.String()) }

func (a Auth) anonymous() bool { return a.Token == "" }

// pinned is one host with the addresses that were checked for it.
type pinned struct {
	host, port string
	addrs      []netip.Addr
}

// dial connects to the checked addresses in turn, even if the name resolves to other addresses by now.
func (p pinned) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var failures []error
	for _, addr := range p.addrs {
		conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, net.JoinHostPort(addr.String(), p.port))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// curl formats the pin for git's http.curloptResolve; empty for a literal address, which curl does not resolve.
func (p pinned) curl() string {
	if _, err := netip.ParseAddr(p.host); err == nil {
		return ""
	}
	texts := make([]string, len(p.addrs))
	for i, addr := range p.addrs {
		texts[i] = addr.String()
		if addr.Is6() {
			texts[i] = "[" + texts[i] + "]"
		}
	}
	return p.host + ":" + p.port + ":" + strings.Join(texts, ",")
}

// location is the place of a repository that answered, after redirects, with the way to reach it.
type location struct {
	url  *url.URL
	pin  pinned
	auth string // value of the Authorization header; "" for none
}

// pin resolves a URL's host once and refuses it if any of its addresses may not be contacted: a host with both kinds of addresses is
// suspicious.
func (f *Fetcher) pin(ctx context.Context, u *url.URL, rule hostRule) (pinned, error) {
	p := pinned{host: u.Hostname(), port: u.Port()}
	if p.port == "" {
		p.port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if addr, err := netip.ParseAddr(p.host); err == nil {
		p.addrs = []netip.Addr{addr}
	} else if p.addrs, err = f.resolver.LookupNetIP(ctx, "ip", p.host); err != nil {
		return p, network(err)
	}
	for i, addr := range p.addrs {
		p.addrs[i] = addr.Unmap()
		if !reachable(addr, f.hosts.internalAllowed(rule)) {
			return p, refused("The repository's host has an internal network address, which this installation may not contact.")
		}
	}
	if len(p.addrs) == 0 {
		return p, network(fmt.Errorf("no address for %s", p.host))
	}
	return p, nil
}

// locate finds the repository, with credentials as long as the host accepts them. Hosts also refuse public repositories to a connection
// that has ended or that covers other repositories. Such repositories stay open to callers without a connection.
func (f *Fetcher) locate(ctx context.Context, raw string, auth Auth) (location, error) {
	loc, err := f.locateAs(ctx, raw, auth)
	if auth.anonymous() || !isTurnedAway(err) {
		return loc, err
	}
	open, failure := f.locateAs(ctx, raw, Auth{})
	if failure != nil {
		return loc, err // the user can fix the connection, so its error is the useful one
	}
	f.log.Warn("a public repository is read without the connected account, which the host turned away", "reason", err)
	return open, nil
}

func isTurnedAway(err error) bool {
	failure, ok := AsFailure(err)
	return ok && (failure.Code == AuthFailed || failure.Code == PermissionDenied || failure.Code == RepoNotFound)
}

// locateAs requests the repository with the same first request as git. This reveals status and headers, which git's messages hide, and
// the new address of a renamed repository.
func (f *Fetcher) locateAs(ctx context.Context, raw string, auth Auth) (location, error) {
	at, rule, err := f.hosts.place(raw)
	if err != nil {
		return location{}, err
	}
	first, provider, header := hostKey(at), rule.provider, authorization(rule.provider, auth)
	for range maxHops + 1 {
		pin, err := f.pin(ctx, at, rule)
		if err != nil {
			return location{}, err
		}
		loc := location{url: at, pin: pin, auth: header}
		if hostKey(at) != first {
			loc.auth = "" // credentials belong to the host that they were issued for
		}
		next, err := f.ask(ctx, loc)
		if next == nil || err != nil {
			return loc, err
		}
		if rule, err = f.hosts.hop(at, provider, next); err != nil {
			return location{}, err
		}
		at = next
	}
	return location{}, refused("The repository redirects too often.")
}

// ask makes the request at one location. It returns the repository's next address on a redirect, and nil if the repository is here.
func (f *Fetcher) ask(ctx context.Context, loc location) (*url.URL, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errTimeLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, loc.url.String()+"/info/refs?service=git-upload-pack", nil)
	if err != nil {
		return nil, refused("The repository's address is not valid.")
	}
	req.Header.Set("User-Agent", f.agent)
	req.Header.Set("Git-Protocol", "version=2")
	if loc.auth != "" {
		req.Header.Set("Authorization", loc.auth)
	}
	transport := &http.Transport{
		DialContext: loc.pin.dial, DisableKeepAlives: true, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig: &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req) // not a Client: a Client would follow redirects itself
	if err != nil {
		if errors.Is(context.Cause(ctx), errTimeLimit) {
			return nil, &Failure{Code: Timeout, Message: "The Git host did not answer in time.", Retryable: true, cause: err}
		}
		failure := network(err)
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			failure.Message, failure.Retryable = "The Git host's certificate is not trusted.", false
		}
		return nil, failure
	}
	defer func() { _ = resp.Body.Close() }()
	return check(loc, resp)
}

// check reads the answer: the repository is here, has moved, or is refused for a reason.
func check(loc location, resp *http.Response) (*url.URL, error) {
	authenticated := loc.auth != ""
	switch {
	case resp.StatusCode == http.StatusOK && resp.Header.Get("Content-Type") == uploadPackReply:
		return nil, nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "":
		next, err := resp.Location()
		if err != nil {
			return nil, refused("The repository redirects to an address that is not valid.")
		}
		path, ok := strings.CutSuffix(next.EscapedPath(), "/info/refs")
		if !ok { // the target is not the repository but a page for people: Azure redirects anonymous callers to its sign-in page
			return nil, fromStatus(http.StatusUnauthorized, resp.Header, authenticated)
		}
		return &url.URL{Scheme: next.Scheme, Host: next.Host, User: next.User, Path: path}, nil
	case resp.StatusCode >= 200 && resp.StatusCode < 300 && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		return nil, fromStatus(http.StatusUnauthorized, resp.Header, authenticated) // a sign-in page in place (Azure's 203)
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil, refused("There is no Git repository at this address.")
	default:
		return nil, fromStatus(resp.StatusCode, resp.Header, authenticated)
	}
}
