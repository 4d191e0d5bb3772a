package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	stripeSecret  = "whsec_of_the_bench"
	stripeTenants = 1000
	// stripeEvents is more than a round delivers.
	stripeEvents = 12_000
)

// stripe measures deliveries of Stripe's events, signed and each another one, beside a bare insert of such a payload in pgbench. Of six events
// of a renewal five change rows.
func (b *bench) stripe(ctx context.Context) error {
	var orgs []string
	rows, err := b.owner.Query(ctx, `with u as (insert into public.users (email, first_name, last_name, email_verified_at)
			select 'stripe' || g || '@example.nl', 'Anna', 'Bench', now() from generate_series(1, $1) g returning id)
		select private.create_organization('Stripe', u.id)::text from u`, stripeTenants)
	if err != nil {
		return err
	}
	if orgs, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return err
	}
	if _, err := b.owner.Exec(ctx, `insert into private.stripe_prices values ('price_1', 'pro', 'monthly') on conflict do nothing;
		create table if not exists public.bench_events (id text primary key, payload jsonb, received_at timestamptz default now());
		create index if not exists bench_events_received on public.bench_events (received_at); grant insert on public.bench_events to kijko_server`); err != nil {
		return err
	}
	for i, org := range orgs {
		if _, err := b.owner.Exec(ctx, "select private.take_stripe_events(array[$1::jsonb], null)", stripeEvent(org, i, 0, -1)); err != nil {
			return err
		}
	}
	if _, err := b.owner.Exec(ctx, "analyze"); err != nil {
		return err
	}
	sample := string(stripeEvent(orgs[0], 0, 1, 1))
	bare := "insert into public.bench_events (id, payload) values (gen_random_uuid()::text, replace(" + quoted(strings.ReplaceAll(sample, ":", ": ")) + ", 'evt_', gen_random_uuid()::text)::jsonb);\n"
	var ratios, rates, p99 []float64
	round := 0
	for ; round < rounds+1; round++ {
		lua, err := b.stripeLoad(orgs, round+1)
		if err != nil {
			return err
		}
		h, err := b.wrk(ctx, "/api/v1/webhooks/stripe", lua)
		if err != nil {
			return err
		}
		t, err := b.pgbench(ctx, "kijko_server", bare, clients)
		if err != nil {
			return err
		}
		if round > 0 {
			ratios, rates, p99 = append(ratios, h.rate/t), append(rates, h.rate), append(p99, h.p99)
		}
	}
	var processed, all int
	if err := b.owner.QueryRow(ctx, "select count(*) filter (where outcome = 'processed'), count(*) from private.stripe_events").Scan(&processed, &all); err != nil {
		return err
	}
	report("S1", fmt.Sprintf("events of Stripe (%.0f a second, p99 %.1f ms, %d of %d applied) / pgbench INSERT", median(rates), median(p99), processed, all), median(ratios), "must 0.35")
	return nil
}

// stripeLoad writes the deliveries of a round, signed now, and gives the script that sends them one after the other.
func (b *bench) stripeLoad(orgs []string, round int) (string, error) {
	path := filepath.Join(b.dir, "events")
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	w := bufio.NewWriter(file)
	at := fmt.Sprint(time.Now().Unix())
	for n := range stripeEvents {
		tenant := n % len(orgs)
		body := stripeEvent(orgs[tenant], tenant, round*600+n/len(orgs), (n+n/len(orgs))%6)
		mac := hmac.New(sha256.New, []byte(stripeSecret))
		mac.Write([]byte(at + "."))
		mac.Write(body)
		if _, err := fmt.Fprintf(w, "t=%s,v1=%s\n%s\n", at, hex.EncodeToString(mac.Sum(nil)), body); err != nil {
			return "", err
		}
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return `local events = io.open("` + path + `")
request = function()
  local signature = events:read("*l")
  local body = events:read("*l")
  return wrk.format("POST", nil, {["Stripe-Signature"] = signature, ["Content-Type"] = "application/json"}, body)
end`, nil
}

// stripeEvent is an event of a tenant's renewal. Real ones have some three kilobytes, most of which we do not read.
func stripeEvent(org string, tenant, n, kind int) []byte {
	type object = map[string]any
	const start, month = int64(1_764_547_200), int64(31 * 86400)
	period := start + int64(n/6)*month
	created := start + int64(n)*1000
	metadata := object{"org_id": org, "plan": "pro", "billing_interval": "monthly"}
	customer, sub, invoice := fmt.Sprintf("cus_%d", tenant), fmt.Sprintf("sub_%d", tenant), fmt.Sprintf("in_%d_%d", tenant, n/6)
	padding := strings.Repeat("a member that is not read; ", 70)
	subscription := object{"id": sub, "object": "subscription", "customer": customer, "status": "active", "created": start, "cancel_at_period_end": false, "metadata": metadata, "x": padding,
		"items": object{"data": []object{{"id": "si_1", "current_period_start": period, "current_period_end": period + month, "price": object{"id": "price_1"}}}}}
	paid := object{"id": invoice, "object": "invoice", "customer": customer, "status": "paid", "currency": "eur", "created": created, "total": 3509, "total_taxes": []object{{"amount": 609}},
		"amount_due": 3509, "amount_paid": 3509, "attempt_count": 1, "number": "HV-" + invoice, "hosted_invoice_url": "https://invoice.stripe.com/i/1", "invoice_pdf": "https://pay.stripe.com/1",
		"customer_address": object{"country": "NL"}, "customer_name": "Anna BV", "status_transitions": object{"finalized_at": created, "paid_at": created}, "x": padding,
		"parent": object{"subscription_details": object{"subscription": sub, "metadata": metadata}},
		"lines":  object{"data": []object{{"amount": 2900, "period": object{"start": period, "end": period + month}, "pricing": object{"price_details": object{"price": "price_1"}}}}}}
	name, what := "customer.subscription.created", subscription
	switch kind {
	case 0:
		name = "customer.subscription.updated"
	case 1:
		name, what = "invoice.finalized", paid
		what["status"], what["amount_paid"] = "open", 0
	case 2:
		name, what = "invoice.paid", paid
	case 3:
		name, what = "invoice.payment_succeeded", paid
	case 4:
		name, what = "payment_method.updated", object{"id": fmt.Sprintf("pm_%d", tenant), "object": "payment_method", "type": "card", "customer": customer, "created": start,
			"card": object{"brand": "visa", "last4": "4242", "exp_month": 1, "exp_year": 2030}, "x": padding}
	case 5:
		name, what = "charge.succeeded", object{"id": fmt.Sprintf("ch_%d", n), "object": "charge", "customer": customer, "x": padding}
	}
	raw, _ := json.Marshal(object{"id": fmt.Sprintf("evt_%d_%d", tenant, n), "object": "event", "type": name, "created": created, "api_version": "2025-03-31.basil", "livemode": false,
		"data": object{"object": what}})
	return raw
}
