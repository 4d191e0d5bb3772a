package contexts

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"kijko/server/api"
	"kijko/server/realtime"
)

// longest is how long a request waits for the end of its work (contract 60, 1, rule 6).
const longest = 25 * time.Second

// Finish waits for the work that an answer with `operationId` has started, and replies with the answer of the operation's x-wait. When the
// time is over, it replies with 202 and the first answer. An answer without `operationId` is complete.
//
// The function of x-wait gets the parameters of the request and `started`, the first answer. It refuses if the work has failed.
func (f *Feature) Finish(c *api.Call, answer api.Answer) error {
	end, err := f.finish(c, answer)
	if err != nil {
		return err
	}
	return c.Reply(end)
}

func (f *Feature) finish(c *api.Call, answer api.Answer) (api.Answer, error) {
	var started struct {
		OperationID string `json:"operationId"`
	}
	if len(answer.Body) > 0 {
		if err := json.Unmarshal(answer.Body, &started); err != nil {
			return answer, fmt.Errorf("%s: %w", c.Op.ID, err)
		}
	}
	if started.OperationID == "" {
		return answer, nil
	}
	ended, err := f.Await(c, started.OperationID)
	if err != nil {
		return answer, err
	}
	if !ended {
		answer.Status = http.StatusAccepted
		return answer, nil
	}
	end, err := f.read(c.Context(), c, c.Op.Wait, withStarted(c.Params, answer.Body))
	if err != nil {
		return answer, err
	}
	headers := maps.Clone(answer.Headers)
	if headers == nil {
		headers = map[string]string{}
	}
	maps.Copy(headers, end.Headers)
	end.Headers = headers
	return end, nil
}

// Await holds a request until an operation has ended, as long as the request wants to wait.
func (f *Feature) Await(c *api.Call, operationID string) (ended bool, err error) {
	patience, preferred := c.Patience(min(longest, f.s.Wait))
	if preferred != "" {
		c.Ctx.Set("Preference-Applied", preferred)
	}
	return f.await(c.Context(), c.RequestID, operationID, patience)
}

// withStarted adds the first answer to the parameters of the request. No client can send a member of this name.
func withStarted(params, body []byte) []byte {
	out := make([]byte, 0, len(params)+len(body)+16)
	out = append(append(out, `{"started":`...), body...)
	if rest := params[1:]; string(rest) != "}" {
		return append(append(out, ','), rest...)
	}
	return append(out, '}')
}

// await reports whether the operation ended in time.
func (f *Feature) await(ctx context.Context, requestID, operation string, patience time.Duration) (bool, error) {
	if patience <= 0 {
		return false, nil
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	state, err := f.ask(limited, requestID, operation)
	if err != nil || state.Ended {
		return state.Ended, err
	}
	news := make(chan struct{}, 1)
	if f.s.Watch != nil {
		defer f.s.Watch(state.Room, func(v realtime.Event) {
			if v.Type == "operation_ended" && strings.Contains(string(v.Data), operation) {
				select {
				case news <- struct{}{}:
				default:
				}
			}
		})()
	}
	tick := time.NewTicker(f.s.Ask)
	defer tick.Stop()
	for {
		// It may have ended before the room was watched, so the first look comes at once.
		if state, err = f.ask(limited, requestID, operation); err == nil && state.Ended {
			return true, nil
		} else if err != nil && limited.Err() == nil {
			return false, err
		}
		select {
		case <-news:
		case <-tick.C:
		case <-limited.Done():
			return false, ctx.Err()
		case <-f.drained.Done():
			return false, nil
		}
	}
}

type state struct {
	Ended bool   `json:"ended"`
	Room  string `json:"room"`
}

func (f *Feature) ask(ctx context.Context, requestID, operation string) (s state, err error) {
	answer, err := api.Serve(ctx, f.s.Exec, api.Request{ReadOnly: true, RequestID: requestID}, "operation_ended", map[string]string{"id": operation})
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(answer.Body, &s); err != nil {
		return s, fmt.Errorf("the state of an operation: %w", err)
	}
	return s, nil
}
