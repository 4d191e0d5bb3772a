// Package support answers POST /support/chat (contract 60, section 15): the database checks the question and says what the assistant knows of
// the caller, the gateway of package models asks the model, and the database stores the question with the answer. The other operations of the
// feature are SQL functions.
package support

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"strings"
	"text/template"

	"kijko/server/api"
	"kijko/server/models"
	"kijko/worker/exactjson"
	"kijko/worker/executions"
	"kijko/worker/llm"
)

// The model and its parameters. The id is resolved as that of a skill is.
const (
	model       = "claude-3-5-sonnet-20241022"
	maxTokens   = 1024
	temperature = 0.7
)

// Gateway asks models (*models.Feature).
type Gateway interface {
	Prepare(c *api.Call, model string, r llm.Request) (*models.Question, error)
	Answer(c *api.Call, q *models.Question, streamed bool, finish models.Finish) error
}

// Feature is the support chat's part of the edge.
type Feature struct {
	Exec    api.Runner
	Gateway Gateway
}

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	return map[string]api.Handler{"sendSupportMessage": f.send}
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

// opened is what the database gives for a question.
type opened struct {
	Message        string        `json:"message"`
	ConversationID string        `json:"conversationId"`
	History        []models.Turn `json:"history"`
	Context        knowledge     `json:"context"`
}

// knowledge is SupportContext of the contract.
type knowledge struct {
	ProjectCount   int      `json:"projectCount"`
	SkillsCount    int      `json:"skillsCount"`
	HabitsCount    int      `json:"habitsCount"`
	ReflexesCount  int      `json:"reflexesCount"`
	RecentActivity []string `json:"recentActivity"`
	UserName       string   `json:"userName"`
}

// kept is a stored question with its answer.
type kept struct {
	ConversationID string `json:"conversationId"`
	Reply          struct {
		ID        string `json:"id"`
		Role      string `json:"role"`
		Content   string `json:"content"`
		Timestamp string `json:"timestamp"`
	} `json:"reply"`
}

// answer is the answer to a question.
type answer struct {
	Message string `json:"message"`
	kept
	Model string       `json:"model"`
	Usage models.Usage `json:"usage"`
}

func (f *Feature) send(c *api.Call) error {
	var body struct {
		Stream bool `json:"stream"`
	}
	if err := c.Decode(&body); err != nil {
		return err
	}
	// An Idempotency-Key is ignored, as by the other operations that ask a model.
	found, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, ReadOnly: true, SQL: api.CallSQL("open_support_chat"), Args: []any{c.Params},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return err
	}
	var o opened
	if err := exactjson.Unmarshal(found.Body, &o); err != nil {
		return fmt.Errorf("open a support chat: %w", err)
	}
	r := llm.Request{System: instructions(o.Context), Messages: models.Conversation(append(o.History, models.Turn{Role: llm.User, Content: o.Message}))}
	r.MaxTokens, r.Temperature = new(maxTokens), new(temperature)
	q, err := f.Gateway.Prepare(c, model, r)
	if err != nil {
		return err
	}
	userID, requestID := c.Caller.UserID, c.RequestID
	return f.Gateway.Answer(c, q, body.Stream || c.WantsEvents(), func(ctx context.Context, r llm.Result) (any, error) {
		text := executions.Text(r.Text)
		if strings.TrimSpace(text) == "" {
			return nil, api.NewProblem(http.StatusBadGateway, "API_ERROR", "The model gave no answer.", "")
		}
		stored, err := api.Serve(ctx, f.Exec, api.Request{RequestID: requestID}, "keep_support_turn",
			map[string]string{"userId": userID, "conversationId": o.ConversationID, "question": o.Message, "answer": text})
		if err != nil {
			return nil, err
		}
		a := answer{Message: text, Model: model, Usage: models.UsageOf(r)}
		if err := exactjson.Unmarshal(stored.Body, &a.kept); err != nil {
			return nil, fmt.Errorf("keep a support turn: %w", err)
		}
		return a, nil
	})
}

//go:embed instructions.txt
var instructionsText string

var instructionsTemplate = template.Must(template.New("instructions").Parse(instructionsText))

// instructions returns the system prompt. No text of the conversation is part of it. Names that people gave are on one line each, between
// quotes, and are introduced as data.
func instructions(k knowledge) string {
	k.UserName = oneLine(k.UserName)
	for i, line := range k.RecentActivity {
		k.RecentActivity[i] = oneLine(line)
	}
	var b strings.Builder
	// The template is a constant of the program, and writing to a Builder does not fail.
	_ = instructionsTemplate.Execute(&b, k)
	return b.String()
}

// maxLine bounds a line: a name of a skill has at most 100 characters.
const maxLine = 300

func oneLine(text string) string {
	line := []rune(strings.Join(strings.Fields(text), " "))
	return string(line[:min(len(line), maxLine)])
}
