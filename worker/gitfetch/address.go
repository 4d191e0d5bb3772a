package gitfetch

import "net/netip"

// never lists the ranges that no configuration permits: no Git host is there, but cloud metadata services are.
var never = prefixes("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "fe80::/10", "ff00::/8", "::/128")

// internal lists the ranges of non-public hosts: loopback, private, shared (CGNAT), documentation, benchmarks, and the IPv6
// ranges that tunnel to IPv4 unnoticed. Sources: the IANA special-purpose registries.
var internal = prefixes("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fec0::/10")

// nat64 is the range in which IPv6-only networks see IPv4 hosts; the IPv4 address inside is the one that is checked.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// reachable reports whether an address may be contacted. Internal addresses need the operator's permission.
func reachable(addr netip.Addr, internalAllowed bool) bool {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.Zone() != "" {
		return false
	}
	if nat64.Contains(addr) {
		b := addr.As16()
		return reachable(netip.AddrFrom4([4]byte(b[12:])), internalAllowed)
	}
	return !within(addr, never) && (internalAllowed || !within(addr, internal))
}

func within(addr netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
