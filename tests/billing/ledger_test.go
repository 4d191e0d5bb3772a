package billing

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"kijko/server/app"
	"kijko/server/config"
	"kijko/tests/stack"
	"kijko/tests/stack/worker"
	"kijko/tests/testdb"
	"kijko/worker/vies"
)

// TestTenThousandInvoicesHaveTheVATOfAnIndependentComputation lets Stripe finalize random invoices of customers of all kinds, and computes
// treatment, rate and VAT with another library in another language. Half of them come with a wrong VAT, which is told to the operator.
func TestTenThousandInvoicesHaveTheVATOfAnIndependentComputation(t *testing.T) {
	t.Parallel()
	const invoices, customers = 10_000, 100
	d, conn := ledger(t)
	d.Exec(`insert into private.installation (key, value) values ('vat_oss', 'true')`)
	rows, err := conn.Query(t.Context(), "select distinct on (country) country, rate::text from public.vat_rates where valid_from <= '2025-12-01' order by country, valid_from desc")
	require.NoError(t, err)
	rates := map[string]decimal.Decimal{}
	for rows.Next() {
		var country, rate string
		require.NoError(t, rows.Scan(&country, &rate))
		rates[country] = decimal.RequireFromString(rate)
	}
	require.NoError(t, rows.Err())
	require.Len(t, rates, 27)
	numbers := map[string]string{"DE": "DE111111111", "BE": "BE0123456789", "FR": "FRAB123456789", "GR": "EL123456789"}
	countries := []string{"NL", "DE", "BE", "FR", "GR", "FI", "SE", "HU", "LU", "US", "GB", "CH", "NO"}

	r := rand.New(rand.NewPCG(50, 4))
	type person struct {
		customer
		country, number string
		valid           bool
	}
	people := make([]person, customers)
	for i := range people {
		p := person{customer: customer{org: organization(t, d, fmt.Sprintf("anna%d", i)), id: fmt.Sprintf("cus_%d", i), shape: shapes[r.IntN(2)]}, country: countries[r.IntN(len(countries))]}
		if n, has := numbers[p.country]; has && r.IntN(2) == 0 {
			p.number, p.valid = n, r.IntN(2) == 0
		}
		status := map[bool]string{true: "valid", false: "invalid"}[p.valid]
		d.Exec("update public.billing_details set country = $2, btw_number = nullif($3, '') where organization_id = $1", p.org, p.country, p.number)
		if p.number != "" {
			d.Exec("update public.billing_details set btw_status = $2, btw_definite = $2, verified_at = now() where organization_id = $1", p.org, status)
		}
		d.Exec("update public.subscriptions set stripe_customer_id = $2 where organization_id = $1", p.org, p.id)
		people[i] = p
	}
	type expected struct {
		treatment, rate string
		net, vat, told  int64
		wrong           bool
	}
	want := map[string]expected{}
	var b pgx.Batch
	for i := range invoices {
		p := people[r.IntN(customers)]
		net := r.Int64N(200_000_00) - 50_000_00 // also credits
		if r.IntN(20) == 0 {
			net = []int64{0, 1, -1, 50, 2900, 28800, 7900, 79200, 1250, -1250}[r.IntN(10)]
		}
		e := expected{net: net}
		rate := decimal.Zero
		switch _, european := rates[p.country]; {
		case p.country == "NL":
			e.treatment, rate = "domestic", rates["NL"]
		case !european:
			e.treatment = "outside_eu"
		case p.valid:
			e.treatment = "reverse_charge"
		default:
			e.treatment, rate = "eu_b2c", rates[p.country]
		}
		e.rate = rate.StringFixed(3)
		// Round goes half away from zero.
		e.vat = decimal.NewFromInt(net).Mul(rate).Div(decimal.NewFromInt(100)).Round(0).IntPart()
		e.told = e.vat
		if e.wrong = r.IntN(2) == 0; e.wrong {
			e.told += []int64{-1, 1}[r.IntN(2)]
		}
		id := fmt.Sprintf("in_%d", i)
		want[id] = e
		event := p.event(fmt.Sprintf("evt_%d", i), "invoice.finalized", 60, p.invoice(id, "open", 0, net, e.told, 0, object{"subscription": nil, "parent": nil, "subscription_details": nil,
			"customer_address": object{"country": p.country}}))
		b.Queue("select private.take_stripe_event($1, false)", []byte(event))
	}
	require.NoError(t, conn.SendBatch(t.Context(), &b).Close())
	rows, err = conn.Query(t.Context(), `select i.stripe_invoice_id, i.vat_treatment, i.vat_rate::text, i.net_amount, i.vat_amount, coalesce(e.alerts[1], '')
		from public.invoices i join private.stripe_events e on e.payload #>> '{data,object,id}' = i.stripe_invoice_id`)
	require.NoError(t, err)
	seen := 0
	for rows.Next() {
		var id, alert string
		var found expected
		require.NoError(t, rows.Scan(&id, &found.treatment, &found.rate, &found.net, &found.told, &alert))
		e := want[id]
		require.Equal(t, expected{treatment: e.treatment, rate: e.rate, net: e.net, told: e.told}, found, id)
		require.Equal(t, e.wrong, alert != "", id)
		if e.wrong {
			require.Contains(t, alert, fmt.Sprintf("has %d cents of VAT, and by our rules it should have %d.", e.told, e.vat), id)
		}
		seen++
	}
	require.NoError(t, rows.Err())
	require.Equal(t, invoices, seen)
}

// The server that is killed is this test program again; its environment names the database.
const killable = "KIJKO_TEST_BILLING_SERVER"

func init() {
	if dsn := os.Getenv(killable); dsn != "" {
		if err := serve(dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// TestAKilledServerLosesNoEvent delivers stories in random orders, as Stripe does: until each is answered with 200. The server is killed again
// and again, in the middle of deliveries.
func TestAKilledServerLosesNoEvent(t *testing.T) {
	t.Parallel()
	d, conn := ledger(t)
	server := start(t, d)
	r := rand.New(rand.NewPCG(9, 9))
	const stories = 3
	for n := range stories {
		c := customer{org: organization(t, d, fmt.Sprintf("anna%d", n)), id: fmt.Sprintf("cus_%d", n), sub: fmt.Sprintf("sub_%d", n), shape: shapes[n%2]}
		var events []json.RawMessage
		for _, e := range quarterOfAYear(c) {
			// Ids of events and invoices are unique at Stripe.
			text := strings.NewReplacer(`"evt_`, fmt.Sprintf(`"evt_%d_`, n), `"in_`, fmt.Sprintf(`"in_%d_`, n), `"HV-`, fmt.Sprintf(`"HV-%d-`, n), `"cs_`, fmt.Sprintf(`"cs_%d_`, n)).Replace(string(e))
			events = append(events, json.RawMessage(text))
		}
		want := tell(t, conn, c.org, events)
		for k, i := range r.Perm(len(events)) {
			for tries := 0; ; tries++ {
				require.Less(t, tries, 50)
				answered := make(chan bool, 1)
				go func() {
					request, err := http.NewRequest(http.MethodPost, server.url+"/api/v1/webhooks/stripe", strings.NewReader(string(events[i])))
					if err != nil {
						answered <- false
						return
					}
					request.Header.Set("Stripe-Signature", sign(secret, events[i]))
					response, err := http.DefaultClient.Do(request)
					if err == nil {
						_ = response.Body.Close()
					}
					answered <- err == nil && response.StatusCode == 200
				}()
				if k%3 == 0 && tries == 0 {
					// Somewhere in the delivery: before, within or after its transaction.
					time.Sleep(time.Duration(r.IntN(4000)) * time.Microsecond)
					server.kill()
					server = start(t, d)
				}
				if <-answered {
					break
				}
			}
		}
		require.JSONEq(t, want, testdb.Value[string](d, state, c.org), "story %d", n)
	}
	server.kill()
}

func TestNumbersAndSubscriptionsAreReadAgain(t *testing.T) {
	t.Parallel()
	s := stack.New(t, payments)
	anna := s.SignUp("Anna")
	c := of(anna, former)
	var asked []string
	stripe := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.Header.Get("Stripe-Version"))
		if len(asked) == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		raw, err := json.Marshal(c.subscription("active", teamsMonthly, 0))
		if err == nil {
			_, _ = w.Write(raw)
		}
	}))
	t.Cleanup(stripe.Close)
	stack.Eventually(t, "the server declares what it has", func() bool {
		return testdb.Value[int](s.DB, "select count(*)::int from private.stripe_prices") == 4
	})
	told(t, s, c.event("evt_1", "customer.subscription.created", 1, c.subscription("active", proMonthly, 0)),
		c.event("evt_2", "customer.subscription.updated", 2, c.subscription("past_due", proMonthly, 0)),
		c.event("evt_3", "customer.subscription.updated", 2, c.subscription("active", proMonthly, 0)))
	s.DB.Exec("update public.billing_details set country = 'DE', btw_number = 'DE111111111' where organization_id = $1", anna.OrgID)
	s.DB.Exec("update public.billing_details set btw_status = 'valid', btw_definite = 'valid', verified_at = now() - interval '40 days' where organization_id = $1", anna.OrgID)
	s.DB.Exec("select private.queue_btw_checks()")
	require.Equal(t, "billing.check_number billing.fetch", testdb.Value[string](s.DB, "select string_agg(job_type, ' ' order by job_type) from jobs.stored_jobs where job_type in ('billing.check_number', 'billing.fetch')"))
	s.DB.Exec("update jobs.stored_jobs set run_at = now() where job_type = 'billing.fetch' and lease is null")

	s.Config.StripeBase = stripe.URL
	s.Config.VIESMode, s.Config.VIESURL = vies.Live, newRegister(t).URL
	worker.Start(t, s)
	stack.Eventually(t, "VIES was asked", func() bool {
		return testdb.Value[bool](s.DB, "select verified_at > now() - interval '1 day' and consultation_number = 'WAPI2' from public.billing_details where organization_id = $1", anna.OrgID)
	})
	stack.Eventually(t, "Stripe was asked, and once more after its failure", func() bool {
		s.DB.Exec("update jobs.stored_jobs set run_at = now() where job_type = 'billing.fetch' and lease is null")
		return anna.Get("/billing/subscription").Want(200).String("planId") == "teams"
	})
	require.Equal(t, "GET /v1/subscriptions/"+c.sub+" Bearer sk_test_nothing 2023-10-16", asked[len(asked)-1])
}

// serve runs a server on a database until its standard input ends, and prints its address.
func serve(dsn string) error {
	cfg, err := config.Load()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kijko-billing")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cfg.Debug, cfg.Addr, cfg.DataDir, cfg.Database, cfg.DatabaseDirect, cfg.VIESMode = true, "127.0.0.1:0", dir, dsn, dsn, vies.Offline
	cfg.EncryptionKey = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	payments(&cfg)
	if base := os.Getenv(doubleAt); base != "" {
		shopping(base)(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	a, err := app.New(ctx, cfg, app.Options{})
	if err != nil {
		return err
	}
	fmt.Println(a.URL())
	return a.Run(ctx)
}

// process is a server that can be killed.
type process struct {
	url string
	cmd *exec.Cmd
}

// start waits until the server listens.
func start(t *testing.T, d *testdb.DB, env ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(append(os.Environ(), killable+"="+d.DSN("kijko_server")), env...)
	p.cmd.Stderr = os.Stderr
	_, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	p.url = strings.TrimSpace(line)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_, _ = p.cmd.Process.Wait()
}
