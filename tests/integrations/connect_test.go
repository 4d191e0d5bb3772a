package integrations

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

type integration struct {
	ID, Provider, Status string
	Scopes               []string
	LastSyncAt           *string
}

// of gives the connections of an organization with a provider.
func of(p *client.Person, provider string) *integration {
	all := client.JSON[[]integration](p.Get("/integrations").Want(200))
	i := slices.IndexFunc(all, func(i integration) bool { return i.Provider == provider })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// connectionOf gives the status of a connection.
func connectionOf(p *client.Person, id string) string {
	for _, c := range client.JSON[[]struct{ IntegrationID, Status string }](p.Get("/integrations/connections").Want(200)) {
		if c.IntegrationID == id {
			return c.Status
		}
	}
	return ""
}

func TestTheCatalogueIsTheContracts(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	catalog := client.JSON[[]struct {
		ID, Name, Category, Icon string
		Permissions              []string
		IsPopular                bool
	}](o.vera.Get("/integrations/catalog").Want(200))
	require.Len(t, catalog, 20)
	popular := 0
	for _, app := range catalog {
		if app.IsPopular {
			popular++
		}
		switch app.ID {
		case "google-workspace":
			require.Equal(t, "google", app.Icon)
		case "microsoft-365":
			require.Equal(t, "microsoft", app.Icon)
		default:
			require.Equal(t, app.ID, app.Icon)
		}
	}
	require.Equal(t, 8, popular)
	require.Equal(t, []string{"read_contacts", "write_contacts", "read_leads", "write_leads"}, catalog[0].Permissions)
}

func TestEveryOrganizationHasTheBuiltInOnes(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for _, person := range []*client.Person{o.anna, o.vera, o.stan} {
		for _, provider := range []string{"kijko-file-storage", "kijko-knowledge-graph"} {
			require.Equal(t, "active", of(person, provider).Status)
			require.Len(t, of(person, provider).Scopes, 4)
		}
	}
	for _, c := range client.JSON[[]struct{ IntegrationID, Status string }](o.vera.Get("/integrations/connections").Want(200)) {
		require.Equal(t, "default", c.Status, c.IntegrationID)
	}
	o.anna.Do("DELETE", "/integrations/kijko-file-storage", nil).Problem(409, "BUILT_IN_INTEGRATION")
	o.anna.Do("DELETE", "/integrations/kijko-file-storage/permissions/read_files", nil).Problem(409, "BUILT_IN_INTEGRATION")
	o.anna.Do("POST", "/integrations/kijko-file-storage/reconnect", nil).Problem(409, "BUILT_IN_INTEGRATION")
	o.anna.Do("POST", "/integrations/kijko-file-storage/sync", nil).Problem(409, "BUILT_IN_INTEGRATION")
	o.anna.Do("POST", "/integrations/kijko-file-storage/connect", nil).Problem(409, "ALREADY_CONNECTED")
}

func TestConnectingWithConsent(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options)

	t.Run("WhoMayNotIsRefusedBeforeAnythingElse", func(t *testing.T) {
		for _, p := range []*client.Person{o.ben, o.vera} {
			p.In(t).Do("POST", "/integrations/gitlab/connect", nil).Problem(403, "FORBIDDEN")
			p.In(t).Do("POST", "/integrations/nothing/connect", nil).Problem(403, "FORBIDDEN")
			p.In(t).Do("POST", "/integrations/gitlab/sync", nil).Problem(403, "FORBIDDEN")
			p.In(t).Do("DELETE", "/integrations/gitlab", nil).Problem(403, "FORBIDDEN")
			p.In(t).Do("PATCH", "/integrations/gitlab", map[string]any{"config": map[string]any{}}).Problem(403, "FORBIDDEN")
			p.In(t).Do("DELETE", "/integrations/gitlab/permissions/read_repos", nil).Problem(403, "FORBIDDEN")
		}
	})
	t.Run("Refusals", func(t *testing.T) {
		anna := o.anna.In(t)
		anna.Do("POST", "/integrations/nothing/connect", nil).Problem(404, "INTEGRATION_NOT_FOUND")
		anna.Do("POST", "/integrations/gitlab/connect", map[string]any{"scopes": []string{"send_messages"}}).Problem(400, "VALIDATION_ERROR").Field("scopes")
		anna.Do("POST", "/integrations/gitlab/connect", map[string]any{"scopes": []string{}}).Problem(400, "VALIDATION_ERROR").Field("scopes")
		anna.Do("POST", "/integrations/gitlab/connect", map[string]any{"config": map[string]any{"repositories": "a/b"}}).Problem(400, "VALIDATION_ERROR").Field("config.repositories")
		anna.Do("POST", "/integrations/gitlab/connect", map[string]any{"redirectUri": "https://evil.example/"}).Problem(400, "VALIDATION_ERROR").Field("redirectUri")
		anna.Do("POST", "/integrations/gitlab/reconnect", nil).Problem(404, "INTEGRATION_NOT_FOUND")
		anna.Do("DELETE", "/integrations/gitlab", nil).Problem(404, "INTEGRATION_NOT_FOUND")
		anna.Do("POST", "/integrations/gitlab/sync", nil).Problem(404, "INTEGRATION_NOT_FOUND")
		r := anna.Do("POST", "/integrations/jira/connect", nil).Problem(503, "PROVIDER_NOT_CONFIGURED")
		require.Equal(t, "jira", r.String("details.provider"))
		anna.Do("POST", "/integrations/jira/connect", map[string]any{"scopes": []string{"nonsense"}}).Problem(400, "VALIDATION_ERROR").Field("scopes")
	})
	t.Run("TheWholeWay", func(t *testing.T) {
		r := o.anna.In(t).Do("POST", "/integrations/gitlab/connect", map[string]any{"scopes": []string{"read_issues", "read_repos"},
			"config": map[string]any{"repositories": []string{"a/b"}, "note": nil}, "redirectUri": "http://localhost:3000/settings?x=1"}).Want(202)
		u, err := url.Parse(r.String("authorizationUrl"))
		require.NoError(t, err)
		require.Equal(t, "/oauth/authorize", u.Path)
		require.Equal(t, "read_api read_repository read_user", u.Query().Get("scope"))
		require.Equal(t, "S256", u.Query().Get("code_challenge_method"))
		require.Nil(t, of(o.anna, "gitlab"), "nothing is half connected")

		code, state := d.consent(u.String())
		back := o.As("").Get("/integrations/oauth/callback?" + url.Values{"code": {code}, "state": {state}}.Encode()).Want(302)
		require.Equal(t, "http://localhost:3000/settings?integration=gitlab&status=connected&x=1", back.Header.Get("Location"))
		i := of(o.anna, "gitlab")
		require.Equal(t, "active", i.Status)
		require.Equal(t, []string{"read_repos", "read_issues"}, i.Scopes, "in the order of the catalogue")
		require.Nil(t, i.LastSyncAt)
		o.anna.In(t).Do("POST", "/integrations/gitlab/connect", nil).Problem(409, "ALREADY_CONNECTED")
		o.anna.In(t).Do("POST", "/integrations/gitlab/reconnect", nil).Problem(409, "ALREADY_CONNECTED")

		require.Equal(t, "connected", connectionOf(o.vera, "gitlab"))
		require.Nil(t, of(o.stan, "gitlab"), "another tenant sees nothing of it")
		require.Equal(t, 1, testdb.Value[int](o.DB, `select count(*)::int from public.audit_log where organization_id = $1 and event_type = 'integration.connected'
			and metadata ->> 'provider' = 'gitlab' and user_id = $2`, o.anna.OrgID, o.anna.ID))
		require.Equal(t, 1, testdb.Value[int](o.DB, `select count(*)::int from (select data from public.events union all select data from private.event_inbox) e
			where data ->> 'resource' = 'integration' and data ->> 'operation' = 'created' and data ->> 'id' = $1`, i.ID))
		stats := o.vera.In(t).Get("/integrations/" + i.ID + "/stats").Want(200)
		require.Len(t, stats.Value("performance.tools"), 1)
		require.Len(t, stats.Value("usage.dailySessions"), 7)
		logs := o.vera.In(t).Get("/integrations/gitlab/logs").Want(200)
		require.Len(t, logs.Value("logs"), 1)
	})
	t.Run("WhatIsStoredIsSealed", func(t *testing.T) {
		text := testdb.Value[string](o.DB, `select coalesce(string_agg(s::text, ' '), '') from (
			select to_jsonb(x)::text from private.integration_secrets x union all select to_jsonb(x)::text from private.integration_states x
			union all select to_jsonb(x)::text from public.integrations x union all select to_jsonb(x)::text from public.audit_log x
			union all select to_jsonb(x)::text from public.events x union all select to_jsonb(x)::text from private.integration_logs x) s(s)`)
		require.NotContains(t, text, "access-")
		require.NotContains(t, text, "refresh-")
		require.NotContains(t, text, clientSecret)
	})
	t.Run("TheConfigurationIsReplaced", func(t *testing.T) {
		r := o.anna.In(t).Do("PATCH", "/integrations/gitlab", map[string]any{"config": map[string]any{"repositories": []string{"c/d"}}}).Want(200)
		require.Equal(t, "pre_built", r.String("integrationType"))
		require.Equal(t, []any{"c/d"}, r.Value("config.repositories"))
		o.anna.In(t).Do("PUT", "/integrations/gitlab", map[string]any{"config": map[string]any{"repositories": []any{1}}}).Problem(400, "VALIDATION_ERROR").Field("config.repositories")
		big := map[string]any{"config": map[string]any{"note": strings.Repeat("x", 17000)}}
		o.anna.In(t).Do("PATCH", "/integrations/gitlab", big).Problem(400, "VALIDATION_ERROR").Field("config")
		o.anna.In(t).Do("PATCH", "/integrations/slack", map[string]any{"config": map[string]any{}}).Problem(404, "INTEGRATION_NOT_FOUND")
	})
	t.Run("TheLastPermissionDisconnects", func(t *testing.T) {
		path := "/integrations/gitlab/permissions/"
		o.anna.In(t).Do("DELETE", path+"write_repos", nil).Problem(404, "INTEGRATION_NOT_FOUND")
		require.Equal(t, []any{"read_issues"}, o.anna.In(t).Do("DELETE", path+"read_repos", nil).Want(200).Value("scopes"))
		require.Empty(t, o.anna.In(t).Do("DELETE", path+"read_issues", nil).Want(200).Value("scopes"))
		require.Nil(t, of(o.anna, "gitlab"))
	})
}

// A state allows one try, of the person who began it, and no failure leaves a half-made connection.
func TestStatesOfConsent(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options)
	want := func(t *testing.T, q url.Values, code, provider string) {
		t.Helper()
		require.Equal(t, []string{"error", code, provider}, []string{q.Get("status"), q.Get("code"), q.Get("integration")})
	}
	t.Run("Unknown", func(t *testing.T) {
		want(t, o.back(t, url.Values{"code": {"x"}, "state": {"nonsense"}}), "INVALID_STATE", "")
		want(t, o.back(t, url.Values{"code": {"x"}}), "INVALID_STATE", "")
		want(t, o.back(t, url.Values{}), "INVALID_STATE", "")
	})
	t.Run("UsedAgain", func(t *testing.T) {
		code, state := o.begin(o.anna, d, "gitlab/connect", nil)
		require.Equal(t, "connected", o.back(t, url.Values{"code": {code}, "state": {state}}).Get("status"))
		want(t, o.back(t, url.Values{"code": {code}, "state": {state}}), "INVALID_STATE", "gitlab")
		o.anna.In(t).Do("DELETE", "/integrations/gitlab", nil).Want(204)
		want(t, o.back(t, url.Values{"code": {code}, "state": {state}}), "INVALID_STATE", "gitlab")
		require.Nil(t, of(o.anna, "gitlab"))
	})
	t.Run("TwoBrowsersAtOnce", func(t *testing.T) {
		code, state := o.begin(o.anna, d, "gitlab/connect", nil)
		results := make(chan string, 8)
		for range 8 {
			go func() {
				r, err := o.As("").Try("GET", "/integrations/oauth/callback?"+url.Values{"code": {code}, "state": {state}}.Encode(), nil)
				if err != nil {
					results <- err.Error()
					return
				}
				u, _ := url.Parse(r.Header.Get("Location"))
				results <- u.Query().Get("status")
			}()
		}
		all := []string{}
		for range 8 {
			all = append(all, <-results)
		}
		slices.Sort(all)
		require.Equal(t, []string{"connected", "error", "error", "error", "error", "error", "error", "error"}, all)
		o.anna.In(t).Do("DELETE", "/integrations/gitlab", nil).Want(204)
	})
	t.Run("Expired", func(t *testing.T) {
		code, state := o.begin(o.anna, d, "gitlab/connect", nil)
		o.DB.Exec("update private.integration_states set expires_at = now() - interval '1 second' where used_at is null")
		want(t, o.back(t, url.Values{"code": {code}, "state": {state}}), "INVALID_STATE", "gitlab")
	})
	t.Run("AnotherTenants", func(t *testing.T) {
		// Stan tries to finish Anna's consent with a code of his own. The state decides the owner, and the code was issued without this
		// state's challenge.
		_, annas := o.begin(o.anna, d, "gitlab/connect", nil)
		code, stans := o.begin(o.stan, d, "gitlab/connect", nil)
		want(t, o.back(t, url.Values{"code": {code}, "state": {annas}}), "PROVIDER_REFUSED", "gitlab")
		require.Nil(t, of(o.anna, "gitlab"))
		want(t, o.back(t, url.Values{"code": {code}, "state": {stans}}), "PROVIDER_REFUSED", "gitlab")
		require.Nil(t, of(o.stan, "gitlab"))
	})
	t.Run("WhoBeganItIsNoAdminAnyMore", func(t *testing.T) {
		admin := o.join("Ada", "admin")
		code, state := o.begin(admin, d, "gitlab/connect", nil)
		o.DB.Exec("update public.memberships set role = 'member' where user_id = $1 and organization_id = $2", admin.ID, o.anna.OrgID)
		want(t, o.back(t, url.Values{"code": {code}, "state": {state}}), "FORBIDDEN", "gitlab")
		require.Nil(t, of(o.anna, "gitlab"))
		require.NotEmpty(t, d.revocations(), "tokens that are not stored are given back")
	})
	t.Run("NoConsent", func(t *testing.T) {
		_, state := o.begin(o.anna, d, "gitlab/connect", nil)
		want(t, o.back(t, url.Values{"error": {"access_denied"}, "state": {state}}), "PROVIDER_REFUSED", "gitlab")
		_, state = o.begin(o.anna, d, "gitlab/connect", nil)
		want(t, o.back(t, url.Values{"state": {state}}), "INVALID_STATE", "gitlab")
	})
	t.Run("ARepeatedRequestRepeatsItsState", func(t *testing.T) {
		keyed := o.anna.In(t).With("Idempotency-Key", "once")
		first := keyed.Do("POST", "/integrations/notion/connect", nil).Want(202)
		again := keyed.Do("POST", "/integrations/notion/connect", nil).Want(202)
		require.Equal(t, string(first.Body), string(again.Body))
		require.Equal(t, 1, testdb.Value[int](o.DB, "select count(*)::int from private.integration_states where provider = 'notion'"))
	})
}

// Providers that fail: each failure has its code, and leaves no half-made connection.
func TestProvidersThatFail(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options, func(c *config.Config) { c.IntegrationTimeout = 500 * time.Millisecond })
	for _, c := range []struct {
		name string
		how  func()
		code string
	}{
		{"Slow", func() { d.fail("token", d.hang) }, "PROVIDER_UNAVAILABLE"},
		{"Down", func() { d.fail("token", answer(502, "<h1>Bad gateway</h1>")) }, "PROVIDER_UNAVAILABLE"},
		{"OverItsLimits", func() { d.fail("token", answer(429, `{"error":"slow_down"}`)) }, "PROVIDER_UNAVAILABLE"},
		{"HTML", func() { d.fail("token", answer(200, "<html>Please sign in</html>")) }, "PROVIDER_UNAVAILABLE"},
		{"HTMLAsAnError", func() { d.fail("token", answer(400, "<html>No</html>")) }, "PROVIDER_UNAVAILABLE"},
		{"NoToken", func() { d.fail("token", answer(200, `{"ok":true}`)) }, "PROVIDER_UNAVAILABLE"},
		{"TheCodeIsNotGood", func() { d.fail("token", answer(400, `{"error":"invalid_grant"}`)) }, "PROVIDER_REFUSED"},
		{"TheCodeIsNotGoodWithStatus200", func() { d.fail("token", answer(200, `{"error":"bad_verification_code"}`)) }, "PROVIDER_REFUSED"},
		{"OurSecretIsWrong", func() { d.fail("token", answer(401, `{"error":"invalid_client"}`)) }, "PROVIDER_NOT_CONFIGURED"},
		{"Redirects", func() {
			d.fail("token", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
			})
		}, "PROVIDER_UNAVAILABLE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.how()
			code, state := o.begin(o.anna, d, "gitlab/connect", nil)
			q := o.back(t, url.Values{"code": {code}, "state": {state}})
			require.Equal(t, []string{"error", c.code, "gitlab"}, []string{q.Get("status"), q.Get("code"), q.Get("integration")})
			require.Nil(t, of(o.anna, "gitlab"))
			require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from private.integration_secrets"))
		})
	}
}

func TestConnectingWithAKey(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options, func(c *config.Config) { c.IntegrationTimeout = 500 * time.Millisecond })
	good := map[string]any{"credentials": map[string]any{"apiKey": "good-key", "secret": "good-secret"}}
	path := "/integrations/mixpanel/connect"
	o.anna.Do("POST", path, nil).Problem(400, "VALIDATION_ERROR").Field("credentials")
	o.anna.Do("POST", path, map[string]any{"credentials": map[string]any{"apiKey": "bad"}}).Problem(400, "VALIDATION_ERROR").Field("credentials")
	d.fail("identity", answer(500, "oops"))
	o.anna.Do("POST", path, good).Problem(503, "PROVIDER_UNAVAILABLE")
	d.fail("identity", answer(200, "<html>Sign in</html>"))
	o.anna.Do("POST", path, good).Problem(503, "PROVIDER_UNAVAILABLE")
	d.fail("identity", d.hang)
	o.anna.Do("POST", path, good).Problem(503, "PROVIDER_UNAVAILABLE")
	d.fail("identity", nil)
	require.Nil(t, of(o.anna, "mixpanel"))
	keyed := o.anna.With("Idempotency-Key", "k")
	first := keyed.Do("POST", path, good).Want(201)
	require.Equal(t, "active", first.String("status"))
	require.Equal(t, string(first.Body), string(keyed.Do("POST", path, good).Want(201).Body), "a repeated request repeats its answer")
	o.anna.Do("POST", path, good).Problem(409, "ALREADY_CONNECTED")
	require.NotContains(t, testdb.Value[string](o.DB, "select string_agg(to_jsonb(k)::text, ' ') from private.idempotency_keys k"), "good-")

	// A broken connection is reconnected with the stored key, or with a new one.
	o.DB.Exec("update public.integrations set status = 'error' where provider = 'mixpanel'")
	require.Equal(t, "warning", connectionOf(o.vera, "mixpanel"))
	r := o.anna.Do("POST", "/integrations/mixpanel/reconnect", nil).Want(201)
	require.Equal(t, "active", r.String("status"))
	require.NotEmpty(t, r.String("lastSyncAt"))
	o.DB.Exec("update public.integrations set status = 'expired' where provider = 'mixpanel'")
	o.anna.Do("POST", "/integrations/mixpanel/reconnect", map[string]any{"credentials": map[string]any{"apiKey": "bad"}}).Problem(400, "VALIDATION_ERROR").Field("credentials")
	require.Equal(t, "expired", of(o.anna, "mixpanel").Status)
	o.anna.Do("POST", "/integrations/mixpanel/reconnect", good).Want(201)
}

func TestSynchronizing(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options)
	stop := worker.Start(t, o.Stack)
	o.connect(t, o.anna, d, "gitlab", nil)
	ended := func(t *testing.T) *integration {
		t.Helper()
		eventually(t, func() bool {
			return testdb.Value[bool](o.DB, "select sync_requested_at is null from public.integrations where provider = 'gitlab'")
		}, "the synchronization ends")
		return of(o.anna, "gitlab")
	}
	t.Run("RenewsTheTokens", func(t *testing.T) {
		before := testdb.Value[string](o.DB, "select sealed from private.integration_secrets")
		o.anna.In(t).Do("POST", "/integrations/gitlab/sync", nil).Want(202)
		require.NotNil(t, ended(t).LastSyncAt)
		require.NotEqual(t, before, testdb.Value[string](o.DB, "select sealed from private.integration_secrets"))
		o.anna.In(t).Do("POST", "/integrations/gitlab/sync", nil).Want(202)
		require.Equal(t, "active", ended(t).Status, "the second one goes on with the tokens of the first")
	})
	t.Run("FiveFailuresAreAnError", func(t *testing.T) {
		d.fail("identity", answer(503, "busy"))
		for n := range 5 {
			o.anna.In(t).Do("POST", "/integrations/gitlab/sync", nil).Want(202)
			require.Equal(t, map[bool]string{true: "error", false: "active"}[n == 4], ended(t).Status)
		}
		told := testdb.Value[int](o.DB, "select count(*)::int from public.notifications where title = 'GitLab needs to be reconnected'")
		require.Equal(t, 1, told, "owner and admins, once")
		d.fail("identity", nil)
		o.connect(t, o.anna, d, "gitlab", nil)
		require.NotNil(t, ended(t).LastSyncAt)
	})
	t.Run("ARefusedTokenIsExpired", func(t *testing.T) {
		d.fail("token", answer(400, `{"error":"invalid_grant"}`))
		o.anna.In(t).Do("POST", "/integrations/gitlab/sync", nil).Want(202)
		require.Equal(t, "expired", ended(t).Status)
		require.Equal(t, 2, testdb.Value[int](o.DB, "select count(*)::int from public.notifications where title = 'GitLab needs to be reconnected'"))
		d.fail("token", nil)
		code, state := o.begin(o.anna, d, "gitlab/reconnect", nil)
		require.Equal(t, "connected", o.back(t, url.Values{"code": {code}, "state": {state}}).Get("status"))
		require.Equal(t, "active", of(o.anna, "gitlab").Status)
	})
	t.Run("OneAtATime", func(t *testing.T) {
		stop()
		o.anna.In(t).Do("POST", "/integrations/gitlab/sync", nil).Want(202)
		o.anna.In(t).Do("POST", "/integrations/gitlab/sync", nil).Problem(409, "SYNC_IN_PROGRESS")
	})
}

func TestDisconnectingTellsTheProvider(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options)
	for _, provider := range []string{"gitlab", "slack", "github", "notion"} {
		o.connect(t, o.anna, d, provider, nil)
	}
	d.fail("revoke", answer(500, "busy"))
	o.anna.Do("DELETE", "/integrations/gitlab", nil).Want(204)
	require.Nil(t, of(o.anna, "gitlab"))
	require.Equal(t, 1, testdb.Value[int](o.DB, "select count(*)::int from public.audit_log where event_type = 'integration.disconnected' and metadata ->> 'provider' = 'gitlab'"))
	worker.Start(t, o.Stack)
	eventually(t, func() bool {
		return testdb.Value[bool](o.DB, "select tries = 1 and lease_token is null from private.integration_revocations")
	}, "the first try fails")
	d.fail("revoke", nil)
	o.DB.Exec("update jobs.stored_jobs set run_at = now() where queue = 'integrations'")
	// Also when a whole organization is deleted.
	o.DB.Exec("delete from public.organizations where id = $1", o.anna.OrgID)
	eventually(t, func() bool {
		return testdb.Value[int](o.DB, "select count(*)::int from private.integration_revocations") == 0
	}, "all are told")
	require.Len(t, d.revocations(), 4)
	require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from private.integration_secrets"))
}

func TestARevocationEndsAfterFiveTries(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	o := newOffice(t, d.options)
	o.connect(t, o.anna, d, "gitlab", nil)
	d.fail("revoke", answer(500, "busy"))
	o.anna.Do("DELETE", "/integrations/gitlab", nil).Want(204)
	worker.Start(t, o.Stack)
	eventually(t, func() bool {
		o.DB.Exec("update jobs.stored_jobs set run_at = now() where queue = 'integrations' and run_at > now()")
		return testdb.Value[int](o.DB, "select count(*)::int from private.integration_revocations") == 0
	}, "the tokens are forgotten")
}

// Every permission of the catalogue maps to scopes of its provider, and every provider has an address for consent.
func TestEveryProviderOfTheCatalogueCanBeAsked(t *testing.T) {
	t.Parallel()
	o := newOffice(t, func(c *config.Config) {
		for _, provider := range strings.Fields(`discord dropbox github gitlab google-analytics google-drive google-workspace hubspot jira microsoft-365 microsoft-teams
			notion onedrive pipedrive salesforce slack`) {
			c.IntegrationClients = append(c.IntegrationClients, provider+"="+clientID+":"+clientSecret)
		}
	})
	asked := testdb.Value[[]string](o.DB, "select array_agg(id || ' ' || p order by id, p) from public.integration_apps, unnest(permissions) p where auth = 'oauth'")
	require.Len(t, asked, 42)
	for _, pair := range asked {
		provider, permission, _ := strings.Cut(pair, " ")
		r := o.anna.Do("POST", "/integrations/"+provider+"/connect", map[string]any{"scopes": []string{permission}}).Want(202)
		u, err := url.Parse(r.String("authorizationUrl"))
		require.NoError(t, err)
		require.Equal(t, "https", u.Scheme)
		require.Equal(t, provider != "notion", u.Query().Get("scope") != "", pair)
		require.NotContains(t, u.String(), clientSecret)
	}
}
