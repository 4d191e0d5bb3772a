package auth

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientAddr(t *testing.T) {
	trusted, err := ParseProxies("10.0.0.0/8, 192.168.1.1 fd00::/8,::1")
	require.NoError(t, err)
	for _, c := range []struct{ name, peer, forwarded, want string }{
		{"NoHeader", "10.0.0.1", "", "10.0.0.1"},
		{"UntrustedPeerIsTheClientWhateverItClaims", "203.0.113.9", "1.1.1.1", "203.0.113.9"},
		{"TrustedPeerNamesTheClient", "10.0.0.1", "203.0.113.9", "203.0.113.9"},
		{"OnlyTheRightMostHopCounts", "10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"},
		{"ChainOfTrustedProxies", "10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2, 192.168.1.1", "203.0.113.9"},
		{"ForgedTrustedHopFurtherLeft", "10.0.0.1", "1.1.1.1, 10.9.9.9, 203.0.113.9", "203.0.113.9"},
		{"AllTrusted", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"},
		{"GarbageEndsTheChain", "10.0.0.1", "1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"},
		{"GarbageAlone", "10.0.0.1", "unknown", "10.0.0.1"},
		{"Commas", "10.0.0.1", ",,,", "10.0.0.1"},
		{"Blanks", "10.0.0.1", "   ", "10.0.0.1"},
		{"LeadingComma", "10.0.0.1", ",203.0.113.9", "203.0.113.9"},
		{"Tabs", "10.0.0.1", "\t203.0.113.9\t", "203.0.113.9"},
		{"Port", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"},
		{"IPv6", "10.0.0.1", "2001:db8::5", "2001:db8::5"},
		{"IPv6InBrackets", "10.0.0.1", "[2001:db8::5]", "2001:db8::5"},
		{"IPv6WithPort", "10.0.0.1", "[2001:db8::5]:443", "2001:db8::5"},
		{"IPv6Proxy", "fd00::1", "2001:db8::5", "2001:db8::5"},
		{"IPv6Loopback", "::1", "203.0.113.9", "203.0.113.9"},
		{"IPv4InIPv6Peer", "::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"},
		{"IPv4InIPv6Hop", "10.0.0.1", "203.0.113.9, ::ffff:10.0.0.2", "203.0.113.9"},
		{"ZoneIsDropped", "fe80::1%eth0", "1.1.1.1", "fe80::1"},
		{"LeadingZeroes", "10.0.0.1", "010.0.0.1", "10.0.0.1"},
		{"VeryLong", "10.0.0.1", strings.Repeat("10.0.0.2,", 10_000), "10.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, ClientAddr(netip.MustParseAddr(c.peer), c.forwarded, trusted).String())
		})
	}

	t.Run("LongChainEnds", func(t *testing.T) {
		forwarded := "1.1.1.1" + strings.Repeat(",10.0.0.2", maxHops)
		require.Equal(t, "10.0.0.2", ClientAddr(netip.MustParseAddr("10.0.0.1"), forwarded, trusted).String())
	})

	t.Run("WithoutProxiesTheHeaderIsIgnored", func(t *testing.T) {
		require.Equal(t, "10.0.0.1", ClientAddr(netip.MustParseAddr("10.0.0.1"), "1.1.1.1", nil).String())
	})
}

func TestParseProxies(t *testing.T) {
	none, err := ParseProxies(" , ")
	require.NoError(t, err)
	require.Empty(t, none)
	got, err := ParseProxies("10.1.2.3/8,::1")
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, got)
	for _, bad := range []string{"proxy.internal", "10.0.0.0/33", "10.0.0.1,x", "::ffff:10.0.0.0/104"} {
		_, err := ParseProxies(bad)
		require.ErrorContains(t, err, "trusted proxies", bad)
	}
}

func TestRateKey(t *testing.T) {
	for addr, want := range map[string]string{
		"203.0.113.9": "203.0.113.9", "::ffff:203.0.113.9": "203.0.113.9",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2:ffff::1": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		require.Equal(t, want, RateKey(netip.MustParseAddr(addr)))
	}
}
