package devpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strings"
)

// system is the machine as this package sees it. Tests replace single members to simulate a machine
// that they do not run on.
type system struct {
	uid        int
	getenv     func(string) string
	lookPath   func(string) (string, error)
	lookupUser func(name string) (*user.User, error)
	lookupUID  func(uid string) (*user.User, error)
	// folders where distributions put PostgreSQL's programs, as globs, searched in order
	binGlobs []string
	// folders for a cluster whose data folder its owner cannot reach, tried in order
	refuges []string
	// run executes a program with this process's rights and returns its combined output
	run func(ctx context.Context, name string, args ...string) ([]byte, error)
}

func newSystem() *system {
	return &system{
		uid:        os.Geteuid(),
		getenv:     os.Getenv,
		lookPath:   exec.LookPath,
		lookupUser: user.Lookup,
		lookupUID:  user.LookupId,
		binGlobs: []string{
			"/usr/lib/postgresql/*/bin",
			"/usr/pgsql-*/bin",
			"/opt/homebrew/opt/postgresql@*/bin",
			"/opt/homebrew/bin",
			"/usr/local/opt/postgresql@*/bin",
			"/usr/local/pgsql/bin",
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		},
		refuges: []string{"/var/lib/kijko", "/var/tmp/kijko", "/tmp/kijko"},
		run:     runProgram,
	}
}

func runProgram(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, commandError(name, args, out, err)
	}
	return out, nil
}

// commandError names the failed command and the end of its output.
func commandError(name string, args []string, out []byte, err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s: %w\n%s", strings.Join(append([]string{name}, args...), " "), err, lastLines(string(out), 12))
}

// lastLines returns at most n lines from the end of text, where the reason of a failure stands.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
