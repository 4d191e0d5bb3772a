package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// askAgain is the interval at which a repeated request checks whether the first one has its answer.
const askAgain = 200 * time.Millisecond

// Once does the work of a request at most once per Idempotency-Key, when the work is a model call. Such work must not hold a transaction.
// So the key is claimed before it, by the function that checks and charges the test, and the answer is stored after it. A repeat waits for
// that answer. If the first request was lost, the next one replaces it without another charge.
type Once struct {
	exec         Runner
	log          *slog.Logger
	user, key    string
	secondsAhead int
}

// Once copies the identity of the request, to be used after its handler has returned. The work takes at most limit.
func (c *Call) Once(limit time.Duration) Once {
	o := Once{exec: c.app.exec, log: c.app.deps.Log, key: strings.Clone(c.Key()), secondsAhead: int((limit + 10*time.Second) / time.Second)}
	if c.Caller != nil {
		o.user = strings.Clone(c.Caller.UserID)
	}
	return o
}

// Do returns the answer as JSON.
func (o Once) Do(ctx context.Context, work func() (any, error)) (json.RawMessage, error) {
	answer, err := o.Await(ctx)
	if err != nil || answer != nil {
		return answer, err
	}
	value, err := work()
	if err == nil {
		answer, err = json.Marshal(value)
	}
	if err != nil || ctx.Err() != nil {
		// No client has received the answer, or there is none: the next request may try.
		o.Keep(ctx, nil)
		return answer, err
	}
	o.Keep(ctx, answer)
	return answer, nil
}

// Await returns the stored answer. Without one, it waits until this request may do the work, and returns nil.
func (o Once) Await(ctx context.Context) (json.RawMessage, error) {
	for o.key != "" {
		answer, mine, err := o.take(ctx)
		if err != nil || answer != nil {
			return answer, err
		}
		if mine {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askAgain):
		}
	}
	return nil, nil
}

// Keep stores the answer for repeats of the request; nil lets the next one do the work.
func (o Once) Keep(ctx context.Context, answer json.RawMessage) {
	if o.key == "" {
		return
	}
	keeping, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer done()
	if _, err := o.ask(keeping, "keep_answer", map[string]any{"answer": answer}); err != nil {
		o.log.Warn("the answer under an Idempotency-Key could not be stored", "error", err)
	}
}

// take checks whether this request may do the work.
func (o Once) take(ctx context.Context) (answer json.RawMessage, mine bool, err error) {
	got, err := o.ask(ctx, "take_answer", map[string]any{"seconds": o.secondsAhead})
	if err != nil {
		return nil, false, err
	}
	var state struct {
		Answer json.RawMessage `json:"answer"`
		Mine   bool            `json:"mine"`
	}
	if err := json.Unmarshal(got.Body, &state); err != nil {
		return nil, false, fmt.Errorf("take_answer: %w", err)
	}
	return state.Answer, state.Mine, nil
}

func (o Once) ask(ctx context.Context, function string, p map[string]any) (Answer, error) {
	p["userId"], p["key"] = o.user, o.key
	return Serve(ctx, o.exec, Request{Payer: &Caller{UserID: o.user}}, function, p)
}
