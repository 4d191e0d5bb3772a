package gitfetch_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch"
	"kijko/worker/gitfetch/gittest"
)

const app = "https://github.com/ada/app"

// bundle is a host, a fetcher that may contact it as GitHub, and a directory for repositories.
type bundle struct {
	server  *gittest.Server
	fetcher *gitfetch.Fetcher
	dir     string
	log     *buffer
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func setup(t testing.TB) bundle {
	t.Helper()
	s := gittest.New(t)
	return bundle{server: s, log: new(buffer), dir: filepath.Join(t.TempDir(), "repo")}.with(t, gitfetch.HostConfig{
		BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: s.URL}}, nil)
}

func (b bundle) with(t testing.TB, c gitfetch.HostConfig, r gitfetch.Resolver) bundle {
	t.Helper()
	hosts, err := gitfetch.NewHosts(c)
	require.NoError(t, err)
	log := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.fetcher, err = gitfetch.New(t.Context(), gitfetch.Options{Hosts: hosts, TempDir: t.TempDir(), Log: log, Resolver: r})
	require.NoError(t, err)
	return b
}

func (b bundle) request() gitfetch.Request {
	return gitfetch.Request{URL: app, Branch: "main", Dir: b.dir}
}

func fails(t testing.TB, err error, code gitfetch.Code) *gitfetch.Failure {
	t.Helper()
	failure, ok := gitfetch.AsFailure(err)
	require.True(t, ok, "want %s, got %v", code, err)
	require.Equal(t, code, failure.Code, "%v (%v)", failure, failure.Unwrap())
	require.NotRegexp(t, `127\.0\.0\.1|fatal:|http`, failure.Message, "users are not shown technical matter")
	return failure
}

func read(t testing.TB, tree *gitfetch.Tree) map[string]string {
	t.Helper()
	got := map[string]string{}
	require.NoError(t, tree.Blobs(t.Context(), tree.Files, func(f gitfetch.File, r io.Reader) error {
		data, err := io.ReadAll(r)
		got[f.Path] = string(data)
		return err
	}))
	return got
}

func TestFetch(t *testing.T) {
	t.Run("FilesComeInPathOrderWithTheirContent", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{
			"b.go": gittest.Text("package b\n"), "a/ü \"quoted\".txt": gittest.Text("ü"), "a.sh": gittest.Executable("#!/bin/sh\n"),
			"empty": gittest.Text(""), "B.GO": gittest.Text("other case"), "a/same": gittest.Text("package b\n"),
		}))
		var last gitfetch.Progress
		req := b.request()
		req.Progress = func(p gitfetch.Progress) {
			require.GreaterOrEqual(t, p.Percent, last.Percent)
			require.GreaterOrEqual(t, p.ReceivedBytes, last.ReceivedBytes)
			last = p
		}
		tree, err := b.fetcher.Fetch(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, b.server.Head(t, "ada/app", "main"), tree.Commit)
		require.Equal(t, "main", tree.Branch)
		require.False(t, tree.FellBack)
		paths := make([]string, len(tree.Files))
		for i, f := range tree.Files {
			paths[i] = f.Path
		}
		require.True(t, slices.IsSorted(paths), "%q", paths)
		require.Equal(t, map[string]string{"b.go": "package b\n", "a/ü \"quoted\".txt": "ü", "a.sh": "#!/bin/sh\n", "empty": "", "B.GO": "other case", "a/same": "package b\n"}, read(t, tree))
		require.Equal(t, int64(10+2+10+0+10+10), tree.Bytes)
		require.Equal(t, gitfetch.Executable, tree.Files[slices.Index(paths, "a.sh")].Mode)
		require.Equal(t, 100, last.Percent)
		require.NotZero(t, last.TotalObjects)
		require.Equal(t, last.TotalObjects, last.ReceivedObjects)
	})
	t.Run("LinksSubmodulesAndOddNamesAreNoFiles", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{
			"ok": gittest.Text("ok"), "out": gittest.Symlink("../../../../etc/passwd"), "abs": gittest.Symlink("/etc/passwd"),
			"dir/loop": gittest.Symlink("."), "sub": gittest.Submodule(), ".gitmodules": gittest.Symlink("/etc/passwd"),
			"latin\xe9": gittest.Text("x"), "line\nfeed": gittest.Text("x"), strings.Repeat("long/", 250) + "x": gittest.Text("x"),
		}))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		require.Equal(t, map[string]string{"ok": "ok", `latin\xe9`: "x"}, read(t, tree))
		require.Equal(t, gitfetch.Skipped{Symlinks: 4, Submodules: 1, BadPaths: 2}, tree.Skipped)
	})
	t.Run("FolderNamedDotDotIsRefused", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"ok": gittest.Text("ok")}))
		evilTree(t, b.server, "ada/app")
		_, err := b.fetcher.Fetch(t.Context(), b.request())
		require.False(t, fails(t, err, gitfetch.InvalidFormat).Retryable)
	})
	t.Run("OtherBranch", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("main")}), gittest.On("feature/x", gittest.Files{"a": gittest.Text("feature")}))
		req := b.request()
		req.Branch = "feature/x"
		tree, err := b.fetcher.Fetch(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"a": "feature"}, read(t, tree))
	})
	t.Run("MissingMainFallsBackToTheDefault", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("trunk", gittest.Files{"a": gittest.Text("1")}), gittest.On("old", gittest.Files{"a": gittest.Text("2")}))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		require.Equal(t, "trunk", tree.Branch)
		require.True(t, tree.FellBack)
		require.Equal(t, map[string]string{"a": "1"}, read(t, tree))
	})
	t.Run("MissingBranchIsNamed", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		for _, branch := range []string{"nope", "Main", "refs/heads/main", "ma*", "--upload-pack=x", "a..b", "a b", "@", "", "x.lock", "a//b", "@{u}", ".a", "a."} {
			req := b.request()
			req.Branch = branch
			_, err := b.fetcher.Fetch(t.Context(), req)
			f := fails(t, err, gitfetch.BranchNotFound)
			require.Contains(t, f.Message, fmt.Sprintf("%q", branch))
			require.False(t, f.Retryable)
		}
	})
	t.Run("BranchInsideOfABranchNameIsNotTaken", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("x/refs/heads/dev", gittest.Files{"a": gittest.Text("1")}))
		req := b.request()
		req.Branch = "dev"
		_, err := b.fetcher.Fetch(t.Context(), req)
		fails(t, err, gitfetch.BranchNotFound)
	})
	t.Run("EmptyRepository", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app")
		_, err := b.fetcher.Fetch(t.Context(), b.request())
		require.Equal(t, "The repository is empty.", fails(t, err, gitfetch.InvalidFormat).Message)
	})
	t.Run("CommitWithoutFiles", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", nil))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		require.Empty(t, tree.Files)
		require.Empty(t, read(t, tree))
	})
	t.Run("SHA256Repository", func(t *testing.T) {
		b := setup(t)
		b.server.CreateSHA256(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		require.Len(t, tree.Commit, 64)
		require.Equal(t, map[string]string{"a": "1"}, read(t, tree))
	})
	t.Run("CommitThatIsNoneIsRefused", func(t *testing.T) {
		b := setup(t)
		req := b.request()
		req.Commit = "--upload-pack=touch /tmp/x"
		_, err := b.fetcher.Fetch(t.Context(), req)
		require.ErrorContains(t, err, "is no commit")
		require.Empty(t, b.server.Requests())
	})
}

// evilTree points main to a tree with an entry "..", which fast-import would refuse.
func evilTree(t *testing.T, s *gittest.Server, name string) {
	t.Helper()
	inner := s.WriteObject(t, name, "tree", nil)
	outer := s.WriteObject(t, name, "tree", append([]byte("40000 ..\x00"), unhex(t, inner)...))
	commit := s.WriteObject(t, name, "commit", fmt.Appendf(nil, "tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n", outer))
	s.Point(t, name, "main", commit)
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	out := make([]byte, len(text)/2)
	_, err := fmt.Sscanf(text, "%x", &out)
	require.NoError(t, err)
	return out
}

func TestFetchLimits(t *testing.T) {
	t.Run("TooManyFiles", func(t *testing.T) {
		b := setup(t)
		files := gittest.Files{}
		for i := range 51 {
			files[fmt.Sprintf("f%d", i)] = gittest.Text("x")
		}
		b.server.Create(t, "ada/app", gittest.On("main", files))
		req := b.request()
		req.Limits.Files = 50
		_, err := b.fetcher.Fetch(t.Context(), req)
		f := fails(t, err, gitfetch.RepoFetchFailed)
		require.Equal(t, "The repository has more than 50 files.", f.Message)
		require.False(t, f.Retryable)
		req.Limits.Files = 51
		tree, err := b.fetcher.Fetch(t.Context(), req)
		require.NoError(t, err)
		require.Len(t, tree.Files, 51)
	})
	t.Run("TreeThatRepeatsItselfForEver", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app")
		hash := b.server.WriteObject(t, "ada/app", "blob", []byte("x"))
		mode := "100644"
		for range 12 { // 10^12 files in a few kB
			var tree []byte
			for i := range 10 {
				tree = fmt.Appendf(tree, "%s f%d\x00%s", mode, i, unhex(t, hash))
			}
			hash, mode = b.server.WriteObject(t, "ada/app", "tree", tree), "40000"
		}
		b.server.Point(t, "ada/app", "main", b.server.WriteObject(t, "ada/app", "commit",
			fmt.Appendf(nil, "tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n", hash)))
		_, err := b.fetcher.Fetch(t.Context(), b.request())
		require.Equal(t, "The repository has more than 100000 files.", fails(t, err, gitfetch.RepoFetchFailed).Message)
	})
	t.Run("PackLargerThanTheLimitIsStopped", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"noise": gittest.Text(noise(3 << 20))}))
		req := b.request()
		req.Limits.Bytes = 1 << 20
		_, err := b.fetcher.Fetch(t.Context(), req)
		require.Equal(t, "The repository is larger than 1 MiB.", fails(t, err, gitfetch.RepoFetchFailed).Message)
	})
	t.Run("PackIsStoppedWhileItArrives", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"noise": gittest.Text(noise(3 << 20))}))
		b.server.Set("ada/app", gittest.Mood{HoldAfter: 2 << 20, Hold: make(chan struct{})}) // never goes on
		req := b.request()
		req.Limits.Bytes = 1 << 20
		_, err := b.fetcher.Fetch(t.Context(), req)
		fails(t, err, gitfetch.RepoFetchFailed)
	})
	t.Run("FilesThatExpandBeyondTheLimit", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"zeros": gittest.Text(strings.Repeat("\x00", 3<<20))}))
		req := b.request()
		req.Limits.Bytes = 2 << 20
		_, err := b.fetcher.Fetch(t.Context(), req)
		require.Equal(t, "The files of the repository are larger than 2 MiB together.", fails(t, err, gitfetch.RepoFetchFailed).Message)
	})
	t.Run("LargeFileIsStreamed", func(t *testing.T) {
		b := setup(t)
		const size = 64 << 20
		b.server.Create(t, "ada/app")
		b.server.Import(t, "ada/app", io.MultiReader(strings.NewReader(fmt.Sprintf(
			"commit refs/heads/main\ncommitter A <a@b> 1 +0000\ndata 1\nx\nM 100644 inline big\ndata %d\n", size)), io.LimitReader(zeros{}, size), strings.NewReader("\nM 100644 inline small\ndata 1\nx\n")))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := map[string]int64{}
		require.NoError(t, tree.Blobs(t.Context(), tree.Files, func(f gitfetch.File, r io.Reader) error {
			if f.Path == "big" {
				_, err := io.ReadFull(r, make([]byte, 100)) // the rest is skipped
				return err
			}
			n, err := io.Copy(io.Discard, r)
			got[f.Path] = n
			return err
		}))
		runtime.ReadMemStats(&after)
		require.Equal(t, map[string]int64{"small": 1}, got)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
	})
	t.Run("TimeLimit", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		b.server.Set("ada/app", gittest.Mood{Hold: make(chan struct{})})
		req := b.request()
		req.Limits.Timeout = time.Second
		_, err := b.fetcher.Fetch(t.Context(), req)
		require.True(t, fails(t, err, gitfetch.Timeout).Retryable)
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// noise is text that does not compress.
func noise(n int) string {
	state, out := uint64(1), make([]byte, n)
	for i := range out {
		state = state*6364136223846793005 + 1442695040888963407
		out[i] = byte(state >> 56)
	}
	return string(out)
}

func TestFetchAgain(t *testing.T) {
	start := func(t *testing.T) (bundle, *gitfetch.Tree) {
		t.Helper()
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1"), "b": gittest.Text("2")}))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		b.server.Requests()
		return b, tree
	}
	again := func(t *testing.T, b bundle, change func(*gitfetch.Request)) *gitfetch.Tree {
		t.Helper()
		req := b.request()
		change(&req)
		tree, err := b.fetcher.Fetch(t.Context(), req)
		require.NoError(t, err)
		return tree
	}
	t.Run("UnchangedBranchTransfersNothing", func(t *testing.T) {
		b, first := start(t)
		packs := b.server.Packs()
		second := again(t, b, func(*gitfetch.Request) {})
		require.Equal(t, packs, b.server.Packs())
		require.Equal(t, first.Files, second.Files)
	})
	t.Run("PinnedCommitAsksNobody", func(t *testing.T) {
		b, first := start(t)
		second := again(t, b, func(r *gitfetch.Request) { r.Commit = first.Commit })
		require.Empty(t, b.server.Requests())
		require.Equal(t, first.Files, second.Files)
	})
	t.Run("OpenAsksNobody", func(t *testing.T) {
		b, first := start(t)
		tree, ok, err := b.fetcher.Open(t.Context(), b.dir, gitfetch.Limits{})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, read(t, first), read(t, tree))
		require.Empty(t, b.server.Requests())
		_, ok, err = b.fetcher.Open(t.Context(), t.TempDir(), gitfetch.Limits{})
		require.NoError(t, err)
		require.False(t, ok)
		_, _, err = b.fetcher.Open(t.Context(), b.dir, gitfetch.Limits{Files: 1})
		fails(t, err, gitfetch.RepoFetchFailed)
	})
	t.Run("FallBackIsRemembered", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("trunk", gittest.Files{"a": gittest.Text("1")}))
		first := again(t, b, func(*gitfetch.Request) {})
		second := again(t, b, func(r *gitfetch.Request) { r.Commit = first.Commit })
		require.Equal(t, "trunk", second.Branch)
		require.True(t, second.FellBack)
	})
	t.Run("MovedBranchIsFetchedAnew", func(t *testing.T) {
		b, _ := start(t)
		b.server.Push(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("new")}))
		require.Equal(t, map[string]string{"a": "new", "b": "2"}, read(t, again(t, b, func(*gitfetch.Request) {})))
	})
	t.Run("PinnedCommitIsFetchedBehindTheHead", func(t *testing.T) {
		b, first := start(t)
		b.server.Push(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("new")}))
		tree := again(t, b, func(r *gitfetch.Request) { r.Commit, r.Dir = first.Commit, filepath.Join(t.TempDir(), "other") })
		require.Equal(t, first.Commit, tree.Commit)
		require.False(t, tree.Moved)
		require.Equal(t, map[string]string{"a": "1", "b": "2"}, read(t, tree))
	})
	t.Run("PinnedCommitThatIsGoneGivesTheHead", func(t *testing.T) {
		b, first := start(t)
		b.server.Delete(t, "ada/app", "main")
		b.server.Push(t, "ada/app", gittest.On("main", gittest.Files{"c": gittest.Text("rewritten")}))
		b.server.Prune(t, "ada/app")
		tree := again(t, b, func(r *gitfetch.Request) { r.Commit, r.Dir = first.Commit, filepath.Join(t.TempDir(), "other") })
		require.True(t, tree.Moved)
		require.Equal(t, b.server.Head(t, "ada/app", "main"), tree.Commit)
		require.Equal(t, map[string]string{"c": "rewritten"}, read(t, tree))
	})
	t.Run("AnotherRepositoryReplacesTheFirst", func(t *testing.T) {
		b, _ := start(t)
		b.server.Create(t, "ada/other", gittest.On("main", gittest.Files{"o": gittest.Text("other")}))
		require.Equal(t, map[string]string{"o": "other"}, read(t, again(t, b, func(r *gitfetch.Request) { r.URL = "https://github.com/ada/other" })))
	})
	t.Run("BrokenFetchIsStartedOver", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text(noise(1 << 20))}))
		b.server.Set("ada/app", gittest.Mood{CutAfter: 200_000})
		_, err := b.fetcher.Fetch(t.Context(), b.request())
		require.True(t, fails(t, err, gitfetch.NetworkError).Retryable)
		_, ok, err := b.fetcher.Open(t.Context(), b.dir, gitfetch.Limits{})
		require.NoError(t, err)
		require.False(t, ok, "half a repository is none")
		for _, left := range []string{"shallow.lock", "config.lock", "HEAD.lock"} { // files that kill -9 may leave
			require.NoError(t, os.WriteFile(filepath.Join(b.dir, left), nil, 0o600))
		}
		b.server.Set("ada/app", gittest.Mood{})
		require.Len(t, again(t, b, func(*gitfetch.Request) {}).Files, 1)
	})
	t.Run("TornStateCountsAsNothing", func(t *testing.T) {
		b, first := start(t)
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, "kijko-fetch.json"), []byte(`{"comm`), 0o600))
		tree := again(t, b, func(r *gitfetch.Request) { r.Commit = first.Commit })
		require.NotEmpty(t, b.server.Requests())
		require.Equal(t, first.Files, tree.Files)
	})
	t.Run("ForeignDirectoryIsLeftAlone", func(t *testing.T) {
		b, _ := start(t)
		foreign := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(foreign, "precious"), []byte("x"), 0o600))
		req := b.request()
		req.Dir = foreign
		_, err := b.fetcher.Fetch(t.Context(), req)
		require.ErrorContains(t, err, "not empty")
		require.FileExists(t, filepath.Join(foreign, "precious"))
	})
	t.Run("ReaderThatFailsEndsTheStream", func(t *testing.T) {
		_, tree := start(t)
		mine, calls := errors.New("mine"), 0
		require.Equal(t, mine, tree.Blobs(t.Context(), tree.Files, func(gitfetch.File, io.Reader) error { calls++; return mine }))
		require.Equal(t, 1, calls)
	})
	t.Run("ContentThatIsMissingIsAFault", func(t *testing.T) {
		_, tree := start(t)
		gone := gitfetch.File{Path: "x", OID: strings.Repeat("0", 39) + "1", Size: 1}
		require.ErrorContains(t, tree.Blobs(t.Context(), []gitfetch.File{gone}, nil), "missing")
	})
}

func TestHistory(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2024, 3, n, 12, 0, 0, 0, time.UTC) }
	fetch := func(t *testing.T, b bundle) *gitfetch.Tree {
		t.Helper()
		req := b.request()
		req.History = true
		tree, err := b.fetcher.Fetch(t.Context(), req)
		require.NoError(t, err)
		return tree
	}
	t.Run("EachFileHasItsLastChange", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.Branch{Name: "main", Commits: []gittest.Commit{
			{Author: "Ada", When: day(1), Files: gittest.Files{"a": gittest.Text("1"), "dir/ü b": gittest.Text("1"), "gone": gittest.Text("1")}},
			{Author: "Bob", When: day(2), Files: gittest.Files{"a": gittest.Text("2")}, Delete: []string{"gone"}},
			{Author: "Cleo", When: day(3), Files: gittest.Files{"c": gittest.Text("3")}},
		}})
		tree := fetch(t, b)
		changes, err := tree.LastChanges(t.Context())
		require.NoError(t, err)
		require.Len(t, changes, 3)
		require.Equal(t, gitfetch.Change{Author: "Cleo", Date: day(3), Commit: tree.Commit}, changes["c"])
		require.Equal(t, "Bob", changes["a"].Author)
		require.Equal(t, day(1), changes["dir/ü b"].Date)
		b.server.Requests()
		require.Equal(t, tree.Files, fetch(t, b).Files)
		require.NotZero(t, len(b.server.Requests()))
	})
	t.Run("FilesOlderThanTheHistoryHaveNone", func(t *testing.T) {
		b := setup(t)
		commits := []gittest.Commit{{Author: "Old", When: day(1), Files: gittest.Files{"old": gittest.Text("1"), "busy": gittest.Text("0")}}}
		for i := range 1001 {
			commits = append(commits, gittest.Commit{Author: "New", When: day(2).Add(time.Duration(i) * time.Minute), Files: gittest.Files{"busy": gittest.Text(fmt.Sprint(i))}})
		}
		b.server.Create(t, "ada/app", gittest.Branch{Name: "main", Commits: commits})
		changes, err := fetch(t, b).LastChanges(t.Context())
		require.NoError(t, err)
		require.Equal(t, "New", changes["busy"].Author)
		require.NotContains(t, changes, "old")
	})
	t.Run("ServerWithoutFiltersStillGivesTheFiles", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		b.server.Config(t, "ada/app", "uploadpack.allowFilter", "false")
		tree := fetch(t, b)
		require.Equal(t, map[string]string{"a": "1"}, read(t, tree))
		changes, err := tree.LastChanges(t.Context())
		require.NoError(t, err)
		require.Len(t, changes, 1, "the whole history is small enough")
	})
	t.Run("HistoryThatFailsCostsOnlyHistory", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		b.server.Set("ada/app", gittest.Mood{FailPack: 2})
		tree := fetch(t, b)
		require.Equal(t, map[string]string{"a": "1"}, read(t, tree))
		changes, err := tree.LastChanges(t.Context())
		require.NoError(t, err)
		require.Empty(t, changes)
		require.Contains(t, b.log.String(), "without its history")
		packs := b.server.Packs()
		fetch(t, b)
		require.Equal(t, packs, b.server.Packs(), "it isn't tried again for the same commit")
	})
	t.Run("HistoryIsAddedToAFetchWithout", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		changes, err := tree.LastChanges(t.Context())
		require.NoError(t, err)
		require.Empty(t, changes)
		changes, err = fetch(t, b).LastChanges(t.Context())
		require.NoError(t, err)
		require.Len(t, changes, 1)
	})
}

func TestLsRemote(t *testing.T) {
	t.Run("BranchesInOrderAndTheDefault", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("trunk", gittest.Files{"a": gittest.Text("1")}), gittest.On("a/b", gittest.Files{"a": gittest.Text("2")}))
		remote, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.NoError(t, err)
		require.Equal(t, gitfetch.Remote{DefaultBranch: "trunk", Branches: []gitfetch.Branch{
			{Name: "a/b", Commit: b.server.Head(t, "ada/app", "a/b")}, {Name: "trunk", Commit: b.server.Head(t, "ada/app", "trunk")}}}, remote)
		commit, ok := remote.Commit("trunk")
		require.True(t, ok)
		require.Equal(t, remote.Branches[1].Commit, commit)
		_, ok = remote.Commit("nope")
		require.False(t, ok)
	})
	t.Run("EmptyRepositoryHasNone", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app")
		remote, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.NoError(t, err)
		require.Empty(t, remote.Branches)
		require.Empty(t, remote.DefaultBranch)
	})
	t.Run("DefaultThatDoesNotExist", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("gone", gittest.Files{"a": gittest.Text("1")}), gittest.On("dev", gittest.Files{"a": gittest.Text("1")}))
		b.server.Delete(t, "ada/app", "gone")
		remote, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.NoError(t, err)
		require.Equal(t, "dev", remote.DefaultBranch, "the only one there is")
	})
	t.Run("MoreBranchesThanAreKept", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		var stream strings.Builder
		head := b.server.Head(t, "ada/app", "main")
		for i := range 20_001 {
			fmt.Fprintf(&stream, "reset refs/heads/b%05d\nfrom %s\n\n", i, head)
		}
		b.server.Import(t, "ada/app", strings.NewReader(stream.String()))
		remote, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.NoError(t, err)
		require.True(t, remote.Truncated)
		require.Len(t, remote.Branches, 20_000)
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err, "fetching does not depend on the listing")
		require.Equal(t, head, tree.Commit)
	})
	t.Run("OwnDeadlineIsATimeout", func(t *testing.T) {
		b := setup(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		_, err := b.fetcher.LsRemote(ctx, app, gitfetch.Auth{})
		fails(t, err, gitfetch.Timeout)
	})
}

func TestBranches(t *testing.T) {
	at := func(hours int, data string) []gittest.Commit {
		return []gittest.Commit{{When: time.Unix(1_700_000_000, 0).Add(time.Duration(hours) * time.Hour), Files: gittest.Files{"a": gittest.Text(data)}}}
	}
	make := func(t *testing.T, filter string) (bundle, string, string) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.Branch{Name: "trunk", Commits: at(1, "1")}, gittest.Branch{Name: "a/b", Commits: at(2, strings.Repeat("2", 1000))})
		b.server.Config(t, "ada/app", "uploadpack.allowFilter", filter)
		return b, b.server.Head(t, "ada/app", "trunk"), b.server.Head(t, "ada/app", "a/b")
	}
	for _, filter := range []string{"true", "false"} {
		t.Run("TimesOfCommitsWithFilter="+filter, func(t *testing.T) {
			b, trunk, other := make(t, filter)
			main, list, err := b.fetcher.Branches(t.Context(), app, gitfetch.Auth{}, nil)
			require.NoError(t, err)
			require.Equal(t, "trunk", main)
			require.Equal(t, []gitfetch.DatedBranch{{Name: "trunk", Commit: trunk, At: time.Unix(1_700_003_600, 0).UTC()},
				{Name: "a/b", Commit: other, At: time.Unix(1_700_007_200, 0).UTC()}}, list)
		})
	}
	t.Run("KnownCommitsAreNotFetched", func(t *testing.T) {
		b, trunk, other := make(t, "true")
		_, list, err := b.fetcher.Branches(t.Context(), app, gitfetch.Auth{}, map[string]string{"trunk": trunk, "a/b": other, "gone": trunk})
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Zero(t, list[0].At)
		require.Zero(t, b.server.Packs())
	})
	t.Run("EmptyRepositoryHasNone", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app")
		_, list, err := b.fetcher.Branches(t.Context(), app, gitfetch.Auth{}, nil)
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

func TestHead(t *testing.T) {
	b := setup(t)
	b.server.Create(t, "ada/app", gittest.On("trunk", gittest.Files{"a": gittest.Text("1")}), gittest.On("dev", gittest.Files{"a": gittest.Text("2")}))
	t.Run("BranchThatExists", func(t *testing.T) {
		head, err := b.fetcher.Head(t.Context(), app, "dev", gitfetch.Auth{})
		require.NoError(t, err)
		require.Equal(t, gitfetch.Head{Branch: "dev", Commit: b.server.Head(t, "ada/app", "dev")}, head)
	})
	t.Run("MissingMainFallsBackToTheDefault", func(t *testing.T) {
		head, err := b.fetcher.Head(t.Context(), app, "main", gitfetch.Auth{})
		require.NoError(t, err)
		require.Equal(t, gitfetch.Head{Branch: "trunk", Commit: b.server.Head(t, "ada/app", "trunk"), FellBack: true}, head)
	})
	t.Run("MissingBranch", func(t *testing.T) {
		for _, branch := range []string{"master", "no branch"} {
			_, err := b.fetcher.Head(t.Context(), app, branch, gitfetch.Auth{})
			fails(t, err, gitfetch.BranchNotFound)
		}
	})
	t.Run("MissingRepository", func(t *testing.T) {
		_, err := b.fetcher.Head(t.Context(), "https://github.com/ada/none", "main", gitfetch.Auth{})
		fails(t, err, gitfetch.RepoNotFound)
	})
	require.Zero(t, b.server.Packs())
}

func TestHostAnswers(t *testing.T) {
	ada := gitfetch.Auth{Username: "ada", Token: "t0k3n-secret"}
	reset := fmt.Sprint(time.Now().Add(30 * time.Second).Unix())
	tests := []struct {
		name      string
		mood      gittest.Mood
		auth      gitfetch.Auth
		code      gitfetch.Code
		retryable bool
		private   bool // the message may tell the user to connect an account
	}{
		{"MissingToAnonymous", gittest.Mood{Status: 404}, gitfetch.Auth{}, gitfetch.RepoNotFound, false, true},
		{"MissingToConnected", gittest.Mood{Status: 404}, ada, gitfetch.RepoNotFound, false, false},
		{"GoneToAnonymous", gittest.Mood{Status: 410}, gitfetch.Auth{}, gitfetch.RepoNotFound, false, true},
		{"PrivateToAnonymous", gittest.Mood{User: "x", Password: "y"}, gitfetch.Auth{}, gitfetch.RepoNotFound, false, true},
		{"PrivateToWrongToken", gittest.Mood{User: "x", Password: "y"}, ada, gitfetch.AuthFailed, false, false},
		{"ForbiddenToConnected", gittest.Mood{Status: 403}, ada, gitfetch.PermissionDenied, false, false},
		{"TakenDown", gittest.Mood{Status: 451}, gitfetch.Auth{}, gitfetch.PermissionDenied, false, false},
		{"LimitedForSeconds", gittest.Mood{Status: 429, Header: http.Header{"Retry-After": {"7"}}}, gitfetch.Auth{}, gitfetch.RateLimited, true, false},
		{"LimitedForAnHour", gittest.Mood{Status: 429, Header: http.Header{"Retry-After": {"3600"}}}, gitfetch.Auth{}, gitfetch.RateLimited, false, false},
		{"LimitedUntilADate", gittest.Mood{Status: 429, Header: http.Header{"Retry-After": {time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat)}}}, gitfetch.Auth{}, gitfetch.RateLimited, true, false},
		{"LimitedWithoutAWord", gittest.Mood{Status: 429}, gitfetch.Auth{}, gitfetch.RateLimited, false, false},
		{"LimitedAsGitHubSays", gittest.Mood{Status: 403, Header: http.Header{"X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {reset}}}, ada, gitfetch.RateLimited, true, false},
		{"HostFails", gittest.Mood{Status: 503}, gitfetch.Auth{}, gitfetch.RepoFetchFailed, true, false},
		{"HostTalksNonsense", gittest.Mood{Status: 418}, gitfetch.Auth{}, gitfetch.RepoFetchFailed, false, false},
		{"PageInsteadOfARepository", gittest.Mood{Status: 203, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}}}, gitfetch.Auth{}, gitfetch.RepoNotFound, false, true},
		{"SignInPageToConnected", gittest.Mood{Status: 302, Header: http.Header{"Location": {"https://spsprodcus.vssps.visualstudio.com/_signin?x=y"}}}, ada, gitfetch.AuthFailed, false, false},
		{"SomethingElse", gittest.Mood{Status: 200, Header: http.Header{"Content-Type": {"text/plain"}}}, gitfetch.Auth{}, gitfetch.RepoFetchFailed, false, false},
		{"RedirectThatIsNoURL", gittest.Mood{Status: 301, Header: http.Header{"Location": {"http://[x"}}}, gitfetch.Auth{}, gitfetch.RepoFetchFailed, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
			b.server.Set("ada/app", tt.mood)
			_, err := b.fetcher.LsRemote(t.Context(), app, tt.auth)
			f := fails(t, err, tt.code)
			require.Equal(t, tt.retryable, f.Retryable)
			require.Equal(t, tt.private, strings.Contains(f.Message, "private"), f.Message)
			if f.Code == gitfetch.RateLimited && f.Retryable {
				require.NotZero(t, f.RetryAfter)
				require.LessOrEqual(t, f.RetryAfter, time.Minute)
			}
			require.NoDirExists(t, b.dir)
		})
	}
	t.Run("ABrokenConnectionDoesNotCloseWhatIsPublic", func(t *testing.T) {
		for _, status := range []int{401, 403, 404} {
			b := setup(t)
			b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
			b.server.Set("ada/app", gittest.Mood{Untaken: status})
			req := b.request()
			req.Auth = ada
			tree, err := b.fetcher.Fetch(t.Context(), req)
			require.NoError(t, err, status)
			require.Equal(t, map[string]string{"a": "1"}, read(t, tree))
			require.Contains(t, b.log.String(), "without the connected account")
			require.NotContains(t, b.log.String(), ada.Token)
		}
	})
	t.Run("NobodyAnswers", func(t *testing.T) {
		b := setup(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, listener.Close())
		b = b.with(t, gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: "http://" + listener.Addr().String()}}, nil)
		_, err = b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.True(t, fails(t, err, gitfetch.NetworkError).Retryable)
	})
	t.Run("UntrustedCertificate", func(t *testing.T) {
		b := setup(t)
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		defer server.Close()
		b = b.with(t, gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: server.URL}}, nil)
		_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.False(t, fails(t, err, gitfetch.NetworkError).Retryable)
	})
	t.Run("HostFailsInTheMiddle", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		b.server.Set("ada/app", gittest.Mood{FailPack: 1})
		_, err := b.fetcher.Fetch(t.Context(), b.request())
		require.True(t, fails(t, err, gitfetch.RepoFetchFailed).Retryable)
	})
}

func TestRedirects(t *testing.T) {
	serve := func(t *testing.T) bundle {
		t.Helper()
		b := setup(t)
		b.server.Create(t, "ada/renamed", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		return b
	}
	t.Run("RenamedRepositoryIsFollowed", func(t *testing.T) {
		b := serve(t)
		b.server.Set("ada/app", gittest.Mood{RedirectTo: "/ada/middle"})
		b.server.Set("ada/middle", gittest.Mood{RedirectTo: "/ada/renamed"})
		b.server.Set("ada/renamed", gittest.Mood{User: "x-access-token", Password: "tok"})
		req := b.request()
		req.Auth.Token = "tok"
		tree, err := b.fetcher.Fetch(t.Context(), req)
		require.NoError(t, err)
		require.Len(t, tree.Files, 1)
	})
	t.Run("LoopIsLeft", func(t *testing.T) {
		b := serve(t)
		b.server.Set("ada/app", gittest.Mood{RedirectTo: "/ada/app"})
		_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.Equal(t, "The repository redirects too often.", fails(t, err, gitfetch.RepoFetchFailed).Message)
		require.Len(t, b.server.Requests(), 4)
	})
	t.Run("ForeignHostIsNotContacted", func(t *testing.T) {
		b, foreign := serve(t), gittest.New(t)
		for _, target := range []string{foreign.URL + "/ada/app", "https://gitlab.com/ada/app", "https://github.com/ada/app", "https://u:p@" + strings.TrimPrefix(b.server.URL, "http://") + "/a/b", b.server.URL + "/a/../b%2e"} {
			b.server.Set("ada/app", gittest.Mood{RedirectTo: target})
			_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{Token: "tok"})
			require.Contains(t, fails(t, err, gitfetch.RepoFetchFailed).Message, "redirects to an address", target)
		}
		require.Empty(t, foreign.Requests())
	})
	t.Run("GitItselfFollowsNone", func(t *testing.T) {
		b, foreign := serve(t), gittest.New(t)
		foreign.Create(t, "ada/renamed", gittest.On("main", gittest.Files{"a": gittest.Text("evil")}))
		b.server.Set("ada/renamed", gittest.Mood{RedirectTo: foreign.URL + "/ada/renamed", RedirectAfter: 1})
		req := b.request()
		req.URL = "https://github.com/ada/renamed"
		_, err := b.fetcher.Fetch(t.Context(), req)
		require.Error(t, err)
		require.Empty(t, foreign.Requests())
	})
	t.Run("CredentialsStayWithTheirHost", func(t *testing.T) {
		first, second := gittest.New(t), gittest.New(t)
		second.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		first.Set("ada/app", gittest.Mood{RedirectTo: "https://" + strings.TrimPrefix(second.URL, "http://") + "/ada/app"})
		b := bundle{server: first, log: new(buffer), dir: t.TempDir()}
		b = b.with(t, gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: first.URL},
			Extra: map[string]gitfetch.Provider{strings.TrimPrefix(second.URL, "http://"): gitfetch.GitHub}, AllowPrivate: true}, nil)
		_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{Token: "tok"})
		fails(t, err, gitfetch.NetworkError) // https to a plain server: contacted, but never with credentials
		require.Empty(t, second.Requests())
	})
}

// names answers like a DNS server with changing answers: each call gets the next list, and the last list is repeated.
type names struct {
	mu    sync.Mutex
	lists [][]netip.Addr
	calls []string
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, host)
	if len(n.lists) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	list := n.lists[0]
	if len(n.lists) > 1 {
		n.lists = n.lists[1:]
	}
	return slices.Clone(list), nil
}

func TestAddresses(t *testing.T) {
	addrs := func(texts ...string) []netip.Addr {
		list := make([]netip.Addr, len(texts))
		for i, text := range texts {
			list[i] = netip.MustParseAddr(text)
		}
		return list
	}
	t.Run("InternalAddressesAreRefused", func(t *testing.T) {
		for _, addr := range []string{"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
			"255.255.255.255", "198.18.0.1", "::1", "fe80::1", "fd00::1", "ff02::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "fe80::1%eth0"} {
			b := setup(t).with(t, gitfetch.HostConfig{}, &names{lists: [][]netip.Addr{addrs(addr)}})
			_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
			f := fails(t, err, gitfetch.RepoFetchFailed)
			require.Contains(t, f.Message, "internal network address", addr)
			require.NotContains(t, f.Message, "private", "the client would offer to connect an account")
		}
	})
	t.Run("OneInternalAddressSpoilsTheName", func(t *testing.T) {
		b := setup(t).with(t, gitfetch.HostConfig{}, &names{lists: [][]netip.Addr{addrs("140.82.112.3", "127.0.0.1")}})
		_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		fails(t, err, gitfetch.RepoFetchFailed)
	})
	t.Run("ConfigurationOpensInternalButNotLinkLocal", func(t *testing.T) {
		b := setup(t).with(t, gitfetch.HostConfig{AllowPrivate: true}, &names{lists: [][]netip.Addr{addrs("169.254.169.254")}})
		_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		require.Contains(t, fails(t, err, gitfetch.RepoFetchFailed).Message, "internal network address")
	})
	t.Run("GitUsesTheCheckedAddressAndAsksNoOther", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		_, port, err := net.SplitHostPort(strings.TrimPrefix(b.server.URL, "http://"))
		require.NoError(t, err)
		dns := &names{lists: [][]netip.Addr{addrs("127.0.0.1"), addrs("127.0.0.2")}} // the second answer leads nowhere
		b = b.with(t, gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: "http://git.kijko.invalid:" + port}}, dns)
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		require.Len(t, tree.Files, 1)
		require.Equal(t, []string{"git.kijko.invalid"}, dns.calls)
	})
	t.Run("UnknownNameIsANetworkError", func(t *testing.T) {
		b := setup(t).with(t, gitfetch.HostConfig{}, &names{})
		_, err := b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		fails(t, err, gitfetch.NetworkError)
		b = b.with(t, gitfetch.HostConfig{}, &names{lists: [][]netip.Addr{{}}})
		_, err = b.fetcher.LsRemote(t.Context(), app, gitfetch.Auth{})
		fails(t, err, gitfetch.NetworkError)
	})
	t.Run("UnlistedHostsAreNotEvenResolved", func(t *testing.T) {
		dns := &names{}
		b := setup(t).with(t, gitfetch.HostConfig{}, dns)
		for _, raw := range []string{"https://example.com/a/b", "https://evilgithub.com/a/b", "https://github.com.evil.com/a/b", "https://github.com:8443/a/b", "ftp://github.com/a/b",
			"file:///etc/passwd", "/etc/passwd", "ext::sh -c id", "https://u:p@github.com/a/b", "https://github.com/a/b?x", "https://github.com/", "https://github.com/a/../b", "https://github.com/a/%2e%2e/b",
			"https://github.com/a b/c", "http://127.0.0.1/a/b", "https://[::1]/a/b", "--upload-pack=x", ""} {
			_, err := b.fetcher.LsRemote(t.Context(), raw, gitfetch.Auth{})
			fails(t, err, gitfetch.RepoFetchFailed)
		}
		require.Empty(t, dns.calls)
	})
}

func TestNewHosts(t *testing.T) {
	t.Run("EveryFaultAtOnce", func(t *testing.T) {
		_, err := gitfetch.NewHosts(gitfetch.HostConfig{
			BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: "ftp://x", "gitea": "https://x", gitfetch.GitLab: "https://u:secret@x", gitfetch.Azure: ""},
			Extra:    map[string]gitfetch.Provider{"git.corp/path": gitfetch.GitLab, "git.corp": "gitea"},
		})
		for _, part := range []string{`"github"`, `"gitea"`, `"gitlab"`, `"git.corp/path"`, `"git.corp"`} {
			require.ErrorContains(t, err, part)
		}
		require.NotContains(t, err.Error(), "secret")
	})
	t.Run("EveryProviderOverOneBaseURL", func(t *testing.T) {
		b := setup(t)
		config := gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{}}
		for _, p := range []gitfetch.Provider{gitfetch.GitHub, gitfetch.GitLab, gitfetch.Bitbucket, gitfetch.Azure} {
			config.BaseURLs[p] = b.server.URL + "/base/"
		}
		b = b.with(t, config, nil)
		for raw, user := range map[string]string{"https://github.com/ada/app": "x-access-token", "https://gitlab.com/g/s/r": "oauth2",
			"https://bitbucket.org/w/r": "x-token-auth", "https://dev.azure.com/org/project/_git/repo": "kijko"} {
			u, err := url.Parse(raw)
			require.NoError(t, err)
			name := "base" + u.Path
			b.server.Create(t, name, gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
			b.server.Set(name, gittest.Mood{User: user, Password: "tok"})
			_, err = b.fetcher.LsRemote(t.Context(), raw, gitfetch.Auth{Token: "tok"})
			require.NoError(t, err, raw)
			// GitLab answers a repository's bare address with a redirect to its .git.
			b.server.Set(name, gittest.Mood{RedirectTo: "/base/moved"})
		}
	})
	t.Run("AzureTakesJWTsAsBearer", func(t *testing.T) {
		b := setup(t)
		b = b.with(t, gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.Azure: b.server.URL}}, nil)
		b.server.Set("o/p/_git/r", gittest.Mood{Status: 404})
		_, err := b.fetcher.LsRemote(t.Context(), "https://dev.azure.com/o/p/_git/r", gitfetch.Auth{Token: "a.b.c"})
		fails(t, err, gitfetch.RepoNotFound)
		require.Equal(t, "Bearer a.b.c", b.server.Requests()[0].Authorization)
	})
	t.Run("ExtraHostsAreSpokenToByHTTPS", func(t *testing.T) {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }))
		defer server.Close()
		host := strings.TrimPrefix(server.URL, "https://")
		hosts, err := gitfetch.NewHosts(gitfetch.HostConfig{Extra: map[string]gitfetch.Provider{host: gitfetch.GitLab}, AllowPrivate: true})
		require.NoError(t, err)
		ca := filepath.Join(t.TempDir(), "ca.pem")
		require.NoError(t, os.WriteFile(ca, gittest.PEM(server.Certificate()), 0o600))
		f, err := gitfetch.New(t.Context(), gitfetch.Options{Hosts: hosts, CAFile: ca})
		require.NoError(t, err)
		_, err = f.LsRemote(t.Context(), "http://"+host+"/a/b", gitfetch.Auth{})
		fails(t, err, gitfetch.PermissionDenied)
	})
}

func TestNew(t *testing.T) {
	hosts, err := gitfetch.NewHosts(gitfetch.HostConfig{})
	require.NoError(t, err)
	script := func(t *testing.T, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "git")
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
		return path
	}
	junk := filepath.Join(t.TempDir(), "junk.pem")
	require.NoError(t, os.WriteFile(junk, []byte("x"), 0o600))
	for name, tt := range map[string]struct {
		options gitfetch.Options
		fault   string
	}{
		"WithoutHosts":        {gitfetch.Options{}, "Hosts is missing"},
		"WithoutGit":          {gitfetch.Options{Hosts: hosts, Git: "no-such-git"}, "install git 2.39 or later"},
		"OldGit":              {gitfetch.Options{Hosts: hosts, Git: script(t, "echo git version 2.38.1")}, "git 2.38 is too old"},
		"SomethingElse":       {gitfetch.Options{Hosts: hosts, Git: script(t, "echo hello")}, `git says "hello"`},
		"FailingGit":          {gitfetch.Options{Hosts: hosts, Git: script(t, "exit 1")}, "ask git for its version"},
		"UnreadableAuthority": {gitfetch.Options{Hosts: hosts, CAFile: "/nowhere.pem"}, "read certificate authorities"},
		"EmptyAuthority":      {gitfetch.Options{Hosts: hosts, CAFile: junk}, "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := gitfetch.New(t.Context(), tt.options)
			require.ErrorContains(t, err, tt.fault)
		})
	}
}

func TestCredentials(t *testing.T) {
	const token = "t0k3n-very-secret"
	coded := base64.StdEncoding.EncodeToString([]byte("ada:" + token))
	auth := gitfetch.Auth{Username: "ada", Token: token}
	t.Run("TheyOpenAPrivateRepository", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		b.server.Set("ada/app", gittest.Mood{User: "ada", Password: token})
		req := b.request()
		req.Auth, req.History = auth, true
		_, err := b.fetcher.Fetch(t.Context(), req)
		require.NoError(t, err)
		for _, r := range b.server.Requests() {
			require.Equal(t, "Basic "+coded, r.Authorization)
		}
		require.NoError(t, filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			require.NotContains(t, string(data), token, path)
			require.NotContains(t, string(data), coded, path)
			return err
		}))
	})
	t.Run("NoErrorOrLogShowsThem", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1")}))
		for _, mood := range []gittest.Mood{{User: "x", Password: "y"}, {FailPack: 1}, {CutAfter: 1}, {Message: "your token is " + token + " or " + coded, FailPack: 1}, {Status: 500}} {
			b.server.Set("ada/app", mood)
			req := b.request()
			req.Auth = auth
			_, err := b.fetcher.Fetch(t.Context(), req)
			require.Error(t, err)
			for e := err; e != nil; e = errors.Unwrap(e) {
				require.NotContains(t, fmt.Sprintf("%v %+v", e, e), token)
				require.NotContains(t, e.Error(), coded)
			}
		}
		require.NotContains(t, b.log.String(), token)
		require.NotContains(t, b.log.String(), coded)
		require.Contains(t, b.log.String(), "git failed")
	})
	t.Run("NoPrintShowsThem", func(t *testing.T) {
		for _, text := range []string{fmt.Sprint(auth), fmt.Sprintf("%v %+v %#v %s", auth, auth, auth, auth), fmt.Sprintf("%+v", gitfetch.Request{Auth: auth}), auth.LogValue().String()} {
			require.NotContains(t, text, token)
		}
		require.Equal(t, "anonymous", fmt.Sprint(gitfetch.Auth{}))
	})
}

func TestCancel(t *testing.T) {
	hold := func(t *testing.T) (bundle, chan struct{}) {
		t.Helper()
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a": gittest.Text("1"), "b": gittest.Text(noise(1 << 20))}))
		release := make(chan struct{})
		b.server.Set("ada/app", gittest.Mood{Hold: release})
		return b, release
	}
	t.Run("KillsEveryProcessWithinASecond", func(t *testing.T) {
		b, _ := hold(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := b.fetcher.Fetch(ctx, b.request())
			done <- err
		}()
		require.Eventually(t, func() bool { return b.server.Holding() == 1 }, 10*time.Second, 5*time.Millisecond)
		require.NotEmpty(t, processesIn(b.dir), "the test must see git while it runs")
		cancel()
		err := <-done // the host never goes on, so only the kill ends this
		require.ErrorIs(t, err, context.Canceled)
		_, ok := gitfetch.AsFailure(err)
		require.False(t, ok, "a cancelled fetch has not failed")
		require.Eventually(t, func() bool { return len(processesIn(b.dir)) == 0 }, 10*time.Second, 5*time.Millisecond)
		require.Eventually(t, func() bool { return b.server.Holding() == 0 }, 5*time.Second, 5*time.Millisecond)
	})
	t.Run("AfterwardsTheSameDirectoryWorks", func(t *testing.T) {
		b, release := hold(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := b.fetcher.Fetch(ctx, b.request())
			done <- err
		}()
		require.Eventually(t, func() bool { return b.server.Holding() == 1 }, 10*time.Second, 5*time.Millisecond)
		cancel()
		require.Error(t, <-done)
		close(release)
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		require.Len(t, tree.Files, 2)
	})
	t.Run("HalfAFileIsNoFile", func(t *testing.T) {
		b := setup(t)
		b.server.Create(t, "ada/app", gittest.On("main", gittest.Files{"big": gittest.Text(noise(3 << 20))}))
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var readErr error
		err = tree.Blobs(ctx, tree.Files, func(_ gitfetch.File, r io.Reader) error {
			_, err := io.ReadFull(r, make([]byte, 10))
			require.NoError(t, err)
			cancel()
			require.Eventually(t, func() bool { return len(processesIn(b.dir)) == 0 }, 10*time.Second, 5*time.Millisecond)
			_, readErr = io.Copy(io.Discard, r)
			return readErr
		})
		require.Error(t, readErr)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("GitDiesWithTheWorker", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("the test looks for processes in /proc")
		}
		b, _ := hold(t)
		worker := exec.Command(os.Args[0], "-test.run=^TestWorkerToBeKilled$")
		worker.Env = append(os.Environ(), "KIJKO_TEST_HOST="+b.server.URL, "KIJKO_TEST_DIR="+b.dir)
		require.NoError(t, worker.Start())
		require.Eventually(t, func() bool { return b.server.Holding() == 1 }, 20*time.Second, 5*time.Millisecond)
		require.NotEmpty(t, processesIn(b.dir))
		require.NoError(t, worker.Process.Kill())
		_ = worker.Wait()
		require.Eventually(t, func() bool { return len(processesIn(b.dir)) == 0 }, 10*time.Second, 5*time.Millisecond)
	})
	t.Run("StreamOfBlobsStops", func(t *testing.T) {
		b, release := hold(t)
		close(release)
		tree, err := b.fetcher.Fetch(t.Context(), b.request())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		err = tree.Blobs(ctx, tree.Files, func(gitfetch.File, io.Reader) error { cancel(); return ctx.Err() })
		require.ErrorIs(t, err, context.Canceled)
		_, err = b.fetcher.Fetch(ctx, b.request())
		require.ErrorIs(t, err, context.Canceled)
		_, _, err = b.fetcher.Open(ctx, b.dir, gitfetch.Limits{})
		require.ErrorIs(t, err, context.Canceled)
	})
}

// TestWorkerToBeKilled is the other process of GitDiesWithTheWorker; run as a test of its own it does nothing.
func TestWorkerToBeKilled(t *testing.T) {
	host, dir := os.Getenv("KIJKO_TEST_HOST"), os.Getenv("KIJKO_TEST_DIR")
	if host == "" {
		return
	}
	b := bundle{log: new(buffer), dir: dir}.with(t, gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: host}}, nil)
	_, err := b.fetcher.Fetch(t.Context(), b.request())
	require.NoError(t, err)
}

// processesIn lists living processes whose environment names the directory as git's.
func processesIn(dir string) []string {
	var found []string
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte("GIT_DIR="+dir)) {
			found = append(found, path)
		}
	}
	return found
}

func BenchmarkBlobs(b *testing.B) {
	bundle := setup(b)
	files := gittest.Files{}
	for i := range 2000 {
		files[fmt.Sprintf("d%d/f%d.go", i%50, i)] = gittest.Text(strings.Repeat(fmt.Sprintf("line %d\n", i), 800))
	}
	bundle.server.Create(b, "ada/app", gittest.On("main", files))
	tree, err := bundle.fetcher.Fetch(b.Context(), bundle.request())
	require.NoError(b, err)
	b.SetBytes(tree.Bytes)
	for b.Loop() {
		require.NoError(b, tree.Blobs(b.Context(), tree.Files, func(_ gitfetch.File, r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		}))
	}
}
