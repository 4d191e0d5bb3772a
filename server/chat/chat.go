// Package chat answers questions about contexts (contract 60, section 7). The chat history of section 8 is in SQL (db/code/chat).
//
// # A question
//
// One transaction stores the question and takes its unit of oracle_queries. Then the best passages are retrieved as the caller, and the model is
// asked; while it thinks, the question holds no connection. A last transaction stores the answer, or gives the unit back when there is nothing to
// store. A process that dies in between is replaced by the sweep (private.sweep_chats).
//
// A Feature is safe for concurrent use. It starts no goroutine itself.
package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"kijko/server/api"
	"kijko/server/models"
	"kijko/server/openapi"
	"kijko/server/retrieval"
	"kijko/worker/exactjson"
	"kijko/worker/llm"
	"kijko/worker/storage"
)

const (
	// perMinute is how many questions one user may ask, over all processes.
	perMinute = 30
	// maxAttached bounds the bytes of attachments that one process holds at a time.
	maxAttached = 256 << 20
	// toStore is how long storing an answer may take, also after its client has gone.
	toStore = 10 * time.Second
)

// Executor runs database calls; *api.Executor is one.
type Executor interface {
	api.Runner
	TakeShared(ctx context.Context, key string, r *openapi.Rate) (map[string]string, error)
}

// Retriever finds the passages for a question, under the caller's rights (*retrieval.Retriever).
type Retriever interface {
	Retrieve(c *api.Call, req retrieval.Request) (retrieval.Result, error)
}

// Gateway asks models (*models.Feature).
type Gateway interface {
	Open(route models.Route, r llm.Request, trace llm.Trace) (*models.Question, error)
	Ask(ctx context.Context, q *models.Question, emit func(string) error) (llm.Result, error)
}

// Settings are the dependencies of a Feature. All but Log are required.
type Settings struct {
	Exec      Executor
	Gateway   Gateway
	Store     *storage.Store
	Retriever Retriever
	// Timeout is how long the gateway lets one call to a provider take.
	Timeout time.Duration
	Log     *slog.Logger
}

// Feature is the chat's part of the edge.
type Feature struct {
	Settings
	attached *semaphore.Weighted
}

// New makes a Feature.
func New(s Settings) *Feature {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Feature{Settings: s, attached: semaphore.NewWeighted(maxAttached)}
}

// Handlers returns the operations that this package answers.
func (f *Feature) Handlers() map[string]api.Handler {
	handlers := map[string]api.Handler{"askContext": f.askContext, "addChatAttachments": f.addAttachments, "saveChat": f.saveChat}
	for _, id := range []string{"askContext", "addChatAttachments"} {
		handlers[id+openapi.AtAlias] = handlers[id]
	}
	return handlers
}

// Close has nothing to close.
func (f *Feature) Close() error { return nil }

// saveChat answers PUT /chats/{chatId}: the condition of the header goes to the function with the rest.
func (f *Feature) saveChat(c *api.Call) error {
	if condition := c.Ctx.Get("If-Match"); condition != "" {
		members := map[string]json.RawMessage{}
		if err := exactjson.Unmarshal(c.Params, &members); err != nil {
			return fmt.Errorf("saveChat: %w", err)
		}
		var err error
		if members["ifMatch"], err = json.Marshal(condition); err != nil {
			return err
		}
		if c.Params, err = json.Marshal(members); err != nil {
			return err
		}
	}
	answer, err := c.Query(c.Context(), "save_chat", c.Params)
	if err != nil {
		return err
	}
	return c.Reply(answer)
}

// Question is a question about a context, without a thread.
type Question struct {
	ContextID uuid.UUID
	Message   string
	// Model is an alias or a full id; empty means the default.
	Model string
	// SourceIDs replace the caller's selection of files.
	SourceIDs []uuid.UUID
}

// Answer is the answer to a Question.
type Answer struct {
	Text    string
	Model   string
	Sources []Citation
	Usage   models.Usage
	// ModelFallback: the named model has no provider here, another one answered.
	ModelFallback bool
}

// Ask answers a question of the caller of c. Nothing is stored but the unit and the activity. It ends with the context of c. Errors are those of
// POST /contexts/{contextId}/chat.
func (f *Feature) Ask(c *api.Call, q Question) (Answer, error) {
	if _, err := f.admit(c); err != nil {
		return Answer{}, err
	}
	body := map[string]any{"message": q.Message}
	if q.Model != "" {
		body["model"] = q.Model
	}
	raw, err := json.Marshal(map[string]any{"contextId": q.ContextID, "body": body})
	if err != nil {
		return Answer{}, err
	}
	// Under no Idempotency-Key: the answer could not be kept under it.
	begun, err := f.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: api.CallSQL("begin_lone_question"), Args: []any{raw},
		RequestID: c.RequestID, ClientIP: c.ClientIP})
	if err != nil {
		return Answer{}, refusal(err)
	}
	a, err := f.prepare(c, begun, asked{Message: q.Message, SourceIDs: q.SourceIDs})
	if err != nil {
		return Answer{}, err
	}
	defer a.release()
	m, err := f.answer(c.Context(), a, func(string) error { return nil })
	if err != nil {
		return Answer{}, err
	}
	return Answer{Text: m.Content, Model: m.Model, Sources: m.Sources, Usage: m.Usage, ModelFallback: m.ModelFallback}, nil
}

// admit counts the attempt.
func (f *Feature) admit(c *api.Call) (map[string]string, error) {
	return f.Exec.TakeShared(c.Context(), "chat|"+c.Caller.UserID, &openapi.Rate{Limit: perMinute, Per: 60})
}

// asked is the body of a question.
type asked struct {
	Message   string      `json:"message"`
	SourceIDs []uuid.UUID `json:"sourceIds"`
}

// askContext answers POST /contexts/{contextId}/chat, whole or as events.
func (f *Feature) askContext(c *api.Call) error {
	var body asked
	if err := c.Decode(&body); err != nil {
		return err
	}
	headers, err := f.admit(c)
	if err != nil {
		return err
	}
	begun, err := c.Query(c.Context(), "begin_question", c.Params)
	if err != nil {
		return refusal(err)
	}
	if len(begun.Headers) > 0 {
		// The headers show the plan's numbers, which users actually reach. With an unlimited plan they show the rate limit.
		headers = begun.Headers
	}
	for name, value := range headers {
		c.Ctx.Set(name, value)
	}
	once := c.Once(f.Timeout + toStore)
	here, leave := c.Present(c.Context())
	kept, err := once.Await(here)
	leave()
	if err != nil {
		return f.finish(c, here, err)
	}
	streamed := c.WantsEvents() || c.Ctx.QueryBool("stream")
	if kept != nil {
		return f.repeat(c, kept, streamed)
	}
	a, err := f.prepare(c, begun, body)
	if err != nil {
		return err
	}
	if streamed {
		return f.stream(c, a, once)
	}
	defer a.release()
	here, leave = c.Present(c.Context())
	defer leave()
	m, err := f.answer(here, a, func(string) error { return here.Err() })
	if err != nil {
		return f.finish(c, here, err)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	once.Keep(here, raw)
	return c.Reply(api.Answer{Body: raw})
}

// finish returns an error, unless the client has gone and gets no answer.
func (f *Feature) finish(c *api.Call, here context.Context, err error) error {
	if here.Err() != nil && c.Context().Err() == nil {
		c.Ctx.Status(models.StatusGone)
		return nil
	}
	return err
}

// repeat answers a repeated request with what is stored under its Idempotency-Key.
func (f *Feature) repeat(c *api.Call, kept json.RawMessage, streamed bool) error {
	if !streamed {
		return c.Reply(api.Answer{Body: kept})
	}
	var m message
	if err := json.Unmarshal(kept, &m); err != nil {
		return fmt.Errorf("read a kept answer: %w", err)
	}
	return c.Events(func(_ context.Context, s *api.EventStream) {
		if s.Send("start", m.start()) == nil && s.Send("text", piece{"text", m.Content}) == nil {
			m.end(s)
		}
	})
}

// piece is the data of a `text` event.
type piece struct {
	Type    string `json:"type"`
	Content string `json:"content"`
}

func (m message) start() any {
	return map[string]string{"type": "start", "chatId": m.ChatID, "userMessageId": m.UserMessageID, "messageId": m.ID}
}

// end sends the last events of an answer.
func (m message) end(s *api.EventStream) {
	if s.Send("sources", map[string]any{"type": "sources", "sources": m.Sources}) == nil {
		_ = s.Send("done", map[string]any{"type": "done", "message": m})
	}
}

// stream passes the text on as it comes.
func (f *Feature) stream(c *api.Call, a *prepared, once api.Once) error {
	id := c.RequestID
	err := c.Events(func(here context.Context, s *api.EventStream) {
		defer a.release()
		_ = s.Send("start", message{ID: a.MessageID, ChatID: a.ChatID, UserMessageID: a.UserMessageID}.start())
		m, err := f.answer(here, a, func(text string) error { return s.Send("text", piece{"text", text}) })
		switch {
		case here.Err() != nil:
		case err != nil:
			p := api.ProblemOf(err)
			f.Log.WarnContext(here, "stream failed", "request_id", id, "code", p.Code, "error", errors.Unwrap(p))
			_ = s.Send("error", event(p, id))
		default:
			if raw, err := json.Marshal(m); err == nil {
				once.Keep(here, raw)
			}
			m.end(s)
		}
	})
	if err != nil {
		// The server stops; the stream does not begin.
		a.release()
		f.drop(c.Context(), a)
	}
	return err
}

// event is a problem as the last event of a stream.
func event(p *api.Problem, requestID string) map[string]any {
	e := map[string]any{"type": "error", "title": http.StatusText(p.Status), "status": p.Status, "detail": p.Message, "code": p.Code, "message": p.Message,
		"requestId": requestID}
	if p.Field != "" {
		e["field"] = p.Field
	}
	if p.Details != nil {
		e["details"] = p.Details
	}
	for name, value := range p.Members {
		e[name] = value
	}
	return e
}

// refusal adds what a client of model routes reads to a refusal of the plan.
func refusal(err error) error {
	if p := api.ProblemOf(err); p.Code == "QUOTA_EXCEEDED" {
		p.Members = map[string]any{"retryable": false, "statusCode": p.Status}
		return p
	}
	return err
}
