package billing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
)

const (
	secret    = "whsec_of_this_endpoint"
	successor = "whsec_of_its_successor"
)

// sign makes the header of Stripe.
func sign(key string, body []byte) string {
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

func deliver(c *client.Client, body []byte) (client.Response, error) {
	return c.With("Stripe-Signature", sign(secret, body)).Try(http.MethodPost, "/webhooks/stripe", body)
}

// told delivers events in order, all of which are stored.
func told(t *testing.T, s *stack.Stack, events ...json.RawMessage) {
	t.Helper()
	for _, e := range events {
		r, err := deliver(s.In(t), e)
		require.NoError(t, err)
		require.Equal(t, "ok", r.Want(200).String("status"))
	}
}

func payments(c *config.Config) {
	c.StripeWebhookSecrets = []string{secret, successor}
	c.StripeProMonthly, c.StripeProAnnually, c.StripeTeamsMonthly, c.StripeTeamsAnnually = proMonthly, proAnnually, teamsMonthly, teamsAnnually
	c.StripeKey = "sk_test_nothing"
	c.SellerName, c.SellerKVK = "HyperVisa BV", "12345678"
}

// first is the first invoice of a page.
func first(page client.Response) object {
	return client.JSON[struct{ Invoices []object }](page).Invoices[0]
}

// of is the customer of a person's organization.
func of(p *client.Person, in shape) customer {
	return customer{org: p.OrgID, id: "cus_" + p.OrgID, sub: "sub_" + p.OrgID, shape: in}
}

func TestEventsOfStripe(t *testing.T) {
	t.Parallel()
	s := stack.New(t, payments)
	stack.Eventually(t, "the server declares its prices", func() bool { return testdb.Value[int](s.DB, "select count(*)::int from private.stripe_prices") == 4 })
	outcome := func(id string) string {
		return testdb.Value[string](s.DB, "select coalesce((select outcome from private.stripe_events where id = $1), 'unknown')", id)
	}
	// Ids of events are Stripe's, so each subtest has its own.
	id := func(p *client.Person, n int) string { return fmt.Sprintf("evt_%s_%d", p.OrgID, n) }

	t.Run("AnnaPaysAndHerPlanIsThere", func(t *testing.T) {
		t.Parallel()
		for _, in := range shapes {
			anna := s.In(t).SignUp("Anna")
			ben := s.Join(anna, s.In(t).SignUp("Ben"), "member")
			c := of(anna, in)
			invoice := "in_" + anna.OrgID
			told(t, s, c.event(id(anna, 1), "customer.subscription.created", 30, c.subscription("incomplete", proMonthly, 0)))
			require.Equal(t, "incomplete", ben.Get("/billing/subscription").Want(200).String("status"))
			require.Equal(t, "free", anna.Get("/auth/me").Want(200).String("plan"))
			told(t, s, c.event(id(anna, 2), "invoice.paid", 31, c.invoice(invoice, "paid", 0, 2900, 609, 1)))
			got := ben.Get("/billing/subscription").Want(200)
			require.Equal(t, []string{"pro", "active", "monthly", c.sub}, []string{got.String("planId"), got.String("status"), got.String("billingInterval"), got.String("stripeSubscriptionId")})
			require.Equal(t, []string{"2025-12-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"}, []string{got.String("currentPeriodStart"), got.String("currentPeriodEnd")}, in)
			require.Equal(t, "pro", anna.Get("/auth/me").Want(200).String("plan"))
			page := anna.Get("/billing/invoices").Want(200)
			invoiceID := first(page)["id"].(string)
			page.Equal(object{"hasMore": false, "total": 1, "invoices": []object{{"id": invoiceID, "userId": anna.ID, "stripeInvoiceId": invoice, "invoiceNumber": "HV-" + invoice, "status": "paid",
				"amountDue": 3509, "amountPaid": 3509, "currency": "eur", "description": "Pro Plan - December 2025", "invoiceUrl": "https://invoice.stripe.com/i/" + invoice,
				"pdfUrl": "https://pay.stripe.com/invoice/" + invoice + "/pdf", "periodStart": "2025-12-01T00:00:00.000Z", "periodEnd": "2026-01-01T00:00:00.000Z",
				"paidAt": "2025-12-01T00:00:20.000Z", "createdAt": "2025-12-01T00:00:00.000Z", "netAmount": 2900, "vatAmount": 609, "vatRate": "21.00", "vatTreatment": "domestic",
				"customerCountry": "NL"}}})
			pdf := anna.Get("/billing/invoices/" + invoiceID + "/pdf").Want(302)
			require.Equal(t, "https://pay.stripe.com/invoice/"+invoice+"/pdf", pdf.Header.Get("Location"))
			require.Equal(t, invoice, anna.Get("/billing/invoices/"+invoiceID).Want(200).String("stripeInvoiceId"))
			stan := s.In(t).SignUp("Stan")
			for _, path := range []string{"", "/" + invoiceID, "/" + invoiceID + "/pdf"} {
				ben.Get("/billing/invoices"+path).Problem(403, "FORBIDDEN")
			}
			stan.Get("/billing/invoices").Want(200).Equal(object{"hasMore": false, "total": 0, "invoices": []object{}})
			stan.Get("/billing/invoices/"+invoiceID).Problem(404, "INVOICE_NOT_FOUND")
			stan.Get("/billing/invoices/"+invoiceID+"/pdf").Problem(404, "INVOICE_NOT_FOUND")
			require.Equal(t, "HyperVisa BV 12345678 Anna BV", testdb.Value[string](s.DB, `select concat_ws(' ', snapshot #>> '{seller,name}', snapshot #>> '{seller,kvkNumber}',
				snapshot #>> '{customer,name}') from public.invoices where stripe_invoice_id = $1`, invoice))
			require.Equal(t, "free>pro", testdb.Value[string](s.DB, `select string_agg((c ->> 'oldValue') || '>' || (c ->> 'newValue'), ',') from public.audit_log a, jsonb_array_elements(a.changes) c
				where a.organization_id = $1 and a.event_type = 'system.plan_changed' and a.user_id is null and c ->> 'field' = 'planId'`, anna.OrgID), "the system changed the plan")
		}
	})
	t.Run("PagesOfInvoices", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		c := of(anna, basil)
		for i := range int64(3) {
			told(t, s, c.event(id(anna, int(i)), "invoice.finalized", i*month, c.invoice(fmt.Sprintf("in_%d_%s", i, anna.OrgID), "open", i, 2900, 609, 0)))
		}
		told(t, s, c.event(id(anna, 9), "invoice.created", 4*month, c.invoice("in_9_"+anna.OrgID, "draft", 4, 2900, 609, 0)))
		page := anna.Get("/billing/invoices?limit=2").Want(200)
		require.Equal(t, "true 3", fmt.Sprint(page.Value("hasMore"), " ", page.Value("total")))
		require.Equal(t, "2026-02-01T00:00:00.000Z", first(page)["createdAt"], "a draft is not shown")
		last := anna.Get("/billing/invoices?limit=2&offset=2").Want(200)
		require.Equal(t, "2025-12-01T00:00:00.000Z false", fmt.Sprint(first(last)["createdAt"], " ", last.Value("hasMore")))
		require.InDelta(t, 2, anna.Get("/billing/invoices?from=2026-01-01T00:00:00.000Z").Want(200).Value("total"), 0)
		require.InDelta(t, 2, anna.Get("/billing/invoices?to=2026-01-01T00:00:00.000Z").Want(200).Value("total"), 0)
		anna.Get("/billing/invoices?from=soon").Problem(400, "VALIDATION_ERROR").Field("from")
		anna.Get("/billing/invoices?limit=0").Problem(400, "VALIDATION_ERROR").Field("limit")
	})
	t.Run("OnlySignedEventsCount", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		c := of(anna, former)
		body := []byte(c.event(id(anna, 1), "customer.subscription.created", 30, c.subscription("active", proMonthly, 0)))
		for name, header := range map[string]string{"none": "", "wrong": sign("whsec_of_a_stranger", body), "old": "t=1,v1=00", "cut": sign(secret, body)[:40], "another body's": sign(secret, []byte("{}"))} {
			r := s.In(t).With("Stripe-Signature", header).Do("POST", "/webhooks/stripe", body)
			r.Problem(400, "INVALID_STRIPE_SIGNATURE")
			require.Contains(t, r.String("detail"), "signature", name)
		}
		require.Equal(t, "unknown", outcome(id(anna, 1)))
		for _, raw := range []string{"", "{", "[]", `{"id": "evt_1"}`, `{"type": "x"}`, `{"id": 1, "type": "x"}`, `{"id": "", "type": "x"}`, `{"id": "evt_\u0000", "type": "x"}`, `"evt_1"`} {
			r, err := deliver(s.In(t), []byte(raw))
			require.NoError(t, err)
			r.Problem(400, "INVALID_PAYLOAD")
		}
		r, err := deliver(s.In(t), []byte(`{"id": "evt_big", "type": "x", "pad": "`+strings.Repeat("x", 1<<20)+`"}`))
		require.NoError(t, err)
		r.Problem(413, "PAYLOAD_TOO_LARGE")
		s.In(t).With("Stripe-Signature", sign(successor, body)).Do("POST", "/webhooks/stripe", body).Want(200).Equal(object{"status": "ok", "eventType": "customer.subscription.created"})
	})
	t.Run("EventsOfNoInterestAreKept", func(t *testing.T) {
		t.Parallel()
		for name, raw := range map[string]string{
			"unknown":   `{"id": "evt_unknown", "type": "plan.created", "created": 1764547200, "api_version": null, "livemode": false, "data": {"object": {"id": "plan_1"}}}`,
			"live":      `{"id": "evt_live", "type": "customer.updated", "created": 1764547200, "livemode": true, "data": {"object": {"id": "cus_1"}}}`,
			"bare":      `{"id": "evt_bare", "type": "customer.updated"}`,
			"no object": `{"id": "evt_no object", "type": "customer.updated", "data": {"object": 7}}`,
		} {
			r, err := deliver(s.In(t), []byte(raw))
			require.NoError(t, err)
			r.Want(200)
			require.Equal(t, "ignored", outcome("evt_"+name))
		}
	})
	t.Run("TheSameEventAtOnceIsAppliedOnce", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		c := of(anna, basil)
		event := c.event(id(anna, 1), "customer.subscription.created", 30, c.subscription("active", proMonthly, 0))
		statuses := map[string]int{}
		for _, r := range client.AtOnce(t, 12, func(int) (client.Response, error) { return deliver(s.Client, event) }) {
			statuses[r.Want(200).String("status")]++
		}
		require.Equal(t, map[string]int{"ok": 1, "already_processed": 11}, statuses)
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.audit_log where organization_id = $1 and event_type = 'system.plan_changed'", anna.OrgID))
	})
	t.Run("AFailedEventIsSentAgain", func(t *testing.T) {
		t.Parallel()
		anna, sue := s.In(t).SignUp("Anna"), s.In(t).SignUp("Sue")
		s.DB.Exec("update public.users set is_platform_admin = true where id = $1", sue.ID)
		c := of(anna, former)
		one, second := "in_first_"+anna.OrgID, "in_second_"+anna.OrgID
		told(t, s, c.event(id(anna, 1), "invoice.finalized", 30, c.invoice(one, "open", 0, 2900, 609, 0)))
		// The number of another invoice: it cannot be stored.
		clash := c.event(id(anna, 2), "invoice.paid", 40, c.invoice(second, "paid", 0, 2900, 609, 1, object{"number": "HV-" + one}))
		for range 2 {
			r, err := deliver(s.In(t), clash)
			require.NoError(t, err)
			r.Problem(500, "INTERNAL")
			require.NotContains(t, string(r.Body), "invoices_number")
		}
		require.Equal(t, "failed 2 true", testdb.Value[string](s.DB, `select outcome || ' ' || attempts || ' ' || (error ~ 'invoices_number_key.*23505' and processed_at is null)
			from private.stripe_events where id = $1`, id(anna, 2)))
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.invoices where organization_id = $1", anna.OrgID), "nothing of it is left")
		failed := sue.Get("/admin/webhook-events?outcome=failed&limit=100").Want(200)
		require.Contains(t, string(failed.Body), id(anna, 2))
		require.Equal(t, "failed", sue.Do("POST", "/admin/webhook-events/"+id(anna, 2)+"/replay", nil).Want(200).String("status"), "the cause is still there")
		s.DB.Exec("alter table public.invoices disable trigger _200_keep")
		s.DB.Exec("update public.invoices set number = 'HV-corrected-' || id where stripe_invoice_id = $1", one)
		s.DB.Exec("alter table public.invoices enable trigger _200_keep")
		for _, p := range []*client.Person{anna} {
			p.Get("/admin/webhook-events").Problem(403, "FORBIDDEN")
			p.Do("POST", "/admin/webhook-events/"+id(anna, 2)+"/replay", nil).Problem(403, "FORBIDDEN")
		}
		sue.Do("POST", "/admin/webhook-events/"+id(anna, 2)+"/replay", nil).Want(200).Equal(object{"status": "processed"})
		sue.Do("POST", "/admin/webhook-events/"+id(anna, 2)+"/replay", nil).Problem(409, "EVENT_PROCESSED")
		sue.Do("POST", "/admin/webhook-events/evt_none/replay", nil).Problem(404, "NOT_FOUND")
		require.Equal(t, "paid", testdb.Value[string](s.DB, "select status from public.invoices where stripe_invoice_id = $1", second))
		r, err := deliver(s.In(t), clash)
		require.NoError(t, err)
		require.Equal(t, "already_processed", r.Want(200).String("status"))
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*)::int from public.audit_log where event_type = 'system.webhook_replayed' and user_id = $1", sue.ID))
	})
	t.Run("NoEventCrossesFromOneTenantToAnother", func(t *testing.T) {
		t.Parallel()
		anna, stan := s.In(t).SignUp("Anna"), s.In(t).SignUp("Stan")
		c, other := of(anna, former), of(stan, former)
		told(t, s, c.event(id(anna, 1), "customer.subscription.created", 30, c.subscription("active", teamsMonthly, 0)))
		card := c.card("pm_"+anna.OrgID, day0)
		told(t, s, c.event(id(anna, 2), "payment_method.attached", 31, card))
		before := testdb.Value[string](s.DB, state, anna.OrgID)
		posing := object{"metadata": object{"org_id": stan.OrgID}}
		for i, e := range []struct {
			kind string
			of   object
		}{
			{"customer.subscription.updated", c.subscription("canceled", teamsMonthly, 0, posing)},
			{"customer.subscription.deleted", c.subscription("canceled", teamsMonthly, 0, object{"customer": other.id, "metadata": object{"org_id": stan.OrgID}})},
			{"customer.subscription.updated", c.subscription("active", proMonthly, 0, object{"metadata": object{"org_id": "Anna"}})},
			{"customer.subscription.updated", c.subscription("active", proMonthly, 0, object{"metadata": object{"org_id": "00000000-0000-4000-8000-000000000000"}})},
			{"invoice.paid", c.invoice("in_"+anna.OrgID, "paid", 0, 2900, 609, 1, posing)},
			{"checkout.session.completed", c.session("cs_"+anna.OrgID, "paid", object{"client_reference_id": stan.OrgID})},
			{"payment_method.updated", c.card("pm_"+anna.OrgID, day0, posing)},
			{"customer.updated", with(c.updated("pm_"+anna.OrgID), posing)},
			{"customer.deleted", with(c.updated(nil), posing)},
			{"customer.subscription.updated", other.subscription("active", proMonthly, 0, object{"customer": "cus_of_no_one", "id": "sub_of_no_one", "metadata": object{}})},
		} {
			name := id(anna, 10+i)
			told(t, s, c.event(name, e.kind, 60, e.of))
			require.Equal(t, "unmatched", outcome(name), e.kind)
		}
		// What waits is no part of a tenant.
		bare := func(text string) string { return text[:strings.Index(text, `"waiting"`)] }
		require.Equal(t, bare(before), bare(testdb.Value[string](s.DB, state, anna.OrgID)))
		require.Equal(t, "free", stan.Get("/billing/subscription").Want(200).String("planId"))
		require.Equal(t, 0, testdb.Value[int](s.DB, "select count(*)::int from private.stripe_events where organization_id = $1", stan.OrgID))
	})
	t.Run("AnUnmatchedEventFindsItsOrganization", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		c := of(anna, basil)
		name := id(anna, 1)
		told(t, s, c.event(name, "payment_method.attached", 10, c.card("pm_1"+anna.OrgID, day0)))
		require.Equal(t, "unmatched", outcome(name))
		tries := func() string {
			return testdb.Value[string](s.DB, `select concat_ws(' ', outcome, attempts, round(extract(epoch from next_try_at - received_at) / 60)) from private.stripe_events where id = $1`, name)
		}
		require.Equal(t, "unmatched 1 1", tries())
		for i, want := range []string{"unmatched 2 5", "unmatched 3 30", "unmatched 4"} {
			s.DB.Exec("select private.retry_stripe_events(received_at + make_interval(mins => $2)) from private.stripe_events where id = $1", name, []int{1, 5, 30}[i])
			require.Equal(t, want, tries())
		}
		told(t, s, c.event(id(anna, 2), "customer.subscription.created", 30, c.subscription("active", proMonthly, 0)))
		require.Equal(t, "processed 5", tries(), "the customer is known now")
		require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.payment_methods where organization_id = $1", anna.OrgID))
	})
	t.Run("EventsAndRequestsAtOnce", func(t *testing.T) {
		t.Parallel()
		sue := s.In(t).SignUp("Sue")
		s.DB.Exec("update public.users set is_platform_admin = true where id = $1", sue.ID)
		anna := s.In(t).SignUp("Anna")
		c := of(anna, former)
		told(t, s, c.event(id(anna, 1), "customer.subscription.created", 1, c.subscription("active", proMonthly, 0)))
		var done sync.WaitGroup
		done.Go(func() {
			for i := range 20 {
				_, err := sue.Try("PATCH", "/admin/organizations/"+anna.OrgID, object{"limits": object{"seats": 10 + i}})
				if err != nil {
					t.Error(err)
				}
			}
		})
		for _, r := range client.AtOnce(t, 40, func(i int) (client.Response, error) {
			if i%2 == 0 {
				return deliver(s.Client, c.event(id(anna, 100+i), "customer.subscription.updated", int64(100+i), c.subscription("active", []string{proMonthly, teamsMonthly}[i/2%2], 0)))
			}
			return deliver(s.Client, c.event(id(anna, 100+i), "invoice.payment_succeeded", int64(100+i), c.invoice("in_"+anna.OrgID, "paid", 0, 2900, 609, 1)))
		}) {
			r.Want(200)
		}
		done.Wait()
		got := anna.Get("/billing/subscription").Want(200)
		require.Equal(t, "teams active", got.String("planId")+" "+got.String("status"), "the newest event counts")
		require.Equal(t, "29", testdb.Value[string](s.DB, "select overrides ->> 'seats' from public.subscriptions where organization_id = $1", anna.OrgID), "and no write was lost")
	})
	t.Run("AChangedPlanIsOnTheSocketsLog", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		c := of(anna, basil)
		told(t, s, c.event(id(anna, 1), "customer.subscription.created", 1, c.subscription("active", teamsAnnually, 0)),
			c.event(id(anna, 2), "customer.subscription.updated", 2, c.subscription("active", teamsAnnually, 0, object{"cancel_at_period_end": true})),
			c.event(id(anna, 3), "customer.subscription.deleted", 3, c.subscription("canceled", teamsAnnually, 0)))
		stack.Eventually(t, "three changes are told", func() bool {
			return testdb.Value[int](s.DB, `select count(*)::int from (select data, organization_id, type from private.event_inbox union all select data, organization_id, type from public.events) e
				where e.type = 'resource_changed' and e.data ->> 'resource' = 'subscription' and e.organization_id = $1`, anna.OrgID) == 3
		})
		require.Equal(t, "Your plan is now Teams; Your subscription was cancelled", testdb.Value[string](s.DB,
			"select string_agg(title, '; ' order by created_at, id) from public.notifications where user_id = $1 and type = 'system_update'", anna.ID))
	})
	t.Run("HealthSaysThatPaymentsAreSetUp", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "healthy", s.In(t).Get("//health").Want(200).String("checks.stripe.status"))
	})
}

func TestWithoutASecretNoEventIsTaken(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	r, err := deliver(s.Client, []byte(`{"id": "evt_1", "type": "x"}`))
	require.NoError(t, err)
	r.Problem(503, "PROVIDER_NOT_CONFIGURED")
	require.Equal(t, "stripe", r.String("details.provider"))
	require.Equal(t, "unconfigured", s.Get("//health").Want(200).String("checks.stripe.status"))
	anna := s.SignUp("Anna")
	anna.Get("/billing/invoices").Want(200)
}
