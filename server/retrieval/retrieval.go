// Package retrieval finds the passages of a context that answer a question best, for chat and for MCP (contract 60, section 7;
// docs/retrieval.md). Postgres checks the caller, ranks and reads; the words of the question are made here, by the tokenizer of the index.
package retrieval

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"kijko/server/api"
	"kijko/worker/embed"
	"kijko/worker/token"
)

// DefaultLimit is the most passages where a request names no number.
const DefaultLimit = 12

// Request is a question about a context.
type Request struct {
	// ContextID is the nil UUID for a chat without a context: it has no passages.
	ContextID uuid.UUID
	Question  string
	// SourceIDs are the files to read, instead of the caller's stored selection; nil for the selection.
	SourceIDs []uuid.UUID
	// Budget is how many tokens all passages have together, at most; 0 for no bound.
	Budget int
	Limit  int
}

// Passage is a stretch of a file of the context.
type Passage struct {
	FileID          uuid.UUID
	Name, Path      string
	IngestionNumber int
	// StartLine and EndLine are those of the original, also where the text is compressed.
	StartLine, EndLine int
	// Score is from 0 to 1; 1 for what the question names.
	Score  float64
	Text   string
	Tokens int
}

// Result is what a model is given beside the question.
type Result struct {
	// Passages are in descending order of use: files that the question names, then the best of the rest.
	Passages []Passage
	// SkillPrompt is the template of the skill that the question names (/skill:name), else empty.
	SkillPrompt string
	// Message is the question without the name of that skill.
	Message string
}

// Retriever answers requests. It is safe for concurrent use and keeps no state.
type Retriever struct {
	Exec api.Runner
	// Embed is what the installation embeds with; nil: the built-in embedder.
	Embed *embed.Set
	Log   *slog.Logger
}

// patience is how long a provider of embeddings may take; without an answer words alone decide.
const patience = 3 * time.Second

// parameters are those of api.retrieve_passages.
type parameters struct {
	ContextID  *uuid.UUID  `json:"contextId,omitempty"`
	Terms      [][]string  `json:"terms"`
	References [][]string  `json:"references"`
	Numbers    []int       `json:"numbers"`
	Skills     [][]string  `json:"skills"`
	SourceIDs  []uuid.UUID `json:"sourceIds"`
	Limit      int         `json:"limit"`
	Vector     *vector     `json:"vector,omitempty"`
}

// vector is the embedding of a question.
type vector struct {
	Model  string    `json:"model"`
	Values []float32 `json:"values"`
}

type answer struct {
	Skill       string `json:"skill"`
	SkillPrompt string `json:"skillPrompt"`
	Passages    []struct {
		FileID     uuid.UUID `json:"fileId"`
		Path       string    `json:"path"`
		Number     int       `json:"number"`
		StartLine  int       `json:"startLine"`
		EndLine    int       `json:"endLine"`
		Score      float64   `json:"score"`
		Text       string    `json:"text"`
		Compressed bool      `json:"compressed"`
		Tokens     int       `json:"tokens"`
	} `json:"passages"`
}

// Arguments is the argument of api.retrieve_passages for a request, for callers that measure the function alone.
func (req *Request) Arguments(ctx context.Context) ([]byte, error) {
	named := namesIn(req.Question)
	embedded, err := embedding(ctx, embed.Hash{}, req.Question)
	if err != nil {
		return nil, err
	}
	return arguments(req, &named, embedded)
}

func arguments(req *Request, named *references, embedded *vector) ([]byte, error) {
	a := parameters{Vector: embedded, Terms: terms(named.rest), References: named.files, Numbers: named.numbers, SourceIDs: req.SourceIDs, Limit: req.Limit}
	if a.Limit <= 0 {
		a.Limit = DefaultLimit
	}
	if named.skill != nil {
		a.Skills = [][]string{named.skill}
	}
	if req.ContextID != uuid.Nil {
		a.ContextID = &req.ContextID
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("retrieve: %w", err)
	}
	return raw, nil
}

// Retrieve returns the passages for a question under the rights of the caller of c. It is one round trip (two with a provider of embeddings) and
// holds no connection afterwards. A context that the caller does not see is refused by Postgres with 404 CONTEXT_NOT_FOUND.
func (r *Retriever) Retrieve(c *api.Call, req Request) (Result, error) {
	named := namesIn(req.Question)
	embedded, err := r.vector(c, &req)
	if err != nil {
		return Result{}, err
	}
	raw, err := arguments(&req, &named, embedded)
	if err != nil {
		return Result{}, err
	}
	found, err := r.read(c, api.CallSQL("retrieve_passages"), raw)
	if err != nil {
		return Result{}, err
	}
	var got answer
	if err := json.Unmarshal(found.Body, &got); err != nil {
		return Result{}, fmt.Errorf("retrieve: %w", err)
	}
	result := Result{SkillPrompt: got.SkillPrompt, Message: strings.TrimSpace(named.without(got.Skill))}
	left := req.Budget
	for _, p := range got.Passages {
		text, tokens := p.Text, p.Tokens
		if p.Compressed {
			tokens = token.Count(text)
		}
		if req.Budget > 0 && tokens > left {
			if len(result.Passages) > 0 {
				continue
			}
			text, tokens = shortened(text, left)
		}
		if text == "" {
			continue
		}
		left -= tokens
		result.Passages = append(result.Passages, Passage{FileID: p.FileID, Name: path.Base(p.Path), Path: p.Path, IngestionNumber: p.Number,
			StartLine: p.StartLine, EndLine: p.EndLine, Score: p.Score, Text: text, Tokens: tokens})
	}
	return result, nil
}

// read runs a statement that writes nothing. Not by the Call: its write is under an Idempotency-Key.
func (r *Retriever) read(c *api.Call, sql string, args ...any) (api.Answer, error) {
	return r.Exec.Run(c.Context(), &api.Request{Caller: c.Caller, SQL: sql, Args: args, ReadOnly: true, Needs: c.Op.Scope, RequestID: c.RequestID,
		ClientIP: c.ClientIP, Device: c.Device})
}

// vector embeds a question by the embedder of the context. The built-in one costs nothing and is used without asking which one that is; Postgres
// passes over a vector of another model.
func (r *Retriever) vector(c *api.Call, req *Request) (*vector, error) {
	if req.ContextID == uuid.Nil {
		return nil, nil
	}
	if r.Embed == nil || !r.Embed.HasProvider() {
		return embedding(c.Context(), embed.Hash{}, req.Question)
	}
	found, err := r.read(c, api.ProcedureSQL("embedder_in_force($1)"), req.ContextID)
	if err != nil {
		return nil, err
	}
	var with struct {
		Model string `json:"model"`
	}
	if len(found.Body) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(found.Body, &with); err != nil || with.Model == "" {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	embedded, err := embedding(ctx, r.Embed.For(with.Model), req.Question)
	if err != nil && c.Context().Err() == nil {
		r.Log.Warn("a question could not be embedded; words alone decide", "context", req.ContextID, "error", err)
		return nil, nil
	}
	return embedded, err
}

// maxEmbedded is how much of a question is embedded, in bytes: what it asks for stands at its beginning.
const maxEmbedded = 8000

func embedding(ctx context.Context, with embed.Embedder, question string) (*vector, error) {
	question = strings.ToValidUTF8(question[:min(len(question), maxEmbedded)], "")
	vectors, err := with.Embed(ctx, []string{question})
	if err != nil {
		return nil, fmt.Errorf("embed the question: %w", err)
	}
	return &vector{Model: with.Model(), Values: vectors[0]}, nil
}

// shortened cuts a text that is too long at the end of a line.
func shortened(text string, budget int) (string, int) {
	n, _ := token.Prefix(text, budget)
	if at := strings.LastIndexByte(text[:n], '\n'); at > 0 {
		n = at + 1
	}
	return text[:n], token.Count(text[:n])
}
