package integrations

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProvidersAreInOrderAndWhole(t *testing.T) {
	t.Parallel()
	require.True(t, slices.IsSortedFunc(providers, func(a, b Provider) int { return strings.Compare(a.ID, b.ID) }), "they are searched by halves")
	for _, p := range providers {
		addresses := []string{p.Identity}
		if p.Auth == ByConsent {
			addresses = append(addresses, p.Authorize, p.Token)
			require.NotZero(t, p.Style, "%s: each refused exchange would be sent twice", p.ID)
		}
		if p.Revocation != notAtAll {
			addresses = append(addresses, p.Revoke)
		}
		for _, address := range addresses {
			u, err := url.Parse(address)
			require.NoError(t, err)
			require.Equal(t, "https", u.Scheme, "%s: %s", p.ID, address)
		}
	}
}

func TestConfigOfProviders(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig([]string{"slack=id:a:secret", " gitlab=x:y"}, []string{"gitlab=https://git.example.nl/base/"})
	require.NoError(t, err)
	require.Equal(t, Client{ID: "id", Secret: "a:secret"}, c.Clients["slack"])
	require.Equal(t, "https://git.example.nl/base/oauth/token", c.at(find("gitlab"), find("gitlab").Token))
	require.Equal(t, "https://slack.com/api/auth.test", c.at(find("slack"), find("slack").Identity))
	for _, bad := range []string{"nothing=id:topsecret", "slack=topsecret", "slack:id:topsecret", "mixpanel=id:topsecret", "slack=:topsecret"} {
		_, err := ParseConfig([]string{bad}, nil)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "topsecret")
	}
	for _, bad := range []string{"slack=slack.com", "nothing=https://x.nl", "slack=ftp://x.nl", "slack=https://a:b@x.nl"} {
		_, err := ParseConfig(nil, []string{bad})
		require.Error(t, err, bad)
	}
}

// The author of a receiver can check this vector with any tool: printf '1700000000.{"id":1}' | openssl dgst -sha256 -hmac
// secret-of-sixteen
func TestSignature(t *testing.T) {
	t.Parallel()
	require.Equal(t, "t=1700000000,v1=3204e992eff74c83124c463308c5259daf48d4dbe7221fc8f79f68d7db98bfee", Sign([]byte("secret-of-sixteen"), time.Unix(1700000000, 0), `{"id":1}`))
}
