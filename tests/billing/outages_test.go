package billing

import (
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
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/stripe/stripetest"
)

// due makes the jobs of calls to Stripe due, as time would.
func (s *shop) due(p *client.Person) {
	s.DB.Exec(`update jobs.stored_jobs set run_at = now() where job_type like 'billing.%' and run_at > now() and lease is null
		and (convert_from(args, 'UTF8')::jsonb ->> 'organizationId' = $1 or convert_from(args, 'UTF8')::jsonb ->> 'callId' in (select id::text from private.stripe_calls where organization_id = $1::uuid))`, p.OrgID)
}

func (s *shop) inFlight(p *client.Person) int {
	return testdb.Value[int](s.DB, "select count(*)::int from private.stripe_calls where organization_id = $1 and settled_at is null", p.OrgID)
}

// about is a fault of the requests about a subscription.
func about(method, id string, fault stripetest.Fault) func(stripetest.Request) stripetest.Fault {
	return stripetest.On(method, "/v1/subscriptions/"+id, fault)
}

func fine(stripetest.Request) stripetest.Fault { return stripetest.None }

// faults are set for all subtests together, by the subscription that each is about.
type faults struct {
	mu  sync.Mutex
	all map[string]func(stripetest.Request) stripetest.Fault
}

func (f *faults) set(id string, fault func(stripetest.Request) stripetest.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[id] = fault
}

func (f *faults) of(r stripetest.Request) stripetest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.all {
		if found := fault(r); found != stripetest.None {
			return found
		}
	}
	return stripetest.None
}

func TestStripeHasTroubles(t *testing.T) {
	t.Parallel()
	s := newShop(t, false, func(c *config.Config) { c.StripeTimeout = time.Second })
	worker.Start(t, s.Stack)
	f := &faults{all: map[string]func(stripetest.Request) stripetest.Fault{}}
	s.stripe.Fail(f.of)
	agree := func(t *testing.T, anna *client.Person, id, want string, charges int) {
		t.Helper()
		require.Equal(t, want, s.stripe.State(id))
		require.Equal(t, want, s.state(anna))
		require.Len(t, s.stripe.Charges(s.customer(anna)), charges)
		require.Zero(t, s.inFlight(anna))
	}
	const pro, teams = "active price_pro_m false", "active price_teams_m false"
	up := object{"planId": "teams"}

	for name, fault := range map[string]stripetest.Fault{"ItsProxyAnswersHTML": stripetest.HTML, "TheConnectionIsCutBeforeTheCharge": stripetest.CutBefore,
		"TheConnectionIsCutAfterTheCharge": stripetest.CutAfter, "TheAnswerToAChargeIsNoJSON": stripetest.Garbage} {
		for _, by := range []string{"ARepeatedRequest", "TheJob"} {
			t.Run(name+"And"+by+"SettlesIt", func(t *testing.T) {
				t.Parallel()
				anna := s.In(t).SignUp("Anna")
				id := s.buy(t, anna, "pro", "monthly")
				// Go's transport sends a request with an Idempotency-Key once more by itself when a connection is cut.
				f.set(id, about("POST", id, fault))
				patch(anna, up).Problem(502, "STRIPE_ERROR")
				f.set(id, fine)
				require.Equal(t, 1, s.inFlight(anna))
				if by == "TheJob" {
					s.due(anna)
					stack.Eventually(t, "the job settles the call", func() bool { return s.inFlight(anna) == 0 })
				} else {
					require.Equal(t, "teams", patch(anna, up).Want(200).String("planId"))
				}
				agree(t, anna, id, teams, 2)
				sent := s.stripe.Requests("/v1/subscriptions/" + id)
				require.Equal(t, sent[0].Key, sent[1].Key, "the same key")
				require.Equal(t, sent[0].Form, sent[1].Form, "and the same request")
			})
		}
	}
	t.Run("ItFailedAfterTheChargeAndIsLookedAt", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		id := s.buy(t, anna, "pro", "monthly")
		f.set(id, stripetest.Once(about("POST", id, stripetest.BrokenAfter)))
		require.Equal(t, "teams", patch(anna, up).Want(200).String("planId"), "the truth is looked up at once")
		agree(t, anna, id, teams, 2)
	})
	t.Run("ItFailedAndIsLookedAt", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		id := s.buy(t, anna, "pro", "monthly")
		f.set(id, stripetest.Once(about("POST", id, stripetest.Broken)))
		patch(anna, up).Problem(502, "STRIPE_ERROR")
		agree(t, anna, id, pro, 1)
		patch(anna, up).Want(200)
		agree(t, anna, id, teams, 2)
	})
	t.Run("ItLimitsRequests", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		id := s.buy(t, anna, "pro", "monthly")
		f.set(id, stripetest.Once(about("POST", id, stripetest.Limited)))
		require.Contains(t, string(patch(anna, up).Problem(502, "STRIPE_ERROR").Body), "STRIPE_ERROR")
		agree(t, anna, id, pro, 1)
	})
	t.Run("AnotherRequestEndsTheCallFirst", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		id := s.buy(t, anna, "pro", "monthly")
		f.set(id, about("POST", id, stripetest.CutAfter))
		patch(anna, up).Problem(502, "STRIPE_ERROR")
		f.set(id, fine)
		ended := anna.Do("POST", "/billing/subscription/cancel", nil).Want(200)
		require.Equal(t, "teams", ended.String("planId"))
		agree(t, anna, id, "active price_teams_m true", 2)
	})
	t.Run("ItStaysAway", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		id := s.buy(t, anna, "pro", "monthly")
		f.set(id, func(r stripetest.Request) stripetest.Fault {
			if strings.Contains(r.Path, id) {
				return stripetest.HTML
			}
			return stripetest.None
		})
		for range 3 {
			patch(anna, up).Problem(502, "STRIPE_ERROR")
		}
		// A day later Stripe has forgotten the key, so nothing is sent again.
		s.DB.Exec("update private.stripe_calls set created_at = now() - interval '1 day' where organization_id = $1 and settled_at is null", anna.OrgID)
		patch(anna, up).Problem(502, "STRIPE_ERROR")
		f.set(id, fine)
		n := len(s.stripe.Requests(id))
		s.due(anna)
		stack.Eventually(t, "the job looks", func() bool { return s.inFlight(anna) == 0 })
		for _, r := range s.stripe.Requests(id)[n:] {
			require.Equal(t, http.MethodGet, r.Method)
		}
		agree(t, anna, id, pro, 1)
		patch(anna, up).Want(200)
		agree(t, anna, id, teams, 2)
	})
	t.Run("ItIsSlow", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		id := s.buy(t, anna, "pro", "monthly")
		release := make(chan struct{})
		s.stripe.Pause(func(r stripetest.Request) {
			if r.Method == http.MethodPost && strings.Contains(r.Path, id) {
				<-release
			}
		})
		patch(anna, up).Problem(502, "STRIPE_ERROR")
		patch(anna, up).Problem(502, "STRIPE_ERROR")
		close(release)
		stack.Eventually(t, "the charge is known", func() bool { return patch(anna, up).Status == 200 })
		agree(t, anna, id, teams, 2)
	})
	t.Run("ADowngradeIsCutBetweenItsSteps", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		id := s.buy(t, anna, "teams", "monthly")
		f.set(id, func(r stripetest.Request) stripetest.Fault {
			if r.Form.Get("metadata[org_id]") == anna.OrgID && strings.HasPrefix(r.Path, "/v1/subscription_schedules/") {
				return stripetest.CutAfter
			}
			return stripetest.None
		})
		patch(anna, object{"planId": "pro"}).Problem(502, "STRIPE_ERROR")
		f.set(id, fine)
		require.Equal(t, "pro", patch(anna, object{"planId": "pro"}).Want(200).String("pendingPlanId"))
		agree(t, anna, id, "active price_teams_m false price_pro_m", 1)
	})
	t.Run("ACustomerIsMadeOnce", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		f.set(anna.OrgID, func(r stripetest.Request) stripetest.Fault {
			if r.Path == "/v1/customers" && r.Form.Get("metadata[org_id]") == anna.OrgID {
				return stripetest.CutAfter
			}
			return stripetest.None
		})
		anna.Do("POST", "/billing/checkout", object{"planId": "pro"}).Problem(502, "STRIPE_ERROR")
		f.set(anna.OrgID, fine)
		answers := client.AtOnce(t, 6, func(i int) (client.Response, error) {
			if i%2 == 0 {
				return anna.Try("POST", "/billing/portal", object{})
			}
			return anna.Try("POST", "/billing/checkout", object{"planId": "pro"})
		})
		for _, a := range answers {
			require.Less(t, a.Status, 300, string(a.Body))
		}
		made := map[string]bool{}
		for _, r := range s.stripe.Requests("/v1/customers") {
			if r.Path == "/v1/customers" && r.Form.Get("metadata[org_id]") == anna.OrgID {
				made[r.Key] = true
			}
		}
		require.Len(t, made, 1)
	})
	t.Run("FiftyChangesAtOnceEndInOneState", func(t *testing.T) {
		t.Parallel()
		anna, stan := s.In(t).SignUp("Anna"), s.In(t).SignUp("Stan")
		id, others := s.buy(t, anna, "pro", "monthly"), s.buy(t, stan, "pro", "monthly")
		answers := client.AtOnce(t, 50, func(i int) (client.Response, error) {
			return anna.Try("PATCH", "/billing/subscription", object{"planId": []string{"teams", "pro"}[i%2]})
		})
		for _, a := range answers {
			if a.Status != 200 {
				a.Problem(409, "PAYMENT_IN_PROGRESS")
			}
		}
		require.Equal(t, s.stripe.State(id), s.state(anna))
		require.Zero(t, s.inFlight(anna))
		require.LessOrEqual(t, len(s.stripe.Charges(s.customer(anna))), 2, "one upgrade, whatever the order; downgrades wait")
		require.Equal(t, pro, s.stripe.State(others))
	})
	t.Run("DetailsAreCopiedOnce", func(t *testing.T) {
		t.Parallel()
		anna, stan := s.In(t).SignUp("Anna"), s.In(t).SignUp("Stan")
		stan.Do("PATCH", "/billing/details", object{"city": "Gent"}).Want(200)
		id := s.buy(t, anna, "pro", "monthly")
		customer := s.customer(anna)
		for i := range "Amsterdam" {
			anna.Do("PATCH", "/billing/details", object{"city": "Amsterdam"[:i+1], "companyName": "Anna BV", "btwNumber": "DE11111111" + fmt.Sprint(i), "country": "DE"}).Want(200)
		}
		s.DB.Exec("update public.billing_details set btw_status = 'valid', btw_definite = 'valid', verified_at = now() where organization_id = $1", anna.OrgID)
		copied := func() bool {
			s.due(anna)
			o, ids := s.stripe.Customer(customer)
			address, _ := o["address"].(object)
			return address["city"] == "Amsterdam" && o["name"] == "Anna BV" && o["tax_exempt"] == "reverse" && len(ids) == 1 && ids[0]["value"] == "DE111111118"
		}
		stack.Eventually(t, "the details are at Stripe", copied)
		stack.Eventually(t, "the copies have ended", func() bool { s.due(anna); return s.inFlight(anna) == 0 && s.waiting(anna) == 0 })
		updates := 0
		for _, r := range s.stripe.Requests("/v1/customers/" + customer) {
			if r.Method == http.MethodPost && r.Path == "/v1/customers/"+customer {
				updates++
			}
		}
		require.LessOrEqual(t, updates, 4, "nine keystrokes share copies")
		require.Zero(t, s.waiting(stan), "without a customer nothing is copied")
		anna.Do("PATCH", "/billing/details", object{"btwNumber": "", "country": "CH"}).Want(200)
		stack.Eventually(t, "the number is removed", func() bool {
			s.due(anna)
			o, ids := s.stripe.Customer(customer)
			return o["tax_exempt"] == "exempt" && len(ids) == 0
		})
		stack.Eventually(t, "the copies have ended", func() bool { s.due(anna); return s.inFlight(anna) == 0 && s.waiting(anna) == 0 })
		patch(anna, up).Want(200)
		charges := s.stripe.Charges(customer)
		require.InDelta(t, 5000, charges[1], 2, "no VAT outside the EU")
		require.Equal(t, "active price_teams_m false", s.stripe.State(id))
	})
}

// waiting is how many jobs about details wait.
func (s *shop) waiting(p *client.Person) int {
	return testdb.Value[int](s.DB, "select count(*)::int from jobs.stored_jobs where job_type = 'billing.details' and convert_from(args, 'UTF8')::jsonb ->> 'organizationId' = $1", p.OrgID)
}

func TestStripeIsNotReachable(t *testing.T) {
	t.Parallel()
	d := stripetest.New(t, false)
	s := stack.New(t, shopping(d.URL), func(c *config.Config) { c.StripeBase = "http://127.0.0.1:1" })
	anna := s.In(t).SignUp("Anna")
	for range 2 {
		anna.Do("POST", "/billing/checkout", object{"planId": "pro"}).Problem(502, "STRIPE_ERROR")
	}
	require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*)::int from private.stripe_calls where settled_at is not null and refusal ->> 'code' = 'STRIPE_ERROR'"),
		"what was never sent is not in doubt")
}

// A process of the server is killed after Stripe has charged and before it could say so. The next process settles the call.
func TestAServerIsKilledBetweenTheChargeAndItsRecord(t *testing.T) {
	t.Parallel()
	s := newShop(t, true, func(c *config.Config) { c.StripeTimeout = time.Second })
	anna, ada := s.In(t).SignUp("Anna"), s.In(t).SignUp("Ada")
	for _, p := range []*client.Person{anna, ada} {
		id := s.buy(t, p, "pro", "monthly")
		killed := start(t, s.DB, doubleAt+"="+s.stripe.URL, "APP_URL="+s.Config.PublicURL)
		charged, release := make(chan struct{}), make(chan struct{})
		s.stripe.Pause(func(r stripetest.Request) {
			if r.Method == http.MethodPost && strings.Contains(r.Path, id) {
				close(charged)
				<-release
			}
		})
		lost := make(chan error, 1)
		go func() {
			r, err := p.At(killed.url).Try("PATCH", "/billing/subscription", object{"planId": "teams"})
			if err == nil {
				err = fmt.Errorf("status %d", r.Status)
			}
			lost <- err
		}()
		select {
		case <-charged:
		case err := <-lost:
			require.Fail(t, "the request ended before the charge", "%v", err)
		}
		killed.kill()
		require.Error(t, <-lost)
		s.stripe.Pause(nil)
		close(release)
		require.Len(t, s.stripe.Charges(s.customer(p)), 2)
		require.Equal(t, "active price_pro_m false", s.state(p), "nothing was recorded")
		// The lease of the process that died ends, as time would have it.
		s.DB.Exec("update private.stripe_calls set leased_until = now() where organization_id = $1 and settled_at is null", p.OrgID)
		if p == anna {
			require.Equal(t, "teams", patch(p, object{"planId": "teams"}).Want(200).String("planId"))
		} else {
			s.due(p)
			stop := worker.Start(t, s.Stack)
			stack.Eventually(t, "the worker settles the call", func() bool { return s.inFlight(p) == 0 })
			stop()
		}
		require.Equal(t, "active price_teams_m false", s.state(p))
		require.Equal(t, s.stripe.State(id), s.state(p))
		require.Len(t, s.stripe.Charges(s.customer(p)), 2, "charged once")
	}
}
