package executions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kijko/worker/lease"
	"kijko/worker/llm"
)

// writeFor is how long the engine tries to write the end of a run while the database is unreachable. The call was paid for; the next
// worker would pay again.
const writeFor = 2 * time.Minute

// work does one run. stop ends when the worker stops; working ends when the lease is gone.
func (e *Engine) work(stop, working context.Context, t *task) {
	log := e.c.Log.With("execution", t.ID, "model", t.Model)
	working, abort := context.WithCancelCause(working)
	defer abort(nil)
	limited, cancel := context.WithDeadlineCause(working, t.Began.Add(t.Limit), context.DeadlineExceeded)
	defer cancel()
	defer context.AfterFunc(stop, func() {
		timer := time.AfterFunc(e.c.Patience, func() { abort(errStopping) })
		context.AfterFunc(limited, func() { timer.Stop() })
	})()

	result, err := e.call(limited, t)
	// A write of the result that has begun is finished, also at shutdown.
	writing, done := context.WithTimeout(context.WithoutCancel(working), writeFor)
	defer done()
	switch cause := context.Cause(working); {
	case err == nil:
		e.write(writing, t, outcome{Status: "completed", Output: Text(result.Text), PromptTokens: &result.Usage.Input,
			CompletionTokens: &result.Usage.Output})
	case errors.Is(cause, lease.ErrLost) || errors.Is(err, lease.ErrLost):
		log.Info("execution ended elsewhere (cancelled or taken over)")
		if result.Usage != (llm.Usage{}) {
			if err := e.charge(writing, t, result.Usage); err != nil {
				log.Warn("the tokens of a cancelled execution could not be written", "error", err)
			}
		}
	case errors.Is(cause, errStopping):
		giving, cancel := context.WithTimeout(writing, 5*time.Second)
		defer cancel()
		if err := e.handBack(giving, t); err != nil {
			log.Warn("execution could not be handed back; its lease runs out", "error", err)
		}
	default:
		e.write(writing, t, failure(limited, result.Usage, err))
	}
}

// failure turns an error of a call into the form that the row stores, with the usage counted until then.
func failure(ctx context.Context, counted llm.Usage, err error) outcome {
	if ctx.Err() != nil {
		o := outcome{Status: "failed", ErrorCode: string(llm.Timeout), ErrorMessage: "Skill execution timeout"}
		if counted != (llm.Usage{}) {
			o.PromptTokens, o.CompletionTokens = &counted.Input, &counted.Output
		}
		return o
	}
	e, ok := llm.AsError(err)
	if !ok {
		return outcome{Status: "failed", ErrorCode: string(llm.UnknownError), ErrorMessage: "The model could not be called."}
	}
	o := outcome{Status: "failed", ErrorCode: string(e.Code), ErrorMessage: Text(e.Message)}
	if e.Usage != nil {
		o.PromptTokens, o.CompletionTokens = &e.Usage.Input, &e.Usage.Output
	}
	return o
}

func (e *Engine) write(ctx context.Context, t *task, o outcome) {
	switch held, err := e.finish(ctx, t, o); {
	case err != nil:
		// The lease expires and another worker takes the run over.
		e.c.Log.Error("the end of an execution could not be written", "execution", t.ID, "error", err)
	case !held:
		e.c.Log.Info("a late result was dropped", "execution", t.ID)
	default:
		e.c.Log.Debug("execution ended", "execution", t.ID, "status", o.Status, "code", o.ErrorCode, "seconds", time.Since(t.Began).Seconds())
	}
}

// call asks the model. A panic of a provider's client is a failed call, not a lost one.
func (e *Engine) call(ctx context.Context, t *task) (result llm.Result, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
		if err != nil {
			if _, ok := llm.AsError(err); !ok && ctx.Err() == nil {
				e.c.Log.Error("a model call failed in an unknown way", "execution", t.ID, "error", err)
			}
		}
	}()
	provider, err := e.c.Providers.For(t.Answers)
	if err != nil {
		return result, err
	}
	r := llm.Request{Model: t.Model, Messages: llm.Prompt(t.Prompt), Parameters: t.Parameters, WithoutSampling: t.WithoutSampling}
	if t.SealedKey != nil {
		if e.c.Unseal == nil {
			return result, errors.New("this worker has no ENCRYPTION_KEY to open the organization's key with")
		}
		if r.Key, err = e.c.Unseal(t.OrganizationID, t.Answers, *t.SealedKey); err != nil {
			return result, fmt.Errorf("open the organization's key: %w", err)
		}
	}
	ctx = llm.WithTrace(ctx, llm.Trace{Name: "skill", UserID: t.UserID.String(), OrganizationID: t.OrganizationID.String(), SessionID: t.ID.String()})
	if !t.IsStreamed {
		return e.policy.Generate(ctx, t.Began, provider, r)
	}
	s := e.speak(ctx, t)
	result, err = e.policy.Stream(ctx, t.Began, provider, r, s.say)
	s.close()
	return result, err
}
