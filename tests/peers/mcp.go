package peers

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// MCPProgram installs the two packages of PyPI that most MCP servers use, in one virtual environment.
var MCPProgram = Program{Name: "mcp", Module: "PyPI", Version: "mcp-2.3.0-fastmcp-4.1.6", build: buildMCP}

//go:embed mcp.py
var mcpServer []byte

func buildMCP(ctx context.Context, p Program, folder string) error {
	environment := filepath.Join(folder, "venv")
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", environment},
		{filepath.Join(environment, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "mcp==2.3.0", "fastmcp==4.1.6"},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", filepath.Base(args[0]), err, tail(out))
		}
	}
	program := filepath.Join(folder, "server.py")
	shell := fmt.Sprintf("#!/bin/sh\nexec %q %q \"$@\"\n", filepath.Join(environment, "bin", "python"), program)
	return errors.Join(os.WriteFile(program, bytes.TrimSpace(mcpServer), 0o644), os.WriteFile(filepath.Join(folder, p.Name), []byte(shell), 0o755))
}

// MCP starts a server with three tools: kind is mcp (the official package) or fastmcp, transport http or sse. A key, where one is given,
// must come as a bearer token. MCP gives the address that a person would copy.
func MCP(t testing.TB, kind, transport, key string) string {
	t.Helper()
	addresses := start(t, MCPProgram, 1, []string{"KIJKO_MCP_KEY=" + key}, func(a []string) []string { return []string{kind, transport, a[0]} }, "/ready")
	path := "/mcp"
	if transport == "sse" {
		path = "/sse"
	}
	return "http://" + addresses[0] + path
}

// MCPPython gives the Python that has the packages of MCPProgram, for their clients.
func MCPPython(t testing.TB) string {
	t.Helper()
	return filepath.Join(folderOf(t, MCPProgram), "venv", "bin", "python")
}

// MCPPackages installs the official TypeScript clients: version 1, and version 2, which is a package of its own.
var MCPPackages = Program{Name: "mcp-typescript", Module: "npm", Version: "sdk-1.32.2-client-2.4.0", build: buildMCPPackages}

func buildMCPPackages(ctx context.Context, p Program, folder string) error {
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--silent",
		"@modelcontextprotocol/sdk@1.32.2", "@modelcontextprotocol/client@2.4.0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm: %w\n%s", err, tail(out))
	}
	return os.WriteFile(filepath.Join(folder, p.Name), []byte("#!/bin/sh\nexec node \"$@\"\n"), 0o755)
}

// MCPNode copies a script to where Node.js finds the packages of MCPPackages for it, and gives the copy.
func MCPNode(t testing.TB) func(script string) string {
	t.Helper()
	modules := filepath.Join(folderOf(t, MCPPackages), "node_modules")
	return func(script string) string {
		t.Helper()
		folder := t.TempDir()
		text, err := os.ReadFile(script)
		require.NoError(t, err)
		copied := filepath.Join(folder, filepath.Base(script))
		require.NoError(t, errors.Join(os.WriteFile(copied, text, 0o600), os.Symlink(modules, filepath.Join(folder, "node_modules"))))
		return copied
	}
}

// folderOf gives the folder of a program, which is built where it is missing.
func folderOf(t testing.TB, p Program) string {
	t.Helper()
	program, err := p.Path(t.Context(), os.Stderr)
	require.NoError(t, err)
	return filepath.Dir(program)
}
