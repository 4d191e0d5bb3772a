package openapi

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Contract 40, 1.5: the operations that accept a session without a second factor or with
// an outdated password.
func TestRestrictedSessionsReachWhatMendsThem(t *testing.T) {
	for _, route := range [][2]string{{"GET", "/auth/me"}, {"POST", "/auth/switch-org"}, {"POST", "/auth/logout"}, {"GET", "/profile"}, {"PATCH", "/profile"},
		{"PUT", "/profile"}, {"POST", "/profile/password"}, {"GET", "/security/2fa"}, {"POST", "/security/2fa/setup"}, {"POST", "/security/2fa/backup-codes/regenerate"}} {
		require.True(t, unrestricted(route[0], route[1]), "%s %s", route[0], route[1])
	}
	for _, route := range [][2]string{{"GET", "/projects"}, {"POST", "/profile/avatar"}, {"DELETE", "/profile"}, {"GET", "/profiles"}, {"GET", "/security/sessions"},
		{"PATCH", "/security/policies"}, {"GET", "/security/2fahack"}, {"GET", "/authors"}, {"POST", "/profile/resend-verification"}} {
		require.False(t, unrestricted(route[0], route[1]), "%s %s", route[0], route[1])
	}
	document, err := Load()
	require.NoError(t, err)
	open := 0
	for _, op := range document.Operations {
		if op.Unrestricted {
			open++
		}
	}
	require.Greater(t, open, 10)
}
