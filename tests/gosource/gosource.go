// Package gosource finds a large body of real source code that every machine with this project has: the sources of Go.
package gosource

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// Folder is the src folder of the Go installation, or "" where the go command is missing.
func Folder() string {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return ""
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}
