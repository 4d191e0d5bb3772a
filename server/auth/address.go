package auth

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxHops bounds the work that a long X-Forwarded-For can cause.
const maxHops = 32

// ParseProxies reads the setting of trusted proxies: addresses and CIDR ranges,
// separated by commas or blanks.
func ParseProxies(s string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, item := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		if addr, err := netip.ParseAddr(item); err == nil {
			addr = addr.Unmap().WithZone("")
			proxies = append(proxies, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		prefix, err := netip.ParsePrefix(item)
		if err != nil || prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("trusted proxies: %q is neither an address nor a range", item)
		}
		proxies = append(proxies, prefix.Masked())
	}
	return proxies, nil
}

// ClientAddr returns the address of the client. peer is the other end of the
// connection, forwarded the X-Forwarded-For header (several lines joined by
// commas). Each proxy appends the address it was called from, so the list is read
// from the right for as long as trusted proxies wrote it: the first address that
// is not a trusted proxy is the client. Everything further left, and the whole
// header of an untrusted peer, is an unproven claim of the client, and is
// ignored. When a trusted proxy wrote no address, the last valid one counts.
func ClientAddr(peer netip.Addr, forwarded string, trusted []netip.Prefix) netip.Addr {
	client := peer.Unmap().WithZone("")
	for hop := 0; hop < maxHops && forwarded != "" && contains(trusted, client); hop++ {
		comma := strings.LastIndexByte(forwarded, ',')
		addr, ok := parseHop(forwarded[comma+1:])
		if !ok {
			break
		}
		client = addr
		forwarded = forwarded[:max(comma, 0)]
	}
	return client
}

// parseHop reads an address, with or without port and brackets.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// RateKey is the address under which attempts are counted: an IPv6 client owns at
// least a /64 and could change its address with each attempt.
func RateKey(addr netip.Addr) string {
	if addr.Is6() && !addr.Is4In6() {
		if prefix, err := addr.WithZone("").Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.Unmap().String()
}
