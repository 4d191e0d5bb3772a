package reflexes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"kijko/server/api"
	"kijko/server/executions"
	"kijko/worker/condition"
)

// Tester calls a model without leaving a row; *executions.Tester is one.
type Tester interface {
	Run(ctx context.Context, test executions.Test, emit func(text string) error) (executions.Outcome, error)
	Once(c *api.Call) api.Once
}

// outcome is the answer of a reflex's test.
type outcome struct {
	Success         bool    `json:"success"`
	ConditionsMatch bool    `json:"conditionsMatch"`
	Result          *result `json:"executionResult,omitempty"`
	Error           string  `json:"error,omitempty"`
}

type result struct {
	Output     string `json:"output"`
	TokensUsed int64  `json:"tokensUsed"`
	DurationMs int64  `json:"durationMs"`
}

// test answers POST /reflexes/{reflexId}/test: it evaluates the stored conditions on a sample, and if they match, runs the skill for real.
// It ignores the switch and the trigger's own patterns, and counts only the model call.
func (f *Feature) test(c *api.Call) error {
	payload, err := samplePayload(c)
	if err != nil {
		return err
	}
	matches, reason, err := f.sampleMatches(c, payload)
	if err != nil {
		return err
	}
	params := c.Params
	if !matches {
		if !c.Keyed() {
			return c.JSON(outcome{Success: true, Error: reason})
		}
		// A replay under the key returns this answer, even if the conditions have changed meanwhile.
		if params, err = api.AddMember(params, "unmatched", reason); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	answer, err := c.Query(ctx, c.Op.Function, params)
	if err != nil {
		return err
	}
	var prepared struct {
		executions.Test
		Error     string `json:"error"`
		Unmatched string `json:"unmatched"`
	}
	if err := json.Unmarshal(answer.Body, &prepared); err != nil {
		return fmt.Errorf("%s: %w", c.Op.Function, err)
	}
	for name, value := range answer.Headers {
		c.Ctx.Set(name, value)
	}
	if c.Caller != nil {
		prepared.UserID = strings.Clone(c.Caller.UserID)
	}
	switch {
	case prepared.Unmatched != "":
		return c.JSON(outcome{Success: true, Error: prepared.Unmatched})
	case prepared.Error != "":
		return c.JSON(outcome{ConditionsMatch: true, Error: prepared.Error})
	}
	// The tester has its own time limit, longer than that of a database call.
	body, err := f.tester.Once(c).Do(c.Context(), func() (any, error) { return f.call(c.Context(), prepared.Test) })
	if err != nil {
		return err
	}
	return c.JSON(body)
}

func (f *Feature) call(ctx context.Context, test executions.Test) (outcome, error) {
	o, err := f.tester.Run(ctx, test, nil)
	if err != nil || !o.Completed {
		return outcome{ConditionsMatch: true, Error: o.Error}, err
	}
	return outcome{Success: true, ConditionsMatch: true,
		Result: &result{Output: o.Output, TokensUsed: o.Tokens(), DurationMs: o.Duration.Milliseconds()}}, nil
}

// samplePayload reads the sample; without one it is an empty object.
func samplePayload(c *api.Call) (*condition.Payload, error) {
	var b struct {
		SamplePayload json.RawMessage `json:"samplePayload"`
	}
	if len(c.Body) > 0 {
		if err := c.Decode(&b); err != nil {
			return nil, err
		}
	}
	if len(b.SamplePayload) == 0 || string(b.SamplePayload) == "null" {
		b.SamplePayload = []byte("{}")
	}
	payload, err := condition.ParsePayload(b.SamplePayload)
	if err != nil {
		return nil, api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "samplePayload must be an object that can be stored.", "samplePayload")
	}
	return payload, nil
}

// sampleMatches evaluates the stored conditions. It reads the skill with them: a reflex whose skill the caller cannot see has no test.
func (f *Feature) sampleMatches(c *api.Call, payload *condition.Payload) (bool, string, error) {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	answer, err := f.exec.Run(ctx, &api.Request{Caller: c.Caller, SQL: api.CallSQL("get_reflex_full"), Args: []any{c.Params}, ReadOnly: true,
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return false, "", err
	}
	var r struct {
		Conditions json.RawMessage `json:"conditions"`
	}
	if err := json.Unmarshal(answer.Body, &r); err != nil {
		return false, "", fmt.Errorf("get_reflex_full: %w", err)
	}
	matches, err := f.evaluator.Match(r.Conditions, payload)
	if err != nil {
		return false, err.Error(), nil
	}
	return matches, "Test payload did not match reflex conditions", nil
}
