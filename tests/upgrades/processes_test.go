//go:build peers

package upgrades

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
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

	"kijko/tests/testdb"
)

// release names the commit that installations run before they upgrade to this one. It is renewed with each release.
func release(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("release")
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// programs are a folder with server, worker and kijko-db.
type programs string

// build builds the programs of a checkout. Only packages of ours are compiled again, because those of others are at the same place.
func build(t *testing.T, checkout string) programs {
	t.Helper()
	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", folder+"/", "./server", "./worker", "./db/cmd/kijko-db")
	cmd.Dir = checkout
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return programs(folder)
}

// checkout writes the files of a commit into a folder. A shallow clone does not have them.
func checkout(t *testing.T, commit string) string {
	t.Helper()
	folder := t.TempDir()
	archive := filepath.Join(t.TempDir(), "release.tar")
	out, err := exec.CommandContext(t.Context(), "git", "-C", "../..", "archive", "--output="+archive, commit).CombinedOutput()
	require.NoError(t, err, "the clone does not have the commit of tests/upgrades/release; get it with: git fetch --unshallow\n%s", out)
	out, err = exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", folder).CombinedOutput()
	require.NoError(t, err, string(out))
	return folder
}

// installation is what the processes of both releases share.
type installation struct {
	t        *testing.T
	db       *testdb.DB
	settings []string
}

func install(t *testing.T) *installation {
	t.Helper()
	db := testdb.Empty(t)
	return &installation{t: t, db: db, settings: append(os.Environ(), "DEBUG=true", "DATABASE_URL="+db.DSN("kijko_server"), "DATABASE_WORKER_URL="+db.DSN("kijko_worker"),
		"KIJKO_STORAGE_URL=file://"+t.TempDir(), "KIJKO_AUTH_RATE_FACTOR=100000", "KIJKO_RATE_PER_MINUTE=0", "APP_URL=http://kijko.test", "VIES_MODE=offline",
		"KIJKO_DB_POOL=6", "ENCRYPTION_KEY="+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 32)), "JWT_PRIVATE_KEY="+signingKey(t))}
}

// setUp is kijko-db setup of a release.
func (i *installation) setUp(p programs) {
	i.t.Helper()
	cmd := exec.CommandContext(i.t.Context(), filepath.Join(string(p), "kijko-db"), "setup")
	cmd.Env = append(i.settings, "DATABASE_URL="+i.db.Owner())
	out, err := cmd.CombinedOutput()
	require.NoError(i.t, err, string(out))
}

// process is a running server or worker.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	URL  string
	once sync.Once
}

func (i *installation) start(p programs, name string, more ...string) *process {
	i.t.Helper()
	r := &process{t: i.t, cmd: exec.Command(filepath.Join(string(p), name))}
	r.cmd.Env = append(append(i.settings, "KIJKO_DATA_DIR="+i.t.TempDir(), "KIJKO_LOG_LEVEL=error"), more...)
	r.cmd.Stdout, r.cmd.Stderr = os.Stderr, os.Stderr
	require.NoError(i.t, r.cmd.Start())
	i.t.Cleanup(func() { _ = r.cmd.Process.Kill(); r.wait() })
	return r
}

// server starts a server and waits until it is ready.
func (i *installation) server(p programs) *process {
	i.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(i.t, err)
	address := listener.Addr().String()
	require.NoError(i.t, listener.Close())
	r := i.start(p, "server", "KIJKO_ADDR="+address)
	r.URL = "http://" + address
	require.Eventually(i.t, func() bool {
		answer, err := http.Get(r.URL + "/health/ready")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, 2*time.Minute, 20*time.Millisecond, "the server is not ready")
	return r
}

func (r *process) wait() { r.once.Do(func() { _ = r.cmd.Wait() }) }

// stop ends it as a deployment does.
func (r *process) stop() {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(syscall.SIGTERM))
	r.wait()
}

// person calls any of the servers. Answers are not compared with the document of today, because the release before has another.
type person struct {
	token string
	http  http.Client
}

type object = map[string]any

// call gives the status and the object that was answered. err is of the connection.
func (p *person) call(server *process, method, path string, body any) (int, object, error) {
	sent, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequest(method, server.URL+"/api/v1"+path, bytes.NewReader(sent))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if p.token != "" {
		request.Header.Set("Authorization", "Bearer "+p.token)
	}
	answer, err := p.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, nil, err
	}
	var content any
	if err := json.Unmarshal(raw, &content); err != nil {
		return 0, nil, fmt.Errorf("%s %s: %d %s: %w", method, path, answer.StatusCode, raw, err)
	}
	o, _ := content.(object) // nil for a list
	return answer.StatusCode, o, nil
}

// want is call that fails the test on another status.
func (p *person) want(t *testing.T, server *process, status int, method, path string, body any) object {
	t.Helper()
	got, o, err := p.call(server, method, path, body)
	require.NoError(t, err)
	require.Equal(t, status, got, "%s %s: %v", method, path, o)
	return o
}

func signUp(t *testing.T, server *process, name string) *person {
	t.Helper()
	p := &person{}
	o := p.want(t, server, 201, "POST", "/auth/signup", object{"email": strings.ToLower(name) + "@example.nl", "password": "Correct-Horse-7", "first_name": name, "last_name": "Test"})
	if tokens, ok := o["tokens"].(object); ok {
		o = tokens
	}
	p.token, _ = o["access_token"].(string)
	require.NotEmpty(t, p.token, "%v", o)
	return p
}

// load writes and reads through servers until end is closed, repeats what a lost connection left open under the same key, and counts.
func load(p *person, servers func() []*process, end <-chan struct{}) (made []string, err error) {
	for n := 0; ; n++ {
		select {
		case <-end:
			return made, nil
		default:
		}
		name := fmt.Sprintf("Skill %d", n)
		for attempt := 0; ; attempt++ {
			all := servers()
			server := all[(n+attempt)%len(all)]
			status, o, lost := p.call(server, "POST", "/skills", object{"name": name, "promptTemplate": "Say hello to {{name}} in one friendly sentence."})
			if lost != nil && attempt < 100 {
				continue
			}
			// A connection that was lost after the commit leaves the skill, and the repetition finds its name taken.
			if lost == nil && (status == 201 || attempt > 0 && status == 409) {
				break
			}
			return made, errors.Join(lost, fmt.Errorf("making %s: %d %v", name, status, o))
		}
		made = append(made, name)
		all := servers()
		if status, o, lost := p.call(all[n%len(all)], "GET", "/projects", nil); lost == nil && status != 200 {
			return made, fmt.Errorf("reading projects: %d %v", status, o)
		}
	}
}
func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}
