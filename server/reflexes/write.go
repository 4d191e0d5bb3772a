package reflexes

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"kijko/server/api"
	"kijko/worker/condition"
)

// written holds the members of a body that are checked here.
type written struct {
	// TriggerType may have any type, because the operation may not use it.
	TriggerType   any             `json:"triggerType"`
	TriggerConfig json.RawMessage `json:"triggerConfig"`
	Conditions    json.RawMessage `json:"conditions"`
}

// check checks expressions and patterns; Postgres checks shapes.
func (f *Feature) check(w written) error {
	var fault *condition.Fault
	if err := condition.CheckPatterns(w.TriggerConfig); errors.As(err, &fault) {
		return api.NewProblem(http.StatusBadRequest, "INVALID_TRIGGER_CONFIG", fault.Message, fault.Field)
	}
	if err := f.evaluator.Check(w.Conditions); errors.As(err, &fault) {
		return api.NewProblem(http.StatusBadRequest, "INVALID_CONDITIONS", fault.Message, fault.Field)
	}
	return nil
}

func (f *Feature) create(c *api.Call) error {
	var w written
	if err := c.Decode(&w); err != nil {
		return err
	}
	if w.TriggerType != "email" {
		w.TriggerConfig = nil
	}
	if err := f.check(w); err != nil {
		return err
	}
	params := c.Params
	if w.TriggerType == "webhook" {
		var err error
		if params, err = f.withSecret(params); err != nil {
			return err
		}
	}
	if err := f.answer(c, params); err != nil {
		return err
	}
	if w.TriggerType == "api_call" {
		f.watcher.watch(strings.Clone(c.Caller.UserID))
	}
	return nil
}

func (f *Feature) update(c *api.Call) error {
	var w written
	if err := c.Decode(&w); err != nil {
		return err
	}
	if fault := f.check(w); fault != nil {
		// A reflex of another user is reported as not found, whatever the body contains.
		ctx, cancel := context.WithTimeout(c.Context(), timeout)
		defer cancel()
		if _, err := c.Query(ctx, "get_reflex", c.Params); err != nil {
			return err
		}
		return fault
	}
	return f.answer(c, c.Params)
}
