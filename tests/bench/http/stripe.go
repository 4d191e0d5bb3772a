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
	"strconv"
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
	var ratios, rates, p99, servers, databases []float64
	round := 0
	for ; round < rounds+1; round++ {
		lua, err := b.stripeLoad(orgs, round+1)
		if err != nil {
			return err
		}
		server, postgres := processorTime(b.server.Process.Pid), processorTime(b.cluster.PID())
		h, err := b.wrk(ctx, "/api/v1/webhooks/stripe", lua)
		if err != nil {
			return err
		}
		events := h.rate * 3 / 1_000_000
		server, postgres = (processorTime(b.server.Process.Pid)-server)/events, (processorTime(b.cluster.PID())-postgres)/events
		t, err := b.pgbench(ctx, "kijko_server", bare, clients)
		if err != nil {
			return err
		}
		if round > 0 {
			ratios, rates, p99 = append(ratios, h.rate/t), append(rates, h.rate), append(p99, h.p99)
			servers, databases = append(servers, server), append(databases, postgres)
		}
	}
	var processed, all int
	if err := b.owner.QueryRow(ctx, "select count(*) filter (where outcome = 'processed'), count(*) from private.stripe_events").Scan(&processed, &all); err != nil {
		return err
	}
	report("S1", fmt.Sprintf("events of Stripe (%.0f a second, p99 %.1f ms, %d of %d applied) / pgbench INSERT", median(rates), median(p99), processed, all), median(ratios), "must 0.35")
	fmt.Printf("     processor time of the server %.0f us and of Postgres %.0f us an event\n", median(servers), median(databases))
	return b.stripePath(ctx, orgs)
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
	for n := range stripeEvents {
		tenant := n % len(orgs)
		body := stripeEvent(orgs[tenant], tenant, round*600+n/len(orgs), (n+n/len(orgs))%6)
		if _, err := fmt.Fprintf(w, "%s\n%s\n", signature(body), body); err != nil {
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

// signature is what Stripe sends with a body now.
func signature(body []byte) string {
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(stripeSecret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// processorTime is what a process and its children have used, in seconds.
func processorTime(pid int) (total float64) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(raw), ") ")
		fields := strings.Fields(rest)
		own := filepath.Base(filepath.Dir(path)) == strconv.Itoa(pid)
		if len(fields) < 15 || !own && fields[1] != strconv.Itoa(pid) {
			continue
		}
		for _, ticks := range fields[11:13] {
			n, _ := strconv.ParseFloat(ticks, 64)
			total += n / 100
		}
	}
	return total
}

// stripePath prints where the time of an event goes in Postgres: what each function takes by itself, without those that it calls.
func (b *bench) stripePath(ctx context.Context, orgs []string) error {
	if _, err := b.owner.Exec(ctx, "alter role kijko_server set track_functions = 'all'"); err != nil {
		return err
	}
	b.stopServer()
	if err := b.startServer(ctx); err != nil {
		return err
	}
	lua, err := b.stripeLoad(orgs, rounds+2)
	if err != nil {
		return err
	}
	if _, err := b.owner.Exec(ctx, "select pg_stat_reset()"); err != nil {
		return err
	}
	var before, after int
	const count = "select count(*) from private.stripe_events"
	if err := b.owner.QueryRow(ctx, count).Scan(&before); err != nil {
		return err
	}
	if _, err := b.wrk(ctx, "/api/v1/webhooks/stripe", lua); err != nil {
		return err
	}
	b.stopServer() // its connections report what they did
	if err := b.owner.QueryRow(ctx, count).Scan(&after); err != nil {
		return err
	}
	rows, err := b.owner.Query(ctx, `select schemaname || '.' || funcname, calls / $1::float8, self_time * 1000 / $1::float8 from pg_stat_user_functions
		where self_time * 1000 / $1::float8 > 3 order by self_time desc`, after-before)
	if err != nil {
		return err
	}
	var name string
	var calls, self float64
	_, err = pgx.ForEachRow(rows, []any{&name, &calls, &self}, func() error {
		fmt.Printf("     %-50s %6.2f calls and %6.1f us an event\n", name, calls, self)
		return nil
	})
	if err != nil {
		return err
	}
	return b.startServer(ctx)
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
