package gitfetch

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Owns reports whether a repository is on its provider's own host: github.com, or its configured replacement. A connection to the provider
// is valid for that host only; a further host of the same kind must not see its token.
func (h *Hosts) Owns(raw string) bool {
	at, rule, err := h.place(raw)
	if err != nil {
		return false
	}
	if base := h.bases[rule.provider]; base != nil {
		return at.Host == base.Host
	}
	return hostKey(at) == canonical[rule.provider]
}

// APIClient makes an HTTP client for a provider's API and its consent pages. The address is checked when the connection is made, after name
// resolution, by the same rules as Git hosts. internalAllowed means that the operator configured this host. Proxies of the environment are
// ignored, and the caller follows redirects.
func APIClient(internalAllowed bool) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %q: %w", address, err)
		}
		if !reachable(at.Addr(), internalAllowed) {
			return fmt.Errorf("address %s may not be contacted", at.Addr())
		}
		return nil
	}}
	return &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 15 * time.Second,
			MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ParseBase parses the address of a service that the operator configured.
func ParseBase(raw string) (*url.URL, error) { return baseURL(raw) }
