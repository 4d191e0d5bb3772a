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
