package reflexes

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

type stackConfig = config.Config

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// deliver posts a signed delivery to the address outside the base path.
func deliver(c *client.Client, id, secret, body string) client.Response {
	return c.As("").With("X-Webhook-Signature", sign(secret, body)).Do("POST", "//webhooks/reflex/"+id, body)
}

type hook struct{ id, secret string }

func (l *reflexLab) hook(more ...map[string]any) hook {
	r := l.add("webhook", map[string]any{}, more...)
	return hook{r.String("id"), r.String("triggerConfig.secret")}
}

// newest is the payload of the latest run.
func (l *reflexLab) newest(id string) string {
	return testdb.Value[string](l.DB, "select (input -> 'payload')::text from public.skill_executions where reference_id = $1 order by executed_at desc limit 1", id)
}

func (l *reflexLab) runs(id string) int {
	return testdb.Value[int](l.DB, "select count(*)::int from public.skill_executions where reference_id = $1", id)
}

func TestWebhookDeliveries(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	nobody := l.As("")
	at := func(h hook) string { return "//webhooks/reflex/" + h.id }

	t.Run("Signatures", func(t *testing.T) {
		h, c := l.hook(), nobody.In(t)
		const body = `{ "action": "opened" }`
		good := sign(h.secret, body)
		fired := 0
		for _, header := range []struct{ name, value string }{{"X-Webhook-Signature", good}, {"X-Hub-Signature-256", "sha256=" + good},
			{"X-Webhook-Signature", "sha256=" + strings.ToUpper(good)}, {"X-Webhook-Signature", strings.ToUpper(good)}} {
			r := c.With(header.name, header.value).With("Content-Type", "text/plain").Do("POST", at(h), body).Want(202)
			require.Equal(t, true, r.Value("triggered"))
			fired++
			require.Equal(t, fired, l.runs(h.id))
		}
		require.JSONEq(t, `{"trigger":"webhook","payload":{"action":"opened"}}`, testdb.Value[string](l.DB, "select input::text from public.skill_executions where reference_id = $1 limit 1", h.id))
		for what, value := range map[string]string{"none": "", "of another body": sign(h.secret, "{}"), "with another secret": sign("whsec_0", body), "no hex": "zz", "too short": good[:62],
			"too long": good + "00", "of another kind": "sha1=" + good, "without the prefix of the secret": sign(strings.TrimPrefix(h.secret, "whsec_"), body)} {
			r := c.With("X-Webhook-Signature", value).Do("POST", at(h), body)
			require.Equal(t, "INVALID_SIGNATURE", r.Problem(401, "INVALID_SIGNATURE").String("code"), what)
		}
		require.Equal(t, fired, l.runs(h.id))
		// The base path and its alias reach the same operation, checked against the document.
		for _, path := range []string{"/webhooks/reflex/" + h.id, "//api/webhooks/reflex/" + h.id} {
			c.With("X-Webhook-Signature", good).Do("POST", path, body).Want(202)
		}
		old := h.secret
		renewed := l.anna.In(t).Do("POST", "/reflexes/"+h.id+"/regenerate-secret", nil).Want(200).String("secret")
		deliver(c, h.id, old, body).Problem(401, "INVALID_SIGNATURE")
		deliver(c, h.id, renewed, body).Want(202)
		require.Equal(t, fired+3, l.runs(h.id))
		require.Equal(t, fired+3, testdb.Value[int](l.DB, "select count(*)::int from public.audit_log where event_type = 'integration.webhook_triggered' and metadata ->> 'reflexId' = $1", h.id))
	})
	t.Run("WhatDoesNotFire", func(t *testing.T) {
		c := nobody.In(t)
		reason := func(h hook, body string) any {
			r := deliver(c, h.id, h.secret, body).Want(202)
			require.Equal(t, false, r.Value("triggered"))
			require.Equal(t, true, r.Value("received"))
			return r.Value("reason")
		}
		h := l.hook(map[string]any{"conditions": map[string]any{"filters": []any{map[string]any{"field": "action", "operator": "regex", "value": "^opened$"}}}})
		require.Equal(t, "conditions_not_met", reason(h, `{"action":"closed"}`))
		require.Equal(t, true, deliver(c, h.id, h.secret, `{"action":"OPENED"}`).Want(202).Value("triggered"))
		l.DB.Exec(`update public.reflexes set conditions = '{"expression": "a &&"}' where id = $1`, h.id)
		require.Equal(t, "condition_error", reason(h, `{}`))
		l.anna.In(t).Do("POST", "/reflexes/"+h.id+"/deactivate", nil).Want(200)
		require.Equal(t, "inactive", reason(h, `{}`))
		l.anna.In(t).Do("POST", "/reflexes/"+h.id+"/activate", nil).Want(200)
		l.DB.Exec("update public.skills set is_active = false where id = $1", l.skill)
		require.Equal(t, "skill_inactive", reason(h, `{}`))
		l.DB.Exec("update public.skills set is_active = true where id = $1", l.skill)
		l.DB.Exec("update public.reflexes set conditions = null where id = $1", h.id)
		l.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": 0}' where organization_id = $1", l.anna.OrgID)
		require.Equal(t, "quota_exceeded", reason(h, `{}`))
		l.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": -1}' where organization_id = $1", l.anna.OrgID)
		require.Equal(t, 2, l.runs(h.id), "a firing, and one that failed for the quota")
	})
	t.Run("Payloads", func(t *testing.T) {
		h, c := l.hook(), nobody.In(t)
		for _, body := range []string{``, `null`, `[]`, `"x"`, `7`, `{`, `{"a":1,}`, "{\"a\":\"\xff\"}", `{"a":"\u0000"}`, `{"\u0000":1}`, `{"a":"\ud800"}`, `{"a":1e999999}`,
			strings.Repeat(`{"a":`, 70) + `1` + strings.Repeat(`}`, 70)} {
			deliver(c, h.id, h.secret, body).Problem(400, "INVALID_PAYLOAD")
		}
		require.Zero(t, l.runs(h.id))
		deliver(c, h.id, h.secret, `{"a":"`+strings.Repeat("x", 1<<20-8)+`"}`).Want(202)
		deliver(c, h.id, h.secret, `{"a":"`+strings.Repeat("x", 1<<20-7)+`"}`).Problem(413, "PAYLOAD_TOO_LARGE")
		deliver(c, h.id, h.secret, strings.Repeat(" ", 1<<21)).Problem(413, "PAYLOAD_TOO_LARGE")
		deliver(c, uuid.NewString(), h.secret, strings.Repeat(" ", 1<<21)).Problem(413, "PAYLOAD_TOO_LARGE")
		require.Equal(t, 1, l.runs(h.id))
	})
	t.Run("PayloadsInWrappings", func(t *testing.T) {
		h, c := l.hook(), nobody.In(t)
		const form, bom = "application/x-www-form-urlencoded", "\uFEFF"
		object := `{"action":"opened","text":"a+b & 50%"}`
		escaped := url.QueryEscape(object)
		for _, wrapped := range []struct{ contentType, body string }{
			{form, "payload=" + escaped}, {"Application/X-WWW-Form-URLencoded; charset=utf-8", "payload=" + escaped}, {form, "&payload=" + escaped + "&"},
			{form, "pay%6Coad=" + strings.ReplaceAll(escaped, "50%25", "50%")}, {form, "payload=" + url.QueryEscape(bom+" "+object)}, {form, object}, {form, " " + object}, {form, bom + object},
			{"application/json", bom + object}, {"", bom + "\r\n" + object}, {"text/plain", object},
		} {
			deliver(c.With("Content-Type", wrapped.contentType), h.id, h.secret, wrapped.body).Want(202)
			require.JSONEq(t, object, l.newest(h.id), "%s %s", wrapped.contentType, wrapped.body)
		}
		for _, refused := range []struct{ contentType, body string }{
			{form, "payload=" + escaped + "&more=1"}, {form, "payload=" + escaped + "&payload=" + escaped}, {form, "body=" + escaped}, {form, "payload="}, {form, "payload"}, {form, "payload=[]"}, {form, ""},
			{form, "payload=%FF"}, {form, "payload=" + url.QueryEscape(`{"a":"\u0000"}`)}, {"application/json", "payload=" + escaped}, {"application/json", bom}, {"application/json", bom + bom + object},
		} {
			deliver(c.With("Content-Type", refused.contentType), h.id, h.secret, refused.body).Problem(400, "INVALID_PAYLOAD")
		}
		// The signature covers the bytes as they are, line breaks included.
		c.With("Content-Type", form).With("X-Webhook-Signature", sign(h.secret, object)).Do("POST", at(h), "payload="+escaped).Problem(401, "INVALID_SIGNATURE")
		c.With("X-Webhook-Signature", sign(h.secret, object)).Do("POST", at(h), bom+object).Problem(401, "INVALID_SIGNATURE")
	})
	t.Run("Methods", func(t *testing.T) {
		c := nobody.In(t)
		post := l.hook()
		r := c.With("X-Webhook-Signature", sign(post.secret, "a=1")).Get(at(post) + "?a=1")
		require.Equal(t, "POST", r.Problem(405, "METHOD_NOT_ALLOWED").Header.Get("Allow"))
		c.Get(at(post)+"?a=1").Problem(401, "INVALID_SIGNATURE")
		r = c.Do("PUT", at(post), `{}`)
		require.Equal(t, "GET, POST", r.Problem(405, "METHOD_NOT_ALLOWED").Header.Get("Allow"))

		l.anna.In(t).Do("PATCH", "/reflexes/"+post.id, map[string]any{"triggerConfig": map[string]any{"method": "GET"}}).Want(200)
		require.Equal(t, "GET", deliver(c, post.id, post.secret, `{}`).Problem(405, "METHOD_NOT_ALLOWED").Header.Get("Allow"))
		const query = "action=opened&tag=a&tag=b&empty=&sp=a+b%26"
		c.With("X-Webhook-Signature", sign(post.secret, query)).Get(at(post) + "?" + query).Want(202)
		require.JSONEq(t, `{"action":"opened","tag":["a","b"],"empty":"","sp":"a b&"}`,
			testdb.Value[string](l.DB, "select (input -> 'payload')::text from public.skill_executions where reference_id = $1", post.id))
		c.With("X-Webhook-Signature", sign(post.secret, "")).Get(at(post)).Want(202)
		for _, broken := range []string{"a=%00", "a=%ff", "%ff=a"} {
			c.With("X-Webhook-Signature", sign(post.secret, broken)).Get(at(post)+"?"+broken).Problem(400, "INVALID_PAYLOAD")
		}
		// As browsers read it: a semicolon and a per cent sign that begins no escape are text.
		for query, payload := range map[string]string{
			"text=one;two": `{"text":"one;two"}`, "a;b=1": `{"a;b":"1"}`, "discount=50%": `{"discount":"50%"}`, "a=%zz": `{"a":"%zz"}`, "a=%+%4": `{"a":"% %4"}`, "a=100%25%": `{"a":"100%%"}`,
			"a=%E2%82%AC&b=%e": `{"a":"€","b":"%e"}`, "&&a&=b&c=d=e&": `{"a":"","":"b","c":"d=e"}`, "payload=%7B%22a%22%3A1%7D": `{"payload":"{\"a\":1}"}`,
		} {
			c.With("X-Webhook-Signature", sign(post.secret, query)).Get(at(post) + "?" + query).Want(202)
			require.JSONEq(t, payload, l.newest(post.id), query)
		}
	})
	t.Run("RepeatedDeliveries", func(t *testing.T) {
		h, other, c := l.hook(), l.hook(), nobody.In(t)
		first := deliver(c.With("Idempotency-Key", "one"), h.id, h.secret, `{"a":1}`).Want(202)
		again := deliver(c.With("Idempotency-Key", "one"), h.id, h.secret, `{"a":2}`).Want(202)
		require.JSONEq(t, string(first.Body), string(again.Body))
		deliver(c.With("X-GitHub-Delivery", "one"), h.id, h.secret, `{"a":1}`).Want(202)
		deliver(c.With("X-GitHub-Delivery", "one"), h.id, h.secret, `{"a":1}`).Want(202)
		require.Equal(t, 2, l.runs(h.id))
		deliver(c.With("Idempotency-Key", "one"), other.id, other.secret, `{"a":1}`).Want(202)
		require.Equal(t, 1, l.runs(other.id), "a key belongs to its reflex")
		// A refused delivery is not remembered.
		deliver(c.With("Idempotency-Key", "two"), h.id, "whsec_wrong", `{}`).Problem(401, "INVALID_SIGNATURE")
		deliver(c.With("Idempotency-Key", "two"), h.id, h.secret, `[]`).Problem(400, "INVALID_PAYLOAD")
		require.Equal(t, true, deliver(c.With("Idempotency-Key", "two"), h.id, h.secret, `{}`).Want(202).Value("triggered"))
	})
	t.Run("WhatDidNothingIsCheckedAgain", func(t *testing.T) {
		h := l.hook(map[string]any{"conditions": map[string]any{"expression": "action == 'opened'"}})
		c := nobody.In(t).With("X-GitHub-Delivery", "pressed again")
		reason := func() any { return deliver(c, h.id, h.secret, `{"action":"closed"}`).Want(202).Value("reason") }
		require.Equal(t, "conditions_not_met", reason())
		l.anna.In(t).Do("POST", "/reflexes/"+h.id+"/deactivate", nil).Want(200)
		require.Equal(t, "inactive", reason())
		l.anna.In(t).Do("POST", "/reflexes/"+h.id+"/activate", nil).Want(200)
		l.anna.In(t).Do("PATCH", "/reflexes/"+h.id, map[string]any{"conditions": map[string]any{"expression": "action == 'closed'"}}).Want(200)
		l.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": 0}' where organization_id = $1", l.anna.OrgID)
		require.Equal(t, "quota_exceeded", reason())
		l.DB.Exec("update public.subscriptions set overrides = '{\"api_calls\": -1}' where organization_id = $1", l.anna.OrgID)
		// A key remembered by an earlier release.
		l.DB.Exec("insert into private.reflex_deliveries (reflex_id, key, response) values ($1, sha256('X-GitHub-Delivery:pressed again'), '{\"received\": true, \"triggered\": false, \"reason\": \"inactive\"}')", h.id)
		first := deliver(c, h.id, h.secret, `{"action":"closed"}`).Want(202)
		require.Equal(t, true, first.Value("triggered"))
		require.JSONEq(t, string(first.Body), string(deliver(c, h.id, h.secret, `{"action":"closed"}`).Want(202).Body))
		require.Equal(t, 2, l.runs(h.id), "a firing, and one that failed for the quota")
	})
	t.Run("FiftyEqualOnesAtOnceFireOnce", func(t *testing.T) {
		h := l.hook()
		c := nobody.In(t).With("Idempotency-Key", "same").With("X-Webhook-Signature", sign(h.secret, `{}`))
		bodies := make([]string, 50)
		var group sync.WaitGroup
		for i := range bodies {
			group.Go(func() {
				r, err := c.Try("POST", at(h), `{}`)
				if err == nil && r.Status == http.StatusAccepted {
					bodies[i] = string(r.Body)
				}
			})
		}
		group.Wait()
		require.Equal(t, 1, l.runs(h.id))
		for _, body := range bodies {
			require.Equal(t, bodies[0], body)
		}
		require.Contains(t, bodies[0], `"triggered": true`)
	})
	t.Run("UnknownOnes", func(t *testing.T) {
		c := nobody.In(t).With("X-Forwarded-For", "203.0.113.7")
		event := l.add("event", map[string]any{"eventName": "e"}).String("id")
		for _, id := range []string{uuid.NewString(), "nope", event, strings.Repeat("x", 300)} {
			c.Do("POST", "//webhooks/reflex/"+id, `{}`).Problem(404, "REFLEX_NOT_FOUND")
		}
		c.Do("POST", "//webhooks/other", `{}`).Problem(404, "NOT_FOUND")
		tries := 0
		for ; c.Do("POST", "//webhooks/reflex/"+uuid.NewString(), `{}`).Status == http.StatusNotFound; tries++ {
			require.Less(t, tries, 500)
		}
		require.GreaterOrEqual(t, tries, 56)
		h := l.hook()
		c.Do("POST", at(h), `{}`).Problem(429, "RATE_LIMITED")
		deliver(c, h.id, h.secret, `{}`).Want(202)
		deliver(nobody.In(t).With("X-Forwarded-For", "203.0.113.8"), h.id, h.secret, `{}`).Want(202)
	})
	t.Run("WhoDoesNotKnowTheSecretKeepsNobodyOut", func(t *testing.T) {
		h := l.hook()
		c := nobody.In(t).With("X-Forwarded-For", "203.0.113.9")
		wrong := sign("whsec_wrong", `{}`)
		for name, attempt := range map[string]func(*client.Client) client.Response{
			"without a signature": func(c *client.Client) client.Response { return c.Do("POST", at(h), `{}`) },
			"with a wrong signature": func(c *client.Client) client.Response {
				return c.With("X-Webhook-Signature", wrong).Do("POST", at(h), `{}`)
			},
			"by query": func(c *client.Client) client.Response {
				return c.With("X-Webhook-Signature", wrong).Get(at(h) + "?a=1")
			},
			"under the base path": func(c *client.Client) client.Response {
				return c.Do("POST", "/webhooks/reflex/"+strings.ToUpper(h.id), `{}`)
			},
		} {
			statuses := map[int]int{}
			for range 150 {
				r := attempt(c)
				statuses[r.Status]++
				if r.Status == http.StatusTooManyRequests {
					require.NotEmpty(t, r.Problem(429, "RATE_LIMITED").Header.Get("Retry-After"), name)
				}
			}
			require.Equal(t, 150, statuses[401]+statuses[429], name)
			require.GreaterOrEqual(t, statuses[429], 70, name)
		}
		require.Zero(t, testdb.Value[int](l.DB, "select count(*)::int from private.rate_counters where key = $1", "reflex:"+h.id), "nothing of it came to the counters")
		// The owner's own deliveries pass, from another sender and from the same one, also with a secret made just now.
		for range 10 {
			deliver(c, h.id, h.secret, `{}`).Want(202)
			deliver(nobody.In(t).With("X-Forwarded-For", "203.0.113.10"), h.id, h.secret, `{}`).Want(202)
		}
		other := l.hook()
		other.secret = l.anna.In(t).Do("POST", "/reflexes/"+other.id+"/regenerate-secret", nil).Want(200).String("secret")
		deliver(c, other.id, other.secret, `{}`).Want(202)
		c.Do("POST", at(other), `{}`).Problem(401, "INVALID_SIGNATURE")
	})
	t.Run("WhatIsGenuineCountsWhateverItHolds", func(t *testing.T) {
		h, c := l.hook(), nobody.In(t)
		for range 60 {
			deliver(c, h.id, h.secret, `[]`).Problem(400, "INVALID_PAYLOAD")
		}
		deliver(c, h.id, h.secret, `{}`).Problem(429, "RATE_LIMITED")
		require.GreaterOrEqual(t, testdb.Value[int](l.DB, "select sum(hits)::int from private.rate_counters where key = $1", "reflex:"+h.id), 60)
	})
}

// A sender posts as fast as possible: at most 60 deliveries a minute are accepted, over all servers, and other senders are not affected.
func TestAFloodOfDeliveries(t *testing.T) {
	t.Parallel()
	l := newReflexLab(t)
	second := stack.On(t, l.DB)
	boris := l.SignUp("Boris")
	h := l.hook()
	const posts, senders = 600, 12
	var taken, limited, other atomic.Int64
	var group sync.WaitGroup
	for i := range senders {
		server := l.Client
		if i%2 == 1 {
			server = second.Client
		}
		c := server.As("").With("X-Webhook-Signature", sign(h.secret, `{}`))
		group.Go(func() {
			for range posts / senders {
				r, err := c.Try("POST", "//webhooks/reflex/"+h.id, `{}`)
				switch {
				case err != nil:
					other.Add(1)
				case r.Status == http.StatusAccepted:
					taken.Add(1)
				case r.Status == http.StatusTooManyRequests && r.Header.Get("Retry-After") != "" && r.Header.Get("X-RateLimit-Limit") == "60":
					limited.Add(1)
				default:
					other.Add(1)
				}
			}
		})
	}
	reads := 0
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for running := true; running; reads++ {
		select {
		case <-done:
			running = false
		default:
		}
		boris.Get("/reflexes/stats").Want(200)
	}
	require.Zero(t, other.Load())
	require.Equal(t, int64(posts), taken.Load()+limited.Load())
	// The window slides: during a slow run a few more fall into the next one.
	require.GreaterOrEqual(t, taken.Load(), int64(60))
	require.LessOrEqual(t, taken.Load(), int64(125), "at most two windows")
	require.Equal(t, int(taken.Load()), l.runs(h.id))
	require.Greater(t, reads, 1, "the other tenant was served meanwhile")
	require.Equal(t, 1, testdb.Value[int](l.DB, "select least(1, count(*))::int from private.rate_counters where key = $1", "reflex:"+h.id))
	hits := testdb.Value[int](l.DB, "select sum(hits)::int from private.rate_counters where key = $1", "reflex:"+h.id)
	require.Less(t, hits, posts/2, fmt.Sprintf("most of %d posts never came to the database", posts))
}
