package integrations

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/tests/client"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
)

const whSecret = "a-secret-of-the-webhook-äöü-9876"

// got is one request that a receiver accepted.
type got struct {
	Event, Delivery, Type string
	Body                  struct {
		ID, Type, CreatedAt string
		Data                map[string]any
	}
	Raw string
}

// receiver is a real server with TLS. It verifies each signature as a receiver would, and answers as the test sets it.
type receiver struct {
	t    testing.TB
	URL  string
	mu   sync.Mutex
	all  []got
	how  http.HandlerFunc
	bad  int
	wake chan struct{}
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{t: t, wake: make(chan struct{}, 1000)}
	r.URL = serveTLS(t, http.HandlerFunc(r.serve)) + "/hook"
	return r
}

func (x *receiver) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	g := got{Event: r.Header.Get("X-Kijko-Event"), Delivery: r.Header.Get("X-Kijko-Delivery"), Type: r.Header.Get("Content-Type"), Raw: string(raw)}
	stamp, mac, _ := strings.Cut(r.Header.Get("X-Kijko-Signature"), ",")
	at := strings.TrimPrefix(stamp, "t=")
	sum := hmac.New(sha256.New, []byte(whSecret))
	_, _ = sum.Write([]byte(at + "." + string(raw)))
	seconds, err := strconv.ParseInt(at, 10, 64)
	good := err == nil && mac == "v1="+hex.EncodeToString(sum.Sum(nil)) && time.Since(time.Unix(seconds, 0)).Abs() < time.Minute
	x.mu.Lock()
	if !good || json.Unmarshal(raw, &g.Body) != nil || r.Method != "POST" {
		x.bad++
	}
	x.all = append(x.all, g)
	how := x.how
	x.mu.Unlock()
	x.wake <- struct{}{}
	if how != nil {
		how(w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (x *receiver) answer(how http.HandlerFunc) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.how = how
}

// next waits for a request.
func (x *receiver) next() got {
	select {
	case <-x.wake:
	case <-time.After(30 * time.Second):
		require.FailNow(x.t, "nothing was delivered")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	require.Zero(x.t, x.bad, "signatures that do not fit")
	return x.all[len(x.all)-1-len(x.wake)]
}

func (x *receiver) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.all)
}

type delivery struct {
	ID, WebhookID, EventType, Status string
	AttemptNumber                    int
	ResponseStatus                   *int
	ResponseBody                     *string
	Payload                          map[string]any
}

func deliveries(p *client.Person, id string) []delivery {
	return client.JSON[struct{ Deliveries []delivery }](p.Get("/integrations/webhooks/" + id + "/deliveries?limit=100").Want(200)).Deliveries
}

func (o *office) webhook(x *receiver, events ...string) string {
	r := o.anna.Do("POST", "/integrations/webhooks", map[string]any{"name": "Ours", "endpointUrl": x.URL, "secret": whSecret, "events": events}).Want(201)
	require.Equal(x.t, whSecret, r.String("secret"), "in clear, this once")
	return r.String("id")
}

// due makes waiting deliveries due now: a test must not wait for time.
func (o *office) due() {
	o.DB.Exec("update jobs.stored_jobs set run_at = now() where queue = 'webhooks'")
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := newReceiver(t)
	t.Run("Refusals", func(t *testing.T) {
		good := map[string]any{"name": "Ours", "endpointUrl": x.URL, "secret": whSecret, "events": []string{"context.created"}}
		for _, c := range []struct {
			field string
			value any
		}{
			{"name", "  "}, {"name", strings.Repeat("x", 101)}, {"endpointUrl", strings.Replace(x.URL, "https", "http", 1)}, {"endpointUrl", "https://a:b@example.nl/"},
			{"secret", "short"}, {"secret", strings.Repeat("x", 257)}, {"events", []string{}}, {"events", []string{"context.created", "context.created"}},
			{"events", []string{"context.moved"}}, {"endpointUrl", "https://169.254.169.254/"},
		} {
			body := map[string]any{}
			for name, value := range good {
				body[name] = value
			}
			body[c.field] = c.value
			r := o.anna.In(t).Do("POST", "/integrations/webhooks", body).Problem(400, "VALIDATION_ERROR")
			require.True(t, strings.HasPrefix(r.String("field"), c.field), "%s", r.Body)
		}
		for _, p := range []*client.Person{o.ben, o.vera} {
			p.In(t).Do("POST", "/integrations/webhooks", good).Problem(403, "FORBIDDEN")
		}
	})
	id := o.webhook(x, "lead.created", "context.created")
	path := "/integrations/webhooks/" + id
	t.Run("TheSecretIsMasked", func(t *testing.T) {
		const mask = "whsec_••••••••••••9876"
		require.Equal(t, mask, client.JSON[[]struct{ Secret string }](o.vera.In(t).Get("/integrations/webhooks").Want(200))[0].Secret)
		require.Equal(t, mask, o.anna.In(t).Do("PATCH", path, map[string]any{"name": "Renamed", "secret": mask}).Want(200).String("secret"))
		require.Equal(t, "success", o.anna.In(t).Do("POST", path+"/test", nil).Want(200).String("status"), "the mask kept the secret")
		g := x.next()
		require.Equal(t, []string{"lead.created", "lead.created", "application/json"}, []string{g.Event, g.Body.Type, g.Type})
		body := map[string]any{"name": "Twice", "endpointUrl": x.URL, "secret": whSecret, "events": []string{"context.created"}}
		keyed := o.anna.In(t).With("Idempotency-Key", "one")
		require.Equal(t, string(keyed.Do("POST", "/integrations/webhooks", body).Want(201).Body), string(keyed.Do("POST", "/integrations/webhooks", body).Want(201).Body))
		text := testdb.Value[string](o.DB, `select string_agg(s, ' ') from (select to_jsonb(x)::text from private.integration_secrets x
			union all select to_jsonb(x)::text from public.webhooks x union all select to_jsonb(x)::text from private.idempotency_keys x
			union all select to_jsonb(x)::text from public.audit_log x union all select to_jsonb(x)::text from public.webhook_deliveries x) s(s)`)
		require.NotContains(t, text, whSecret)
	})
	t.Run("OthersSeeNothing", func(t *testing.T) {
		require.Empty(t, client.JSON[[]any](o.stan.In(t).Get("/integrations/webhooks").Want(200)))
		o.stan.In(t).Get(path+"/deliveries").Problem(404, "WEBHOOK_NOT_FOUND")
		o.stan.In(t).Do("POST", path+"/test", nil).Problem(404, "WEBHOOK_NOT_FOUND")
		for _, p := range []*client.Person{o.ben, o.vera} {
			p.In(t).Do("PATCH", path, map[string]any{"status": "paused"}).Problem(403, "FORBIDDEN")
			p.In(t).Do("POST", path+"/test", nil).Problem(403, "FORBIDDEN")
			p.In(t).Do("DELETE", path, nil).Problem(403, "FORBIDDEN")
			require.NotEmpty(t, deliveries(p, id))
		}
	})
	t.Run("TestsAreSentWhilePaused", func(t *testing.T) {
		require.Equal(t, "paused", o.anna.In(t).Do("PUT", path, map[string]any{"status": "paused"}).Want(200).String("status"))
		for _, c := range []struct {
			how    http.HandlerFunc
			status string
			code   any
			body   any
		}{
			{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); _, _ = w.Write([]byte("thanks")) }, "success", 201.0, "thanks"},
			{func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, x.URL, http.StatusTemporaryRedirect) }, "failed", 307.0, ""},
			{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("a\x00b\xffc")) }, "success", 200.0, "a\ufffdb\ufffdc"},
			{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("é"), 5000)) }, "success", 200.0, strings.Repeat("é", 1024)},
			{func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(append([]byte("x"), bytes.Repeat([]byte("é"), 5000)...))
			}, "success", 200.0, "x" + strings.Repeat("é", 1023)},
			{func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "failed", nil, nil},
		} {
			x.answer(c.how)
			r := o.anna.In(t).Do("POST", path+"/test", nil).Want(200)
			x.next()
			require.Equal(t, []any{c.status, c.code}, []any{r.String("status"), r.Value("responseStatus")}, "%s", r.Body)
			if c.code != 307.0 {
				require.Equal(t, c.body, r.Value("responseBody"))
			}
		}
		x.answer(nil)
		require.Zero(t, testdb.Value[int](o.DB, "select consecutive_failures::int from public.webhooks where id = $1", id), "tests are no failures")
	})
	t.Run("TwentyAreEnough", func(t *testing.T) {
		o.DB.Exec(`insert into public.webhooks (id, organization_id, name, endpoint_url, secret_end, events)
			select gen_random_uuid(), $1, 'More', 'https://hooks.invalid', '1234', '{lead.created}' from generate_series(1, 18)`, o.anna.OrgID)
		o.anna.In(t).Do("POST", "/integrations/webhooks", map[string]any{"name": "Ours", "endpointUrl": x.URL, "secret": whSecret, "events": []string{"context.created"}}).
			Problem(409, "TOO_MANY_WEBHOOKS")
		o.anna.In(t).Do("DELETE", path, nil).Want(204)
		o.anna.In(t).Get(path+"/deliveries").Problem(404, "WEBHOOK_NOT_FOUND")
	})
}

func TestWebhooksAreToldWhatHappens(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := newReceiver(t)
	id := o.webhook(x, "context.created", "context.updated", "context.deleted", "user.login", "user.settings_changed", "export.completed")
	worker.Start(t, o.Stack)
	project := o.anna.Do("POST", "/projects", map[string]any{"name": "Billing"}).Want(201).String("project.id")
	g := x.next()
	require.Equal(t, "context.created", g.Event)
	require.Equal(t, []any{project, "Billing", o.anna.Email}, []any{g.Body.Data["id"], g.Body.Data["name"], g.Body.Data["owner"]})
	require.Equal(t, "context.created", g.Body.Type)

	o.anna.Do("PUT", "/projects/"+project, map[string]any{"name": "Invoices"}).Want(200)
	g = x.next()
	require.Equal(t, []any{"context.updated", "Invoices"}, []any{g.Event, g.Body.Data["name"]})
	o.anna.Do("PUT", "/projects/"+project, map[string]any{"name": "Invoices"}).Want(200)
	o.anna.Do("PATCH", "/notifications/preferences", map[string]any{"email": map[string]any{"weeklyDigest": true}}).Want(200)
	g = x.next()
	require.Equal(t, []any{"user.settings_changed", o.anna.ID}, []any{g.Event, g.Body.Data["userId"]})
	o.As("").Do("POST", "/auth/login", map[string]any{"email": o.anna.Email, "password": o.anna.Password}).Want(200)
	g = x.next()
	require.Equal(t, []any{"user.login", o.anna.ID, "success"}, []any{g.Event, g.Body.Data["userId"], g.Body.Data["status"]})
	o.DB.Exec("select private.audit('system.export_completed', 'Exported.', '{\"format\": \"csv\"}', null, $1, $2)", o.anna.OrgID, o.anna.ID)
	require.Equal(t, "export.completed", x.next().Event)
	o.anna.Do("DELETE", "/projects/"+project, nil).Want(200)
	g = x.next()
	require.Equal(t, []any{"context.deleted", project}, []any{g.Event, g.Body.Data["id"]})

	// A change that is rolled back is not sent, nor is a change of another organization.
	_, err := o.DB.Connect("postgres").Exec(t.Context(), "begin; insert into public.projects (organization_id, user_id, name) values ('"+o.anna.OrgID+"', '"+o.anna.ID+"', 'Never'); rollback")
	require.NoError(t, err)
	o.stan.Do("POST", "/projects", map[string]any{"name": "Stan's"}).Want(201)
	o.anna.Do("POST", "/projects", map[string]any{"name": "Last"}).Want(201)
	require.Equal(t, "Last", x.next().Body.Data["name"])
	eventually(t, func() bool {
		return testdb.Value[int](o.DB, "select count(*)::int from public.webhook_deliveries where status = 'pending'") == 0
	}, "all are recorded")
	require.Equal(t, x.count(), len(deliveries(o.vera, id)))
	for _, d := range deliveries(o.vera, id) {
		require.Equal(t, []any{"success", 1, 204}, []any{d.Status, d.AttemptNumber, *d.ResponseStatus})
	}
	require.NotEmpty(t, client.JSON[[]struct{ LastTriggeredAt string }](o.vera.Get("/integrations/webhooks").Want(200))[0].LastTriggeredAt)
	require.Equal(t, x.count(), testdb.Value[int](o.DB, "select count(*)::int from public.audit_log where event_type = 'integration.webhook_triggered'"))
	// A whole organization is deleted, with its projects: no event is sent any more, and nothing blocks the deletion.
	o.DB.Exec("delete from public.organizations where id = $1", o.anna.OrgID)
}

func TestFailedDeliveriesAreTriedAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := newReceiver(t)
	x.answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusInternalServerError) })
	id := o.webhook(x, "context.created")
	worker.Start(t, o.Stack)
	o.anna.Do("POST", "/projects", map[string]any{"name": "Billing"}).Want(201)
	waits := []string{"00:00:10", "00:01:00", "00:05:00", "00:30:00", "02:00:00"}
	event := ""
	for n := 1; n <= 6; n++ {
		g := x.next()
		if event == "" {
			event = g.Body.ID
		}
		require.Equal(t, event, g.Body.ID, "the same event")
		eventually(t, func() bool {
			all := deliveries(o.anna, id)
			return len(all) == min(n+1, 6) && all[len(all)-n].Status == "failed"
		}, "attempt %d is recorded", n)
		d := deliveries(o.anna, id)
		require.Equal(t, g.Delivery, d[len(d)-n].ID, "each attempt has its name")
		require.Equal(t, "not now\n", *d[len(d)-n].ResponseBody)
		if n < 6 {
			require.Equal(t, []any{"pending", n + 1}, []any{d[0].Status, d[0].AttemptNumber})
			require.Equal(t, waits[n-1], testdb.Value[string](o.DB, "select date_trunc('second', run_at - created_at + interval '0.5 second')::text from jobs.stored_jobs where queue = 'webhooks'"))
			o.anna.Do("POST", "/integrations/webhooks/deliveries/"+d[0].ID+"/retry", nil).Problem(409, "DELIVERY_NOT_FAILED")
			o.due()
		}
	}
	require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from jobs.stored_jobs where queue = 'webhooks'"), "six attempts and no more")

	last := deliveries(o.anna, id)[0]
	for _, p := range []*client.Person{o.ben, o.vera} {
		p.Do("POST", "/integrations/webhooks/deliveries/"+last.ID+"/retry", nil).Problem(403, "FORBIDDEN")
	}
	o.stan.Do("POST", "/integrations/webhooks/deliveries/"+last.ID+"/retry", nil).Problem(404, "DELIVERY_NOT_FOUND")
	x.answer(nil)
	r := o.anna.Do("POST", "/integrations/webhooks/deliveries/"+last.ID+"/retry", nil).Want(202)
	require.Equal(t, []any{"pending", 7.0}, []any{r.String("status"), r.Value("attemptNumber")})
	require.Equal(t, event, x.next().Body.ID)
	eventually(t, func() bool { return deliveries(o.anna, id)[0].Status == "success" }, "the retry succeeds")
	require.Zero(t, testdb.Value[int](o.DB, "select consecutive_failures::int from public.webhooks"))
}

func TestTwentyFailuresPauseAWebhook(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := newReceiver(t)
	x.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	id := o.webhook(x, "context.created")
	o.DB.Exec("update public.webhooks set consecutive_failures = 18")
	worker.Start(t, o.Stack)
	status := func() string {
		return client.JSON[[]struct{ Status string }](o.vera.Get("/integrations/webhooks").Want(200))[0].Status
	}
	o.anna.Do("POST", "/projects", map[string]any{"name": "Nineteen"}).Want(201)
	x.next()
	eventually(t, func() bool { return len(deliveries(o.anna, id)) == 2 }, "the nineteenth is recorded")
	require.Equal(t, "active", status())
	o.anna.Do("POST", "/projects", map[string]any{"name": "Twenty"}).Want(201)
	x.next()
	eventually(t, func() bool { return status() == "paused" }, "the twentieth pauses")
	require.Equal(t, 1, testdb.Value[int](o.DB, "select count(*)::int from public.notifications where title = 'The webhook \"Ours\" was paused'"), "the owner, and no member")
	// Waiting deliveries are not sent, and no new ones are written.
	o.due()
	eventually(t, func() bool {
		return testdb.Value[int](o.DB, "select count(*)::int from public.webhook_deliveries where status = 'pending'") == 0
	}, "what waited has failed")
	o.anna.Do("POST", "/projects", map[string]any{"name": "Unheard"}).Want(201)
	require.Len(t, deliveries(o.anna, id), 3)
	require.Equal(t, 2, x.count())
	x.answer(nil)
	o.anna.Do("PATCH", "/integrations/webhooks/"+id, map[string]any{"status": "active"}).Want(200)
	require.Zero(t, testdb.Value[int](o.DB, "select consecutive_failures::int from public.webhooks"))
	o.anna.Do("POST", "/projects", map[string]any{"name": "Heard"}).Want(201)
	require.Equal(t, "Heard", x.next().Body.Data["name"])
}

// Three workers share one queue: each attempt is sent by one of them.
func TestWorkersNeverSendOneAttemptTwice(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := newReceiver(t)
	id := o.webhook(x, "context.created")
	const events = 60
	for range 3 {
		worker.Start(t, o.Stack)
	}
	o.DB.Exec("select private.notify_webhooks($1, 'context.created', jsonb_build_object('n', n)) from generate_series(1, $2::int) n", o.anna.OrgID, events)
	o.anna.Do("POST", "/projects", map[string]any{"name": "Wakes the workers"}).Want(201)
	eventually(t, func() bool {
		return testdb.Value[int](o.DB, "select count(*)::int from public.webhook_deliveries where status = 'success'") == events+1
	}, "all are delivered")
	seen := map[string]bool{}
	x.mu.Lock()
	defer x.mu.Unlock()
	require.Len(t, x.all, events+1)
	require.Zero(t, x.bad)
	for _, g := range x.all {
		require.False(t, seen[g.Delivery], "sent twice")
		seen[g.Delivery] = true
	}
	require.NotEmpty(t, id)
}

// A worker dies with an attempt in hand. Its lease expires, another worker sends the attempt once more, and a late result of the dead
// worker is ignored. Losing the attempt twice is a failure.
func TestALostAttemptIsSentOnceMore(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := newReceiver(t)
	id := o.webhook(x, "context.created")
	take := func() map[string]any {
		var d map[string]any
		require.NoError(t, json.Unmarshal([]byte(testdb.Value[string](o.DB, "select t::text from private.take_deliveries(10, 1) t")), &d))
		return d
	}
	finish := func(d map[string]any) bool {
		return testdb.Value[string](o.DB, "select private.finish_delivery($1::jsonb)::text", fmt.Sprintf(`{"id": %q, "token": %q, "ok": true, "status": 200}`, d["id"], d["token"])) == "true"
	}
	o.anna.Do("POST", "/projects", map[string]any{"name": "Billing"}).Want(201)
	lost := take()
	require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from private.take_deliveries(10, 1)"), "no other worker gets it")
	o.DB.Exec("select private.sweep_integrations()")
	require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from private.take_deliveries(10, 1)"), "while the lease holds")
	o.DB.Exec("select private.sweep_integrations(clock_timestamp() + interval '1 minute')")
	second := take()
	require.Equal(t, lost["id"], second["id"])
	require.False(t, finish(lost), "who lost it is not heard")
	require.Equal(t, "pending", deliveries(o.anna, id)[0].Status)
	o.DB.Exec("select private.sweep_integrations(clock_timestamp() + interval '1 minute')")
	require.Zero(t, testdb.Value[int](o.DB, "select count(*)::int from private.take_deliveries(10, 1)"), "not a third time")
	all := deliveries(o.anna, id)
	require.Equal(t, []any{"pending", 2, "failed", 1}, []any{all[0].Status, all[0].AttemptNumber, all[1].Status, all[1].AttemptNumber})
	require.False(t, finish(second))
	o.due()
	third := take()
	require.True(t, finish(third))
	require.False(t, finish(third), "once")
	require.Zero(t, x.count())
}

func TestDeliveriesAreKeptThirtyDays(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	x := newReceiver(t)
	id := o.webhook(x, "context.created")
	for range 3 {
		o.anna.Do("POST", "/integrations/webhooks/"+id+"/test", nil).Want(200)
	}
	page := o.vera.Get("/integrations/webhooks/" + id + "/deliveries?limit=2").Want(200)
	require.Equal(t, true, page.Value("hasMore"))
	require.Len(t, page.Value("deliveries"), 2)
	require.Equal(t, false, o.vera.Get("/integrations/webhooks/"+id+"/deliveries?limit=2&offset=2").Want(200).Value("hasMore"))
	o.DB.Exec("update public.webhook_deliveries set created_at = now() - interval '31 days' where id = $1", deliveries(o.anna, id)[0].ID)
	o.DB.Exec("select private.end_old(r, now(), 1000) from private.retention_rules r where r.name = 'webhook_deliveries'")
	require.Len(t, deliveries(o.anna, id), 2)
}
