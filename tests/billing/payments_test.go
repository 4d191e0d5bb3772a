package billing

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/stripe/stripetest"
)

// shop is an installation with a double of Stripe.
type shop struct {
	*stack.Stack
	stripe *stripetest.Stripe
	mu     sync.Mutex
	events int
}

// doubleAt is the variable that tells a process of its own where the double is.
const doubleAt = "KIJKO_TEST_STRIPE"

// shopping are the settings of an installation that pays at a double.
func shopping(base string) stack.Option {
	return func(c *config.Config) {
		c.StripeKey, c.StripePublishable, c.StripeBase = stripetest.Key, "pk_test_double", base
		c.StripeProMonthly, c.StripeProAnnually, c.StripeTeamsMonthly, c.StripeTeamsAnnually = "price_pro_m", "price_pro_y", "price_teams_m", "price_teams_y"
		c.Origins = []string{"https://app.kijko.nl", "http://localhost:*"}
	}
}

func newShop(t *testing.T, today bool, options ...stack.Option) *shop {
	t.Helper()
	d := stripetest.New(t, today)
	s := &shop{Stack: stack.New(t, append([]stack.Option{shopping(d.URL)}, options...)...), stripe: d}
	stack.Eventually(t, "the server declares its prices", func() bool { return testdb.Value[int](s.DB, "select count(*)::int from private.stripe_prices") == 4 })
	return s
}

// tell applies an object as the event of Stripe that says it.
func (s *shop) tell(t *testing.T, kind string, o stripetest.Object) string {
	t.Helper()
	raw, err := json.Marshal(o)
	require.NoError(t, err)
	s.mu.Lock()
	s.events++
	n := s.events
	s.mu.Unlock()
	return testdb.Value[string](s.DB, "select private.apply_stripe_object($1, $2::jsonb, clock_timestamp(), $3)", kind, string(raw), fmt.Sprintf("evt_%06d", n))
}

// buy brings an organization on a plan by a checkout, and gives the subscription's id.
func (s *shop) buy(t *testing.T, owner *client.Person, plan, interval string) string {
	t.Helper()
	c := owner.Do("POST", "/billing/checkout", object{"planId": plan, "billingInterval": interval}).Want(201)
	session, sub := s.stripe.Pay(c.String("sessionId"), "card")
	require.Equal(t, "processed", s.tell(t, "customer.subscription.created", sub))
	s.tell(t, "checkout.session.completed", session)
	require.Equal(t, plan, owner.Get("/billing/subscription").Want(200).String("planId"))
	return sub["id"].(string)
}

// later makes what Stripe said of an organization's subscriptions an hour older, so that the next event is not of the same second.
func (s *shop) later(p *client.Person) {
	s.DB.Exec(`update private.stripe_subscriptions x set
		state_key = case when x.state_key is not null then row ((x.state_key).created - interval '1 hour', (x.state_key).rank, (x.state_key).event_id)::private.fact_key end,
		plan_key = case when x.plan_key is not null then row ((x.plan_key).created - interval '1 hour', (x.plan_key).rank, (x.plan_key).event_id)::private.fact_key end,
		payment_key = case when x.payment_key is not null then row ((x.payment_key).created - interval '1 hour', (x.payment_key).rank, (x.payment_key).event_id)::private.fact_key end
		where organization_id = $1`, p.OrgID)
}

func (s *shop) customer(p *client.Person) string {
	return testdb.Value[string](s.DB, "select stripe_customer_id from public.subscriptions where organization_id = $1", p.OrgID)
}

// state is the subscription in the words of stripetest.State.
func (s *shop) state(p *client.Person) string {
	return testdb.Value[string](s.DB, `select trim(s.status || ' ' || p.price_id || ' ' || s.cancel_at_period_end || ' ' || coalesce(n.price_id, ''))
		from public.subscriptions s join private.stripe_prices p using (plan_id, billing_interval)
		left join private.stripe_prices n on n.plan_id = s.pending_plan_id and n.billing_interval = s.pending_billing_interval where s.organization_id = $1`, p.OrgID)
}

func patch(p *client.Person, body object) client.Response {
	return p.Do("PATCH", "/billing/subscription", body)
}

func TestPayments(t *testing.T) {
	t.Parallel()
	for name, today := range map[string]bool{"In2023": false, "Today": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, today)
			t.Run("AnOwnerBuysAPlan", func(t *testing.T) { t.Parallel(); buysAPlan(t, s) })
			t.Run("APlanChanges", func(t *testing.T) { t.Parallel(); planChanges(t, s) })
			t.Run("ASubscriptionEndsAndGoesOn", func(t *testing.T) { t.Parallel(); endsAndGoesOn(t, s) })
			t.Run("MethodsComeAndGo", func(t *testing.T) { t.Parallel(); methodsComeAndGo(t, s) })
		})
	}
	s := newShop(t, false)
	t.Run("APaymentIsRefused", func(t *testing.T) { t.Parallel(); paymentIsRefused(t, s) })
	t.Run("OnlyTheOwnerPays", func(t *testing.T) { t.Parallel(); onlyTheOwnerPays(t, s) })
	t.Run("AddressesLeadBackToThisInstallation", func(t *testing.T) { t.Parallel(); addressesLeadBack(t, s) })
	t.Run("ASmallerPlanHasToFit", func(t *testing.T) { t.Parallel(); smallerPlanFits(t, s) })
	t.Run("ARepeatedRequestIsAnsweredAsBefore", func(t *testing.T) { t.Parallel(); repeated(t, s) })
	t.Run("AContractIsNotChangedHere", func(t *testing.T) { t.Parallel(); contract(t, s) })
}

func buysAPlan(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	anna.Do("PATCH", "/billing/details", object{"companyName": "Anna BV", "city": "Gent", "country": "BE"}).Want(200)
	checkout := func(body object) client.Response { return anna.Do("POST", "/billing/checkout", body) }
	first := checkout(object{"planId": "pro", "successUrl": "https://app.kijko.nl/paid?a=1#top", "cancelUrl": "http://localhost:5173/"}).Want(201)
	form := s.stripe.Requests("/v1/checkout/sessions")
	mine := slices.DeleteFunc(form, func(r stripetest.Request) bool { return r.Form.Get("client_reference_id") != anna.OrgID })
	require.Len(t, mine, 1)
	f := mine[0].Form
	for name, want := range map[string]string{"mode": "subscription", "locale": "nl", "payment_method_types[0]": "card", "payment_method_types[1]": "ideal", "payment_method_types[2]": "sepa_debit",
		"allow_promotion_codes": "true", "billing_address_collection": "required", "tax_id_collection[enabled]": "true", "metadata[org_id]": anna.OrgID, "metadata[plan]": "pro",
		"metadata[billing_interval]": "monthly", "subscription_data[metadata][org_id]": anna.OrgID, "subscription_data[metadata][plan]": "pro",
		"subscription_data[metadata][billing_interval]": "monthly", "line_items[0][price]": "price_pro_m", "success_url": "https://app.kijko.nl/paid?a=1&session_id={CHECKOUT_SESSION_ID}#top",
		"cancel_url": "http://localhost:5173/", "customer": s.customer(anna)} {
		require.Equal(t, want, f.Get(name), name)
	}
	customer, _ := s.stripe.Customer(s.customer(anna))
	require.Equal(t, "Anna BV", customer["name"])
	require.Equal(t, anna.OrgID, customer["metadata"].(object)["org_id"])

	again := checkout(object{"planId": "pro"}).Want(201)
	require.Equal(t, first.String("url"), again.String("url"), "an open checkout is used again")
	other := checkout(object{"planId": "teams", "billingInterval": "annually"}).Want(201)
	require.NotEqual(t, first.String("sessionId"), other.String("sessionId"))
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from private.checkout_sessions where organization_id = $1 and status = 'open'", anna.OrgID),
		"two open checkouts could both be paid")
	session, sub := s.stripe.Pay(other.String("sessionId"), "card")
	s.tell(t, "checkout.session.completed", session)
	s.tell(t, "customer.subscription.created", sub)
	now := anna.Get("/billing/subscription").Want(200)
	require.Equal(t, "teams active annually", now.String("planId")+" "+now.String("status")+" "+now.String("billingInterval"))
	require.Equal(t, []int64{95832}, s.stripe.Charges(s.customer(anna)))
	checkout(object{"planId": "pro"}).Problem(409, "SUBSCRIPTION_EXISTS")
	checkout(object{"planId": "free"}).Problem(400, "VALIDATION_ERROR").Field("planId")
	checkout(object{"planId": "enterprise"}).Problem(400, "PLAN_NOT_SELF_SERVICE").Field("planId")
	checkout(object{"planId": "pro", "billingInterval": "weekly"}).Problem(400, "VALIDATION_ERROR").Field("billingInterval")
	checkout(object{}).Problem(400, "VALIDATION_ERROR").Field("planId")
	require.Contains(t, anna.Do("POST", "/billing/portal", object{}).Want(200).String("url"), "https://billing.stripe.test/")
}

func planChanges(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	patch(anna, object{"planId": "teams"}).Problem(409, "CHECKOUT_REQUIRED")
	patch(anna, object{}).Problem(400, "VALIDATION_ERROR")
	patch(anna, object{"planId": "enterprise"}).Problem(400, "PLAN_NOT_SELF_SERVICE")
	id := s.buy(t, anna, "pro", "monthly")
	requests := func() int { return len(s.stripe.Requests(id)) }
	before := requests()
	require.Equal(t, "pro", patch(anna, object{"planId": "pro", "billingInterval": "monthly"}).Want(200).String("planId"))
	require.Equal(t, before, requests(), "what is so already needs no Stripe")

	up := patch(anna, object{"planId": "teams"}).Want(200)
	require.Equal(t, "teams", up.String("planId"))
	require.Equal(t, "active price_teams_m false", s.stripe.State(id))
	charged := s.stripe.Charges(s.customer(anna))
	require.Len(t, charged, 2)
	require.Equal(t, int64(3509), charged[0])
	require.InDelta(t, 6050, charged[1], 2, "(7900 - 2900) and 21 %, but for seconds")
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.invoices where organization_id = $1 and status = 'paid' and total_amount = $2", anna.OrgID, charged[1]),
		"the invoice came with the answer")

	down := patch(anna, object{"planId": "pro"}).Want(200)
	require.Equal(t, "teams pro", down.String("planId")+" "+down.String("pendingPlanId"))
	require.Equal(t, "active price_teams_m false price_pro_m", s.stripe.State(id))
	before = requests()
	patch(anna, object{"planId": "pro"}).Want(200)
	require.Equal(t, before, requests(), "a change that waits already is not made again")
	cleared := patch(anna, object{"planId": "teams"}).Want(200)
	require.NotContains(t, client.JSON[object](cleared), "pendingPlanId")
	require.Equal(t, "active price_teams_m false", s.stripe.State(id))
	patch(anna, object{"planId": "pro", "billingInterval": "monthly"}).Want(200)
	s.tell(t, "customer.subscription.updated", s.stripe.Subscription(id))
	require.Equal(t, "pro", anna.Get("/billing/subscription").String("pendingPlanId"), "an event of the running period leaves the change waiting")
	s.later(anna)
	s.tell(t, "customer.subscription.updated", s.stripe.Renew(id))
	now := client.JSON[object](anna.Get("/billing/subscription").Want(200))
	require.Equal(t, "pro", now["planId"])
	require.NotContains(t, now, "pendingPlanId")
	require.Equal(t, int64(3509), s.stripe.Charges(s.customer(anna))[2])

	yearly := anna.Do("PUT", "/billing/subscription", object{"billingInterval": "annually"}).Want(200)
	require.Equal(t, "pro annually", yearly.String("planId")+" "+yearly.String("billingInterval"))
	require.Equal(t, "active price_pro_y false", s.stripe.State(id))
	monthly := patch(anna, object{"billingInterval": "monthly"}).Want(200)
	require.Equal(t, "annually monthly", monthly.String("billingInterval")+" "+monthly.String("pendingBillingInterval"))
	patch(anna, object{"planId": "teams", "billingInterval": "annually"}).Want(200)
	require.Equal(t, "active price_teams_y false", s.stripe.State(id), "an upgrade goes before a change that waits")
	require.Equal(t, s.stripe.State(id), s.state(anna))
}

func endsAndGoesOn(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	end := func() client.Response { return anna.Do("POST", "/billing/subscription/cancel", nil) }
	resume := func() client.Response { return anna.Do("POST", "/billing/subscription/resume", object{}) }
	end().Problem(409, "NO_SUBSCRIPTION")
	resume().Problem(409, "NOTHING_TO_RESUME")
	id := s.buy(t, anna, "teams", "monthly")
	resume().Problem(409, "NOTHING_TO_RESUME")
	ending := end().Want(200)
	require.Equal(t, true, ending.Value("cancelAtPeriodEnd"))
	require.Equal(t, "teams", ending.String("planId"))
	n := len(s.stripe.Requests(id))
	end().Want(200)
	require.Len(t, s.stripe.Requests(id), n, "ending already")
	patch(anna, object{"planId": "pro"}).Problem(409, "SUBSCRIPTION_ENDING")
	require.Equal(t, false, resume().Want(200).Value("cancelAtPeriodEnd"))
	patch(anna, object{"planId": "pro"}).Want(200)
	require.NotContains(t, client.JSON[object](resume().Want(200)), "pendingPlanId", "resuming takes a waiting change back")
	require.Equal(t, "active price_teams_m false", s.stripe.State(id))
	patch(anna, object{"planId": "pro"}).Want(200)
	end().Want(200)
	require.Equal(t, "active price_teams_m true", s.stripe.State(id), "an end goes before a change")
	resume().Want(200)
	require.Equal(t, true, patch(anna, object{"planId": "free"}).Want(200).Value("cancelAtPeriodEnd"), "free is the same as to cancel")
	require.Equal(t, "teams annually false", func() string {
		r := patch(anna, object{"billingInterval": "annually"}).Want(200)
		return fmt.Sprint(r.String("planId"), " ", r.String("billingInterval"), " ", r.Value("cancelAtPeriodEnd"))
	}(), "an upgrade takes the end back")
	end().Want(200)
	s.tell(t, "customer.subscription.deleted", s.stripe.Renew(id))
	require.Equal(t, "free", anna.Get("/billing/subscription").String("planId"))
	resume().Problem(409, "CHECKOUT_REQUIRED")
	end().Problem(409, "NO_SUBSCRIPTION")

	// Stripe ended one, and we have not heard of it yet.
	id = s.buy(t, anna, "pro", "monthly")
	s.stripe.Fail(nil)
	s.DB.Exec("update public.subscriptions set cancel_at_period_end = false where organization_id = $1", anna.OrgID)
	s.stripe.End(id)
	patch(anna, object{"planId": "teams"}).Problem(409, "CHECKOUT_REQUIRED")
	require.Equal(t, "free canceled", func() string {
		r := anna.Get("/billing/subscription")
		return r.String("planId") + " " + r.String("status")
	}(), "a refusal of Stripe tells what became of it")
}

func methodsComeAndGo(t *testing.T, s *shop) {
	anna, stan := s.In(t).SignUp("Anna"), s.In(t).SignUp("Stan")
	methods := func() []object {
		return client.JSON[[]object](anna.Get("/billing/payment-methods").Want(200))
	}
	require.Empty(t, methods())
	intent := anna.Do("POST", "/billing/payment-methods/setup-intent", object{"type": "sepa_debit"}).Want(201)
	require.Contains(t, intent.String("clientSecret"), intent.String("setupIntentId")+"_secret_")
	require.Equal(t, "pk_test_double", intent.String("publishableKey"))
	anna.Do("POST", "/billing/payment-methods/setup-intent", object{"type": "ideal"}).Problem(400, "VALIDATION_ERROR").Field("type")
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from private.stripe_calls c where c::text like '%' || $1 || '%'", intent.String("clientSecret")), "secrets are not stored")

	add := func(p *client.Person, id string, isDefault bool) client.Response {
		return p.Do("POST", "/billing/payment-methods", object{"stripePaymentMethodId": id, "setDefault": isDefault})
	}
	finger := anna.OrgID
	card := s.stripe.Method("card", finger)
	first := add(anna, card, false).Want(201)
	require.Equal(t, true, first.Value("isDefault"), "the first one is the default")
	require.Equal(t, "visa 4242 12 2030", fmt.Sprint(first.String("cardBrand"), " ", first.String("cardLast4"), " ", first.Value("cardExpMonth"), " ", first.Value("cardExpYear")))
	require.Equal(t, first.String("id"), add(anna, card, false).Want(201).String("id"), "the same once more changes nothing")
	add(anna, s.stripe.Method("card", finger), false).Problem(409, "DUPLICATE_PAYMENT_METHOD")
	account := add(anna, s.stripe.Method("sepa_debit", finger+"2"), false).Want(201)
	require.Equal(t, false, account.Value("isDefault"))
	require.Equal(t, "INGB 0300 NL", account.String("sepaBankCode")+" "+account.String("sepaLast4")+" "+account.String("sepaCountry"))
	for _, bad := range []string{"pm_unknown", "card_1", "x", s.stripe.Method("ideal", "")} {
		add(anna, bad, false).Problem(400, "INVALID_PAYMENT_METHOD").Field("stripePaymentMethodId")
	}
	anna.Do("POST", "/billing/payment-methods", object{}).Problem(400, "VALIDATION_ERROR").Field("stripePaymentMethodId")

	add(stan, s.stripe.Method("card", finger+"3"), false).Want(201)
	add(stan, card, true).Problem(400, "INVALID_PAYMENT_METHOD")
	stan.Do("DELETE", "/billing/payment-methods/"+account.String("id"), nil).Problem(404, "PAYMENT_METHOD_NOT_FOUND")
	stan.Do("POST", "/billing/payment-methods/"+account.String("id")+"/default", nil).Problem(404, "PAYMENT_METHOD_NOT_FOUND")
	anna.Do("DELETE", "/billing/payment-methods/x", nil).Problem(404, "PAYMENT_METHOD_NOT_FOUND")

	anna.Do("DELETE", "/billing/payment-methods/"+first.String("id"), nil).Problem(409, "DEFAULT_PAYMENT_METHOD")
	id := s.buy(t, anna, "pro", "monthly")
	list := client.JSON[[]object](anna.Do("POST", "/billing/payment-methods/"+account.String("id")+"/default", nil).Want(200))
	require.Equal(t, account.String("id"), list[0]["id"])
	require.Equal(t, true, list[0]["isDefault"])
	require.Equal(t, account.String("stripePaymentMethodId"), s.stripe.Subscription(id)["default_payment_method"], "the subscription has a method of its own, which goes first")
	anna.Do("DELETE", "/billing/payment-methods/"+first.String("id"), nil).Want(204)
	anna.Do("DELETE", "/billing/payment-methods/"+first.String("id"), nil).Problem(404, "PAYMENT_METHOD_NOT_FOUND")
	require.Len(t, methods(), 1)
	anna.Do("DELETE", "/billing/payment-methods/"+account.String("id"), nil).Problem(409, "DEFAULT_PAYMENT_METHOD")
	own := client.JSON[[]object](stan.Get("/billing/payment-methods"))
	stan.Do("DELETE", "/billing/payment-methods/"+own[0]["id"].(string), nil).Want(204)
	require.Empty(t, client.JSON[[]object](stan.Get("/billing/payment-methods")), "the only one may go while nothing is paid with it")

	// With a debit the outcome is not known yet, and the plan changes all the same.
	require.Equal(t, "teams", patch(anna, object{"planId": "teams"}).Want(200).String("planId"))
	require.Equal(t, 1, testdb.Value[int](s.DB, "select count(*)::int from public.invoices where organization_id = $1 and status = 'open'", anna.OrgID))
}

func paymentIsRefused(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	id := s.buy(t, anna, "pro", "monthly")
	method := s.stripe.Subscription(id)["default_payment_method"].(string)
	s.stripe.Decline(method, "insufficient_funds")
	refused := patch(anna, object{"planId": "teams"}).Problem(409, "PAYMENT_FAILED")
	require.Contains(t, string(refused.Body), `"declineCode":"insufficient_funds"`)
	require.Equal(t, "active price_pro_m false", s.stripe.State(id))
	require.Equal(t, s.stripe.State(id), s.state(anna))
	keyed := anna.With("Idempotency-Key", "once")
	keyed.Do("PATCH", "/billing/subscription", object{"planId": "teams"}).Problem(409, "PAYMENT_FAILED")
	s.stripe.Decline(method, "")
	require.Equal(t, "teams", keyed.Do("PATCH", "/billing/subscription", object{"planId": "teams"}).Want(200).String("planId"), "a refused request may be tried again")
	s.later(anna)
	s.tell(t, "invoice.payment_failed", object{"id": "in_" + anna.OrgID, "object": "invoice", "customer": s.customer(anna), "subscription": id, "status": "open", "currency": "eur",
		"total": 100, "subtotal": 100, "tax": 0, "amount_due": 100, "created": time.Now().Unix(), "status_transitions": object{"finalized_at": time.Now().Unix()}, "attempt_count": 1})
	require.Equal(t, "past_due", anna.Get("/billing/subscription").String("status"))
	patch(anna, object{"planId": "pro"}).Problem(409, "PAYMENT_OVERDUE")
	require.Equal(t, true, anna.Do("POST", "/billing/subscription/cancel", nil).Want(200).Value("cancelAtPeriodEnd"))
}

func onlyTheOwnerPays(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	s.buy(t, anna, "teams", "monthly")
	ben, ada, stan := s.Join(anna, s.In(t).SignUp("Ben"), "member"), s.Join(anna, s.In(t).SignUp("Ada"), "admin"), s.In(t).SignUp("Stan")
	before := len(s.stripe.Requests("/"))
	for _, call := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/billing/checkout", object{"planId": "pro", "successUrl": "https://evil.example"}}, {"PATCH", "/billing/subscription", object{"planId": "pro"}},
		{"POST", "/billing/subscription/cancel", nil}, {"POST", "/billing/subscription/resume", nil}, {"POST", "/billing/portal", object{}},
		{"GET", "/billing/payment-methods", nil}, {"POST", "/billing/payment-methods/setup-intent", object{"type": "card"}},
		{"POST", "/billing/payment-methods", object{"stripePaymentMethodId": "pm_1"}}, {"DELETE", "/billing/payment-methods/" + anna.ID, nil},
		{"POST", "/billing/payment-methods/" + anna.ID + "/default", nil},
	} {
		for _, p := range []*client.Person{ben, ada} {
			p.Do(call.method, call.path, call.body).Problem(403, "FORBIDDEN")
		}
		require.Equal(t, 401, s.In(t).Do(call.method, call.path, call.body).Status, call.path)
	}
	patch(stan, object{"planId": "pro"}).Problem(409, "CHECKOUT_REQUIRED")
	_ = before
	require.Equal(t, 0, testdb.Value[int](s.DB, "select count(*)::int from private.stripe_calls where user_id in ($1, $2, $3)", ben.ID, ada.ID, stan.ID))
}

func addressesLeadBack(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	for _, bad := range []string{"https://evil.example/", "https://app.kijko.nl.evil.example/", "https://app.kijko.nl@evil.example/", "//evil.example", "javascript:alert(1)", "/settings",
		"https://app.kijko.nl:444/", "http://app.kijko.nl/", `https://app.kijko.nl\@evil.example`, "https://evil.example#https://app.kijko.nl", "", "https://"} {
		for _, name := range []string{"successUrl", "cancelUrl"} {
			anna.Do("POST", "/billing/checkout", object{"planId": "pro", name: bad}).Problem(400, "INVALID_REDIRECT_URL").Field(name)
		}
		anna.Do("POST", "/billing/portal", object{"returnUrl": bad}).Problem(400, "INVALID_REDIRECT_URL").Field("returnUrl")
	}
	anna.Do("POST", "/billing/portal", object{"returnUrl": "https://APP.kijko.nl/x"}).Want(200)
	anna.Do("POST", "/billing/checkout", object{"planId": "pro"}).Want(201)
	r := s.stripe.Requests("/v1/checkout/sessions")
	own := slices.DeleteFunc(r, func(r stripetest.Request) bool { return r.Form.Get("client_reference_id") != anna.OrgID })
	require.Equal(t, "http://kijko.test/settings/billing?session_id={CHECKOUT_SESSION_ID} http://kijko.test/settings/billing", own[0].Form.Get("success_url")+" "+own[0].Form.Get("cancel_url"))
}

func smallerPlanFits(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	s.buy(t, anna, "teams", "monthly")
	for i := range 4 {
		s.Join(anna, s.In(t).SignUp(fmt.Sprintf("Ben%d", i)), "member")
	}
	s.DB.Exec("insert into public.usage_counters (organization_id, metric, period, used) values ($1, 'storage', '1970-01-01', 40::bigint << 30)", anna.OrgID)
	refused := patch(anna, object{"planId": "pro"}).Problem(409, "PLAN_LIMITS_EXCEEDED")
	var details struct {
		Details struct{ Exceeded []object }
	}
	require.NoError(t, json.Unmarshal(refused.Body, &details))
	require.Equal(t, []object{{"metric": "seats", "current": 5.0, "limit": 3.0}, {"metric": "storage", "current": 40.0, "limit": 25.0}}, details.Details.Exceeded)
	patch(anna, object{"planId": "free"}).Problem(409, "PLAN_LIMITS_EXCEEDED")
	anna.Do("POST", "/billing/subscription/cancel", nil).Want(200)
}

func repeated(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	id := s.buy(t, anna, "pro", "monthly")
	keyed := anna.With("Idempotency-Key", "up")
	answers := client.AtOnce(t, 5, func(int) (client.Response, error) {
		return keyed.Try("PATCH", "/billing/subscription", object{"planId": "teams"})
	})
	for _, a := range answers {
		require.Equal(t, 200, a.Status, string(a.Body))
		require.JSONEq(t, string(answers[0].Body), string(a.Body))
	}
	require.Len(t, s.stripe.Charges(s.customer(anna)), 2)
	anna.Do("POST", "/billing/subscription/cancel", nil).Want(200)
	replayed := keyed.Do("PATCH", "/billing/subscription", object{"planId": "teams"}).Want(200)
	require.Equal(t, false, replayed.Value("cancelAtPeriodEnd"), "the stored answer")
	require.Equal(t, "true", replayed.Header.Get("Idempotency-Replayed"))
	keyed.Do("PATCH", "/billing/subscription", object{"planId": "pro"}).Problem(409, "IDEMPOTENCY_CONFLICT")
	require.Equal(t, "active price_teams_m true", s.stripe.State(id))

	intent := anna.With("Idempotency-Key", "intent")
	one := intent.Do("POST", "/billing/payment-methods/setup-intent", object{"type": "card"}).Want(201)
	two := intent.Do("POST", "/billing/payment-methods/setup-intent", object{"type": "card"}).Want(201)
	require.JSONEq(t, string(one.Body), string(two.Body), "Stripe is asked for the secret again")
	require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from private.idempotency_keys k where k::text like '%_secret_%'"))
}

func contract(t *testing.T, s *shop) {
	anna := s.In(t).SignUp("Anna")
	s.DB.Exec("update public.subscriptions set plan_id = 'enterprise' where organization_id = $1", anna.OrgID)
	for path, body := range map[string]any{"/billing/checkout": object{"planId": "pro"}, "/billing/subscription/cancel": nil, "/billing/subscription/resume": nil} {
		anna.Do("POST", path, body).Problem(409, "CONTRACT_MANAGED")
	}
	patch(anna, object{"planId": "pro"}).Problem(409, "CONTRACT_MANAGED")
}

func TestWithoutAKeyNothingIsPaid(t *testing.T) {
	t.Parallel()
	s := stack.New(t)
	anna := s.In(t).SignUp("Anna")
	no := func(method, path string, body any) {
		t.Helper()
		r := anna.Do(method, path, body).Problem(503, "PROVIDER_NOT_CONFIGURED")
		require.Contains(t, string(r.Body), `"provider":"stripe"`)
	}
	no("POST", "/billing/checkout", object{"planId": "pro"})
	no("POST", "/billing/portal", nil)
	no("POST", "/billing/payment-methods/setup-intent", object{"type": "card"})
	no("POST", "/billing/payment-methods", object{"stripePaymentMethodId": "pm_1"})
	anna.Do("POST", "/billing/checkout", object{"planId": "enterprise"}).Problem(400, "PLAN_NOT_SELF_SERVICE")
	anna.Do("POST", "/billing/checkout", object{"planId": "pro", "successUrl": "https://evil.example"}).Problem(400, "INVALID_REDIRECT_URL")
	patch(anna, object{"planId": "pro"}).Problem(409, "CHECKOUT_REQUIRED")
	require.Empty(t, client.JSON[[]object](anna.Get("/billing/payment-methods").Want(200)))
}
