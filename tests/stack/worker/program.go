package worker

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Program builds the program of the worker and gives its path.
func Program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker")
	out, err := exec.Command("go", "build", "-o", path, "kijko/worker").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}
