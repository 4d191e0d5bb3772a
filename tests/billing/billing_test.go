// Package billing tests plans, usage, billing details and VAT over HTTP, with a double of VIES in the form of the real service.
package billing

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kijko/server/config"
	"kijko/tests/client"
	"kijko/tests/stack"
	"kijko/tests/testdb"
	"kijko/worker/vies"
)

type object = map[string]any

// register is a double of VIES: it knows some numbers, has troubles with others, and counts the questions.
type register struct {
	*httptest.Server
	mu    sync.Mutex
	asked map[string]int
}

func newRegister(t *testing.T) *register {
	t.Helper()
	r := &register{asked: map[string]int{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		var q struct{ CountryCode, VatNumber string }
		if request.URL.Path != "/check-vat-number" || json.NewDecoder(request.Body).Decode(&q) != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		number := q.CountryCode + q.VatNumber
		r.mu.Lock()
		r.asked[number]++
		r.mu.Unlock()
		answer := `{"actionSucceed":false,"errorWrappers":[{"error":"MS_UNAVAILABLE"}]}`
		switch {
		case strings.HasPrefix(number, "DE1"):
			answer = `{"countryCode":"DE","valid":true,"requestIdentifier":"WAPI2","name":"---","address":"---"}`
		case number == "NL004495445B01":
			answer = `{"countryCode":"NL","valid":true,"requestIdentifier":"WAPI1","name":"ANNA BV","address":"\nDAM 1\nAMSTERDAM\n"}`
		case number == "BE0123456789":
			answer = `{"countryCode":"BE","valid":true,"requestIdentifier":"","name":"---","address":"---"}`
		case number == "BE0999999999":
			answer = `{"countryCode":"BE","valid":false,"name":"---","address":"---"}`
		case number == "BE0999999998":
			answer = `{"actionSucceed":false,"errorWrappers":[{"error":"INVALID_INPUT"}]}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *register) questions(number string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[number]
}

func TestBilling(t *testing.T) {
	t.Parallel()
	r := newRegister(t)
	s := stack.New(t, func(c *config.Config) { c.VIESMode, c.VIESURL = vies.Live, r.URL })
	check := func(p *client.Person, number string) client.Response {
		return p.Do("POST", "/billing/details/validate-btw", object{"btwNumber": number})
	}

	t.Run("AVisitorComparesPlans", func(t *testing.T) {
		t.Parallel()
		plans := client.JSON[[]object](s.In(t).Get("/billing/plans").Want(200))
		require.Len(t, plans, 4)
		require.Equal(t, "free", plans[0]["id"])
		require.NotContains(t, plans[0], "annualPrice")
		require.InDelta(t, 24, plans[1]["annualPrice"], 0)
	})
	t.Run("EveryMemberSeesThePlanAndItsUse", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		ben := s.Join(anna, s.In(t).SignUp("Ben"), "viewer")
		for _, p := range []*client.Person{anna, ben} {
			sub := p.Get("/billing/subscription").Want(200)
			require.Equal(t, anna.ID, sub.String("userId"))
			require.Equal(t, "free", sub.String("planId"))
			used := client.JSON[[]object](p.Get("/billing/usage").Want(200))
			require.InDelta(t, 2, used[3]["current"], 0, "two seats")
			require.InDelta(t, 200, used[3]["percentage"], 0, "more than the plan has are shown as they are")
			require.Empty(t, used[3]["trend"])
			require.Len(t, used[0]["trend"], 7)
		}
		for _, call := range []struct {
			method, path string
			body         any
		}{{"GET", "/billing/details", nil}, {"PATCH", "/billing/details", object{"city": "x"}}, {"POST", "/billing/details/validate-btw", object{"btwNumber": "NL004495445B01"}},
			{"POST", "/billing/preview", object{"planId": "pro"}}} {
			ben.Do(call.method, call.path, call.body).Problem(403, "FORBIDDEN")
		}
		require.Zero(t, testdb.Value[int](s.DB, "select count(*)::int from private.rate_counters where key = 'btw|' || $1", anna.OrgID), "a refused call takes no check from the owner")
	})
	t.Run("TheFormSavesAtEachKeystroke", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		refused := 0
		for i := range "1012JL" {
			r := anna.Do("PATCH", "/billing/details", object{"postalCode": "1012JL"[:i+1]})
			if r.Status != 200 {
				refused++
				r.Problem(400, "VALIDATION_ERROR").Field("postalCode")
			}
		}
		require.Equal(t, 5, refused)
		for i := range "12345678" {
			if r := anna.Do("PUT", "/billing/details", object{"kvkNumber": "12345678"[:i+1]}); r.Status != 200 {
				r.Problem(400, "VALIDATION_ERROR").Field("kvkNumber")
				require.Contains(t, r.String("message"), "must be 8 digits")
			}
		}
		anna.Do("PATCH", "/billing/details", object{"btwNumber": "nl0044.95.445.b01", "companyName": "Anna BV"}).Want(200)
		kept := anna.Get("/billing/details").Want(200)
		require.Equal(t, object{"userId": anna.ID, "companyName": "Anna BV", "btwNumber": "NL004495445B01", "kvkNumber": "12345678", "postalCode": "1012 JL", "country": "NL",
			"updatedAt": kept.Value("updatedAt")}, client.JSON[object](kept))
		for field, body := range map[string]string{"btwNumber": `{"btwNumber": 5}`, "city": `{"city": null}`, "vat": `{"vat": "x"}`, "companyName": `{"companyName": "` + strings.Repeat("x", 256) + `"}`,
			"country": `{"country": "nederland"}`} {
			anna.Do("PATCH", "/billing/details", body).Problem(400, "VALIDATION_ERROR").Field(field)
		}
		cleared := anna.Do("PATCH", "/billing/details", object{"companyName": "", "postalCode": ""}).Want(200)
		require.NotContains(t, client.JSON[object](cleared), "companyName")
	})
	t.Run("ANumberIsCheckedInThreeLayers", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		for number, want := range map[string]object{
			"NL123":           {"isValid": false, "errorMessage": "This does not have the form of a BTW number, such as NL004495445B01."},
			"NL123456789B01":  {"isValid": false, "errorMessage": "The check digits of this BTW number do not match. Please look for a typing error."},
			"nl 004495445B01": {"isValid": true, "companyName": "ANNA BV", "address": "DAM 1\nAMSTERDAM"},
			"BE0123456789":    {"isValid": true},
			"BE0999999999":    {"isValid": false, "errorMessage": "This BTW number is not registered in VIES."},
			"BE0999999998":    {"isValid": false, "errorMessage": "This BTW number is not registered in VIES."},
			"NL000099998B57":  {"isValid": false, "errorMessage": "VIES is unavailable, try again later"},
		} {
			r := check(anna, number).Want(200)
			r.Equal(want)
			require.Equal(t, "10", r.Header.Get("X-RateLimit-Limit"))
			require.Equal(t, map[bool]string{true: "60"}[number == "NL000099998B57"], r.Header.Get("Retry-After"), number)
		}
		require.Zero(t, r.questions("NL123456789B01"), "check digits that are wrong need no VIES")
		require.Empty(t, client.JSON[object](anna.Get("/billing/details"))["btwNumber"], "validating saves nothing")
		check(anna, " .- ").Problem(400, "VALIDATION_ERROR").Field("btwNumber")
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*)::int from private.vies_answers where organization_id = $1 and is_valid", anna.OrgID))
		require.Equal(t, 2, testdb.Value[int](s.DB, "select count(*)::int from private.vies_answers where organization_id = $1 and not is_valid", anna.OrgID))
	})
	t.Run("AnAnswerIsGoodForADayInItsOrganization", func(t *testing.T) {
		t.Parallel()
		anna, stan := s.In(t).SignUp("Anna"), s.In(t).SignUp("Stan")
		before := r.questions("BE0777777777")
		for range 3 {
			check(anna, "BE0777777777").Want(200)
		}
		require.Equal(t, 3, r.questions("BE0777777777")-before, "a trouble of VIES is no answer")
		anna.Do("PATCH", "/billing/details", object{"btwNumber": "DE111111111", "country": "DE"}).Want(200)
		for range 2 {
			check(anna, "DE111111111").Want(200).Equal(object{"isValid": true})
		}
		require.Equal(t, 1, r.questions("DE111111111"))
		require.Equal(t, "valid", testdb.Value[string](s.DB, "select btw_status from public.billing_details where organization_id = $1 and consultation_number = 'WAPI2'", anna.OrgID))
		check(stan, "DE111111111").Want(200)
		require.Equal(t, 2, r.questions("DE111111111"), "a quick answer would tell that another tenant asked")
		require.Equal(t, "unverified", testdb.Value[string](s.DB, "select btw_status from public.billing_details where organization_id = $1", stan.OrgID))
	})
	t.Run("TenChecksAMinuteForAllOfAnOrganization", func(t *testing.T) {
		t.Parallel()
		anna, stan := s.In(t).SignUp("Anna"), s.In(t).SignUp("Stan")
		answers := client.AtOnce(t, 14, func(int) (client.Response, error) {
			return anna.Try("POST", "/billing/details/validate-btw", object{"btwNumber": "NL1"})
		})
		passed := 0
		for _, a := range answers {
			if a.Status == 200 {
				passed++
				continue
			}
			a.Problem(429, "RATE_LIMITED")
			require.NotEmpty(t, a.Header.Get("Retry-After"))
		}
		// The minute may turn meanwhile.
		require.GreaterOrEqual(t, passed, 10)
		require.Less(t, passed, 14)
		check(stan, "NL1").Want(200)
		require.Equal(t, 404, anna.Do("POST", "/billing/details/validate-btw/x", object{}).Status)
	})
	t.Run("AQuoteFollowsTheNumber", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		quote := func(body object) client.Response { return anna.Do("POST", "/billing/preview", body).Want(200) }
		quote(object{"planId": "teams", "billingInterval": "annually"}).Equal(object{"currency": "eur", "netAmount": 79200, "vatRate": "21.00", "vatAmount": 16632, "totalAmount": 95832,
			"treatment": "domestic"})
		quote(object{"planId": "pro", "country": "BE", "btwNumber": "BE 0123.456.789"}).Equal(object{"currency": "eur", "netAmount": 2900, "vatRate": "0.00", "vatAmount": 0, "totalAmount": 2900,
			"treatment": "reverse_charge", "note": "VAT reverse-charged to BE0123456789."})
		for _, number := range []string{"BE0999999999", "BE0999999998", "BE0555555555", "DE223456789", "x", ""} {
			require.Equal(t, "eu_b2c", quote(object{"planId": "pro", "country": "BE", "btwNumber": number}).String("treatment"), number)
		}
		require.Equal(t, "outside_eu", quote(object{"planId": "pro", "country": "CH"}).String("treatment"))
		anna.Do("POST", "/billing/preview", object{"planId": "enterprise"}).Problem(400, "PLAN_NOT_SELF_SERVICE").Field("planId")
		anna.Do("POST", "/billing/preview", object{"planId": "free"}).Problem(400, "VALIDATION_ERROR").Field("planId")
		anna.Do("POST", "/billing/preview", object{}).Problem(400, "VALIDATION_ERROR").Field("planId")
		anna.Do("PATCH", "/billing/details", object{"btwNumber": "BE0123456789", "country": "BE"}).Want(200)
		require.Equal(t, "eu_b2c", quote(object{"planId": "pro"}).String("treatment"), "a stored number counts once it was checked")
		check(anna, "BE0123456789").Want(200)
		require.Equal(t, "reverse_charge", quote(object{"planId": "pro"}).String("treatment"))
	})
	t.Run("StaffMakeAContract", func(t *testing.T) {
		t.Parallel()
		anna, sue := s.In(t).SignUp("Anna"), s.In(t).SignUp("Sue")
		path := "/admin/organizations/" + anna.OrgID
		sue.Do("PATCH", path, object{"planId": "enterprise"}).Problem(403, "FORBIDDEN")
		s.DB.Exec("update public.users set is_platform_admin = true where id = $1", sue.ID)
		made := sue.Do("PATCH", path, object{"planId": "enterprise", "limits": object{"seats": 40}}).Want(200)
		require.Equal(t, anna.ID, made.String("ownerId"))
		require.Equal(t, "enterprise", anna.Get("/billing/subscription").Want(200).String("planId"))
		require.InDelta(t, 40, client.JSON[[]object](anna.Get("/billing/usage"))[3]["limit"], 0)
		sue.Do("PUT", path, object{"limits": object{"seats": nil}}).Want(200)
		require.InDelta(t, -1, client.JSON[[]object](anna.Get("/billing/usage"))[3]["limit"], 0)
		sue.Do("PATCH", path, object{"limits": object{"storage": 1}}).Problem(400, "VALIDATION_ERROR")
		sue.Do("PATCH", "/admin/organizations/"+anna.ID, object{"planId": "pro"}).Problem(404, "NOT_FOUND")
		anna.Do("POST", "/projects", object{"name": "Seen by staff"}).Want(201)
		require.Contains(t, string(sue.Get("/admin/projects").Want(200).Body), "Seen by staff")
		found := client.JSON[[]object](sue.Get("/admin/organizations?limit=1&search=%25").Want(200))
		require.Empty(t, found, "a search is literal")
		require.Len(t, client.JSON[[]object](sue.Get("/admin/organizations?limit=2").Want(200)), 2)
		anna.Get("/admin/organizations").Problem(403, "FORBIDDEN")
	})
	t.Run("ARepeatedCheckIsAnsweredAsBefore", func(t *testing.T) {
		t.Parallel()
		anna := s.In(t).SignUp("Anna")
		keyed := anna.With("Idempotency-Key", "check")
		first := keyed.Do("POST", "/billing/details/validate-btw", object{"btwNumber": "BE0123456789"}).Want(200)
		again := keyed.Do("POST", "/billing/details/validate-btw", object{"btwNumber": "BE0123456789"}).Want(200)
		require.JSONEq(t, string(first.Body), string(again.Body))
		require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
		keyed.Do("POST", "/billing/details/validate-btw", object{"btwNumber": "BE0999999999"}).Problem(409, "IDEMPOTENCY_CONFLICT")
	})
}

func TestWithoutANetworkFormAndCheckDigitsDecide(t *testing.T) {
	t.Parallel()
	s := stack.New(t, func(c *config.Config) { c.VIESURL = "http://127.0.0.1:9" })
	anna := s.SignUp("Anna")
	anna.Do("POST", "/billing/details/validate-btw", object{"btwNumber": "NL000099998B57"}).Want(200).Equal(object{"isValid": true})
	anna.Do("POST", "/billing/details/validate-btw", object{"btwNumber": "NL123456789B01"}).Want(200).Equal(object{"isValid": false,
		"errorMessage": "The check digits of this BTW number do not match. Please look for a typing error."})
	require.Equal(t, "reverse_charge", anna.Do("POST", "/billing/preview", object{"planId": "pro", "country": "BE", "btwNumber": "BE0123456789"}).Want(200).String("treatment"))
}
