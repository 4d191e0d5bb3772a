package gitfetch_test

import (
	"context"
	"io"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch"
	"kijko/worker/gitfetch/gittest"
)

func newFetcher(t testing.TB, s *gittest.Server) *gitfetch.Fetcher {
	t.Helper()
	hosts, err := gitfetch.NewHosts(gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: s.URL}})
	require.NoError(t, err)
	f, err := gitfetch.New(context.Background(), gitfetch.Options{Hosts: hosts, TempDir: t.TempDir()})
	require.NoError(t, err)
	return f
}

func TestSmoke(t *testing.T) {
	s := gittest.New(t)
	s.Create(t, "ada/app", gittest.On("main", gittest.Files{"a.go": gittest.Text("package a\n"), "d/ü.sh": gittest.Executable("x"), "l": gittest.Symlink("/etc/passwd"), "sub": gittest.Submodule()}))
	f := newFetcher(t, s)
	r, err := f.LsRemote(t.Context(), "https://github.com/ada/app", gitfetch.Auth{})
	require.NoError(t, err)
	t.Log(r)
	tree, err := f.Fetch(t.Context(), gitfetch.Request{URL: "https://github.com/ada/app", Branch: "main", Dir: filepath.Join(t.TempDir(), "x"), History: true, Progress: func(p gitfetch.Progress) { t.Log(p) }})
	if err != nil {
		if f, ok := gitfetch.AsFailure(err); ok {
			t.Log(f.Unwrap())
		}
	}
	require.NoError(t, err)
	t.Logf("%+v", tree)
	require.NoError(t, tree.Blobs(t.Context(), tree.Files, func(f gitfetch.File, r io.Reader) error {
		b, err := io.ReadAll(r)
		t.Logf("%s %q", f.Path, b)
		return err
	}))
	c, err := tree.LastChanges(t.Context())
	require.NoError(t, err)
	t.Log(c)
	t.Log(s.Requests())
}
