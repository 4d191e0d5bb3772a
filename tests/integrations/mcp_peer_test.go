//go:build peers

package integrations

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/peers"
)

// The official Python package, and fastmcp, which redirects its address without the last slash.
func TestMCPServersOfPyPI(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for _, c := range []struct {
		name, kind, transport, key, protocol string
	}{
		{"TheOfficialOne", "mcp", "http", "", "2026-07-28"},
		{"TheOfficialOneOf2024", "mcp", "sse", "", ""},
		{"TheOfficialOneWithAKey", "mcp", "http", "a-key", "2026-07-28"},
		{"FastMCP", "fastmcp", "http", "", "2026-07-28"},
		{"FastMCPOf2024", "fastmcp", "sse", "", ""},
		{"FastMCPWithAKey", "fastmcp", "http", "a-key", "2026-07-28"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := peers.MCP(t, c.kind, c.transport, c.key)
			body := map[string]any{"remoteMcpServerUrl": url}
			if c.key != "" {
				require.Contains(t, o.anna.In(t).Do("POST", "/integrations/connectors/test", body).Want(200).String("error"), "does not accept the credentials")
				body["authType"], body["credentials"] = "api_key", map[string]any{"apiKey": c.key}
			}
			r := o.anna.In(t).Do("POST", "/integrations/connectors/test", body).Want(200)
			require.Equal(t, []any{true, 3.0}, []any{r.Value("success"), r.Value("toolCount")}, "%s", r.Body)
			body["name"] = c.name
			saved := o.anna.In(t).Do("POST", "/integrations/connectors", body).Want(201)
			require.Equal(t, "active", saved.String("status"))
			said := client.JSON[struct{ Logs []struct{ Message string } }](o.anna.In(t).Get("/integrations/" + saved.String("id") + "/logs").Want(200)).Logs[0].Message
			t.Log(said)
			if c.protocol != "" {
				require.Equal(t, "Connected by MCP "+c.protocol+"; 3 tools.", said)
			}
		})
	}
}
