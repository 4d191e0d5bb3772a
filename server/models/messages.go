package models

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"kijko/server/api"
	"kijko/worker/llm"
)

// maxText bounds all turns of a conversation together.
const maxText = 1 << 20

type messagesBody struct {
	Model    string `json:"model"`
	Messages []struct {
		Role    llm.Role `json:"role"`
		Content string   `json:"content"`
	} `json:"messages"`
	Parameters   llm.Parameters `json:"parameters"`
	SystemPrompt string         `json:"systemPrompt"`
}

// messageAnswer is ClaudeResponse of the contract.
type messageAnswer struct {
	ID         string  `json:"id"`
	Content    string  `json:"content"`
	Model      string  `json:"model"`
	StopReason *string `json:"stopReason"`
	Usage      usage   `json:"usage"`
}

type usage struct {
	InputTokens  int64 `json:"inputTokens"`
	OutputTokens int64 `json:"outputTokens"`
	TotalTokens  int64 `json:"totalTokens"`
}

// answerOf makes the answer with the requested model name, which is the name that the client knows.
func answerOf(model string, r llm.Result) messageAnswer {
	a := messageAnswer{ID: r.ID, Content: r.Text, Model: model, Usage: usage{r.Usage.Input, r.Usage.Output, r.Usage.Input + r.Usage.Output}}
	if r.StopReason != "" {
		a.StopReason = &r.StopReason
	}
	return a
}

// createMessage answers POST /ai/messages, whole or as events.
func (f *Feature) createMessage(c *api.Call) error {
	var body messagesBody
	if err := c.Decode(&body); err != nil {
		return err
	}
	r := llm.Request{System: body.SystemPrompt, Parameters: body.Parameters}
	var err error
	if r.Messages, err = conversation(&body); err != nil {
		return err
	}
	p, err := f.admit(c, body.Model, &r)
	if err != nil {
		return err
	}
	if c.WantsEvents() {
		return f.stream(c, p, r, strings.Clone(body.Model))
	}
	result, err := f.ask(c, p, r)
	if err != nil {
		return f.finish(c, err)
	}
	return c.JSON(answerOf(body.Model, result))
}

// finish returns an error, unless the client has disconnected.
func (f *Feature) finish(c *api.Call, err error) error {
	if errors.Is(err, errGone) {
		c.Ctx.Status(statusGone)
		return nil
	}
	return err
}

// conversation makes turns from the skill builder's messages: its histories begin with a greeting and can hold an empty turn.
func conversation(body *messagesBody) ([]llm.Message, error) {
	var turns []llm.Message
	size := len(body.SystemPrompt)
	for _, m := range body.Messages {
		size += len(m.Content)
		if strings.TrimSpace(m.Content) == "" || len(turns) == 0 && m.Role == llm.Assistant {
			continue
		}
		if last := len(turns) - 1; last >= 0 && turns[last].Role == m.Role {
			turns[last].Parts[0].Text += "\n\n" + m.Content
			continue
		}
		turns = append(turns, llm.Message{Role: m.Role, Parts: []llm.Part{{Text: m.Content}}})
	}
	if size > maxText {
		p := api.NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "The messages are larger than 1 MB together.", "messages")
		p.Details, _ = json.Marshal(map[string]int{"maxBytes": maxText})
		return nil, judged(p, false)
	}
	if len(turns) == 0 {
		return nil, badRequest("There is no message of the user to answer.", "messages")
	}
	return turns, nil
}

// stream passes the text on as it comes: `text` events, then one `done` or `error`.
func (f *Feature) stream(c *api.Call, p llm.Provider, r llm.Request, model string) error {
	log, id := f.Log, c.RequestID
	return c.Events(func(here context.Context, s *api.EventStream) {
		ctx, cancel := context.WithTimeout(here, f.Timeout)
		defer cancel()
		result, err := p.Stream(ctx, r, func(text string) error {
			return s.Send("text", map[string]string{"type": "text", "content": text})
		})
		switch {
		case here.Err() != nil:
		case err != nil:
			refused := Problem(err)
			log.WarnContext(here, "stream failed", "request_id", id, "code", refused.Code, "error", refused.Unwrap())
			_ = s.Send("error", event(refused))
		default:
			_ = s.Send("done", map[string]any{"type": "done", "response": answerOf(model, result)})
		}
	})
}
