// Package gittest is a Git host for tests: real repositories, served by git's own http-backend over loopback, that can
// behave like real hosts (private, missing, renamed, limited, slow, breaking off).
//
// A Server is safe for concurrent use; it is closed by the test's cleanup.
package gittest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// File is one entry of a commit.
type File struct {
	Mode string // as git writes it: 100644, 100755, 120000 (symlink), 160000 (submodule)
	Data string // content; target of a symlink; commit of a submodule
}

// Text is a plain file.
func Text(data string) File { return File{Mode: "100644", Data: data} }

// Executable is a file with its executable bit set.
func Executable(data string) File { return File{Mode: "100755", Data: data} }

// Symlink points anywhere, also outside of the repository.
func Symlink(target string) File { return File{Mode: "120000", Data: target} }

// Submodule points to a commit of some other repository.
func Submodule() File { return File{Mode: "160000", Data: strings.Repeat("ab", 20)} }

// Files maps paths to entries.
type Files map[string]File

// Texts makes Files of plain files.
func Texts(texts map[string]string) Files {
	files := Files{}
	for path, text := range texts {
		files[path] = Text(text)
	}
	return files
}

// Commit is a change on top of the commit before it.
type Commit struct {
	Author string    // default "Ada"
	When   time.Time // default 2024-01-02 03:04:05 UTC plus one hour a commit
	Files  Files
	Delete []string
}

// Branch is a name and its commits, oldest first.
type Branch struct {
	Name    string
	Commits []Commit
}

// On is a branch of one commit.
func On(branch string, files Files) Branch {
	return Branch{Name: branch, Commits: []Commit{{Files: files}}}
}

// Mood is how the server treats requests for one repository. The zero value serves it to every client.
type Mood struct {
	User, Password string // if set, requests without these credentials get 401
	Untaken        int    // if set, the status for every request with credentials
	Status         int    // if set, the answer to every request
	Header         http.Header
	RedirectTo     string // if set, 301 to this repository: a path on this server or a whole URL
	// RedirectAfter is the number of requests that pass before RedirectTo applies.
	RedirectAfter int
	// CutAfter breaks the connection after this number of bytes of a pack; 0 never breaks it.
	CutAfter int64
	// Hold, if set, keeps the pack back after its first HoldAfter bytes until the channel is closed or the client has gone.
	Hold      chan struct{}
	HoldAfter int64
	// FailPack answers 503 to this pack, counted from 1 since the mood was set, and to those after it.
	FailPack int
	// Message is the text of the answer for a failing pack.
	Message string
}

// Server is the host.
type Server struct {
	URL  string // http://127.0.0.1:port
	root string

	mu      sync.Mutex
	moods   map[string]Mood
	passed  map[string]int // requests since the mood was set
	packed  map[string]int // packs since then
	seen    []Request
	holding atomic.Int64
	packs   atomic.Int64
}

// Request is a request that the server got.
type Request struct {
	Path          string
	Authorization string
}

// New starts a server.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{root: t.TempDir(), moods: map[string]Mood{}, passed: map[string]int{}, packed: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Create makes a repository such as "owner/name"; the first branch is the default. Without branches it is empty.
func (s *Server) Create(t testing.TB, name string, branches ...Branch) {
	t.Helper()
	s.create(t, name, "sha1", branches)
}

// CreateSHA256 is Create with git's SHA-256 object format.
func (s *Server) CreateSHA256(t testing.TB, name string, branches ...Branch) {
	t.Helper()
	s.create(t, name, "sha256", branches)
}

func (s *Server) create(t testing.TB, name, format string, branches []Branch) {
	t.Helper()
	s.git(t, nil, "init", "--quiet", "--bare", "--initial-branch=main", "--object-format="+format, s.dir(name))
	s.git(t, nil, "--git-dir", s.dir(name), "config", "uploadpack.allowFilter", "true")
	s.Push(t, name, branches...)
	if len(branches) > 0 {
		s.git(t, nil, "--git-dir", s.dir(name), "symbolic-ref", "HEAD", "refs/heads/"+branches[0].Name)
	}
}

// Push adds commits to branches, and creates missing branches.
func (s *Server) Push(t testing.TB, name string, branches ...Branch) {
	t.Helper()
	var stream bytes.Buffer
	for _, branch := range branches {
		ref := "refs/heads/" + branch.Name
		parent := s.Head(t, name, branch.Name)
		for i, commit := range branch.Commits {
			writeCommit(&stream, ref, parent, i, commit)
			parent = ""
		}
	}
	s.git(t, &stream, "--git-dir", s.dir(name), "fast-import", "--quiet", "--force", "--date-format=raw-permissive")
}

// Import runs git fast-import on a stream made by the test, for content that is too large or too unusual for Push.
func (s *Server) Import(t testing.TB, name string, stream io.Reader) {
	t.Helper()
	s.git(t, stream, "--git-dir", s.dir(name), "fast-import", "--quiet", "--force")
}

// WriteObject stores an object unchanged, even if it is invalid, and returns its id.
func (s *Server) WriteObject(t testing.TB, name, kind string, data []byte) string {
	t.Helper()
	return s.git(t, bytes.NewReader(data), "--git-dir", s.dir(name), "hash-object", "-t", kind, "-w", "--literally", "--stdin")
}

// Point moves a branch to a commit.
func (s *Server) Point(t testing.TB, name, branch, commit string) {
	t.Helper()
	s.git(t, nil, "--git-dir", s.dir(name), "update-ref", "refs/heads/"+branch, commit)
}

// PEM writes a certificate as a file of trusted authorities.
func PEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// Delete removes a branch.
func (s *Server) Delete(t testing.TB, name, branch string) {
	t.Helper()
	s.git(t, nil, "--git-dir", s.dir(name), "update-ref", "-d", "refs/heads/"+branch)
}

// Prune removes every object that no branch reaches.
func (s *Server) Prune(t testing.TB, name string) {
	t.Helper()
	s.git(t, nil, "--git-dir", s.dir(name), "reflog", "expire", "--expire=now", "--all")
	s.git(t, nil, "--git-dir", s.dir(name), "repack", "-q", "-a", "-d")
	s.git(t, nil, "--git-dir", s.dir(name), "prune", "--expire=now")
}

// Config sets a value in the repository's configuration.
func (s *Server) Config(t testing.TB, name, key, value string) {
	t.Helper()
	s.git(t, nil, "--git-dir", s.dir(name), "config", key, value)
}

// Head gives the commit of a branch; "" when there is no such branch.
func (s *Server) Head(t testing.TB, name, branch string) string {
	t.Helper()
	return s.git(t, nil, "--git-dir", s.dir(name), "for-each-ref", "--format=%(objectname)", "refs/heads/"+branch)
}

// Set changes how a repository is served; a repository need not exist to have a mood.
func (s *Server) Set(name string, mood Mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moods[name] = mood
	s.passed[name], s.packed[name] = 0, 0
}

// Requests returns the requests since the start, or since the last call.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = nil
	return seen
}

// Packs counts the requested packs.
func (s *Server) Packs() int { return int(s.packs.Load()) }

// Holding returns how many clients wait for a pack that is held back.
func (s *Server) Holding() int { return int(s.holding.Load()) }

func (s *Server) dir(name string) string {
	return filepath.Join(s.root, filepath.FromSlash(name)+".git")
}

// git runs git on the server's side.
func (s *Server) git(t testing.TB, stdin io.Reader, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env, cmd.Stdin, cmd.Dir = environment(s.root), stdin, s.root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

func environment(home string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
}

// writeCommit writes a commit for git fast-import.
func writeCommit(w *bytes.Buffer, ref, parent string, number int, c Commit) {
	if c.Author == "" {
		c.Author = "Ada"
	}
	if c.When.IsZero() {
		c.When = time.Date(2024, 1, 2, 3+number, 4, 5, 0, time.UTC)
	}
	who := fmt.Sprintf("%s <%s@example.com> %d +0000", c.Author, strings.ToLower(c.Author), c.When.Unix())
	fmt.Fprintf(w, "commit %s\nauthor %s\ncommitter %s\ndata 6\nchange\n", ref, who, who)
	if parent != "" {
		fmt.Fprintf(w, "from %s\n", parent)
	}
	for _, path := range c.Delete {
		fmt.Fprintf(w, "D %s\n", quote(path))
	}
	paths := make([]string, 0, len(c.Files))
	for path := range c.Files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		if file := c.Files[path]; file.Mode == "160000" {
			fmt.Fprintf(w, "M 160000 %s %s\n", file.Data, quote(path))
		} else {
			fmt.Fprintf(w, "M %s inline %s\ndata %d\n%s\n", file.Mode, quote(path), len(file.Data), file.Data)
		}
	}
	w.WriteByte('\n')
}

// quote writes a path as fast-import's C-style string, every odd byte in octal.
func quote(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(path) {
		if c := path[i]; c == '"' || c == '\\' || c < ' ' || c >= 0x7f {
			fmt.Fprintf(&b, `\%03o`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	name, rest := split(r.URL.Path)
	s.mu.Lock()
	mood := s.moods[name]
	s.passed[name]++
	passed := s.passed[name]
	s.seen = append(s.seen, Request{Path: r.URL.Path, Authorization: r.Header.Get("Authorization")})
	s.mu.Unlock()
	for key, values := range mood.Header {
		w.Header()[key] = values
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(mood.User+":"+mood.Password))
	switch {
	case mood.Untaken != 0 && r.Header.Get("Authorization") != "":
		w.WriteHeader(mood.Untaken)
	case mood.RedirectTo != "" && passed > mood.RedirectAfter:
		target := mood.RedirectTo + rest
		if r.URL.RawQuery != "" {
			target += "?" + r.URL.RawQuery
		}
		http.Redirect(w, r, target, http.StatusMovedPermanently)
	case mood.Status != 0:
		w.WriteHeader(mood.Status)
	case mood.Password != "" && r.Header.Get("Authorization") != want:
		w.Header().Set("WWW-Authenticate", `Basic realm="Git"`)
		w.WriteHeader(http.StatusUnauthorized)
	default:
		s.backend(w, r, mood, name, rest)
	}
}

// split cuts a request path into repository and the rest that git adds.
func split(path string) (string, string) {
	for _, rest := range []string{"/info/refs", "/git-upload-pack"} {
		if name, ok := strings.CutSuffix(path, rest); ok {
			return strings.TrimSuffix(strings.TrimPrefix(name, "/"), ".git"), rest
		}
	}
	return strings.TrimPrefix(path, "/"), ""
}

func (s *Server) backend(w http.ResponseWriter, r *http.Request, mood Mood, name, rest string) {
	git, err := exec.LookPath("git")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	handler := &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Dir: s.root, Stderr: io.Discard, Logger: log.New(io.Discard, "", 0),
		Env: append(environment(s.root), "GIT_PROJECT_ROOT="+s.root, "GIT_HTTP_EXPORT_ALL=1", "GIT_PROTOCOL="+r.Header.Get("Git-Protocol")),
	}
	if rest == "/git-upload-pack" {
		body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
		if err != nil {
			return
		}
		if bytes.Contains(body, []byte("command=fetch")) && bytes.Contains(body, []byte("done")) {
			s.packs.Add(1)
			s.mu.Lock()
			s.packed[name]++
			number := s.packed[name]
			s.mu.Unlock()
			if mood.FailPack > 0 && number >= mood.FailPack {
				w.Header().Set("Content-Type", "text/plain")
				http.Error(w, mood.Message, http.StatusServiceUnavailable)
				return
			}
			w = &moody{ResponseWriter: w, server: s, mood: mood, gone: r.Context().Done()}
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	handler.ServeHTTP(w, r)
}

// moody is the response writer of a pack; it applies the mood.
type moody struct {
	http.ResponseWriter
	server *Server
	mood   Mood
	gone   <-chan struct{}
	sent   int64
	held   bool
}

func (m *moody) Write(p []byte) (int, error) {
	if m.mood.CutAfter > 0 && m.sent+int64(len(p)) > m.mood.CutAfter {
		_, _ = m.ResponseWriter.Write(p[:m.mood.CutAfter-m.sent])
		if conn, _, err := http.NewResponseController(m.ResponseWriter).Hijack(); err == nil {
			_ = conn.Close()
		}
		return 0, io.ErrClosedPipe
	}
	if m.mood.Hold != nil && !m.held && m.sent+int64(len(p)) > m.mood.HoldAfter {
		m.held = true
		cut := max(1, m.mood.HoldAfter-m.sent)
		_, _ = m.ResponseWriter.Write(p[:cut])
		_ = http.NewResponseController(m.ResponseWriter).Flush()
		m.server.holding.Add(1)
		select {
		case <-m.mood.Hold:
		case <-m.gone:
		}
		m.server.holding.Add(-1)
		n, err := m.ResponseWriter.Write(p[cut:])
		return int(cut) + n, err
	}
	n, err := m.ResponseWriter.Write(p)
	m.sent += int64(n)
	return n, err
}

// Flush lets the CGI handler stream.
func (m *moody) Flush() { _ = http.NewResponseController(m.ResponseWriter).Flush() }
