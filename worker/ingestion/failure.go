package ingestion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"kijko/worker/gitfetch"
)

// Failure ends a run (or an attempt) with a code of the contract and a sentence for the user.
type Failure struct {
	Code    string
	Message string
	// Retryable reports whether another attempt may help.
	Retryable bool
	// After is the shortest wait before the next attempt.
	After time.Duration
	// Items are the parts that failed: repository URLs, paths.
	Items []string
	// Branches are the alternatives offered if a branch does not exist.
	Branches []string

	cause error
}

// Error gives code, message and cause, for the log.
func (f *Failure) Error() string {
	if f.cause != nil {
		return fmt.Sprintf("%s: %s (%v)", f.Code, f.Message, f.cause)
	}
	return f.Code + ": " + f.Message
}

// Unwrap gives the technical cause.
func (f *Failure) Unwrap() error { return f.cause }

// asFailure translates any error of a phase. An unclassified error gets the phase's own code and is retried.
func asFailure(phase int, code string, err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	if g, ok := gitfetch.AsFailure(err); ok {
		return &Failure{Code: string(g.Code), Message: g.Message, Retryable: g.Retryable, After: g.RetryAfter, cause: err}
	}
	f = &Failure{Code: code, Message: "Something went wrong on our side while " + phaseInfos[phase].doing + ".", Retryable: true, cause: err}
	if errors.Is(err, context.DeadlineExceeded) {
		f.Code, f.Message = "TIMEOUT", "This took too long."
	}
	return f
}

// delay is the pause before attempt+1: base × 2^(attempt-1), capped, ± 10 %.
func (p phaseInfo) delay(attempt int, after time.Duration) time.Duration {
	d := p.base << (attempt - 1)
	d = min(max(d, 0), p.limit)
	d += time.Duration((rand.Float64()*0.2 - 0.1) * float64(d))
	return max(d, after)
}
