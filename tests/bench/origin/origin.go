// Package origin makes Git repositories for benches and serves them.
package origin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Put adds a file to a commit. Content is streamed, because memory that this process holds when it starts a worker counts as the worker's
// peak.
type Put func(path string, size int, content io.Reader) error

// Commit makes the repository <dir>/repos/bench/<name>.git with one commit of the files that fill puts, and gives the sum of their sizes.
func Commit(ctx context.Context, dir, name string, fill func(Put) error) (size int64, err error) {
	bare := filepath.Join(dir, "repos", "bench", name+".git")
	if err := os.MkdirAll(filepath.Dir(bare), 0o755); err != nil {
		return 0, err
	}
	if out, err := exec.CommandContext(ctx, "git", "init", "-q", "--bare", "-b", "main", bare).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("git init: %w: %s", err, out)
	}
	in, out := io.Pipe()
	cmd := exec.CommandContext(ctx, "git", "-c", "core.bigFileThreshold=4m", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin, cmd.Stderr = bare, in, os.Stderr
	filled := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(out, 1<<20)
		fmt.Fprint(w, "commit refs/heads/main\ncommitter Bench <bench@example.org> 1700000000 +0000\ndata 4\nmain\n")
		err := fill(func(path string, n int, content io.Reader) error {
			size += int64(n)
			fmt.Fprintf(w, "M 100644 inline %s\ndata %d\n", path, n)
			if _, err := io.CopyN(w, content, int64(n)); err != nil {
				return err
			}
			return w.WriteByte('\n')
		})
		err = errors.Join(err, w.Flush())
		_ = out.CloseWithError(err)
		filled <- err
	}()
	err = cmd.Run()
	_ = in.Close()
	return size, errors.Join(<-filled, err)
}

// Serve serves the repositories below root by git's own HTTP backend.
func Serve(root string) *httptest.Server {
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		panic(err)
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Repositories are addressed without .git.
		if parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3); len(parts) == 3 && !strings.HasSuffix(parts[1], ".git") {
			r.URL.Path = "/" + parts[0] + "/" + parts[1] + ".git/" + parts[2]
		}
		backend.ServeHTTP(w, r)
	}))
}
