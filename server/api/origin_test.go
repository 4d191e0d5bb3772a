package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/api"
)

func TestOriginsOfSockets(t *testing.T) {
	t.Parallel()
	sites := api.Origins{"https://app.example.nl", "http://localhost:*", "http://[::1]:*"}
	for _, c := range []struct {
		origin, host string
		calls, opens bool
	}{
		{"", "api.example.nl", false, true},
		{"https://app.example.nl", "api.example.nl", true, true},
		{"https://app.example.nl:8443", "api.example.nl", false, false},
		{"https://APP.example.nl", "api.example.nl", false, false},
		{"http://localhost:4173", "127.0.0.1:8000", true, true},
		{"http://localhost", "127.0.0.1:8000", true, true},
		{"http://localhost/", "127.0.0.1:8000", false, false},
		{"http://localhost:3000/", "127.0.0.1:8000", false, false},
		{"http://localhost:", "127.0.0.1:8000", false, false},
		{"http://localhost:0", "127.0.0.1:8000", false, false},
		{"http://localhost:+80", "127.0.0.1:8000", false, false},
		{"http://localhost:65536", "127.0.0.1:8000", false, false},
		{"http://localhost:1@evil.example", "127.0.0.1:8000", false, false},
		{"https://localhost:4173", "127.0.0.1:8000", false, false},
		{"http://localhost.evil.example:80", "127.0.0.1:8000", false, false},
		{"http://localhost:*", "127.0.0.1:8000", false, false},
		{"http://[::1]:3000", "127.0.0.1:8000", true, true},
		{"http://[::1]", "127.0.0.1:8000", true, true},
		{"https://api.example.nl", "api.example.nl", false, true},
		{"https://api.example.nl", "api.example.nl:443", false, true},
		{"https://api.example.nl:443", "API.example.nl", false, true},
		{"http://api.example.nl", "api.example.nl:443", false, false},
		{"http://192.168.1.7:8000", "192.168.1.7:8000", false, true},
		{"http://192.168.1.7:3000", "192.168.1.7:8000", false, false},
		{"http://[fe80::1]:8000", "[fe80::1]:8000", false, true},
		{"null", "null", false, false},
		{"file://", "", false, false},
		{"chrome-extension://api.example.nl", "api.example.nl", false, false},
		{"https://evil.example", "api.example.nl", false, false},
		{"https://evil.example", "", false, false},
		{"https://user@api.example.nl", "evil.example", false, false},
	} {
		require.Equal(t, c.calls, sites.Allow(c.origin), "%s calls", c.origin)
		require.Equal(t, c.opens, sites.AllowSocket(c.origin, c.host), "%s opens a socket at %s", c.origin, c.host)
	}
}
