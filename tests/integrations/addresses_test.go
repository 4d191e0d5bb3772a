package integrations

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
)

// hostsInside are hosts that no address which a person writes may lead us to: loopback, private, link-local with the metadata of clouds, shared.
var hostsInside = []string{"127.0.0.1", "localhost", "[::1]", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "[fe80::1]", "[fd00::1]", "100.64.0.1"}

func TestNoRouteTakesAnAddressInside(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *config.Config) {
		c.GitAllowPrivate = false
		c.KeycloakURL, c.KeycloakSecret, c.Google = "https://keycloak.example", "a-secret-of-keycloak", true
		c.GitHubID, c.GitHubSecret = clientID, clientSecret
		c.IntegrationClients = []string{"gitlab=" + clientID + ":" + clientSecret}
	})
	project := o.anna.Do("POST", "/projects", map[string]any{"name": "Billing"}).Want(201).String("project.id")
	for _, c := range []struct {
		name, method, path string
		body               func(address string) any
		status             int
		code, field        string
	}{
		{"a connector", "POST", "/integrations/connectors", func(a string) any { return map[string]any{"name": "Inside", "remoteMcpServerUrl": a} }, 400, "VALIDATION_ERROR", "remoteMcpServerUrl"},
		{"the icon of a connector", "POST", "/integrations/connectors", func(a string) any {
			return map[string]any{"name": "Inside", "remoteMcpServerUrl": "https://mcp.example.nl", "iconUrl": a}
		}, 400, "VALIDATION_ERROR", "iconUrl"},
		{"the webhook of a connector", "POST", "/integrations/connectors", func(a string) any {
			return map[string]any{"name": "Inside", "remoteMcpServerUrl": "https://mcp.example.nl", "config": map[string]any{"webhookUrl": a}}
		}, 400, "VALIDATION_ERROR", "config.webhookUrl"},
		{"an outgoing webhook", "POST", "/integrations/webhooks", func(a string) any {
			return map[string]any{"name": "Inside", "endpointUrl": a, "secret": strings.Repeat("s", 16), "events": []string{"context.created"}}
		}, 400, "VALIDATION_ERROR", "endpointUrl"},
		{"a chunking webhook", "PUT", "/projects/" + project + "/settings", func(a string) any { return map[string]any{"chunkingStrategy": "custom", "webhookUrl": a} }, 400, "VALIDATION_ERROR", "webhookUrl"},
		{"a chunking webhook of a new project", "POST", "/projects", func(a string) any {
			return map[string]any{"name": "Inside", "chunkingStrategy": "custom", "settings": map[string]any{"webhookUrl": a}}
		}, 400, "VALIDATION_ERROR", "settings.webhookUrl"},
		{"an avatar", "POST", "/profile/avatar", func(a string) any { return map[string]any{"dataUrl": a} }, 400, "INVALID_FILE_TYPE", ""},
		{"where an integration leads back to", "POST", "/integrations/gitlab/connect", func(a string) any { return map[string]any{"redirectUri": a} }, 400, "VALIDATION_ERROR", "redirectUri"},
		{"where a Git provider leads back to", "POST", "/oauth/connect/github", func(a string) any { return map[string]any{"redirectUri": a} }, 400, "VALIDATION_ERROR", "redirectUri"},
		{"a repository", "POST", "/projects/" + project + "/repositories", func(a string) any { return map[string]any{"provider": "github", "repositoryUrl": a + "ada/open"} }, 400, "VALIDATION_ERROR", "repositoryUrl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, host := range hostsInside {
				r := o.anna.In(t).Do(c.method, c.path, c.body("https://"+host+"/"))
				require.Equal(t, fmt.Sprint(c.status, c.code), fmt.Sprint(r.Status, r.Value("code")), "%s: %s", host, r.Body)
				if c.field != "" {
					require.Contains(t, r.String("field"), c.field, "%s: %s", host, r.Body)
				}
			}
		})
	}
	t.Run("where a sign-in leads back to", func(t *testing.T) {
		for _, host := range hostsInside {
			o.As("").In(t).Get("/auth/oauth/google?redirect_uri="+url.QueryEscape("https://"+host+"/")).Problem(400, "INVALID_REDIRECT_URI").Field("redirect_uri")
		}
	})
	t.Run("a repository that is looked at", func(t *testing.T) {
		for _, host := range hostsInside {
			r := o.anna.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": "https://" + host + "/ada/open"}).Want(200)
			require.Equal(t, false, r.Value("valid"), host)
			require.NotContains(t, strings.ToLower(r.String("error")), "private", host)
		}
	})
	t.Run("a connector that is tried", func(t *testing.T) {
		for _, host := range hostsInside {
			r := o.anna.In(t).Do("POST", "/integrations/connectors/test", map[string]any{"remoteMcpServerUrl": "https://" + host + "/"}).Want(200)
			require.Equal(t, false, r.Value("success"), host)
		}
	})
	require.Empty(t, client.JSON[[]any](o.anna.Get("/integrations/connectors").Want(200)))
	require.Empty(t, client.JSON[[]any](o.anna.Get("/integrations/webhooks").Want(200)))
}
