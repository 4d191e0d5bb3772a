package llm

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Policy says how often, how long and when a provider call is repeated (contract 20, sections 6.2 and 6.3). DefaultPolicy is the
// contract's; tests shorten the times.
type Policy struct {
	// Attempts is the number of attempts, the first included.
	Attempts int
	// Attempt is the longest time for one attempt.
	Attempt time.Duration
	// Last is how long after the beginning of the run another attempt may still start.
	Last time.Duration
	// Delay gives the wait before retry n (from 0).
	Delay func(n int) time.Duration
	// Now and Sleep are the clock.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// DefaultPolicy is four attempts of at most 120 s, none of which starts later than 240 s after the first.
func DefaultPolicy() Policy {
	return Policy{Attempts: 4, Attempt: 120 * time.Second, Last: 240 * time.Second, Delay: backoff, Now: time.Now, Sleep: sleep}
}

// backoff doubles from one second, with up to one more at random, and ends at ten.
func backoff(n int) time.Duration {
	return min(time.Second<<min(n, 10)+rand.N(time.Second), 10*time.Second)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Generate calls p until it answers or the policy ends. began is the beginning of the run, possibly under another worker.
func (p Policy) Generate(ctx context.Context, began time.Time, to Provider, r Request) (Result, error) {
	return p.run(ctx, began, func(ctx context.Context) (Result, bool, error) {
		result, err := to.Generate(ctx, r)
		return result, false, err
	})
}

// Stream is Generate that passes the text on. Once text was passed on, the call is not repeated.
func (p Policy) Stream(ctx context.Context, began time.Time, to Provider, r Request, emit func(string) error) (Result, error) {
	return p.run(ctx, began, func(ctx context.Context) (Result, bool, error) {
		passed := false
		result, err := to.Stream(ctx, r, func(text string) error {
			passed = true
			return emit(text)
		})
		return result, passed, err
	})
}

func (p Policy) run(ctx context.Context, began time.Time, attempt func(context.Context) (Result, bool, error)) (_ Result, err error) {
	ctx, span := startWork(ctx)
	defer func() { endWork(span, err) }()
	for n := 0; ; n++ {
		attemptCtx, cancel := context.WithTimeout(ctx, p.Attempt)
		result, passed, err := attempt(attemptCtx)
		cancel()
		if err == nil {
			return result, nil
		}
		e, ok := AsError(err)
		if !ok || errors.Is(ctx.Err(), context.Canceled) {
			return result, err
		}
		if passed || n+1 >= p.Attempts || ctx.Err() != nil || !e.Retryable() {
			return result, e
		}
		wait := max(p.Delay(n), e.RetryAfter)
		if p.Now().Add(wait).After(began.Add(p.Last)) {
			return result, e
		}
		if err := p.Sleep(ctx, wait); err != nil {
			return Result{}, err
		}
	}
}
