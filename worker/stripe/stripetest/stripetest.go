// Package stripetest is a double of Stripe for tests: a server that keeps customers, subscriptions, invoices, methods, sessions and schedules, and
// that honors Idempotency-Keys like the real one. It answers in the shape of 2023-10-16 or in the one of today, and it can be slow, be away,
// refuse cards, answer HTML, or be cut after it did the work. What it knows of Stripe stands in docs/peers/stripe.md.
package stripetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Key is a secret key that the double takes.
const Key = "sk_test_double"

// Prices are the prices that it knows, in cents.
var Prices = map[string]int64{"price_pro_m": 2900, "price_pro_y": 28800, "price_teams_m": 7900, "price_teams_y": 79200}

// Object is a JSON object.
type Object = map[string]any

// Fault is what goes wrong with a request.
type Fault int

// The faults.
const (
	None Fault = iota
	// HTML: a proxy answers instead of Stripe, with 502. Nothing is done.
	HTML
	// Broken: 500 with JSON. Nothing is done, and the answer is kept under the key.
	Broken
	// CutBefore: the connection ends before the work.
	CutBefore
	// CutAfter: the connection ends after the work.
	CutAfter
	// BrokenAfter: the work is done, and the answer is 500 with JSON, also to repeats.
	BrokenAfter
	// Garbage: the work is done, and the answer is no JSON.
	Garbage
	// Limited: 429.
	Limited
)

// Request is a request that arrived.
type Request struct {
	Method, Path, Key string
	Form              url.Values
}

type kept struct {
	hash   string
	status int
	body   []byte
	busy   bool
}

type subscription struct {
	id, customer, status, item, price, method, schedule, invoice string
	start, end                                                   time.Time
	ends                                                         bool
	metadata                                                     Object
	taxRates                                                     []string
	created                                                      time.Time
}

type schedule struct {
	id, subscription, status string
	phases                   []url.Values
}

// Stripe is the double.
type Stripe struct {
	*httptest.Server
	mu            sync.Mutex
	new           bool
	n             int
	customers     map[string]Object
	methods       map[string]Object
	subscriptions map[string]*subscription
	schedules     map[string]*schedule
	sessions      map[string]Object
	invoices      map[string]Object
	intents       map[string]Object
	rates         map[string]Object
	taxIDs        map[string][]Object
	declines      map[string]string
	keys          map[string]*kept
	requests      []Request
	charges       map[string][]int64
	fault         func(Request) Fault
	pause         func(Request)
}

// New starts a double; today says that it answers in today's shape.
func New(t testing.TB, today bool) *Stripe {
	t.Helper()
	s := &Stripe{new: today, customers: map[string]Object{}, methods: map[string]Object{}, subscriptions: map[string]*subscription{}, schedules: map[string]*schedule{},
		sessions: map[string]Object{}, invoices: map[string]Object{}, intents: map[string]Object{}, rates: map[string]Object{}, taxIDs: map[string][]Object{},
		declines: map[string]string{}, keys: map[string]*kept{}, charges: map[string][]int64{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// Fail sets what goes wrong with requests; nil: nothing.
func (s *Stripe) Fail(f func(Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Pause sets a function that requests wait for after their work, before the answer; nil: none.
func (s *Stripe) Pause(f func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pause = f
}

// On is a fault of the requests of a method whose path has a part.
func On(method, part string, fault Fault) func(Request) Fault {
	return func(r Request) Fault {
		if r.Method == method && strings.Contains(r.Path, part) {
			return fault
		}
		return None
	}
}

// Once is a fault of the first such request.
func Once(f func(Request) Fault) func(Request) Fault {
	var mu sync.Mutex
	used := false
	return func(r Request) Fault {
		mu.Lock()
		defer mu.Unlock()
		if used {
			return None
		}
		fault := f(r)
		used = fault != None
		return fault
	}
}

// Requests are the requests so far whose path has a part.
func (s *Stripe) Requests(part string) (found []Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if strings.Contains(r.Path, part) {
			found = append(found, r)
		}
	}
	return found
}

// Charges are the amounts that a customer was charged, with VAT.
func (s *Stripe) Charges(customer string) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.charges[customer])
}

// Decline lets payments by a method fail with a code; "" lets them pass.
func (s *Stripe) Decline(method, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.declines[method] = code
}

// Method makes a method that belongs to no customer.
func (s *Stripe) Method(kind, fingerprint string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.method(kind, fingerprint, nil)
}

func (s *Stripe) method(kind, fingerprint string, customer any) string {
	id := s.id("pm_")
	m := Object{"id": id, "object": "payment_method", "type": kind, "customer": customer, "created": time.Now().Unix(), "livemode": false, "metadata": Object{},
		"billing_details": Object{"name": nil, "email": nil, "phone": nil, "address": nil}}
	switch kind {
	case "card":
		m["card"] = Object{"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2030, "fingerprint": fingerprint, "country": "NL"}
	case "sepa_debit":
		m["sepa_debit"] = Object{"bank_code": "INGB", "last4": "0300", "country": "NL", "fingerprint": fingerprint}
	}
	s.methods[id] = m
	return id
}

func (s *Stripe) id(prefix string) string {
	s.n++
	return fmt.Sprintf("%s%x%03d", prefix, time.Now().UnixNano()&0xffffff, s.n)
}

// Pay completes a checkout with a method of a kind, and gives the event's object and the subscription.
func (s *Stripe) Pay(sessionID, kind string) (session, sub Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session = s.sessions[sessionID]
	customer := session["customer"].(string)
	form := session["form"].(url.Values)
	method := s.method(kind, s.id("fp_"), customer)
	now := time.Now().UTC().Truncate(time.Second)
	x := &subscription{id: s.id("sub_"), customer: customer, status: "active", item: s.id("si_"), price: form.Get("line_items[0][price]"), method: method, start: now,
		metadata: tree(form, "subscription_data[metadata]"), taxRates: list(form, "subscription_data[default_tax_rates]"), created: now}
	x.end = after(now, x.price)
	s.subscriptions[x.id] = x
	s.bill(x, [][2]any{{Prices[x.price], x.end}}, "subscription_create")
	session["status"], session["payment_status"], session["subscription"] = "complete", "paid", x.id
	return s.session(session), s.subscription(x)
}

// after is the end of a period that begins at a moment.
func after(start time.Time, price string) time.Time {
	if strings.HasSuffix(price, "_y") {
		return start.AddDate(1, 0, 0)
	}
	return start.AddDate(0, 1, 0)
}

// Subscription is a subscription as Stripe shows it.
func (s *Stripe) Subscription(id string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.subscription(s.subscriptions[id])
}

// State is a subscription in few words: status, price, whether it ends, and the price of the phase that waits.
func (s *Stripe) State(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.subscriptions[id]
	next := ""
	if c := s.schedules[x.schedule]; c != nil && len(c.phases) > 1 {
		next = c.phases[1].Get("items[0][price]")
	}
	return strings.TrimSpace(fmt.Sprint(x.status, " ", x.price, " ", x.ends, " ", next))
}

// Customer is a customer with the tax ids.
func (s *Stripe) Customer(id string) (Object, []Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.customers[id], slices.Clone(s.taxIDs[id])
}

// Customers is how many customers there are.
func (s *Stripe) Customers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.customers)
}

// Renew lets the period of a subscription end, and gives the subscription of the next one.
func (s *Stripe) Renew(id string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.subscriptions[id]
	if x.ends {
		x.status = "canceled"
		return s.subscription(x)
	}
	if c := s.schedules[x.schedule]; c != nil && c.status == "active" && len(c.phases) > 1 {
		c.phases = c.phases[1:]
		x.price = c.phases[0].Get("items[0][price]")
		x.metadata = tree(c.phases[0], "metadata")
	}
	x.start, x.end = x.end, after(x.end, x.price)
	s.bill(x, [][2]any{{Prices[x.price], x.end}}, "subscription_cycle")
	return s.subscription(x)
}

// End ends a subscription at once.
func (s *Stripe) End(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions[id].status = "canceled"
}

// bill makes an invoice of lines and has it paid; it gives the code of a refused card. A bank debit is under way.
func (s *Stripe) bill(x *subscription, lines [][2]any, reason string) (declined string) {
	net, data := int64(0), []any{}
	for _, line := range lines {
		amount := line[0].(int64)
		net += amount
		l := Object{"id": s.id("il_"), "object": "line_item", "amount": amount, "currency": "eur", "period": Object{"start": time.Now().Unix(), "end": line[1].(time.Time).Unix()}}
		if s.new {
			l["pricing"] = Object{"price_details": Object{"price": x.price}}
		} else {
			l["price"] = Object{"id": x.price, "object": "price"}
		}
		data = append(data, l)
	}
	tax := s.tax(x, net)
	now := time.Now().Unix()
	id := s.id("in_")
	method := x.method
	if method == "" {
		settings, _ := s.customers[x.customer]["invoice_settings"].(Object)
		method, _ = settings["default_payment_method"].(string)
	}
	declined = s.declines[method]
	if declined != "" {
		return declined
	}
	invoice := Object{"id": id, "object": "invoice", "customer": x.customer, "number": fmt.Sprintf("HV-%06d", s.n), "currency": "eur", "subtotal": net, "total": net + tax,
		"amount_due": net + tax, "billing_reason": reason, "created": now, "lines": Object{"object": "list", "data": data}, "attempt_count": 1, "account_name": "Kijko",
		"hosted_invoice_url": "https://invoice.stripe.test/" + id, "invoice_pdf": "https://pay.stripe.test/" + id + ".pdf", "period_start": now, "period_end": now,
		"status": "paid", "amount_paid": net + tax, "status_transitions": Object{"finalized_at": now, "paid_at": now}, "metadata": Object{}}
	if m := s.methods[method]; m != nil && m["type"] == "sepa_debit" && reason != "subscription_create" {
		invoice["status"], invoice["amount_paid"], invoice["status_transitions"] = "open", 0, Object{"finalized_at": now, "paid_at": nil}
	} else {
		s.charges[x.customer] = append(s.charges[x.customer], net+tax)
	}
	if s.new {
		invoice["parent"] = Object{"type": "subscription_details", "subscription_details": Object{"subscription": x.id, "metadata": x.metadata}}
		invoice["total_taxes"] = []any{Object{"amount": tax}}
	} else {
		invoice["subscription"], invoice["subscription_details"], invoice["tax"], invoice["paid"] = x.id, Object{"metadata": x.metadata}, tax, invoice["status"] == "paid"
	}
	s.invoices[id], x.invoice = invoice, id
	return ""
}

// tax rounds half away from zero.
func (s *Stripe) tax(x *subscription, net int64) int64 {
	if exempt, _ := s.customers[x.customer]["tax_exempt"].(string); exempt == "reverse" || exempt == "exempt" || len(x.taxRates) == 0 {
		return 0
	}
	percent, _ := s.rates[x.taxRates[0]]["percentage"].(int64)
	if net < 0 {
		return -((-net*percent + 50_000) / 100_000)
	}
	return (net*percent + 50_000) / 100_000
}

func (s *Stripe) subscription(x *subscription) Object {
	if x == nil {
		return nil
	}
	item := Object{"id": x.item, "object": "subscription_item", "quantity": 1, "price": Object{"id": x.price, "object": "price", "unit_amount": Prices[x.price]}}
	o := Object{"id": x.id, "object": "subscription", "customer": x.customer, "status": x.status, "items": Object{"object": "list", "data": []any{item}},
		"cancel_at_period_end": x.ends, "metadata": x.metadata, "default_payment_method": nilIf(x.method), "schedule": nilIf(x.schedule), "created": x.created.Unix(),
		"trial_end": nil, "latest_invoice": nilIf(x.invoice), "livemode": false, "cancel_at": nil}
	period := o
	if s.new {
		period = item
	}
	period["current_period_start"], period["current_period_end"] = x.start.Unix(), x.end.Unix()
	return o
}

func (s *Stripe) session(o Object) Object {
	shown := Object{}
	for name, value := range o {
		if name != "form" {
			shown[name] = value
		}
	}
	return shown
}

func nilIf(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// tree are the members of an object in a form.
func tree(form url.Values, name string) Object {
	o := Object{}
	for key, values := range form {
		if rest, ok := strings.CutPrefix(key, name+"["); ok {
			o[strings.TrimSuffix(rest, "]")] = values[0]
		}
	}
	return o
}

func list(form url.Values, name string) (values []string) {
	for i := 0; form.Has(fmt.Sprintf("%s[%d]", name, i)); i++ {
		values = append(values, form.Get(fmt.Sprintf("%s[%d]", name, i)))
	}
	return values
}

// part are the members of an element of a list in a form, without its name.
func part(form url.Values, name string) url.Values {
	values := url.Values{}
	for key, v := range form {
		if rest, ok := strings.CutPrefix(key, name+"["); ok {
			first, more, _ := strings.Cut(rest, "]")
			values[first+more] = v
		}
	}
	return values
}

func refusal(status int, kind, code, text string) (int, any) {
	return status, Object{"error": Object{"type": kind, "code": code, "message": text}}
}

func missing(what string) (int, any) {
	return refusal(404, "invalid_request_error", "resource_missing", "No such "+what)
}

func (s *Stripe) serve(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	request := Request{Method: r.Method, Path: r.URL.Path, Key: r.Header.Get("Idempotency-Key"), Form: r.Form}
	if r.Header.Get("Authorization") != "Bearer "+Key {
		s.send(w, 401, Object{"error": Object{"type": "invalid_request_error", "message": "Invalid API Key provided"}})
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, request)
	fault := None
	if s.fault != nil {
		fault = s.fault(request)
	}
	pause := s.pause
	if fault == HTML || fault == CutBefore || fault == Limited {
		s.mu.Unlock()
		switch fault {
		case HTML:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("<html><body>Bad Gateway</body></html>"))
		case Limited:
			s.send(w, 429, Object{"error": Object{"type": "invalid_request_error", "code": "rate_limit", "message": "Too many requests"}})
		default:
			cut(w)
		}
		return
	}
	hash := request.Method + " " + request.Path + "?" + request.Form.Encode()
	known := s.keys[request.Key]
	var status int
	var body any
	switch {
	case request.Key != "" && known != nil && known.hash != hash:
		status, body = refusal(400, "idempotency_error", "", "Keys for idempotent requests can only be used with the same parameters they were first used with.")
	case request.Key != "" && known != nil && known.busy:
		status, body = refusal(409, "idempotency_error", "idempotency_key_in_use", "There is currently another in-progress request using this Idempotent Key.")
	case request.Key != "" && known != nil:
		status, body = known.status, json.RawMessage(known.body)
		w.Header().Set("Idempotent-Replayed", "true")
	default:
		if request.Key != "" {
			known = &kept{hash: hash, busy: true}
			s.keys[request.Key] = known
		}
		if fault == Broken {
			status, body = refusal(500, "api_error", "", "An unknown error occurred")
		} else if status, body = s.do(request); fault == BrokenAfter {
			status, body = refusal(500, "api_error", "", "An unknown error occurred")
		}
		raw, _ := json.Marshal(body)
		if pause != nil {
			s.mu.Unlock()
			pause(request)
			s.mu.Lock()
		}
		if known != nil {
			known.status, known.body, known.busy = status, raw, false
			if status == 401 || status == 429 {
				delete(s.keys, request.Key)
			}
		}
	}
	s.mu.Unlock()
	switch fault {
	case CutAfter:
		cut(w)
	case Garbage:
		_, _ = w.Write([]byte("<!-- not JSON -->"))
	default:
		s.send(w, status, body)
	}
}

func cut(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

func (s *Stripe) send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// do is one request. It changes nothing when it refuses.
func (s *Stripe) do(r Request) (int, any) {
	parts := strings.Split(strings.TrimPrefix(r.Path, "/v1/"), "/")
	id, action := "", ""
	if len(parts) > 1 {
		id = parts[1]
	}
	if len(parts) > 2 {
		action = parts[2]
	}
	switch parts[0] {
	case "customers":
		return s.doCustomer(r, id, action, parts)
	case "tax_rates":
		whole, rest, _ := strings.Cut(r.Form.Get("percentage"), ".")
		thousandths, _ := strconv.ParseInt(whole+(rest + "000")[:3], 10, 64)
		o := Object{"id": s.id("txr_"), "object": "tax_rate", "percentage": thousandths, "inclusive": r.Form.Get("inclusive") == "true", "country": r.Form.Get("country")}
		s.rates[o["id"].(string)] = o
		return 200, o
	case "checkout":
		if len(parts) > 3 {
			action = parts[3]
		}
		if len(parts) > 2 {
			id = parts[2]
		} else {
			id = ""
		}
		return s.doSession(r, id, action)
	case "billing_portal":
		if s.customers[r.Form.Get("customer")] == nil {
			return missing("customer")
		}
		return 200, Object{"id": s.id("bps_"), "object": "billing_portal.session", "url": "https://billing.stripe.test/" + s.id("p_"), "return_url": r.Form.Get("return_url")}
	case "setup_intents":
		if r.Method == "GET" {
			if s.intents[id] == nil {
				return missing("setupintent")
			}
			return 200, s.intents[id]
		}
		id = s.id("seti_")
		s.intents[id] = Object{"id": id, "object": "setup_intent", "customer": r.Form.Get("customer"), "client_secret": id + "_secret_" + s.id("x"), "status": "requires_payment_method",
			"payment_method_types": list(r.Form, "payment_method_types"), "usage": r.Form.Get("usage")}
		return 200, s.intents[id]
	case "payment_methods":
		return s.doMethod(r, id, action)
	case "subscriptions":
		return s.doSubscription(r, id)
	case "subscription_schedules":
		return s.doSchedule(r, id, action)
	}
	return missing("route")
}

func (s *Stripe) doCustomer(r Request, id, action string, parts []string) (int, any) {
	if id == "" {
		o := Object{"id": s.id("cus_"), "object": "customer", "created": time.Now().Unix(), "tax_exempt": "none", "invoice_settings": Object{"default_payment_method": nil}}
		id = o["id"].(string)
		s.customers[id] = o
	}
	o := s.customers[id]
	if o == nil {
		return missing("customer")
	}
	if action == "tax_ids" {
		switch {
		case r.Method == "GET":
			return 200, Object{"object": "list", "has_more": false, "data": append([]Object{}, s.taxIDs[id]...)}
		case r.Method == "DELETE":
			before := len(s.taxIDs[id])
			s.taxIDs[id] = slices.DeleteFunc(s.taxIDs[id], func(x Object) bool { return x["id"] == parts[3] })
			if len(s.taxIDs[id]) == before {
				return missing("tax id")
			}
			return 200, Object{"id": parts[3], "object": "tax_id", "deleted": true}
		}
		value := r.Form.Get("value")
		if strings.HasPrefix(value, "XX") || len(value) < 8 {
			return refusal(400, "invalid_request_error", "tax_id_invalid", "Invalid value for eu_vat.")
		}
		x := Object{"id": s.id("txi_"), "object": "tax_id", "type": r.Form.Get("type"), "value": value, "customer": id}
		s.taxIDs[id] = append(s.taxIDs[id], x)
		return 200, x
	}
	if method := r.Form.Get("invoice_settings[default_payment_method]"); method != "" {
		if m := s.methods[method]; m == nil || m["customer"] != id {
			return refusal(400, "invalid_request_error", "resource_missing", "The customer does not have a payment method with this ID.")
		}
		o["invoice_settings"] = Object{"default_payment_method": method}
	}
	for _, name := range []string{"name", "email", "tax_exempt"} {
		if r.Form.Has(name) {
			o[name] = r.Form.Get(name)
		}
	}
	for _, name := range []string{"address", "metadata"} {
		if members := tree(r.Form, name); len(members) > 0 {
			o[name] = members
		}
	}
	return 200, o
}

func (s *Stripe) doSession(r Request, id, action string) (int, any) {
	if id == "" {
		if s.customers[r.Form.Get("customer")] == nil {
			return missing("customer")
		}
		if r.Form.Get("tax_id_collection[enabled]") == "true" && r.Form.Get("customer_update[name]") != "auto" {
			return refusal(400, "invalid_request_error", "", "Tax ID collection requires updating business name on the customer.")
		}
		if _, known := Prices[r.Form.Get("line_items[0][price]")]; !known {
			return missing("price")
		}
		id = s.id("cs_test_")
		s.sessions[id] = Object{"id": id, "object": "checkout.session", "mode": r.Form.Get("mode"), "status": "open", "payment_status": "unpaid", "customer": r.Form.Get("customer"),
			"client_reference_id": r.Form.Get("client_reference_id"), "metadata": tree(r.Form, "metadata"), "url": "https://checkout.stripe.test/c/" + id,
			"success_url": r.Form.Get("success_url"), "cancel_url": r.Form.Get("cancel_url"), "expires_at": time.Now().Add(24 * time.Hour).Unix(), "subscription": nil, "form": r.Form}
		return 200, s.session(s.sessions[id])
	}
	o := s.sessions[id]
	if o == nil {
		return missing("checkout.session")
	}
	if action == "expire" {
		if o["status"] != "open" {
			return refusal(400, "invalid_request_error", "", "Only Checkout Sessions with a status in [\"open\"] can be expired.")
		}
		o["status"], o["url"] = "expired", nil
	}
	return 200, s.session(o)
}

func (s *Stripe) doMethod(r Request, id, action string) (int, any) {
	o := s.methods[id]
	if o == nil {
		return missing("PaymentMethod")
	}
	switch action {
	case "attach":
		if code := s.declines[id]; code != "" {
			return s.declined(code)
		}
		if o["customer"] != nil && o["customer"] != r.Form.Get("customer") {
			return refusal(400, "invalid_request_error", "", "The payment method you provided has already been attached to a customer.")
		}
		o["customer"] = r.Form.Get("customer")
	case "detach":
		if o["customer"] == nil {
			return refusal(400, "invalid_request_error", "", "The payment method you provided is not attached to a customer so detachment is impossible.")
		}
		for _, x := range s.subscriptions {
			if x.method == id {
				x.method = ""
			}
		}
		if c := s.customers[o["customer"].(string)]; c != nil && c["invoice_settings"].(Object)["default_payment_method"] == id {
			c["invoice_settings"] = Object{"default_payment_method": nil}
		}
		o["customer"] = nil
	}
	return 200, o
}

func (s *Stripe) declined(code string) (int, any) {
	return 402, Object{"error": Object{"type": "card_error", "code": "card_declined", "decline_code": code, "message": "Your card was declined."}}
}

func (s *Stripe) doSubscription(r Request, id string) (int, any) {
	x := s.subscriptions[id]
	if x == nil {
		return missing("subscription")
	}
	switch {
	case r.Method == "DELETE":
		if x.status == "canceled" {
			return missing("subscription")
		}
		x.status = "canceled"
		return 200, s.subscription(x)
	case r.Method == "POST" && (x.status == "canceled" || x.status == "incomplete_expired"):
		return refusal(400, "invalid_request_error", "resource_missing", "A canceled subscription can only update its cancellation_details and metadata.")
	case r.Method == "POST":
		if r.Form.Has("cancel_at_period_end") && x.schedule != "" {
			return refusal(400, "invalid_request_error", "", "The subscription is managed by the subscription schedule `"+x.schedule+"`, and updating any cancelation behavior directly is not allowed.")
		}
		was := *x
		charges := len(s.charges[x.customer])
		if method := r.Form.Get("default_payment_method"); method != "" {
			x.method = method
		}
		if rates := list(r.Form, "default_tax_rates"); rates != nil {
			x.taxRates = rates
		}
		if members := tree(r.Form, "metadata"); len(members) > 0 {
			x.metadata = members
		}
		if r.Form.Has("cancel_at_period_end") {
			x.ends = r.Form.Get("cancel_at_period_end") == "true"
		}
		if price := r.Form.Get("items[0][price]"); price != "" && price != x.price {
			if r.Form.Get("items[0][id]") != x.item {
				return refusal(400, "invalid_request_error", "resource_missing", "No such subscription item.")
			}
			at, _ := strconv.ParseInt(r.Form.Get("proration_date"), 10, 64)
			if code := s.change(x, price, at); code != "" && r.Form.Get("payment_behavior") == "error_if_incomplete" {
				*x = was
				s.charges[x.customer] = s.charges[x.customer][:charges]
				return s.declined(code)
			}
		}
	}
	o := s.subscription(x)
	if slices.Contains(list(r.Form, "expand"), "latest_invoice") && x.invoice != "" {
		o["latest_invoice"] = s.invoices[x.invoice]
	}
	return 200, o
}

// change is another price with proration, invoiced at once.
func (s *Stripe) change(x *subscription, price string, at int64) (declined string) {
	if at == 0 {
		at = max(x.start.Unix(), min(x.end.Unix(), time.Now().Unix()))
	}
	left, whole := x.end.Unix()-at, x.end.Unix()-x.start.Unix()
	part := func(amount int64) int64 { return (amount*left*2 + whole) / (whole * 2) }
	credit, charge := part(Prices[x.price]), part(Prices[price])
	if strings.HasSuffix(price, "_y") != strings.HasSuffix(x.price, "_y") {
		charge = Prices[price]
		x.start = time.Unix(at, 0).UTC()
		x.end = after(x.start, price)
	}
	x.price = price
	return s.bill(x, [][2]any{{-credit, x.end}, {charge, x.end}}, "subscription_update")
}

func (s *Stripe) doSchedule(r Request, id, action string) (int, any) {
	if id == "" {
		x := s.subscriptions[r.Form.Get("from_subscription")]
		if x == nil {
			return missing("subscription")
		}
		if x.schedule != "" {
			return refusal(400, "invalid_request_error", "", "You cannot migrate a subscription that is already attached to a schedule: "+x.schedule)
		}
		c := &schedule{id: s.id("sub_sched_"), subscription: x.id, status: "active"}
		c.phases = []url.Values{{"items[0][price]": {x.price}, "start_date": {strconv.FormatInt(x.start.Unix(), 10)}, "end_date": {strconv.FormatInt(x.end.Unix(), 10)}}}
		x.schedule, s.schedules[c.id] = c.id, c
		return 200, s.schedule(c)
	}
	c := s.schedules[id]
	if c == nil {
		return missing("subscription schedule")
	}
	if c.status != "active" {
		return refusal(400, "invalid_request_error", "", "You cannot update or release a subscription schedule that is currently in the `"+c.status+"` status.")
	}
	x := s.subscriptions[c.subscription]
	if action == "release" {
		c.status, x.schedule = "released", ""
		return 200, s.schedule(c)
	}
	phases := []url.Values{}
	for i := 0; ; i++ {
		p := part(r.Form, fmt.Sprintf("phases[%d]", i))
		if len(p) == 0 {
			break
		}
		phases = append(phases, p)
	}
	if len(phases) == 0 || phases[0].Get("start_date") != strconv.FormatInt(x.start.Unix(), 10) || phases[0].Get("items[0][price]") != x.price {
		return refusal(400, "invalid_request_error", "", "You can not modify the start date or the items of the current phase.")
	}
	c.phases = phases
	return 200, s.schedule(c)
}

func (s *Stripe) schedule(c *schedule) Object {
	phases := []any{}
	for _, p := range c.phases {
		start, _ := strconv.ParseInt(p.Get("start_date"), 10, 64)
		end, _ := strconv.ParseInt(p.Get("end_date"), 10, 64)
		rates := []any{}
		for _, id := range s.subscriptions[c.subscription].taxRates {
			rates = append(rates, Object{"id": id, "object": "tax_rate"})
		}
		phases = append(phases, Object{"start_date": start, "end_date": end, "items": []any{Object{"price": p.Get("items[0][price]"), "quantity": 1}}, "default_tax_rates": rates,
			"coupon": nil, "trial_end": nil, "metadata": Object{}})
	}
	return Object{"id": c.id, "object": "subscription_schedule", "status": c.status, "subscription": c.subscription, "phases": phases, "end_behavior": "release"}
}

// Missing are the names of members that a form lacks.
func Missing(form url.Values, names ...string) (lacking []string) {
	for _, name := range names {
		if !form.Has(name) {
			lacking = append(lacking, name)
		}
	}
	sort.Strings(lacking)
	return lacking
}
