package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The neighbors' own programs of PyPI. Agent-Lightning 0.3.0 is the newest for Python 3.11; from 1.0 on it has no store that takes spans.
var (
	ZulipProgram     = Program{Name: "zulip", Module: "PyPI", Version: "zulip-0.9.1", build: pipProgram("zulip==0.9.1", "python")}
	LightningProgram = Program{Name: "agl", Module: "PyPI", Version: "agentlightning-0.3.0", build: pipProgram("agentlightning==0.3.0", "agl"), limit: buildLimit}
)

// pipProgram installs a package in a virtual environment of its own and runs one of its programs.
func pipProgram(requirement, program string) func(context.Context, Program, string) error {
	return func(ctx context.Context, p Program, folder string) error {
		environment := filepath.Join(folder, "venv")
		for _, args := range [][]string{
			{"python3", "-m", "venv", "--clear", environment},
			{filepath.Join(environment, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement},
		} {
			if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", filepath.Base(args[0]), err, tail(out))
			}
		}
		shell := fmt.Sprintf("#!/bin/sh\nexec %q \"$@\"\n", filepath.Join(environment, "bin", program))
		return os.WriteFile(filepath.Join(folder, p.Name), []byte(shell), 0o755)
	}
}

// Zulip runs a script with Zulip's client, which finds its server and bot in the environment. It gives the script's output.
func Zulip(t testing.TB, site, email, key, script string) string {
	t.Helper()
	program, err := ZulipProgram.Path(t.Context(), os.Stderr)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "-c", script)
	cmd.Env = append(os.Environ(), "ZULIP_SITE="+site, "ZULIP_EMAIL="+email, "ZULIP_API_KEY="+key, "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", tail(out))
	return string(out)
}

// Lightning starts a store of Agent-Lightning, which keeps all in memory, and gives its address.
func Lightning(t testing.TB) string {
	t.Helper()
	addresses := start(t, LightningProgram, 1, nil, func(a []string) []string {
		host, port, err := net.SplitHostPort(a[0])
		require.NoError(t, err)
		return []string{"store", "--host", host, "--port", port, "--log-level", "WARNING"}
	}, "/v1/agl/health")
	return "http://" + addresses[0]
}
