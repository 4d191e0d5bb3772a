// Package connections tests accounts at Git providers, discovery and directories over HTTP. The provider is a double of GitHub's documented
// shapes, in front of real Git repositories. gitea_test.go runs the same against a real Gitea.
package connections

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/worker/gitfetch/gittest"
)

const clientID, clientSecret = "kijko-test", "a secret of the application"

// hub is a double of the parts of GitHub that are used here: consent, API and repositories.
type hub struct {
	URL string
	Git *gittest.Server

	mu sync.Mutex
	// codes by the grant that each belongs to.
	codes map[string]url.Values
	// access tokens with their logins, and refresh tokens.
	access, refresh map[string]string
	revoked         []string
	asked           map[string]int
	number          int
	// life is the lifetime of access tokens; 0: unlimited, and no refresh token.
	life time.Duration
	// repositories that each account lists.
	repositories []map[string]any
	private      map[string]bool
	// instead answers in place of the provider, where it returns true.
	instead func(w http.ResponseWriter, r *http.Request) bool
	scope   string
	// turning blocks a refresh until the channel is closed.
	turning chan struct{}
}

func newHub(t testing.TB) *hub {
	t.Helper()
	h := &hub{Git: gittest.New(t), codes: map[string]url.Values{}, access: map[string]string{}, refresh: map[string]string{}, asked: map[string]int{},
		private: map[string]bool{}, scope: "repo,read:user"}
	behind, err := url.Parse(h.Git.URL)
	require.NoError(t, err)
	git := httputil.NewSingleHostReverseProxy(behind)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login/oauth/access_token", h.token)
	mux.HandleFunc("GET /api/v3/user", h.user)
	mux.HandleFunc("GET /api/v3/user/repos", h.list)
	mux.HandleFunc("GET /api/v3/repos/{owner}/{name}", h.repository)
	mux.HandleFunc("GET /api/v3/repos/{owner}/{name}/languages", h.fact(`{"Go": 4000, "SQL": 36020}`))
	mux.HandleFunc("GET /api/v3/repos/{owner}/{name}/commits", h.commits)
	mux.HandleFunc("GET /api/v3/repos/{owner}/{name}/git/trees/{branch}",
		h.fact(`{"tree": [{"path": "a", "type": "tree"}, {"path": "a/b", "type":"blob"}, {"path": "c", "type": "blob"}], "truncated": false}`))
	mux.HandleFunc("DELETE /api/v3/applications/{id}/token", h.revoke)
	mux.Handle("/", git)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.asked[r.Method+" "+r.URL.Path]++
		instead := h.instead
		h.mu.Unlock()
		if instead != nil && instead(w, r) {
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.URL = server.URL
	return h
}

// do runs f alone.
func (h *hub) do(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *hub) count(call string) (n int) {
	h.do(func() { n = h.asked[call] })
	return n
}

// fail makes the provider answer a path with a failure until the end of the test.
func (h *hub) fail(t testing.TB, path string, answer http.HandlerFunc) {
	h.do(func() {
		h.instead = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, path) {
				return false
			}
			answer(w, r)
			return true
		}
	})
	t.Cleanup(func() { h.do(func() { h.instead = nil }) })
}

// settings are those of an installation that is registered with this provider.
func (h *hub) settings(c *config.Config) {
	c.GitHub, c.GitHubID, c.GitHubSecret, c.GitAllowPrivate = h.URL, clientID, clientSecret, true
	c.GitRedirects, c.Origins = []string{"https://app.kijko.test/connected"}, append(c.Origins, "https://app.kijko.test")
}

// consent acts as a person's browser: it follows the redirect, consents as login, and gives the parameters of the redirect back.
func (h *hub) consent(t testing.TB, authURL, login string) (code, state string) {
	t.Helper()
	u, err := url.Parse(authURL)
	require.NoError(t, err)
	require.Equal(t, h.URL+"/login/oauth/authorize", u.Scheme+"://"+u.Host+u.Path)
	q := u.Query()
	require.Equal(t, clientID, q.Get("client_id"))
	require.Equal(t, "code", q.Get("response_type"))
	require.Equal(t, "S256", q.Get("code_challenge_method"))
	require.NotEmpty(t, q.Get("code_challenge"))
	require.NotContains(t, authURL, clientSecret)
	q.Set("login", login)
	h.do(func() {
		h.number++
		code = "code-" + strconv.Itoa(h.number)
		h.codes[code] = q
	})
	return code, q.Get("state")
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (h *hub) token(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("client_id") != clientID || r.FormValue("client_secret") != clientSecret {
		answer(w, 200, map[string]string{"error": "incorrect_client_credentials"})
		return
	}
	login := ""
	h.mu.Lock()
	if r.FormValue("grant_type") == "refresh_token" {
		old := r.FormValue("refresh_token")
		login = h.refresh[old]
		delete(h.refresh, old) // a second use is refused, as at GitLab
		for token, of := range h.access {
			if of == login {
				delete(h.access, token)
			}
		}
		turning := h.turning
		h.mu.Unlock()
		if turning != nil {
			<-turning
		}
		h.mu.Lock()
	} else if q := h.codes[r.FormValue("code")]; q != nil {
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		if q.Get("code_challenge") == base64.RawURLEncoding.EncodeToString(sum[:]) && q.Get("redirect_uri") == r.FormValue("redirect_uri") {
			login = q.Get("login")
			delete(h.codes, r.FormValue("code"))
		}
	}
	defer h.mu.Unlock()
	if login == "" {
		code := "bad_verification_code"
		if r.FormValue("grant_type") == "refresh_token" {
			code = "bad_refresh_token"
		}
		answer(w, 200, map[string]string{"error": code})
		return
	}
	h.number++
	token := fmt.Sprintf("secret-access-%s-%d", login, h.number)
	h.access[token] = login
	// Repositories that need a connection are open to the newest token.
	for name := range h.private {
		h.Git.Set(name, gittest.Mood{User: "x-access-token", Password: token})
	}
	body := map[string]any{"access_token": token, "token_type": "bearer", "scope": h.scope}
	if h.life > 0 {
		refresh := fmt.Sprintf("secret-refresh-%s-%d", login, h.number)
		h.refresh[refresh] = login
		body["refresh_token"], body["expires_in"] = refresh, int(h.life/time.Second)
	}
	answer(w, 200, body)
}

// who gives the login of a request's token. It refuses an unknown token, and a missing one where must is set.
func (h *hub) who(w http.ResponseWriter, r *http.Request, must bool) (login string, ok bool) {
	token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	h.do(func() { login = h.access[token] })
	if login == "" && (given || must) {
		answer(w, 401, map[string]string{"message": "Bad credentials"})
		return "", false
	}
	return login, true
}

func (h *hub) user(w http.ResponseWriter, r *http.Request) {
	if login, ok := h.who(w, r, true); ok {
		answer(w, 200, map[string]any{"id": len(login) + 100, "login": login, "avatar_url": "https://avatars.example/" + login})
	}
}

// list gives at most 50 a page, whatever the request asks for, as Gitea does.
func (h *hub) list(w http.ResponseWriter, r *http.Request) {
	if _, ok := h.who(w, r, true); !ok {
		return
	}
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	page = max(page, 1)
	h.mu.Lock()
	all := slices.Clone(h.repositories)
	h.mu.Unlock()
	from := min((page-1)*50, len(all))
	to := min(from+50, len(all))
	if to < len(all) {
		w.Header().Set("Link", fmt.Sprintf(`<%s/api/v3/user/repos?page=%d>; rel="next", <%s/api/v3/user/repos?page=9>; rel="last"`, h.URL, page+1, h.URL))
	}
	answer(w, 200, all[from:to])
}

func (h *hub) repository(w http.ResponseWriter, r *http.Request) {
	login, ok := h.who(w, r, false)
	if !ok {
		return
	}
	name := r.PathValue("owner") + "/" + r.PathValue("name")
	h.mu.Lock()
	private, known := h.private[name]
	h.mu.Unlock()
	if !known || private && login == "" {
		answer(w, 404, map[string]string{"message": "Not Found"})
		return
	}
	answer(w, 200, map[string]any{"id": 7, "name": r.PathValue("name"), "full_name": name, "html_url": h.URL + "/" + name, "private": private,
		"default_branch": "main", "description": "A repository", "pushed_at": "2026-11-01T10:00:00Z", "stargazers_count": 42})
}

func (h *hub) commits(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", fmt.Sprintf(`<%s/x?page=2>; rel="next", <%s/x?per_page=1&page=17>; rel="last"`, h.URL, h.URL))
	answer(w, 200, []any{map[string]any{"sha": "1"}})
}

func (h *hub) fact(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(text))
	}
}

func (h *hub) revoke(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	var body struct {
		Token string `json:"access_token"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || id != clientID || secret != clientSecret || r.PathValue("id") != clientID {
		answer(w, 404, map[string]string{})
		return
	}
	h.do(func() {
		h.revoked = append(h.revoked, body.Token)
		delete(h.access, body.Token)
	})
	w.WriteHeader(http.StatusNoContent)
}

// start is an installation with the provider configured, and Anna, Ben (a member of Anna's organization) and Stan.
func start(t *testing.T, options ...stack.Option) (h *hub, s *stack.Stack, anna, ben, stan *client.Person) {
	t.Helper()
	h = newHub(t)
	s = stack.New(t, append([]stack.Option{h.settings}, options...)...)
	anna, ben, stan = s.SignUp("Anna"), s.SignUp("Ben"), s.SignUp("Stan")
	s.Join(anna, ben, "admin")
	return h, s, anna, ben, stan
}

// connect connects a person's account through a page of the frontend that sends code and state.
func (h *hub) connect(t testing.TB, p *client.Person, login string) client.Response {
	t.Helper()
	code, state := h.consent(t, p.Do("POST", "/oauth/connect/github", nil).Want(200).String("authUrl"), login)
	return p.Do("POST", "/oauth/callback", map[string]string{"provider": "github", "code": code, "state": state}).Want(200)
}

// cfg abbreviates the settings that an option changes.
type cfg = config.Config
