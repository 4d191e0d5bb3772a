package dev

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// GitHostName is the host of the repository of -dev, which is `<GitHostName>/kijko/kijko`.
const GitHostName = "git.kijko.dev"

// StartGitHost serves a repository over loopback that begins as the checkout around folder. Its branch main is what is checked out there. It
// borrows the checkout's objects and keeps what is pushed to itself, so a demo can show a second commit and the checkout stays as it is.
// ok is false when there is no checkout, or no git.
func StartGitHost(ctx context.Context, folder string) (baseURL string, stop func(), ok bool) {
	git := func(args ...string) (string, bool) {
		raw, err := exec.CommandContext(ctx, "git", args...).Output() //nolint:gosec // the arguments are ours
		return strings.TrimSpace(string(raw)), err == nil
	}
	head, ok := git("-C", folder, "rev-parse", "HEAD")
	if !ok {
		return "", nil, false
	}
	objects, ok := git("-C", folder, "rev-parse", "--path-format=absolute", "--git-path", "objects")
	if !ok {
		return "", nil, false
	}
	// A shallow checkout stays one: its oldest commits have parents that are not there.
	shallow, ok := git("-C", folder, "rev-parse", "--path-format=absolute", "--git-path", "shallow")
	if !ok {
		return "", nil, false
	}
	core, ok := git("--exec-path")
	if !ok {
		return "", nil, false
	}
	root, err := os.MkdirTemp("", "kijko-git-")
	if err != nil {
		return "", nil, false
	}
	ready := false
	defer func() {
		if !ready {
			_ = os.RemoveAll(root)
		}
	}()
	bare := filepath.Join(root, "kijko.git")
	if _, ok := git("init", "-q", "--bare", "-b", "main", bare); !ok {
		return "", nil, false
	}
	if os.WriteFile(filepath.Join(bare, "objects", "info", "alternates"), []byte(objects+"\n"), 0o600) != nil {
		return "", nil, false
	}
	if cut, err := os.ReadFile(shallow); err == nil { //nolint:gosec // git named the file
		if os.WriteFile(filepath.Join(bare, "shallow"), cut, 0o600) != nil {
			return "", nil, false
		}
	}
	if _, ok := git("-C", bare, "update-ref", "refs/heads/main", head); !ok {
		return "", nil, false
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, false
	}
	backend := &cgi.Handler{
		Path: filepath.Join(core, "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=",
			// The checkout may belong to another user than that of this process.
			"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=true",
			"HOME=" + os.TempDir()},
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, found := strings.CutPrefix(r.URL.Path, "/kijko/kijko")
		if !found {
			http.NotFound(w, r)
			return
		}
		r.URL.Path = "/kijko.git" + strings.TrimPrefix(rest, ".git")
		backend.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			_ = listener.Close()
		}
	}()
	ready = true
	return "http://" + listener.Addr().String(), func() {
		_ = server.Close()
		<-done
		_ = os.RemoveAll(root)
	}, true
}
