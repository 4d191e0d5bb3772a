//go:build peers

package connections

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// browser is ada's browser, signed in at Gitea.
type browser struct {
	t *testing.T
	http.Client
	g *peers.Gitea
}

func signIn(t *testing.T, g *peers.Gitea) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	b := &browser{t: t, g: g, Client: http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	r, _ := b.do("POST", g.URL+"/user/login", url.Values{"user_name": {g.User}, "password": {g.Password}})
	require.Equal(t, http.StatusSeeOther, r.StatusCode)
	return b
}

func (b *browser) do(method, address string, form url.Values) (*http.Response, string) {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, address, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r, err := b.Do(request)
	require.NoError(b.t, err)
	text, err := io.ReadAll(r.Body)
	require.NoError(b.t, errors.Join(err, r.Body.Close()))
	return r, string(text)
}

// ada consents: the form is shown, or was answered before, and the browser is redirected back.
func ada(t *testing.T, g *peers.Gitea, authURL string) (code, state string) {
	t.Helper()
	b := signIn(t, g)
	r, page := b.do("GET", authURL, nil)
	if r.StatusCode == http.StatusOK {
		form := url.Values{"granted": {"true"}}
		for _, field := range hidden.FindAllStringSubmatch(page, -1) {
			form.Set(field[1], html.UnescapeString(field[2]))
		}
		r, page = b.do("POST", g.URL+"/login/oauth/grant", form)
	}
	require.Equal(t, http.StatusSeeOther, r.StatusCode, page)
	back, err := r.Location()
	require.NoError(t, err)
	require.Equal(t, "http://kijko.test/api/v1/oauth/callback/github", back.Scheme+"://"+back.Host+back.Path)
	return back.Query().Get("code"), back.Query().Get("state")
}

// withdraw revokes the consent in ada's settings.
func withdraw(t *testing.T, g *peers.Gitea) {
	t.Helper()
	b := signIn(t, g)
	_, page := b.do("GET", g.URL+"/user/settings/applications", nil)
	found := regexp.MustCompile(`/user/settings/applications/oauth2/\d+/revoke/\d+`).FindString(page)
	require.NotEmpty(t, found)
	r, text := b.do("POST", g.URL+found, url.Values{})
	require.Equal(t, http.StatusOK, r.StatusCode, text)
}

func TestGiteaIsConnectedReadAndIngested(t *testing.T) {
	g := peers.NewGitea(t)
	const number = 57
	for i := range number {
		g.Call(t, http.MethodPost, "/user/repos", map[string]any{"name": fmt.Sprintf("repo-%02d", i), "private": i%2 == 1}, nil)
	}
	for name, private := range map[string]bool{"open": false, "closed": true} {
		g.Call(t, http.MethodPost, "/user/repos", map[string]any{"name": name, "private": private, "auto_init": true, "default_branch": "trunk", "description": "Of " + name}, nil)
		g.Call(t, http.MethodPost, "/repos/ada/"+name+"/contents/src/a.go", map[string]any{"message": "second",
			"content": base64.StdEncoding.EncodeToString([]byte("package a\n\nfunc A() {}\n"))}, nil)
		g.Call(t, http.MethodPost, "/repos/ada/"+name+"/branches", map[string]any{"new_branch_name": "feature/x"}, nil)
	}
	var app struct {
		ID     int64  `json:"id"`
		Client string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	g.Call(t, http.MethodPost, "/user/applications/oauth2", map[string]any{"name": "Kijko", "confidential_client": true,
		"redirect_uris": []string{"http://kijko.test/api/v1/oauth/callback/github"}}, &app)
	s := stack.New(t, func(c *config.Config) {
		c.GitHub, c.GitHubAPI, c.GitHubID, c.GitHubSecret, c.GitHubScopes = g.URL, g.URL+"/api/v1", app.Client, app.Secret, []string{"read:user", "read:repository"}
	})
	worker.Start(t, s)
	anna, ben := s.SignUp("Anna"), s.SignUp("Ben")
	begin := func(t *testing.T) (code, state string) {
		t.Helper()
		return ada(t, g, anna.In(t).Do("POST", "/oauth/connect/github", nil).Want(200).String("authUrl"))
	}
	closed := "https://github.com/ada/closed"
	ingest := func(t *testing.T, id string) client.Response {
		t.Helper()
		anna.In(t).Do("POST", "/projects/"+id+"/ingest", map[string]any{"forceReprocess": true, "skipValidation": true}).Want(202)
		return ended(t, anna, id)
	}

	t.Run("ACodeThatIsFalseIsRefused", func(t *testing.T) {
		_, state := begin(t)
		anna.In(t).Do("POST", "/oauth/callback", map[string]string{"provider": "github", "code": "false", "state": state}).Problem(400, "OAUTH_STATE_INVALID")
		anna.In(t).Get("/oauth/connections").Want(200).Equal([]any{})
	})
	t.Run("WithoutAConnectionPrivateThingsStayHidden", func(t *testing.T) {
		require.Contains(t, anna.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": closed}).Want(200).String("error"), "private")
		anna.In(t).Get("/repositories/branches?url="+closed).Problem(403, "NOT_AUTHENTICATED")
		anna.In(t).Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	})
	t.Run("TheBrowserConnectsIt", func(t *testing.T) {
		code, state := begin(t)
		status, page, _ := open(t, s.BaseURL+"/api/v1/oauth/callback/github?"+url.Values{"code": {code}, "state": {state}}.Encode())
		require.Equal(t, 200, status)
		require.Contains(t, page, `data-success="true"`)
		list := client.JSON[[]map[string]any](anna.In(t).Get("/oauth/connections").Want(200))
		require.Equal(t, "ada", list[0]["username"])
		require.Equal(t, []any{"read:user", "read:repository"}, list[0]["scope"], "Gitea names no scopes: those asked for were given")
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*) from private.provider_tokens where expires_at between now() + interval '50 minutes' and now() + interval '61 minutes'"))
	})
	t.Run("AllPagesAreRead", func(t *testing.T) {
		all := client.JSON[batch](anna.In(t).Get("/repositories/batch?provider=github").Want(200))
		require.Len(t, all.Repositories, number+2)
		require.Equal(t, number+2, all.Total)
		require.Equal(t, "trunk", all.Repositories[0].DefaultBranch, "the last two to change come first")
		found := client.JSON[batch](anna.In(t).Get("/repositories/batch?provider=github&search=CLOSED").Want(200))
		require.Equal(t, 1, found.Total)
		require.Equal(t, "ada/closed", found.Repositories[0].FullName)
	})
	t.Run("RepositoriesAreChecked", func(t *testing.T) {
		r := anna.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": closed}).Want(200)
		for name, want := range map[string]any{"fullName": "ada/closed", "defaultBranch": "trunk", "isPrivate": true, "fileCount": 2.0, "commitsPerMonth": 2.0,
			"description": "Of closed", "stars": 0.0} {
			require.Equal(t, want, r.Value("info."+name), "%s: %s", name, r.Body)
		}
		require.Equal(t, true, ben.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": "https://github.com/ada/open"}).Want(200).Value("valid"), "open ones without a connection")
		empty := anna.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": "https://github.com/ada/repo-01"}).Want(200)
		require.Equal(t, 0.0, empty.Value("info.fileCount"), "%s", empty.Body)
		require.Equal(t, "Unknown", empty.Value("info.primaryLanguage"))
		require.NotContains(t, anna.In(t).Do("POST", "/repositories/validate-full", map[string]any{"url": "https://github.com/ada/missing"}).Want(200).String("error"), "private")
	})
	t.Run("BranchesAreListed", func(t *testing.T) {
		anna.In(t).Get("/repositories/branches?url=" + closed).Want(200).Equal(map[string]any{"branches": []string{"trunk", "feature/x"}, "defaultBranch": "trunk"})
		ben.In(t).Get("/repositories/branches?url="+closed).Problem(403, "NOT_AUTHENTICATED")
	})
	id := project(t, anna, "Closed", closed)
	t.Run("APrivateRepositoryIsIngested", func(t *testing.T) {
		require.Nil(t, ingest(t, id).Value("errorCode"))
	})
	t.Run("TheTokenIsRenewed", func(t *testing.T) {
		s.DB.Exec("update private.provider_tokens set expires_at = now()")
		require.Nil(t, ingest(t, id).Value("errorCode"))
		require.Equal(t, 2, testdb.Value[int](s.DB, "select version from private.provider_tokens"))
	})
	connected := func(t *testing.T) any {
		t.Helper()
		return client.JSON[[]map[string]any](anna.In(t).Get("/oauth/connections"))[0]["connected"]
	}
	t.Run("ThePersonWithdrawsIt", func(t *testing.T) {
		withdraw(t, g)
		require.Equal(t, "AUTH_FAILED", ingest(t, id).Value("errorCode"))
		require.Equal(t, false, connected(t))
		anna.In(t).Get("/repositories/batch?provider=github").Problem(403, "NOT_AUTHENTICATED")
	})
	t.Run("TheOperatorLosesTheApplication", func(t *testing.T) {
		code, state := begin(t)
		anna.In(t).Do("POST", "/oauth/callback", map[string]string{"provider": "github", "code": code, "state": state}).Want(200)
		g.Call(t, http.MethodDelete, fmt.Sprintf("/user/applications/oauth2/%d", app.ID), nil, nil)
		failed := ingest(t, id)
		require.Equal(t, "INVALID_CREDENTIALS", failed.Value("errorCode"))
		require.Contains(t, failed.String("errorMessage"), "operator")
		require.Equal(t, true, connected(t), "no connection is at fault")
		anna.In(t).Get("/repositories/batch?provider=github").Problem(502, "PROVIDER_ERROR")
	})
	t.Run("DisconnectingForgetsWhatCannotBeGivenBack", func(t *testing.T) {
		anna.In(t).Do("DELETE", "/oauth/disconnect/github", nil).Want(200)
		require.Eventually(t, func() bool { return testdb.Value[int](s.DB, "select count(*) from private.provider_tokens") == 0 }, 20*time.Second, 20*time.Millisecond)
	})
}
