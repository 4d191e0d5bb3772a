package billing

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kijko/db/devpg"
	"kijko/tests/testdb"
)

// Stripe writes its objects in the shape of the endpoint's API version. Members moved in basil (2025-03-31).
type shape string

const (
	former shape = "2023-10-16"
	basil  shape = "2026-08-26.dahlia"
)

var shapes = []shape{former, basil}

// The prices that prices declares.
const (
	proMonthly, proAnnually     = "price_pro_monthly", "price_pro_annually"
	teamsMonthly, teamsAnnually = "price_teams_monthly", "price_teams_annually"
)

const declared = `select private.declare_stripe_prices('[{"price": "price_pro_monthly", "plan": "pro", "interval": "monthly"},
	{"price": "price_pro_annually", "plan": "pro", "interval": "annually"}, {"price": "price_teams_monthly", "plan": "teams", "interval": "monthly"},
	{"price": "price_teams_annually", "plan": "teams", "interval": "annually"}]')`

// The day of the stories, and a month.
const (
	day0  = int64(1_764_547_200) // 2025-12-01
	month = int64(31 * 86400)
)

// customer is what a story is about: an organization and its objects at Stripe.
type customer struct {
	org, id, sub string
	shape        shape
}

func with(o object, more ...object) object {
	for _, m := range more {
		maps.Copy(o, m)
	}
	return o
}

func (c customer) metadata() object {
	return object{"org_id": c.org, "plan": "pro", "billing_interval": "monthly"}
}

// subscription is an object of Stripe; period counts months since day0.
func (c customer) subscription(status, price string, period int64, more ...object) object {
	start, end := day0+period*month, day0+(period+1)*month
	item := object{"id": "si_" + c.sub, "object": "subscription_item", "price": object{"id": price, "object": "price"}, "quantity": 1}
	o := object{"id": c.sub, "object": "subscription", "customer": c.id, "status": status, "created": day0, "cancel_at_period_end": false, "cancel_at": nil, "trial_end": nil,
		"metadata": c.metadata(), "items": object{"object": "list", "data": []object{item}}}
	if c.shape == former {
		o["current_period_start"], o["current_period_end"] = start, end
	} else {
		item["current_period_start"], item["current_period_end"] = start, end
		o["billing_mode"] = object{"type": "classic"}
	}
	return with(o, more...)
}

// invoice is an object of Stripe for a period; net and vat are cents.
func (c customer) invoice(id, status string, period, net, vat int64, attempts int, more ...object) object {
	start, end := day0+period*month, day0+(period+1)*month
	line := object{"id": "il_" + id, "object": "line_item", "amount": net, "period": object{"start": start, "end": end}}
	total := net + vat
	paid, finalized, paidAt := int64(0), any(start+10), any(nil)
	if status == "paid" {
		paid, paidAt = total, start+20
	}
	o := object{"id": id, "object": "invoice", "customer": c.id, "status": status, "currency": "eur", "created": start, "total": total, "subtotal": net,
		"total_excluding_tax": net, "amount_due": total, "amount_paid": paid, "amount_remaining": total - paid, "attempt_count": attempts, "number": "HV-" + id,
		"hosted_invoice_url": "https://invoice.stripe.com/i/" + id, "invoice_pdf": "https://pay.stripe.com/invoice/" + id + "/pdf", "period_start": start - month, "period_end": start,
		"due_date": nil, "next_payment_attempt": nil, "description": nil, "account_name": "HyperVisa BV", "customer_name": "Anna BV", "metadata": object{},
		"customer_address": object{"country": "NL", "city": "Amsterdam", "line1": "Dam 1", "postal_code": "1012 JL"}, "customer_tax_ids": []object{},
		"status_transitions": object{"finalized_at": finalized, "paid_at": paidAt}, "lines": object{"object": "list", "data": []object{line}}}
	if status == "draft" {
		o["number"], o["hosted_invoice_url"], o["invoice_pdf"] = nil, nil, nil
		o["status_transitions"] = object{"finalized_at": nil, "paid_at": nil}
	}
	details := object{"metadata": c.metadata()}
	if c.shape == former {
		o["subscription"], o["subscription_details"], o["tax"], o["paid"] = c.sub, details, vat, status == "paid"
		o["payment_intent"], o["charge"] = "pi_"+id, nil
		line["price"] = object{"id": proMonthly}
	} else {
		details["subscription"] = c.sub
		o["parent"] = object{"type": "subscription_details", "subscription_details": details, "quote_details": nil}
		o["total_taxes"] = []object{{"amount": vat, "tax_behavior": "exclusive"}}
		line["pricing"] = object{"type": "price_details", "price_details": object{"price": proMonthly, "product": "prod_1"}}
		line["parent"] = object{"type": "subscription_item_details", "subscription_item_details": object{"subscription": c.sub, "proration": false}}
	}
	return with(o, more...)
}

func (c customer) session(id, paymentStatus string, more ...object) object {
	return with(object{"id": id, "object": "checkout.session", "mode": "subscription", "status": "complete", "payment_status": paymentStatus, "customer": c.id,
		"subscription": c.sub, "client_reference_id": c.org, "metadata": c.metadata(), "url": nil, "expires_at": day0 + 86400}, more...)
}

func (c customer) card(id string, created int64, more ...object) object {
	return with(object{"id": id, "object": "payment_method", "type": "card", "customer": c.id, "created": created, "metadata": object{},
		"card": object{"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2030, "fingerprint": "fp" + id}}, more...)
}

func (c customer) sepa(id string, created int64, more ...object) object {
	return with(object{"id": id, "object": "payment_method", "type": "sepa_debit", "customer": c.id, "created": created, "metadata": object{},
		"sepa_debit": object{"bank_code": "INGB", "last4": "3000", "country": "NL", "fingerprint": "fp" + id, "generated_from": object{"charge": "ch_1", "setup_attempt": nil}}}, more...)
}

func (c customer) updated(defaultMethod any) object {
	return object{"id": c.id, "object": "customer", "metadata": object{"org_id": c.org}, "invoice_settings": object{"default_payment_method": defaultMethod}}
}

// event is a delivery of an object; second counts from day0.
func (c customer) event(id, kind string, second int64, o object, more ...object) json.RawMessage {
	raw, err := json.Marshal(with(object{"id": id, "object": "event", "type": kind, "created": day0 + second, "api_version": string(c.shape), "livemode": false,
		"data": object{"object": o}}, more...))
	if err != nil {
		panic(err)
	}
	return raw
}

// state is what people and bookkeeping see of an organization, and the facts below it. What depends on the order by design is left out: ids
// of ours, times of writing, and hints that a subscription event has overtaken.
const state = `select jsonb_build_object(
	'subscription', (select to_jsonb(s) - array['id', 'created_at', 'updated_at', 'overrides'] || jsonb_build_object('effective', private.plan_in_effect(s))
		from public.subscriptions s where s.organization_id = $1),
	'facts', (select jsonb_agg(to_jsonb(f) - array['hint_plan_id', 'hint_interval', 'hint_period_start', 'hint_period_end', 'hint_key'] order by f.id)
		from private.stripe_subscriptions f where f.organization_id = $1),
	'invoices', (select jsonb_agg(to_jsonb(i) - array['id', 'updated_at', 'state_key'] order by i.stripe_invoice_id) from public.invoices i where i.organization_id = $1),
	'methods', (select jsonb_agg(to_jsonb(m) - array['id', 'updated_at'] order by m.stripe_payment_method_id) from public.payment_methods m where m.organization_id = $1),
	'detached', (select jsonb_agg(d.id order by d.id) from private.detached_payment_methods d),
	'sessions', (select jsonb_agg(to_jsonb(c) - array['created_at'] order by c.id) from private.checkout_sessions c where c.organization_id = $1),
	'customers', (select jsonb_agg(to_jsonb(c) order by c.id) from private.stripe_customers c where c.organization_id = $1),
	'waiting', (select jsonb_agg(jsonb_build_array(e.id, e.outcome, e.error) order by e.id) from private.stripe_events e where e.processed_at is null))::text`

// tell applies events in an order, in a transaction that is rolled back, and returns the state at their end.
func tell(t testing.TB, conn *pgx.Conn, org string, events []json.RawMessage) string {
	t.Helper()
	return tellTogether(t, conn, org, slices.Collect(slices.Chunk(events, 1)))
}

// tellTogether is tell with several events in one call.
func tellTogether(t testing.TB, conn *pgx.Conn, org string, calls [][]json.RawMessage) string {
	t.Helper()
	var b pgx.Batch
	b.Queue("begin")
	for _, events := range calls {
		b.Queue("select private.take_stripe_events($1, false)", events)
	}
	b.Queue(state, org)
	b.Queue("rollback")
	results := conn.SendBatch(t.Context(), &b)
	defer func() { require.NoError(t, results.Close()) }()
	for range len(calls) + 1 {
		_, err := results.Exec()
		require.NoError(t, err)
	}
	var found string
	require.NoError(t, results.QueryRow().Scan(&found))
	_, err := results.Exec()
	require.NoError(t, err)
	return found
}

// organization makes one without a server.
func organization(t testing.TB, d *testdb.DB, name string) string {
	t.Helper()
	return testdb.Value[string](d, `with u as (insert into public.users (email, first_name, last_name, email_verified_at) values ($1 || '@example.nl', $1, 'Test', now()) returning id)
		select private.create_organization($1, u.id)::text from u`, name)
}

// ledger is a database with prices and a connection of its owner.
func ledger(t *testing.T) (*testdb.DB, *pgx.Conn) {
	t.Helper()
	d := testdb.New(t)
	d.Exec(declared)
	return d, d.Connect(devpg.Superuser)
}
