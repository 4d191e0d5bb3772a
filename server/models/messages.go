package models

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"kijko/server/api"
	"kijko/worker/llm"
)

// maxText bounds all turns of a conversation together.
const maxText = 1 << 20

// Turn is a turn of a conversation as clients send it.
type Turn struct {
	Role    llm.Role `json:"role"`
	Content string   `json:"content"`
}

type messagesBody struct {
	Model        string         `json:"model"`
	Messages     []Turn         `json:"messages"`
	Parameters   llm.Parameters `json:"parameters"`
	SystemPrompt string         `json:"systemPrompt"`
}

// messageAnswer is ClaudeResponse of the contract.
type messageAnswer struct {
	ID         string  `json:"id"`
	Content    string  `json:"content"`
	Model      string  `json:"model"`
	StopReason *string `json:"stopReason"`
	Usage      Usage   `json:"usage"`
}

// Usage is the token count of an answer.
type Usage struct {
	InputTokens  int64 `json:"inputTokens"`
	OutputTokens int64 `json:"outputTokens"`
	TotalTokens  int64 `json:"totalTokens"`
}

// UsageOf returns the token count of a result.
func UsageOf(r llm.Result) Usage {
	return Usage{r.Usage.Input, r.Usage.Output, r.Usage.Input + r.Usage.Output}
}

// answerOf makes the answer with the requested model name, which is the name that the client knows.
func answerOf(model string, r llm.Result) messageAnswer {
	a := messageAnswer{ID: r.ID, Content: r.Text, Model: model, Usage: UsageOf(r)}
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
	q, err := f.admit(c, body.Model, r)
	if err != nil {
		return err
	}
	// A stream outlives the request, and with it the memory of its body.
	model := strings.Clone(body.Model)
	return f.Answer(c, q, c.WantsEvents(), func(_ context.Context, r llm.Result) (any, error) { return answerOf(model, r), nil })
}

// Conversation makes the messages of a request from turns. Leading turns of the assistant (a greeting) and blank ones are dropped, and
// neighbors of one role are joined.
func Conversation(turns []Turn) (messages []llm.Message) {
	for _, t := range turns {
		if strings.TrimSpace(t.Content) == "" || len(messages) == 0 && t.Role == llm.Assistant {
			continue
		}
		if last := len(messages) - 1; last >= 0 && messages[last].Role == t.Role {
			messages[last].Parts[0].Text += "\n\n" + t.Content
			continue
		}
		messages = append(messages, llm.Message{Role: t.Role, Parts: []llm.Part{{Text: t.Content}}})
	}
	return messages
}

// conversation checks the turns of a request: the skill builder's histories begin with a greeting and can hold an empty turn.
func conversation(body *messagesBody) ([]llm.Message, error) {
	size := len(body.SystemPrompt)
	for _, m := range body.Messages {
		size += len(m.Content)
	}
	if size > maxText {
		p := api.NewProblem(http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE", "The messages are larger than 1 MB together.", "messages")
		p.Details, _ = json.Marshal(map[string]int{"maxBytes": maxText})
		return nil, checked(p, false)
	}
	messages := Conversation(body.Messages)
	if len(messages) == 0 {
		return nil, badRequest("There is no message of the user to answer.", "messages")
	}
	return messages, nil
}
