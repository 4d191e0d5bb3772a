// Package analytics answers POST /analytics/events (contract 60, section 18). The edge reads the body as JSON whatever its content type is,
// because a beacon sends text. Postgres checks each event and stores the good ones.
package analytics

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"net/http"

	"kijko/server/api"
	"kijko/server/openapi"
	"kijko/worker/exactjson"
)

// Handlers returns the handlers by operationId.
func Handlers() map[string]api.Handler {
	return map[string]api.Handler{"trackEvents": track}
}

func track(c *api.Call) error {
	raw, err := c.ReadAll()
	if err != nil {
		return err
	}
	var body struct {
		Events json.RawMessage `json:"events"`
	}
	if raw = bytes.TrimPrefix(bytes.TrimSpace(raw), []byte("\ufeff")); exactjson.Unmarshal(raw, &body) != nil {
		return api.NewProblem(http.StatusBadRequest, "VALIDATION_ERROR", "The request body must be a JSON object with a list of events.", "events")
	}
	sum := sha256.Sum256(raw)
	c.SetFingerprint(sum[:])
	p := map[string]any{"body": map[string]any{"events": readable(body.Events)}}
	answer, err := c.Query(c.Context(), "track_events", p)
	if err != nil && c.Caller != nil && refusesCaller(err) {
		// The session has ended, or its organization does not admit it now. The credential only says who sends, so it is ignored.
		c.Caller = nil
		answer, err = c.Query(c.Context(), "track_events", p)
	}
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

func refusesCaller(err error) bool {
	status := api.ProblemOf(err).Status
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// readable returns the events with null in the place of each that Postgres cannot hold (NUL, half a surrogate pair, no UTF-8), so that it is
// rejected alone. Anything but a list is left to Postgres.
func readable(raw json.RawMessage) any {
	var events []json.RawMessage
	if raw == nil || json.Unmarshal(raw, &events) != nil {
		if openapi.CheckText(raw) != nil {
			return nil
		}
		return raw
	}
	for i, event := range events {
		if openapi.CheckText(event) != nil {
			events[i] = json.RawMessage("null")
		}
	}
	return events
}
