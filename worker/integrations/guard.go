package integrations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"kijko/worker/public"
)

// redirects that are followed on the way to an MCP server.
const redirects = 3

// Guard contacts addresses that people configure. It uses the guard of chunking webhooks, which checks each address after name resolution,
// when the connection is made, also after redirects.
type Guard struct {
	client       *http.Client
	allowPrivate bool
}

// NewGuard makes a Guard. allowPrivate permits internal addresses, but never link-local ones.
func NewGuard(allowPrivate bool) *Guard {
	return &Guard{client: public.Client(allowPrivate), allowPrivate: allowPrivate}
}

// Check checks an address when it is stored, so that a bad one is refused early. A name that cannot be resolved now is accepted: the check
// that counts is repeated with each connection.
func (g *Guard) Check(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return public.ErrAddress
	}
	addrs := []netip.Addr{}
	if literal, err := netip.ParseAddr(u.Hostname()); err == nil {
		addrs = append(addrs, literal)
	} else if addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname()); err != nil {
		return nil
	}
	for _, addr := range addrs {
		if !public.Reachable(addr, g.allowPrivate) {
			return public.ErrAddress
		}
	}
	return nil
}

// hops are headers that belong to a connection and not to a request (RFC 9110, 7.6.1), and headers that the transport writes itself.
var hops = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Content-Length", "Host"}

// HeaderFault says why a header cannot be sent to an MCP server; empty if it can.
func HeaderFault(name, value string) string {
	folded := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name) || len(name) > 100:
		return fmt.Sprintf("%q is no name of a header.", name)
	case slices.Contains(hops, folded):
		return fmt.Sprintf("The header %s belongs to the connection and cannot be set.", folded)
	case !httpguts.ValidHeaderFieldValue(value) || len(value) > 8192:
		return fmt.Sprintf("The value of the header %s cannot be sent.", folded)
	}
	return ""
}

// follower is the client for MCP servers. It follows up to three redirects, bounds answers, and sends secret headers only to the server
// that they belong to.
func (g *Guard) follower(target *url.URL, header http.Header) *http.Client {
	client := *g.client
	client.Transport = &dressed{next: g.client.Transport, target: target, header: header}
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > redirects {
			return fmt.Errorf("more than %d redirects", redirects)
		}
		return nil
	}
	return &client
}

// dressed adds the secret headers of a connector to requests to its own host, and bounds answers.
type dressed struct {
	next   http.RoundTripper
	target *url.URL
	header http.Header
}

func (d *dressed) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(d.header) > 0 && isSame(d.target, r.URL) {
		r = r.Clone(r.Context())
		for name, values := range d.header {
			r.Header[name] = values
		}
		if host := d.header.Get("Host"); host != "" {
			r.Host = host
		}
	}
	answer, err := d.next.RoundTrip(r)
	if err == nil {
		answer.Body = &bounded{ReadCloser: answer.Body, left: maxMCP}
	}
	return answer, err
}

// isSame reports whether a request goes to the host that its headers belong to. A step from http to https stays on the same host.
func isSame(target, to *url.URL) bool {
	if strings.EqualFold(target.Host, to.Host) && target.Scheme == to.Scheme {
		return true
	}
	return target.Scheme == "http" && to.Scheme == "https" && strings.EqualFold(target.Hostname(), to.Hostname()) && target.Port() == "" && to.Port() == ""
}

// maxMCP bounds one answer of an MCP server.
const maxMCP = 8 << 20

var errTooLarge = errors.New("the answer is too large")

type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
