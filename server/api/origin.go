package api

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Origins are the sites whose pages may call the API and open sockets, as CORS_ORIGINS lists them. An entry that ends with ":*" means every
// port of its host, including the scheme's default port, which browsers leave out.
type Origins []string

// Allow reports whether a page of origin may call.
func (o Origins) Allow(origin string) bool {
	if slices.Contains(o, origin) && !strings.HasSuffix(origin, ":*") {
		return true
	}
	site, port, given := cutPort(origin)
	return (!given || isPort(port)) && slices.Contains(o, site+":*")
}

// AllowSocket reports whether a page of origin may open a socket at host, the request's Host. The server's own pages may. Clients that send
// the address which they connect to as their Origin may too (Python's websocket-client). That is safe because no cookie opens a socket: a
// page of another site has no credential to send.
func (o Origins) AllowSocket(origin, host string) bool {
	return origin == "" || o.Allow(origin) || sameHost(origin, host)
}

// cutPort splits "http://localhost:3000" at its last colon; an origin without a port is not split.
func cutPort(origin string) (site, port string, found bool) {
	at := strings.LastIndexByte(origin, ':')
	if at <= strings.Index(origin, "://") || strings.HasSuffix(origin, "]") {
		return origin, "", false
	}
	return origin[:at], origin[at+1:], true
}

// isPort rejects text that no browser sends: "http://localhost:3000/" is not an origin, and "http://localhost:1@evil.example" names another
// host.
func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return false
	}
	port := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	return strings.EqualFold(withPort(u.Host, port), withPort(host, port))
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}
