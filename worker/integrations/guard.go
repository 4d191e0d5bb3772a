package integrations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"kijko/worker/public"
)

// redirects that are followed on the way to an MCP server.
const redirects = 3

// Guard contacts addresses that people name: with the guard of chunking webhooks, which judges each address after its name was resolved, when
// the connection is made, also after redirects.
type Guard struct {
	client       *http.Client
	allowPrivate bool
}

// NewGuard makes one. allowPrivate opens internal addresses, but never link-local ones.
func NewGuard(allowPrivate bool) *Guard {
	return &Guard{client: public.Client(allowPrivate), allowPrivate: allowPrivate}
}

// Judge looks an address up, so that a bad one is refused when it is written. A name that cannot be resolved now is no fault: what counts is
// judged again with each connection.
func (g *Guard) Judge(ctx context.Context, address string) error {
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

// follower is the client for MCP servers: up to three redirects, bounded answers, and secret headers only for the server that they are for.
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

// dressed adds the secret headers of a connector, for its own host alone, and bounds what is read.
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

// isSame says whether a request goes to the host that its headers are for; a step from http to https is one to the same.
func isSame(target, to *url.URL) bool {
	if strings.EqualFold(target.Host, to.Host) && target.Scheme == to.Scheme {
		return true
	}
	return target.Scheme == "http" && to.Scheme == "https" && strings.EqualFold(target.Hostname(), to.Hostname()) && target.Port() == "" && to.Port() == ""
}

// maxMCP bounds what an MCP server says in one answer.
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
