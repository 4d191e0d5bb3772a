package reflexes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/worker/condition"
)

type event struct {
	TriggerType string          `json:"triggerType"`
	Source      string          `json:"source"`
	EventName   string          `json:"eventName"`
	Payload     json.RawMessage `json:"payload"`
}

// waiting is a reflex that may wait for an event, as private.waiting_reflexes returns it.
type waiting struct {
	ID         uuid.UUID       `json:"id"`
	Config     json.RawMessage `json:"config"`
	Conditions json.RawMessage `json:"conditions"`
}

// send answers POST /events.
func (f *Feature) send(c *api.Call) error {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	e := event{TriggerType: "event"}
	if err := c.Decode(&e); err != nil {
		return err
	}
	if e.EventName = strings.TrimSpace(e.EventName); e.TriggerType == "event" && e.EventName == "" {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "eventName is required.", "eventName")
	}
	payload, err := condition.ParsePayload(e.Payload)
	if err != nil {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "payload holds numbers that cannot be stored.", "payload")
	}
	list, err := f.begin(ctx, c, e)
	if err != nil {
		return err
	}
	matched := matching(f.evaluator, list, condition.Event{TriggerType: e.TriggerType, Source: strings.TrimSpace(e.Source), Name: e.EventName, Payload: payload})
	if len(matched) == 0 && !c.Keyed() {
		return c.JSON(map[string]any{"matched": 0, "executionIds": []string{}})
	}
	params, err := api.AddMember(c.Params, "reflexIds", matched)
	if err != nil {
		return err
	}
	return f.answer(c, params)
}

// begin counts the event and reads the candidates.
func (f *Feature) begin(ctx context.Context, c *api.Call, e event) ([]waiting, error) {
	p, err := json.Marshal(map[string]string{"triggerType": e.TriggerType, "eventName": e.EventName})
	if err != nil {
		return nil, err
	}
	answer, err := f.exec.Run(ctx, &api.Request{Caller: c.Caller, SQL: api.ProcedureSQL("begin_event($1)"), Args: []any{p},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return nil, err
	}
	var begun struct {
		Allowed   bool      `json:"allowed"`
		Remaining int       `json:"remaining"`
		ResetAt   time.Time `json:"resetAt"`
		Reflexes  []waiting `json:"reflexes"`
	}
	if err := json.Unmarshal(answer.Body, &begun); err != nil {
		return nil, fmt.Errorf("begin_event: %w", err)
	}
	if !begun.Allowed {
		return nil, api.RateLimited(perMinute, 0, begun.ResetAt)
	}
	return begun.Reflexes, nil
}

// matching returns the reflexes whose trigger and conditions match. A reflex that cannot be evaluated does not match.
func matching(evaluator *condition.Evaluator, list []waiting, e condition.Event) []uuid.UUID {
	matched := []uuid.UUID{}
	for _, w := range list {
		if ok, err := evaluator.Triggers(w.Config, e); !ok || err != nil {
			continue
		}
		if ok, err := evaluator.Match(w.Conditions, e.Payload); ok && err == nil {
			matched = append(matched, w.ID)
		}
	}
	return matched
}
