// Package peers runs real programs that the product talks to: a mail server, an object store. Each is a pinned version from the Go module
// proxy, built once for the checkout into bin/peers; its modules are its own and never meet ours. A peer listens on the loopback interface
// only and ends with its test, also when the test's process is killed.
//
// Without a peer a test fails; it never skips.
package peers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Program is one peer.
type Program struct {
	Name, Module, Version string
	// build puts the program into the folder where go install cannot; nil: go install can.
	build func(ctx context.Context, p Program, folder string) error
	// end is the signal that ends the program; 0: SIGKILL.
	end syscall.Signal
	// limit is the time limit of one start; 0: startLimit.
	limit time.Duration
	// status is what its ready address answers; 0: 200.
	status int
}

// The peers, and the one place where their versions are pinned.
var (
	MailpitProgram = Program{Name: "mailpit", Module: "github.com/axllent/mailpit", Version: "v1.33.1"}
	// MinIO's releases are tags that Go does not read as versions: this is RELEASE.2026-02-12T20-18-48Z.
	MinIOProgram = Program{Name: "minio", Module: "github.com/minio/minio", Version: "v0.0.0-20260212201848-7aac2a2c5b7c"}
	GiteaProgram = Program{Name: "gitea", Module: "code.gitea.io/gitea", Version: "v1.27.3", build: buildGitea}
	// Keycloak is a distribution of Maven Central. Its script passes SIGTERM on to the Java process that it starts, and cannot pass on
	// SIGKILL.
	KeycloakProgram = Program{Name: "keycloak", Module: "org.keycloak:keycloak-quarkus-dist", Version: "26.7.3", build: unpackKeycloak,
		end: syscall.SIGTERM, limit: 10 * time.Minute}
)

// buildLimit is enough for the largest program on two busy cores, from an empty cache.
const buildLimit = 20 * time.Minute

// Path builds the program where it is missing and gives its file. Processes that need it at the same time wait for one build.
func (p Program) Path(ctx context.Context, say io.Writer) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(root, "bin", "peers", p.Name+"-"+p.Version)
	program := filepath.Join(folder, p.Name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for %s: %w", p.Name, err)
	}
	lock, err := os.Create(filepath.Join(folder, "lock"))
	if err != nil {
		return "", fmt.Errorf("lock the folder of %s: %w", p.Name, err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the folder of %s: %w", p.Name, err)
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	_, _ = fmt.Fprintf(say, "building %s %s\n", p.Name, p.Version)
	build := p.build
	if build == nil {
		build = install
	}
	if err := build(ctx, p, folder); err != nil {
		return "", fmt.Errorf("%s %s cannot be had: %w", p.Name, p.Version, err)
	}
	return program, nil
}

func install(ctx context.Context, p Program, folder string) error {
	_, err := goTool(ctx, folder, []string{"GOBIN=" + folder}, "install", "-trimpath", p.Module+"@"+p.Version)
	return err
}

// goTool runs the go command. The flags of a test run (-race above all) do not apply to peers.
func goTool(ctx context.Context, dir string, environment []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOFLAGS=", "GOWORK=off"), environment...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s%s", strings.Join(args, " "), err, tail(said.Bytes()), tail(out))
	}
	return out, nil
}

// tail is the end of a program's output.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// moduleRoot is the nearest folder above with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the checkout: no go.mod above the working folder")
		}
	}
}

// output collects the output of a program, for the test that fails.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return tail(o.text.Bytes())
}

// startLimit bounds one start on a busy machine; starting takes well below a second.
const startLimit = time.Minute

// start runs the program on free ports of the loopback interface until the test ends. Another program may take a port between the choice
// and the start: then the program ends by itself, and start runs it again on other ports. start polls ready until it answers 200.
func start(t testing.TB, p Program, ports int, environment []string, args func(addresses []string) []string, ready string) []string {
	t.Helper()
	program, err := p.Path(t.Context(), os.Stderr)
	require.NoError(t, err)
	began, limit, end := time.Now(), cmp.Or(p.limit, startLimit), cmp.Or(p.end, syscall.SIGKILL)
	for {
		addresses := freeAddresses(t, ports)
		var out output
		cmd := exec.Command(program, args(addresses)...)
		cmd.Env = append(os.Environ(), environment...)
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, &out, withUs(end)
		require.NoError(t, cmd.Start())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = cmd.Wait() }()
		if awaitReady("http://"+addresses[0]+ready, cmp.Or(p.status, http.StatusOK), limit, ended) {
			t.Cleanup(func() { _ = cmd.Process.Signal(end); <-ended })
			return addresses
		}
		_ = cmd.Process.Signal(end)
		<-ended
		require.Less(t, time.Since(began), limit, "%s does not start:\n%s", p.Name, &out)
	}
}

// awaitReady is false when the program ended, or did not answer in time.
func awaitReady(url string, status int, within time.Duration, ended <-chan struct{}) bool {
	client := http.Client{Timeout: time.Second}
	limit := time.After(within / 2)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ended:
			return false
		case <-limit:
			return false
		case <-look.C:
		}
		if r, err := client.Get(url); err == nil {
			_ = r.Body.Close()
			select {
			case <-ended: // another program answered
				return false
			default:
			}
			if r.StatusCode == status {
				return true
			}
		}
	}
}

func freeAddresses(t testing.TB, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }() // all ports are held until the last is chosen
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
