package connections

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

// okta is an Okta organization with one group, in the shapes that Okta documents. The tests cannot reach a real one.
type okta struct {
	URL    string
	people atomic.Pointer[[]string]
	status atomic.Int32 // of the API, where it is not 200
	ended  atomic.Int32 // revocations
}

func newOkta(t testing.TB) *okta {
	t.Helper()
	o := &okta{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/v1/token", func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != clientID || secret != url.QueryEscape(clientSecret) || r.FormValue("code") == "false" {
			answer(w, 400, map[string]string{"error": "invalid_grant"})
			return
		}
		answer(w, 200, map[string]any{"access_token": "secret-okta", "refresh_token": "secret-okta-refresh", "token_type": "Bearer", "expires_in": 3600})
	})
	mux.HandleFunc("POST /oauth2/v1/revoke", func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != clientID || secret != url.QueryEscape(clientSecret) || r.FormValue("token") == "" {
			answer(w, 401, map[string]string{"error": "invalid_client"})
			return
		}
		o.ended.Add(1)
	})
	api := func(body func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch status := o.status.Load(); {
			case r.Header.Get("Authorization") != "Bearer secret-okta":
				answer(w, 401, map[string]any{})
			case status != 0:
				answer(w, int(status), map[string]any{})
			default:
				answer(w, 200, body())
			}
		}
	}
	mux.HandleFunc("GET /api/v1/users/me", api(func() any { return map[string]any{"id": "1", "profile": map[string]string{"login": "root@example.nl"}} }))
	mux.HandleFunc("GET /api/v1/groups", api(func() any { return []any{map[string]any{"id": "g", "profile": map[string]string{"name": "Everyone"}}} }))
	mux.HandleFunc("GET /api/v1/groups/g/users", api(func() any {
		list := []any{}
		for _, email := range *o.people.Load() {
			list = append(list, map[string]any{"status": "ACTIVE", "profile": map[string]string{"email": email, "firstName": "From", "lastName": "Okta"}})
		}
		return list
	}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	o.URL = server.URL
	return o
}

func TestADirectoryIsConnectedByAdminsAlone(t *testing.T) {
	t.Parallel()
	o := newOkta(t)
	_, s, anna, ben, stan := start(t, func(c *cfg) { c.OktaURL, c.OktaID, c.OktaSecret = o.URL, clientID, clientSecret })
	carla := s.Join(anna, s.SignUp("Carla"), "member")
	worker.Start(t, s)
	people := func(emails ...string) { o.people.Store(&emails) }
	people(carla.Email, stan.Email, "nobody@example.nl", anna.Email)
	id := project(t, anna, "Directory", "https://github.com/ada/open")
	path := "/projects/" + id + "/directory-sync"

	anna.Get(path).Want(200).Equal(nil)
	require.Equal(t, "enterprise", anna.Do("POST", path+"/okta", nil).Problem(403, "PLAN_UPGRADE_REQUIRED").String("details.requiredPlan"))
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	anna.Do("POST", path+"/github", nil).Problem(400, "VALIDATION_ERROR").Field("provider")
	anna.Do("POST", path+"/azure_ad", nil).Problem(503, "PROVIDER_NOT_CONFIGURED")
	carla.Get(path).Problem(403, "FORBIDDEN")
	carla.Do("POST", path+"/okta", nil).Problem(403, "FORBIDDEN")
	carla.Do("DELETE", path, nil).Problem(403, "FORBIDDEN")
	stan.Get(path).Problem(404, "PROJECT_NOT_FOUND")
	stan.Do("POST", path+"/okta", nil).Problem(404, "PROJECT_NOT_FOUND")
	stan.Do("DELETE", path, nil).Problem(404, "PROJECT_NOT_FOUND")
	anna.Do("POST", "/projects/not-a-uuid/directory-sync/okta", nil).Problem(404, "PROJECT_NOT_FOUND")

	consent := func(t *testing.T, code string) string {
		t.Helper()
		u, err := url.Parse(ben.In(t).Do("POST", path+"/okta", nil).Want(200).String("authUrl"))
		require.NoError(t, err)
		require.Equal(t, o.URL+"/oauth2/v1/authorize", u.Scheme+"://"+u.Host+u.Path)
		require.Equal(t, "http://kijko.test/api/v1/oauth/callback/okta", u.Query().Get("redirect_uri"))
		_, page, _ := open(t, s.BaseURL+"/api/v1/oauth/callback/okta?"+url.Values{"code": {code}, "state": {u.Query().Get("state")}}.Encode())
		return page
	}
	require.Contains(t, consent(t, "false"), `data-success="false"`)
	anna.Get(path).Want(200).Equal(nil)
	require.Contains(t, consent(t, "good"), `data-success="true"`)

	status := func(until func(r client.Response) bool) client.Response {
		t.Helper()
		var r client.Response
		require.Eventually(t, func() bool { r = anna.Get(path).Want(200); return until(r) }, 20*time.Second, 20*time.Millisecond)
		return r
	}
	members := func() []string {
		return testdb.Value[[]string](s.DB, "select array_agg(u.first_name || ' ' || m.role || case when m.accepted_at is null then ' pending' else '' end order by u.first_name) "+
			"from public.project_members m join public.users u on u.id = m.user_id where m.project_id = $1", id)
	}
	r := status(func(r client.Response) bool { return r.Value("lastSyncAt") != nil })
	require.Equal(t, true, r.Value("connected"))
	require.Equal(t, "okta", r.String("provider"))
	require.Equal(t, 1.0, r.Value("groupCount"))
	require.Equal(t, 1.0, r.Value("memberCount"))
	require.Equal(t, []string{"Anna admin", "Carla viewer"}, members(), "colleagues only: an account elsewhere is none")
	ben.Get(path).Want(200)

	again := func() {
		s.DB.Exec("update private.directory_syncs set last_sync_at = now() - interval '2 hours', updated_at = now() - interval '2 hours'")
		s.DB.Exec("select private.tend_connections()")
	}
	// A new member of the group joins; a removed one leaves.
	people(ben.Email)
	again()
	status(func(client.Response) bool { return fmt.Sprint(members()) == "[Anna admin Ben viewer]" })
	// A directory that is unreachable, or does not let its groups be read, changes no member and reports the reason.
	o.status.Store(403)
	again()
	require.Contains(t, status(func(r client.Response) bool { return r.Value("error") != nil }).String("error"), "administrator")
	o.status.Store(0)
	again()
	status(func(r client.Response) bool { return r.Value("error") == nil })
	require.Equal(t, []string{"Anna admin", "Ben viewer"}, members())

	anna.Do("DELETE", path, nil).Want(200).Equal(map[string]bool{"success": true})
	anna.Get(path).Want(200).Equal(nil)
	require.Equal(t, []string{"Anna admin", "Ben viewer"}, members(), "members stay")
	require.Eventually(t, func() bool {
		return o.ended.Load() == 2 && testdb.Value[int](s.DB, "select count(*) from private.provider_tokens") == 0
	}, 20*time.Second, 20*time.Millisecond)
	anna.Do("DELETE", path, nil).Want(200).Equal(map[string]bool{"success": true})
	require.Zero(t, testdb.Value[int](s.DB, "select count(*) from public.audit_log a where a::text ~ 'secret-okta'"))
}
