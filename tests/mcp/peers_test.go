//go:build peers

package mcp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/peers"
)

// The official clients of Python and TypeScript, in their newest versions and by the older handshake, and fastmcp.
func TestMCPClientsOfPyPIAndNPM(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	credential := key(t, l.anna, "write")
	python, node := peers.MCPPython(t), peers.MCPNode(t)
	for _, c := range []struct {
		name, protocol string
		command        []string
	}{
		{"Python", "2026-07-28", []string{python, "client.py", "mcp"}},
		{"PythonWithAHandshake", "2025-11-25", []string{python, "client.py", "legacy"}},
		{"FastMCP", "2026-07-28", []string{python, "client.py", "fastmcp"}},
		{"TypeScript", "2026-07-28", []string{"node", node("client.mjs"), "client"}},
		{"TypeScriptOfVersion1", "2025-11-25", []string{"node", node("client.mjs"), "sdk"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), c.command[0], append(c.command[1:], l.BaseURL+"/mcp")...)
			cmd.Env = append(os.Environ(), "KIJKO_MCP_KEY="+credential)
			var said bytes.Buffer
			cmd.Stderr = &said
			out, err := cmd.Output()
			require.NoError(t, err, "%s\n%s", out, said.String())
			saw := map[string]any{}
			for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
				require.NoError(t, json.Unmarshal(lines.Bytes(), &saw), "%s", lines.Text())
			}
			t.Logf("%v", saw["protocol"])
			require.Equal(t, c.protocol, saw["protocol"])
			require.Contains(t, saw["tools"], "search_code")
			require.Contains(t, saw["search"], "shop/checkout.go:")
			require.Contains(t, saw["definition"], "     3\tfunc total(items []string) (sum int) {")
			require.Contains(t, saw["run"], "You said: Write something nice about "+c.command[len(c.command)-1]+", 2 times")
			require.NotEmpty(t, saw["progress"], "the skill reported progress")
			require.Equal(t, shop["shop/total.go"], saw["resource"])
			require.Equal(t, "Write something nice about tea, 2 times", saw["prompt"])
		})
	}
}
