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

// Auth is what a provider connection gives. The zero value means anonymous.
type Auth struct {
	// Username defaults to what the provider expects beside an OAuth token.
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

// pinned is one host with the addresses that were judged for it.
type pinned struct {
	host, port string
	addrs      []netip.Addr
}

// dial connects to the judged addresses in turn, whatever the name resolves to by now.
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

// curl writes the pin for git's http.curloptResolve; empty for a literal address, which curl doesn't look up.
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

// location is a repository that answered, after redirects, and how to reach it.
type location struct {
	url  *url.URL
	pin  pinned
	auth string // value of the Authorization header; "" for none
}

// pin resolves a URL's host once and refuses it when any of its addresses may not be contacted: a host that has both kinds
// is playing tricks.
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

// locate finds the repository, with the credentials as long as the host takes them. Hosts turn a connection away that has ended, or that
// covers other repositories, from public ones too; those stay open to callers without one.
func (f *Fetcher) locate(ctx context.Context, raw string, auth Auth) (location, error) {
	loc, err := f.locateAs(ctx, raw, auth)
	if auth.anonymous() || !isTurnedAway(err) {
		return loc, err
	}
	open, failure := f.locateAs(ctx, raw, Auth{})
	if failure != nil {
		return loc, err // what concerns the connection is what the user can mend
	}
	f.log.Warn("a public repository is read without the connected account, which the host turned away", "reason", err)
	return open, nil
}

func isTurnedAway(err error) bool {
	failure, ok := AsFailure(err)
	return ok && (failure.Code == AuthFailed || failure.Code == PermissionDenied || failure.Code == RepoNotFound)
}

// locateAs asks the host for the repository with the request git itself would begin with. That gives status and headers, which
// git's messages hide, and the address a renamed repository has moved to.
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
			loc.auth = "" // credentials belong to the host they were made for
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

// ask makes the request at one location. It gives the repository's next address on a redirect, and nil when it is here.
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
	resp, err := transport.RoundTrip(req) // not a Client: that would have its own mind about redirects
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
	return judge(loc, resp)
}

// judge reads the answer: here, moved, or a reason.
func judge(loc location, resp *http.Response) (*url.URL, error) {
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
		if !ok { // not the same question elsewhere but a page for people: Azure sends anonymous callers to its sign-in page
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
