package billing

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"kijko/server/api"
	"kijko/worker/billing"
	"kijko/worker/exactjson"
	"kijko/worker/stripe"
)

// Payments are the settings of payments at Stripe.
type Payments struct {
	// Stripe is nil where this installation takes no payments.
	Stripe *stripe.Client
	Driver *billing.Driver
	// Prices are Stripe's ids by plan and interval, such as pro_monthly.
	Prices map[string]string
	// Home is the page that people come back to, and Origins the sites that a body may name instead.
	Home    string
	Origins api.Origins
}

// patience is how long a request waits for another one of its organization.
const patience = 20 * time.Second

// sessionID is where Stripe puts the id of a session into an address.
const sessionID = "session_id={CHECKOUT_SESSION_ID}"

// Ask is the Database of a driver in the server.
func Ask(exec Executor) billing.Database {
	return func(ctx context.Context, function string, p, into any) error {
		answer, err := api.Serve(ctx, exec, api.Request{}, function, p)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(answer.Body, into); err != nil {
			return fmt.Errorf("what %s says: %w", function, err)
		}
		return nil
	}
}

// pay is an operation that writes to Stripe. Postgres authorizes it and plans the call, which is then brought to its end; what the caller gets is
// the end of the call.
func (f *Feature) pay(function string, addresses ...string) api.Handler {
	return func(c *api.Call) error {
		p := map[string]any{}
		if err := exactjson.Unmarshal(c.Params, &p); err != nil {
			return err
		}
		p["isConfigured"], p["prices"] = f.Stripe != nil, f.Prices
		if err := f.lead(c, p, addresses); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), patience)
		defer cancel()
		planned, call, err := f.plan(ctx, c, function, p)
		if err != nil {
			return err
		}
		if call == "" {
			return c.Reply(planned)
		}
		result, err := f.Driver.Drive(ctx, call, true)
		if err != nil {
			return err
		}
		if planned.Body, err = f.end(c, result); err != nil {
			return err
		}
		return c.Reply(planned)
	}
}

// plan lets Postgres plan the call. A call of this organization that is in flight is waited for, and one that was cut is ended first.
func (f *Feature) plan(ctx context.Context, c *api.Call, function string, p any) (answer api.Answer, call string, err error) {
	for {
		answer, err = c.Query(c.Context(), function, p)
		if err == nil {
			break
		}
		problem := api.ProblemOf(err)
		var other struct {
			CallID string `json:"callId"`
		}
		if problem.Code != "PAYMENT_IN_PROGRESS" || json.Unmarshal(problem.Details, &other) != nil || other.CallID == "" {
			return answer, "", err
		}
		problem.Details = nil
		if f.Driver == nil || f.Driver.Stripe == nil {
			return answer, "", problem
		}
		result, err := f.Driver.Drive(ctx, other.CallID, false)
		switch {
		case err != nil:
			return answer, "", err
		case result.Doubt:
			return answer, "", doubtful()
		case result.Busy || ctx.Err() != nil:
			return answer, "", problem
		}
	}
	var planned struct {
		Call   string          `json:"call"`
		Answer json.RawMessage `json:"answer"`
	}
	if err := json.Unmarshal(answer.Body, &planned); err != nil {
		return answer, "", fmt.Errorf("what %s plans: %w", function, err)
	}
	answer.Body = planned.Answer
	return answer, planned.Call, nil
}

// end is the answer of a call that has ended, or why there is none.
func (f *Feature) end(c *api.Call, r billing.Result) (json.RawMessage, error) {
	switch {
	case r.Doubt:
		return nil, doubtful()
	case r.Busy:
		return nil, api.NewProblem(http.StatusConflict, "PAYMENT_IN_PROGRESS", "Another change at Stripe is in progress. Please try again in a moment.", "")
	case r.Refusal != nil:
		problem := api.NewProblem(r.Refusal.Status, r.Refusal.Code, r.Refusal.Message, r.Refusal.Field)
		problem.Details = r.Refusal.Details
		return nil, problem
	case r.Operation == "setup_intent":
		return f.consent(c, r)
	}
	return r.Answer, nil
}

// consent adds the secret of a consent to its answer. A repeated request asks Stripe for it again, because it is stored nowhere.
func (f *Feature) consent(c *api.Call, r billing.Result) (json.RawMessage, error) {
	var made struct {
		SetupIntentID string `json:"setupIntentId"`
	}
	if err := json.Unmarshal(r.Answer, &made); err != nil {
		return nil, fmt.Errorf("a consent: %w", err)
	}
	if r.Secret == "" {
		a, err := f.Stripe.Do(c.Context(), stripe.Request{Method: http.MethodGet, Path: "/v1/setup_intents/" + url.PathEscape(made.SetupIntentID)})
		if err != nil {
			return nil, err
		}
		var intent struct {
			ClientSecret string `json:"client_secret"`
		}
		if a.Outcome != stripe.OK || json.Unmarshal(a.Body, &intent) != nil || intent.ClientSecret == "" {
			return nil, doubtful()
		}
		r.Secret = intent.ClientSecret
	}
	return json.Marshal(map[string]string{"clientSecret": r.Secret, "setupIntentId": made.SetupIntentID, "publishableKey": f.Stripe.Publishable()})
}

// doubtful is the answer while Stripe does not answer. The call goes on by the next request or by a job.
func doubtful() *api.Problem {
	return api.NewProblem(http.StatusBadGateway, "STRIPE_ERROR", "Stripe did not answer. Whether it did this is being found out; please look again in a minute.", "")
}

// lead reads the addresses of a body that Stripe leads back to, and completes them.
func (f *Feature) lead(c *api.Call, p map[string]any, names []string) error {
	if len(names) == 0 {
		return nil
	}
	body := map[string]any{}
	if len(c.Body) > 0 {
		if err := c.Decode(&body); err != nil {
			return err
		}
	}
	redirects := map[string]string{}
	for _, name := range names {
		address, given := body[name].(string)
		if !given {
			address = strings.TrimRight(f.Home, "/") + "/settings/billing"
		} else if !f.isOurs(address) {
			if _, refused := p["refusedUrl"]; !refused {
				p["refusedUrl"] = name
			}
			continue
		}
		if name == "successUrl" {
			address = withSession(address)
		}
		redirects[name] = address
	}
	p["redirects"] = redirects
	return nil
}

// withSession appends the place of the session's id to the query of an address.
func withSession(address string) string {
	address, fragment, has := strings.Cut(address, "#")
	switch {
	case !strings.Contains(address, "?"):
		address += "?" + sessionID
	case strings.HasSuffix(address, "?") || strings.HasSuffix(address, "&"):
		address += sessionID
	default:
		address += "&" + sessionID
	}
	if has {
		address += "#" + fragment
	}
	return address
}

// isOurs reports whether people may be led to an address after a payment: a page of a site that may call the API.
func (f *Feature) isOurs(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || len(address) > 2000 || strings.ContainsAny(address, "\\ \t\r\n") || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	return f.Origins.Allow(strings.ToLower(u.Scheme + "://" + u.Host))
}
