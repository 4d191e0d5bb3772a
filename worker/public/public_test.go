package public_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/public"
)

func TestClient(t *testing.T) {
	for address, want := range map[string]bool{"8.8.8.8": true, "127.0.0.1": false, "10.1.2.3": false, "169.254.169.254": false, "100.64.0.1": false,
		"::1": false, "fe80::1": false, "::ffff:127.0.0.1": false, "2a00:1450::1": true, "64:ff9b::7f00:1": false} {
		require.Equal(t, want, public.Is(netip.MustParseAddr(address)), address)
	}
	server := httptest.NewServer(http.RedirectHandler("http://example.org", http.StatusFound))
	defer server.Close()
	_, err := public.Client(false).Get(server.URL)
	require.ErrorContains(t, err, "is not public")
	res, err := public.Client(true).Get(server.URL)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusFound, res.StatusCode, "redirects are not followed")
}
