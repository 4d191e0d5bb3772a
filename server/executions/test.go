package executions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	work "kijko/worker/executions"
	"kijko/worker/llm"
)

// testsAtOnce bounds the concurrent model calls of tests in one process. Runs go through the queue, tests do not.
const testsAtOnce = 200

// Test is the request to a model, as the database functions that check and charge a test return it.
type Test struct {
	OrganizationID string         `json:"organizationId"`
	Model          string         `json:"model"`
	Parameters     llm.Parameters `json:"parameters"`
	System         string         `json:"system"`
	Prompt         string         `json:"prompt"`
	// UserID is the caller, for traces.
	UserID string `json:"-"`
}

// Outcome is the result of a test. A failure of the model is an outcome, not an error.
type Outcome struct {
	// ID is "test-" and a fresh UUID; no stored row has it.
	ID        string
	Completed bool
	Output    string
	// Error and Code give the reason of a failure.
	Error string
	Code  llm.Code
	// Usage is nil when the provider did not report it.
	Usage    *llm.Usage
	Duration time.Duration
	called   string
}

// Tokens returns the total number of used tokens; 0 when it is not known.
func (o Outcome) Tokens() int64 {
	if o.Usage == nil {
		return 0
	}
	return o.Usage.Input + o.Usage.Output
}

// Tester calls models without leaving a row. It is safe for concurrent use.
type Tester struct {
	exec      api.Runner
	providers Providers
	unseal    func(organizationID, provider, sealed string) (string, error)
	policy    llm.Policy
	limit     time.Duration
	log       *slog.Logger
	places    chan struct{}
}

// Run calls the model. The test must have been checked and charged. emit gets the text as it comes; nil: as a whole. An error means that
// the call could not be tried.
func (t *Tester) Run(ctx context.Context, test Test, emit func(text string) error) (Outcome, error) {
	select {
	case t.places <- struct{}{}:
		defer func() { <-t.places }()
	default:
		return Outcome{}, api.Unavailable("SERVICE_UNAVAILABLE", "Too many tests are running at the moment. Please try again.", nil)
	}
	o := Outcome{ID: "test-" + uuid.NewString()}
	answer, err := api.Serve(ctx, t.exec, api.Request{ReadOnly: true}, "route_test", map[string]string{"model": test.Model, "organizationId": test.OrganizationID})
	if err != nil {
		return o, err
	}
	var route struct {
		Answers, Called, SealedKey string
		IsSupported                bool
		WithoutSampling            bool
	}
	if err := json.Unmarshal(answer.Body, &route); err != nil {
		return o, fmt.Errorf("route of a test: %w", err)
	}
	o.called = route.Called
	if !route.IsSupported {
		return o.failed(&llm.Error{Code: llm.ModelNotSupported, Message: fmt.Sprintf("The model %q is not supported.", test.Model)}), nil
	}
	provider, err := t.providers.For(route.Answers)
	if err != nil {
		return o.failed(err), nil
	}
	r := llm.Request{Model: route.Called, System: test.System, Messages: llm.Prompt(test.Prompt), Parameters: test.Parameters,
		WithoutSampling: route.WithoutSampling}
	if route.SealedKey != "" {
		if r.Key, err = t.key(test.OrganizationID, route.Answers, route.SealedKey); err != nil {
			t.log.Error("an organization's key cannot be opened", "organization", test.OrganizationID, "error", err)
			return o.failed(err), nil
		}
	}
	ctx = llm.WithTrace(ctx, llm.Trace{Name: "skill test", UserID: test.UserID, OrganizationID: test.OrganizationID, SessionID: o.ID})
	return t.call(ctx, o, provider, r, emit), nil
}

func (t *Tester) key(organizationID, provider, sealed string) (string, error) {
	if t.unseal == nil {
		return "", errors.New("there is no ENCRYPTION_KEY")
	}
	return t.unseal(organizationID, provider, sealed)
}

func (t *Tester) call(ctx context.Context, o Outcome, provider llm.Provider, r llm.Request, emit func(string) error) Outcome {
	limited, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	began := time.Now()
	var result llm.Result
	var err error
	if emit == nil {
		result, err = t.policy.Generate(limited, began, provider, r)
	} else {
		result, err = t.policy.Stream(limited, began, provider, r, emit)
	}
	o.Duration = time.Since(began)
	switch {
	case err == nil:
		o.Completed, o.Output, o.Usage = true, work.Text(result.Text), &result.Usage
		return o
	case limited.Err() != nil && ctx.Err() == nil:
		return o.failed(&llm.Error{Code: llm.Timeout, Message: "Skill execution timeout"})
	}
	if _, ok := llm.AsError(err); !ok && ctx.Err() == nil {
		t.log.Error("a test failed in an unknown way", "error", err)
	}
	return o.failed(err)
}

// failed returns the outcome with the reason that may be shown.
func (o Outcome) failed(err error) Outcome {
	o.Code, o.Error = llm.UnknownError, "The model could not be called."
	if e, ok := llm.AsError(err); ok {
		o.Code, o.Error, o.Usage = e.Code, work.Text(e.Message), e.Usage
	}
	return o
}

// Once makes the work of a request with an Idempotency-Key happen once.
func (t *Tester) Once(c *api.Call) api.Once { return c.Once(t.limit) }

// testResponse is ExecuteSkillResponse of a test.
type testResponse struct {
	ExecutionID string  `json:"executionId"`
	Status      string  `json:"status"`
	Output      *string `json:"output,omitempty"`
	TokensUsed  *int64  `json:"tokensUsed,omitempty"`
	DurationMs  int64   `json:"durationMs"`
	Error       string  `json:"error,omitempty"`
}

func responseOf(o Outcome) testResponse {
	r := testResponse{ExecutionID: o.ID, Status: "failed", DurationMs: o.Duration.Milliseconds(), Error: o.Error}
	if o.Completed {
		r.Status, r.Output = "completed", &o.Output
	}
	if o.Usage != nil {
		tokens := o.Tokens()
		r.TokensUsed = &tokens
	}
	return r
}

// testSkill answers POST /skills/{skillId}/test.
func (f *Feature) testSkill(c *api.Call) error { return f.test(c, "test_skill") }

// testPrompt answers POST /skills/test.
func (f *Feature) testPrompt(c *api.Call) error { return f.test(c, "test_prompt") }

func (f *Feature) test(c *api.Call, function string) error {
	test, err := f.prepare(c, function)
	if err != nil {
		return err
	}
	answer, err := f.tester.Once(c).Do(c.Context(), func() (any, error) {
		o, err := f.tester.Run(c.Context(), test, nil)
		return responseOf(o), err
	})
	if err != nil {
		return err
	}
	return c.JSON(answer)
}

// prepare calls the database function that checks and charges the test.
func (f *Feature) prepare(c *api.Call, function string) (test Test, err error) {
	answer, err := c.Query(c.Context(), function, c.Params)
	if err != nil {
		return test, err
	}
	for name, value := range answer.Headers {
		c.Ctx.Set(name, value)
	}
	if err := json.Unmarshal(answer.Body, &test); err != nil {
		return test, fmt.Errorf("%s: %w", function, err)
	}
	if c.Caller != nil {
		test.UserID = strings.Clone(c.Caller.UserID)
	}
	return test, nil
}

// runResult is ExecutionResult of a dry run.
type runResult struct {
	ExecutionID string    `json:"executionId"`
	Status      string    `json:"status"`
	Output      *string   `json:"output,omitempty"`
	Error       string    `json:"error,omitempty"`
	Usage       *runUsage `json:"usage,omitempty"`
	DurationMs  int64     `json:"durationMs"`
	CostCents   *int64    `json:"costCents,omitempty"`
}

type runUsage struct {
	InputTokens  int64 `json:"inputTokens"`
	OutputTokens int64 `json:"outputTokens"`
	TotalTokens  int64 `json:"totalTokens"`
}

// dryRun is a test in the form of a run.
func (f *Feature) dryRun(c *api.Call) error {
	test, err := f.prepare(c, "test_skill")
	if err != nil {
		return err
	}
	once := f.tester.Once(c)
	if !c.WantsEvents() {
		answer, err := once.Do(c.Context(), func() (any, error) {
			o, err := f.tester.Run(c.Context(), test, nil)
			return f.resultOf(c.Context(), test, o), err
		})
		if err != nil {
			return err
		}
		return c.JSON(answer)
	}
	return c.Events(func(ctx context.Context, s *api.EventStream) {
		n := &narrator{s: s}
		n.begin()
		result, err := once.Do(ctx, func() (any, error) {
			o, err := f.tester.Run(ctx, test, func(text string) error {
				n.say(work.Text(text))
				return ctx.Err()
			})
			if err != nil {
				o = o.failed(err)
			}
			return f.resultOf(ctx, test, o), nil
		})
		if err != nil || ctx.Err() != nil {
			return
		}
		n.end(result)
	})
}

func (f *Feature) resultOf(ctx context.Context, test Test, o Outcome) runResult {
	r := runResult{ExecutionID: o.ID, Status: "failed", Error: o.Error, DurationMs: o.Duration.Milliseconds()}
	if o.Completed {
		r.Status, r.Output = "completed", &o.Output
	}
	if o.Usage != nil {
		r.Usage = &runUsage{o.Usage.Input, o.Usage.Output, o.Tokens()}
		answer, err := api.Serve(ctx, f.s.Exec, api.Request{ReadOnly: true}, "price_test", map[string]any{"model": test.Model, "called": o.called,
			"inputTokens": o.Usage.Input, "outputTokens": o.Usage.Output})
		if err == nil {
			err = json.Unmarshal(answer.Body, &r.CostCents)
		}
		if err != nil {
			f.s.Log.Warn("the cost of a test could not be told", "error", err)
		}
	}
	return r
}
