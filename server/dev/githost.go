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

// GitHost serves this checkout's repository read-only over loopback, as `<GitHostName>/kijko/kijko`.
const GitHostName = "git.kijko.dev"

// StartGitHost serves the checkout around folder. ok is false when there is no checkout, or no git.
func StartGitHost(ctx context.Context, folder string) (baseURL string, stop func(), ok bool) {
	raw, err := exec.CommandContext(ctx, "git", "-C", folder, "rev-parse", "--absolute-git-dir").Output()
	if err != nil {
		return "", nil, false
	}
	gitDir := strings.TrimSpace(string(raw))
	core, err := exec.CommandContext(ctx, "git", "--exec-path").Output()
	if err != nil {
		return "", nil, false
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, false
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(core)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(gitDir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=",
			// The checkout may belong to another user than that of this process.
			"GIT_CONFIG_COUNT=2", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", "GIT_CONFIG_KEY_1=http.receivepack", "GIT_CONFIG_VALUE_1=false",
			"HOME=" + os.TempDir()},
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, found := strings.CutPrefix(r.URL.Path, "/kijko/kijko")
		if !found {
			http.NotFound(w, r)
			return
		}
		r.URL.Path = "/" + filepath.Base(gitDir) + strings.TrimPrefix(rest, ".git")
		backend.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			_ = listener.Close()
		}
	}()
	return "http://" + listener.Addr().String(), func() {
		_ = server.Close()
		<-done
	}, true
}
