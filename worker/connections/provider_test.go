package connections_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/worker/connections"
	"kijko/worker/gitfetch"
)

// double answers in the form that a provider documents. {URL} in an answer is the double's own address.
type double struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string
	forms []url.Values
	basic []string
	// bodies are those of changes in JSON.
	bodies []string
}

type reply struct {
	status int
	header map[string]string
	body   string
}

func newDouble(t *testing.T, replies map[string]reply) *double {
	t.Helper()
	d := &double{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := r.Method + " " + r.URL.EscapedPath()
		d.mu.Lock()
		d.calls = append(d.calls, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		if r.Header.Get("Content-Type") == "application/json" {
			body, _ := io.ReadAll(r.Body)
			d.bodies = append(d.bodies, string(body))
		}
		if r.Method == http.MethodPost && r.ParseForm() == nil {
			id, _, _ := r.BasicAuth()
			d.forms, d.basic = append(d.forms, r.PostForm), append(d.basic, id)
		}
		d.mu.Unlock()
		found, ok := replies[call+"?"+r.URL.RawQuery]
		if !ok {
			found, ok = replies[call]
		}
		if !ok {
			found = reply{status: 404, body: `{"message": "404 Not Found"}`}
		}
		w.Header().Set("Content-Type", "application/json")
		for name, value := range found.header {
			w.Header().Set(name, strings.ReplaceAll(value, "{URL}", d.URL))
		}
		if found.status > 0 {
			w.WriteHeader(found.status)
		}
		_, _ = w.Write([]byte(strings.ReplaceAll(found.body, "{URL}", d.URL)))
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *double) asked(part string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Contains(strings.Join(d.calls, "\n"), part)
}

func providers(t *testing.T, provider, address string) *connections.Providers {
	t.Helper()
	app := connections.Application{ClientID: "id", ClientSecret: "secret", LoginURL: address + "/login"}
	if provider == "azure" {
		app.APIURL = address + "/profiles"
	}
	c := connections.Config{Applications: map[string]connections.Application{provider: app}, OktaURL: address, GraphURL: address + "/graph",
		Hosts: gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{}}}
	if provider != "okta" && provider != "azure_ad" {
		c.Hosts.BaseURLs[gitfetch.Provider(provider)] = address
	}
	p, err := connections.New(c)
	require.NoError(t, err)
	return p
}

func many(n int, item string) string {
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
}

func at(text string) time.Time {
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return moment
}

func number(n int) *int { return &n }

func TestProvidersAreReadByTheirDocumentedShapes(t *testing.T) {
	recent, old := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "2020-01-01T00:00:00Z"
	for name, c := range map[string]struct {
		replies map[string]reply
		account connections.Account
		lists   []connections.Repository
		path    string
		facts   connections.Facts
	}{
		"gitlab": {
			replies: map[string]reply{
				"GET /api/v4/user": {body: `{"id": 7, "username": "ada", "avatar_url": "https://gitlab.example/a.png"}`},
				"GET /api/v4/projects": {header: map[string]string{"Link": `<{URL}/api/v4/projects?page=2>; rel="next"`, "X-Total": "2"},
					body: `[{"id": 1, "path": "one", "path_with_namespace": "group/sub/one", "web_url": "https://gitlab.com/group/sub/one", "default_branch": "main",
						"visibility": "internal", "archived": true, "namespace": {"full_path": "group/sub"}, "last_activity_at": "2026-01-02T03:04:05.678Z"}]`},
				"GET /api/v4/projects?page=2": {body: `[{"id": 2, "path": "two", "path_with_namespace": "ada/two", "visibility": "public", "default_branch": null,
					"namespace": {"full_path": "ada"}, "last_activity_at": "2026-01-01T00:00:00Z"}]`},
				"GET /api/v4/projects/group%2Fsub%2Fone": {body: `{"id": 1, "default_branch": "main", "visibility": "private", "star_count": 3, "description": "One",
					"last_activity_at": "2026-01-02T03:04:05Z"}`},
				"GET /api/v4/projects/group%2Fsub%2Fone/languages":          {body: `{"Go": 60.5, "SQL": 39.5}`},
				"GET /api/v4/projects/group%2Fsub%2Fone/repository/commits": {header: map[string]string{"Link": `<{URL}/more>; rel="next"`}, body: many(100, `{"id": "a"}`)},
				"GET /more": {body: many(7, `{"id": "a"}`)},
				"GET /api/v4/projects/group%2Fsub%2Fone/repository/tree": {header: map[string]string{"Link": `<{URL}/tree2>; rel="next"`},
					body: `[{"id":"a","type":"blob","path":"a"},{"id":"b","type":"tree","path":"b"},{"id":"c","type":"blob","path":"b/c"}]`},
				"GET /tree2": {body: `[{"id":"d","type":"blob","path":"d"}]`},
			},
			account: connections.Account{ID: "7", Username: "ada", AvatarURL: "https://gitlab.example/a.png"},
			lists: []connections.Repository{{ID: "1", Name: "one", FullName: "group/sub/one", URL: "https://gitlab.com/group/sub/one", Owner: "group/sub", DefaultBranch: "main",
				Private: true, Archived: true, Updated: at("2026-01-02T03:04:05.678Z")},
				{ID: "2", Name: "two", FullName: "ada/two", Owner: "ada", Updated: at("2026-01-01T00:00:00Z")}},
			path: "group/sub/one",
			facts: connections.Facts{DefaultBranch: "main", Description: "One", Language: "Go", Private: true, Updated: at("2026-01-02T03:04:05Z"), Stars: number(3),
				Commits: 107, Files: 3, Lines: 600},
		},
		"bitbucket": {
			replies: map[string]reply{
				"GET /2.0/user":                   {body: `{"uuid": "{7}", "display_name": "Ada L", "nickname": "ada", "links": {"avatar": {"href": "https://bitbucket.example/a"}}}`},
				"GET /2.0/user/workspaces":        {body: `{"values": [{"workspace": {"slug": "one"}}], "next": "{URL}/2.0/user/workspaces?page=2"}`},
				"GET /2.0/user/workspaces?page=2": {body: `{"values": [{"workspace": {"slug": "two"}}]}`},
				"GET /2.0/repositories/one": {body: `{"values": [{"uuid": "{a}", "name": "A", "full_name": "one/a", "is_private": true, "updated_on": "2026-01-02T03:04:05.678901+00:00",
					"mainbranch": {"name": "main"}, "workspace": {"slug": "one"}, "links": {"html": {"href": "https://bitbucket.org/one/a"}}}],
					"next": "{URL}/2.0/repositories/one?page=2"}`},
				"GET /2.0/repositories/one?page=2": {body: `{"values": []}`},
				"GET /2.0/repositories/two":        {body: `{"values": [{"uuid": "{b}", "name": "B", "full_name": "two/b", "mainbranch": null, "workspace": {"slug": "two"}, "updated_on": "2026-01-01T00:00:00+00:00"}]}`},
				"GET /2.0/repositories/one/a": {body: `{"uuid": "{a}", "full_name": "one/a", "language": "go", "description": "Of A", "is_private": false,
					"mainbranch": {"name": "feature/x"}, "updated_on": "2026-01-02T03:04:05+00:00"}`},
				"GET /2.0/repositories/one/a/commits/feature%2Fx": {body: `{"values": [{"date": "` + recent + `"}, {"date": "` + recent + `"}, {"date": "` + old + `"}], "next": "{URL}/never"}`},
				"GET /2.0/repositories/one/a/src/feature%2Fx/":    {body: `{"values": [{"type": "commit_file", "size": 400}, {"type": "commit_directory"}], "next": "{URL}/files2"}`},
				"GET /files2": {body: `{"values": [{"type": "commit_file", "size": 3600}]}`},
			},
			account: connections.Account{ID: "{7}", Username: "ada", AvatarURL: "https://bitbucket.example/a"},
			lists: []connections.Repository{{ID: "{a}", Name: "A", FullName: "one/a", URL: "https://bitbucket.org/one/a", Owner: "one", DefaultBranch: "main", Private: true,
				Updated: at("2026-01-02T03:04:05.678901Z")}, {ID: "{b}", Name: "B", FullName: "two/b", Owner: "two", Updated: at("2026-01-01T00:00:00Z")}},
			path:  "one/a",
			facts: connections.Facts{DefaultBranch: "feature/x", Description: "Of A", Language: "go", Updated: at("2026-01-02T03:04:05Z"), Commits: 2, Files: 2, Lines: 100},
		},
		"azure": {
			replies: map[string]reply{
				"GET /profiles/_apis/profile/profiles/me": {body: `{"id": "7", "displayName": "Ada", "emailAddress": "ada@example.nl"}`},
				"GET /profiles/_apis/accounts":            {body: `{"value": [{"accountName": "two"}, {"accountName": "one"}]}`},
				"GET /one/_apis/git/repositories": {body: `{"value": [{"id": "a", "name": "A b", "defaultBranch": "refs/heads/main", "webUrl": "https://dev.azure.com/one/p/_git/A",
					"isDisabled": true, "project": {"name": "p", "visibility": "private", "lastUpdateTime": "2026-01-02T03:04:05.67Z"}}]}`},
				"GET /two/_apis/git/repositories":             {body: `{"value": []}`},
				"GET /one/p/_apis/git/repositories/A":         {body: `{"id": "a", "name": "A", "defaultBranch": "refs/heads/main", "project": {"name": "p", "visibility": "public", "lastUpdateTime": "2026-01-01T00:00:00Z"}}`},
				"GET /one/p/_apis/git/repositories/A/pushes":  {body: `{"value": [{"date": "2026-01-02T03:04:05Z"}]}`},
				"GET /one/p/_apis/git/repositories/A/commits": {body: `{"value": [{}, {}]}`},
				"GET /one/p/_apis/git/repositories/A/items":   {body: `{"value": [{"gitObjectType": "tree"}, {"gitObjectType":"blob"}]}`},
				"GET /one/p/_apis/projectanalysis/languagemetrics": {body: `{"repositoryLanguageAnalytics": [{"id": "x", "name": "other", "languageBreakdown": [{"name": "C", "bytes": 9}]},
					{"id": "a", "name": "A", "languageBreakdown": [{"name": "Go", "bytes": 4000}, {"name": "SQL"}]}]}`},
			},
			account: connections.Account{ID: "7", Username: "ada@example.nl"},
			lists: []connections.Repository{{ID: "a", Name: "A b", FullName: "one/p/A b", URL: "https://dev.azure.com/one/p/_git/A", Owner: "one", DefaultBranch: "main", Private: true,
				Archived: true, Updated: at("2026-01-02T03:04:05.67Z")}},
			path:  "one/p/A",
			facts: connections.Facts{DefaultBranch: "main", Language: "Go", Updated: at("2026-01-02T03:04:05Z"), Commits: 2, Files: 1, Lines: 100},
		},
		"github": {
			replies: map[string]reply{
				"GET /api/v3/user":                    {body: `{"id": 7, "login": "ada", "avatar_url": ""}`},
				"GET /api/v3/user/repos":              {body: `[]`},
				"GET /api/v3/repos/ada/old":           {status: 301, header: map[string]string{"Location": "{URL}/api/v3/repositories/9"}, body: `{}`},
				"GET /api/v3/repositories/9":          {body: `{"id": 9, "default_branch": "trunk", "private": true, "pushed_at": null, "updated_at": "2026-01-02T03:04:05Z", "stargazers_count": 0}`},
				"GET /api/v3/repos/ada/old/languages": {body: `{}`},
				"GET /api/v3/repos/ada/old/commits":   {status: 409, body: `{"message": "Git Repository is empty."}`},
			},
			account: connections.Account{ID: "7", Username: "ada"},
			path:    "ada/old",
			facts:   connections.Facts{DefaultBranch: "trunk", Private: true, Updated: at("2026-01-02T03:04:05Z"), Stars: number(0)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, c.replies)
			host := providers(t, name, d.URL).Host(name)
			account, err := host.Identity(t.Context(), "the-token")
			require.NoError(t, err)
			require.Equal(t, c.account, account)
			var all []connections.Repository
			for next, first := "", true; first || next != ""; first = false {
				page, err := host.Repositories(t.Context(), "the-token", "", next)
				require.NoError(t, err)
				all = append(all, page.Repositories...)
				next = page.Next
			}
			for i := range all {
				all[i].Updated = all[i].Updated.UTC()
			}
			require.Equal(t, c.lists, all)
			facts, err := host.Look(t.Context(), "the-token", c.path)
			require.NoError(t, err)
			facts.Updated = facts.Updated.UTC()
			require.Equal(t, c.facts, facts)
			_, err = host.Look(t.Context(), "", "no/such/thing")
			require.Equal(t, connections.NotFound, connections.ReasonOf(err))
			require.True(t, d.asked("Bearer the-token"))
			_, err = host.Look(t.Context(), "", c.path)
			require.NoError(t, err)
		})
	}
}

func TestRefusalsMeanWhatProvidersSay(t *testing.T) {
	for name, c := range map[string]struct {
		reply  reply
		reason connections.Reason
		wait   time.Duration
	}{
		"NoToken":          {reply{status: 401}, connections.Unauthorized, 0},
		"NoRight":          {reply{status: 403}, connections.Forbidden, 0},
		"Limit":            {reply{status: 403, header: map[string]string{"X-RateLimit-Remaining": "0"}}, connections.Limited, 0},
		"LimitWithAWait":   {reply{status: 429, header: map[string]string{"Retry-After": "5"}}, connections.Limited, 5 * time.Second},
		"Gone":             {reply{status: 410}, connections.NotFound, 0},
		"Down":             {reply{status: 503, header: map[string]string{"Retry-After": "2"}}, connections.Unavailable, 2 * time.Second},
		"APage":            {reply{header: map[string]string{"Content-Type": "text/html"}, body: "<html>"}, connections.Unavailable, 0},
		"BrokenJSON":       {reply{body: `{"id": `}, connections.Unavailable, 0},
		"ElsewhereInStead": {reply{status: 302, header: map[string]string{"Location": "http://elsewhere.example/"}}, connections.Unavailable, 0},
		"RoundAndRound":    {reply{status: 302, header: map[string]string{"Location": "{URL}/api/v3/user"}}, connections.Unavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, map[string]reply{"GET /api/v3/user": c.reply})
			_, err := providers(t, "github", d.URL).Host("github").Identity(t.Context(), "the-token")
			require.Equal(t, c.reason, connections.ReasonOf(err), "%v", err)
			require.NotContains(t, err.Error(), "the-token")
			var refusal *connections.Refusal
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, c.wait, refusal.RetryAfter)
		})
	}
	t.Run("TooSlow", func(t *testing.T) {
		ended := make(chan struct{})
		slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			ended <- struct{}{}
		}))
		t.Cleanup(slow.Close)
		p, err := connections.New(connections.Config{Timeout: 50 * time.Millisecond, Applications: map[string]connections.Application{"github": {ClientID: "id", ClientSecret: "secret"}},
			Hosts: gitfetch.HostConfig{BaseURLs: map[gitfetch.Provider]string{gitfetch.GitHub: slow.URL}}})
		require.NoError(t, err)
		for _, ask := range []func() error{
			func() error { _, err := p.Host("github").Identity(t.Context(), "the-token"); return err },
			func() error {
				_, err := p.Exchange(t.Context(), "github", "the-code", "v", "https://kijko.test/back")
				return err
			},
			func() error { return p.Host("github").Revoke(t.Context(), connections.Token{Access: "the-token"}) },
		} {
			err := ask()
			require.Equal(t, connections.Unavailable, connections.ReasonOf(err), "%v", err)
			require.NotContains(t, err.Error(), "the-")
			<-ended
		}
	})
	t.Run("AzuresSignInPage", func(t *testing.T) {
		d := newDouble(t, map[string]reply{"GET /profiles/_apis/profile/profiles/me": {status: 203, header: map[string]string{"Content-Type": "text/html"}, body: "<html>"}})
		_, err := providers(t, "azure", d.URL).Host("azure").Identity(t.Context(), "the-token")
		require.Equal(t, connections.Unauthorized, connections.ReasonOf(err))
	})
	t.Run("AnInternalAddressThatTheOperatorDidNotName", func(t *testing.T) {
		p, err := connections.New(connections.Config{Hosts: gitfetch.HostConfig{Extra: map[string]gitfetch.Provider{"127.0.0.1:1": gitfetch.GitLab}}})
		require.NoError(t, err)
		host, own := p.HostOf("gitlab", "https://127.0.0.1:1/a/b")
		require.False(t, own)
		_, err = host.Look(t.Context(), "", "a/b")
		require.ErrorContains(t, err, "may not be contacted")
	})
}

func TestConsentsAndRenewals(t *testing.T) {
	for name, c := range map[string]struct {
		token, revoke string
		header        bool // credentials by Basic
		pkce          bool
		scopes        string
		revoked       int
	}{
		"github":    {"/login/oauth/access_token", "", false, true, "repo read:user", 0},
		"gitlab":    {"/oauth/token", "/oauth/revoke", false, true, "read_api read_repository", 2},
		"bitbucket": {"/site/oauth2/access_token", "", true, false, "repository account", 0},
		"azure":     {"/login/oauth2/v2.0/token", "", false, true, "499b84ac-1321-427f-aa17-267ca6975798/vso.code 499b84ac-1321-427f-aa17-267ca6975798/vso.profile offline_access", 0},
		"okta":      {"/oauth2/v1/token", "/oauth2/v1/revoke", true, true, "openid offline_access okta.groups.read okta.users.read okta.users.read.self", 2},
		"azure_ad":  {"/login/oauth2/v2.0/token", "", false, true, "offline_access User.Read GroupMember.Read.All User.ReadBasic.All", 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, map[string]reply{"POST " + c.token: {body: `{"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 7200}`},
				"POST " + c.revoke: {body: `{}`}})
			p := providers(t, name, d.URL)
			require.True(t, p.CanConnect(name))
			verifier := connections.Verifier()
			u, err := url.Parse(p.ConsentURL(name, "the-state", verifier, "https://kijko.test/back"))
			require.NoError(t, err)
			require.Equal(t, "the-state", u.Query().Get("state"))
			require.Equal(t, c.scopes, u.Query().Get("scope"))
			require.Equal(t, c.pkce, u.Query().Get("code_challenge") != "")
			require.NotContains(t, u.String(), verifier)
			token, err := p.Exchange(t.Context(), name, "the-code", verifier, "https://kijko.test/back")
			require.NoError(t, err)
			require.Equal(t, "a", token.Access)
			require.WithinDuration(t, time.Now().Add(2*time.Hour), token.Expires, time.Minute)
			require.Equal(t, strings.Fields(c.scopes), token.Scopes, "what is not told is what was asked for")
			require.Equal(t, c.pkce, d.forms[0].Get("code_verifier") == verifier)
			require.Equal(t, c.header, d.basic[0] == "id")
			require.Equal(t, c.header, d.forms[0].Get("client_secret") == "")
			_, err = p.Refresh(t.Context(), name, token)
			require.NoError(t, err)
			require.Equal(t, "r", d.forms[1].Get("refresh_token"))
			require.Len(t, d.forms, 2, "each question is asked once")
			if host := p.Host(name); host != nil {
				require.NoError(t, host.Revoke(t.Context(), token))
			} else {
				require.NoError(t, p.Directory(name).Revoke(t.Context(), token))
			}
			require.Len(t, d.forms, 2+c.revoked)
		})
	}
	for name, c := range map[string]struct {
		reply    reply
		rejected bool
	}{
		"AGrantThatIsOver":       {reply{status: 400, body: `{"error": "invalid_grant", "error_description": "of the-code"}`}, true},
		"GitHubsWayOfSayingSo":   {reply{body: `{"error": "bad_verification_code"}`}, true},
		"GiteasWordForAll":       {reply{status: 400, body: `{"error": "unauthorized_client"}`}, true},
		"AnApplicationThatIsNot": {reply{status: 401, body: `{"error": "invalid_client"}`}, false},
		"NoToken":                {reply{body: `{"token_type": "bearer"}`}, false},
		"APage":                  {reply{header: map[string]string{"Content-Type": "text/html"}, body: "<html>the-code</html>"}, false},
		"Down":                   {reply{status: 502, body: "the-code"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, map[string]reply{"POST /oauth/token": c.reply})
			_, err := providers(t, "gitlab", d.URL).Exchange(t.Context(), "gitlab", "the-code", "v", "https://kijko.test/back")
			require.Error(t, err)
			if c.rejected {
				require.ErrorIs(t, err, connections.ErrRejected)
			} else {
				require.Equal(t, connections.Unavailable, connections.ReasonOf(err))
			}
			require.NotContains(t, err.Error(), "the-code")
			require.Len(t, d.forms, 1)
		})
	}
}

func TestDirectoriesAreReadByTheirDocumentedShapes(t *testing.T) {
	okta := func(n int, status string) string {
		return fmt.Sprintf(`{"status": %q, "profile": {"email": "p%d@example.nl", "login": "p%d", "firstName": "P", "lastName": "%d"}}`, status, n, n, n)
	}
	for name, c := range map[string]struct {
		replies map[string]reply
		reading connections.Reading
	}{
		"okta": {map[string]reply{
			"GET /api/v1/groups":                  {header: map[string]string{"Link": `<{URL}/api/v1/groups?after=g1>; rel="next"`}, body: `[{"id": "g1", "profile": {"name": "One"}}]`},
			"GET /api/v1/groups?after=g1":         {body: `[{"id": "g2", "profile": {"name": "Two"}}, {"id": "gone", "profile": {"name": "Gone"}}]`},
			"GET /api/v1/groups/g1/users":         {header: map[string]string{"Link": `<{URL}/api/v1/groups/g1/users?after=1>; rel="next"`}, body: "[" + okta(1, "ACTIVE") + "]"},
			"GET /api/v1/groups/g1/users?after=1": {body: "[" + okta(2, "PROVISIONED") + "," + okta(3, "DEPROVISIONED") + "," + okta(4, "SUSPENDED") + "]"},
			"GET /api/v1/groups/g2/users":         {body: "[" + okta(1, "ACTIVE") + "]"},
		}, connections.Reading{Groups: 3, Complete: true, People: []connections.Person{{Email: "p1@example.nl", Name: "P 1"}, {Email: "p2@example.nl", Name: "P 2"}}}},
		"azure_ad": {map[string]reply{
			"GET /graph/groups":              {body: `{"value": [{"id": "g1", "displayName": "One"}], "@odata.nextLink": "{URL}/graph/groups?$skiptoken=x"}`},
			"GET /graph/groups?$skiptoken=x": {body: `{"value": []}`},
			"GET /graph/groups/g1/transitiveMembers/microsoft.graph.user": {body: `{"value": [{"id": "1", "mail": "p1@example.nl", "displayName": "P 1"},
				{"id": "2", "mail": null, "userPrincipalName": "p2@example.nl", "displayName": "P 2", "accountEnabled": true},
				{"id": "3", "mail": "p3@example.nl", "accountEnabled": false}, {"id": "4"}]}`},
		}, connections.Reading{Groups: 1, Complete: true, People: []connections.Person{{Email: "p1@example.nl", Name: "P 1"}, {Email: "p2@example.nl", Name: "P 2"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, c.replies)
			reading, err := connections.Read(t.Context(), providers(t, name, d.URL).Directory(name), "the-token")
			require.NoError(t, err)
			require.Equal(t, c.reading, reading)
		})
	}
	t.Run("ADirectoryThatNeverEndsIsLeft", func(t *testing.T) {
		group, err := json.Marshal(map[string]any{"value": []any{map[string]string{"id": "g"}}, "@odata.nextLink": "{URL}/graph/groups?again"})
		require.NoError(t, err)
		d := newDouble(t, map[string]reply{"GET /graph/groups": {body: string(group)}, "GET /graph/groups/g/transitiveMembers/microsoft.graph.user": {body: `{"value": []}`}})
		reading, err := connections.Read(t.Context(), providers(t, "azure_ad", d.URL).Directory("azure_ad"), "the-token")
		require.NoError(t, err)
		require.False(t, reading.Complete)
		require.Equal(t, 1000, reading.Groups)
	})
}

// TestHooksAreInstalledAndRemoved: an earlier hook of the address is replaced, one of another address stays.
func TestHooksAreInstalledAndRemoved(t *testing.T) {
	const address = "https://kijko.test/api/v1/webhooks/git/x/1"
	for name, c := range map[string]struct {
		path    string
		replies map[string]reply
		calls   []string
		sent    string
	}{
		"github": {path: "ada/app", replies: map[string]reply{
			"GET /api/v3/repos/ada/app/hooks": {header: map[string]string{"Link": `<{URL}/api/v3/repos/ada/app/hooks?page=2>; rel="next"`},
				body: `[{"id": 1, "config": {"url": "https://kijko.test/other"}}]`},
			"GET /api/v3/repos/ada/app/hooks?page=2": {body: `[{"id": 2, "config": {"url": "` + address + `"}}]`},
			"DELETE /api/v3/repos/ada/app/hooks/2":   {status: 204},
			"POST /api/v3/repos/ada/app/hooks":       {status: 201, body: `{"id": 3}`},
		}, calls: []string{"DELETE /api/v3/repos/ada/app/hooks/2", "POST /api/v3/repos/ada/app/hooks"},
			sent: `{"name":"web","active":true,"events":["push"],"config":{"url":"` + address + `","content_type":"json","secret":"s"}}`},
		"gitlab": {path: "group/sub/one", replies: map[string]reply{
			"GET /api/v4/projects/group%2Fsub%2Fone/hooks":      {body: `[{"id": 2, "url": "` + address + `"}]`},
			"DELETE /api/v4/projects/group%2Fsub%2Fone/hooks/2": {status: 204},
			"POST /api/v4/projects/group%2Fsub%2Fone/hooks":     {status: 201, body: `{"id": 3}`},
		}, calls: []string{"DELETE /api/v4/projects/group%2Fsub%2Fone/hooks/2", "POST /api/v4/projects/group%2Fsub%2Fone/hooks"},
			sent: `{"url":"` + address + `","token":"s","push_events":true,"enable_ssl_verification":true}`},
		"bitbucket": {path: "ada/app", replies: map[string]reply{
			"GET /2.0/repositories/ada/app/hooks":            {body: `{"values": [{"uuid": "{2}", "url": "` + address + `"}]}`},
			"DELETE /2.0/repositories/ada/app/hooks/%7B2%7D": {status: 204},
			"POST /2.0/repositories/ada/app/hooks":           {status: 201, body: `{"uuid": "{3}"}`},
		}, calls: []string{"DELETE /2.0/repositories/ada/app/hooks/%7B2%7D", "POST /2.0/repositories/ada/app/hooks"},
			sent: `{"description":"Kijko","url":"` + address + `","secret":"s","active":true,"events":["repo:push"]}`},
		"azure": {path: "org/project/app", replies: map[string]reply{
			"GET /org/_apis/hooks/subscriptions":          {body: `{"value": [{"id": "2", "consumerInputs": {"url": "` + address + `"}}]}`},
			"DELETE /org/_apis/hooks/subscriptions/2":     {status: 204},
			"GET /org/project/_apis/git/repositories/app": {body: `{"id": "r", "project": {"id": "p"}}`},
			"POST /org/_apis/hooks/subscriptions":         {status: 200, body: `{"id": "3"}`},
		}, calls: []string{"DELETE /org/_apis/hooks/subscriptions/2?api-version=7.1", "POST /org/_apis/hooks/subscriptions?api-version=7.1"},
			sent: `{"publisherId":"tfs","eventType":"git.push","resourceVersion":"1.0","consumerId":"webHooks","consumerActionId":"httpRequest",
				"publisherInputs":{"projectId":"p","repository":"r"},"consumerInputs":{"url":"` + address + `","basicAuthUsername":"kijko","basicAuthPassword":"s"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDouble(t, c.replies)
			host, ok := providers(t, name, d.URL).Host(name).(connections.Hooker)
			require.True(t, ok)
			require.NoError(t, host.InstallHook(t.Context(), "token", connections.Hook{Path: c.path, Address: address, Secret: "s"}))
			var changes []string
			for _, call := range d.calls {
				if !strings.HasPrefix(call, "GET ") {
					changes = append(changes, strings.TrimSuffix(call, " Bearer token"))
				}
			}
			require.Equal(t, c.calls, changes)
			require.JSONEq(t, c.sent, d.bodies[len(d.bodies)-1])
			require.NoError(t, host.RemoveHook(t.Context(), "token", c.path, address))
			require.Error(t, host.RemoveHook(t.Context(), "token", "no/such/one", address))
		})
	}
	for status, final := range map[int]bool{401: true, 403: true, 404: true, 422: true, 429: false, 500: false, 503: false} {
		t.Run(fmt.Sprintf("Status%d", status), func(t *testing.T) {
			t.Parallel()
			d := newDouble(t, map[string]reply{"GET /api/v3/repos/ada/app/hooks": {body: "[]"}, "POST /api/v3/repos/ada/app/hooks": {status: status, body: "{}"}})
			host := providers(t, "github", d.URL).Host("github").(connections.Hooker)
			require.Equal(t, final, connections.IsFinal(host.InstallHook(t.Context(), "token", connections.Hook{Path: "ada/app", Address: address, Secret: "s"})))
		})
	}
}
