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

// SDKsProgram installs the official SDKs for Python of Langfuse and OpenMeter. Their servers need half a dozen others and do not run here; what
// the SDKs send shows what the servers take.
var SDKsProgram = Program{Name: "sdks", Module: "PyPI", Version: "langfuse-5.0.4-openmeter-1.0.0b236", build: buildSDKs}

//go:embed sdks.py
var sdks []byte

func buildSDKs(ctx context.Context, p Program, folder string) error {
	environment := filepath.Join(folder, "venv")
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", environment},
		{filepath.Join(environment, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "langfuse==5.0.4", "openmeter==1.0.0b236"},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", filepath.Base(args[0]), err, tail(out))
		}
	}
	program := filepath.Join(folder, "send.py")
	shell := fmt.Sprintf("#!/bin/sh\nexec %q %q \"$@\"\n", filepath.Join(environment, "bin", "python"), program)
	return errors.Join(os.WriteFile(program, bytes.TrimSpace(sdks), 0o644), os.WriteFile(filepath.Join(folder, p.Name), []byte(shell), 0o755))
}

// SendBySDK lets an official SDK, langfuse or openmeter, send its sample to a receiver.
func SendBySDK(t testing.TB, kind, url string) {
	t.Helper()
	program, err := SDKsProgram.Path(t.Context(), os.Stderr)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, kind, url)
	// The SDKs read settings of the environment.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
