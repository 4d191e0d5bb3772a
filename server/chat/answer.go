package chat

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"kijko/db"
	"kijko/server/api"
	"kijko/server/chat/citation"
	"kijko/server/models"
	"kijko/server/retrieval"
	"kijko/worker/llm"
	"kijko/worker/token"
)

const (
	// contextWindow is what a question may fill, and answerTokens what is left for the answer (contract 60, section 7).
	contextWindow = 128_000
	answerTokens  = 4096
	// maxPassages is how many passages the model is given.
	maxPassages = 12
	// maxAnswer bounds the characters of an answer. A stored message has at most 200,000.
	maxAnswer = 190_000
	// maxExcerpt bounds the characters of a citation's excerpt.
	maxExcerpt = 300
	// waitForRoom is how long a question waits while others hold the memory for attachments.
	waitForRoom = 5 * time.Second
)

// Citation is a passage that the model was given and that its answer cites.
type Citation struct {
	Index           int       `json:"index"`
	FileID          uuid.UUID `json:"fileId"`
	Name            string    `json:"name"`
	Path            string    `json:"path"`
	IngestionNumber int       `json:"ingestionNumber"`
	StartLine       int       `json:"startLine"`
	EndLine         int       `json:"endLine"`
	Score           float64   `json:"score"`
	Excerpt         string    `json:"excerpt"`
}

// message is the answer of POST /contexts/{contextId}/chat.
type message struct {
	ID            string       `json:"id"`
	Role          string       `json:"role"`
	Content       string       `json:"content"`
	Timestamp     string       `json:"timestamp"`
	Sources       []Citation   `json:"sources"`
	Stopped       bool         `json:"stopped,omitempty"`
	ChatID        string       `json:"chatId"`
	UserMessageID string       `json:"userMessageId"`
	Model         string       `json:"model"`
	ModelFallback bool         `json:"modelFallback,omitempty"`
	Usage         models.Usage `json:"usage"`
}

// prepared is a question with all that its answer needs.
type prepared struct {
	QuestionID    string `json:"questionId"`
	ChatID        string `json:"chatId"`
	UserMessageID string `json:"userMessageId"`
	// MessageID is the id that the answer will have.
	MessageID     string `json:"messageId"`
	ContextID     string `json:"contextId"`
	Model         string `json:"model"`
	ModelFallback bool   `json:"modelFallback"`

	userID, organizationID string
	// key is the Idempotency-Key of the request.
	key      string
	passages []retrieval.Passage
	// asking is nil where there is no provider: the answer is extractive.
	asking  *models.Question
	release func()
}

// route is the database's part of what a model call needs.
type route struct {
	models.Route
	Digest      string
	History     []turn
	Attachments []attachment
}

type turn struct{ Role, Content string }

type attachment struct {
	Name, MimeType, Key string
	Size                int64
	IsImage             bool
}

// prepare reads what the model is given. When it fails, the unit of the question is given back.
func (f *Feature) prepare(c *api.Call, begun api.Answer, body asked) (_ *prepared, err error) {
	a := &prepared{release: func() {}, userID: strings.Clone(c.Caller.UserID), key: strings.Clone(c.Key())}
	if err := json.Unmarshal(begun.Body, a); err != nil {
		return nil, fmt.Errorf("begin a question: %w", err)
	}
	defer func() {
		if err != nil {
			a.release()
			f.drop(c.Context(), a)
		}
	}()
	answer, err := api.Serve(c.Context(), f.Exec, api.Request{ReadOnly: true, Payer: c.Caller, RequestID: c.RequestID}, "read_question",
		map[string]string{"questionId": a.QuestionID})
	if err != nil {
		return nil, err
	}
	var r route
	if err := json.Unmarshal(answer.Body, &r); err != nil {
		return nil, fmt.Errorf("read a question: %w", err)
	}
	if r.OrganizationID == "" {
		return nil, api.Unavailable("SERVICE_UNAVAILABLE", "The question was given up. Please ask again.", nil)
	}
	a.organizationID = r.OrganizationID
	images, texts, err := f.read(c, a, r.Attachments)
	if err != nil {
		return nil, err
	}
	question := strings.TrimSpace(body.Message)
	history := r.History
	if n := len(history); n > 0 {
		// The last one is the question itself.
		history = history[:n-1]
	}
	used := token.Count(question) + token.Count(texts) + token.Count(r.Digest)
	for _, t := range history {
		used += token.Count(t.Content)
	}
	// The nil context has no passages, but the caller's skills can be named there too.
	contextID, err := uuid.Parse(a.ContextID)
	if err != nil && a.ContextID != "" {
		return nil, fmt.Errorf("context of a question: %w", err)
	}
	found, err := f.Retriever.Retrieve(c, retrieval.Request{ContextID: contextID, Question: question, SourceIDs: body.SourceIDs,
		Budget: max(contextWindow-answerTokens-used, 1), Limit: maxPassages})
	if err != nil {
		return nil, err
	}
	a.passages = found.Passages
	if r.Answers == "" {
		return a, nil
	}
	a.asking, err = f.Gateway.Open(r.Route, llm.Request{System: system(len(a.passages)),
		Messages: conversation(history, append(images, llm.Part{Text: prompt(found, question, texts, r.Digest)}))},
		llm.Trace{Name: "chat", UserID: a.userID, OrganizationID: a.organizationID, SessionID: cmp.Or(a.ChatID, a.QuestionID)})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// read loads the attachments of a question: images, and the texts with their names. The memory is reserved until release.
func (f *Feature) read(c *api.Call, a *prepared, files []attachment) (images []llm.Part, texts string, err error) {
	if len(files) == 0 {
		return nil, "", nil
	}
	var size int64
	for _, file := range files {
		size += file.Size
	}
	size = min(size, maxAttached)
	ctx, cancel := context.WithTimeout(c.Context(), waitForRoom)
	defer cancel()
	if err := f.attached.Acquire(ctx, size); err != nil {
		return nil, "", busy(err)
	}
	a.release = sync.OnceFunc(func() { f.attached.Release(size) })
	var b strings.Builder
	for _, file := range files {
		content, err := f.Store.Get(c.Context(), file.Key)
		if err != nil {
			return nil, "", fmt.Errorf("read an attachment: %w", err)
		}
		raw, err := io.ReadAll(io.LimitReader(content, maxFile))
		if err := errors.Join(err, content.Close()); err != nil {
			return nil, "", fmt.Errorf("read an attachment: %w", err)
		}
		if file.IsImage {
			images = append(images, llm.Part{Image: &llm.Image{MediaType: file.MimeType, Data: raw}})
		} else {
			fmt.Fprintf(&b, "\n\n--- %s ---\n%s", file.Name, raw)
		}
	}
	return images, b.String(), nil
}

func busy(cause error) error {
	return api.Unavailable("SERVICE_UNAVAILABLE", "Too many files are being sent at the moment. Please try again.", cause)
}

// errEnough ends a call whose answer is longer than a message may be.
var errEnough = errors.New("the answer is long enough")

// answer asks the model and stores its answer. emit gets the text as it may be shown; its error ends the call. An answer that was cut is stored
// as far as it came. Where nothing was stored, the unit of the question is given back.
func (f *Feature) answer(ctx context.Context, a *prepared, emit func(text string) error) (message, error) {
	if a.asking == nil {
		text, cited := extract(a.passages)
		if err := emit(text); err != nil {
			f.drop(ctx, a)
			return message{}, err
		}
		return f.store(ctx, a, text, cited, llm.Usage{}, false)
	}
	filter := citation.New(len(a.passages))
	var text strings.Builder
	characters := 0
	pass := func(piece string) error {
		if piece == "" {
			return nil
		}
		text.WriteString(piece)
		if characters += utf8.RuneCountInString(piece); characters > maxAnswer {
			return errEnough
		}
		return emit(piece)
	}
	result, err := f.Gateway.Ask(ctx, a.asking, func(piece string) error { return pass(filter.Write(db.Text(piece))) })
	rest := filter.Close()
	if err == nil {
		err = pass(rest)
	} else if ctx.Err() == nil {
		// The reader of a stream sees all that is stored.
		_ = pass(rest)
	} else {
		text.WriteString(rest)
	}
	usage := result.Usage
	if e, ok := llm.AsError(err); ok && e.Usage != nil {
		usage = *e.Usage
	}
	switch {
	case err == nil && strings.TrimSpace(text.String()) != "":
		return f.store(ctx, a, text.String(), filter.Cited(), usage, false)
	case err == nil:
		f.drop(ctx, a)
		return message{}, models.Problem(&llm.Error{Code: llm.APIError, Message: "The model gave no answer."})
	case strings.TrimSpace(text.String()) == "":
		f.drop(ctx, a)
	default:
		m, failed := f.store(ctx, a, shorten(text.String(), maxAnswer), filter.Cited(), usage, true)
		if failed != nil || errors.Is(err, errEnough) {
			return m, failed
		}
	}
	if ctx.Err() != nil {
		return message{}, ctx.Err()
	}
	return message{}, models.Problem(err)
}

// store stores an answer, also when the client has gone.
func (f *Feature) store(ctx context.Context, a *prepared, text string, cited []int, usage llm.Usage, stopped bool) (message, error) {
	m := message{ID: a.MessageID, Role: "assistant", Content: text, Sources: citations(a.passages, cited), Stopped: stopped, ChatID: a.ChatID,
		UserMessageID: a.UserMessageID, Model: a.Model, ModelFallback: a.ModelFallback, Usage: models.UsageOf(llm.Result{Usage: usage})}
	storing, done := context.WithTimeout(context.WithoutCancel(ctx), toStore)
	defer done()
	answer, err := api.Serve(storing, f.Exec, f.asServer(a), "answer_question", map[string]any{"questionId": a.QuestionID, "key": a.key, "content": text,
		"sources": m.Sources, "inputTokens": usage.Input, "outputTokens": usage.Output, "stopped": stopped})
	if err != nil {
		return message{}, err
	}
	var stored struct{ ID, Timestamp string }
	if err := json.Unmarshal(answer.Body, &stored); err != nil {
		return message{}, fmt.Errorf("store an answer: %w", err)
	}
	if a.ChatID != "" && stored.ID == "" {
		return message{}, api.NewProblem(http.StatusNotFound, "CHAT_NOT_FOUND", "This chat was deleted while the question was answered.", "")
	}
	m.Timestamp = stored.Timestamp
	return m, nil
}

// drop gives back the unit of a question that gets no answer, also when the client has gone.
func (f *Feature) drop(ctx context.Context, a *prepared) {
	dropping, done := context.WithTimeout(context.WithoutCancel(ctx), toStore)
	defer done()
	_, err := api.Serve(dropping, f.Exec, f.asServer(a), "drop_question", map[string]string{"questionId": a.QuestionID, "userId": a.userID, "key": a.key})
	if err != nil {
		f.Log.WarnContext(ctx, "the unit of a question goes back later", "error", err)
	}
}

func (f *Feature) asServer(a *prepared) api.Request {
	return api.Request{Payer: &api.Caller{UserID: a.userID, OrgHint: a.organizationID}}
}

// citations are the cited passages.
func citations(passages []retrieval.Passage, cited []int) []Citation {
	all := make([]Citation, 0, len(cited))
	for _, n := range cited {
		p := passages[n-1]
		all = append(all, Citation{Index: n, FileID: p.FileID, Name: p.Name, Path: p.Path, IngestionNumber: p.IngestionNumber, StartLine: p.StartLine,
			EndLine: p.EndLine, Score: p.Score, Excerpt: shorten(db.Text(strings.TrimSpace(p.Text)), maxExcerpt)})
	}
	return all
}

// shorten cuts a text to its first n characters.
func shorten(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}
