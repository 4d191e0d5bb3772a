package executions

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"kijko/server/api"
)

// execute answers POST /skills/{skillId}/execute: it starts a run and waits for its end.
func (f *Feature) execute(c *api.Call) error {
	ear := f.waits.listen(strings.Clone(c.Caller.UserID))
	defer ear.close()
	answer, id, err := f.start(c, "execute_skill", c.Params)
	if err != nil {
		return err
	}
	patience, preferred := c.Patience(f.s.Wait)
	if preferred != "" {
		c.Ctx.Set("Preference-Applied", preferred)
	}
	if preferred == "respond-async" {
		answer.Status = http.StatusAccepted
		return c.Reply(answer)
	}
	return f.wait(c, ear, answer, id, "execute", patience)
}

// run answers POST /skills/{skillId}/run, whole or as events. A dry run is a test.
func (f *Feature) run(c *api.Call) error {
	var body struct {
		DryRun bool `json:"dryRun"`
	}
	if len(c.Body) > 0 {
		if err := c.Decode(&body); err != nil {
			return err
		}
	}
	if body.DryRun {
		return f.dryRun(c)
	}
	ear := f.waits.listen(strings.Clone(c.Caller.UserID))
	if !c.WantsEvents() {
		defer ear.close()
		answer, id, err := f.start(c, "run_skill", c.Params)
		if err != nil {
			return err
		}
		return f.wait(c, ear, answer, id, "run", f.s.Wait)
	}
	// Clients can send only parameters of the document, so no client can set this one.
	answer, id, err := f.start(c, "run_skill", append([]byte(`{"stream":true,`), c.Params[1:]...))
	if err != nil {
		ear.close()
		return err
	}
	ear.follow(id, answer.Headers["Idempotency-Replayed"] != "")
	for name, value := range answer.Headers {
		c.Ctx.Set(name, value)
	}
	user, request := strings.Clone(c.Caller.UserID), c.RequestID
	return c.Events(func(ctx context.Context, s *api.EventStream) {
		defer ear.close()
		f.stream(ctx, s, ear, request, user, id)
	})
}

func (f *Feature) start(c *api.Call, function string, p []byte) (api.Answer, string, error) {
	answer, err := c.Query(c.Context(), function, p)
	if err != nil {
		return answer, "", err
	}
	var s started
	if err := json.Unmarshal(answer.Body, &s); err != nil {
		return answer, "", fmt.Errorf("%s: %w", function, err)
	}
	return answer, s.ExecutionID, nil
}

// wait answers with the end of the run, or with its progress when the time is over. A client that disconnects cancels nothing.
func (f *Feature) wait(c *api.Call, ear *ear, answer api.Answer, id, form string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	ear.follow(id, answer.Headers["Idempotency-Replayed"] != "")
	ear.await(ctx)
	end, err := f.read(c.Context(), c.RequestID, c.Caller.UserID, id, form)
	if err != nil {
		return err
	}
	if end.Headers == nil {
		end.Headers = map[string]string{}
	}
	maps.Copy(end.Headers, answer.Headers)
	return c.Reply(end)
}

type (
	statusEvent struct {
		Status string `json:"status"`
	}
	textEvent struct {
		Type    string `json:"type"`
		Content string `json:"content"`
	}
	doneEvent struct {
		Type   string          `json:"type"`
		Result json.RawMessage `json:"result"`
	}
)

// teller is a stream of events; *api.EventStream is one. An error means that the client has disconnected, which is no reason to stop.
type teller interface {
	Send(event string, data any) error
}

// narrator sends a stream's events in their order: one status, texts, and at the end the missed part of the text.
type narrator struct {
	s       teller
	running bool
	next    int
	broken  bool
	told    strings.Builder
}

func (n *narrator) begin() {
	if !n.running {
		n.running = true
		_ = n.s.Send("status", statusEvent{"running"})
	}
}

// text sends a piece. Pieces are best effort: after a gap no more are sent until the end, which has the whole text.
func (n *narrator) text(c chunk) {
	if c.Seq != n.next {
		n.broken = n.broken || c.Seq > n.next
	}
	if n.broken || c.Seq != n.next {
		return
	}
	n.next++
	n.say(c.Text)
}

func (n *narrator) say(text string) {
	if text == "" {
		return
	}
	n.begin()
	n.told.WriteString(text)
	_ = n.s.Send("text", textEvent{"text", text})
}

// end sends the rest of the output, and the result.
func (n *narrator) end(result json.RawMessage) {
	var r struct {
		Status string `json:"status"`
		Output string `json:"output"`
	}
	if json.Unmarshal(result, &r) == nil && r.Status == "completed" {
		if rest, ok := strings.CutPrefix(r.Output, n.told.String()); ok {
			n.say(rest)
		}
		n.begin()
	}
	_ = n.s.Send("done", doneEvent{"done", result})
}

// stream sends a run's events to a client until the run has ended.
func (f *Feature) stream(ctx context.Context, s *api.EventStream, ear *ear, requestID, userID, id string) {
	limited, cancel := context.WithTimeout(ctx, StreamLimit)
	defer cancel()
	n := &narrator{s: s}
	for {
		chunks, running, ended := ear.take()
		if running {
			n.begin()
		}
		for _, c := range chunks {
			n.text(c)
		}
		if ended {
			break
		}
		select {
		case <-ear.news:
			continue
		case <-limited.Done():
		}
		break
	}
	if ctx.Err() != nil {
		return
	}
	answer, err := f.read(ctx, requestID, userID, id, "run")
	if err != nil {
		f.s.Log.Error("the end of a stream could not be read", "request_id", requestID, "execution", id, "error", err)
		return
	}
	n.end(answer.Body)
}
