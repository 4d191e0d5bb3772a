package billing

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// story is some events of one customer. Several happen in one second, as at Stripe.
type story func(c customer) []json.RawMessage

func quarterOfAYear(c customer) []json.RawMessage {
	return []json.RawMessage{
		c.event("evt_1", "checkout.session.completed", 30, c.session("cs_1", "paid")),
		c.event("evt_2", "customer.subscription.created", 30, c.subscription("incomplete", proMonthly, 0)),
		c.event("evt_3", "invoice.paid", 30, c.invoice("in_1", "paid", 0, 2900, 609, 1)),
		c.event("evt_4", "customer.subscription.updated", 31, c.subscription("active", proMonthly, 0)),
		c.event("evt_5", "invoice.payment_failed", month+60, c.invoice("in_2", "open", 1, 2900, 609, 1, object{"next_payment_attempt": day0 + month + 3*86400})),
		c.event("evt_6", "customer.subscription.updated", month+60, c.subscription("past_due", proMonthly, 1)),
	}
}

func theEnd(c customer) []json.RawMessage {
	return []json.RawMessage{
		c.event("evt_1", "customer.subscription.created", 30, c.subscription("active", teamsMonthly, 0)),
		c.event("evt_2", "invoice.created", 30, c.invoice("in_1", "draft", 0, 7900, 1659, 0)),
		c.event("evt_3", "invoice.paid", 40, c.invoice("in_1", "paid", 0, 7900, 1659, 1)),
		c.event("evt_4", "customer.subscription.updated", 50, c.subscription("active", teamsMonthly, 0, object{"cancel_at_period_end": true, "cancel_at": day0 + month})),
		c.event("evt_5", "customer.subscription.deleted", month, c.subscription("canceled", teamsMonthly, 0)),
		c.event("evt_6", "invoice.payment_succeeded", month, c.invoice("in_1", "paid", 0, 7900, 1659, 1)),
	}
}

func slowDebit(c customer) []json.RawMessage {
	return []json.RawMessage{
		c.event("evt_1", "checkout.session.completed", 30, c.session("cs_1", "unpaid")),
		c.event("evt_2", "customer.subscription.created", 30, c.subscription("active", proMonthly, 0)),
		c.event("evt_3", "payment_method.attached", 30, c.sepa("pm_1", day0+20)),
		c.event("evt_4", "customer.updated", 31, c.updated("pm_1")),
		c.event("evt_5", "checkout.session.async_payment_failed", 5*86400, c.session("cs_1", "unpaid")),
		c.event("evt_6", "payment_method.detached", 6*86400, c.sepa("pm_1", day0+20, object{"customer": nil}),
			object{"data": object{"object": c.sepa("pm_1", day0+20, object{"customer": nil}), "previous_attributes": object{"customer": c.id}}}),
	}
}

func twoSubscriptions(c customer) []json.RawMessage {
	second := c
	second.sub = "sub_second_" + c.org
	return []json.RawMessage{
		c.event("evt_1", "customer.subscription.created", 30, c.subscription("active", proMonthly, 0)),
		c.event("evt_2", "customer.subscription.deleted", 60, c.subscription("canceled", proMonthly, 0)),
		second.event("evt_3", "customer.subscription.created", 70, second.subscription("incomplete", teamsAnnually, 0, object{"created": day0 + 70})),
		second.event("evt_4", "invoice.paid", 71, second.invoice("in_2", "paid", 0, 79200, 16632, 1)),
		c.event("evt_5", "customer.subscription.updated", 59, c.subscription("past_due", proMonthly, 0)),
		c.event("evt_6", "charge.refunded", 90, object{"id": "ch_1", "object": "charge", "customer": c.id, "payment_intent": "pi_in_2", "invoice": "in_2", "amount_refunded": 100}),
	}
}

func theCustomerGoes(c customer) []json.RawMessage {
	return []json.RawMessage{
		c.event("evt_1", "customer.subscription.created", 30, c.subscription("active", proMonthly, 0)),
		c.event("evt_2", "payment_method.attached", 30, c.card("pm_1", day0+20)),
		c.event("evt_3", "payment_method.attached", 31, c.card("pm_2", day0+21)),
		c.event("evt_4", "checkout.session.completed", 32, c.session("cs_1", "no_payment_required", object{"mode": "setup", "subscription": nil, "setup_intent": "seti_1"})),
		c.event("evt_5", "customer.subscription.updated", 33, c.subscription("active", "price_unknown", 0)),
		c.event("evt_6", "customer.deleted", 90, object{"id": c.id, "object": "customer", "metadata": object{"org_id": c.org}}),
	}
}

// permutations calls f with each order of n things; f must not keep the order.
func permutations(n int, f func(order []int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var step func(k int)
	step = func(k int) {
		if k == n {
			f(order)
			return
		}
		for i := k; i < n; i++ {
			order[k], order[i] = order[i], order[k]
			step(k + 1)
			order[k], order[i] = order[i], order[k]
		}
	}
	step(0)
}

// TestEveryOrderOfAStoryEndsInOneState tells each story in all 720 orders of its six events, each event twice, in both shapes of Stripe's
// objects. The second copies come in another order than the first ones.
func TestEveryOrderOfAStoryEndsInOneState(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]story{"AQuarterOfAYear": quarterOfAYear, "TheEnd": theEnd, "ASlowDebit": slowDebit, "TwoSubscriptions": twoSubscriptions, "TheCustomerGoes": theCustomerGoes} {
		for _, in := range shapes {
			t.Run(name+" "+string(in), func(t *testing.T) {
				t.Parallel()
				d, conn := ledger(t)
				c := customer{org: organization(t, d, "anna"), id: "cus_anna", sub: "sub_anna", shape: in}
				told := s(c)
				want := tell(t, conn, c.org, told)
				t.Log(want)
				orders := 0
				permutations(len(told), func(order []int) {
					events := make([]json.RawMessage, 0, 2*len(told))
					for _, i := range order {
						events = append(events, told[i])
					}
					for i := range order {
						events = append(events, told[order[(i+2)%len(order)]])
					}
					orders++
					require.JSONEq(t, want, tell(t, conn, c.org, events), "order %v", order)
				})
				require.Equal(t, 720, orders)
			})
		}
	}
}
