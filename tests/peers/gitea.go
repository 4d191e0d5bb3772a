package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// buildGitea takes the module's source from the proxy. It cannot be installed as it is: its go.mod replaces modules, and names two of its
// own by a host that the proxy does not serve. The proxy serves them under their older names. The import from other hosts' Gitea is left
// out with them.
func buildGitea(ctx context.Context, p Program, folder string) error {
	raw, err := goTool(ctx, folder, nil, "mod", "download", "-json", p.Module+"@"+p.Version)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(raw, &module); err != nil {
		return fmt.Errorf("read where the source is: %w", err)
	}
	source := giteaSource(folder)
	if err := errors.Join(os.RemoveAll(source), os.CopyFS(source, os.DirFS(module.Dir))); err != nil {
		return fmt.Errorf("copy the source: %w", err)
	}
	importers, err := filepath.Glob(filepath.Join(source, "services", "migrations", "gitea_downloader*.go"))
	if err != nil {
		return fmt.Errorf("find the importers: %w", err)
	}
	for _, file := range importers {
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("leave an importer out: %w", err)
		}
	}
	// The module cache is read-only, and so is its copy.
	if err := os.Chmod(filepath.Join(source, "go.mod"), 0o644); err != nil {
		return fmt.Errorf("open go.mod: %w", err)
	}
	if err := os.Chmod(filepath.Join(source, "go.sum"), 0o644); err != nil {
		return fmt.Errorf("open go.sum: %w", err)
	}
	if _, err := goTool(ctx, source, nil, "mod", "edit", "-replace", "gitea.dev/actions-proto-go=code.gitea.io/actions-proto-go@v0.6.0",
		"-replace", "gitea.dev/sdk=code.gitea.io/sdk/gitea@v0.25.1"); err != nil {
		return err
	}
	built := filepath.Join(source, p.Name)
	if _, err := goTool(ctx, source, nil, "build", "-mod=mod", "-trimpath", "-tags", "sqlite sqlite_unlock_notify", "-o", built, "."); err != nil {
		return err
	}
	// Gitea needs these folders while it runs. The rest is removed, so that tools that search the checkout do not find it.
	entries, err := os.ReadDir(source)
	if err != nil {
		return fmt.Errorf("tidy the source: %w", err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{p.Name, "templates", "options", "public"}, e.Name()) {
			if err := os.RemoveAll(filepath.Join(source, e.Name())); err != nil {
				return fmt.Errorf("tidy the source: %w", err)
			}
		}
	}
	return os.Rename(built, filepath.Join(folder, p.Name))
}

// giteaSource has the templates that the program needs while it runs.
func giteaSource(folder string) string { return filepath.Join(folder, "source") }

// Gitea is a real Git host with one person, ada.
type Gitea struct {
	URL            string
	User, Password string
}

const giteaSettings = `
RUN_USER = %[1]s
WORK_PATH = %[2]s
[server]
PROTOCOL = http
HTTP_ADDR = 127.0.0.1
HTTP_PORT = %[3]s
ROOT_URL = http://127.0.0.1:%[3]s/
STATIC_ROOT_PATH = %[4]s
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = %[2]s/gitea.db
[repository]
ROOT = %[2]s/repositories
[security]
INSTALL_LOCK = true
SECRET_KEY = secret
INTERNAL_TOKEN = internal
ALLOWED_HOST_LIST = loopback
[webhook]
ALLOWED_HOST_LIST = loopback
[log]
LEVEL = Error
`

// NewGitea starts a Gitea.
func NewGitea(t testing.TB) *Gitea {
	t.Helper()
	program, err := GiteaProgram.Path(t.Context(), os.Stderr)
	require.NoError(t, err)
	who, err := user.Current()
	require.NoError(t, err)
	dir := t.TempDir()
	config := filepath.Join(dir, "app.ini")
	// Gitea refuses to run as root unless a setting allows it. Here only this machine reaches it.
	environment := []string{"GITEA_WORK_DIR=" + dir, "HOME=" + dir, "GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT=true"}
	write := func(port string) {
		text := fmt.Sprintf(giteaSettings, who.Username, dir, port, giteaSource(filepath.Dir(program)))
		require.NoError(t, os.WriteFile(config, []byte(text), 0o600))
	}
	g := &Gitea{User: "ada", Password: "a password of ada"}
	write("0")
	for _, args := range [][]string{{"migrate"}, {"admin", "user", "create", "--admin", "--username", g.User, "--password", g.Password,
		"--email", "ada@example.nl", "--must-change-password=false"}} {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--config", config)...)
		cmd.Env = append(os.Environ(), environment...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	addresses := start(t, GiteaProgram, 1, environment, func(a []string) []string {
		write(a[0][len("127.0.0.1:"):])
		return []string{"web", "--config", config}
	}, "/api/healthz")
	g.URL = "http://" + addresses[0]
	return g
}

// Call sends a request to the API as ada and decodes the answer into to, where to is not nil.
func (g *Gitea) Call(t testing.TB, method, path string, body, to any) {
	t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), method, g.URL+"/api/v1"+path, bytes.NewReader(raw))
	require.NoError(t, err)
	r.SetBasicAuth(g.User, g.Password)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, errors.Join(err, answer.Body.Close()))
	require.Less(t, answer.StatusCode, 300, "%s %s: %s", method, path, text)
	if to != nil {
		require.NoError(t, json.Unmarshal(text, to))
	}
}

// Token makes an access token with these rights, such as read:repository.
func (g *Gitea) Token(t testing.TB, name string, scopes ...string) string {
	t.Helper()
	var made struct {
		Token string `json:"sha1"`
	}
	g.Call(t, http.MethodPost, "/users/"+g.User+"/tokens", map[string]any{"name": name, "scopes": scopes}, &made)
	require.NotEmpty(t, made.Token)
	return made.Token
}
