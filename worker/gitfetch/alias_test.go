package gitfetch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/worker/gitfetch"
	"kijko/worker/gitfetch/gittest"
)

func TestAnAliasIsContactedAtItsPlace(t *testing.T) {
	server := gittest.New(t)
	server.Create(t, "ada/app", gittest.On("main", gittest.Files{"a.go": gittest.Text("package a")}))
	config := gitfetch.HostConfig{Extra: map[string]gitfetch.Provider{"git.example.nl": gitfetch.GitLab},
		Aliases: map[string]string{"git.example.nl": server.URL}}
	hosts, err := gitfetch.NewHosts(config)
	require.NoError(t, err)
	fetcher, err := gitfetch.New(t.Context(), gitfetch.Options{Hosts: hosts, TempDir: t.TempDir()})
	require.NoError(t, err)
	remote, err := fetcher.LsRemote(t.Context(), "https://git.example.nl/ada/app", gitfetch.Auth{})
	require.NoError(t, err)
	require.Equal(t, "main", remote.DefaultBranch)

	config.Aliases["git.example.nl"] = "ftp://nowhere"
	_, err = gitfetch.NewHosts(config)
	require.ErrorContains(t, err, "git.example.nl")
}
