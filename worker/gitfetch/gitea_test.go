//go:build peers

package gitfetch_test

import (
	"encoding/base64"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/peers"
	"kijko/worker/gitfetch"
)

func TestGitea(t *testing.T) {
	g := peers.NewGitea(t)
	for name, private := range map[string]bool{"open": false, "closed": true, "empty": false, "old": false} {
		g.Call(t, http.MethodPost, "/user/repos", map[string]any{"name": name, "private": private, "auto_init": name != "empty", "default_branch": "trunk",
			"readme": "Default"}, nil)
	}
	g.Call(t, http.MethodPost, "/repos/ada/closed/contents/src/a.go", map[string]any{"content": base64.StdEncoding.EncodeToString([]byte("package a\n")),
		"message": "second"}, nil)
	g.Call(t, http.MethodPatch, "/repos/ada/old", map[string]any{"name": "new"}, nil)
	reading := gitfetch.Auth{Token: g.Token(t, "reading", "read:repository")}
	mailing := gitfetch.Auth{Token: g.Token(t, "mailing", "read:notification")}
	wrong := gitfetch.Auth{Token: "0123456789012345678901234567890123456789"}

	b := setup(t).with(t, gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: g.URL}}, nil)
	for name, c := range map[string]struct {
		repository string
		auth       gitfetch.Auth
		code       gitfetch.Code // "" for success
		files      []string
	}{
		"PublicToAnonymous":             {"open", gitfetch.Auth{}, "", []string{"README.md"}},
		"PublicToConnected":             {"open", reading, "", []string{"README.md"}},
		"PublicToABrokenConnection":     {"open", wrong, "", []string{"README.md"}},
		"PublicToAnotherScope":          {"open", mailing, "", []string{"README.md"}},
		"PrivateToConnected":            {"closed", reading, "", []string{"README.md", "src/a.go"}},
		"PrivateToAnonymous":            {"closed", gitfetch.Auth{}, gitfetch.RepoNotFound, nil},
		"PrivateToABrokenConnection":    {"closed", wrong, gitfetch.AuthFailed, nil},
		"PrivateToAnotherScope":         {"closed", mailing, gitfetch.PermissionDenied, nil},
		"MissingToConnected":            {"missing", reading, gitfetch.RepoNotFound, nil},
		"RenamedIsFollowed":             {"old", gitfetch.Auth{}, "", []string{"README.md"}},
		"RenamedIsFollowedForConnected": {"old", reading, "", []string{"README.md"}},
		"Empty":                         {"empty", gitfetch.Auth{}, gitfetch.InvalidFormat, nil},
	} {
		t.Run(name, func(t *testing.T) {
			req := gitfetch.Request{URL: "https://github.com/ada/" + c.repository, Branch: "main", Auth: c.auth, Dir: filepath.Join(t.TempDir(), "repo"), History: true}
			tree, err := b.fetcher.Fetch(t.Context(), req)
			if c.code != "" {
				fails(t, err, c.code)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "trunk", tree.Branch)
			require.True(t, tree.FellBack)
			var paths []string
			for _, f := range tree.Files {
				paths = append(paths, f.Path)
			}
			require.Equal(t, c.files, paths)
			require.Len(t, read(t, tree), len(c.files))
		})
	}
}
