package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/api"
)

func TestADeviceIsWhatItsUserAgentSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ agent, browser, os, kind string }{
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", "Chrome", "Windows", "desktop"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", "Edge", "Windows", "desktop"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox", "Linux", "desktop"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15", "Safari", "macOS", "desktop"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1", "Safari", "iOS", "mobile"},
		{"Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1", "Safari", "iOS", "tablet"},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", "Chrome", "Android", "mobile"},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", "Chrome", "Android", "tablet"},
		{"curl/8.5.0", "curl", "Unknown", "desktop"},
		{"Go-http-client/1.1", "Go-http-client", "Unknown", "desktop"},
		{"", "Unknown", "Unknown", "desktop"},
		{"\x00\xff\x01", "Unknown", "Unknown", "desktop"},
		{strings.Repeat("é", 1000), "Unknown", "Unknown", "desktop"},
	} {
		d := api.ParseDevice(c.agent)
		require.Equal(t, []string{c.browser, c.os, c.kind}, []string{d.Browser, d.OS, d.DeviceType}, "%q", c.agent)
		require.LessOrEqual(t, len(d.UserAgent), 500)
		require.NotContains(t, d.UserAgent, "\x00")
	}
}
