// Package analytics has black-box tests of the events that clients send. One stack serves all of them. Each uses addresses of its own,
// because the limit counts by address.
package analytics

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/browser"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

type fields map[string]any

func TestAnalytics(t *testing.T) {
	t.Parallel()
	// Pages of this machine may call, on any port: the browser's page is the server's own.
	s := stack.New(t, func(c *config.Config) { c.Origins = append(c.Origins, "http://127.0.0.1:*") })
	for _, story := range []struct {
		name string
		tell func(*testing.T, *stack.Stack)
	}{
		{"TheBodyIsJSONWhateverItsType", anyType}, {"ACredentialOnlySaysWhoSends", whoSends}, {"ABadEventIsRejectedAlone", rejectedAlone},
		{"NothingOfTheClientIsStored", nothingOfTheClient}, {"SixtyRequestsAMinuteAndAddress", sixty}, {"NoneIsLostAmongManyClients", noneIsLost},
		{"ABeaconOfABrowserArrives", beacon}, {"AdminsReadTheNumbers", numbers},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			story.tell(t, s)
		})
	}
}

func event(session string, changes ...any) fields {
	e := fields{"type": "ingestion_started", "timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), "persona": "alex", "sessionId": session,
		"properties": fields{"project_id": "p", "repo_count": 1}}
	for i := 0; i < len(changes); i += 2 {
		e[changes[i].(string)] = changes[i+1]
	}
	return e
}

func batch(events ...any) fields { return fields{"events": events} }

// stored says who sent the events of a session: user and organization, or none.
func stored(s *stack.Stack, session string) string {
	return testdb.Value[string](s.DB, `select coalesce(string_agg(coalesce(user_id::text, 'none') || ' ' || coalesce(organization_id::text, 'none'), ', '), '')
		from private.analytics_events where session_id = $1`, session)
}

func anyType(t *testing.T, s *stack.Stack) {
	for i, kind := range []string{"application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "application/octet-stream", "nonsense", ""} {
		raw, err := json.Marshal(batch(event(fmt.Sprint("type-", i))))
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.BaseURL+"/api/analytics/events", bytes.NewReader(raw)) // the alias that the client uses
		require.NoError(t, err)
		r.Header["Content-Type"] = []string{kind}
		if kind == "" {
			r.Header["Content-Type"] = nil
		}
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, 202, answer.StatusCode, kind)
		require.Equal(t, "none none", stored(s, fmt.Sprint("type-", i)))
	}
	c := s.As("").With("X-Forwarded-For", "192.0.2.2").In(t)
	for _, body := range []any{"", "{", "null", "[]", `"text"`, "x=1", batch(), fields{"events": fields{}}, fields{"events": "x\x00"}, fields{}, batch(make([]any, 101)...), `{"events": [{}]} {}`} {
		c.Do("POST", "/analytics/events", body).Problem(400, "VALIDATION_ERROR").Field("events")
	}
	c.Do("POST", "/analytics/events", batch(event("large", "properties", fields{"a": strings.Repeat("x", 64<<10)}))).Problem(413, "PAYLOAD_TOO_LARGE")
	exact := fmt.Sprintf(`{"events": [], "a": "%s"}`, strings.Repeat("x", 64<<10-23))
	require.Len(t, exact, 64<<10)
	c.Do("POST", "/analytics/events", exact).Problem(400, "VALIDATION_ERROR")
	c.Do("POST", "/analytics/events", exact+" ").Problem(413, "PAYLOAD_TOO_LARGE")
}

func whoSends(t *testing.T, s *stack.Stack) {
	anna := s.SignUp("Anna")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	login := func() client.Response {
		return s.As("").Do("POST", "/auth/login", fields{"email": anna.Email, "password": anna.Password}).Want(200)
	}
	signedIn, ended := login(), login()
	s.As(ended.Tokens().AccessToken).Do("POST", "/auth/logout", fields{"refresh_token": ended.Tokens().RefreshToken}).Want(204)
	key := func() (id, secret string) {
		made := anna.Do("POST", "/security/api-keys", fields{"name": "A program", "scopes": []string{"read"}, "expiration": "never"}).Want(201)
		return made.String("id"), made.String("key")
	}
	_, good := key()
	id, revoked := key()
	anna.Do("DELETE", "/security/api-keys/"+id, nil).Want(204)
	cookie := func(r client.Response) string { return "kijko_session=" + r.Cookie("kijko_session").Value }
	const ours, theirs = "http://localhost:3000", "https://evil.example"
	hers := anna.ID + " " + anna.OrgID
	for i, c := range []struct{ what, bearer, cookie, origin, sender string }{
		{"no credential", "", "", "", "none none"},
		{"a token", signedIn.Tokens().AccessToken, "", "", hers},
		{"a token, from a page of elsewhere", signedIn.Tokens().AccessToken, "", theirs, hers},
		{"a token of an ended session", ended.Tokens().AccessToken, "", ours, "none none"},
		{"nonsense as a token", "nonsense", "", ours, "none none"},
		{"nonsense as a token beside a good cookie", "nonsense", cookie(signedIn), ours, "none none"},
		{"a cookie from a page of ours", "", cookie(signedIn), ours, hers},
		{"a cookie from a page of elsewhere", "", cookie(signedIn), theirs, "none none"},
		{"a cookie without an origin", "", cookie(signedIn), "", "none none"},
		{"a cookie of an ended session", "", cookie(ended), ours, "none none"},
		{"nonsense as a cookie", "", "kijko_session=nonsense", ours, "none none"},
		{"an API key", good, "", "", hers},
		{"a revoked API key", revoked, "", "", "none none"},
		{"nonsense as an API key", "kijko_live_nonsense", "", "", "none none"},
	} {
		caller, session := s.As(c.bearer).With("X-Forwarded-For", "192.0.2.3").In(t), fmt.Sprint("sender-", i)
		if c.cookie != "" {
			caller = caller.With("Cookie", c.cookie)
		}
		if c.origin != "" {
			caller = caller.With("Origin", c.origin)
		}
		r := caller.Do("POST", "/analytics/events", batch(event(session))).Want(202)
		r.Equal(fields{"accepted": 1, "rejected": 0})
		require.Equal(t, c.sender, stored(s, session), c.what)
		allowed := map[bool]string{true: ours}[c.origin == ours]
		require.Equal(t, allowed, r.Header.Get("Access-Control-Allow-Origin"), c.what)
	}
	// A good session that is not admitted now: the organization takes no requests from this address.
	s.DB.Exec("update public.security_policies set ip_mode = 'enforce', ip_admin_bypass = false where organization_id = $1", anna.OrgID)
	caller := s.As(signedIn.Tokens().AccessToken).With("X-Forwarded-For", "192.0.2.3").In(t)
	caller.Get("/projects").Problem(403, "IP_NOT_ALLOWED")
	caller.Do("POST", "/analytics/events", batch(event("restricted"))).Want(202)
	require.Equal(t, "none none", stored(s, "restricted"))
}

func rejectedAlone(t *testing.T, s *stack.Stack) {
	c := s.As("").With("X-Forwarded-For", "192.0.2.4").In(t)
	good, err := json.Marshal(event("alone"))
	require.NoError(t, err)
	for _, bad := range []string{`{"type": "x\u0000"}`, `{"type": "\ud800"}`, "{\"type\": \"\xff\"}", `{"a": 1e999}`, `7`, `null`, strings.Repeat("[", 100) + strings.Repeat("]", 100)} {
		r := c.Do("POST", "/analytics/events", `{"events": [`+bad+`, `+string(good)+`]}`).Want(202)
		require.Equal(t, []any{1., 1.}, []any{r.Value("accepted"), r.Value("rejected")}, bad)
		require.Equal(t, []any{map[string]any{"index": 0., "field": "event", "message": "An event is an object of valid text and numbers."}}, r.Value("errors"), bad)
	}
	r := c.Do("POST", "/analytics/events", batch(event("alone", "type", "page_viewed"), event("alone", "properties", fields{"a": strings.Repeat("x", 9000)}), event("alone", "sessionId", ""), event("alone"))).Want(202)
	require.Equal(t, 1., r.Value("accepted"))
	var places []string
	for _, e := range r.Value("errors").([]any) {
		places = append(places, fmt.Sprint(e.(map[string]any)["index"], " ", e.(map[string]any)["field"]))
	}
	require.Equal(t, []string{"0 type", "1 properties", "2 sessionId"}, places)
	require.NotEmpty(t, stored(s, "alone"))
}

// An address, a browser's name, a referring page and a language are in no table afterwards.
func nothingOfTheClient(t *testing.T, s *stack.Stack) {
	c := s.As("").With("X-Forwarded-For", "203.0.113.77").With("User-Agent", "Mozilla/5.0 Distinctive/77").With("Referer", "https://distinctive.example/page").With("Accept-Language", "xx-distinctive").In(t)
	c.Do("POST", "/analytics/events", batch(event("private"))).Want(202)
	for _, table := range strings.Fields(testdb.Value[string](s.DB, `select string_agg(format('%I.%I', schemaname, tablename), ' ') from pg_tables
		where schemaname in ('public', 'private', 'jobs')`)) {
		require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from "+table+" t where t::text ~* '203\\.0\\.113\\.77|distinctive'"), table)
	}
}

func sixty(t *testing.T, s *stack.Stack) {
	at := func(address string) *client.Client { return s.As("").With("X-Forwarded-For", address).In(t) }
	refused := client.Response{}
	for n := 0; n < 70 && refused.Status != 429; n++ {
		if refused = at(fmt.Sprintf("2001:db8:1:2::%x", n+1)).Do("POST", "/analytics/events", batch(event("sixty"))); n < 60 {
			refused.Want(202)
		}
	}
	refused.Problem(429, "RATE_LIMITED")
	require.Equal(t, "60", refused.Header.Get("X-RateLimit-Limit"))
	require.NotEmpty(t, refused.Header.Get("Retry-After"))
	at("2001:db8:1:3::1").Do("POST", "/analytics/events", batch(event("sixty"))).Want(202)
}

// Twenty clients, half of them signed in, send batches at once, and each batch twice, as a client does that got no answer.
func noneIsLost(t *testing.T, s *stack.Stack) {
	const clients, batches, size = 20, 5, 40
	anna := s.SignUp("Anna")
	var wg sync.WaitGroup
	failed := make(chan string, clients*batches*2)
	for n := range clients {
		c := s.As(map[bool]string{true: anna.Token}[n%2 == 0]).With("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", n+1))
		wg.Go(func() {
			for b := range batches {
				events := make([]any, size)
				for i := range events {
					events[i] = event(fmt.Sprint("many-", n), "properties", fields{"step": b*size + i})
				}
				for range 2 {
					r, err := c.Try("POST", "/analytics/events", batch(events...))
					if err != nil || r.Status != 202 || !strings.Contains(string(r.Body), fmt.Sprintf(`"accepted": %d`, size)) {
						failed <- fmt.Sprint(r.Status, " ", string(r.Body), err)
					}
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for fault := range failed {
		t.Error(fault)
	}
	require.Equal(t, clients*batches*size, testdb.Value[int](s.DB, "select count(*)::int from private.analytics_events where session_id like 'many-%'"))
	require.Equal(t, clients*batches*size/2, testdb.Value[int](s.DB, "select count(*)::int from private.analytics_events where session_id like 'many-%' and user_id = $1", anna.ID))
}

func beacon(t *testing.T, s *stack.Stack) {
	anna := s.SignUp("Anna")
	ctx := browser.New(t)
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(s.BaseURL+"/health/live")))
	run := func(script string) bool {
		done, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script))
		require.NoError(t, err)
		return done
	}
	send := func(session, form string) string {
		raw, err := json.Marshal(batch(event(session)))
		require.NoError(t, err)
		return fmt.Sprintf(form, "`"+string(raw)+"`")
	}
	for session, form := range map[string]string{
		"beacon":     `navigator.sendBeacon("/api/analytics/events", %s)`,
		"typed":      `navigator.sendBeacon("/api/analytics/events", new Blob([%s], {type: "application/json"}))`,
		"keep-alive": `fetch("/api/analytics/events", {method: "POST", keepalive: true, headers: {"Content-Type": "application/json"}, body: %s}), true`,
	} {
		require.True(t, run(send(session, form)), session)
		stack.Eventually(t, session+" arrives", func() bool { return stored(s, session) == "none none" })
	}
	require.True(t, run(fmt.Sprintf(`fetch("/api/v1/auth/login", {method: "POST", headers: {"Content-Type": "application/json"},
		body: JSON.stringify({email: %q, password: %q})}).then(r => { window.entered = r.ok }), true`, anna.Email, anna.Password)))
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](`window.entered === true`, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(30*time.Second)))
	require.NoError(t, err)
	require.True(t, run(send("cookie", `navigator.sendBeacon("/api/v1/analytics/events", %s)`)))
	stack.Eventually(t, "a beacon after signing in is Anna's", func() bool { return stored(s, "cookie") == anna.ID+" "+anna.OrgID })
}

func numbers(t *testing.T, s *stack.Stack) {
	anna := s.SignUp("Anna")
	anna.With("X-Forwarded-For", "192.0.2.5").In(t).Do("POST", "/analytics/events", batch(event("n1", "type", "project_creation_started"), event("n1", "type", "ingestion_completed"),
		event("n2", "type", "project_creation_started", "persona", nil))).Want(202)
	r := anna.In(t).Get("/analytics/summary").Want(200)
	require.Equal(t, 3., r.Value("total"))
	require.Equal(t, map[string]any{"started": 2., "ingestionStarted": 0., "completed": 1., "completedPercent": 50.}, r.Value("funnel"))
	require.Equal(t, 0., anna.In(t).Get("/analytics/summary?to=2026-01-01").Want(200).Value("total"))
	anna.In(t).Get("/analytics/summary?from=yesterday").Problem(400, "VALIDATION_ERROR").Field("from")
	s.As("").In(t).Get("/analytics/summary").Problem(401, "UNAUTHENTICATED")
}
