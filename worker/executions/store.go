package executions

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"kijko/db"
	"kijko/worker/exactjson"
	"kijko/worker/llm"
)

// task is a run to work, as private.take_executions returns it.
type task struct {
	ID, Token, OrganizationID, UserID uuid.UUID
	// Answers is the provider to call, Model the model id that it is called with.
	Answers, Model string
	// SealedKey is the organization's own key; nil means the installation's key.
	SealedKey  *string
	Parameters llm.Parameters
	// WithoutSampling: the model takes no temperature, top_p and top_k.
	WithoutSampling bool
	Prompt          string
	// Began is the first start of the run, by the clock of this machine.
	Began time.Time
	// Limit is how long the run may take, counted from Began.
	Limit      time.Duration
	IsStreamed bool
}

func (e *Engine) take(ctx context.Context, n int) (tasks []*task, seen int, err error) {
	rows, err := e.c.Pool.Query(ctx, `select id, outcome, token, answers, called, sealed_key, parameters, prompt, elapsed_ms, limit_ms, is_streamed, organization_id, user_id
		from private.take_executions($1, $2, $3)`, n, int(leaseFor/time.Second), e.c.Process.ID())
	if err != nil {
		return nil, 0, fmt.Errorf("take executions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		seen++
		var id, token, org, user *uuid.UUID
		var outcome string
		var answers, model, key, prompt *string
		var parameters []byte
		var elapsed, limit *int64
		var streamed bool
		if err := rows.Scan(&id, &outcome, &token, &answers, &model, &key, &parameters, &prompt, &elapsed, &limit, &streamed, &org, &user); err != nil {
			return nil, seen, fmt.Errorf("take executions: %w", err)
		}
		if outcome != "run" {
			continue
		}
		t := &task{ID: *id, Token: *token, OrganizationID: *org, UserID: *user, Answers: *answers, Model: *model, SealedKey: key, Prompt: *prompt,
			Began: time.Now().Add(-time.Duration(*elapsed) * time.Millisecond),
			Limit: time.Duration(*limit) * time.Millisecond, IsStreamed: streamed}
		if err := exactjson.Unmarshal(parameters, &t.Parameters); err != nil {
			// The database has checked the parameters. One faulty run must not stop the others of the batch.
			e.c.Log.Error("parameters of a skill cannot be read and are left out", "execution", t.ID, "error", err)
			t.Parameters = llm.Parameters{}
		}
		var route struct {
			WithoutSampling bool `json:"withoutSampling"`
		}
		if exactjson.Unmarshal(parameters, &route) == nil {
			t.WithoutSampling = route.WithoutSampling
		}
		tasks = append(tasks, t)
	}
	if err := rows.Err(); err != nil {
		return nil, seen, fmt.Errorf("take executions: %w", err)
	}
	return tasks, seen, nil
}

// outcome is the argument of private.finish_execution.
type outcome struct {
	Status           string `json:"status"`
	Output           string `json:"output,omitempty"`
	PromptTokens     *int64 `json:"promptTokens,omitempty"`
	CompletionTokens *int64 `json:"completionTokens,omitempty"`
	ErrorCode        string `json:"errorCode,omitempty"`
	ErrorMessage     string `json:"errorMessage,omitempty"`
}

// Text is an output as it is stored: without NUL.
func Text(output string) string {
	return db.Text(strings.ReplaceAll(output, "\x00", ""))
}

// finish writes the end of a run; held is false when the lease was gone and nothing was written.
func (e *Engine) finish(ctx context.Context, t *task, o outcome) (held bool, err error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return false, fmt.Errorf("finish: %w", err)
	}
	err = e.ask(ctx, "select private.finish_execution($1, $2, $3)", []any{t.ID, t.Token, raw}, &held)
	return held, err
}

// charge writes the usage that the provider had counted when a run was canceled. If another worker has the run, nothing is written.
func (e *Engine) charge(ctx context.Context, t *task, u llm.Usage) error {
	var charged bool
	return e.ask(ctx, "select private.charge_execution($1, $2, $3)", []any{t.ID, u.Input, u.Output}, &charged)
}

func (e *Engine) publish(ctx context.Context, t *task, seq int, chunk string) (held bool, err error) {
	err = e.ask(ctx, "select private.publish_output($1, $2, $3, $4)", []any{t.ID, t.Token, seq, chunk}, &held)
	return held, err
}

func (e *Engine) handBack(ctx context.Context, t *task) error {
	var n int
	return e.ask(ctx, "select private.hand_back_executions($1, $2)", []any{[]uuid.UUID{t.ID}, []uuid.UUID{t.Token}}, &n)
}

// ask runs one short statement on one of the engine's connection slots. It repeats the statement while the database is unreachable
// or transactions conflict, until ctx ends.
func (e *Engine) ask(ctx context.Context, sql string, args []any, into any) error {
	return db.Retry(ctx, 0, func(err error) { e.c.Log.Warn("the database will be asked again", "error", err) },
		func(ctx context.Context) error { return e.once(ctx, sql, args, into) })
}

func (e *Engine) once(ctx context.Context, sql string, args []any, into any) error {
	select {
	case e.places <- struct{}{}:
		defer func() { <-e.places }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return e.c.Pool.QueryRow(ctx, sql, args...).Scan(into)
}
