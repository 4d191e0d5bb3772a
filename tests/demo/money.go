package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
)

type object = map[string]any

// upgrade tells the server what Stripe tells it of a paid checkout, and shows the change of the plan as the socket shows it.
func (d *demo) upgrade(ctx context.Context, secret string) error {
	before, err := d.quota(ctx)
	if err != nil {
		return err
	}
	dialer := websocket.Dialer{Subprotocols: []string{"kijko.v1", "bearer." + d.token}}
	conn, res, err := dialer.DialContext(ctx, strings.Replace(d.base, "http", "ws", 1)+"/api/v1/ws", nil)
	if err != nil {
		return fmt.Errorf("opening the socket: %w", err)
	}
	_ = res.Body.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	hello, err := next(conn, "hello", "")
	if err != nil {
		return err
	}
	d.say("\nthe organization is on the plan Free, with %s; Stripe delivers what it does after a paid checkout:", before)
	for _, e := range checkout(hello.Data.OrganizationID, time.Now().Unix()) {
		if err := d.deliverEvent(ctx, secret, e); err != nil {
			return err
		}
	}
	changed, err := next(conn, "resource_changed", "subscription")
	if err != nil {
		return err
	}
	d.say("  the socket said at once that %s of the subscription changed", strings.Join(changed.Data.ChangedFields, ", "))
	var s struct{ PlanID, Status string }
	if err := d.call(ctx, "GET", "/api/v1/billing/subscription", nil, &s); err != nil {
		return err
	}
	after, err := d.quota(ctx)
	if err != nil {
		return err
	}
	d.say("  now it is on the plan %s (%s), with %s", s.PlanID, s.Status, after)
	var paid struct {
		Invoices []struct {
			InvoiceNumber, Status string
			AmountPaid, VatAmount int
		}
	}
	if err := d.call(ctx, "GET", "/api/v1/billing/invoices", nil, &paid); err != nil {
		return err
	}
	for _, i := range paid.Invoices {
		d.say("  invoice %s is %s: %d.%02d euros, of which %d.%02d are VAT", i.InvoiceNumber, i.Status, i.AmountPaid/100, i.AmountPaid%100, i.VatAmount/100, i.VatAmount%100)
	}
	return nil
}

// quota says what the plan allows.
func (d *demo) quota(ctx context.Context) (string, error) {
	var metrics []struct {
		Type           string
		Current, Limit float64
	}
	if err := d.call(ctx, "GET", "/api/v1/billing/usage", nil, &metrics); err != nil {
		return "", err
	}
	var parts []string
	for _, m := range metrics {
		if m.Type == "ingestions" || m.Type == "seats" {
			parts = append(parts, fmt.Sprintf("%.0f of %.0f %s", m.Current, m.Limit, m.Type))
		}
	}
	return strings.Join(parts, " and ") + " used", nil
}

type frame struct {
	Type string
	Data struct {
		OrganizationID, Resource string
		ChangedFields            []string
	}
}

// next reads the socket until a frame of a type, and about a resource, comes.
func next(conn *websocket.Conn, kind, resource string) (f frame, err error) {
	for f.Type != kind || f.Data.Resource != resource {
		_, raw, err := conn.ReadMessage()
		if err != nil {
			return f, fmt.Errorf("the socket ended before %s: %w", kind, err)
		}
		f = frame{}
		if err := json.Unmarshal(raw, &f); err != nil {
			return f, fmt.Errorf("a frame that is no JSON: %w", err)
		}
	}
	return f, nil
}

// checkout is what Stripe delivers after a checkout of a month of Teams that was paid. The order is not the one in which things happened, as it
// need not be.
func checkout(org string, now int64) []object {
	const month = 31 * 86400
	metadata := object{"org_id": org, "plan": "teams", "billing_interval": "monthly"}
	id := strings.ReplaceAll(org, "-", "")
	customer, subscription := "cus_"+id, "sub_"+id
	period := object{"start": now, "end": now + month}
	event := func(n int, kind string, o object) object {
		return object{"id": fmt.Sprintf("evt_%d_%s", n, id), "object": "event", "type": kind, "created": now, "livemode": false, "api_version": "2026-08-26.dahlia", "data": object{"object": o}}
	}
	return []object{
		event(1, "invoice.paid", object{"id": "in_" + id, "object": "invoice", "customer": customer, "status": "paid", "currency": "eur", "created": now, "total": 9559,
			"total_taxes": []object{{"amount": 1659}}, "amount_due": 9559, "amount_paid": 9559, "attempt_count": 1, "number": "HV-" + id[:8], "customer_address": object{"country": "NL"},
			"status_transitions": object{"finalized_at": now, "paid_at": now}, "parent": object{"subscription_details": object{"subscription": subscription, "metadata": metadata}},
			"lines": object{"data": []object{{"amount": 7900, "period": period}}}}),
		event(2, "customer.subscription.created", object{"id": subscription, "object": "subscription", "customer": customer, "status": "active", "created": now, "cancel_at_period_end": false,
			"metadata": metadata, "items": object{"data": []object{{"id": "si_1", "price": object{"id": "price_of_the_demo"}, "current_period_start": now, "current_period_end": now + month}}}}),
		event(3, "checkout.session.completed", object{"id": "cs_" + id, "object": "checkout.session", "mode": "subscription", "status": "complete", "payment_status": "paid",
			"customer": customer, "subscription": subscription, "client_reference_id": org, "metadata": metadata, "expires_at": now + 86400}),
	}
}

// deliverEvent signs an event as Stripe does, and posts it.
func (d *demo) deliverEvent(ctx context.Context, secret string, event object) error {
	body, err := json.Marshal(event)
	if err != nil {
		return err
	}
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "."))
	mac.Write(body)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+"/api/v1/webhooks/stripe", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Stripe-Signature", "t="+at+",v1="+hex.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s was answered with %s", event["type"], res.Status)
	}
	d.say("  %s, signed: taken", event["type"])
	return nil
}

// erase deletes the account of the person, and shows that it is gone.
func (d *demo) erase(ctx context.Context, who, code string) error {
	var report struct {
		TotalDeleted int
		Tables       map[string]struct{ DeletedCount int }
		Retained     []struct{ What, Until string }
	}
	body := map[string]any{"confirm": "DELETE_ALL_MY_DATA"}
	if code != "" {
		body["code"] = code
	}
	if err := d.call(ctx, "POST", "/api/v1/gdpr/delete", body, &report); err != nil {
		return err
	}
	d.say("\nerased %s: %s rows of %d tables; kept by law:", who, thousands(report.TotalDeleted), len(report.Tables))
	for _, r := range report.Retained {
		d.say("  %s, until %s", r.What, strings.SplitN(r.Until, "T", 2)[0])
	}
	if err := d.call(ctx, "GET", "/api/v1/auth/me", nil, nil); err == nil {
		return fmt.Errorf("the erased account still answers")
	}
	d.say("its session is no longer valid")
	return nil
}
