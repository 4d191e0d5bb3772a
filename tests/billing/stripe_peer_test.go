//go:build peers

package billing

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/tests/peers"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/worker/stripe/stripetest"
)

// Every kind of request that a story sends is one that Stripe's published description of today allows. The mock checks names at the top level
// and types; it keeps nothing, so the story itself is told with the double.
func TestRequestsFitStripesDescription(t *testing.T) {
	t.Parallel()
	mock := peers.NewStripeMock(t, stripetest.Key)
	s := newShop(t, true)
	worker.Start(t, s.Stack)
	buysAPlan(t, s)
	planChanges(t, s)
	endsAndGoesOn(t, s)
	methodsComeAndGo(t, s)
	anna := s.In(t).SignUp("Anna")
	s.buy(t, anna, "pro", "monthly")
	anna.Do("PATCH", "/billing/details", object{"btwNumber": "DE111111111", "country": "DE"}).Want(200)
	copied := func() bool {
		s.due(anna)
		_, ids := s.stripe.Customer(s.customer(anna))
		return len(ids) == 1 && ids[0]["value"] == "DE111111111"
	}
	stack.Eventually(t, "details are copied", copied)
	anna.Do("PATCH", "/billing/details", object{"btwNumber": "DE111111112"}).Want(200)
	stack.Eventually(t, "an old number is removed", func() bool {
		s.due(anna)
		_, ids := s.stripe.Customer(s.customer(anna))
		return len(ids) == 1 && ids[0]["value"] == "DE111111112"
	})
	statuses := map[string]int{}
	for _, r := range s.stripe.Requests("/v1/") {
		kind := r.Method + " " + regexp.MustCompile(`/(cus|sub|sub_sched|pm|cs_test|txi|seti)_[A-Za-z0-9_]+`).ReplaceAllString(r.Path, "/*")
		kind += " " + fmt.Sprint(slices.Sorted(maps.Keys(r.Form)))
		if statuses[kind] == 0 {
			statuses[kind] = mock.Check(t, r.Method, r.Path, r.Form)
		}
	}
	for kind, status := range statuses {
		require.Equal(t, 200, status, kind)
	}
	require.Greater(t, len(statuses), 20)
	require.Equal(t, 400, mock.Check(t, "POST", "/v1/customers", map[string][]string{"unknown": {"x"}}), "the mock does check")
}
